// DoRA: LoRA for the direction of each row of the weight, and a trained length for it (arXiv 2402.09353):
//
//   V = W + s B A      nu_i = ||V_i||      q = mu / nu      Y = diag(q) V X
//
// (rows, one per output; the paper writes W transposed and says columns). At first mu = nu, so nothing changes.
// NormGradient::Detached, the published form, takes nu for a constant in backward; Exact differentiates it too.
//
// Neither B A nor V is formed for the norms:  nu^2 = sum W^2 + 2 s sum B o (W A^T) + s^2 sum B o (B A A^T) over each row,
// the sums in double, O(m n r). The first is kept from initialize(W): W is frozen.
// Deviation from PEFT: no dropout (its form needs another m x n product per token), and rows of W that are zero do not
// divide by zero.
#pragma once

#include <limits>  // std::numeric_limits

#include <lowrank/adapter/lora.hpp>

namespace lowrank::inline LOWRANK_ABI {

enum class NormGradient { Detached, Exact };

struct DoraOptions {
  Index rank = 8;
  double alpha = 8;
  Scaling scaling = Scaling::ByRank;
  NormGradient norm_gradient = NormGradient::Detached;
  std::uint64_t seed = 0;
};

template <class S, class K = kernel::Best>
class Dora : public detail::AdapterDoor<Dora<S, K>, S> {
  using Branch = detail::Branch<S, K>;
  using Factor = typename Branch::Factor;

 public:
  static constexpr const char* who = "lowrank::Dora";

  /// On the weight W, whose rows' lengths become the magnitudes.
  template <class M>
  explicit Dora(const M& W, const DoraOptions& options = {}) : options_(options) {
    const auto w = lowrank::view(W);
    detail::check_weight_shape(who, w.rows, w.cols);
    detail::check_rank(who, options.rank);
    if (!detail::is_finite(options.alpha)) detail::bad_argument(who, "alpha = " + std::to_string(options.alpha), "a finite number");
    A_ = Trainable<S>("A", options.rank, w.cols);
    B_ = Trainable<S>("B", w.rows, options.rank);
    magnitude_ = Trainable<S>("magnitude", w.rows, 1);
    squares_ = Buffer<double>(w.rows, 1);
    detail::fill_uniform(A_.value, 1 / std::sqrt(double(w.cols)), options.seed, 0);
    Workspace workspace;
    initialize(W, workspace);
  }
  /// mu <- nu, for the present A and B: the function becomes that of W + s B A. Again whenever W has changed.
  template <class M>
  void initialize(const M& W, Workspace& workspace) {
    const detail::Door door(who, rows(), cols());
    const Factor from(door.base(W).memory);
    const Layout room = detail::lay_out<Layout>(workspace, work(0), Path{});
    linalg::row_dots(rows(), cols(), from, from, squares_.data(), room.factors.product.team());
    norms(from, room);
    for (Index i = 0; i < rows(); ++i) magnitude_.value[i] = S(room.norm[i]);
  }

  Index rows() const { return B_.value.rows(); }
  Index cols() const { return A_.value.cols(); }
  Index rank() const { return A_.value.rows(); }
  double scale() const {
    const double r = double(rank());
    return options_.alpha / (options_.scaling == Scaling::ByRank ? r : std::sqrt(r));
  }
  const DoraOptions& options() const { return options_; }
  Trainable<S>& A() { return A_; }
  Trainable<S>& B() { return B_; }
  Trainable<S>& magnitude() { return magnitude_; }
  const Trainable<S>& A() const { return A_; }
  const Trainable<S>& B() const { return B_; }
  const Trainable<S>& magnitude() const { return magnitude_; }

