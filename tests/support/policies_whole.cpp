#include <lowrank/whole/dion.hpp>
#include <lowrank/whole/dion2.hpp>
#include <lowrank/whole/flora.hpp>
#include <lowrank/whole/ldadam.hpp>
#include <lowrank/whole/online_subspace.hpp>
#include <lowrank/whole/trion.hpp>
#include <support/erased.hpp>
#include <support/policies_parts.hpp>

namespace support {

using namespace lowrank;

template <class S>
std::vector<Policy<S>> whole_policies() {
  const auto selected = [](auto r, auto d, auto k, auto b) { return d * k * b + 4 * r; };
  return {
      policy<S>("trion", Trion{.weight_decay = 0.01, .polynomial = Polynomial::Tuned, .shape_scale = ShapeScale::Rms}, Coupled{}, Coupled{}, selected),
      policy<S>("trion, as published", Trion{.shape_scale = ShapeScale::Rms, .basis = DctBasis::Transposed,
                                             .domain = MomentumDomain::Gradient}, Coupled{}, Coupled{}, selected),
      policy<S>("dion2", Dion2{.shape_scale = ShapeScale::Rms}, Coupled{}, Coupled{}, selected),
      policy<S>("dion", Dion{.seed = 7}, Coupled{}, Coupled{},
                [](auto r, auto d, auto k, auto b) { return (d * k + k * r) * b; }),
      policy<S>("ldadam", LdAdam{.weight_decay = 0.1, .seed = 7}, Coupled{}, Coupled{},
                [](auto r, auto d, auto k, auto b) { return (d * r + 2 * k * r + d * k) * b; }),
      policy<S>("online subspace descent", OnlineSubspace{.weight_decay = 0.1, .seed = 7}, Coupled{}, Coupled{},
                [](auto r, auto d, auto k, auto b) { return (3 * d * r + 2 * k * r) * b; }),
      policy<S>("flora", Flora{.beta1 = 0.5, .clip = 0.1, .weight_decay = 0.01, .seed = 7}, Coupled{}, Coupled{},
                [](auto r, auto d, auto k, auto b) { return (k * r + d + k) * b; }),
  };
}

template std::vector<Policy<float>> whole_policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template std::vector<Policy<double>> whole_policies<double>();
#endif

}  // namespace support
