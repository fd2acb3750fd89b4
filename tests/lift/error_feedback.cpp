// Error feedback: nothing of any gradient is ever lost. With a linear rule (plain SGD) what was applied and what is still
// owed add up to the gradients, whatever the bases were; kept as coefficients or not.
#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/injected.hpp>
#include <support/placed.hpp>
#include <support/stepper.hpp>

#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using namespace lowrank;

TEST_CASE("Applied and owed are the sum of the gradients, on any bases", "[lift]") {
  const auto [d, k, r] = GENERATE(std::tuple<Index, Index, Index>{33, 70, 5}, std::tuple<Index, Index, Index>{300, 140, 64});
  std::vector<MatrixXd> bases;
  for (int i = 0; i < 4; ++i) bases.push_back(orthonormal(d, r, i));
  const MatrixXd W = random_matrix(d, k, 1);
  Placed<double> w(W, Order::Columns);
  Optimizer optimizer(w.view(), Injected{.rank = r, .side = Side::Left, .refresh_every = 3, .bases = &bases}, Sgd{}, ErrorFeedback{});
  MatrixXd sum = MatrixXd::Zero(d, k), E = sum;
  for (int t = 0; t < 12; ++t) {
    const Placed<double> g(training_gradient(d, k, t), Order::Rows);
    const Report report = optimizer.step(w.view(), g.view(), {.lr = 0.5});
    sum += g.values();
    const MatrixXd& P = bases[std::size_t(t / 3)];
    const MatrixXd A = g.values() + E;
    E = A - P * (P.transpose() * A);
    const MatrixXd error = Eigen::Map<const MatrixXd>(optimizer.lifting().error().full().data(), d, k);
    INFO("step " << t);
    CHECK(distance(error, E) < 1e-13);
    CHECK(distance((W - w.values()) / 0.5 + error, sum) < 1e-13);
    CHECK(report.grad_norm == Catch::Approx(A.norm()).epsilon(1e-13));
    CHECK(report.captured == Catch::Approx((P.transpose() * A).squaredNorm() / A.squaredNorm()).epsilon(1e-12));
  }
}

TEST_CASE("In few bits nothing is lost but the rounding of each step", "[lift]") {
  const Index d = 300, k = 140, r = 16;
  std::vector<MatrixXd> bases;
  for (int i = 0; i < 4; ++i) bases.push_back(orthonormal(d, r, i));
  const MatrixXd W = random_matrix(d, k, 1);
  for (const auto& [storage, steps] : {std::pair{Storage::Int8, 255}, std::pair{Storage::Int4, 15}}) {
    Placed<double> w(W, Order::Columns);
    Optimizer optimizer(w.view(), Injected{.rank = r, .side = Side::Left, .refresh_every = 3, .bases = &bases}, Sgd{}, ErrorFeedback{.storage = storage});
    CHECK(optimizer.lifting().error().bytes() == std::size_t(d * k / (steps == 15 ? 2 : 1) + 2 * 2 * k * 8));
    MatrixXd sum = MatrixXd::Zero(d, k), error = sum;
    double rounding = 0;
    for (int t = 0; t < 12; ++t) {
      const Placed<double> g(training_gradient(d, k, t), Order::Rows);
      const MatrixXd P = bases[std::size_t(t / 3)], A = g.values() + error, lost = A - P * (P.transpose() * A);
      const Report report = optimizer.step(w.view(), g.view(), {.lr = 0.5});
      CHECK(report.grad_norm == Catch::Approx(A.norm()).epsilon(1e-13));
      sum += g.values();
      optimizer.lifting().error().load(0, d, 0, k, error.data(), d);
      // two groups a column
      for (Index j = 0; j < k; ++j)
        for (const auto& [i, n] : {std::pair<Index, Index>{0, 256}, {256, d - 256}}) {
          const MatrixXd x = lost.col(j).segment(i, n), y = error.col(j).segment(i, n);
          CHECK((x - y).cwiseAbs().maxCoeff() <= (x.maxCoeff() - x.minCoeff()) / steps / 2 + 1e-12);
        }
      rounding += (lost - error).cwiseAbs().maxCoeff();
      CHECK(((W - w.values()) / 0.5 + error - sum).cwiseAbs().maxCoeff() <= rounding + 1e-12);
    }
    optimizer.lift().storage = Storage::Full;
    const Placed<double> g(training_gradient(d, k, 12), Order::Rows);
    CHECK_THROWS_WITH(optimizer.step(w.view(), g.view(), {.lr = 0.5}), Catch::Matchers::ContainsSubstring("storage"));
  }
}

TEMPLATE_TEST_CASE("Kept as coefficients of a transform, it is the error on whole matrices", "[lift]", float, double) {
  const double eps = double(std::numeric_limits<TestType>::epsilon());
  const auto& policy = named_policy<TestType>("dct, error feedback");
  for (const auto& [d, k, r] : {std::tuple<Index, Index, Index>{37, 70, 6}, {64, 65, 40}, {60, 31, 6}}) {
    INFO(d << " x " << k << ", rank " << r);
    const MatrixXd Q = orthonormal(d, d, 0);
    Placed<TestType> w(random_matrix(d, k, 1), Order::Columns);
    const auto optimizer = policy.make(w.view(), {.rank = r, .side = Side::Left, .refresh_every = 2});
    MatrixXd E = MatrixXd::Zero(d, k);
    for (int t = 0; t < 8; ++t) {
      const Placed<TestType> g(training_gradient(d, k, t), Order::Rows);
      optimizer->step(w.view(), g.view(), {.lr = 0.01});
      const MatrixXd A = g.values() + E;
      const auto indices = field<std::int32_t>(*optimizer, "indices");
      REQUIRE(Index(indices.size()) == r);
      E = A;  // less what the chosen vectors hold
      for (const std::int32_t i : indices) E -= Q.col(i) * (Q.col(i).transpose() * A);
      const auto kept = field<TestType>(*optimizer, "error");
      const MatrixXd owed = Q * Eigen::Map<const Eigen::Matrix<TestType, -1, -1>>(kept.data(), d, k).template cast<double>();
      CHECK(distance(owed, E) < 200 * eps);
    }
  }
}
