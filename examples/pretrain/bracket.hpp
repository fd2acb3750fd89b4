// Bracket: which rate of a grid to try next, and what three seeds can tell apart. Plain functions of numbers.
#pragma once

#include <algorithm>  // std::max, std::min_element
#include <cmath>      // std::sqrt, std::isfinite
#include <limits>
#include <map>
#include <optional>
#include <vector>

namespace pretrain {

/// Held-out losses by place on the grid; infinity: diverged.
using Tried = std::map<int, double>;

/// The place of the lowest loss; nothing when every run diverged.
inline std::optional<int> best_place(const Tried& tried) {
  const auto best = std::min_element(tried.begin(), tried.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (best == tried.end() || !std::isfinite(best->second)) return {};
  return best->first;
}

/// Whether the best place has a worse one on the side of lower (or of higher) rates.
enum class Where { Below, Above };
inline bool has_worse(const Tried& tried, int best, Where where) {
  for (const auto& [place, loss] : tried)
    if ((where == Where::Below ? place < best : place > best) && loss > tried.at(best)) return true;
  return false;
}

inline bool bracketed(const Tried& tried) {
  const std::optional<int> best = best_place(tried);
  return best && has_worse(tried, *best, Where::Below) && has_worse(tried, *best, Where::Above);
}

/// First places 0 to count - 1, then one more on the side where the best has no worse one, until it is bracketed or
/// `most` places were tried.
inline std::optional<int> next_place(const Tried& tried, int count, int most) {
  for (int i = 0; i < count; ++i)
    if (!tried.contains(i)) return i;
  if (bracketed(tried) || int(tried.size()) >= most) return {};
  const std::optional<int> best = best_place(tried);
  const bool go_up = best && !has_worse(tried, *best, Where::Above);  // when all diverged only lower rates can help
  return go_up ? tried.rbegin()->first + 1 : tried.begin()->first - 1;
}

inline double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / double(values.size());
}
/// With n - 1; 0 of a single value.
inline double deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  double sum = 0;
  for (const double v : values) sum += (v - mean(values)) * (v - mean(values));
  return std::sqrt(sum / double(values.size() - 1));
}

/// How far two means of `seeds` runs must lie apart, in bits per byte, for their order to be a finding: if they were the
/// one pair in question, and if they are one of many. A seed's deviation was calibrated as 0.014 (for three seeds: 0.024
/// and 0.042); if the runs here deviate more than that, so much more is asked for.
struct Distance {
  double one_pair, many_pairs;
};
inline Distance distance(std::size_t seeds, double seed_deviation) {
  const double factor = std::sqrt(3.0 / double(seeds)) * std::max(1.0, seed_deviation / 0.014);
  return {0.024 * factor, 0.042 * factor};
}

}  // namespace pretrain
