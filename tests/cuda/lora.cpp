// LoRA on a device against the CPU library's: every order of the products, either storage order, one sample and many.
#include <cuda/adapter.hpp>
#include <lowrank/adapter/lora.hpp>
#include <lowrank/cuda/lora.cuh>

using namespace support;

namespace {

template <class S>
double worst(const Setting& s, const lr::LoraOptions& options) {
  HostDevice machine(Schedule::Scattered);
  lr::Lora<S> cpu(s.m, s.n, options);
  lc::Lora<S, HostDevice> device(machine, s.m, s.n, options);
  const Eigen::MatrixXd first = noise(s.m, options.rank, 9);
  for (lr::Index i = 0; i < first.size(); ++i) cpu.B().value.data()[i] = device.B().value.data()[i] = S(first.data()[i]);
  const double result = passes_differ<S>(machine, cpu, device, s);
  CHECK((device.A().gradient.data() == nullptr) == (options.train == lr::Train::OnlyB));
  return result;
}

template <class S>
void check(double tolerance) {
  each_setting([&](const Setting& s) { CHECK(worst<S>(s, {.rank = 4, .alpha = 6, .seed = 5}) < tolerance); });
}

}  // namespace

TEST_CASE("LoRA's passes are the CPU's, in every order of the products", "[cuda]") {
  check<double>(1e-12);
  check<float>(2e-5);
}

TEST_CASE("LoRA's options mean what they mean on the CPU", "[cuda]") {
  CHECK(worst<double>({20, 30, 5, false, true, true, {}}, {.rank = 4, .alpha = 6, .scaling = lr::Scaling::ByRootRank}) < 1e-12);
  CHECK(worst<double>({20, 30, 5, false, true, true, {}}, {.rank = 4, .alpha = 6, .train = lr::Train::OnlyB}) < 1e-12);
  HostDevice machine;
  const lr::LoraOptions options{.rank = 5, .b_lr_ratio = 16, .seed = 11};
  lr::Lora<float> cpu(19, 26, options);
  lc::Lora<float, HostDevice> device(machine, 19, 26, options);
  CHECK(values(cpu.A().value) == values(device.A().value));
  CHECK(values(device.B().value).isZero(0));
  CHECK(device.scale() == cpu.scale());
  CHECK(device.bytes() == cpu.bytes());
  std::vector<std::string> names;
  device.visit([&](auto& p) {
    names.push_back(p.name);
    CHECK(p.lr_scale == (names.size() == 2 ? 16 : 1));
  });
  CHECK(names == std::vector<std::string>{"A", "B"});
}

TEST_CASE("A device's LoRA merges, unmerges, begins anew, and takes no samples", "[cuda]") {
  HostDevice machine;
  lc::Lora<double, HostDevice> lora(machine, 9, 14, {.rank = 3, .alpha = 2});
  const Eigen::MatrixXd B = noise(9, 3, 1);
  std::copy_n(B.data(), B.size(), lora.B().value.data());
  for (const bool by_rows : {false, true}) {
    Padded<double> W(9, 14, by_rows, 2);
    W.set(noise(9, 14, 2));
    lora.merge_into(W.device());
    CHECK((W.values() - noise(9, 14, 2) - 2.0 / 3 * B * values(lora.A().value)).cwiseAbs().maxCoeff() < 1e-14);
    lora.unmerge_from(W.device());
    CHECK((W.values() - noise(9, 14, 2)).cwiseAbs().maxCoeff() < 1e-14);
  }
  Padded<double> X(14, 4, false), Y(9, 4, false), dY(9, 4, false), dX(14, 4, false);
  X.set(noise(14, 4, 3)), dY.set(noise(9, 4, 4));
  lc::Trace<double, HostDevice> trace;
  lora.forward(lc::no_base, constant(X), Y.device(), trace);
  dX.set(noise(14, 4, 5));
  lora.backward(lc::no_base, constant(X), constant(dY), lc::no_gradient, trace);
  CHECK(dX.values() == noise(14, 4, 5));
  const Eigen::MatrixXd once = values(lora.A().gradient);
  CHECK(once.norm() > 0);
  lora.visit([&](auto& p) { p.zero_gradient(machine); });
  CHECK(values(lora.A().gradient).isZero(0));
  lora.backward(lc::no_base, constant(X), constant(dY), lc::no_gradient, trace);
  CHECK(values(lora.A().gradient) == once);

  const lc::View<const double> none_in{X.memory.data(), 14, 0, 1, 14}, none_grad{dY.memory.data(), 9, 0, 1, 9};
  lora.forward(lc::no_base, none_in, lc::View<double>{Y.memory.data(), 9, 0, 1, 9}, trace);
  lora.backward(lc::no_base, none_in, none_grad, lc::no_gradient, trace);
  CHECK(values(lora.A().gradient) == once);
}

TEST_CASE("A device's LoRA says what is wrong and touches nothing", "[cuda]") {
  HostDevice machine;
  using Lora = lc::Lora<double, HostDevice>;
  CHECK_THROWS_AS(Lora(machine, 0, 4, {}), std::invalid_argument);
  CHECK_THROWS_AS(Lora(machine, 4, 4, {.rank = 0}), std::invalid_argument);
  CHECK_THROWS_AS(Lora(machine, 4, 4, {.alpha = std::nan("")}), std::invalid_argument);
  CHECK_THROWS_AS(Lora(machine, 4, 4, {.dropout = 0.1}), std::invalid_argument);
  {
    Lora lora(machine, 6, 8, {.rank = 2});
    Padded<double> X(8, 3, false), Y(6, 3, false), W(8, 6, false), long_X(8, 4, false);
    lc::Trace<double, HostDevice> trace;
    CHECK_THROWS_AS(lora.backward(lc::no_base, constant(X), constant(Y), lc::no_gradient, trace), std::invalid_argument);
    CHECK_THROWS_AS(lora.forward(constant(W), constant(X), Y.device(), trace), std::invalid_argument);
    CHECK_THROWS_AS(lora.forward(lc::no_base, constant(long_X), Y.device(), trace), std::invalid_argument);
    CHECK_THROWS_AS(lora.forward(lc::no_base, constant(X), lc::view(X.memory.data(), 6, 3, 1, 8), trace), std::invalid_argument);
    CHECK(Y.values() == Eigen::MatrixXd::Constant(6, 3, 7));
    lora.forward(lc::no_base, constant(X), Y.device(), trace);
    CHECK_THROWS_AS(lora.backward(lc::no_base, constant(long_X), lc::View<const double>{long_X.memory.data(), 6, 4, 1, 8}, lc::no_gradient, trace), std::invalid_argument);
  }
  CHECK(machine.live() == 0);
}
