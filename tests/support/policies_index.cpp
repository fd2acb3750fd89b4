#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

template <class S>
std::vector<Policy<S>> index_policies() {
  const AdamW paper{.weight_decay = 0.1};
  const auto bytes = [](auto r, auto, auto k, auto b) { return 2 * k * r * b + 4 * r; };
  return {
      policy<S>("dct, error feedback", Dct{}, paper, ErrorFeedback{},
                [](auto r, auto d, auto k, auto b) { return (2 * k * r + d * k) * b + 4 * r; }),
      policy<S>("dct, fast", Dct{.route = DctRoute::Fast}, paper, BackProject{}, bytes),
      policy<S>("dct, fast, spectrum stored", Dct{.route = DctRoute::Fast, .spectrum = Spectrum::Store}, paper,
                BackProject{}, bytes),
      policy<S>("dct, selected", Dct{.score = Score::L2, .route = DctRoute::Selected}, paper, BackProject{}, bytes),
      policy<S>("dct, transposed basis", Dct{.transport = Transport::Keep, .basis = DctBasis::Transposed}, paper,
                BackProject{}, bytes),
      policy<S>("dct, lion, residual", Dct{.transport = Transport::Reset}, Lion{}, Residual{},
                [](auto r, auto, auto k, auto b) { return k * r * b + 4 * r + b; }),
      policy<S>("dct, momentum, scaled", Dct{}, Sgd{.momentum = 0.9}, ChannelScale{},
                [](auto r, auto, auto k, auto b) { return k * r * b + 4 * r + b; }),
  };
}

template std::vector<Policy<float>> index_policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template std::vector<Policy<double>> index_policies<double>();
#endif

}  // namespace support
