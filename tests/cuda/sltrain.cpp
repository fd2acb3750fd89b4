// SLTrain on a device against the CPU library's, and its sparse kernels in any order of threads and blocks.
#include <cuda/adapter.hpp>
#include <lowrank/adapter/sltrain.hpp>
#include <lowrank/cuda/sltrain.cuh>

using namespace support;

namespace {

/// A support's flat indices.
std::vector<std::int64_t> places(const lr::linalg::Support& s) {
  std::vector<std::int64_t> flat;
  for (lr::Index i = 0; i < s.rows(); ++i)
    for (lr::Index k = s.begin(i); k < s.end(i); ++k) flat.push_back(i * s.cols() + s.column(k));
  return flat;
}

/// All that two forward and backward passes write on the device.
template <class S>
struct Written {
  Eigen::MatrixXd Y, dX, dA, dB, dv;
  std::vector<S> bits;
};

struct Shape {
  lr::Index m, n, samples;
  double density = 0.3;
};

template <class S>
Written<S> on_the_device(HostDevice& machine, const Shape& s, bool by_rows, bool gradient_by_rows, const lr::SlTrainOptions& options, lr::SlTrain<S>& cpu) {
  lc::SlTrain<S, HostDevice> layer(machine, s.m, s.n, places(cpu.support()), options);
  CHECK(values(layer.A().value) == values(cpu.A().value));
  CHECK(values(layer.values().value) == values(cpu.values().value));
  CHECK(values(layer.B().value).isZero(0));
  std::copy_n(cpu.B().value.data(), cpu.B().value.size(), layer.B().value.data());
  Padded<S> X(s.n, s.samples, by_rows, 2), dY(s.m, s.samples, gradient_by_rows, 1), Y(s.m, s.samples, by_rows, 1), dX(s.n, s.samples, !by_rows, 2);
  lc::Trace<S, HostDevice> trace;
  int allocations = 0;
  for (std::uint64_t pass = 0; pass < 2; ++pass) {
    X.set(noise(s.n, s.samples, 20 + pass)), dY.set(noise(s.m, s.samples, 30 + pass));
    layer.forward(constant(X), Y.device(), trace);
    layer.backward(constant(X), constant(dY), dX.device(), trace);
    if (pass == 0) allocations = machine.allocations();
  }
  CHECK(machine.allocations() == allocations);
  check_padding(Y), check_padding(dX);
  Written<S> w{Y.values(), dX.values(), values(layer.A().gradient), values(layer.B().gradient), values(layer.values().gradient), {}};
  for (const Eigen::MatrixXd* x : {&w.Y, &w.dX, &w.dA, &w.dB, &w.dv})
    for (lr::Index i = 0; i < x->size(); ++i) w.bits.push_back(S(x->data()[i]));
  return w;
}

template <class S>
void check(double tolerance) {
  for (const Shape& s : {Shape{14, 23, 37}, {61, 39, 70}, {33, 32, 1}, {12, 90, 33, 0.02}, {7, 9, 5, 0}, {7, 9, 5, 1}}) {
    const lr::SlTrainOptions options{.rank = 4, .alpha = 6, .density = s.density, .seed = 5};
    lr::SlTrain<S> cpu(s.m, s.n, options);
    const Eigen::MatrixXd first = noise(s.m, options.rank, 9);
    for (lr::Index i = 0; i < first.size(); ++i) cpu.B().value.data()[i] = S(first.data()[i]);
    Padded<S> X(s.n, s.samples, false), dY(s.m, s.samples, false), Y(s.m, s.samples, false), dX(s.n, s.samples, false);
    lr::Trace<S> trace;
    lr::Workspace workspace;
    for (std::uint64_t pass = 0; pass < 2; ++pass) {
      X.set(noise(s.n, s.samples, 20 + pass)), dY.set(noise(s.m, s.samples, 30 + pass));
      cpu.forward(X.cpu(), Y.cpu(), trace, workspace), cpu.backward(X.cpu(), dY.cpu(), dX.cpu(), trace, workspace);
    }
    std::vector<S> bits;
    for (const bool by_rows : {false, true})
      for (const bool gradient_by_rows : {false, true})
        for (const Schedule order : {Schedule::Forward, Schedule::Backward, Schedule::Scattered}) {
          INFO(s.m << "x" << s.n << ", " << s.samples << " samples, rows " << by_rows << gradient_by_rows);
          HostDevice machine(order);
          const Written<S> there = on_the_device(machine, s, by_rows, gradient_by_rows, options, cpu);
          CHECK(difference(there.Y, Y.values()) < tolerance);
          CHECK(difference(there.dX, dX.values()) < tolerance);
          CHECK(difference(there.dA, values(cpu.A().gradient)) < tolerance);
          CHECK(difference(there.dB, values(cpu.B().gradient)) < tolerance);
          CHECK(difference(there.dv, values(cpu.values().gradient)) < tolerance);
          if (bits.empty()) bits = there.bits;
          CHECK(bits == there.bits);  // one order of every sum
          CHECK(machine.live() == 0);
        }
  }
}

}  // namespace

