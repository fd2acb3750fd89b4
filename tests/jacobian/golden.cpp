// Reference vectors of Jacobians, centroids and penalties with their gradients, to 1e-9 in double.
#include <filesystem>

#include <support/catch.hpp>
#include <support/golden.hpp>

#include <lowrank/jacobian/mlp.hpp>
#include <lowrank/jacobian/penalty.hpp>

using namespace lowrank;
using namespace lowrank::jacobian;
using support::Golden;
using support::relative_error;

namespace {

constexpr double tolerance = 1e-9;

Activation activation(const std::string& name) {
  if (name == "relu") return {Nonlinearity::Relu};
  if (name == "leaky_relu") return {Nonlinearity::LeakyRelu};
  if (name == "tanh") return {Nonlinearity::Tanh};
  if (name == "gelu") return {Nonlinearity::Gelu};
  if (name == "silu") return {Nonlinearity::Silu};
  REQUIRE(name == "identity");
  return {Nonlinearity::Identity};
}

struct Case {
  Golden golden;
  Mlp<double> net;
  Matrix<double> X, Y, V;  // V: block i of B columns is projection i
  Mlp<double>::Cache cache;

  explicit Case(const std::string& name)
      : golden(name), net(load(golden)), X(golden.matrix("x").transpose()), cache(net.cache(X.cols())) {
    Y.resize(net.output_dim(), X.cols());
    const auto shape = golden.shape("v");
    V.resize(shape[2], shape[0] * shape[1]);
    for (Index i = 0; i < shape[0]; ++i) V.middleCols(i * shape[1], shape[1]) = golden.matrix("v", i).transpose();
    forward();
  }
  void forward() { net.forward(batch(std::as_const(X)), cache, batch(Y)); }

  static Mlp<double> load(const Golden& g) {
    std::vector<Layer<double>> layers;
    for (int l = 0; g.has("W" + std::to_string(l)); ++l)
      layers.push_back({g.matrix("W" + std::to_string(l)), {}, g.matrix("b" + std::to_string(l)).transpose()});
    return {std::move(layers), activation(g.text("activation"))};
  }

  template <class Term>
  void check(const std::string& name, Projection projection, Term term, const Matrix<double>* projections) {
    Penalty penalty(projection, term);
    auto grads = net.grads();
    PenaltyStep<double> step;
    if (projections != nullptr) step.projections = view(*projections);
    forward();
    const double value = penalty.add_gradient(net, cache, X, grads, step);
    CAPTURE(name);
    CHECK(std::abs(value - golden.matrix(name + ".value")(0)) <= tolerance * std::abs(value));
    for (std::size_t l = 0; l < grads.size(); ++l) {
      CAPTURE(l);
      const auto dW = golden.matrix(name + ".dW" + std::to_string(l));
      const Matrix<double> db = golden.matrix(name + ".db" + std::to_string(l)).transpose();
      CHECK(relative_error(grads[l].weight, dW) <= tolerance);
      // a bias may have no gradient at all: measured against the weights'
      CHECK((grads[l].bias - db).cwiseAbs().maxCoeff() <=
            tolerance * std::max(dW.cwiseAbs().maxCoeff(), db.cwiseAbs().maxCoeff()));
    }
  }
};

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(LOWRANK_TEST_DATA) + "/golden"))
    if (const auto name = entry.path().stem().string(); name.starts_with("jacobian.")) names.push_back(name);
  REQUIRE(names.size() == 18);
  return names;
}

}  // namespace

TEST_CASE("outputs, Jacobians and centroids are the reference's") {
  for (const auto& name : cases()) {
    CAPTURE(name);
    Case c(name);
    CHECK(relative_error(c.Y.transpose(), c.golden.matrix("y")) <= tolerance);
    const Index B = c.X.cols(), C = c.Y.rows(), d = c.X.rows();
    Matrix<double> V(C, B), Q(d, B), T(d, B), JT(C, B);
    for (Index k = 0; k < C; ++k) {
      V.setZero();
      V.row(k).setOnes();
      c.net.vjp(c.cache, batch(std::as_const(V)), batch(Q));
      for (Index b = 0; b < B; ++b)
        CHECK((Q.col(b).transpose() - c.golden.matrix("J", b).row(k)).norm() <=
              tolerance * c.golden.matrix("J", b).norm());
    }
    for (Index k = 0; k < d; ++k) {
      T.setZero();
      T.row(k).setOnes();
      c.net.jvp(c.cache, batch(std::as_const(T)), batch(JT));
      for (Index b = 0; b < B; ++b)
        CHECK((JT.col(b) - c.golden.matrix("J", b).col(k)).norm() <= tolerance * c.golden.matrix("J", b).norm());
    }
    V.setOnes();
    c.net.vjp(c.cache, batch(std::as_const(V)), batch(Q));
    CHECK(relative_error(Q.transpose(), c.golden.matrix("centroid")) <= tolerance);
  }
}

