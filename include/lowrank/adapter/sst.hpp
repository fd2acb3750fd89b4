// Sparse Spectral Training: a weight kept as its singular value decomposition, W = U diag(sigma) V^T of full rank
// k = min(m, n), of which all of sigma trains and r sampled columns of U and V at a time (arXiv 2405.15481).
//
//   every `iteration` steps   the active columns go back, r new ones are drawn, l with probability mixed from uniform and
//                             sigma_l, and their moments begin anew
//   every `round` iterations  U, sigma, V <- svd(W): the columns are orthonormal again; then sigma's moments too
//   after each step           sigma <- max(sigma, 0), active columns to unit length (on_step does all of this)
//
// Enhanced, as published: the gradients of U and V leave sigma out, so that small directions learn too:
// dU_l = dY h_l^T,  dV_l = X t_l^T  with H = V^T X, T = U^T dY;  dsigma_l = t_l . h_l;  dX = V (sigma o T).
// Memory: U and V are more than W; what is saved are gradients and moments. Where the paper is silent: sigma's moments
// survive a swap and not a new decomposition.
#pragma once

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/initialize.hpp>
#include <lowrank/adapter/merge.hpp>
#include <lowrank/linalg/top_k.hpp>

namespace lowrank::inline LOWRANK_ABI {

enum class SpectralGradient { Enhanced, Exact };

struct SstOptions {
  Index rank = 64;              // r
  std::uint64_t iteration = 200;
  std::uint64_t round = 0;      // iterations; 0: as many as visit every column about once, k / r
  double uniform = 0.5;         // share of the uniform distribution in the sampling
  SpectralGradient gradient = SpectralGradient::Enhanced;
  std::uint64_t seed = 0;
};

template <class S, class K = kernel::Best>
class Sst : public detail::LayerDoor<Sst<S, K>, S> {
  using Factor = linalg::Factor<S, K>;

 public:
  static constexpr const char* who = "lowrank::Sst";

  /// From a dense first weight, which it reproduces.
  template <class M>
  explicit Sst(const M& W, const SstOptions& options = {}) : options_(options) {
    const auto w = lowrank::view(W);
    detail::check_weight_shape(who, w.rows, w.cols);
    const Index k = std::min(w.rows, w.cols);
    if (options.rank < 1 || options.rank > k)
      detail::bad_argument(who, "rank = " + std::to_string(options.rank), "a rank from 1 to " + std::to_string(k));
    if (options.iteration < 1) detail::bad_argument(who, "iteration = 0", "a number of steps");
    if (!(options.uniform >= 0 && options.uniform <= 1)) detail::bad_argument(who, "uniform = " + std::to_string(options.uniform), "a number in [0, 1]");
    if (options_.round == 0) options_.round = std::uint64_t((k + options.rank - 1) / options.rank);
    U_ = Buffer<S>(w.rows, k);
    V_ = Buffer<S>(w.cols, k);
    sigma_ = Trainable<S>("sigma", k, 1);
    left_ = Trainable<S>("U", w.rows, options.rank);
    right_ = Trainable<S>("V", w.cols, options.rank);
    active_ = Buffer<std::int32_t>(options.rank, 1);
    decompose(linalg::memory(View<const typename decltype(w)::Scalar>(w)));
    sample();
  }

  Index rows() const { return U_.rows(); }
  Index cols() const { return V_.rows(); }
  Index full() const { return U_.cols(); }
  Index rank() const { return active_.size(); }
  /// The active columns, ascending.
  const Buffer<std::int32_t>& active() const { return active_; }
  Trainable<S>& sigma() { return sigma_; }
  Trainable<S>& left() { return left_; }
  Trainable<S>& right() { return right_; }
  const SstOptions& options() const { return options_; }

  /// After the optimizers' step t, from 1. editors: "sigma", "U" and "V".
  template <class E>
  void on_step(std::uint64_t t, const E& editors) {
    for (Index l = 0; l < full(); ++l) sigma_.value[l] = std::max(sigma_.value[l], S(0));
    for (Index q = 0; q < rank(); ++q) {
      normalise(left_.value.column(q), rows());
      normalise(right_.value.column(q), cols());
    }
    if (t % options_.iteration != 0) return;
    for (Index q = 0; q < rank(); ++q) {
      std::memcpy(U_.column(active_[q]), left_.value.column(q), std::size_t(rows()) * sizeof(S));
      std::memcpy(V_.column(active_[q]), right_.value.column(q), std::size_t(cols()) * sizeof(S));
    }
    if (t / options_.iteration % options_.round == 0) {
      compose(dense_);
      decompose(linalg::memory(std::as_const(dense_)));
      auto editor = editors("sigma");
      editor.reset();
    }
    sample();
    auto u = editors("U");
    auto v = editors("V");
    u.reset();
    v.reset();
  }

