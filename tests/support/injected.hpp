// Injected: a projector whose bases are given, one per refresh. For reference vectors that carry their random bases, and
// for float runs on the bases of a double run, where the sign of a near-tie would differ.
#pragma once

#include <vector>

#include <lowrank/projector/dense.hpp>

namespace support {

struct Injected {
  std::int64_t rank = 4;
  lowrank::Side side = lowrank::Side::Smaller;
  std::int64_t refresh_every = 5;
  std::int64_t phase = 0;
  const std::vector<Eigen::MatrixXd>* bases = nullptr;  // d x r each
  lowrank::Transport transport = lowrank::Transport::Keep;

  static constexpr const char* name = "injected";
  static void visit(auto& o, auto&& f) { f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every); }
};

}  // namespace support

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<support::Injected, S, K> : public detail::DenseProjector<support::Injected, S, K> {
  using Base = detail::DenseProjector<support::Injected, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  ProjectorState() = default;
  ProjectorState(const support::Injected& options, Index d, Index k) : Base("Injected", options, d, k, d) {}

  struct Work {
    detail::DenseWork<S, K> dense;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int) : dense(arena, p.basis_.rows(), p.rank()) {}
  };

  bool refresh(const Source& a, S*, Work& work, const Team& team) const {
    const Eigen::MatrixXd& basis = this->options_.bases->at(refreshes_);
    for (Index i = 0; i < basis.size(); ++i) work.dense.candidate[i] = S(basis.data()[i]);
    this->announce(a, work, this->options_.transport, team);
    return true;
  }
  void commit(Work& work) {
    Base::commit(work);
    ++refreshes_;
  }

 private:
  std::size_t refreshes_ = 0;
};

}  // namespace lowrank
