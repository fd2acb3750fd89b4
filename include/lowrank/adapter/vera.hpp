// VeRA: random frozen factors shared by all layers, of which each layer trains two vectors (arXiv 2310.11454):
//
//   change = diag(lambda_b) B diag(lambda_d) A,   A: the first n columns of r x n_max, B: the first m rows of m_max x r
//
// With M = dY (A X)^T (m x r):  dlambda_b,i = sum_k lambda_d,k B_ik M_ik,  dlambda_d,k = sum_i lambda_b,i B_ik M_ik.
// lambda_d = 0.1 and lambda_b = 0 at first.
#pragma once

#include <memory>  // std::shared_ptr

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/merge.hpp>
#include <lowrank/adapter/torch_random.hpp>
#include <lowrank/linalg/vectors.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// A and B of a model: U(+-sqrt(6 / fan_in)), or given.
template <class S>
struct VeraBases {
  Buffer<S> A, B;  // r x n_max, m_max x r

  /// PEFT's numbers for the same key, bit for bit.
  static VeraBases torch(Index rank, Index m_max, Index n_max, std::uint64_t key = 0) {
    detail::check_rank("lowrank::VeraBases", rank);
    detail::check_weight_shape("lowrank::VeraBases", m_max, n_max);
    VeraBases made{Buffer<S>(rank, n_max), Buffer<S>(m_max, rank)};
    detail::TorchRandom random(key);
    for (Buffer<S>* x : {&made.A, &made.B}) {
      const double bound = std::sqrt(3.0) * (std::sqrt(2.0) / std::sqrt(double(x->cols())));
      for (Index i = 0; i < x->rows(); ++i)
        for (Index j = 0; j < x->cols(); ++j) (*x)(i, j) = S(random.uniform<float>(-bound, bound));
    }
    return made;
  }
  std::size_t bytes() const { return A.bytes() + B.bytes(); }
};

/// PEFT's d_initial and vera_dropout; the rank is that of the bases.
struct VeraOptions {
  double d_initial = 0.1;
  double dropout = 0;
  std::uint64_t seed = 0;  // of dropout
};

template <class S, class K = kernel::Best>
class Vera : public detail::AdapterDoor<Vera<S, K>, S> {
  using Branch = detail::Branch<S, K>;
  using Factor = typename Branch::Factor;

 public:
  static constexpr const char* who = "lowrank::Vera";

  Vera(Index m, Index n, std::shared_ptr<const VeraBases<S>> bases, const VeraOptions& options = {})
      : options_(options), bases_(std::move(bases)), n_(n) {
    detail::check_weight_shape(who, m, n);
    detail::check_dropout(who, options.dropout);
    if (bases_ == nullptr) detail::bad_argument(who, "no bases", "a VeraBases");
    if (bases_->B.rows() < m || bases_->A.cols() < n)
      detail::bad_argument(who, detail::shape_text(m, n), "a weight of at most " + detail::shape_text(bases_->B.rows(), bases_->A.cols()));
    lambda_b_ = Trainable<S>("lambda_b", m, 1);
    lambda_d_ = Trainable<S>("lambda_d", bases_->A.rows(), 1);
    for (Index k = 0; k < rank(); ++k) lambda_d_.value[k] = S(options.d_initial);
  }

  Index rows() const { return lambda_b_.value.rows(); }
  Index cols() const { return n_; }
  Index rank() const { return lambda_d_.value.rows(); }
  const VeraBases<S>& bases() const { return *bases_; }
  Trainable<S>& lambda_b() { return lambda_b_; }
  Trainable<S>& lambda_d() { return lambda_d_; }
  const Trainable<S>& lambda_b() const { return lambda_b_; }
  const Trainable<S>& lambda_d() const { return lambda_d_; }

  /// W <- round(W + factor change).
  template <class M>
  MergeReport add_change(M&& W, double factor, Workspace& workspace) const {
    const auto w = detail::merge_view(who, rows(), cols(), W);
    const auto room = detail::lay_out<Layout>(workspace, work(0), Path{});
    return detail::add_product<S, K>(linalg::memory(w), rows(), cols(), rank(), branch(0).B, branch(0).A, factor, room.factors.product);
  }
  template <class M>
  MergeReport merge_into(M&& W, Workspace& workspace) const { return add_change(W, 1, workspace); }
  template <class M>
  void unmerge_from(M&& W, Workspace& workspace) const { add_change(W, -1, workspace); }

