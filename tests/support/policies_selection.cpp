#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/lift/frugal.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/projector/coordinates.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/projector/geodesic.hpp>
#include <lowrank/projector/golore.hpp>
#include <lowrank/projector/lazy_subspace.hpp>
#include <lowrank/projector/sara.hpp>
#include <lowrank/projector/subspace_bf16.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

// Subspaces that are sampled or selected, FRUGAL's lift, and states of few bits.
template <class S>
std::vector<Policy<S>> selection_policies() {
  const AdamW paper{.weight_decay = 0.1};
  const auto dense = [](auto r, auto d, auto k, auto b) { return (d * r + 2 * k * r) * b; };
  const auto index = [](auto r, auto, auto k, auto b) { return 2 * k * r * b + 4 * r; };
  return {
      policy<S>("random orthogonal", RandomOrthogonal{.seed = 7}, paper, BackProject{}, dense),
      policy<S>("golore", Golore{.random_after = 4, .seed = 7}, paper, BackProject{}, dense),
      policy<S>("subtrack", Geodesic{.seed = 7}, paper, Residual{.scale = 0.25},
                [](auto r, auto d, auto k, auto b) { return (d * r + 2 * k * r) * b + b; }),
      policy<S>("sara", Sara{.seed = 7}, paper, BackProject{}, dense),
      policy<S>("coordinates, error feedback", Coordinates{}, paper, ErrorFeedback{},
                [](auto r, auto d, auto k, auto b) { return (2 * k * r + d * k) * b + 4 * r; }),
      policy<S>("dct, error feedback in 8 bits", Dct{}, paper, ErrorFeedback{.storage = Storage::Int8},
                [](auto r, auto d, auto k, auto b) { return 2 * k * r * b + d * k + 2 * k * b * ((d + 255) / 256) + 4 * r; }),
      policy<S>("coordinates, error feedback in 4 bits", Coordinates{}, paper, ErrorFeedback{.storage = Storage::Int4},
                [](auto r, auto d, auto k, auto b) { return 2 * k * r * b + (d + 1) / 2 * k + 2 * k * b * ((d + 255) / 256) + 4 * r; }),
      policy<S>("lazy subspace in 4 bits, lion", LazySubspace{.transport = Transport::Rotate, .similar = 0.1, .seed = 7}, Lion{}, BackProject{},
                [](auto r, auto d, auto k, auto b) { return (d + 1) / 2 * r + 2 * r * b * ((d + 255) / 256) + k * r * b + 5 * 8; }),
      rounded(policy<S>("subspace in bf16", SubspaceBf16{.sweeps = 2}, paper, BackProject{.scale = 0.25},
                        [](auto r, auto d, auto k, auto b) { return 2 * d * r + 2 * k * r * b; }), 0x1p-8),
      policy<S>("coordinates, error feedback in bf16", Coordinates{}, paper, ErrorFeedback{.storage = Storage::Bf16},
                [](auto r, auto d, auto k, auto b) { return 2 * k * r * b + 2 * d * k + 4 * r; }),
      policy<S>("frugal on sampled coordinates", Coordinates{.selection = Selection::Sampled, .seed = 7}, paper, Frugal{}, index),
      policy<S>("frugal on the dct", Dct{.transport = Transport::Reset}, Sgd{.momentum = 0.9},
                Frugal{.scale = 0.5, .remainder = Remainder::Sgd},
                [](auto r, auto, auto k, auto b) { return k * r * b + 4 * r; }),
      policy<S>("frugal", RandomOrthogonal{.transport = Transport::Reset, .seed = 7}, paper, Frugal{}, dense),
  };
}

template std::vector<Policy<float>> selection_policies<float>();
template std::vector<Policy<double>> selection_policies<double>();

}  // namespace support
