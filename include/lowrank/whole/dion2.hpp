// Dion2 (arXiv 2512.16928): Trion's step on the rows of the momentum as they are, no transform; see selected_momentum.hpp.
// A row is one index of the smaller dimension. Reference: microsoft/dion, Dion2 (selection over the whole matrix).
// Deviations: indices ascending, ties to the lower one; Newton-Schulz in the state's scalar.
// State: d k + r int32.
#pragma once

#include <lowrank/whole/selected_momentum.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// No transform: rows are rows.
template <class S, class K>
class NoTransform {
 public:
  NoTransform() = default;
  NoTransform(const Dion2&, Index d) : d_(d) {}

  struct Work {
    S* memory = nullptr;  // d x 64 per thread
    Index stride = 0;

    Work() = default;
    Work(Arena& arena, const NoTransform& t, int threads)
        : memory(arena.take<S>(t.d_ * linalg::tile_columns * threads)), stride(t.d_ * linalg::tile_columns) {}
  };

  const S* load(const Stage<S, K>& stage, Index j0, Index w, const Work& work, int slot) const {
    S* out = work.memory + slot * work.stride;
    stage.a.load_gradient(0, d_, j0, w, out, d_);
    return out;
  }
  const S* coefficients(const S* B, Index, const Work&, int) const { return B; }

  template <class Sink>
  void lift(const S* N, Index r, const std::int32_t* index, Index w, const Work&, int slot, const Stage<S, K>& stage,
            const Sink& sink) const {
    S* U = stage.team[slot].rows;
    Index begin = 0;
    stage.each_block([&](Index i0, Index m) {
      std::memset(U, 0, std::size_t(m * w) * sizeof(S));
      Index end = begin;
      for (; end < r && index[end] < i0 + m; ++end)
        for (Index j = 0; j < w; ++j) U[index[end] - i0 + j * m] = N[end + j * r];
      begin = end;
      sink(i0, m, Index(0), w, U, m);
    });
  }

 private:
  Index d_ = 0;
};

}  // namespace detail

template <class S, class K>
class ProjectorState<Dion2, S, K> : public detail::SelectedMomentum<Dion2, S, K, detail::NoTransform<S, K>> {
 public:
  ProjectorState() = default;
  ProjectorState(const Dion2& options, Index d, Index k, Index fan_out, Index fan_in)
      : detail::SelectedMomentum<Dion2, S, K, detail::NoTransform<S, K>>("lowrank::Dion2", options, d, k, fan_out, fan_in) {}
};

}  // namespace lowrank
