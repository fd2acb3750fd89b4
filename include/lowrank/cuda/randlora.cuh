// RandLoRA on a device: the full-rank change s P Q of lowrank::RandLora, or its transpose where the weight is wide, from frozen random
// bases of which only diagonals are trained; lowrank/adapter/randlora.hpp has the equations.
//
//   lowrank::cuda::RandBases<float, lowrank::cuda::Context<>> bases(context, D, d, r, a, b);    // made on the CPU; all layers share them
//   lowrank::cuda::RandLora<float, lowrank::cuda::Context<>> layer(context, m, n, bases, {.alpha = 20.0 * r});
//   layer.forward(W, X, Y, trace);
//   layer.backward(W, X, dY, dX, trace);           // dX, and the gradients of lambda and gamma are added to
//
// Q is made anew in every pass and, like its gradient, whole: min(m, n) x r K numbers of workspace each, about as many as the square of the
// weight's smaller side. Dropout is on the CPU only.
#pragma once

#include <lowrank/cuda/adapter.cuh>
#include <lowrank/cuda/sums.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// The frozen bases: A (r x smaller) and P = [B_0 .. B_(K-1)] (larger x r K), K = ceil(smaller / r).
template <class S, class B>
class RandBases {
 public:
  /// From the CPU's memory. a: smaller x r, the transpose of A, and b: larger x r K, both column-major, as lowrank::RandBases has them; bases of
  /// two bits are given as the numbers they stand for.
  RandBases(B& backend, Index larger, Index smaller, Index rank, const S* a, const S* b) : A_(smaller, rank), P_(larger, rank * ceil_div(smaller, most<Index>(rank, 1))) {
    if (rank < 1 || smaller < 1 || larger < smaller)
      detail::bad_argument("lowrank::cuda::RandBases", detail::shape_text(larger, smaller) + " and rank " + std::to_string(rank), "1 <= smaller <= larger, rank >= 1");
    A_.allocate(backend), P_.allocate(backend);
    backend.upload(A_.data(), a, A_.bytes());
    backend.upload(P_.data(), b, P_.bytes());
  }

  Index rank() const { return A_.cols(); }
  Index smaller() const { return A_.rows(); }
  Index larger() const { return P_.rows(); }
  const S* A() const { return A_.data(); }
  Operand<const S> P() const { return columns<const S>(P_.data(), larger()); }
  std::size_t bytes() const { return A_.bytes() + P_.bytes(); }

 private:
  Array<S, B> A_, P_;
};

/// Q_ji = lambda_kb gamma_bi A_ki, and where it lies: (j, i) at j down + i across.
template <class S>
struct RandFactor {
  const S *lambda, *gamma, *A;  // r x K, K x d, and A's transpose, `ld` x r
  Index r, K, d, ld;
  Pairing pairing;
  Index down, across;

  LOWRANK_HOST_DEVICE Index rows() const { return r * K; }
  LOWRANK_HOST_DEVICE Index row(Index k, Index b) const { return pairing == Pairing::Peft ? k * K + b : b * r + k; }
  LOWRANK_HOST_DEVICE Index k_of(Index j) const { return pairing == Pairing::Peft ? j / K : j % r; }
  LOWRANK_HOST_DEVICE Index b_of(Index j) const { return pairing == Pairing::Peft ? j % K : j / r; }
};

/// Q, entry by entry.
template <class S>
struct DrawFactor {
  RandFactor<S> q;
  S* out;

  LOWRANK_HOST_DEVICE Index size() const { return q.rows() * q.d; }
  LOWRANK_DEVICE void operator()(Index e) const {
    const Index R = q.r * q.K;
    const Index j = q.down == 1 ? e % R : e / q.d, i = q.down == 1 ? e / R : e % q.d, k = q.k_of(j), b = q.b_of(j);
    out[j * q.down + i * q.across] = q.lambda[k + b * q.r] * q.gamma[b + i * q.K] * q.A[i + k * q.ld];
  }
};

/// dlambda_kb += sum_i dQ_ji A_ki gamma_bi, in double, a block for each.
template <class S>
struct LambdaGradient {
  static constexpr int threads = 256;
  RandFactor<S> q;
  const S* dq;
  S* out;

