// Two threads, each with an optimizer of its own, one gradient read by both: run under the thread sanitizer. With
// OpenMP (and a runtime the sanitizer understands) each step starts a team as well.
#include <thread>
#include <vector>

#include <lowrank/lowrank.hpp>

int main() {
  const int rows = 96, cols = 200;
  std::vector<float> gradient(rows * cols), weights[2];
  for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = float(int(i * 7919 % 101) - 50) / 50;
  const auto G = lowrank::view<const float>(gradient.data(), rows, cols);

  const auto train = [&](std::vector<float>& weight) {
    weight.assign(gradient.size(), 0.5f);
    const auto W = lowrank::view(weight.data(), rows, cols);
    auto optimizer = lowrank::galore(W, {.rank = 8});
    for (int t = 0; t < 5; ++t) optimizer.step(W, G, {.lr = 1e-2});
  };
  std::thread other([&] { train(weights[0]); });
  train(weights[1]);
  other.join();
  return weights[0] == weights[1] ? 0 : 1;
}
