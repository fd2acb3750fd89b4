#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/projector/two_sided_svd.hpp>
#include <lowrank/rule/adafactor.hpp>
#include <lowrank/rule/adam8bit.hpp>
#include <lowrank/rule/adam_bf16.hpp>
#include <lowrank/rule/orthogonal.hpp>
#include <lowrank/rule/rmsprop.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

// Rules that need all of R at once, RMSProp, and moments in fewer bits.
template <class S>
std::vector<Policy<S>> whole_rule_policies() {
  const Orthogonal express{.form = Momentum::Heavy, .polynomial = Polynomial::PolarExpress,
                           .shape_scale = ShapeScale::Rms};
  return {
      policy<S>("muon", Identity{}, Orthogonal{.weight_decay = 0.1}, BackProject{},
                [](auto, auto d, auto k, auto b) { return d * k * b; }),
      policy<S>("orthogonal on a subspace", Subspace{}, express, BackProject{.scale = 0.5},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r) * b; }),
      policy<S>("orthogonal on the dct, error feedback", Dct{}, express, ErrorFeedback{},
                [](auto r, auto d, auto k, auto b) { return (k * r + d * k) * b + 4 * r; }),
      policy<S>("orthogonal, two-sided", TwoSidedSvd{}, express, BackProject{},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r + r * r) * b; }),
      policy<S>("adafactor", Identity{}, Adafactor{.weight_decay = 0.1}, BackProject{},
                [](auto, auto d, auto k, auto b) { return (d + k) * b; }),
      policy<S>("adafactor with momentum on a subspace", Subspace{}, Adafactor{.beta1 = 0.9}, BackProject{},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r + r + k) * b; }),
      policy<S>("adafactor on the dct, scaled", Dct{}, Adafactor{}, ChannelScale{},
                [](auto r, auto, auto k, auto b) { return (r + k) * b + 4 * r + b; }),
      policy<S>("rmsprop with momentum", Identity{}, RmsProp{.momentum = 0.9, .weight_decay = 0.1}, BackProject{},
                [](auto, auto d, auto k, auto b) { return 2 * d * k * b; }),
      policy<S>("adam in bf16", Identity{}, AdamBf16{.weight_decay = 0.1, .seed = 7}, BackProject{},
                [](auto, auto d, auto k, auto) { return 4 * d * k; }),
      policy<S>("galore_8bit", Subspace{}, Adam8bit{.weight_decay = 0.1, .seed = 7}, BackProject{.scale = 0.25},
                [](auto r, auto d, auto k, auto b) { return d * r * b + 2 * k * r + 2 * b * ((64 * r + 255) / 256) * ((k + 63) / 64); }),
      policy<S>("adam in bf16 on the dct, residual", Dct{}, AdamBf16{.seed = 7}, Residual{},
                [](auto r, auto, auto k, auto b) { return 4 * k * r + 4 * r + b; }),
      policy<S>("fira_rmsprop", Subspace{}, RmsProp{}, Residual{},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r) * b + b; }),
  };
}

template std::vector<Policy<float>> whole_rule_policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template std::vector<Policy<double>> whole_rule_policies<double>();
#endif

}  // namespace support
