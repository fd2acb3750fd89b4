// What the tests of the device's adapters share.
#pragma once

#include <cuda/both.hpp>
#include <lowrank/adapter/adapter.hpp>
#include <lowrank/cuda/adapter.cuh>

namespace support {

template <class T>
lc::View<const T> constant(Padded<T>& x) { return x.device(); }
/// A trained array of either library's, as a matrix.
template <class S>
Eigen::MatrixXd values(const lc::Array<S, HostDevice>& x) {
  return Eigen::Map<const Eigen::Matrix<S, -1, -1>>(x.data(), x.rows(), x.cols()).template cast<double>();
}
template <class S>
Eigen::MatrixXd values(const lr::Buffer<S>& x) {
  return Eigen::Map<const Eigen::Matrix<S, -1, -1>>(x.data(), x.rows(), x.cols()).template cast<double>();
}
inline double difference(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b) { return a.size() == 0 ? 0 : (a - b).cwiseAbs().maxCoeff() / b.cwiseAbs().maxCoeff(); }

/// What lies between the lines of a matrix is what it was.
template <class S>
void check_padding(const Padded<S>& x) {
  for (std::size_t i = 0; i < x.memory.size(); ++i)
    if (lr::Index(i) % x.ld >= (x.row_major ? x.cols : x.rows)) CHECK(x.memory[i] == S(7));
}

/// In every order of the products, chosen ones last.
inline const lr::Path every_path[] = {{lr::Order::Factored, lr::Order::Factored, lr::Gradient::Factored},
                                      {lr::Order::Factored, lr::Order::Composed, lr::Gradient::Dense},
                                      {lr::Order::Composed, lr::Order::Factored, lr::Gradient::Factored},
                                      {lr::Order::Composed, lr::Order::Composed, lr::Gradient::Dense},
                                      {lr::Order::Composed, lr::Order::Composed, lr::Gradient::Factored},
                                      {}};

struct Setting {
  lr::Index m, n, samples;
  bool by_rows, weight_by_rows, with_base;
  lr::Path path;
};

/// check(setting) for tall, wide and square weights, one sample and many, either order, with a weight and without, in every order of the
/// products.
template <class F>
void each_setting(const F& check) {
  for (const auto& [m, n] : {std::pair<lr::Index, lr::Index>{14, 23}, {31, 9}, {12, 12}})
    for (const lr::Index samples : {1, 37})
      for (const bool by_rows : {false, true})
        for (const bool with_base : {false, true})
          for (const auto& path : every_path) {
            INFO(m << "x" << n << ", " << samples << " samples, rows " << by_rows << ", base " << with_base);
            check(Setting{m, n, samples, by_rows, by_rows != (samples == 1), with_base, path});
          }
}

/// Two forward and backward passes of an adapter on both machines; the largest relative difference of Y, dX and the gradients of what is
/// trained. Nothing is allocated in the second, and nothing between the lines is touched.
template <class S, class Cpu, class Device>
double passes_differ(HostDevice& machine, Cpu& cpu, Device& device, const Setting& s) {
  Padded<S> W(s.m, s.n, s.weight_by_rows, 3), X(s.n, s.samples, s.by_rows, 2), dY(s.m, s.samples, !s.by_rows, 1), Y(s.m, s.samples, s.by_rows, 1), Z = Y,
      dX(s.n, s.samples, !s.by_rows, 2), dZ = dX;
  W.set(noise(s.m, s.n, 1)), dY.set(noise(s.m, s.samples, 3));
  lr::Trace<S> trace;
  lr::Workspace workspace;
  lc::Trace<S, HostDevice> there;
  double result = 0;
  int allocations = 0;
  for (std::uint64_t pass = 0; pass < 2; ++pass) {
    X.set(noise(s.n, s.samples, 20 + pass));
    const lr::Pass how{.path = s.path};
    if (s.with_base) {
      cpu.forward(W.cpu(), X.cpu(), Y.cpu(), trace, workspace, how), cpu.backward(W.cpu(), X.cpu(), dY.cpu(), dX.cpu(), trace, workspace);
      device.forward(constant(W), constant(X), Z.device(), there, s.path), device.backward(constant(W), constant(X), constant(dY), dZ.device(), there);
    } else {
      cpu.forward(lr::no_base, X.cpu(), Y.cpu(), trace, workspace, how), cpu.backward(lr::no_base, X.cpu(), dY.cpu(), dX.cpu(), trace, workspace);
      device.forward(lc::no_base, constant(X), Z.device(), there, s.path), device.backward(lc::no_base, constant(X), constant(dY), dZ.device(), there);
    }
    CHECK(trace.path == there.path);
    result = std::max({result, difference(Z.values(), Y.values()), difference(dZ.values(), dX.values())});
    std::vector<Eigen::MatrixXd> gradients;
    cpu.visit([&](auto& p) { gradients.push_back(values(p.gradient)); });
    device.visit([&, i = std::size_t(0)](auto& p) mutable { result = std::max(result, difference(values(p.gradient), gradients.at(i++))); });
    if (pass == 0) allocations = machine.allocations();
  }
  CHECK(machine.allocations() == allocations);
  check_padding(Z), check_padding(dZ);
  return result;
}

}  // namespace support
