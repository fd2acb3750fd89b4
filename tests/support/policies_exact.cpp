#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/projector/svd.hpp>
#include <lowrank/projector/two_sided_svd.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/lion.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

template <class S>
std::vector<Policy<S>> exact_policies() {
  const AdamW galore{.eps = 1e-6, .weight_decay = 0.1, .epsilon = Epsilon::BeforeCorrection,
                     .decay_order = DecayOrder::AfterUpdate};
  return {
      policy<S>("svd", Svd{}, galore, BackProject{.scale = 0.25},
                [](auto r, auto d, auto k, auto b) { return (d * r + 2 * k * r) * b; }),
      policy<S>("two-sided svd", TwoSidedSvd{}, galore, BackProject{},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r + 2 * r * r) * b; }),
      policy<S>("lion on the svd, error feedback", Svd{.transport = Transport::Rotate}, Lion{}, ErrorFeedback{},
                [](auto r, auto d, auto k, auto b) { return (d * r + k * r + d * k) * b; }),
  };
}

template std::vector<Policy<float>> exact_policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template std::vector<Policy<double>> exact_policies<double>();
#endif

}  // namespace support