  /// W <- round(diag(mu / nu) (W + s B A)). To take it back: KeepCopy or Fp32Master; nu cannot be had from the result.
  template <class M>
  MergeReport merge_into(M&& W, Workspace& workspace) const {
    const auto w = linalg::memory(detail::merge_view(who, rows(), cols(), W));
    const Layout room = detail::lay_out<Layout>(workspace, work(0), Path{});
    norms(Factor(w), room);
    std::vector<S> q(magnitude_.value.data(), magnitude_.value.data() + rows());
    for (Index i = 0; i < rows(); ++i) q[std::size_t(i)] = S(double(q[std::size_t(i)]) / room.norm[i]);
    const Branch b = branch(0);
    return detail::add_product<S, K>(w, rows(), cols(), rank(), b.B, b.A, scale(), room.factors.product, q.data());
  }

  void visit(auto&& f) { f(A_), f(B_), f(magnitude_); }
  void visit(auto&& f) const { f(A_), f(B_), f(magnitude_); }
  std::size_t bytes() const { return A_.value.bytes() + B_.value.bytes() + magnitude_.value.bytes() + squares_.bytes(); }
  std::size_t workspace_bytes(Index samples, const Path& path = {}, int threads = detail::available_threads()) const {
    Arena count;
    (void)Layout(count, threads, work(samples), choose(work(samples), path));
    return count.used();
  }
  void on_step(std::uint64_t, auto&&) {}

 private:
  friend detail::AdapterDoor<Dora, S>;
  static constexpr linalg::Mode store = linalg::Mode::Store, add = linalg::Mode::Add;

  struct Layout {
    typename Branch::Layout factors;
    S *C, *gram, *e;      // V A^T (m x r), A A^T or B^T diag(e) B (r x r), m
    double *norm, *sums;  // m each
    Layout(Arena& arena, int threads, const Work& w, const Path& path)
        : factors(arena, threads, w, path), C(arena.take<S>(w.m * w.rank)), gram(arena.take<S>(w.rank * w.rank)),
          e(arena.take<S>(w.m)), norm(arena.take<double>(w.m)), sums(arena.take<double>(w.m)) {}
  };

  Work work(Index samples) const { return {rows(), cols(), rank(), samples}; }
  Branch branch(Index samples) const {
    return {work(samples), linalg::memory(A_.value), linalg::memory(B_.value), scale(), {}};
  }

  /// norm <- nu; C <- W A^T + s B A A^T = V A^T on the way.
  void norms(const Factor& W, const Layout& room) const {
    const Index m = rows(), n = cols(), r = rank();
    const auto& product = room.factors.product;
    const Factor A(linalg::memory(A_.value)), B(linalg::memory(B_.value));
    product(m, r, n, W, A.transposed(), linalg::memory(room.C, m), store);
    product(r, r, n, A, A.transposed(), linalg::memory(room.gram, r), store);
    // with C = W A^T:  2 s sum B o C + s^2 sum B o (B gram) = sum B o (2 s C + s^2 B gram)
    linalg::row_dots(m, r, B, Factor(linalg::memory(room.C, m)), room.sums, product.team());
    for (Index i = 0; i < m; ++i) room.norm[i] = squares_[i] + scale() * room.sums[i];
    product(m, r, r, B, linalg::memory(room.gram, r), linalg::memory(room.C, m), add, scale());
    linalg::row_dots(m, r, B, Factor(linalg::memory(room.C, m)), room.sums, product.team());
    // a row of V that is zero up to cancellation counts as having a length of rounding, and one of W = 0 the least one
    const double least = double(std::numeric_limits<S>::epsilon());
    for (Index i = 0; i < m; ++i) {
      const double squared = room.norm[i] + scale() * room.sums[i];
      room.norm[i] = std::sqrt(std::max({squared, least * least * squares_[i], double(std::numeric_limits<S>::min())}));
    }
  }

