// Projectors on a device: where the gradient lives. In canonical orientation the gradient A is d x k, d the projected side; a step
// works with a basis P (d x r) in device memory, R = P^T A and P N being products. A projector says where P comes from.
//
// ProjectorState<Options, S, B> has
//   Work(arena, state), of which Work::candidate is d x r
//   refresh(backend, intake, work, control, warm)   launches what makes a candidate from A; work.previous (r x k) <- P^T A of the basis
//                                                   in use where `compares`, since the device may then keep that basis
//   prepare(backend, work, control)                 otherwise: P ready in basis(work)
//   commit(backend, work, control)                  after the decision: basis(work) is the candidate, or what it was
//   replaced(work)                                  during a refresh: the basis that the candidate would replace
//   core(backend, work, R), moved_from(work)        optional: P^T A of the candidate without a product; a gather instead of a rotation
//   visit(f), numbers(kept, f)                      f(name, Array) and f(name, number): what is kept between steps
// The basis' clock (when it is due) is the host's, from the last report.
#pragma once

#include <lowrank/cuda/dct.cuh>
#include <lowrank/cuda/decide.cuh>
#include <lowrank/cuda/orth.cuh>
#include <lowrank/cuda/sweep.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class Options, class S, class B>
class ProjectorState;

/// The caller's gradient as products read it, canonical d x k. Another scalar than S is widened panel by panel on the way.
template <class S, class T, class B>
struct Intake {
  static constexpr bool widens = !std::is_same_v<S, T>;
  static constexpr Index panel_size = Index(1) << 22;

  B& backend;
  View<const T> a;
  const Control<S>* control;
  S* panel;

  /// The same, element by element.
  Gradient<S, T> source() const { return {.a = a}; }
  /// Columns that are widened at once.
  static Index panel_columns(Index d, Index k) { return least(k, most<Index>(64, panel_size / most<Index>(d, 1))); }

  /// R (r x k, leading dimension r) <- scale P^T A.
  void down(const S* P, Index r, S* R) const {
    each_panel([&](Operand<const S> A, Index j0, Index w) {
      backend.gemm(transposed(P, a.rows), A, columns(R + j0 * r, r), r, w, a.rows, Scale<S>{1, 0, control->input.intake});
    });
  }
  /// Y (d x n) <- scale A X, X being k x n.
  void times(Operand<const S> X, Index n, S* Y) const {
    each_panel([&](Operand<const S> A, Index j0, Index w) {
      const Operand<const S> part{X.data + (X.transposed ? j0 * X.ld : j0), X.ld, X.transposed};
      const S* scale = control->input.intake + (j0 == 0 ? 0 : 2);
      backend.gemm(A, part, columns(Y, a.rows), a.rows, n, w, Scale<S>{1, 0, scale});
    });
  }

 private:
  template <class F>
  void each_panel(const F& f) const {
    if constexpr (!widens) {
      f(operand(a), Index(0), a.cols);
    } else {
      const Index wide = panel_columns(a.rows, a.cols);
      for (Index j0 = 0; j0 < a.cols; j0 += wide) {
        const Index w = least(wide, a.cols - j0);
        const View<const T> part{a.data + j0 * a.col_stride, a.rows, w, a.row_stride, a.col_stride};
        launch(backend, sweep(Gradient<S, T>{.a = part, .scaled = false}, Columns<S>{panel, a.rows}, a.rows, w, control, true));
        f(columns<const S>(panel, a.rows), j0, w);
      }
    }
  }
};

