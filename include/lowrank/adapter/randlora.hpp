// RandLoRA: a full-rank change from frozen random bases, of which only diagonals are trained (arXiv 2502.00987). For a
// weight whose sides are dmin <= dmax, K = ceil(dmin / r), R = r K, and P (dmax x R), Q (R x dmin):
//
//   P = [B_0 .. B_(K-1)]     Q_j = lambda_kb gamma_b o A_k     change = s P Q, or its transpose when the weight is wide
//
// Pairing says which (k, b) belongs to row j. Peft, the published one of all implementations: k = j div K, b = j mod K,
// although column j of P is column j mod r of base j div r; the paper pairs k = j mod r, b = j div r. The bases are
// random, so this is a permutation, but a checkpoint means other numbers under the other.
//
// Trained: lambda (r x K, zero at first) and gamma (K x dmin, 1 / dmin at first). s = alpha / r, alpha = 20 r in PEFT.
// Q and its gradient are never whole in memory; R is about dmin, so the composed and dense orders are usually cheaper.
#pragma once

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/merge.hpp>
#include <lowrank/adapter/rand_bases.hpp>
#include <lowrank/options/adapter.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K = kernel::Best>
class RandLora : public detail::AdapterDoor<RandLora<S, K>, S> {
 public:
  static constexpr const char* who = "lowrank::RandLora";
  using Bases = RandBases<S, K>;

  /// For an m x n weight; the bases must cover it.
  RandLora(Index m, Index n, std::shared_ptr<const Bases> bases, const RandLoraOptions& options = {})
      : options_(options), bases_(std::move(bases)), m_(m), n_(n) {
    detail::check_weight_shape(who, m, n);
    detail::check_dropout(who, options.dropout);
    if (bases_ == nullptr) detail::bad_argument(who, "no bases", "a RandBases");
    if (bases_->larger() < larger() || bases_->smaller() < smaller())
      detail::bad_argument(who, detail::shape_text(m, n), "a weight of at most " + detail::shape_text(bases_->larger(), bases_->smaller()));
    lambda_ = Trainable<S>("lambda", rank(), blocks());
    gamma_ = Trainable<S>("gamma", blocks(), smaller());
    for (Index i = 0; i < gamma_.value.size(); ++i) gamma_.value[i] = S(1 / double(smaller()));
  }

  Index rows() const { return m_; }
  Index cols() const { return n_; }
  Index rank() const { return bases_->rank(); }
  /// K: how many bases this weight uses.
  Index blocks() const { return (smaller() + rank() - 1) / rank(); }
  double scale() const { return options_.alpha / double(rank()); }
  const RandLoraOptions& options() const { return options_; }
  const Bases& bases() const { return *bases_; }
  Trainable<S>& lambda() { return lambda_; }
  Trainable<S>& gamma() { return gamma_; }
  const Trainable<S>& lambda() const { return lambda_; }
  const Trainable<S>& gamma() const { return gamma_; }

  /// W <- round(W + factor change).
  template <class M>
  MergeReport add_change(M&& W, double factor, Workspace& workspace) const {
    const auto w = linalg::memory(detail::merge_view("lowrank::RandLora::add_change", m_, n_, W));
    const Layout room = detail::lay_out<Layout>(workspace, *this, Index(0), Path{});
    return detail::add_product<S, K>(wide() ? linalg::transposed(w) : w, larger(), smaller(), inner(), bases_->P(), Q(), factor * scale(), room.product);
  }
  template <class M>
  MergeReport merge_into(M&& W, Workspace& workspace) const { return add_change(W, 1, workspace); }
  template <class M>
  void unmerge_from(M&& W, Workspace& workspace) const { add_change(W, -1, workspace); }

  void visit(auto&& f) { f(lambda_), f(gamma_); }
  void visit(auto&& f) const { f(lambda_), f(gamma_); }
  /// Of this layer; the bases are counted once per model, by themselves.
  std::size_t bytes() const { return lambda_.value.bytes() + gamma_.value.bytes(); }
  std::size_t workspace_bytes(Index samples, const Path& path = {}, int threads = detail::available_threads()) const {
    Arena count;
    (void)Layout(count, threads, *this, samples, choose(work(samples), path));
    return count.used();
  }
  void on_step(std::uint64_t, auto&&) {}

 private:
  friend detail::AdapterDoor<RandLora, S>;

  using Factor = linalg::Factor<S, K>;
  static constexpr linalg::Mode store = linalg::Mode::Store, add = linalg::Mode::Add;

  bool wide() const { return m_ < n_; }
  Index larger() const { return std::max(m_, n_); }
  Index smaller() const { return std::min(m_, n_); }
  Index inner() const { return rank() * blocks(); }
  Work work(Index samples) const { return {m_, n_, inner(), samples}; }

