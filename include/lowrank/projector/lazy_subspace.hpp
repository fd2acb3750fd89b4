// LazySubspace: a basis of 4 bits an entry that is renewed the more rarely the less it moves (Q-GaLore, arXiv 2407.08296).
// The candidate of block iteration is rounded to what the state can hold, its columns brought back to unit length, and all
// steps project with those numbers. With s_i = ||P_i^T P_{i-1}||_F^2 / r of the last five refreshes,
//   mean s >= similar   =>   T <- floor(stretch T);   T never shrinks.
// Reference: VITA-Group/Q-GaLore. Deviations: what is compared are the subspaces; the code takes the scalar product of the first
// singular vectors with its sign, which is arbitrary. Codes are packed two to a byte (there one), with an offset of their own
// instead of a clamped integer zero point. The basis comes from block iteration, which starts at the old one: subspaces
// look more alike than those of two exact SVDs of noisy gradients.
// P is orthonormal up to the rounding (about 1 % of the energy for 4 bits), so lifts that take A - P R do not compile.
// State: r d / 2 bytes and 2 numbers for every started 256 rows of a column, five similarities and two counters.
#pragma once

#include <lowrank/projector/subspace.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<LazySubspace, S, K> : public detail::BlockIteration<LazySubspace, S, K> {
  using Base = detail::BlockIteration<LazySubspace, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  static constexpr bool orthonormal = false;
  static constexpr Index queue = 5;

  ProjectorState() = default;
  ProjectorState(const LazySubspace& options, Index d, Index k)
      : Base("lowrank::LazySubspace", options, d, k, options.storage), similarities_(Buffer<double>::shaped(queue, 1)) {
    check();
  }

  struct Work : Base::Work {
    double similarity = 0;
    using Base::Work::Work;
  };

  void check() const {
    Base::check();
    const LazySubspace& o = this->options_;
    const char* who = "lowrank::LazySubspace";
    if (o.storage != this->basis_.storage()) detail::bad_argument(who, "another storage", "the one of construction");
    if (!(o.similar >= 0 && o.similar < 1e30) || !detail::is_finite(o.similar))
      detail::bad_argument(who, "similar = " + std::to_string(o.similar), "a number >= 0 (above 1: never)");
    if (!(o.stretch >= 1 && o.stretch < 1e6) || !detail::is_finite(o.stretch))
      detail::bad_argument(who, "stretch = " + std::to_string(o.stretch), "a factor >= 1");
  }

  /// Steps between refreshes, as it stands.
  std::int64_t period() const {
    constexpr std::int64_t longest = std::int64_t(1) << 40;
    std::int64_t T = this->options_.refresh_every;
    for (std::uint64_t i = 0; i < stretched_ && T < longest; ++i) T = std::int64_t(this->options_.stretch * double(T));
    return std::min(T, longest);
  }
  bool due(std::uint64_t steps) const {
    LazySubspace now = this->options_;
    now.refresh_every = period();
    return this->freshness_.due(now, steps);
  }

  bool refresh(const Source& a, S* R, Work& work, const Team& team) const {
    using Change = linalg::BasisChange<S>;
    const Index d = this->basis_.rows(), r = this->rank();
    this->decode(work);
    if (!this->find(a, R, work, team)) return false;
    S* P = work.dense.candidate;
    linalg::CompactMatrix<S>::round_trip(P, d, r, this->basis_.storage());
    for (Index j = 0; j < r && this->basis_.storage() != Storage::Bf16; ++j)  // of bf16 it is 1 already, as near as such numbers come
      if (const double norm = std::sqrt(K::sum_squares(d, P + j * d)); norm > 0) K::combine(d, 1 / norm, P + j * d, 0.0, P + j * d, P + j * d);
    this->announce(a, work, Transport::Rotate, team);
    work.similarity = K::sum_squares(r * r, work.dense.rotation) / double(r);
    if (refreshes_ == 0 || this->options_.transport == Transport::Keep) work.dense.change = Change{};
    else if (this->options_.transport == Transport::Reset) work.dense.change = {Change::Kind::Reset, nullptr, nullptr};
    return true;
  }
  /// The rounding of either basis may decide which of them holds more: a refresh stands.
  bool worse(double, const Work&) const { return false; }
  void commit(Work& work) {
    Base::commit(work);
    if (refreshes_++ == 0) return;  // nothing to compare with
    similarities_[Index((refreshes_ - 2) % queue)] = work.similarity;
    if (refreshes_ <= std::uint64_t(queue)) return;
    double mean = 0;
    for (Index i = 0; i < queue; ++i) mean += similarities_[i] / double(queue);
    if (mean >= this->options_.similar && stretched_ < 64) ++stretched_;
  }

  /// Rounded columns may overlap, so that a little more than all energy seems to be captured.
  bool valid() const { return this->freshness_.pending <= 1 && this->freshness_.captured_at_refresh <= 2 && stretched_ <= 64; }
  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  static void visit_state(auto& self, auto&& f) {
    Base::visit_state(self, f);
    f("similarities", self.similarities_);
    f("refreshes", self.refreshes_);
    f("stretched", self.stretched_);
  }

  Buffer<double> similarities_;
  std::uint64_t refreshes_ = 0, stretched_ = 0;
};

}  // namespace lowrank
