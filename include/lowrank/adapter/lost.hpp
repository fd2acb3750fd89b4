// LOST: a weight trained from scratch as a low-rank part beside a few of its columns, kept dense (arXiv 2508.02668):
//
//   Y = g B phi(A X) + (1 - g) W_s X_I        A r x n, B m x r, W_s m x k, I: k input features, phi = SiLU or identity
//
// First values from a dense first weight W = U S V^T:  B = U_r sqrt(S_r), A = sqrt(S_r) V_r^T;  I holds the columns that
// have most of what is left, c_j^2 = sum_(r < i <= r + q) s_i^2 v_ji^2;  W_s = W_I.
// Follows the paper; of the published precursor code neither the residual of an already truncated weight (which is zero)
// nor the swapped factors of one of its branches.
#pragma once

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/initialize.hpp>
#include <lowrank/adapter/merge.hpp>
#include <lowrank/linalg/sigmoid.hpp>
#include <lowrank/linalg/top_k.hpp>

namespace lowrank::inline LOWRANK_ABI {

enum class Activation { Silu, Identity };

struct LostOptions {
  Index rank = 128;
  double density = 0.05;     // of columns: k = max(1, floor(density n))
  double mix = 0.5;          // g; 1: the low-rank part alone
  Index residual_rank = 256; // q: how much of the spectrum beyond the rank chooses the columns
  Activation activation = Activation::Silu;
};

template <class S, class K = kernel::Best>
class Lost : public detail::LayerDoor<Lost<S, K>, S> {
  using Factor = linalg::Factor<S, K>;

 public:
  static constexpr const char* who = "lowrank::Lost";

  /// From a dense first weight, of which the layer keeps the parts above.
  template <class M>
  explicit Lost(const M& W, const LostOptions& options = {}) : options_(options) {
    const auto w = lowrank::view(W);
    detail::check_weight_shape(who, w.rows, w.cols);
    const Index least = std::min(w.rows, w.cols);
    if (options.rank < 1 || options.rank > least)
      detail::bad_argument(who, "rank = " + std::to_string(options.rank), "a rank from 1 to " + std::to_string(least));
    if (!(options.density >= 0 && options.density <= 1)) detail::bad_argument(who, "density = " + std::to_string(options.density), "a number in [0, 1]");
    if (!(options.mix >= 0 && options.mix <= 1)) detail::bad_argument(who, "mix = " + std::to_string(options.mix), "a number in [0, 1]");
    if (options.residual_rank < 0) detail::bad_argument(who, "residual_rank = " + std::to_string(options.residual_rank), "a number >= 0");
    A_ = Trainable<S>("A", options.rank, w.cols);
    B_ = Trainable<S>("B", w.rows, options.rank);
    choose_columns(linalg::memory(View<const typename decltype(w)::Scalar>(w)), w.rows, w.cols);
  }

  Index rows() const { return B_.value.rows(); }
  Index cols() const { return A_.value.cols(); }
  Index rank() const { return A_.value.rows(); }
  /// The k input features of W_s, ascending.
  const Buffer<std::int32_t>& columns() const { return columns_; }
  const LostOptions& options() const { return options_; }
  Trainable<S>& A() { return A_; }
  Trainable<S>& B() { return B_; }
  Trainable<S>& dense() { return dense_; }

  /// W <- g B A, and (1 - g) W_s added to its columns I. Only for phi = identity: otherwise there is no such weight.
  template <class M>
  void write_weight(M&& W, Workspace& workspace) const {
    if (options_.activation != Activation::Identity) detail::bad_argument(who, "write_weight with an activation between the factors", "Activation::Identity");
    const detail::Door door(who, rows(), cols());
    const auto out = door.out(W, rows(), cols(), "W");
    const Layout room = detail::lay_out<Layout>(workspace, *this, Index(0));
    Buffer<S> sum(rows(), cols());
    room.product(rows(), cols(), rank(), linalg::memory(B_.value), linalg::memory(A_.value), linalg::memory(sum), linalg::Mode::Store, options_.mix);
    for (Index k = 0; k < columns_.size(); ++k)
      K::combine(rows(), 1 - options_.mix, dense_.value.column(k), 1.0, sum.column(columns_[k]), sum.column(columns_[k]));
    detail::write_dense(out.memory, rows(), cols(), sum.data());
  }