  // the trace holds H (r x N), Z = V X (m x N), q and nu (m each)
  void run_forward(const detail::Input& W, const Factor& X, const linalg::Memory<void>& Y, Index N, Trace<S>& trace,
                   Workspace& workspace, const Pass& pass) const {
    if (!W.present()) detail::bad_argument(who, "no_base", "the weight: its rows are rescaled");
    const Index m = rows();
    const Branch b = branch(N);
    const Path path = choose(b.work, pass.path);
    const Layout room = detail::lay_out<Layout>(workspace, b.work, path);
    S* H = trace.reserve(rank() * N + m * N + 2 * m);
    S *Z = H + rank() * N, *q = Z + m * N, *nu = q + m;
    norms(W.memory, room);
    for (Index i = 0; i < m; ++i) {
      nu[i] = S(room.norm[i]);
      q[i] = S(double(magnitude_.value[i]) / room.norm[i]);
    }
    b.forward(path, W, X, H, linalg::memory(Z, m), room.factors);
    detail::for_each((N + 63) / 64, room.factors.product.threads(), [&](Index block, int) {
      const Index t0 = block * 64, width = std::min<Index>(64, N - t0);
      linalg::with_scalar(Y.dtype, [&]<class T>(T*) {
        for (Index t = t0; t < t0 + width; ++t)
          for (Index i = 0; i < m; ++i) *Y.template at<T>(i, t) = T(q[i] * Z[i + t * m]);
      });
    });
    trace.samples = N;
    trace.pass = pass;
    trace.path = path;
  }

  void run_backward(const detail::Input& W, const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace,
                    Workspace& workspace) {
    if (!W.present()) detail::bad_argument(who, "no_base", "the weight: its rows are rescaled");
    const Index m = rows(), n = cols(), r = rank(), N = trace.samples;
    const Branch b = branch(N);
    const Path& path = trace.path;
    const Layout room = detail::lay_out<Layout>(workspace, b.work, path);
    const S* H = trace.memory.data();
    const S *Z = H + r * N, *q = Z + m * N, *nu = q + m;
    this->visit([](auto& p) { p.gradient.allocate(); });
    const auto& product = room.factors.product;

    Factor D = dY;  // diag(q) dY
    D.row_scale = q;
    b.data_gradient(path, W, D, dX, room.factors);
    if (room.factors.again != nullptr) b.hidden(X, room.factors.again, room.factors), H = room.factors.again;
    b.weight_gradients(path, X, D, H, &A_.gradient, &B_.gradient, room.factors);

    // dmu_i = <dY_i, Z_i> / nu_i
    linalg::row_dots(m, N, dY, Factor(linalg::memory(const_cast<S*>(Z), m)), room.sums, product.team());
    for (Index i = 0; i < m; ++i) magnitude_.gradient[i] += S(room.sums[i] / double(nu[i]));
    if (options_.norm_gradient == NormGradient::Detached) return;

    // dnu_i = -mu_i / nu_i^2 <dY_i, Z_i>;  with e = dnu / nu:  dB += s diag(e) V A^T,  dA += s (diag(e) B)^T V
    for (Index i = 0; i < m; ++i) room.e[i] = S(-double(q[i]) / (double(nu[i]) * double(nu[i])) * room.sums[i]);
    norms(W.memory, room);
    for (Index k = 0; k < r; ++k)
      for (Index i = 0; i < m; ++i) B_.gradient(i, k) += S(scale()) * room.e[i] * room.C[i + k * m];
    const Factor eB(linalg::memory(std::as_const(B_.value)), room.e, nullptr);
    product(r, n, m, eB.transposed(), W.memory, linalg::memory(A_.gradient), add, scale());
    product(r, r, m, eB.transposed(), linalg::memory(B_.value), linalg::memory(room.gram, r), store);
    product(r, n, r, linalg::memory(room.gram, r), linalg::memory(A_.value), linalg::memory(A_.gradient), add, scale() * scale());
  }

  DoraOptions options_;
  Trainable<S> A_, B_, magnitude_;
  Buffer<double> squares_;  // of W's rows
};

}  // namespace lowrank