namespace detail {

template <class Options>
Index checked_rank(const char* who, const Options& o, Index limit) {
  require(o.rank >= 1, who, "rank", double(o.rank), "rank >= 1");
  require(o.refresh_every >= 0, who, "refresh_every", double(o.refresh_every), "a number of steps >= 0 (0: only once)");
  require(o.phase >= 0, who, "phase", double(o.phase), "a number of steps >= 0");
  if constexpr (requires { o.refresh_on_drift; })
    require(o.refresh_on_drift >= 0 && o.refresh_on_drift < 1, who, "refresh_on_drift", o.refresh_on_drift, "0 <= fraction < 1 (0: never)");
  if constexpr (requires { o.adapt; })
    require(o.adapt.energy == 0, who, "adapt.energy", o.adapt.energy, "0: ranks adapt on the CPU only");
  if constexpr (requires { o.sweeps; }) require(o.sweeps >= 1, who, "sweeps", double(o.sweeps), "sweeps >= 1");
  return least<Index>(o.rank, limit);
}

/// When a basis is to be renewed: at the first step that has a gradient, every T steps, and on drift.
template <class Options, class Kept>
bool due(const Options& o, const Kept& kept) {
  return kept.refresh_pending != 0 || (o.refresh_every > 0 && (kept.steps + std::uint64_t(o.phase)) % std::uint64_t(o.refresh_every) == 0);
}

}  // namespace detail

/// P = the first r unit vectors.
template <class S>
struct UnitBasis {
  static constexpr int threads = 256;
  S* P;
  Index d, r;

  Grid grid() const { return {ceil_div(d * r, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index e = block.index() * threads + t;
      if (e < d * r) P[e] = e % d == e / d ? S(1) : S(0);
    });
  }
};

/// What projectors that keep their basis share.
template <class Options, class S, class B>
class DenseProjector {
 public:
  static constexpr bool declines = true, compares = true;

  Options& options() { return options_; }
  const Options& options() const { return options_; }
  Index rank() const { return basis_.cols(); }
  void check() const {
    if (detail::checked_rank(who_, options_, limit_) != rank())
      detail::bad_argument(who_, "rank = " + std::to_string(options_.rank), std::to_string(rank()) + ", as at construction");
  }
  template <class Kept>
  static bool warm(const Kept& kept) { return kept.captured_at_refresh > 0; }
  void begin(B& backend) { launch(backend, UnitBasis<S>{basis_.data(), basis_.rows(), rank()}); }

  template <class Work>
  void prepare(B&, Work&, Control<S>*) const {}
  template <class Work>
  const S* basis(const Work&) const { return basis_.data(); }
  template <class Work>
  const S* replaced(const Work&) const { return basis_.data(); }
  template <class Work>
  void commit(B& backend, const Work& work, Control<S>* control) {
    launch(backend, CopyIf<S, S>{work.candidate, basis_.data(), basis_.size(), control});
  }
  void visit(auto&& f) { f("basis", basis_); }
  static void numbers(auto& kept, auto&& f) {
    f("refresh_pending", kept.refresh_pending), f("captured_at_refresh", kept.captured_at_refresh);
  }

 protected:
  DenseProjector() = default;
  DenseProjector(const char* who, const Options& options, Index d, Index limit)
      : options_(options), basis_(d, detail::checked_rank(who, options, limit)), who_(who), limit_(limit) {}

  Options options_;
  Array<S, B> basis_;
  const char* who_ = "";
  Index limit_ = 0;
};

/// y[i] += (1e-4 ||R|| / r) p[i]: far below the energies that matter, it keeps old directions where A has rank below r.
template <class S>
struct Blend {
  static constexpr int threads = 256;
  const S* p;
  S* y;
  Index n, r;
  const Control<S>* control;

  Grid grid() const { return {ceil_div(n, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i < n) y[i] = std::fma(S(1e-4 * std::sqrt(control->norm) / double(r)), p[i], y[i]);
    });
  }
};

/// S <- the numbers as they are, from double, columns in reverse order: eigenvectors of the largest eigenvalues first.
template <class S>
struct LastColumns {
  static constexpr int threads = 256;
  const double* x;
  S* out;
  Index n, r;

  Grid grid() const { return {ceil_div(n * r, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index e = block.index() * threads + t;
      if (e < n * r) out[e] = S(x[e % n + (n - 1 - e / n) * n]);
    });
  }
};
template <class S>
struct Widen {
  static constexpr int threads = 256;
  const S* x;
  double* out;
  Index n;

  Grid grid() const { return {ceil_div(n, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i < n) out[i] = is_finite(double(x[i])) ? double(x[i]) : 0.0;
    });
  }
};

