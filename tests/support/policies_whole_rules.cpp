#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/projector/two_sided_svd.hpp>
#include <lowrank/rule/adafactor.hpp>
#include <lowrank/rule/orthogonal.hpp>
#include <lowrank/rule/rmsprop.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

// Rules that need all of R at once, and RMSProp.
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
      policy<S>("fira_rmsprop", Subspace{}, RmsProp{}, Residual{},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r) * b + b; }),
  };
}

template std::vector<Policy<float>> whole_rule_policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template std::vector<Policy<double>> whole_rule_policies<double>();
#endif

}  // namespace support
