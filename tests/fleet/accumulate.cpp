// Gradients of micro-batches in a fleet: sums of P^T G where that is enough, of G where it is not; the step of all of them.
#include <fleet/model.hpp>
#include <support/catch.hpp>
#include <support/folder.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;

namespace {

/// GaLore on attention, Fira on MLPs (which needs the whole gradient), AdamW on the rest.
template <class M>
auto mixed_fleet(const M& params) {
  return Fleet(params, Group{named("*.attn.*"), galore({.rank = 6, .refresh_every = 4})},
               Group{named("*.mlp.*"), fira({.rank = 5, .refresh_every = 4})}, Group{anything(), adamw({.weight_decay = 0.1})});
}

}  // namespace

TEST_CASE("A fleet steps with sums of micro-batches as with their sum, and keeps few numbers between refreshes", "[fleet]") {
  SmallModel<double> dense(Order::Rows), gathered(Order::Columns);
  auto a = mixed_fleet(dense.parameters()), b = mixed_fleet(gathered.parameters());
  for (int t = 0; t < 9; ++t) {
    // the sum of what time steps 3 t, 3 t + 1 and 3 t + 2 give
    std::vector<Eigen::MatrixXd> sums;
    for (int i = 0; i < 3; ++i) {
      gathered.at_step(3 * t + i);
      if (i == 1) for (std::size_t q = 0; q < b.size(); ++q) b.accumulate(q, gathered.parameters()[q], 0.5);
      else b.accumulate(gathered.parameters(), 0.5);
      for (std::size_t q = 0; q < gathered.gradients.size(); ++q) {
        if (i == 0) sums.push_back(0.5 * gathered.gradients[q].values());
        else sums[q] += 0.5 * gathered.gradients[q].values();
      }
    }
    CHECK(b.accumulating());
    std::size_t bytes = 0;
    const auto numbers = [](const Eigen::MatrixXd& m) { return std::size_t(m.size()); };
    b.each([&]<class O>(const std::string& name, const O& o) {
      const auto at = std::size_t(std::find(gathered.names.begin(), gathered.names.end(), name) - gathered.names.begin());
      // P^T G of GaLore: r x k; a due basis keeps the sum of a step ago for the next
      const bool attention = name.find("attn") != std::string::npos;
      if (attention && t > 0) bytes += std::size_t(o.rank() * std::max(o.rows(), o.cols()));
      if (!attention || t % 4 == 0) bytes += numbers(sums[at]);
    });
    CHECK(b.accumulated_bytes() == bytes * sizeof(double));
    for (std::size_t q = 0; q < sums.size(); ++q)
      for (Index c = 0; c < sums[q].cols(); ++c)
        for (Index r = 0; r < sums[q].rows(); ++r) dense.gradients[q].at(r, c) = sums[q](r, c);
    const FleetReport expected = a.step(dense.parameters(), {.lr = 0.01});
    const FleetReport report = b.step_accumulated(gathered.parameters(), {.lr = 0.01});
    CHECK(report.refreshed == expected.refreshed);
    CHECK_FALSE(b.accumulating());
    for (std::size_t q = 0; q < sums.size(); ++q) {
      INFO("step " << t << ", " << dense.names[q]);
      CHECK((dense.weights[q].values() - gathered.weights[q].values()).cwiseAbs().maxCoeff() < 1e-10);
    }
  }
}

TEST_CASE("A fleet refuses half a sum, and what does not belong together", "[fleet]") {
  SmallModel<float> model;
  auto fleet = mixed_fleet(model.parameters());
  const auto params = model.parameters();
  CHECK_THROWS_WITH(fleet.step_accumulated(params, {.lr = 0.01}), ContainsSubstring("layers.0.attn.q") && ContainsSubstring("no gradient"));
  fleet.accumulate(0, params[0]);
  CHECK_THROWS_WITH(fleet.step_accumulated(params, {.lr = 0.01}), ContainsSubstring("layers.0.norm") && ContainsSubstring("no gradient"));
  CHECK_THROWS_WITH(fleet.step(params, {.lr = 0.01}), ContainsSubstring("step_accumulated"));
  const Folder folder("accumulate");
  CHECK_THROWS_WITH(fleet.save(folder.path() / "state.safetensors"), ContainsSubstring("accumulated"));
  CHECK_THROWS_WITH(fleet.accumulate(params, NAN), ContainsSubstring("weight"));
  CHECK_THROWS_WITH(fleet.accumulate(7, params[0]), ContainsSubstring("parameter 7"));
  CHECK_THROWS_WITH(fleet.accumulate(1, params[0]), ContainsSubstring("layers.0.norm"));
  auto turned = model.parameters();
  turned[4].gradient = params[3].gradient;
  CHECK_THROWS_WITH(fleet.accumulate(turned), ContainsSubstring("embed") && ContainsSubstring("50x50"));
  const auto before = model.elements();
  for (std::size_t q = 1; q < params.size(); ++q) fleet.accumulate(q, params[q]);
  auto shared = model.parameters();
  shared[3].weight.data = params[0].weight.data;
  CHECK_THROWS_WITH(fleet.step_accumulated(shared, {.lr = 0.01}), ContainsSubstring("same memory"));
  CHECK(model.elements() == before);
  CHECK(fleet.step_accumulated(params, {.lr = 0.01}).skipped == 0);
  CHECK(model.elements() != before);
}

TEST_CASE("A frozen matrix accumulates nothing and stays", "[fleet]") {
  SmallModel<float> model;
  auto fleet = mixed_fleet(model.parameters());
  fleet.step(model.parameters(), {.lr = 0.01});
  fleet.accumulate(model.parameters());
  model.lr_scales[2] = 0;  // frozen with a sum pending
  fleet.accumulate(model.parameters());
  const auto before = model.elements();
  fleet.step_accumulated(model.parameters(), {.lr = 0.01});
  CHECK(model.elements()[2] == before[2]);
  CHECK(model.elements()[0] != before[0]);
  CHECK_FALSE(fleet.accumulating());
  fleet.step(model.parameters(), {.lr = 0.01});
}