  Grid grid() const { return {q.rows(), shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index j = block.index(), k = q.k_of(j), b = q.b_of(j);
    double* room = block.template shared<double>(threads);
    auto mine = block.template local<double>();
    block.each([&](int t) {
      double sum = 0;
      for (Index i = t; i < q.d; i += threads) sum += double(dq[j * q.down + i * q.across]) * double(q.A[i + k * q.ld]) * double(q.gamma[b + i * q.K]);
      mine[t] = sum;
    });
    const double sum = block_sum(block, mine, room);
    block.each([&](int t) {
      if (t == 0) out[k + b * q.r] += S(sum);
    });
  }
};
/// dgamma_bi += sum_k dQ_ji lambda_kb A_ki.
template <class S>
struct GammaGradient {
  RandFactor<S> q;
  const S* dq;
  S* out;

  LOWRANK_HOST_DEVICE Index size() const { return q.K * q.d; }
  LOWRANK_DEVICE void operator()(Index e) const {
    const Index b = e % q.K, i = e / q.K;
    double sum = 0;
    for (Index k = 0; k < q.r; ++k) sum += double(dq[q.row(k, b) * q.down + i * q.across]) * double(q.lambda[k + b * q.r]) * double(q.A[i + k * q.ld]);
    out[e] += S(sum);
  }
};

/// Machine: a Backend.
template <class S, class Machine>
class RandLora {
 public:
  using Scalar = S;
  using Bases = RandBases<S, Machine>;

  /// For an m x n weight; backend and bases, which must cover the weight, outlive the adapter. lambda = 0, gamma = 1 / min(m, n). Throws
  /// std::invalid_argument, naming what is wrong.
  RandLora(Machine& backend, Index m, Index n, const Bases& bases, const RandLoraOptions& options = {})
      : backend_(&backend), options_(options), bases_(&bases), m_(m), n_(n), lambda_("lambda", bases.rank(), blocks()), gamma_("gamma", blocks(), smaller()) {
    detail::check_adapter(who, m, n, bases.rank(), options.alpha);
    detail::require(options.dropout == 0, who, "dropout", options.dropout, "0: dropout is on the CPU only");
    if (bases.larger() < larger() || bases.smaller() < smaller())
      detail::bad_argument(who, detail::shape_text(m, n), "a weight of at most " + detail::shape_text(bases.larger(), bases.smaller()));
    lambda_.value.allocate(backend), gamma_.value.allocate(backend);
    launch(backend, Fill<S>{gamma_.value.data(), gamma_.value.size(), S(1 / double(smaller()))});
  }

  Index rows() const { return m_; }
  Index cols() const { return n_; }
  Index rank() const { return bases_->rank(); }
  /// K: how many bases this weight uses.
  Index blocks() const { return ceil_div(smaller(), rank()); }
  double scale() const { return options_.alpha / double(rank()); }
  const RandLoraOptions& options() const { return options_; }
  Trainable<S, Machine>& lambda() { return lambda_; }
  Trainable<S, Machine>& gamma() { return gamma_; }

