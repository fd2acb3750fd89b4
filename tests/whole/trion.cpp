// Trion: reference vectors in both of its forms to 1e-9, and the two forms against each other over many steps.
#include <support/catch.hpp>
#include <support/golden.hpp>
#include <support/placed.hpp>

#include <lowrank/recipes.hpp>

using namespace support;
using namespace lowrank;
using Eigen::MatrixXd;

namespace {

/// The orthonormal matrix whose columns are the basis vectors.
MatrixXd basis(Index d, DctBasis kind) {
  MatrixXd b(d, d);
  for (Index q = 0; q < d; ++q)
    for (Index j = 0; j < d; ++j)
      b(j, q) = std::sqrt((q == 0 ? 1 : 2) / double(d)) *
                std::cos(std::acos(-1.0) * double(q * (2 * j + 1)) / double(2 * d));
  return kind == DctBasis::Cosines ? b : MatrixXd(b.transpose());
}

/// The momentum in the gradient's domain and the user's orientation.
template <class O>
MatrixXd momentum(const O& optimizer) {
  const auto& buffer = optimizer.projection().momentum();
  MatrixXd B(buffer.rows(), buffer.cols());
  for (Index i = 0; i < B.size(); ++i) B.data()[i] = double(buffer.data()[i]);
  const Trion& o = optimizer.projector();
  if (o.domain == MomentumDomain::Transform) B = basis(B.rows(), o.basis) * B;
  return optimizer.transposed() ? MatrixXd(B.transpose()) : B;
}

ShapeScale scale_of(const std::string& name) {
  if (name == "kj") return ShapeScale::Tall;
  if (name == "kimi") return ShapeScale::Rms;
  if (name == "dion") return ShapeScale::Spectral;
  REQUIRE(name == "none");
  return ShapeScale::None;
}

template <class S>
void check(const Golden& g, MomentumDomain domain, Order order, double tolerance) {
  Placed<S> w(g.matrix("W0"), order);
  // as published: columns of the dct3 matrix on the right, its rows on the left
  const bool left = g.matrix("W0").rows() < g.matrix("W0").cols();
  REQUIRE(g.number("ns_steps") == 5);
  auto optimizer = trion(w.view(), {.rank = std::int64_t(g.number("rank")),
                                    .mu = g.number("mu"),
                                    .weight_decay = g.number("wd"),
                                    .shape_scale = scale_of(g.text("scaling")),
                                    .basis = left ? DctBasis::Cosines : DctBasis::Transposed,
                                    .domain = domain});
  for (Index t = 0; t < Index(g.number("steps")); ++t) {
    INFO("step " << t + 1);
    const Placed<S> gradient(g.matrix("G", t), order);
    REQUIRE_FALSE(optimizer.step(w.view(), gradient.view(), {.lr = g.number("lr")}).skipped);
    const MatrixXd indices = g.matrix("indices", t);
    for (Index i = 0; i < indices.size(); ++i) REQUIRE(optimizer.projection().indices()[i] == std::int32_t(indices(i)));
    CHECK(relative_error(w.values(), g.matrix("W", t)) < tolerance);
  }
  CHECK(relative_error(momentum(optimizer), g.matrix("momentum")) < tolerance);
}

}  // namespace

TEST_CASE("Trion's reference vectors", "[golden]") {
  for (const std::string shape : {"square", "tall", "wide"})
    for (const std::string scaling : {"kj", "kimi", "dion", "none"})
      for (const Order order : {Order::Rows, Order::Columns})
        for (const MomentumDomain domain : {MomentumDomain::Transform, MomentumDomain::Gradient}) {
          INFO(shape << ", " << scaling);
          const Golden g("trion." + shape + "." + scaling);
          check<double>(g, domain, order, 1e-9);
          check<float>(g, domain, order, 1e-4);
        }
}

TEST_CASE("The transform of the momentum is the momentum of the transform", "[whole]") {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{70, 45}, {33, 131}, {48, 48}})
    for (const DctBasis kind : {DctBasis::Cosines, DctBasis::Transposed}) {
      Placed<double> a(random_matrix(rows, cols, 3), Order::Columns), b(random_matrix(rows, cols, 3), Order::Columns);
      auto transform = trion(a.view(), {.rank = 7, .basis = kind});
      auto gradient = trion(b.view(), {.rank = 7, .basis = kind, .domain = MomentumDomain::Gradient});
      for (int t = 0; t < 30; ++t) {
        const Placed<double> g(training_gradient(rows, cols, t), Order::Rows);
        transform.step(a.view(), g.view(), {.lr = 0.02});
        gradient.step(b.view(), g.view(), {.lr = 0.02});
      }
      CHECK(relative_error(a.values(), b.values()) < 1e-11);
      CHECK(relative_error(momentum(transform), momentum(gradient)) < 1e-11);
      CHECK(transform.state_bytes() == gradient.state_bytes());
    }
}

TEST_CASE("Options of whole optimizers are checked, also between steps", "[whole]") {
  using Catch::Matchers::ContainsSubstring;
  MatrixXd W = MatrixXd::Ones(6, 4);
  const MatrixXd G = MatrixXd::Ones(6, 4);
  CHECK_THROWS_WITH(trion(W, {.rank = 0}), ContainsSubstring("lowrank::Trion") && ContainsSubstring("rank"));
  CHECK_THROWS_WITH(trion(W, {.mu = 1}), ContainsSubstring("mu"));
  CHECK_THROWS_WITH(dion2(W, {.rank_fraction = 1.5}), ContainsSubstring("rank_fraction"));
  CHECK_THROWS_WITH(dion(W, {.weight_decay = -1}), ContainsSubstring("weight_decay"));
  auto optimizer = dion(W, {.rank = 2});
  optimizer.projector().mu = 2;
  CHECK_THROWS_WITH(optimizer.step(W, G, {.lr = 0.1}), ContainsSubstring("mu"));
  CHECK(W == MatrixXd::Ones(6, 4));
  CHECK(dion2(W, {.rank_fraction = 0.25}).rank() == 1);
  CHECK(dion2(W, {.rank_fraction = 0.26}).rank() == 2);
  CHECK(optimizer.description() == std::string("dion"));
}
