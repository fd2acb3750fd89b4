// Options of the lifts: how the update comes back.
#pragma once

#include <lowrank/options/storage.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// W <- W - lr scale P N.
struct BackProject {
  double scale = 1;

  static constexpr const char* name = "back_project";
  static void visit(auto& o, auto&& f) { f("scale", o.scale); }
};

/// Norm-growth limiter (Fira, arXiv 2410.01623, eq. 9): the norm may grow by gamma a step. gamma = infinity: off. The
/// reference norm never falls below floor; without one, an almost zero early gradient lets it creep up from there by
/// 1 % a step. A norm of exactly zero never becomes the reference.
struct Limiter {
  double gamma = 1.01, floor = 0;

  static void visit(auto& o, auto&& f) { f("gamma", o.gamma), f("floor", o.floor); }
};

/// Code: alpha P N + phi (G - alpha P P^T G), limiter on raw norms. Paper: alpha (P N + phi (I - P P^T) G), limiter on
/// bias-corrected norms.
enum class FiraForm { Code, Paper };

/// Fira: what the projection loses returns, scaled per column by phi_j = ||N_j|| / ||R_j||.
struct Residual {
  double scale = 1;
  FiraForm form = FiraForm::Code;
  Limiter limiter = {};

  static constexpr const char* name = "residual";
  static void visit(auto& o, auto&& f) { f("scale", o.scale), f("form", o.form), Limiter::visit(o.limiter, f); }
};

enum class Granularity { Channel, Tensor };
/// Whether sqrt(scale) multiplies before the limiter ("scale_front") or after it.
enum class ScaleOrder { AfterLimiter, BeforeLimiter };

/// APOLLO: the update is the whole gradient, scaled per column (or by one number) by ||N|| / ||R||, times sqrt(scale).
struct ChannelScale {
  double scale = 1;
  Granularity granularity = Granularity::Channel;
  ScaleOrder scale_order = ScaleOrder::AfterLimiter;
  Limiter limiter = {};

  static constexpr const char* name = "channel_scale";
  static void visit(auto& o, auto&& f) {
    f("scale", o.scale), f("granularity", o.granularity), f("scale_order", o.scale_order);
    Limiter::visit(o.limiter, f);
  }
};

/// What the projection loses is added to the next gradient: E <- A - P R, A = G + E. Keeps d x k numbers, in the
/// transform's domain where the projector has one. storage is fixed at construction.
struct ErrorFeedback {
  Storage storage = Storage::Full;

  static constexpr const char* name = "error_feedback";
  static void visit(auto& o, auto&& f) { f("storage", o.storage); }
};

/// What happens to the part of the gradient outside the subspace: its sign (published default) or itself (SGD).
enum class Remainder { Sign, Sgd };

/// FRUGAL (arXiv 2411.07837): the rule inside the subspace, a stateless one outside, W <- W - lr (P N + scale f(A - P R)).
struct Frugal {
  double scale = 1;  // of the remainder's learning rate (published: 1 for pre-training, 0.1 for fine-tuning)
  Remainder remainder = Remainder::Sign;

  static constexpr const char* name = "frugal";
  static void visit(auto& o, auto&& f) { f("scale", o.scale), f("remainder", o.remainder); }
};

}  // namespace lowrank