  /// Y <- (W + change) X; with no_base, Y <- Y + change X. X n x N, Y m x N. Throws std::invalid_argument (shapes, overlap).
  void forward(const View<const S>& W, const View<const S>& X, const View<S>& Y, Trace<S, Machine>& trace, const Path& wanted = {}) const {
    const Index N = X.cols;
    check_base(W);
    detail::check_shape(who, "X", X, cols(), N), detail::check_shape(who, "Y", Y, rows(), N);
    detail::check_apart(who, Y, X), detail::check_apart(who, Y, W);
    trace.samples = N;
    trace.path = choose(work(N), wanted);
    S* H = trace.reserve(*backend_, trace.path.forward == Order::Composed ? 0 : inner() * N);
    if (N == 0) return;
    const Room room = lay_out(N, trace.path);
    branch(N, room).forward(trace.path, W, X, H, Y, room.factors);
  }
  /// dX <- (W + change)^T dY, added to with no_base, left out with no_gradient; adds to the gradients of lambda and gamma.
  void backward(const View<const S>& W, const View<const S>& X, const View<const S>& dY, const View<S>& dX, const Trace<S, Machine>& trace) {
    const Index N = dY.cols;
    detail::check_trace(who, trace.samples, N);
    check_base(W);
    detail::check_shape(who, "X", X, cols(), N), detail::check_shape(who, "dY", dY, rows(), N);
    if (dX.data != nullptr) detail::check_shape(who, "dX", dX, cols(), N);
    detail::check_apart(who, dX, X), detail::check_apart(who, dX, dY), detail::check_apart(who, dX, W);
    lambda_.gradient.allocate(*backend_), gamma_.gradient.allocate(*backend_);
    if (N == 0) return;
    const Room room = lay_out(N, trace.path);
    const Branch<S, Machine> b = branch(N, room);
    b.data_gradient(trace.path, W, dY, dX, room.factors);
    const S* H = trace.memory.data();
    if (room.factors.again != nullptr) b.hidden(X, room.factors.again), H = room.factors.again;
    backend_->clear(room.dq, std::size_t(inner() * smaller()) * sizeof(S));
    b.weight_gradients(trace.path, X, dY, H, wide() ? nullptr : room.dq, wide() ? room.dq : nullptr, room.factors);
    launch(*backend_, LambdaGradient<S>{factor(), room.dq, lambda_.gradient.data()});
    launch(*backend_, GammaGradient<S>{factor(), room.dq, gamma_.gradient.data()});
  }

  /// W <- W + factor change.
  void add_change(const View<S>& W, double factor) const {
    detail::check_shape(who, "the weight", W, rows(), cols());
    branch(0, lay_out(0, {Order::Factored, Order::Factored, lowrank::Gradient::Factored})).product(operand(W), S(factor), 1);
  }
  void merge_into(const View<S>& W) const { add_change(W, 1); }
  void unmerge_from(const View<S>& W) const { add_change(W, -1); }

  void visit(auto&& f) { f(lambda_), f(gamma_); }
  /// Of this layer; the bases are counted once per model, by themselves.
  std::size_t bytes() const { return lambda_.value.bytes() + gamma_.value.bytes(); }
  std::size_t workspace_bytes(Index samples, const Path& wanted = {}) const {
    Arena count;
    (void)Room(count, work(samples), choose(work(samples), wanted), smaller());
    return count.used();
  }

 private:
  static constexpr const char* who = "lowrank::cuda::RandLora";

  struct Room {
    S *q, *dq;  // d x R each
    typename Branch<S, Machine>::Room factors;

    Room(Arena& arena, const Work& w, const Path& path, Index d) : q(arena.take<S>(w.rank * d)), dq(arena.take<S>(w.rank * d)), factors(arena, w, path) {}
  };
  /// With Q in it.
  Room lay_out(Index samples, const Path& path) const {
    Arena count;
    (void)Room(count, work(samples), path, smaller());
    Arena arena(backend_->workspace(count.used()));
    const Room room(arena, work(samples), path, smaller());
    launch(*backend_, DrawFactor<S>{factor(), room.q});
    return room;
  }
  /// A tall weight's Q stands for A and lies as it does, a wide one's Q^T for B.
  RandFactor<S> factor() const {
    return {lambda_.value.data(), gamma_.value.data(), bases_->A(), rank(), blocks(), smaller(), bases_->smaller(), options_.pairing, wide() ? m_ : 1, wide() ? 1 : inner()};
  }
  Branch<S, Machine> branch(Index samples, const Room& room) const {
    if (wide()) return {*backend_, work(samples), bases_->P().turned(), columns<const S>(room.q, m_), S(scale()), 1};
    return {*backend_, work(samples), columns<const S>(room.q, inner()), bases_->P(), S(scale()), 1};
  }
  void check_base(const View<const S>& W) const {
    if (W.data != nullptr) detail::check_shape(who, "the weight", W, rows(), cols());
  }
  bool wide() const { return m_ < n_; }
  Index larger() const { return most(m_, n_); }
  Index smaller() const { return least(m_, n_); }
  Index inner() const { return rank() * blocks(); }
  Work work(Index samples) const { return {m_, n_, inner(), samples}; }

  Machine* backend_;
  RandLoraOptions options_;
  const Bases* bases_;
  Index m_, n_;
  Trainable<S, Machine> lambda_, gamma_;
};

}  // namespace cuda
}  // namespace lowrank