TEST_CASE("SLTrain's passes are the CPU's, with the same bits in any schedule and storage order", "[cuda]") {
  check<double>(1e-12);
  check<float>(2e-5);
}

TEST_CASE("A device's SLTrain writes its weight, and asks for no buffer of the weight's size", "[cuda]") {
  const lr::SlTrainOptions options{.rank = 4, .alpha = 3, .density = 0.1, .seed = 2};
  lr::SlTrain<double> cpu(150, 170, options);
  HostDevice machine;
  lc::SlTrain<double, HostDevice> layer(machine, 150, 170, places(cpu.support()), options);
  const Eigen::MatrixXd first = noise(150, 4, 1);
  std::copy_n(first.data(), first.size(), cpu.B().value.data()), std::copy_n(first.data(), first.size(), layer.B().value.data());
  lr::Workspace workspace;
  for (const bool by_rows : {false, true}) {
    Padded<double> W(150, 170, by_rows, 1), V = W;
    cpu.write_weight(W.cpu(), workspace), layer.write_weight(V.device());
    CHECK(difference(V.values(), W.values()) < 1e-14);
  }
  Padded<double> X(170, 3, false), dY(150, 3, false), Y(150, 3, false), dX(170, 3, false);
  X.set(noise(170, 3, 3)), dY.set(noise(150, 3, 4));
  lc::Trace<double, HostDevice> trace;
  machine.calls();
  layer.forward(constant(X), Y.device(), trace);
  layer.backward(constant(X), constant(dY), lc::no_gradient, trace);
  CHECK(dX.values() == Eigen::MatrixXd::Constant(170, 3, 7));
  CHECK(machine.workspace_bytes() < sizeof(double) * 150 * 170 / 10);
  for (const std::string& call : machine.calls()) CHECK(call != "gemm " + std::to_string(150 * 170));
}

TEST_CASE("A device's SLTrain says what is wrong", "[cuda]") {
  using Layer = lc::SlTrain<float, HostDevice>;
  HostDevice machine;
  CHECK_THROWS_AS(Layer(machine, 0, 4, {}), std::invalid_argument);
  CHECK_THROWS_AS(Layer(machine, 4, 4, {}, {.rank = 0}), std::invalid_argument);
  CHECK_THROWS_AS(Layer(machine, 4, 4, {3, 3}), std::invalid_argument);
  CHECK_THROWS_AS(Layer(machine, 4, 4, {3, 16}), std::invalid_argument);
  CHECK_THROWS_AS(Layer(machine, 4, 4, {-1}), std::invalid_argument);
  {
    Layer layer(machine, 4, 5, {3, 16}, {.rank = 2});
    Padded<float> X(5, 2, false), Y(4, 2, false);
    lc::Trace<float, HostDevice> trace;
    CHECK_THROWS_AS(layer.backward(constant(X), constant(Y), lc::no_gradient, trace), std::invalid_argument);
    CHECK_THROWS_AS(layer.forward(constant(Y), Y.device(), trace), std::invalid_argument);
    CHECK_THROWS_AS(layer.forward(constant(X), lc::view(X.memory.data(), 4, 2, 1, 5), trace), std::invalid_argument);
  }
  CHECK(machine.live() == 0);
}
