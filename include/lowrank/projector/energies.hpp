// Energies: what each coordinate of a basis held of the gradient when the basis was made, e_i = ||R_i:||^2 / ||A||^2, and what
// follows for the rank (options AdaptiveRank).
// Beyond the r coordinates that are known, the rest t = 1 - sum e is taken to fall off geometrically from the smallest, e_r:
//   e_{r+i} = e_r q^i,   q = t / (t + e_r),
// which is the one ratio that adds up to t.
#pragma once

#include <algorithm>   // std::sort
#include <cmath>       // std::pow
#include <functional>  // std::greater
#include <optional>
#include <vector>

#include <lowrank/core/buffer.hpp>
#include <lowrank/options/projector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

inline void check_adaptive(const char* who, const AdaptiveRank& o, std::optional<bool> kept = {}) {
  if (!(o.energy >= 0 && o.energy <= 1) || is_nan(o.energy))
    bad_argument(who, "adapt.energy = " + std::to_string(o.energy), "a share in [0, 1] (0: off)");
  if (!(o.hysteresis >= 0 && o.hysteresis < 1e6) || is_nan(o.hysteresis))
    bad_argument(who, "adapt.hysteresis = " + std::to_string(o.hysteresis), "a fraction >= 0");
  if (kept && *kept != (o.energy > 0))
    bad_argument(who, "adapt.energy = " + std::to_string(o.energy), *kept ? "above 0, as at construction" : "0, as at construction");
}

class Energies {
 public:
  Energies() = default;
  /// Nothing is kept unless the rank adapts.
  Energies(const AdaptiveRank& o, Index rank) : shares_(Buffer<double>::shaped(o.energy > 0 ? rank : 0, 1)) {}

  bool kept() const { return shares_.size() > 0; }
  double operator[](Index i) const { return shares_[i]; }

  /// R (r x k) of a new basis, energy = ||A||^2 > 0. Columns are added in order.
  template <class K, class S>
  void record(const S* R, Index k, double energy) {
    const Index r = shares_.size();
    if (r == 0) return;
    shares_.set_zero();
    for (Index j = 0; j < k; ++j) K::add_squares(r, R + j * r, shares_.data());
    for (Index i = 0; i < r; ++i) shares_[i] /= energy;
  }
  /// Coordinate i is now what from[i] was, or new (-1).
  void inherit(const Energies& old, const std::vector<Index>& from) {
    for (Index i = 0; i < shares_.size(); ++i) shares_[i] = from[std::size_t(i)] < 0 ? 0 : old.shares_[from[std::size_t(i)]];
  }

  /// The coordinates of a basis of `rank` that stay in one of `room`: those that held most, in ascending order.
  std::vector<Index> survivors(Index rank, Index room) const {
    std::vector<Index> order(static_cast<std::size_t>(rank));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = Index(i);
    if (kept()) std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return shares_[a] > shares_[b]; });
    order.resize(std::size_t(std::min(rank, room)));
    std::sort(order.begin(), order.end());
    return order;
  }
  /// The i-th largest share for i < r, the extrapolated one from there on.
  class Curve {
   public:
    explicit Curve(const Energies& e) : known_(e.shares_.data(), e.shares_.data() + e.shares_.size()) {
      std::sort(known_.begin(), known_.end(), std::greater<>());
      double rest = 1;
      for (const double share : known_) rest -= share;
      last_ = known_.empty() ? 0 : known_.back();
      if (rest > 0 && last_ > 0) ratio_ = rest / (rest + last_);
    }
    double operator[](Index i) const {
      const auto known = Index(known_.size());
      return i < known ? known_[std::size_t(i)] : last_ * std::pow(ratio_, double(i - known + 1));
    }

   private:
    std::vector<double> known_;
    double last_ = 0, ratio_ = 0;
  };

  /// The rank that AdaptiveRank asks for, at most `largest`; 0 when nothing is known. Allocates nothing.
  Index wanted(const AdaptiveRank& o, Index largest) const {
    if (!shares_.allocated()) return 0;
    const Index r = shares_.size();
    double known = 0, least = 1;
    for (Index i = 0; i < r; ++i) known += shares_[i], least = std::min(least, shares_[i]);
    if (r == 0 || known <= 0) return 0;
    Index q = 0;
    if (known >= o.energy) {  // drop the smallest for as long as enough remains; a scan finds the next, since a step may not sort
      const auto larger = [&](Index a, Index b) { return shares_[a] > shares_[b] || (shares_[a] == shares_[b] && a > b); };
      Index last = -1;
      for (q = r; q > 1; --q) {
        Index next = -1;
        for (Index i = 0; i < r; ++i)
          if ((last < 0 || larger(i, last)) && (next < 0 || larger(next, i))) next = i;
        if (known - shares_[next] < o.energy) break;
        known -= shares_[next];
        last = next;
      }
    } else {
      const double rest = 1 - known, ratio = rest > 0 && least > 0 ? rest / (rest + least) : 0;
      double share = least;
      for (q = r; q < largest && known < o.energy; ++q) share *= ratio, known += share;
    }
    const double now = double(r);
    return double(q) >= now * (1 - o.hysteresis) && double(q) <= now * (1 + o.hysteresis) ? r : q;
  }

  bool valid() const {
    double sum = 0;
    for (Index i = 0; i < shares_.size(); ++i) {
      if (!(shares_[i] >= 0)) return false;
      sum += shares_[i];
    }
    return sum <= 1.001;
  }
  static void visit(auto& self, auto&& f) {
    if (self.kept()) f("energies", self.shares_);
  }

 private:
  Buffer<double> shares_;
};

}  // namespace detail
}  // namespace lowrank
