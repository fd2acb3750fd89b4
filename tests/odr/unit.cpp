// A translation unit of somebody's trainer, compiled into several objects under several flags; UNIT is its function's
// name. The memory is a plain array: Eigen's own matrices may not cross between objects compiled with different flags.
#include "unit.hpp"

#include <vector>

#include <lowrank/lowrank.hpp>

Result UNIT() {
  const int rows = 40, cols = 130;
  std::vector<float> weight(rows * cols, 0.5f), gradient(rows * cols);
  for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = float(int(i * 7919 % 101) - 50) / 50;
  const auto W = lowrank::view(weight.data(), rows, cols);
  const auto G = lowrank::view<const float>(gradient.data(), rows, cols);

  auto optimizer = lowrank::galore(W, {.rank = 4});
  for (int t = 0; t < 3; ++t) optimizer.step(W, G, {.lr = 1e-2});

  Result result{lowrank::kernel::Best::name, 0};
  for (float w : weight) result.sum += double(w);
  return result;
}
