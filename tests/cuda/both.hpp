// The same steps on the CPU library's optimizer and on the device's, which here is HostDevice: the kernels' own source on the CPU.
#pragma once

#include <support/catch.hpp>
#include <support/host_device.hpp>

#include <lowrank/cuda/optimizer.cuh>
#include <lowrank/lowrank.hpp>

namespace support {

namespace lr = lowrank;

/// The device's name of a scalar.
template <class T>
struct DeviceScalar { using type = T; };
template <>
struct DeviceScalar<Eigen::bfloat16> { using type = lc::Bf16; };
template <>
struct DeviceScalar<Eigen::half> { using type = lc::Half; };

/// A matrix with padding between its lines, which must survive; seen by either library.
template <class T>
struct Padded {
  using D = typename DeviceScalar<T>::type;
  lr::Index rows, cols, ld;
  bool row_major;
  std::vector<T> memory;

  Padded(lr::Index m, lr::Index n, bool by_rows, lr::Index padding = 0)
      : rows(m), cols(n), ld((by_rows ? n : m) + padding), row_major(by_rows), memory(std::size_t(ld * (by_rows ? m : n)), T(7.0f)) {}
  T& operator()(lr::Index i, lr::Index j) { return memory[std::size_t(row_major ? i * ld + j : i + j * ld)]; }
  template <class M>
  void set(const M& x) {
    for (lr::Index i = 0; i < rows; ++i)
      for (lr::Index j = 0; j < cols; ++j) (*this)(i, j) = T(x(i, j));
  }
  Eigen::MatrixXd values() {
    Eigen::MatrixXd x(rows, cols);
    for (lr::Index i = 0; i < rows; ++i)
      for (lr::Index j = 0; j < cols; ++j) x(i, j) = double((*this)(i, j));
    return x;
  }
  auto cpu() { return lr::view(memory.data(), rows, cols, row_major ? ld : lr::Index(1), row_major ? lr::Index(1) : ld); }
  auto device() { return lc::view(reinterpret_cast<D*>(memory.data()), rows, cols, row_major ? ld : lr::Index(1), row_major ? lr::Index(1) : ld); }
};

/// Independent N(0, 1), the same for every scalar.
inline Eigen::MatrixXd noise(lr::Index rows, lr::Index cols, std::uint64_t stream) {
  Eigen::MatrixXd x(rows, cols);
  lr::fill_normal(x.data(), x.size(), 77, stream, 0);
  return x;
}
/// A gradient with a spectrum: a few strong directions that drift, and noise.
inline Eigen::MatrixXd gradient(lr::Index rows, lr::Index cols, std::uint64_t t, lr::Index rank = 3) {
  const Eigen::MatrixXd left = noise(rows, rank, 1) + 0.1 * noise(rows, rank, 100 + t);
  const Eigen::MatrixXd scale = Eigen::VectorXd::LinSpaced(rank, 4, 2).asDiagonal();
  return left * scale * noise(rank, cols, 2) / std::sqrt(double(rows)) + 0.05 * noise(rows, cols, 200 + t);
}

struct Case {
  lr::Index rows = 20, cols = 30;
  bool weight_by_rows = false, gradient_by_rows = false;
  lr::Index padding = 0;
  int steps = 7;
  lr::Step step = {.lr = 0.01};
  Schedule order = Schedule::Forward;
};

/// Takes the steps on both and returns the largest difference of the weights over the largest weight change; 0: equal bits.
template <class T, class U, class P, class R, class L>
double difference(const Case& c, const P& projector, const R& rule, const L& lift) {
  HostDevice machine(c.order);
  Padded<T> w(c.rows, c.cols, c.weight_by_rows, c.padding), v = w;
  Padded<U> g(c.rows, c.cols, c.gradient_by_rows, 2 * c.padding);
  w.set(noise(c.rows, c.cols, 3)), v.set(noise(c.rows, c.cols, 3));
  const Eigen::MatrixXd before = w.values();
  lr::Optimizer cpu(w.cpu(), projector, rule, lift);
  lc::Optimizer device(machine, v.device(), projector, rule, lift);
  for (int t = 0; t < c.steps; ++t) {
    g.set(gradient(c.rows, c.cols, std::uint64_t(t)));
    lr::Step step = c.step;
    step.lr *= 1.0 / (1 + t);
    CHECK(cpu.due() == (device.due() || decltype(cpu)::projected == false));
    const lr::Report a = cpu.step(w.cpu(), g.cpu(), step);
    const lc::Report b = device.step(v.device(), g.device(), step);
    CHECK(a.skipped == b.skipped);
    CHECK(a.refreshed == b.refreshed);
    CHECK(a.grad_norm == Catch::Approx(b.grad_norm).epsilon(1e-5));
    CHECK(a.captured == Catch::Approx(b.captured).epsilon(1e-4));
    CHECK(a.drift == Catch::Approx(b.drift).margin(1e-4));
    CHECK(cpu.steps() == device.steps());
  }
  const Eigen::MatrixXd after = w.values(), there = v.values();
  return (after - there).cwiseAbs().maxCoeff() / (after - before).cwiseAbs().maxCoeff();
}

}  // namespace support
