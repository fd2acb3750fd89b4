// RandLoRA on a device against the CPU library's: tall and wide, either pairing, every order of the products.
#include <cuda/adapter.hpp>
#include <lowrank/adapter/randlora.hpp>
#include <lowrank/cuda/randlora.cuh>

using namespace support;

namespace {

/// Bases of both machines for weights of at most 40 x 25, and the two adapters on them with the same diagonals.
template <class S>
struct Pair {
  std::shared_ptr<const lr::RandBases<S>> there;
  lc::RandBases<S, HostDevice> bases;
  lr::RandLora<S> cpu;
  lc::RandLora<S, HostDevice> device;

  Pair(HostDevice& machine, lr::Index m, lr::Index n, lr::Index rank, const lr::RandLoraOptions& options)
      : there(made(rank)), bases(machine, 40, 25, rank, there->A().data(), columns(*there).data()), cpu(m, n, there, options), device(machine, m, n, bases, options) {
    CHECK(values(device.gamma().value) == values(cpu.gamma().value));
    CHECK(values(device.lambda().value).isZero(0));
    CHECK(device.lambda().value.size() == cpu.lambda().value.size());
    fill(cpu.lambda().value, device.lambda().value, 5), fill(cpu.gamma().value, device.gamma().value, 6);
  }
  static std::shared_ptr<const lr::RandBases<S>> made(lr::Index rank) {
    return std::make_shared<const lr::RandBases<S>>(lr::RandBases<S>::torch({.rank = rank, .larger = 40, .smaller = 25, .key = 3}));
  }
  static std::vector<S> columns(const lr::RandBases<S>& b) {
    std::vector<S> x;
    for (lr::Index j = 0; j < b.bases() * b.rank(); ++j)
      for (lr::Index i = 0; i < b.larger(); ++i) x.push_back(b.b(i, j));
    return x;
  }
  static void fill(lr::Buffer<S>& a, const lc::Array<S, HostDevice>& b, std::uint64_t stream) {
    const Eigen::MatrixXd x = noise(a.size(), 1, stream);
    for (lr::Index i = 0; i < a.size(); ++i) a[i] = b.data()[i] = S(x(i));
  }
};

template <class S>
void check(double tolerance) {
  each_setting([&](const Setting& s) {
    for (const auto pairing : {lr::Pairing::Peft, lr::Pairing::Paper})
      for (const lr::Index rank : {1, 4, 30}) {
        INFO("rank " << rank);
        HostDevice machine(Schedule::Scattered);
        Pair<S> both(machine, s.m, s.n, rank, {.alpha = 6, .pairing = pairing});
        CHECK(passes_differ<S>(machine, both.cpu, both.device, s) < tolerance);
      }
  });
}

}  // namespace

TEST_CASE("RandLoRA's passes are the CPU's, in every order of the products", "[cuda]") {
  check<double>(1e-12);
  check<float>(5e-5);
}

TEST_CASE("A device's RandLoRA merges, unmerges, needs no dX, and takes no samples", "[cuda]") {
  for (const auto& [m, n] : {std::pair<lr::Index, lr::Index>{31, 12}, {12, 31}}) {
    HostDevice machine;
    Pair<double> both(machine, m, n, 4, {.alpha = 6});
    CHECK(both.device.bytes() == both.cpu.bytes());
    CHECK(both.device.scale() == both.cpu.scale());
    lr::Workspace workspace;
    for (const bool by_rows : {false, true}) {
      Padded<double> W(m, n, by_rows, 2), V = W;
      W.set(noise(m, n, 2)), V.set(noise(m, n, 2));
      both.cpu.merge_into(W.cpu(), workspace), both.device.merge_into(V.device());
      CHECK(difference(V.values(), W.values()) < 1e-13);
      check_padding(V);
      both.device.unmerge_from(V.device());
      CHECK((V.values() - noise(m, n, 2)).cwiseAbs().maxCoeff() < 1e-12);
    }
    Padded<double> X(n, 4, false), Y(m, 4, false), dY(m, 4, false), dX(n, 4, false);
    X.set(noise(n, 4, 3)), dY.set(noise(m, 4, 4)), Y.set(noise(m, 4, 5));
    lc::Trace<double, HostDevice> trace;
    both.device.forward(lc::no_base, constant(X), Y.device(), trace);
    both.device.backward(lc::no_base, constant(X), constant(dY), lc::no_gradient, trace);
    CHECK(dX.values() == Eigen::MatrixXd::Constant(n, 4, 7));
    CHECK(machine.workspace_bytes() >= both.device.workspace_bytes(4));
    const Eigen::MatrixXd once = values(both.device.gamma().gradient);
    CHECK(once.norm() > 0);
    const lc::View<const double> none_in{X.memory.data(), n, 0, 1, n}, none_grad{dY.memory.data(), m, 0, 1, m};
    both.device.forward(lc::no_base, none_in, lc::View<double>{Y.memory.data(), m, 0, 1, m}, trace);
    both.device.backward(lc::no_base, none_in, none_grad, lc::no_gradient, trace);
    CHECK(values(both.device.gamma().gradient) == once);
  }
}

TEST_CASE("A device's RandLoRA says what is wrong and touches nothing", "[cuda]") {
  HostDevice machine;
  const std::vector<double> numbers(1000, 1.0);
  using Bases = lc::RandBases<double, HostDevice>;
  using Layer = lc::RandLora<double, HostDevice>;
  CHECK_THROWS_AS(Bases(machine, 5, 8, 2, numbers.data(), numbers.data()), std::invalid_argument);
  CHECK_THROWS_AS(Bases(machine, 8, 5, 0, numbers.data(), numbers.data()), std::invalid_argument);
  {
    const Bases bases(machine, 8, 5, 2, numbers.data(), numbers.data());
    CHECK_THROWS_AS(Layer(machine, 9, 5, bases), std::invalid_argument);
    CHECK_THROWS_AS(Layer(machine, 6, 7, bases), std::invalid_argument);
    CHECK_THROWS_AS(Layer(machine, 6, 0, bases), std::invalid_argument);
    CHECK_THROWS_AS(Layer(machine, 6, 5, bases, {.dropout = 0.1}), std::invalid_argument);
    CHECK_THROWS_AS(Layer(machine, 6, 5, bases, {.alpha = std::nan("")}), std::invalid_argument);
    Layer layer(machine, 6, 5, bases);
    Padded<double> X(5, 3, false), Y(6, 3, false), W(5, 6, false);
    lc::Trace<double, HostDevice> trace;
    CHECK_THROWS_AS(layer.backward(lc::no_base, constant(X), constant(Y), lc::no_gradient, trace), std::invalid_argument);
    CHECK_THROWS_AS(layer.forward(constant(W), constant(X), Y.device(), trace), std::invalid_argument);
    CHECK_THROWS_AS(layer.forward(lc::no_base, constant(Y), Y.device(), trace), std::invalid_argument);
    CHECK(Y.values() == Eigen::MatrixXd::Constant(6, 3, 7));
  }
  CHECK(machine.live() == 0);
}
