// Trion (Modoranu et al., arXiv 2505.17967): orthogonalised momentum in the r strongest cosine coefficients, chosen anew
// every step; see selected_momentum.hpp for the equations. Reference: IST-DASLab's Trion, whose released file does not run
// (undefined names; a cached basis that is transposed between calls): the equations are followed, not the file.
// Deviations: indices ascending; any dimension; Newton-Schulz in the state's scalar; the momentum as coefficients unless
// MomentumDomain::Gradient asks for the published form.
// State: d k + r int32. One transform and one inverse transform of the gradient a step, whatever r is.
#pragma once

#include <lowrank/linalg/dct.hpp>
#include <lowrank/whole/selected_momentum.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// The orthonormal cosine transform of columns of length d, both ways.
template <class S, class K>
class CosineTransform {
 public:
  static constexpr Index lanes = K::template lanes<S>;

  CosineTransform() = default;
  CosineTransform(const Trion& options, Index d) : plan_(d), basis_(options.basis), d_(d) {}

  struct Work {
    S* memory = nullptr;  // per thread: d x 64 coefficients, d x lanes interleaved, r rows x lanes, the plan's scratch
    Index stride = 0;

    Work() = default;
    Work(Arena& arena, const CosineTransform& t, int threads) {
      stride = t.d_ * (linalg::tile_columns + 2 * lanes) + t.plan_.work_size();
      stride = (stride + lanes - 1) / lanes * lanes;
      memory = arena.take<S>(stride * threads);
    }
  };

  /// T(A_J)
  const S* load(const Stage<S, K>& stage, Index j0, Index w, const Work& work, int slot) const {
    return transformed(w, work, slot, [&](Index j, Index n, S* x) {
      S* block = stage.team[slot].stage;
      stage.each_block([&](Index i0, Index m) {
        stage.a.load_gradient(i0, m, j0 + j, n, block, m);
        K::transpose(m, n, block, m, x + i0 * lanes, lanes);
      });
    });
  }
  /// T of w columns in memory.
  const S* coefficients(const S* B, Index w, const Work& work, int slot) const {
    return transformed(w, work, slot, [&](Index j, Index n, S* x) { K::transpose(d_, n, B + j * d_, d_, x, lanes); });
  }

  template <class Sink>
  void lift(const S* N, Index r, const std::int32_t* index, Index w, const Work& work, int slot, const Stage<S, K>& stage,
            const Sink& sink) const {
    S* x = signals(work, slot);
    S* rows = x + d_ * lanes;
    S* U = stage.team[slot].rows;
    for (Index j = 0; j < w; j += lanes) {
      const Index n = std::min(lanes, w - j);
      std::memset(x, 0, std::size_t(d_ * lanes) * sizeof(S));
      if (n < lanes) std::memset(rows, 0, std::size_t(r * lanes) * sizeof(S));
      K::transpose(r, n, N + j * r, r, rows, lanes);
      for (Index i = 0; i < r; ++i) std::memcpy(x + index[i] * lanes, rows + i * lanes, lanes * sizeof(S));
      if (basis_ == DctBasis::Cosines) plan_.dct3(x, scratch(work, slot));
      else plan_.dct2(x, scratch(work, slot));
      stage.each_block([&](Index i0, Index m) {
        K::transpose(n, m, x + i0 * lanes, lanes, U, m);
        sink(i0, m, j, n, U, m);
      });
    }
  }
  /// One column of coefficients -> what it stands for.
  void inverse(S* x, S* room) const {
    if (basis_ == DctBasis::Cosines) plan_.dct3(x, room);
    else plan_.dct2(x, room);
  }

 private:
  S* signals(const Work& work, int slot) const { return work.memory + slot * work.stride + d_ * linalg::tile_columns; }
  S* scratch(const Work& work, int slot) const { return signals(work, slot) + 2 * d_ * lanes; }

  template <class Fill>
  const S* transformed(Index w, const Work& work, int slot, const Fill& fill) const {
    S* out = work.memory + slot * work.stride;
    S* x = signals(work, slot);
    for (Index j = 0; j < w; j += lanes) {
      const Index n = std::min(lanes, w - j);
      if (n < lanes) std::memset(x, 0, std::size_t(d_ * lanes) * sizeof(S));
      fill(j, n, x);
      if (basis_ == DctBasis::Cosines) plan_.dct2(x, scratch(work, slot));
      else plan_.dct3(x, scratch(work, slot));
      K::transpose(n, d_, x, lanes, out + j * d_, d_);
    }
    return out;
  }

  linalg::Dct<S, K> plan_;
  DctBasis basis_ = DctBasis::Cosines;
  Index d_ = 0;
};

}  // namespace detail

template <class S, class K>
class ProjectorState<Trion, S, K> : public detail::SelectedMomentum<Trion, S, K, detail::CosineTransform<S, K>> {
 public:
  ProjectorState() = default;
  ProjectorState(const Trion& options, Index d, Index k, Index fan_out, Index fan_in)
      : detail::SelectedMomentum<Trion, S, K, detail::CosineTransform<S, K>>("lowrank::Trion", options, d, k, fan_out, fan_in) {}
};

}  // namespace lowrank
