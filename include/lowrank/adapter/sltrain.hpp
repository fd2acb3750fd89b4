// SLTrain: a weight that is low-rank plus sparse, trained from scratch, W = s B A + S, s = alpha / r (arXiv 2406.02214).
// S has floor(density m n) entries at random places that never change; their values v are trained.
//
//   Y = s B (A X) + S X
//   dB = s dY (A X)^T   dA = s (B^T dY) X^T   dv_k = dY_(i_k) . X_(j_k)   dX = s A^T (B^T dY) + S^T dY
//
// There is no m x n array anywhere, neither in forward nor in backward (the published code makes W and dY X^T for a
// moment in each layer); Order::Composed and Gradient::Dense, which do, are taken only when they are asked for. The
// support is stored in 2 bytes per entry up to 65536 columns, and 4 per row.
// Deviations from the published code: first places by counter RNG; no trainable scale.
#pragma once

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/initialize.hpp>
#include <lowrank/adapter/merge.hpp>
#include <lowrank/linalg/sparse.hpp>
#include <lowrank/options/adapter.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K = kernel::Best>
class SlTrain : public detail::LayerDoor<SlTrain<S, K>, S> {
  using Branch = detail::Branch<S, K>;
  using Factor = typename Branch::Factor;

 public:
  static constexpr const char* who = "lowrank::SlTrain";

  /// A ~ U(+-1/sqrt(n)), B = 0, v ~ U(+-1/sqrt(n)): W = S at first.
  SlTrain(Index m, Index n, const SlTrainOptions& options = {}) : SlTrain(options, m, n, place(m, n, options)) {}
  /// With a given support: flat row-major indices i n + j, ascending.
  template <class I>
  SlTrain(Index m, Index n, std::span<const I> flat, const SlTrainOptions& options)
      : SlTrain(options, m, n, linalg::Support(m, n, flat)) {}

  Index rows() const { return B_.value.rows(); }
  Index cols() const { return A_.value.cols(); }
  Index rank() const { return A_.value.rows(); }
  double scale() const { return options_.alpha / double(rank()); }
  const SlTrainOptions& options() const { return options_; }
  const linalg::Support& support() const { return support_; }
  Trainable<S>& A() { return A_; }
  Trainable<S>& B() { return B_; }
  Trainable<S>& values() { return values_; }
  const Trainable<S>& A() const { return A_; }
  const Trainable<S>& B() const { return B_; }
  const Trainable<S>& values() const { return values_; }

  /// W <- s B A + S, rounded once.
  template <class M>
  void write_weight(M&& W, Workspace& workspace) const {
    const Door door(who, rows(), cols());
    const auto out = door.out(W, rows(), cols(), "W");
    const Layout room = detail::lay_out<Layout>(workspace, work(0), Path{.forward = Order::Composed}, support_.entries());
    compose(room);
    detail::write_dense(out.memory, rows(), cols(), room.factors.dense);
  }

  void visit(auto&& f) { f(A_), f(B_), f(values_); }
  void visit(auto&& f) const { f(A_), f(B_), f(values_); }
  std::size_t bytes() const { return A_.value.bytes() + B_.value.bytes() + values_.value.bytes() + support_.bytes(); }
  std::size_t workspace_bytes(Index samples, const Path& path = {}, int threads = detail::available_threads()) const {
    Arena count;
    (void)Layout(count, threads, work(samples), short_of_weight(path), support_.entries());
    return count.used();
  }
  void on_step(std::uint64_t, auto&&) {}

 private:
  friend detail::LayerDoor<SlTrain, S>;
  using Door = detail::Door;

  struct Layout {
    typename Branch::Layout factors;
    linalg::SparseProduct<S, K> sparse;
    Layout(Arena& arena, int threads, const Work& w, const Path& path, Index entries)
        : factors(arena, threads, w, path), sparse(arena, threads, w.m, w.n, entries) {}
  };

