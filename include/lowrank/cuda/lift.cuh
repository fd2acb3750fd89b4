// Lifts on a device: how the update comes back, W <- after (before W - move (P coef + A diag(phi))); the equations are those of
// lowrank/lift/. LiftState<Options, S> has
//   uses_projection, uses_gradient     whether coef and phi are there
//   scale()                            what multiplies P N where nothing else is to be done to N
//   limit(...)                         a kernel: from the columns' norms to phi (and Control::kept_factor), the limiter's norm included
#pragma once

#include <lowrank/cuda/sums.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class Options, class S>
class LiftState;

namespace detail {

inline void check_scale(const char* who, double scale) { require(scale >= 0 && scale < 1e30, who, "scale", scale, "a number >= 0"); }
inline void check_limiter(const char* who, const Limiter& o) {
  if (!(o.gamma > 0)) bad_argument(who, "limiter.gamma = " + std::to_string(o.gamma), "gamma > 0 (infinity: off)");
  require(o.floor >= 0 && o.floor < 1e30, who, "limiter.floor", o.floor, "a finite floor >= 0");
}

}  // namespace detail

/// Per column of the canonical gradient: ||a_j||^2, ||r_j||^2, ||n_j||^2.
struct ColumnNorms {
  const double *gradient, *core, *direction;
};

/// Given the norm x of this step,  c = max(x / (L + 1e-8), gamma) / gamma,   L <- max(x / c, floor),   update / c.
template <class S>
LOWRANK_HOST_DEVICE double limited(const Limiter& o, double x, S& norm) {
  const bool off = o.gamma > 1e300 || norm == 0;
  const double c = off ? 1.0 : most(x / (double(norm) + 1e-8), o.gamma) / o.gamma;
  if (x > 0) norm = S(most(x / c, o.floor));
  return c;
}

/// The one block between the norms of the columns and their factors. Lift: square(factor, ...) is what a column adds to the square of
/// the norm that is limited, finish(control, sums...) what each column(phi, ...) is multiplied by.
template <class S, class Lift>
struct Limit {
  static constexpr int threads = 256;
  Lift lift;
  ColumnNorms norms;
  Index k;
  S* phi;
  Control<S>* control;

  Grid grid() const { return {1, shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    double* room = block.template shared<double>(threads);
    auto squared = block.template local<double>();
    block.each([&](int t) {
      double sum = 0;
      for (Index j = t; j < k; j += threads) {
        const double factor = std::sqrt(norms.direction[j]) / (std::sqrt(norms.core[j]) + 1e-8);
        phi[j] = S(factor);
        sum += lift.square(factor, norms.gradient[j], norms.core[j]);
      }
      squared[t] = sum;
    });
    const double norm = block_sum(block, squared, room);
    const double direction = total(block, norms.direction, k, room), core = total(block, norms.core, k, room);
    const double gradient = total(block, norms.gradient, k, room);
    auto factor = block.template local<double>();
    double* shared_factor = room;
    block.each([&](int t) {
      if (t == 0) shared_factor[0] = control->go == 0 ? 0.0 : lift.finish(*control, norm, direction, core, gradient);
    });
    block.each([&](int t) { factor[t] = shared_factor[0]; });
    block.each([&](int t) {
      if (control->go == 0) return;
      for (Index j = t; j < k; j += threads) phi[j] = S(lift.column(double(phi[j]), direction, core) * factor[t]);
    });
  }
};

template <class S>
class LiftState<BackProject, S> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = false, limits = false;
  static constexpr const char* who = "lowrank::BackProject";

  LiftState() = default;
  explicit LiftState(const BackProject& options) : options_(options) { check(); }
  BackProject& options() { return options_; }
  const BackProject& options() const { return options_; }
  void check() const { detail::check_scale(who, options_.scale); }
  double scale() const { return options_.scale; }

 private:
  BackProject options_;
};

template <class S>
class LiftState<Coupled, S> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = false, limits = false;

  LiftState() = default;
  explicit LiftState(const Coupled&) {}
  Coupled& options() { return options_; }
  const Coupled& options() const { return options_; }
  void check() const {}
  double scale() const { return 1; }

 private:
  Coupled options_;
};