  void visit(auto&& f) { f(A_), f(B_), f(dense_); }
  void visit(auto&& f) const { f(A_), f(B_), f(dense_); }
  std::size_t bytes() const { return A_.value.bytes() + B_.value.bytes() + dense_.value.bytes() + columns_.bytes(); }
  void on_step(std::uint64_t, auto&&) {}

 private:
  friend detail::LayerDoor<Lost, S>;
  static constexpr linalg::Mode store = linalg::Mode::Store, add = linalg::Mode::Add;

  struct Layout {
    linalg::Product<S, K> product;
    S *gathered, *inner;  // X_I or its gradient (k x N), phi(A X) or its gradient (r x N)
    Layout(Arena& arena, int threads, const Lost& of, Index samples)
        : product(arena, threads, std::max({of.rows(), of.cols(), of.rank(), samples})),
          gathered(arena.take<S>(of.columns_.size() * samples)), inner(arena.take<S>(of.rank() * samples)) {}
  };

  void choose_columns(const linalg::Memory<const void>& W, Index m, Index n) {
    const Index r = rank(), all = std::min(std::min(m, n), r + options_.residual_rank);
    struct Decomposition {
      linalg::Team<S, K> team;
      linalg::TruncatedSvd<S, K> svd;
      S *left, *right;
      double *sigma, *score;
      std::int32_t* work;
      Decomposition(Arena& arena, int threads, Index rows, Index cols, Index triplets)
          : team(arena, threads, std::max(rows, cols)), svd(arena, rows, cols, triplets, threads), left(arena.take<S>(rows * triplets)),
            right(arena.take<S>(cols * triplets)), sigma(arena.take<double>(triplets)), score(arena.take<double>(cols)),
            work(arena.take<std::int32_t>(cols)) {}
    };
    Workspace workspace;
    const Decomposition room = detail::lay_out<Decomposition>(workspace, m, n, all);
    const Factor from(W);
    room.svd(from, room.left, room.right, room.sigma, room.team);
    for (Index k = 0; k < r; ++k) {
      const S root = S(std::sqrt(room.sigma[k]));
      for (Index i = 0; i < m; ++i) B_.value(i, k) = root * room.left[i + k * m];
      for (Index j = 0; j < n; ++j) A_.value(k, j) = root * room.right[j + k * n];
    }
    std::fill_n(room.score, n, 0.0);
    for (Index i = r; i < all; ++i)
      for (Index j = 0; j < n; ++j) {
        const double x = room.sigma[i] * double(room.right[j + i * n]);
        room.score[j] += x * x;
      }
    const Index k = std::max<Index>(1, Index(std::floor(options_.density * double(n))));
    columns_ = Buffer<std::int32_t>(k, 1);
    linalg::top_k(room.score, n, k, room.work, columns_.data());
    dense_ = Trainable<S>("dense", m, k);
    for (Index c = 0; c < k; ++c) from.load(0, m, columns_[c], 1, dense_.value.column(c), m);
  }

  /// gathered <- X_I; 64 samples a piece.
  void gather(const Factor& X, Index N, const Layout& room) const {
    const Index k = columns_.size();
    detail::for_each((N + 63) / 64, room.product.threads(), [&](Index block, int) {
      const Index t0 = block * 64, width = std::min<Index>(64, N - t0);
      S* to = room.gathered + t0 * k;
      linalg::with_scalar(X.memory.dtype, [&]<class T>(T*) {
        for (Index t = 0; t < width; ++t)
          for (Index c = 0; c < k; ++c) to[c + t * k] = S(*X.memory.template at<const T>(columns_[c], t0 + t));
      });
    });
  }