  /// W <- U diag(sigma) V^T, rounded once.
  template <class M>
  void write_weight(M&& W, Workspace&) const {
    const detail::Door door(who, rows(), cols());
    const auto out = door.out(W, rows(), cols(), "W");
    Sst all = *this;
    for (Index q = 0; q < rank(); ++q) {
      std::memcpy(all.U_.column(active_[q]), left_.value.column(q), std::size_t(rows()) * sizeof(S));
      std::memcpy(all.V_.column(active_[q]), right_.value.column(q), std::size_t(cols()) * sizeof(S));
    }
    all.compose(all.dense_);
    detail::write_dense(out.memory, rows(), cols(), all.dense_.data());
  }

  void visit(auto&& f) { f(sigma_), f(left_), f(right_); }
  void visit(auto&& f) const { f(sigma_), f(left_), f(right_); }
  void visit_kept(auto&& f) { f("all_U", U_), f("all_V", V_), f("active", active_), f("draws", draws_); }
  void visit_kept(auto&& f) const { f("all_U", U_), f("all_V", V_), f("active", active_), f("draws", draws_); }
  std::size_t bytes() const {
    return U_.bytes() + V_.bytes() + sigma_.value.bytes() + left_.value.bytes() + right_.value.bytes() + active_.bytes();
  }

 private:
  friend detail::LayerDoor<Sst, S>;
  static constexpr linalg::Mode store = linalg::Mode::Store, add = linalg::Mode::Add;

  struct Layout {
    linalg::Product<S, K> product;
    S *T, *T_active;        // k x N, r x N
    S *resting, *strength;  // sigma with the active ones at zero (k), the active ones (r)
    S *dots;                // k
    double* sums;           // k
    Layout(Arena& arena, int threads, Index m, Index n, Index k, Index r, Index N)
        : product(arena, threads, std::max({m, n, N})), T(arena.take<S>(k * N)), T_active(arena.take<S>(r * N)),
          resting(arena.take<S>(k)), strength(arena.take<S>(r)), dots(arena.take<S>(k)), sums(arena.take<double>(k)) {}
  };
  Layout lay_out(Workspace& workspace, Index N) const {
    const Layout room = detail::lay_out<Layout>(workspace, rows(), cols(), full(), rank(), N);
    for (Index l = 0; l < full(); ++l) room.resting[l] = sigma_.value[l];
    for (Index q = 0; q < rank(); ++q) {
      room.resting[active_[q]] = 0;
      room.strength[q] = sigma_.value[active_[q]];
    }
    return room;
  }

  static void normalise(S* column, Index n) {
    const double length = std::sqrt(K::sum_squares(n, column));
    if (length > 0) K::combine(n, 1 / length, column, 0.0, column, column);
  }

  // the trace holds V^T X (k x N; rows of active columns are of the resting ones' old values and unused) and the active
  // V_S^T X (r x N)
  void run_forward(const Factor& X, const linalg::Memory<void>& Y, Index N, Trace<S>& trace, Workspace& workspace, const Pass& pass) const {
    const Index m = rows(), n = cols(), k = full(), r = rank();
    const Layout room = lay_out(workspace, N);
    S* H = trace.reserve((k + r) * N);
    S* H_active = H + k * N;
    room.product(k, N, n, linalg::transposed(linalg::memory(V_)), X, linalg::memory(H, k), store);
    room.product(r, N, n, linalg::transposed(linalg::memory(right_.value)), X, linalg::memory(H_active, r), store);
    room.product(m, N, {k, Factor(linalg::memory(U_), nullptr, room.resting), linalg::memory(H, k)},
                 {r, Factor(linalg::memory(left_.value), nullptr, room.strength), linalg::memory(H_active, r)}, Y, store);
    trace.samples = N;
    trace.pass = pass;
  }

