// Gaussian on a device: a basis that is drawn, never kept.
#pragma once

#include <lowrank/cuda/projector.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

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

}  // namespace cuda
}  // namespace lowrank
