// What the matrices of a Fleet share, and what they must not: workspaces yes, names and memory no.
#pragma once

#include <algorithm>  // std::sort
#include <string>
#include <vector>

#include <lowrank/core/view.hpp>
#include <lowrank/core/workspace.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// Matrices of at most this many elements are stepped side by side, larger ones one after the other on all threads.
inline constexpr Index small_matrix = 1 << 18;

/// The workspaces of a Fleet; a copy of a Fleet starts without.
struct FleetScratch {
  Workspace large;
  std::vector<Workspace> small;  // one a thread

  FleetScratch() = default;
  FleetScratch(const FleetScratch&) {}
  FleetScratch(FleetScratch&&) = default;
  FleetScratch& operator=(const FleetScratch&) { return *this; }
  FleetScratch& operator=(FleetScratch&&) = default;
};

/// The address range of a weight or gradient.
struct SharedSpan {
  std::uintptr_t begin = 0, end = 0;
  std::size_t index = 0;  // of the parameter
  bool weight = false;

  SharedSpan() = default;
  template <class T>
  SharedSpan(const View<T>& v, std::size_t i, bool is_weight) : index(i), weight(is_weight) {
    std::tie(begin, end) = span_of(v);
  }
};

/// Calls meet(a, b) for every weight a and weight or gradient b of another parameter whose ranges overlap. Sorts in place.
template <class F>
void check_sharing(std::vector<SharedSpan>& spans, const F& meet) {
  std::sort(spans.begin(), spans.end(), [](const SharedSpan& a, const SharedSpan& b) { return a.begin < b.begin; });
  for (std::size_t i = 0; i < spans.size(); ++i)
    for (std::size_t j = i + 1; j < spans.size() && spans[j].begin < spans[i].end; ++j) {
      const SharedSpan &a = spans[i], &b = spans[j];
      if (a.index == b.index || (!a.weight && !b.weight)) continue;
      if (a.weight) meet(a, b);
      else meet(b, a);
    }
}

/// Names are what patterns and files know parameters by.
inline void check_names(const std::vector<std::string>& names) {
  std::vector<std::string> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i].empty()) bad_argument("lowrank::Fleet", "a parameter without a name", "a name for each");
    if (i > 0 && sorted[i] == sorted[i - 1]) bad_argument("lowrank::Fleet", "two parameters '" + sorted[i] + "'", "names that differ");
  }
}

}  // namespace detail
}  // namespace lowrank