TEST_CASE("penalties and all their gradients are the reference's") {
  for (const auto& name : cases()) {
    CAPTURE(name);
    Case c(name);
    c.check("fro_exact", {.law = Law::Exact}, FrobeniusNorm{}, nullptr);
    c.check("fro_sketch", {}, FrobeniusNorm{}, &c.V);
    c.check("fro2_exact", {.law = Law::Exact}, SquaredFrobenius{1}, nullptr);
    const Matrix<double> ones = Matrix<double>::Ones(c.Y.rows(), c.X.cols());
    c.check("one_minus_centroid_cos", {}, CentroidCosine{}, &ones);
  }
}

// Worked by hand and by automatic differentiation: the small net of two inputs, three units and two outputs.
TEST_CASE("the small net's penalties are those worked out by hand") {
  Matrix<double> W1(3, 2), W2(2, 3), X(2, 2), V(2, 2), Y(2, 2);
  W1 << 1, -1, 2, 1, -1, 3;
  W2 << 1, 0, -1, 1, 2, 1;
  X << 1, -0.5, 0.5, 1;
  V << 0.6, 1, 0.8, 0;
  Vector<double> b1(3), b2(2);
  b1 << 0.5, -1, 0.25;
  b2 << 0, 0.1;
  struct Row {
    Activation act;
    double grokalign, hoffman;
    std::vector<double> db1, dW1;
  };
  const std::vector<Row> rows = {{{Nonlinearity::Relu},
                                  5.398345637668169,
                                  15,
                                  {0, 0, 0},
                                  {0.9739815193318607, 0.17708754896942933, 1.1131217363792696, 0.20238577025077642,
                                   -0.08446658070257024, 0.696118614531284}},
                                 {{Nonlinearity::LeakyRelu, 0.01}, 5.407294363892429, 15.0401, {0, 0, 0}, {}},
                                 {{Nonlinearity::Tanh},
                                  1.165855083858002,
                                  0.729871077599661,
                                  {0.043131292055445636, -0.759905658252932, 0.08002449596708054},
                                  {-0.29242271430604183, 0.15377346986932885, -0.5557846227226969, -0.36842628482866147,
                                   0.17644009369908356, 0.041453323831052324}},
                                 {{Nonlinearity::Gelu},
                                  5.702928593348188,
                                  17.205185594420449,
                                  {0.4078237130782866, -0.0785988629617849, -0.03720938985001608},
                                  {1.123813357774227, 0.5574457655176739, 1.1767936572753397, 0.186772897210979,
                                   -0.09615949542048569, 0.6770877873665159}}};
  for (const Row& row : rows) {
    CAPTURE(int(row.act.kind));
    const Mlp<double> net({{W1, {}, b1}, {W2, {}, b2}}, row.act);
    auto cache = net.cache(2);
    auto grads = net.grads(), hoffman_grads = net.grads();
    net.forward(batch(std::as_const(X)), cache, batch(Y));
    Penalty grokalign(Projection{}, FrobeniusNorm{});
    Penalty hoffman(Projection{}, SquaredFrobenius{});
    CHECK(std::abs(grokalign.add_gradient(net, cache, X, grads, {.projections = view(V)}) - row.grokalign) <=
          1e-12 * row.grokalign);
    CHECK(std::abs(hoffman.add_gradient(net, cache, X, hoffman_grads, {.projections = view(V)}) - row.hoffman) <=
          1e-12 * row.hoffman);
    for (Index i = 0; i < 3; ++i) CHECK(std::abs(grads[0].bias(i) - row.db1[std::size_t(i)]) < 1e-12);
    for (std::size_t i = 0; i < row.dW1.size(); ++i)
      CHECK(std::abs(grads[0].weight(Index(i) / 2, Index(i) % 2) - row.dW1[i]) < 1e-12);
    CHECK(grads[1].bias.cwiseAbs().maxCoeff() == 0);
    if (row.act.kind == Nonlinearity::Relu) {
      Matrix<double> expected(3, 2);
      expected << 6.16, 1.12, 7.04, 1.28, -0.12, 3.16;
      CHECK((hoffman_grads[0].weight - expected).cwiseAbs().maxCoeff() < 1e-12);
    }
  }
}
