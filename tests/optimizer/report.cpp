// What a step says of itself is what whole matrices say: norm, captured energy, drift, dates of refreshes.
#include <cmath>

#include <support/catch.hpp>
#include <support/placed.hpp>
#include <support/tilewise.hpp>

using namespace support;
using Eigen::MatrixXd;

namespace {

MatrixXd matrix(const Stepper<double>& optimizer, const char* name, Index rows) {
  const auto values = field<double>(optimizer, name);
  return Eigen::Map<const MatrixXd>(values.data(), rows, Index(values.size()) / rows);
}

MatrixXd cosines(Index d, bool transposed) {
  MatrixXd b(d, d);
  for (Index q = 0; q < d; ++q)
    for (Index j = 0; j < d; ++j)
      b(j, q) = std::sqrt((q == 0 ? 1 : 2) / double(d)) * std::cos(std::acos(-1.0) * double(q * (2 * j + 1)) / double(2 * d));
  if (transposed) b.transposeInPlace();
  return b;
}

/// P as it lies in the state, canonical orientation d x r.
MatrixXd basis(const Stepper<double>& optimizer, const std::string& name, Index d) {
  if (optimizer.fields().contains("basis")) return matrix(optimizer, "basis", d);
  const MatrixXd all = cosines(d, name == "dct, transposed basis");
  const auto indices = field<std::int32_t>(optimizer, "indices");
  MatrixXd P(d, Index(indices.size()));
  for (Index i = 0; i < P.cols(); ++i) P.col(i) = all.col(indices[std::size_t(i)]);
  return P;
}

}  // namespace

TEST_CASE("Norm, captured energy and drift of every projected step", "[optimizer]") {
  const Index d = 30, k = 44;
  for (const auto& policy : tilewise_policies<double>()) {
    const bool random = policy.name.starts_with("apollo") || policy.name.starts_with("gaussian");
    if (!policy.projected || (random && policy.name != "apollo on a subspace")) continue;  // tests/projector/gaussian.cpp
    for (const Side side : {Side::Left, Side::Right}) {
      INFO(policy.name << ", side " << int(side));
      const bool right = side == Side::Right && policy.name != "two-sided svd";
      const Index rows = right ? k : d, cols = right ? d : k;
      Placed<double> w(random_matrix(rows, cols, 3), Order::Columns);
      const auto optimizer = policy.make(w.view(), {.rank = 6, .side = side, .refresh_every = 4});
      MatrixXd E = MatrixXd::Zero(d, k);
      double reference = 0;
      for (int t = 0; t < 10; ++t) {
        const MatrixXd G = training_gradient(rows, cols, t);
        const Report report = optimizer->step(w.view(), Placed<double>(G, Order::Rows).view(), {.lr = 0.01, .grad_scale = 0.5});
        const MatrixXd A = 0.5 * (right ? MatrixXd(G.transpose()) : G) + E, P = basis(*optimizer, policy.name, d);
        MatrixXd R = P.transpose() * A;
        if (policy.name == "two-sided svd") R = R * matrix(*optimizer, "basis_right", k);
        const double captured = R.squaredNorm() / A.squaredNorm();
        if (optimizer->fields().contains("error")) E = A - P * (P.transpose() * A);
        if (report.refreshed) reference = captured;
        INFO("step " << t);
        CHECK_FALSE(report.skipped);
        CHECK(report.grad_norm == Catch::Approx(A.norm()).epsilon(1e-12));
        CHECK(report.captured == Catch::Approx(captured).epsilon(1e-10));
        CHECK(std::abs(report.drift - (1 - captured / reference)) < 1e-10);
        if (report.refreshed) CHECK(report.drift == 0);
      }
    }
  }
}

TEST_CASE("Without a projection everything is captured, nothing drifts and nothing is renewed", "[optimizer]") {
  for (const auto& policy : policies<double>()) {
    if (policy.projected) continue;
    INFO(policy.name);
    Placed<double> w(random_matrix(30, 44, 3), Order::Columns);
    const auto optimizer = policy.make(w.view(), {});
    for (int t = 0; t < 3; ++t) {
      const MatrixXd G = training_gradient(30, 44, t);
      const Report report = optimizer->step(w.view(), Placed<double>(G, Order::Rows).view(), {.lr = 0.01, .grad_scale = 0.5});
      CHECK((report.captured == 1 && report.drift == 0 && !report.refreshed && !report.skipped));
      CHECK(report.grad_norm == Catch::Approx(0.5 * G.norm()).epsilon(1e-12));
    }
    // a norm that is given saves the reading that would compute it
    const Placed<double> g(training_gradient(30, 44, 3), Order::Rows);
    CHECK(optimizer->step(w.view(), g.view(), {.lr = 0.01, .grad_norm = 1}).grad_norm == 0);
  }
}

TEST_CASE("A gradient of zeros has no energy to capture and has not drifted", "[optimizer]") {
  for (const auto& policy : tilewise_policies<double>()) {
    if (!policy.projected || policy.name.find("error feedback") != std::string::npos) continue;
    INFO(policy.name);
    Placed<double> w(random_matrix(30, 44, 3), Order::Columns);
    const auto optimizer = policy.make(w.view(), {.rank = 6, .refresh_every = 4});
    const Placed<double> zero(MatrixXd::Zero(30, 44), Order::Rows), g(training_gradient(30, 44, 1), Order::Rows);
    for (const auto* gradient : {&zero, &g, &zero}) {
      const Report report = optimizer->step(w.view(), gradient->view(), {.lr = 0.01});
      if (gradient == &zero) CHECK((report.captured == 0 && report.drift == 0 && report.grad_norm == 0 && !report.skipped));
    }
  }
}
