// Adafactor (Shazeer and Stern, arXiv 1804.04235, alg. 4) on R (r x k), with the learning rate from outside.
//   b2 = 1 - t^-power,   p_i <- b2 p_i + (1-b2) mean_j (R_ij^2 + eps),   q_j <- the same over i
//   U_ij = R_ij / sqrt(p_i q_j / mean(p)),   U <- U / max(1, rms(U) / clip),   N = U, or M <- b1 M + (1-b1) U and N = M
// In new coordinates the second moment of direction i is sum_j C_ij^2 p_j; the part of it that the old basis did not see
// is taken for average, (1 - sum_j C_ij^2) mean(p). q stays: it belongs to the other side.
// State: p (r), q (k), M (r x k) unless beta1 is 0 at construction. Not offered: relative_step and scale_parameter, which
// replace the caller's learning rate.
#pragma once

#include <lowrank/rule/rule.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// Sums of squares of the rows and columns of X (r x k), tile by tile of 64 columns, tiles added in order.
template <class S, class K>
struct SquareSums {
  double* rows = nullptr;     // r, then r per tile
  double* columns = nullptr;  // k

  SquareSums() = default;
  SquareSums(Arena& arena, Index r, Index k)
      : rows(arena.take<double>(r * (1 + (k + linalg::tile_columns - 1) / linalg::tile_columns))),
        columns(arena.take<double>(k)) {}

  /// Rows [i0, i0+m) of w columns from j0, at X with leading dimension ld. columns[] must be zero before.
  void add(const S* X, Index ld, Index i0, Index m, Index j0, Index w, Index r) const {
    double* tile = rows + r * (1 + j0 / linalg::tile_columns) + i0;
    std::fill_n(tile, m, 0.0);
    for (Index j = 0; j < w; ++j) {
      K::add_squares(m, X + j * ld, tile);
      columns[j0 + j] += K::sum_squares(m, X + j * ld);
    }
  }
  void finish(Index r, Index k) const {
    std::fill_n(rows, r, 0.0);
    for (Index t = 1; (t - 1) * linalg::tile_columns < k; ++t)
      for (Index i = 0; i < r; ++i) rows[i] += rows[t * r + i];
  }
};

/// p_i <- b2 p_i + (1-b2) (sum_i / n + eps)
template <class S>
void update_factor(Buffer<S>& p, const double* sums, double beta2, double n, double eps) {
  for (Index i = 0; i < p.size(); ++i) p[i] = S(beta2 * double(p[i]) + (1 - beta2) * (sums[i] / n + eps));
}
template <class S>
double mean_of(const Buffer<S>& p) {
  double sum = 0;
  for (Index i = 0; i < p.size(); ++i) sum += double(p[i]);
  return sum / double(p.size());
}

}  // namespace detail

template <class S, class K>
class RuleState<Adafactor, S, K> {
 public:
  RuleState() = default;
  RuleState(const Adafactor& options, Index r, Index k)
      : options_(options),
        row_(Buffer<S>::shaped(r, 1)),
        column_(Buffer<S>::shaped(k, 1)),
        first_(Buffer<S>::shaped(options.beta1 == 0 ? 0 : r, options.beta1 == 0 ? 0 : k)) {
    check();
  }

  struct Work {
    detail::SquareSums<S, K> sums;
    S* scale = nullptr;         // r: 1 / sqrt(p_i / mean(p))
    double* partial = nullptr;  // ||U||^2 per tile

    Work() = default;
    Work(Arena& arena, Index r, Index k, int)
        : sums(arena, r, k),
          scale(arena.take<S>(r)),
          partial(arena.take<double>((k + linalg::tile_columns - 1) / linalg::tile_columns)) {}
  };

  Adafactor& options() { return options_; }
  const Adafactor& options() const { return options_; }

  void check() const {
    const char* who = "lowrank::Adafactor";
    detail::check_beta(who, "beta1", options_.beta1);
    detail::require(options_.decay_power > 0 && options_.decay_power <= 1, who, "decay_power", options_.decay_power,
                    "0 < decay_power <= 1");
    detail::require(options_.eps >= 1e-35 && options_.eps < 1e30, who, "eps", options_.eps, "a number >= 1e-35");
    if (!(options_.clip > 0) || detail::is_nan(options_.clip))
      detail::bad_argument(who, "clip = " + std::to_string(options_.clip), "a number > 0 (infinity: off)");
    detail::check_decay(who, options_.weight_decay);
    detail::require(options_.beta1 == 0 || first_.size() > 0, who, "beta1", options_.beta1,
                    "0, as at construction: no first moment was allocated");
  }