/// Warm-started block iteration, P <- orth(A (A^T P) + delta P), signs as in P; cold-started by a randomized range finder (Halko,
/// Martinsson, Tropp 2011, alg. 4.4). lowrank/projector/subspace.hpp has the equations. A gradient of which the basis in use holds
/// nothing at all is met by a cold start one step later than on the CPU, since only the device knows.
template <class S, class B>
class ProjectorState<Subspace, S, B> : public DenseProjector<Subspace, S, B> {
  using Base = DenseProjector<Subspace, S, B>;
  using Base::basis_, Base::options_;

 public:
  ProjectorState() = default;
  ProjectorState(const Subspace& options, Index d, Index k) : Base("lowrank::Subspace", options, d, least(d, k)), k_(k) {}

  struct Work {
    S *candidate, *previous;  // d x r, r x k
    Squares squares;
    Orth orth;
    S *wide, *sketch;         // d x l, l x k with l = r + 8
    S* turn;                  // l x r
    double *gram, *ritz;      // l x l, l
    S* gram_of_s;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p)
        : candidate(arena.take<S>(p.basis_.size())), previous(arena.take<S>(p.rank() * p.k_)), squares(arena, p.width(), p.k_),
          orth(arena, p.basis_.rows(), p.width()), wide(arena.take<S>(p.basis_.rows() * p.width())),
          sketch(arena.take<S>(p.width() * p.k_)), turn(arena.take<S>(p.width() * p.rank())),
          gram(arena.take<double>(p.width() * p.width())), ritz(arena.take<double>(p.width())),
          gram_of_s(arena.take<S>(p.width() * p.width())) {}
  };

  template <class Intake>
  void refresh(B& backend, const Intake& a, Work& work, Control<S>* control, bool warm) const {
    const Index d = basis_.rows(), r = this->rank(), n = d * r;
    a.down(basis_.data(), r, work.previous);
    if (!warm) return start(backend, a, work, control);
    backend.copy(work.candidate, basis_.data(), basis_.bytes());
    for (std::int64_t sweep = 0; sweep < options_.sweeps; ++sweep) {
      const S* R = work.previous;
      if (sweep > 0) a.down(work.candidate, r, work.sketch), R = work.sketch;
      normalise(backend, R, r, work, control);
      a.times(transposed<const S>(work.sketch, r), r, work.wide);
      launch(backend, Blend<S>{work.candidate, work.wide, n, r, control});
      work.orth(backend, work.wide, r, basis_.data(), work.candidate);
    }
  }

 private:
  Index width() const { return least(least(this->rank() + 8, basis_.rows()), k_); }

  /// work.sketch = R / ||R||
  void normalise(B& backend, const S* R, Index rows, Work& work, Control<S>* control) const {
    work.squares.template operator()<S, S>(backend, View<const S>{R, rows, k_, 1, rows});
    launch(backend, Norm<S>{work.squares.column, k_, control});
    launch(backend, Normalise<S>{R, work.sketch, rows * k_, control});
  }
  template <class Intake>
  void start(B& backend, const Intake& a, Work& work, Control<S>* control) const {
    const Index d = basis_.rows(), r = this->rank(), l = width();
    launch(backend, FillNormal<S>{work.sketch, k_ * l, options_.seed, 0});
    a.times(columns<const S>(work.sketch, k_), l, work.wide);
    work.orth(backend, work.wide, l, static_cast<const S*>(nullptr), work.wide);
    for (int sweep = 0; sweep < 2; ++sweep) {
      a.down(work.wide, l, work.sketch);
      normalise(backend, work.sketch, l, work, control);
      a.times(transposed<const S>(work.sketch, l), l, work.wide);
      work.orth(backend, work.wide, l, static_cast<const S*>(nullptr), work.wide);
    }
    // P = Q U_r, U the eigenvectors of (Q^T A)(Q^T A)^T with the largest eigenvalues
    a.down(work.wide, l, work.sketch);
    normalise(backend, work.sketch, l, work, control);
    backend.gemm(columns<const S>(work.sketch, l), transposed<const S>(work.sketch, l), columns(work.gram_of_s, l), l, l, k_, Scale<S>{});
    launch(backend, Widen<S>{work.gram_of_s, work.gram, l * l});
    backend.eigh(l, work.gram, work.ritz);
    launch(backend, LastColumns<S>{work.gram, work.turn, l, r});
    backend.gemm(columns<const S>(work.wide, d), columns<const S>(work.turn, l), columns(work.candidate, d), d, r, l, Scale<S>{});
    work.orth(backend, work.candidate, r, static_cast<const S*>(nullptr), work.candidate);
  }

  Index k_ = 0;
};

