// Dion and Dion2 against transcriptions of their equations.
#include <support/naive.hpp>

#include <lowrank/recipes.hpp>

using namespace lowrank;
using naive::MatrixXd;

namespace {

double factor(ShapeScale scale, Index rows, Index cols) {
  const double m = double(rows), n = double(cols);
  if (scale == ShapeScale::Tall) return std::sqrt(std::max(1.0, m / n));
  if (scale == ShapeScale::Rms) return 0.2 * std::sqrt(std::max(m, n));
  return scale == ShapeScale::Spectral ? std::sqrt(m / n) : 1.0;
}

}  // namespace

TEST_CASE("Dion2's equations", "[whole]") {
  for (const ShapeScale scale : {ShapeScale::Spectral, ShapeScale::Rms}) {
    const Dion2 o{.rank_fraction = 0.25, .mu = 0.9, .weight_decay = 0.1, .shape_scale = scale};
    const auto equations = [&](Index rows, Index cols) {
      return [=, M = MatrixXd(MatrixXd::Zero(rows, cols))](MatrixXd& W, const MatrixXd& G, int) mutable {
        M += G;
        const bool by_rows = rows <= cols;
        const Index dim = by_rows ? rows : cols, r = Index(std::ceil(0.25 * double(dim)));
        std::vector<std::pair<double, Index>> score;
        for (Index i = 0; i < dim; ++i) score.push_back({by_rows ? M.row(i).lpNorm<1>() : M.col(i).lpNorm<1>(), i});
        std::sort(score.begin(), score.end(), [](auto a, auto b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
        std::vector<Index> chosen;
        for (Index i = 0; i < r; ++i) chosen.push_back(score[std::size_t(i)].second);
        std::sort(chosen.begin(), chosen.end());
        const MatrixXd picked = by_rows ? MatrixXd(M(chosen, Eigen::all)) : MatrixXd(M(Eigen::all, chosen));
        const MatrixXd U = naive::newton_schulz(picked, o.polynomial);
        W *= 1 - 0.02 * o.weight_decay;
        for (Index i = 0; i < r; ++i)
          if (by_rows) {
            W.row(chosen[std::size_t(i)]) -= 0.02 * factor(scale, rows, cols) * U.row(i);
            M.row(chosen[std::size_t(i)]) *= o.mu;
          } else {
            W.col(chosen[std::size_t(i)]) -= 0.02 * factor(scale, rows, cols) * U.col(i);
            M.col(chosen[std::size_t(i)]) *= o.mu;
          }
      };
    };
    naive::follow<double>([&](auto w) { return dion2(w, o); }, equations, 8, 0.02, 1e-11);
  }
}

TEST_CASE("Dion's equations", "[whole]") {
  const Dion o{.rank = 5, .mu = 0.9, .weight_decay = 0.1, .seed = 3};
  // the first Q is the library's; everything after it is not
  const auto first = [&](Index rows, Index cols) {
    const MatrixXd W = MatrixXd::Zero(rows, cols);
    auto optimizer = dion(W, o);
    optimizer.allocate();
    const auto& Q = optimizer.projection().right();
    MatrixXd out(Q.cols(), Q.rows());
    for (Index i = 0; i < out.rows(); ++i)
      for (Index j = 0; j < out.cols(); ++j) out(i, j) = Q(j, i);
    return out;
  };
  const auto equations = [&](Index rows, Index cols) {
    const bool turned = rows < cols;
    return [=, Q = first(rows, cols), M = MatrixXd(MatrixXd::Zero(turned ? cols : rows, turned ? rows : cols))](
               MatrixXd& W, const MatrixXd& G, int) mutable {
      M += turned ? MatrixXd(G.transpose()) : G;
      const MatrixXd Y = M * Q;
      const MatrixXd P = Eigen::HouseholderQR<MatrixXd>(Y).householderQ() * MatrixXd::Identity(Y.rows(), Y.cols());
      const MatrixXd R = M.transpose() * P;
      M -= (1 - o.mu) * P * R.transpose();
      for (Index i = 0; i < R.cols(); ++i) Q.col(i) = R.col(i) / (R.col(i).norm() + 1e-8);
      const MatrixXd U = P * Q.transpose();
      W *= 1 - 0.02 * o.weight_decay;
      W -= 0.02 * std::sqrt(double(rows) / double(cols)) * (turned ? MatrixXd(U.transpose()) : U);
    };
  };
  naive::follow<double>([&](auto w) { return dion(w, o); }, equations, 8, 0.02, 1e-10);
}

TEST_CASE("Whole optimizers enter a recipe, and leave vectors to AdamW", "[whole]") {
  const MatrixXd W = MatrixXd::Ones(6, 1);
  const auto plain = dion({.weight_decay = 0.3}).plain()(W);
  CHECK(plain.description() == std::string("identity, adamw, back_project"));
  CHECK(plain.rule().weight_decay == 0.3);
}