  void run_backward(const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace, Workspace& workspace) {
    const Index m = rows(), n = cols(), k = full(), r = rank(), N = trace.samples;
    const Layout room = lay_out(workspace, N);
    S* H = const_cast<S*>(trace.memory.data());
    const Factor all(linalg::memory(H, k)), some(linalg::memory(H + k * N, r)), T(linalg::memory(room.T, k)), T_active(linalg::memory(room.T_active, r));
    this->visit([](auto& p) { p.gradient.allocate(); });
    room.product(k, N, m, linalg::transposed(linalg::memory(U_)), dY, linalg::memory(room.T, k), store);
    room.product(r, N, m, linalg::transposed(linalg::memory(std::as_const(left_.value))), dY, linalg::memory(room.T_active, r), store);

    linalg::row_dots(k, N, T, all, room.sums, room.product.team());
    for (Index l = 0; l < k; ++l) room.dots[l] = S(room.sums[l]);
    linalg::row_dots(r, N, T_active, some, room.sums, room.product.team());
    for (Index q = 0; q < r; ++q) room.dots[active_[q]] = S(room.sums[q]);
    for (Index l = 0; l < k; ++l) sigma_.gradient[l] += room.dots[l];

    const S* scale = options_.gradient == SpectralGradient::Exact ? room.strength : nullptr;
    Factor h = some, t = T_active;
    h.row_scale = t.row_scale = scale;
    room.product(m, r, N, dY, h.transposed(), linalg::memory(left_.gradient), add);
    room.product(n, r, N, X, t.transposed(), linalg::memory(right_.gradient), add);
    if (!dX.present()) return;
    room.product(n, N, {k, Factor(linalg::memory(std::as_const(V_)), nullptr, room.resting), T},
                 {r, Factor(linalg::memory(std::as_const(right_.value)), nullptr, room.strength), T_active}, dX.memory, store);
  }

  /// W <- U diag(sigma) V^T, the active columns having been put back.
  void compose(Buffer<S>& W) {
    if (W.size() == 0) W = Buffer<S>(rows(), cols());
    const Layout room = detail::lay_out<Layout>(own_, rows(), cols(), full(), rank(), Index(0));
    room.product(rows(), cols(), full(), Factor(linalg::memory(std::as_const(U_)), nullptr, sigma_.value.data()),
                 linalg::transposed(linalg::memory(std::as_const(V_))), linalg::memory(W), store);
  }
  void decompose(const linalg::Memory<const void>& W) {
    struct Decomposition {
      linalg::Team<S, K> team;
      linalg::TruncatedSvd<S, K> svd;
      double* sigma;
      Decomposition(Arena& arena, int threads, Index m, Index n, Index k)
          : team(arena, threads, std::max(m, n)), svd(arena, m, n, k, threads), sigma(arena.take<double>(k)) {}
    };
    const Decomposition room = detail::lay_out<Decomposition>(own_, rows(), cols(), full());
    room.svd(Factor(W), U_.data(), V_.data(), room.sigma, room.team);
    for (Index l = 0; l < full(); ++l) sigma_.value[l] = S(room.sigma[l]);
  }
  /// r columns without replacement, as an exponential race: the largest p_l / e_l, e_l ~ Exp(1).
  void sample() {
    struct Race {
      double* key;
      std::int32_t* work;
      Race(Arena& arena, int, Index k) : key(arena.take<double>(k)), work(arena.take<std::int32_t>(k)) {}
    };
    const Race room = detail::lay_out<Race>(own_, full());
    double total = 0;
    for (Index l = 0; l < full(); ++l) total += double(sigma_.value[l]);
    for (Index l = 0; l < full(); ++l) {
      const double share = total > 0 ? double(sigma_.value[l]) / total : 1 / double(full());
      const double p = options_.uniform / double(full()) + (1 - options_.uniform) * share;
      room.key[l] = p / -detail::log_uniform(uniform_bits(options_.seed, draws_, std::uint64_t(l)));
    }
    ++draws_;
    linalg::top_k(room.key, full(), rank(), room.work, active_.data());
    for (Index q = 0; q < rank(); ++q) {
      std::memcpy(left_.value.column(q), U_.column(active_[q]), std::size_t(rows()) * sizeof(S));
      std::memcpy(right_.value.column(q), V_.column(active_[q]), std::size_t(cols()) * sizeof(S));
    }
  }

  SstOptions options_;
  Buffer<S> U_, V_;
  Trainable<S> sigma_, left_, right_;
  Buffer<std::int32_t> active_;
  std::uint64_t draws_ = 0;
  Buffer<S> dense_;  // m x n, once there was a new decomposition
  Workspace own_;
};

}  // namespace lowrank