/// control->drawing = the bases drawn so far, plus one if a new one is due.
template <class S>
struct CountDrawings {
  static constexpr int threads = 1;
  Control<S>* control;
  bool next;

  Grid grid() const { return {1}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int) { control->drawing = control->kept.refreshes + (next ? 1 : 0); });
  }
};

/// P with independent N(0, 1/r) entries (APOLLO), drawn again every step from its seed and the number of refreshes, never kept.
template <class S, class B>
class ProjectorState<Gaussian, S, B> {
 public:
  static constexpr bool declines = false, compares = false;

  ProjectorState() = default;
  ProjectorState(const Gaussian& options, Index d, Index k)
      : options_(options), d_(d), r_(detail::checked_rank(who, options, least(d, k))), limit_(least(d, k)) {}

  struct Work {
    S *candidate, *before;
    S* previous = nullptr;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p)
        : candidate(arena.take<S>(p.d_ * p.r_)),
          before(p.options_.transport == Transport::Rotate ? arena.take<S>(p.d_ * p.r_) : nullptr) {}
  };

  Gaussian& options() { return options_; }
  const Gaussian& options() const { return options_; }
  Index rank() const { return r_; }
  void check() const {
    if (detail::checked_rank(who, options_, limit_) != r_)
      detail::bad_argument(who, "rank = " + std::to_string(options_.rank), std::to_string(r_) + ", as at construction");
  }
  template <class Kept>
  static bool warm(const Kept& kept) { return kept.refreshes > 0; }
  void begin(B&) {}

  template <class Intake>
  void refresh(B& backend, const Intake&, Work& work, Control<S>* control, bool) const {
    if (work.before != nullptr) draw(backend, work.before, control, false);
    draw(backend, work.candidate, control, true);
  }
  void prepare(B& backend, Work& work, Control<S>* control) const { draw(backend, work.candidate, control, false); }
  const S* basis(const Work& work) const { return work.candidate; }
  const S* replaced(const Work& work) const { return work.before; }
  void commit(B&, const Work&, Control<S>*) {}
  void visit(auto&&) {}
  static void numbers(auto& kept, auto&& f) {
    f("refreshes", kept.refreshes), f("refresh_pending", kept.refresh_pending), f("captured_at_refresh", kept.captured_at_refresh);
  }

 private:
  static constexpr const char* who = "lowrank::Gaussian";

  void draw(B& backend, S* P, Control<S>* control, bool next) const {
    launch(backend, CountDrawings<S>{control, next});
    launch(backend, FillNormal<S>{P, d_ * r_, options_.seed, 0, 1 / std::sqrt(double(r_)), &control->drawing});
  }

  Gaussian options_;
  Index d_ = 0, r_ = 0, limit_ = 0;
};

/// The r vectors of the cosine basis on which the gradient scores highest (DCT-AdamW, arXiv 2505.17967); lowrank/projector/dct.hpp has
/// the equations. A refresh transforms the gradient once, into d x k scalars of workspace, and R is rows of that; other steps and the
/// way back are products with the chosen cosines, which are drawn from their indices every step and not kept.
template <class S, class B>
class ProjectorState<Dct, S, B> {
 public:
  static constexpr bool declines = true, compares = false;

  ProjectorState() = default;
  ProjectorState(const Dct& options, Index d, Index k)
      : options_(options), indices_(detail::checked_rank(who, options, d), 1), d_(d), k_(k), factors_(d) {
    check_transform<S>(who, d);
  }

