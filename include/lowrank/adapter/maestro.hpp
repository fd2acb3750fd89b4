// Maestro: a weight W = C F trained so that its ranks are in the order of their importance, and cut while it trains
// (arXiv 2308.14929). C m x R, F R x n, R = min(m, n) at first, from the SVD of a dense first weight:  C = U sqrt(s),
// F = sqrt(s) V^T.
//
//   each forward pass, one layer of the model is used at a width q <= R drawn by RankSampler, all others whole;
//   a hierarchical group lasso, sum_k ||F_(k.., :)|| + ||C_(:, k..)||, pulls the later ranks to zero;
//   shrink(epsilon, editors) keeps the ranks whose tails have ||F_(k..)|| ||C_(k..)|| >= epsilon, a prefix, and drops the
//   others for good, with their moments: memory stays, the work is that of the ranks which are left.
//
// Deviations from the published code: widths are integers there as well as here (its ceil(R (q / R)) gives q + 1 for
// 3.6 % of all pairs); tails that are zero have no gradient where it divides by zero; what was cut is gone, not masked.
#pragma once

#include <numeric>  // std::iota
#include <vector>   // std::vector

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/initialize.hpp>
#include <lowrank/adapter/merge.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K = kernel::Best>
class Maestro : public detail::LayerDoor<Maestro<S, K>, S> {
  using Branch = detail::Branch<S, K>;
  using Factor = typename Branch::Factor;

 public:
  static constexpr const char* who = "lowrank::Maestro";

  /// From a dense first weight, which it reproduces.
  template <class M>
  explicit Maestro(const M& W) {
    const auto w = lowrank::view(W);
    detail::check_weight_shape(who, w.rows, w.cols);
    full_ = std::min(w.rows, w.cols);
    kept_ = width_ = full_;
    F_ = Trainable<S>("F", full_, w.cols);
    C_ = Trainable<S>("C", w.rows, full_);
    tails_ = Buffer<double>(full_ + 1, 2);
    slots_ = Buffer<Index>(full_, 1);
    Workspace workspace;
    detail::fill_pissa<S, K>(linalg::memory(View<const typename decltype(w)::Scalar>(w)), 1, F_.value, C_.value, workspace);
  }

  Index rows() const { return C_.value.rows(); }
  Index cols() const { return F_.value.cols(); }
  /// Ranks that are left, of those that there were.
  Index kept() const { return kept_; }
  Index full() const { return full_; }
  Trainable<S>& F() { return F_; }
  Trainable<S>& C() { return C_; }

  /// The ranks that forward passes use from now on: 0 .. kept(). A pass at width 0 gives zero.
  void set_width(Index q) {
    if (q < 0 || q > kept_) detail::bad_argument(who, "width " + std::to_string(q), "a width of at most " + std::to_string(kept_));
    width_ = q;
  }
  Index width() const { return width_; }

  /// The group lasso of the kept ranks; lambda times its gradient is added to those of F and C:
  /// dF_i += lambda F_i sum_(k <= i) 1 / f_k with f_k = ||F_(k.., :)||, and C alike.
  double add_lasso(double lambda) {
    measure();
    F_.gradient.allocate(), C_.gradient.allocate();
    double total = 0, f = 0, c = 0;
    for (Index k = 0; k < kept_; ++k) {
      total += tails_(k, 0) + tails_(k, 1);
      f += tails_(k, 0) > 0 ? 1 / tails_(k, 0) : 0;
      c += tails_(k, 1) > 0 ? 1 / tails_(k, 1) : 0;
      for (Index j = 0; j < cols(); ++j) F_.gradient(k, j) += S(lambda * f * double(F_.value(k, j)));
      K::combine(rows(), lambda * c, C_.value.column(k), 1.0, C_.gradient.column(k), C_.gradient.column(k));
    }
    return total;
  }

  /// Importance of rank k and all after it: falls with k.
  double importance(Index k) {
    measure();
    return tails_(k, 0) * tails_(k, 1);
  }

  /// Cuts the ranks whose importance is below epsilon, with their moments. Returns how many are left.
  template <class E>
  Index shrink(double epsilon, const E& editors) {
    measure();
    Index left = 0;
    while (left < kept_ && tails_(left, 0) * tails_(left, 1) >= epsilon) ++left;
    if (left == kept_) return kept_;
    for (Index k = left; k < full_; ++k) {
      for (Index j = 0; j < cols(); ++j) F_.value(k, j) = 0;
      std::fill_n(C_.value.column(k), rows(), S(0));
    }
    F_.zero_gradient(), C_.zero_gradient();
    std::iota(slots_.data(), slots_.data() + left, Index(0));
    const std::span<const Index> stay(slots_.data(), std::size_t(left));
    auto f = editors("F");
    auto c = editors("C");
    f.gather(Axis::Rows, stay);
    c.gather(Axis::Cols, stay);
    kept_ = left;
    width_ = std::min(width_, kept_);
    return kept_;
  }
  /// Whether the dense weight would have fewer numbers.
  bool fold_back() const { return kept_ * (rows() + cols()) > rows() * cols(); }