  void advance() { ++steps_; }
  double gain() const { return 1; }
  Decay decay(double lr) const { return {1 - lr * options_.weight_decay, 1}; }

  void direction(const S* R, S* N, const Work& work, const linalg::Team<S, K>& team) {
    const Index r = row_.size(), k = column_.size(), tile = linalg::tile_columns, tiles = (k + tile - 1) / tile;
    std::fill_n(work.sums.columns, k, 0.0);
    detail::for_each(tiles, team.threads(), [&](Index t, int) {
      work.sums.add(R + t * tile * r, r, 0, r, t * tile, std::min(tile, k - t * tile), r);
    });
    work.sums.finish(r, k);
    const double beta2 = 1 - std::pow(double(steps_), -options_.decay_power);
    detail::update_factor(row_, work.sums.rows, beta2, double(k), options_.eps);
    detail::update_factor(column_, work.sums.columns, beta2, double(r), options_.eps);
    const double mean = detail::mean_of(row_);
    for (Index i = 0; i < r; ++i) work.scale[i] = S(std::sqrt(mean / double(row_[i])));

    detail::for_each(tiles, team.threads(), [&](Index t, int) {
      work.partial[t] = 0;
      for (Index j = t * tile; j < std::min(k, (t + 1) * tile); ++j) {
        const S across = S(1 / std::sqrt(double(column_[j])));
        for (Index i = 0; i < r; ++i) N[i + j * r] = R[i + j * r] * work.scale[i] * across;
        work.partial[t] += K::sum_squares(r, N + j * r);
      }
    });
    double square = 0;
    for (Index t = 0; t < tiles; ++t) square += work.partial[t];
    const double shrink = 1 / std::max(1.0, std::sqrt(square / (double(r) * double(k))) / options_.clip);
    detail::for_each(tiles, team.threads(), [&](Index t, int) {
      const Index at = t * tile * r, n = std::min(tile, k - t * tile) * r;
      if (first_.size() > 0)
        K::momentum(n, N + at, first_.data() + at, N + at, options_.beta1, (1 - options_.beta1) * shrink, false);
      else
        K::combine(n, shrink, N + at, 0.0, N + at, N + at);
    });
  }

  void transport(const linalg::BasisChange<S>& change, const linalg::TransportWork<S, K>& work,
                 const linalg::Team<S, K>& team) {
    using Kind = typename linalg::BasisChange<S>::Kind;
    if (steps_ == 0 || change.kind == Kind::Stay) return;
    if (change.kind == Kind::Reset) {
      row_.set_zero();
      column_.set_zero();
      first_.set_zero();
      steps_ = 0;
      return;
    }
    const Index r = row_.size();
    const double mean = detail::mean_of(row_);
    for (Index i = 0; i < r; ++i) {
      double known = 0, moment = 0;
      for (Index j = 0; j < r; ++j) {
        const double c = change.kind == Kind::Gather ? double(change.from[i] == j) : double(change.rotation[i + j * r]);
        known += c * c;
        moment += c * c * double(row_[j]);
      }
      work.tiles[i] = S(moment + std::max(0.0, 1 - known) * mean);
    }
    std::memcpy(row_.data(), work.tiles, row_.bytes());
    if (first_.size() > 0) linalg::transport<S, K>(change, first_.cols(), first_.data(), nullptr, 1, 1, work, team);
  }

  bool valid() const {
    for (const Buffer<S>* factor : {&row_, &column_})
      for (Index i = 0; i < factor->size(); ++i)
        if (!((*factor)[i] >= 0) || (steps_ > 0 && (*factor)[i] == 0)) return false;
    return true;
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  static void visit_state(auto& self, auto&& f) {
    f("row", self.row_);
    f("column", self.column_);
    f("exp_avg", self.first_);
    f("rule_steps", self.steps_);
  }

  Adafactor options_;
  Buffer<S> row_, column_, first_;
  std::uint64_t steps_ = 0;
};

}  // namespace lowrank