  // the trace holds A X, before the activation
  void run_forward(const Factor& X, const linalg::Memory<void>& Y, Index N, Trace<S>& trace, Workspace& workspace, const Pass& pass) const {
    const Index m = rows(), r = rank(), k = columns_.size();
    const Layout room = detail::lay_out<Layout>(workspace, *this, N);
    S* H = trace.reserve(r * N);
    room.product(r, N, cols(), linalg::memory(A_.value), X, linalg::memory(H, r), store);
    activate(H, room.inner, r * N, room);
    gather(X, N, room);
    room.product(m, N, {r, linalg::memory(B_.value), linalg::memory(room.inner, r), options_.mix},
                 {k, linalg::memory(dense_.value), linalg::memory(room.gathered, k), 1 - options_.mix}, Y, store);
    trace.samples = N;
    trace.pass = pass;
  }

  void run_backward(const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace, Workspace& workspace) {
    const Index m = rows(), n = cols(), r = rank(), k = columns_.size(), N = trace.samples;
    const Layout room = detail::lay_out<Layout>(workspace, *this, N);
    const S* H = trace.memory.data();
    this->visit([](auto& p) { p.gradient.allocate(); });
    const double g = options_.mix;
    const Factor inner(linalg::memory(room.inner, r)), gathered(linalg::memory(room.gathered, k));

    activate(H, room.inner, r * N, room);
    room.product(m, r, N, dY, inner.transposed(), linalg::memory(B_.gradient), add, g);
    gather(X, N, room);
    room.product(m, k, N, dY, gathered.transposed(), linalg::memory(dense_.gradient), add, 1 - g);

    room.product(r, N, m, linalg::transposed(linalg::memory(B_.value)), dY, linalg::memory(room.inner, r), store, g);
    differentiate(H, room.inner, r * N, room);
    room.product(r, n, N, inner, X.transposed(), linalg::memory(A_.gradient), add);
    if (!dX.present()) return;
    room.product(n, N, r, linalg::transposed(linalg::memory(A_.value)), inner, dX.memory, store);
    room.product(k, N, m, linalg::transposed(linalg::memory(dense_.value)), dY, linalg::memory(room.gathered, k), store, 1 - g);
    detail::for_each((N + 63) / 64, room.product.threads(), [&](Index block, int) {
      const Index t0 = block * 64, width = std::min<Index>(64, N - t0);
      linalg::with_scalar(dX.memory.dtype, [&]<class T>(T*) {
        for (Index t = t0; t < t0 + width; ++t)
          for (Index c = 0; c < k; ++c) {
            T& to = *dX.memory.template at<T>(columns_[c], t);
            to = T(S(to) + room.gathered[c + t * k]);
          }
      });
    });
  }

  /// Z = H sigmoid(H), or H.
  void activate(const S* H, S* Z, Index size, const Layout& room) const {
    in_pieces(size, room, [&](Index i, Index n) {
      if (options_.activation == Activation::Identity) std::copy_n(H + i, n, Z + i);
      else linalg::silu<K>(n, H + i, Z + i);
    });
  }
  /// D <- D s (1 + H (1 - s)), s = sigmoid(H).
  void differentiate(const S* H, S* D, Index size, const Layout& room) const {
    if (options_.activation == Activation::Identity) return;
    in_pieces(size, room, [&](Index i, Index n) { linalg::silu_backward<K>(n, H + i, D + i); });
  }
  template <class F>
  static void in_pieces(Index size, const Layout& room, const F& f) {
    constexpr Index piece = 4096;
    detail::for_each((size + piece - 1) / piece, room.product.threads(), [&](Index p, int) {
      f(p * piece, std::min(piece, size - p * piece));
    });
  }

  LostOptions options_;
  Trainable<S> A_, B_, dense_;
  Buffer<std::int32_t> columns_;
};

}  // namespace lowrank
