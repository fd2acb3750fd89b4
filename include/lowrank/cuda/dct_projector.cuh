// Dct on a device: chosen vectors of the cosine basis; the transform that chooses them is dct.cuh.
#pragma once

#include <lowrank/cuda/dct_rows.cuh>
#include <lowrank/cuda/projector.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// The r vectors of the cosine basis on which the gradient scores highest (DCT-AdamW, arXiv 2505.17967); lowrank/projector/dct.hpp has
/// the equations. A refresh transforms the gradient once, into d x k scalars of workspace, and R is rows of that. Other steps and the way
/// back do the same (DctRoute::Fast) or are products with the chosen cosines, which are drawn from their indices and not kept
/// (DctRoute::Selected); Auto takes what transform_pays().
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
    int *chosen, *index, *from, *slot;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p)
        : candidate(arena.take<S>(p.d_ * p.rank())), table(arena.take<S>(4 * p.d_)), spectrum(arena.take<S>(p.d_ * p.k_)), scores(arena, p.k_, p.d_),
          chosen(arena.take<int>(p.d_)), index(arena.take<int>(p.rank())), from(arena.take<int>(p.rank())),
          slot(arena.take<int>(p.d_)) {}
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

  /// Whether ways there and back are transforms.
  bool fast() const {
    if (options_.route != DctRoute::Auto) return options_.route == DctRoute::Fast;
    return transform_pays(rank(), sizeof(S), factors_);
  }

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
    launch(backend, TakeRows<S>{error, nullptr, d_, rank(), k_, indices_.data(), 0, control});
  }
  void prepare(B& backend, Work& work, Control<S>*) const { launch(backend, CosineTable<S>{work.table, d_}); }
  /// P, for whoever multiplies by it.
  void draw(B& backend, const Work& work) const {
    launch(backend, Cosines<S>{work.candidate, d_, rank(), indices_.data(), work.table, options_.basis});
  }
  /// P N into a sink, where the step happens, without P.
  template <class Sink>
  void back(B& backend, const Work& work, const S* direction, const Sink& sink, Index first, Index columns, const Control<S>* control) const {
    if (first == 0) launch(backend, Slots{indices_.data(), rank(), d_, work.slot});
    const Spread<S> from{direction + first * rank(), rank(), work.slot};
    const DctBasis other = options_.basis == DctBasis::Cosines ? DctBasis::Transposed : DctBasis::Cosines;
    launch(backend, CosineTransform<S, Spread<S>, Sink>{from, sink, d_, columns, other, factors_, work.table, control});
  }
  const S* basis(const Work& work) const { return work.candidate; }
  const S* replaced(const Work&) const { return nullptr; }
  const int* moved_from(const Work& work) const { return work.from; }
  void commit(B& backend, const Work& work, Control<S>* control) {
    launch(backend, CopyIf<int, S>{work.index, indices_.data(), rank(), control});
  }
  void visit(auto&& f) { f("indices", indices_); }
  static void numbers(auto& kept, auto&& f) {
    f("refresh_pending", kept.refresh_pending), f("captured_at_refresh", kept.captured_at_refresh);
  }

 private:
  static constexpr const char* who = "lowrank::Dct";

  Dct options_;
  Array<std::int32_t, B> indices_;
  Index d_ = 0, k_ = 0;
  Factors factors_;
};

}  // namespace cuda
}  // namespace lowrank