  /// W <- C F at the present width, rounded once.
  template <class M>
  void write_weight(M&& W, Workspace& workspace) const {
    const detail::Door door(who, rows(), cols());
    const auto out = door.out(W, rows(), cols(), "W");
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, work(0), Path{});
    room.product(rows(), cols(), width_, branch(0).B, branch(0).A, out.memory, linalg::Mode::Store);
  }

  void visit(auto&& f) { f(F_), f(C_); }
  void visit(auto&& f) const { f(F_), f(C_); }
  void visit_kept(auto&& f) { f("kept", kept_), f("width", width_); }
  void visit_kept(auto&& f) const { f("kept", kept_), f("width", width_); }
  std::size_t bytes() const { return F_.value.bytes() + C_.value.bytes(); }
  void on_step(std::uint64_t, auto&&) {}

 private:
  friend detail::LayerDoor<Maestro, S>;

  Work work(Index samples) const { return {rows(), cols(), width_, samples}; }
  /// The first width_ rows of F and columns of C are a view of the whole arrays: strides say so.
  Branch branch(Index samples) const {
    return {work(samples), linalg::memory(F_.value), linalg::memory(C_.value), 1, {}, linalg::Mode::Store};
  }

  void measure() {
    tails_(kept_, 0) = tails_(kept_, 1) = 0;
    double f = 0, c = 0;
    for (Index k = kept_ - 1; k >= 0; --k) {
      for (Index j = 0; j < cols(); ++j) f += double(F_.value(k, j)) * double(F_.value(k, j));
      c += K::sum_squares(rows(), C_.value.column(k));
      tails_(k, 0) = std::sqrt(f);
      tails_(k, 1) = std::sqrt(c);
    }
  }

  void run_forward(const Factor& X, const linalg::Memory<void>& Y, Index samples, Trace<S>& trace, Workspace& workspace,
                   const Pass& pass) const {
    const Branch b = branch(samples);
    const Path path = short_of_weight(pass.path);
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, b.work, path);
    // the width of this pass is kept as the rank of H: backward may find another
    S* H = trace.reserve(width_ * samples);
    b.forward(path, {}, X, H, Y, room);
    trace.samples = samples;
    trace.pass = pass;
    trace.path = path;
    trace.width = width_;
  }
  void run_backward(const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace, Workspace& workspace) {
    Branch b = branch(trace.samples);
    b.work.rank = trace.width;
    const Path& path = trace.path;
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, b.work, path);
    this->visit([](auto& p) { p.gradient.allocate(); });
    b.data_gradient(path, {}, dY, dX, room);
    const S* H = trace.memory.data();
    if (room.again != nullptr) b.hidden(X, room.again, room), H = room.again;
    b.weight_gradients(path, X, dY, H, &F_.gradient, &C_.gradient, room);
  }

  Trainable<S> F_, C_;
  Index full_ = 0, kept_ = 0, width_ = 0;
  Buffer<double> tails_;  // of F and C
  Buffer<Index> slots_;
};

/// The paper's sampler: all pairs (layer, width) in random order, each used once before any is used again, so a layer
/// comes up in proportion to its ranks. Made anew after shrinking.
class RankSampler {
 public:
  struct Choice {
    std::size_t layer;
    Index width;
  };

  explicit RankSampler(std::span<const Index> ranks, std::uint64_t seed = 0) : seed_(seed) {
    for (std::size_t i = 0; i < ranks.size(); ++i)
      for (Index q = 1; q <= ranks[i]; ++q) pairs_.push_back({i, q});
    if (pairs_.empty()) detail::bad_argument("lowrank::RankSampler", "no ranks", "at least one");
    next_ = pairs_.size();
  }
  Choice operator()() {
    if (next_ == pairs_.size()) shuffle();
    return pairs_[next_++];
  }

 private:
  void shuffle() {
    for (std::size_t i = pairs_.size() - 1; i > 0; --i) {
      const std::uint64_t word = uniform_bits(seed_, rounds_, i);
      std::swap(pairs_[i], pairs_[std::size_t(word * (i + 1) >> 32)]);
    }
    ++rounds_;
    next_ = 0;
  }
  std::vector<Choice> pairs_;
  std::uint64_t seed_, rounds_ = 0;
  std::size_t next_ = 0;
};

}  // namespace lowrank
