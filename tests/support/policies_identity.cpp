#include <lowrank/projector/gaussian.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

template <class S>
std::vector<Policy<S>> identity_policies() {
  const AdamW paper{.weight_decay = 0.1};
  const AdamW galore{.eps = 1e-6, .weight_decay = 0.1, .epsilon = Epsilon::BeforeCorrection,
                     .decay_order = DecayOrder::AfterUpdate};
  const auto two = [](auto, auto d, auto k, auto b) { return 2 * d * k * b; };
  const auto one = [](auto, auto d, auto k, auto b) { return d * k * b; };
  const auto none = [](auto, auto, auto, auto) { return std::size_t(0); };
  const auto apollo = [](auto r, auto, auto k, auto b) { return 2 * k * r * b + b; };  // P from its seed, the limiter
  return {
      policy<S>("adamw", Identity{}, paper, BackProject{}, two),
      policy<S>("adamw, GaLore's form", Identity{}, galore, BackProject{.scale = 0.5}, two),
      policy<S>("sgd", Identity{}, Sgd{}, BackProject{}, none),
      policy<S>("nesterov", Identity{}, Sgd{.momentum = 0.9, .weight_decay = 0.1, .form = Momentum::Nesterov},
                BackProject{}, one),
      policy<S>("lion", Identity{}, Lion{.weight_decay = 0.1}, BackProject{}, one),
      policy<S>("apollo", Gaussian{.seed = 7}, galore, ChannelScale{}, apollo),
      policy<S>("apollo_mini", Gaussian{.seed = 7}, galore,
                ChannelScale{.scale = 128, .granularity = Granularity::Tensor}, apollo),
      policy<S>("gaussian, rotated", Gaussian{.transport = Transport::Rotate, .seed = 7}, paper, BackProject{},
                [](auto r, auto, auto k, auto b) { return 2 * k * r * b; }),
      policy<S>("gaussian, momentum, scaled", Gaussian{.transport = Transport::Reset, .seed = 7}, Sgd{.momentum = 0.9},
                ChannelScale{.scale_order = ScaleOrder::BeforeLimiter},
                [](auto r, auto, auto k, auto b) { return k * r * b + b; }),
  };
}

template std::vector<Policy<float>> identity_policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template std::vector<Policy<double>> identity_policies<double>();
#endif

}  // namespace support