  void visit(auto&& f) { f(lambda_b_), f(lambda_d_); }
  void visit(auto&& f) const { f(lambda_b_), f(lambda_d_); }
  /// Of this layer; the bases are counted once per model.
  std::size_t bytes() const { return lambda_b_.value.bytes() + lambda_d_.value.bytes(); }
  void on_step(std::uint64_t, auto&&) {}

 private:
  friend detail::AdapterDoor<Vera, S>;

  struct Layout {
    typename Branch::Layout factors;
    S* M;  // dY H^T
    Layout(Arena& arena, int threads, const Work& w, const Path& path) : factors(arena, threads, w, path), M(arena.take<S>(w.m * w.rank)) {}
  };

  Work work(Index samples) const { return {rows(), cols(), rank(), samples}; }
  Branch branch(Index samples) const {
    const Factor B(linalg::memory(bases_->B), lambda_b_.value.data(), lambda_d_.value.data());
    return {work(samples), linalg::memory(bases_->A), B, 1, {}};
  }

  void run_forward(const detail::Input& W, const Factor& X, const linalg::Memory<void>& Y, Index N, Trace<S>& trace,
                   Workspace& workspace, const Pass& pass) const {
    Branch b = branch(N);
    b.mask = detail::dropout_mask(options_.dropout, options_.seed, pass, cols());
    const Path path = detail::choose_path(who, b.work, pass.path, b.mask);
    const Layout room = detail::lay_out<Layout>(workspace, b.work, path);
    b.forward(path, W, X, trace.reserve(path.forward == Order::Composed ? 0 : rank() * N), Y, room.factors);
    trace.samples = N;
    trace.pass = pass;
    trace.path = path;
  }

  void run_backward(const detail::Input& W, const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace,
                    Workspace& workspace) {
    const Index m = rows(), r = rank(), N = trace.samples;
    Branch b = branch(N);
    b.mask = detail::dropout_mask(options_.dropout, options_.seed, trace.pass, cols());
    const Path& path = trace.path;
    const Layout room = detail::lay_out<Layout>(workspace, b.work, path);
    const auto& product = room.factors.product;
    this->visit([](auto& p) { p.gradient.allocate(); });
    b.data_gradient({path.forward, path.backward, Gradient::Dense}, W, dY, dX, room.factors);  // B^T dY is for dX only
    if (path.gradient == Gradient::Dense) {
      product(m, cols(), N, dY, X.transposed(), linalg::memory(room.factors.dense, m), linalg::Mode::Store);
      product(m, r, cols(), linalg::memory(room.factors.dense, m), b.A.transposed(), linalg::memory(room.M, m), linalg::Mode::Store);
    } else {
      const S* H = trace.memory.data();
      if (room.factors.again != nullptr) b.hidden(X, room.factors.again, room.factors), H = room.factors.again;
      product(m, r, N, dY, linalg::transposed(linalg::memory(const_cast<S*>(H), r)), linalg::memory(room.M, m), linalg::Mode::Store);
    }
    // Q = M o B:  dlambda_d_k = sum_i lambda_b_i Q_ik,   dlambda_b_i = sum_k lambda_d_k Q_ik
    detail::for_each(r, product.threads(), [&](Index k, int) {
      S* q = room.M + k * m;
      K::multiply(m, q, bases_->B.column(k), q);
      lambda_d_.gradient[k] += S(linalg::dot<K>(m, lambda_b_.value.data(), q));
    });
    constexpr Index block = 64;
    detail::for_each((m + block - 1) / block, product.threads(), [&](Index part, int) {
      const Index i0 = part * block, rows = std::min(block, m - i0);
      double sum[block] = {};
      for (Index k = 0; k < r; ++k)
        for (Index i = 0; i < rows; ++i) sum[i] += double(lambda_d_.value[k]) * double(room.M[i0 + i + k * m]);
      for (Index i = 0; i < rows; ++i) lambda_b_.gradient[i0 + i] += S(sum[i]);
    });
  }

  VeraOptions options_;
  std::shared_ptr<const VeraBases<S>> bases_;
  Index n_;
  Trainable<S> lambda_b_, lambda_d_;
};

}  // namespace lowrank