  SlTrain(const SlTrainOptions& options, Index m, Index n, linalg::Support support)
      : options_(options), support_(std::move(support)) {
    detail::check_weight_shape(who, m, n);
    detail::check_rank(who, options.rank);
    A_ = Trainable<S>("A", options.rank, n);
    B_ = Trainable<S>("B", m, options.rank);
    values_ = Trainable<S>("values", support_.entries(), 1);
    detail::fill_uniform(A_.value, 1 / std::sqrt(double(n)), options.seed, 0);
    detail::fill_uniform(values_.value, 1 / std::sqrt(double(n)), options.seed, 1);
  }
  static linalg::Support place(Index m, Index n, const SlTrainOptions& options) {
    detail::check_weight_shape(who, m, n);
    if (!(options.density >= 0 && options.density <= 1))
      detail::bad_argument(who, "density = " + std::to_string(options.density), "a number in [0, 1]");
    return linalg::Support::random(m, n, Index(std::floor(options.density * double(m) * double(n))), options.seed, 2);
  }

  Work work(Index samples) const { return {rows(), cols(), rank(), samples}; }
  Branch branch(Index samples) const {
    return {work(samples), linalg::memory(A_.value), linalg::memory(B_.value), scale(), {}, linalg::Mode::Store};
  }
  /// dense <- s B A + S
  void compose(const Layout& room) const {
    branch(0).compose({}, room.factors);
    for (Index i = 0; i < rows(); ++i)
      for (Index k = support_.begin(i); k < support_.end(i); ++k)
        room.factors.dense[i + support_.column(k) * rows()] += values_.value[k];
  }

  void run_forward(const Factor& X, const linalg::Memory<void>& Y, Index samples, Trace<S>& trace, Workspace& workspace,
                   const Pass& pass) const {
    const Path path = short_of_weight(pass.path);
    const Branch b = branch(samples);
    const Layout room = detail::lay_out<Layout>(workspace, b.work, path, support_.entries());
    S* H = trace.reserve(path.forward == Order::Composed ? 0 : rank() * samples);
    if (path.forward == Order::Composed) {
      compose(room);
      room.factors.product(rows(), samples, cols(), linalg::memory(room.factors.dense, rows()), X, Y, linalg::Mode::Store);
    } else {
      b.forward(path, {}, X, H, Y, room.factors);
      room.sparse.multiply(support_, values_.value.data(), samples, X, Y);
    }
    trace.samples = samples;
    trace.pass = pass;
    trace.path = path;
  }

  void run_backward(const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace, Workspace& workspace) {
    const Path& path = trace.path;
    const Branch b = branch(trace.samples);
    const Layout room = detail::lay_out<Layout>(workspace, b.work, path, support_.entries());
    this->visit([](auto& p) { p.gradient.allocate(); });
    const bool composed = path.backward == Order::Composed, dense = path.gradient == Gradient::Dense;
    if (composed && dX.present()) {
      compose(room);
      room.factors.product(cols(), trace.samples, rows(), linalg::transposed(linalg::memory(room.factors.dense, rows())), dY,
                           dX.memory, linalg::Mode::Store);
    }
    b.data_gradient(path, {}, dY, composed ? detail::Output{} : dX, room.factors);
    if (!composed || !dense)
      room.sparse.transposed(support_, values_.value.data(), trace.samples, X, dY, composed ? linalg::Memory<void>{} : dX.memory,
                             dense ? nullptr : values_.gradient.data());
    const S* H = trace.memory.data();
    if (room.factors.again != nullptr) b.hidden(X, room.factors.again, room.factors), H = room.factors.again;
    b.weight_gradients(path, X, dY, H, &A_.gradient, &B_.gradient, room.factors);
    if (dense)  // G is still there
      for (Index i = 0; i < rows(); ++i)
        for (Index k = support_.begin(i); k < support_.end(i); ++k)
          values_.gradient[k] += room.factors.dense[i + support_.column(k) * rows()];
  }

  SlTrainOptions options_;
  linalg::Support support_;
  Trainable<S> A_, B_, values_;
};

}  // namespace lowrank
