#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/orthogonal.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

// Rules that need all of R at once.
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
  };
}

template std::vector<Policy<float>> whole_rule_policies<float>();
template std::vector<Policy<double>> whole_rule_policies<double>();

}  // namespace support