/// What a projection loses is added to the next gradient. On a device with Dct only, whose errors are kept as coefficients, in full.
template <class S>
class LiftState<ErrorFeedback, S> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = false, limits = false;

  LiftState() = default;
  explicit LiftState(const ErrorFeedback& options) : options_(options) { check(); }
  ErrorFeedback& options() { return options_; }
  const ErrorFeedback& options() const { return options_; }
  void check() const {
    if (options_.storage != Storage::Full) detail::bad_argument("lowrank::ErrorFeedback", "codes of few bits", "Storage::Full on a device");
  }
  double scale() const { return 1; }

 private:
  ErrorFeedback options_;
};

/// Fira (arXiv 2410.01623): U = P (alpha N - (alpha / c) R diag(phi)) + A diag(psi / c), psi = phi (Code) or alpha phi (Paper).
struct ResidualRule {
  Residual o;

  LOWRANK_HOST_DEVICE double square(double factor, double gradient, double core) const {
    const double kappa = o.form == FiraForm::Code ? o.scale : 1.0;
    return factor * factor * most(0.0, gradient - kappa * (2 - kappa) * core);
  }
  template <class S>
  LOWRANK_DEVICE double finish(Control<S>& c, double norm, double, double, double) const {
    const bool code = o.form == FiraForm::Code;
    const double factor = limited(o.limiter, std::sqrt(norm) * (code ? 1.0 : c.motion.gain), c.kept.limited_norm);
    const double back = (code ? 1.0 : o.scale) / factor;
    c.kept_factor = back > 0 ? S(-o.scale / factor / back) : S(0);  // of phi once it was multiplied by `back`
    return back;
  }
  LOWRANK_HOST_DEVICE double column(double phi, double, double) const { return phi; }
};

template <class S>
class LiftState<Residual, S> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = true, limits = true;
  static constexpr const char* who = "lowrank::Residual";

  LiftState() = default;
  explicit LiftState(const Residual& options) : options_(options) { check(); }
  Residual& options() { return options_; }
  const Residual& options() const { return options_; }
  void check() const { detail::check_scale(who, options_.scale), detail::check_limiter(who, options_.limiter); }
  double scale() const { return 1; }
  ResidualRule rule() const { return {options_}; }

 private:
  Residual options_;
};

/// APOLLO (arXiv 2412.05270): U = sqrt(scale) A diag(phi) / c; one phi for the whole matrix (Tensor).
struct ChannelRule {
  ChannelScale o;

  LOWRANK_HOST_DEVICE double square(double factor, double gradient, double) const { return factor * factor * gradient; }
  template <class S>
  LOWRANK_DEVICE double finish(Control<S>& c, double norm, double direction, double core, double gradient) const {
    const bool tensor = o.granularity == Granularity::Tensor, front = o.scale_order == ScaleOrder::BeforeLimiter;
    const double alpha = std::sqrt(o.scale), size = tensor ? column(0, direction, core) * std::sqrt(gradient) : std::sqrt(norm);
    return alpha / limited(o.limiter, front ? alpha * size : size, c.kept.limited_norm);
  }
  LOWRANK_HOST_DEVICE double column(double phi, double direction, double core) const {
    return o.granularity == Granularity::Tensor ? std::sqrt(direction) / (std::sqrt(core) + 1e-8) : phi;
  }
};

template <class S>
class LiftState<ChannelScale, S> {
 public:
  static constexpr bool uses_projection = false, uses_gradient = true, limits = true;
  static constexpr const char* who = "lowrank::ChannelScale";

  LiftState() = default;
  explicit LiftState(const ChannelScale& options) : options_(options) { check(); }
  ChannelScale& options() { return options_; }
  const ChannelScale& options() const { return options_; }
  void check() const { detail::check_scale(who, options_.scale), detail::check_limiter(who, options_.limiter); }
  double scale() const { return 1; }
  ChannelRule rule() const { return {options_}; }

 private:
  ChannelScale options_;
};

}  // namespace cuda
}  // namespace lowrank
