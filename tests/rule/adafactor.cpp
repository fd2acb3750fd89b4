// Adafactor against a transcription of its equations: full rank, and in given bases as GaLore's code runs it.
#include <support/injected.hpp>
#include <support/naive.hpp>

#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/rule/adafactor.hpp>

using namespace lowrank;
using naive::MatrixXd;
using naive::VectorXd;

namespace {

/// U of one step; row, column and M are the state.
struct Equations {
  Adafactor o;
  VectorXd row, column;
  MatrixXd M;
  int t = 0;

  MatrixXd operator()(const MatrixXd& R) {
    if (t++ == 0) row.setZero(R.rows()), column.setZero(R.cols()), M.setZero(R.rows(), R.cols());
    const double b2 = 1 - std::pow(t, -o.decay_power);
    const MatrixXd square = R.array().square() + o.eps;
    row = b2 * row + (1 - b2) * square.rowwise().mean();
    column = b2 * column + (1 - b2) * square.colwise().mean().transpose();
    MatrixXd U = R;
    for (Index i = 0; i < R.rows(); ++i)
      for (Index j = 0; j < R.cols(); ++j) U(i, j) /= std::sqrt(row(i) / row.mean() * column(j));
    U /= std::max(1.0, std::sqrt(U.squaredNorm() / double(U.size())) / o.clip);
    if (o.beta1 == 0) return U;
    M = o.beta1 * M + (1 - o.beta1) * U;
    return M;
  }
};

}  // namespace

TEST_CASE("Adafactor's equations, full rank", "[rule]") {
  for (const double beta1 : {0.0, 0.9})
    for (const double clip : {1.0, 0.5, std::numeric_limits<double>::infinity()}) {
      const Adafactor o{.beta1 = beta1, .clip = clip, .weight_decay = 0.1};
      const auto make = [&](auto w) { return Optimizer(w, Identity{}, o); };
      const auto equations = [&](Index, Index) {
        return [e = Equations{o, {}, {}, {}}](MatrixXd& W, const MatrixXd& G, int) mutable {
          W *= 1 - 0.05 * 0.1;
          W -= 0.05 * e(G);
        };
      };
      naive::follow<double>(make, equations, 5, 0.05, 1e-12);
      naive::follow<float>(make, equations, 5, 0.05, 2e-6);
    }
}

TEST_CASE("GaLore's Adafactor in given bases", "[rule]") {
  const Adafactor o{.beta1 = 0.9};
  std::vector<MatrixXd> given;
  const auto make = [&](auto w) {
    given = naive::bases(std::min(w.rows, w.cols), 4, 3);
    return Optimizer(w, support::Injected{.rank = 4, .refresh_every = 3, .bases = &given}, o, BackProject{.scale = 0.25});
  };
  naive::follow<double>(make, [&](Index rows, Index cols) {
    return [=, e = Equations{o, {}, {}, {}}, P = naive::bases(std::min(rows, cols), 4, 3)](MatrixXd& W, const MatrixXd& G, int t) mutable {
      const MatrixXd& basis = P[std::size_t(t / 3)];
      const MatrixXd U = basis * e(basis.transpose() * naive::smaller_first(G, rows, cols));
      W -= 0.05 * 0.25 * (rows >= cols ? MatrixXd(U.transpose()) : U);
    };
  }, 7, 0.05, 1e-12);
}

TEST_CASE("Row statistics in new coordinates", "[rule]") {
  using K = kernel::Best;
  using Kind = linalg::BasisChange<double>::Kind;
  const Index r = 3, k = 70;
  Buffer<std::byte> memory(1 << 22, 1);
  Arena arena(memory);
  const linalg::Team<double, K> team(arena, 1, 128);
  const linalg::TransportWork<double, K> work(arena, r, 1);
  RuleState<Adafactor, double, K> rule(Adafactor{}, r, k);
  const RuleState<Adafactor, double, K>::Work room(arena, r, k, 1);
  const auto rows = [&] {
    VectorXd x(r);
    rule.visit([&](const char* name, auto& field) {
      if constexpr (requires { field.allocate(); }) {
        field.allocate();
        if (std::string(name) == "row") x = Eigen::Map<VectorXd>(field.data(), r);
      }
    });
    return x;
  };
  (void)rows();
  MatrixXd R = support::random_matrix(r, k, 1), N(r, k);
  R.row(1) *= 5;
  rule.advance();
  rule.direction(R.data(), N.data(), room, team);
  const VectorXd before = rows();
  CHECK((before - R.array().square().rowwise().mean().matrix()).norm() < 1e-12 * before.norm());

  const std::int32_t from[] = {1, -1, 0};
  rule.transport({Kind::Gather, from, nullptr}, work, team);
  const VectorXd gathered = rows();
  CHECK(gathered(0) == Catch::Approx(before(1)));
  CHECK(gathered(1) == Catch::Approx(before.mean()));  // a fresh direction counts as average
  CHECK(gathered(2) == Catch::Approx(before(0)));

  const MatrixXd C = 0.8 * naive::bases(r, r, 1)[0];
  rule.transport({Kind::Rotate, nullptr, C.data()}, work, team);
  const VectorXd expected = C.array().square().matrix() * gathered + VectorXd::Constant(r, 0.36 * gathered.mean());
  CHECK((rows() - expected).norm() < 1e-12);
  rule.transport({Kind::Reset, nullptr, nullptr}, work, team);
  CHECK(rows().isZero(0));
}

TEST_CASE("Options of Adafactor are checked", "[rule]") {
  const MatrixXd W = MatrixXd::Zero(4, 6);
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(Optimizer(W, Identity{}, Adafactor{.beta1 = 1}), ContainsSubstring("beta1"));
  CHECK_THROWS_WITH(Optimizer(W, Identity{}, Adafactor{.decay_power = 0}), ContainsSubstring("decay_power"));
  CHECK_THROWS_WITH(Optimizer(W, Identity{}, Adafactor{.eps = 0}), ContainsSubstring("eps"));
  CHECK_THROWS_WITH(Optimizer(W, Identity{}, Adafactor{.clip = 0}), ContainsSubstring("clip"));
}
