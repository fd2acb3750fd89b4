// The arena example's optimizer on a device trains as the same recipe on the CPU does. Here the device is HostDevice.
#include <support/catch.hpp>
#include <support/host_device.hpp>

#include <examples/arena/device.cuh>
#include <lowrank/lowrank.hpp>

namespace {

using Floats = std::vector<float>;

/// What arena::train does, with the CPU library.
float on_the_cpu(int until) {
  using namespace arena;
  using namespace lowrank;
  const auto draw = [](float* out, int n, unsigned seed) { fill_normal(out, n, seed, 0, 0); };
  Net<Floats> teacher(1, draw), net(2, draw);
  Floats input(B * C);
  std::vector<Parameter<float>> params;
  const Parameters same = parameters(net);
  for (const auto* list : {&same.matrices, &same.biases})
    for (const auto& p : *list)
      params.push_back({p.name, view(p.weight.data, p.weight.rows, p.weight.cols), view(p.gradient.data, p.gradient.rows, p.gradient.cols)});
  Fleet fleet(params, Group{named("*.fc", "*.proj"), galore({.rank = 32, .refresh_every = 20, .scale = 3, .transport = Transport::Rotate, .beta2 = 0.95})},
              Group{anything(), adamw({.beta2 = 0.95})});
  float loss = 0;
  for (int t = 0; t <= until; ++t) {
    fill_normal(input.data(), B * C, 3, std::uint64_t(t), 0);
    teacher.forward(input.data());
    net.forward(input.data());
    loss = net.backward(&teacher.x[std::size_t(L * B * C)]);
    fleet.step(params, {.lr = 2e-3 * cosine(t, 120, 0.1)});
  }
  return loss;
}

}  // namespace

TEST_CASE("The arena example trains on a device as on the CPU", "[cuda]") {
  support::HostDevice machine;
  const float at_first = arena::train<Floats>(machine, 0), later = arena::train<Floats>(machine, 12), on_cpu = on_the_cpu(12);
  CHECK(at_first == Catch::Approx(on_the_cpu(0)).epsilon(1e-5));
  CHECK(later < 0.9f * at_first);
  CHECK(later == Catch::Approx(on_cpu).epsilon(0.01));
  CHECK(machine.live() == 0);
}
