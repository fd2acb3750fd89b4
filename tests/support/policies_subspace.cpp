#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

template <class S>
std::vector<Policy<S>> subspace_policies() {
  const AdamW paper{.weight_decay = 0.1};
  const Subspace keep{.transport = Transport::Keep}, reset{.transport = Transport::Reset};
  const auto galore = [](auto r, auto d, auto k, auto b) { return (d * r + 2 * k * r) * b; };
  const auto fira = [](auto r, auto d, auto k, auto b) { return (d * r + 2 * k * r) * b + b; };
  return {
      policy<S>("subspace", Subspace{}, paper, BackProject{.scale = 0.25}, galore),
      policy<S>("subspace, moments kept", keep, paper, BackProject{}, galore),
      policy<S>("subspace, moments reset", reset, paper, BackProject{}, galore),
      policy<S>("subspace, on drift", Subspace{.refresh_on_drift = 0.05, .sweeps = 2}, paper, BackProject{}, galore),
      policy<S>("subspace whose rank may adapt", Subspace{.adapt = {.energy = 0.9}}, paper, BackProject{},
                [](auto r, auto d, auto k, auto b) { return (d * r + 2 * k * r) * b + 8 * r; }),
      policy<S>("fira", Subspace{}, paper, Residual{}, fira),
      policy<S>("fira, the paper's form", Subspace{}, paper, Residual{.scale = 0.25, .form = FiraForm::Paper}, fira),
      policy<S>("apollo on a subspace", Subspace{}, paper, ChannelScale{}, fira),
      policy<S>("subspace, error feedback", Subspace{}, paper, ErrorFeedback{},
                [](auto r, auto d, auto k, auto b) { return (d * r + 2 * k * r + d * k) * b; }),
      policy<S>("lion on a subspace, residual", Subspace{}, Lion{}, Residual{},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r) * b + b; }),
      policy<S>("momentum on a subspace, error feedback", Subspace{}, Sgd{.momentum = 0.9}, ErrorFeedback{},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r + d * k) * b; }),
  };
}

template std::vector<Policy<float>> subspace_policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template std::vector<Policy<double>> subspace_policies<double>();
#endif

}  // namespace support