  struct Work {
    S *candidate, *table, *spectrum;
    S* previous = nullptr;
    Squares scores;
    int *chosen, *index, *from;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p)
        : candidate(arena.take<S>(p.d_ * p.rank())), table(arena.take<S>(4 * p.d_)), spectrum(arena.take<S>(p.d_ * p.k_)), scores(arena, p.k_, p.d_),
          chosen(arena.take<int>(p.d_)), index(arena.take<int>(p.rank())), from(arena.take<int>(p.rank())) {}
  };

  Dct& options() { return options_; }
  const Dct& options() const { return options_; }
  Index rank() const { return indices_.rows(); }
  void check() const {
    if (detail::checked_rank(who, options_, d_) != rank())
      detail::bad_argument(who, "rank = " + std::to_string(options_.rank), std::to_string(rank()) + ", as at construction");
  }
  template <class Kept>
  static bool warm(const Kept& kept) { return kept.captured_at_refresh > 0; }
  void begin(B& backend) { launch(backend, FirstIndices{indices_.data(), rank()}); }

  template <class Intake>
  void refresh(B& backend, const Intake& a, Work& work, Control<S>* control, bool) const {
    transform(backend, a, work, control, nullptr);
    choose(backend, work);
  }
  /// work.spectrum <- T(A), plus the coefficients that were fed back, where there are any.
  template <class Intake>
  void transform(B& backend, const Intake& a, Work& work, Control<S>* control, const S* error) const {
    launch(backend, CosineTable<S>{work.table, d_});
    using Source = decltype(a.source());
    launch(backend, CosineTransform<S, Source, Columns<S>>{a.source(), {work.spectrum, d_}, d_, k_, options_.basis, factors_, work.table, control, true});
    if (error != nullptr) launch(backend, sweep(Columns<const S>{error, d_}, Added<S>{work.spectrum, d_}, d_, k_, control, true));
  }
  /// work.index <- the rows of the spectrum that score highest.
  void choose(B& backend, Work& work) const {
    work.scores.template operator()<S, S>(backend, View<const S>{work.spectrum, k_, d_, d_, 1}, nullptr, options_.score == Score::L1);
    launch(backend, Choose{work.scores.column, d_, rank(), work.chosen});
    launch(backend, Chosen{work.chosen, d_, rank(), work.index, indices_.data(), work.from});
  }
  void core(B& backend, const Work& work, S* R, const Control<S>* control, bool refreshing = true) const {
    launch(backend, TakeRows<S>{work.spectrum, R, d_, rank(), k_, refreshing ? work.index : indices_.data(), 1, control});
  }
  /// error <- the spectrum but for the rows in use, where the step happens.
  void keep(B& backend, const Work& work, S* error, const Control<S>* control) const {
    launch(backend, sweep(Columns<const S>{work.spectrum, d_}, Columns<S>{error, d_}, d_, k_, control));
    launch(backend, ZeroRows<S>{error, d_, rank(), k_, indices_.data(), control});
  }
  void prepare(B& backend, Work& work, Control<S>*) const {
    launch(backend, CosineTable<S>{work.table, d_});
    draw(backend, work);
  }
  const S* basis(const Work& work) const { return work.candidate; }
  const S* replaced(const Work&) const { return nullptr; }
  const int* moved_from(const Work& work) const { return work.from; }
  void commit(B& backend, const Work& work, Control<S>* control) {
    launch(backend, CopyIf<int, S>{work.index, indices_.data(), rank(), control});
    draw(backend, work);
  }
  void visit(auto&& f) { f("indices", indices_); }
  static void numbers(auto& kept, auto&& f) {
    f("refresh_pending", kept.refresh_pending), f("captured_at_refresh", kept.captured_at_refresh);
  }

 private:
  static constexpr const char* who = "lowrank::Dct";
  void draw(B& backend, const Work& work) const {
    launch(backend, Cosines<S>{work.candidate, d_, rank(), indices_.data(), work.table, options_.basis});
  }

  Dct options_;
  Array<std::int32_t, B> indices_;
  Index d_ = 0, k_ = 0;
  Factors factors_;
};

}  // namespace cuda
}  // namespace lowrank