  struct Pair {
    Index k, b;
  };
  Pair pair(Index j) const {
    return options_.pairing == Pairing::Peft ? Pair{j / blocks(), j % blocks()} : Pair{j % rank(), j / rank()};
  }

  /// Rows of Q from `first` on, or the transpose: an operand.
  struct QOperand {
    enum class Order { AsIs, Transposed };
    const RandLora* from;
    Order order = Order::AsIs;

    void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
      const bool as_is = order == Order::AsIs;
      const Index q0 = as_is ? i0 : j0, rows = as_is ? m : n, c0 = as_is ? j0 : i0, cols = as_is ? n : m;
      const Index down = as_is ? 1 : ld, across = as_is ? ld : 1;
      for (Index q = 0; q < rows; ++q) {
        const auto [k, b] = from->pair(q0 + q);
        const S lambda = from->lambda_.value(k, b);
        const S* a = from->bases_->A().column(k) + c0;
        const S* gamma = from->gamma_.value.data() + b + c0 * from->blocks();
        for (Index i = 0; i < cols; ++i) dst[q * down + i * across] = lambda * gamma[i * from->blocks()] * a[i];
      }
    }
    QOperand transposed() const { return {from, order == Order::AsIs ? Order::Transposed : Order::AsIs}; }
  };
  QOperand Q() const { return {this}; }

  /// Rows of dQ made at a time: whole groups of a pairing, about 256.
  Index strip() const {
    const Index group = options_.pairing == Pairing::Peft ? blocks() : rank();
    return std::min(inner(), std::max<Index>(1, 256 / group) * group);
  }

  struct Layout {
    linalg::Product<S, K> product;
    S* small;            // R x N
    S* again = nullptr;  // R x N
    S* strip;            // dmin x strip: rows of dQ, as columns
    S* dense = nullptr;  // m x n
    Layout(Arena& arena, int threads, const RandLora& of, Index samples, const Path& path)
        : product(arena, threads, std::max({of.larger(), of.inner(), samples})),
          small(arena.take<S>(of.inner() * samples)), strip(arena.take<S>(of.smaller() * of.strip())) {
      if (path.forward == Order::Composed && path.gradient == Gradient::Factored && of.wide()) again = arena.take<S>(of.inner() * samples);
      if (path.forward == Order::Composed || path.backward == Order::Composed || path.gradient == Gradient::Dense)
        dense = arena.take<S>(of.m_ * of.n_);
    }
  };

  /// C (=, +=) alpha A B for operands that are not in memory.
  template <class A, class B>
  static void multiply(const Layout& room, Index m, Index n, Index depth, const A& a, const B& b, const linalg::Memory<void>& c,
                       linalg::Mode mode, double alpha = 1, const linalg::Mask& mask = {}) {
    if (c.row_stride != 1)
      return multiply(room, n, m, depth, b.transposed(), a.transposed(), linalg::transposed(c), mode, alpha, mask.transposed());
    room.product.each_tile(m, n, depth, a, b, [&](Index, Index i0, Index rows, Index j0, Index cols, S* tile) {
      mask.template apply<K>(i0, rows, j0, cols, tile, rows);
      linalg::write_block<K>(c, i0, rows, j0, cols, tile, rows, mode, alpha);
    });
  }

  /// dense <- W + change
  void compose(const detail::Input& W, const Layout& room) const {
    const auto dense = linalg::memory(room.dense, m_);
    if (W.present()) {
      constexpr Index columns = 64;
      detail::for_each((n_ + columns - 1) / columns, room.product.threads(), [&](Index block, int) {
        const Index j0 = block * columns;
        Factor(W.memory).load(0, m_, j0, std::min(columns, n_ - j0), room.dense + j0 * m_, m_);
      });
    }
    multiply(room, larger(), smaller(), inner(), bases_->P(), Q(), wide() ? linalg::transposed(dense) : dense,
             W.present() ? add : store, scale());
  }
  static Factor masked(Factor x, const linalg::Mask& mask) {
    x.mask = mask;
    return x;
  }
  linalg::Mask mask(const Pass& pass) const { return detail::dropout_mask(options_.dropout, options_.seed, pass, n_); }

  void run_forward(const detail::Input& W, const Factor& X, const linalg::Memory<void>& Y, Index N, Trace<S>& trace,
                   Workspace& workspace, const Pass& pass) const {
    const linalg::Mask drop = mask(pass);
    const Path path = detail::choose_path(who, work(N), pass.path, drop);
    const Layout room = detail::lay_out<Layout>(workspace, *this, N, path);
    trace.samples = N;
    trace.pass = pass;
    trace.path = path;
    if (path.forward == Order::Composed) {
      trace.reserve(0);
      compose(W, room);
      return room.product(m_, N, n_, linalg::memory(room.dense, m_), X, Y, W.present() ? store : add);
    }
    if (W.present()) room.product(m_, N, n_, W.memory, X, Y, store);
    S* H = wide() ? trace.reserve(inner() * N) : room.small;  // of a tall weight, backward does not need it
    if (wide()) {
      hidden(X, drop, N, H, room);
      multiply(room, m_, N, inner(), Q().transposed(), Factor(linalg::memory(H, inner())), Y, add, scale());
    } else {
      multiply(room, inner(), N, n_, Q(), masked(X, drop), linalg::memory(H, inner()), store);
      multiply(room, m_, N, inner(), bases_->P(), Factor(linalg::memory(H, inner())), Y, add, scale());
    }
  }
  /// H = P^T X' of a wide weight
  void hidden(const Factor& X, const linalg::Mask& drop, Index N, S* H, const Layout& room) const {
    multiply(room, inner(), N, n_, bases_->P().transposed(), masked(X, drop), linalg::memory(H, inner()), store);
  }

  void run_backward(const detail::Input& W, const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace,
                    Workspace& workspace) {
    const Index N = trace.samples;
    const Path& path = trace.path;
    const linalg::Mask drop = mask(trace.pass);
    const Layout room = detail::lay_out<Layout>(workspace, *this, N, path);
    lambda_.gradient.allocate();
    gamma_.gradient.allocate();
    const bool factored = path.backward == Order::Factored, dense = path.gradient == Gradient::Dense;
    const Factor C(linalg::memory(room.small, inner()));  // what dY becomes between the two factors
    if ((factored && dX.present()) || (!dense && !wide())) {
      if (wide()) multiply(room, inner(), N, m_, Q(), dY, linalg::memory(room.small, inner()), store);
      else multiply(room, inner(), N, m_, bases_->P().transposed(), dY, linalg::memory(room.small, inner()), store);
    }
    if (dX.present() && !factored) {
      compose(W, room);
      room.product(n_, N, m_, linalg::transposed(linalg::memory(room.dense, m_)), dY, dX.memory, W.present() ? store : add);
    } else if (dX.present()) {
      if (W.present()) room.product(n_, N, m_, linalg::transposed(W.memory), dY, dX.memory, store);
      if (wide()) multiply(room, n_, N, inner(), bases_->P(), C, dX.memory, add, scale(), drop);
      else multiply(room, n_, N, inner(), Q().transposed(), C, dX.memory, add, scale(), drop);
    }

    if (dense) room.product(m_, n_, N, dY, X.transposed(), linalg::memory(room.dense, m_), store);
    const S* H = trace.memory.data();
    if (room.again != nullptr) hidden(X, drop, N, room.again, room), H = room.again;
    for (Index first = 0; first < inner(); first += strip()) {
      const Index rows = std::min(strip(), inner() - first);
      const auto out = linalg::memory(room.strip, smaller());
      const auto part = [&](const S* from) { return Factor(linalg::memory(const_cast<S*>(from) + first, inner())).transposed(); };
      // dQ^T, dmin x rows:  s G'^T P,  s X' C^T  or  s dY H^T
      if (dense) {
        const Factor G(linalg::memory(room.dense, m_));
        multiply(room, smaller(), rows, larger(), wide() ? G : G.transposed(), bases_->P(first), out, store, scale());
      } else if (wide()) {
        room.product(m_, rows, N, dY, part(H), out, store, scale());
      } else {
        room.product(n_, rows, N, masked(X, drop), part(room.small), out, store, scale());
      }
      collect(first, rows, room);
    }
  }

  /// dlambda_kb += sum_i dQ_ji A_ki gamma_bi,   dgamma_bi += sum_k dQ_ji lambda_kb A_ki, for rows j of the strip
  void collect(Index first, Index rows, const Layout& room) {
    const Index d = smaller(), K_l = blocks();
    detail::for_each(rows, room.product.threads(), [&](Index q, int) {
      const auto [k, b] = pair(first + q);
      const S *dq = room.strip + q * d, *a = bases_->A().column(k), *gamma = gamma_.value.data() + b;
      double sum = 0;
      for (Index i = 0; i < d; ++i) sum += double(dq[i]) * double(a[i]) * double(gamma[i * K_l]);
      lambda_.gradient(k, b) += S(sum);
    });
    constexpr Index wide_block = 64;
    detail::for_each((d + wide_block - 1) / wide_block, room.product.threads(), [&](Index block, int) {
      const Index i0 = block * wide_block, end = std::min(d, i0 + wide_block);
      for (Index q = 0; q < rows; ++q) {
        const auto [k, b] = pair(first + q);
        const S *dq = room.strip + q * d, *a = bases_->A().column(k), lambda = lambda_.value(k, b);
        for (Index i = i0; i < end; ++i) gamma_.gradient(b, i) += dq[i] * lambda * a[i];
      }
    });
  }

  RandLoraOptions options_;
  std::shared_ptr<const Bases> bases_;
  Index m_, n_;
  Trainable<S> lambda_, gamma_;
};

}  // namespace lowrank
