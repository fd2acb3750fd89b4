// LowRank: a weight that is B A and nothing else, trained from scratch; the baseline of every paper on low-rank
// pre-training, and what SLTrain adds its sparse part to.
//
// First values: independent normal entries of variance 1 / sqrt(r (m + n)) in both factors, so that those of B A have
// variance 1 / (m + n) (CoLA, arXiv 2502.10940); or the leading singular triplets of a given dense weight.
#pragma once

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/initialize.hpp>
#include <lowrank/adapter/merge.hpp>

namespace lowrank::inline LOWRANK_ABI {

struct LowRankOptions {
  Index rank = 128;
  std::uint64_t seed = 0;
};

template <class S, class K = kernel::Best>
class LowRank : public detail::LayerDoor<LowRank<S, K>, S> {
  using Branch = detail::Branch<S, K>;
  using Factor = typename Branch::Factor;

 public:
  static constexpr const char* who = "lowrank::LowRank";

  LowRank(Index m, Index n, const LowRankOptions& options = {}) {
    detail::check_weight_shape(who, m, n);
    detail::check_rank(who, options.rank);
    A_ = Trainable<S>("A", options.rank, n);
    B_ = Trainable<S>("B", m, options.rank);
    const double deviation = std::pow(double(options.rank) * double(m + n), -0.25);
    detail::fill_gaussian(A_.value, deviation, options.seed, 0);
    detail::fill_gaussian(B_.value, deviation, options.seed, 1);
  }
  /// B = U sqrt(sigma), A = sqrt(sigma) V^T of W, cut at the rank: the nearest weight of that rank.
  template <class M>
  void initialize(const M& W, Workspace& workspace) {
    const detail::Door door(who, rows(), cols());
    const auto from = door.base(W).memory;
    if (rank() > std::min(rows(), cols()))
      detail::bad_argument(who, "rank " + std::to_string(rank()), "a rank of at most " + std::to_string(std::min(rows(), cols())));
    detail::fill_pissa<S, K>(from, 1, A_.value, B_.value, workspace);
  }

  Index rows() const { return B_.value.rows(); }
  Index cols() const { return A_.value.cols(); }
  Index rank() const { return A_.value.rows(); }
  Trainable<S>& A() { return A_; }
  Trainable<S>& B() { return B_; }
  const Trainable<S>& A() const { return A_; }
  const Trainable<S>& B() const { return B_; }

  /// W <- B A, rounded once.
  template <class M>
  void write_weight(M&& W, Workspace& workspace) const {
    const detail::Door door(who, rows(), cols());
    const auto out = door.out(W, rows(), cols(), "W");
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, work(0), Path{});
    room.product(rows(), cols(), rank(), branch(0).B, branch(0).A, out.memory, linalg::Mode::Store);
  }

  void visit(auto&& f) { f(A_), f(B_); }
  void visit(auto&& f) const { f(A_), f(B_); }
  std::size_t bytes() const { return A_.value.bytes() + B_.value.bytes(); }
  std::size_t workspace_bytes(Index samples, const Path& path = {}, int threads = detail::available_threads()) const {
    Arena count;
    (void)typename Branch::Layout(count, threads, work(samples), short_of_weight(path));
    return count.used();
  }
  void on_step(std::uint64_t, auto&&) {}

 private:
  friend detail::LayerDoor<LowRank, S>;

  Work work(Index samples) const { return {rows(), cols(), rank(), samples}; }
  Branch branch(Index samples) const {
    return {work(samples), linalg::memory(A_.value), linalg::memory(B_.value), 1, {}, linalg::Mode::Store};
  }

  void run_forward(const Factor& X, const linalg::Memory<void>& Y, Index samples, Trace<S>& trace, Workspace& workspace,
                   const Pass& pass) const {
    const Branch b = branch(samples);
    const Path path = short_of_weight(pass.path);
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, b.work, path);
    b.forward(path, {}, X, trace.reserve(path.forward == Order::Composed ? 0 : rank() * samples), Y, room);
    trace.samples = samples;
    trace.pass = pass;
    trace.path = path;
  }
  void run_backward(const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace, Workspace& workspace) {
    const Branch b = branch(trace.samples);
    const Path& path = trace.path;
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, b.work, path);
    this->visit([](auto& p) { p.gradient.allocate(); });
    b.data_gradient(path, {}, dY, dX, room);
    const S* H = trace.memory.data();
    if (room.again != nullptr) b.hidden(X, room.again, room), H = room.again;
    b.weight_gradients(path, X, dY, H, &A_.gradient, &B_.gradient, room);
  }

  Trainable<S> A_, B_;
};

}  // namespace lowrank
