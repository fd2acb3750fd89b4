// Dct against dense cosine matrices: coefficients, scores, choice, both routes, and the rotation that is a gather.
#include <cmath>
#include <limits>

#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/optimizer.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/rule/adamw.hpp>

using namespace support;
using namespace lowrank;
using Eigen::ArrayXXd;
using Eigen::MatrixXd;

namespace {

using Run = Optimizer<double, Dct, AdamW, BackProject>;

/// Columns: the basis vectors.
MatrixXd basis(Index d, DctBasis kind) {
  MatrixXd b(d, d);
  for (Index q = 0; q < d; ++q)
    for (Index j = 0; j < d; ++j)
      b(j, q) = std::sqrt((q == 0 ? 1 : 2) / double(d)) *
                std::cos(std::acos(-1.0) * double(q * (2 * j + 1) % (4 * d)) / double(2 * d));
  return kind == DctBasis::Cosines ? b : MatrixXd(b.transpose());
}

MatrixXd chosen(const Run& run, DctBasis kind) {
  const MatrixXd all = basis(run.rows(), kind);
  MatrixXd Q(run.rows(), run.rank());
  for (Index i = 0; i < run.rank(); ++i) Q.col(i) = all.col(run.projection().indices()[i]);
  return Q;
}

ArrayXXd moment(const Run& run, std::string_view name) {
  ArrayXXd m;
  run.visit([&](const char* field, const auto& value) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, Buffer<double>>)
      if (name == field) m = Eigen::Map<const ArrayXXd>(value.data(), value.rows(), value.cols());
  });
  return m;
}

double distance(const MatrixXd& a, const MatrixXd& b) {
  return (a - b).cwiseAbs().maxCoeff() / std::max(b.cwiseAbs().maxCoeff(), 1e-300);
}

}  // namespace

TEST_CASE("The r strongest coefficients of any size are chosen and projected on", "[projector]") {
  const AdamW rule{.beta1 = 0.5};
  for (const Index d : {1, 2, 3, 7, 8, 31, 60, 64, 97, 331, 512})
    for (const DctBasis kind : {DctBasis::Cosines, DctBasis::Transposed})
      for (const Score score : {Score::L1, Score::L2})
        for (const DctRoute route : {DctRoute::Fast, DctRoute::Selected})
          for (const Index r : {Index(1), (d + 2) / 3, d}) {
            if (r > 1 && r < d && d > 300 && route == DctRoute::Selected && kind == DctBasis::Transposed) continue;
            const Index k = 11;
            INFO("size " << d << ", rank " << r << ", basis " << int(kind) << ", score " << int(score) << ", route " << int(route));
            MatrixXd W = random_matrix(d, k, 1);
            const MatrixXd before = W, G = random_matrix(d, k, unsigned(d)), S = basis(d, kind).transpose() * G;
            Run run(W, Dct{.rank = r, .side = Side::Left, .basis = kind, .score = score, .route = route}, rule);
            const Report report = run.step(W, G, {.lr = 0.1});
            const Eigen::VectorXd scores = score == Score::L1 ? Eigen::VectorXd(S.cwiseAbs().rowwise().sum()) : Eigen::VectorXd(S.rowwise().squaredNorm());
            double least = std::numeric_limits<double>::infinity(), best_left = 0;
            std::vector<bool> in(std::size_t(d), false);
            for (Index i = 0; i < r; ++i) {
              const auto index = run.projection().indices()[i];
              CHECK((i == 0 || index > run.projection().indices()[i - 1]));
              in[std::size_t(index)] = true;
              least = std::min(least, scores(index));
            }
            for (Index i = 0; i < d; ++i)
              if (!in[std::size_t(i)]) best_left = std::max(best_left, scores(i));
            CHECK(least >= best_left * (1 - 1e-12));
            const MatrixXd Q = chosen(run, kind), R = Q.transpose() * G;
            CHECK(distance(moment(run, "exp_avg") / (1 - rule.beta1), R) < 1e-12);
            CHECK(report.captured == Catch::Approx(R.squaredNorm() / G.squaredNorm()).epsilon(1e-11));
            CHECK(report.grad_norm == Catch::Approx(G.norm()).epsilon(1e-12));
            // corrected, a first direction is R / (|R| + eps)
            const MatrixXd N = R.array() / (R.array().abs() + rule.eps);
            CHECK(distance(before - W, 0.1 * Q * N) < 1e-6);
          }
}

TEST_CASE("Routes agree to rounding, and Auto is one of them bit for bit", "[projector]") {
  const Index d = 96, k = 70;
  const auto train = [&](Index r, DctRoute route, Spectrum spectrum = Spectrum::Recompute) {
    MatrixXd W = random_matrix(d, k, 1);
    Run run(W, Dct{.rank = r, .side = Side::Left, .refresh_every = 2, .route = route, .spectrum = spectrum}, AdamW{});
    for (int t = 0; t < 6; ++t) run.step(W, training_gradient(d, k, t), {.lr = 0.01});
    return std::pair{W, run};
  };
  for (const Index r : {5, 90}) {  // below and above 4 log2 d
    const auto [fast, fast_state] = train(r, DctRoute::Fast);
    const auto [selected, selected_state] = train(r, DctRoute::Selected);
    const auto [automatic, automatic_state] = train(r, DctRoute::Auto);
    CHECK(distance(fast, selected) < 1e-9);
    CHECK(automatic == (r == 5 ? selected : fast));
    const auto [stored, stored_state] = train(r, DctRoute::Fast, Spectrum::Store);
    CHECK(stored == fast);
    CHECK(stored_state == fast_state);
  }
}

TEST_CASE("The route and the spectrum may be changed between steps", "[projector]") {
  const Index d = 48, k = 30;
  MatrixXd W = random_matrix(d, k, 1), expected = W;
  const Dct o{.rank = 6, .side = Side::Left, .refresh_every = 2, .route = DctRoute::Fast};
  Run changed(W, o, AdamW{}), constant(W, o, AdamW{});
  const DctRoute routes[] = {DctRoute::Fast, DctRoute::Selected, DctRoute::Auto};
  for (int t = 0; t < 9; ++t) {
    changed.projector().route = routes[t % 3];
    changed.projector().spectrum = t % 2 == 0 ? Spectrum::Store : Spectrum::Recompute;
    changed.step(W, training_gradient(d, k, t), {.lr = 0.01});
    constant.step(expected, training_gradient(d, k, t), {.lr = 0.01});
    CHECK(distance(W, expected) < 1e-9);
  }
}

TEST_CASE("Rotation is the dense product Q_prev^T Q_cur, which is a gather", "[projector]") {
  const Index d = 53, k = 40, r = 9;
  for (const DctBasis kind : {DctBasis::Cosines, DctBasis::Transposed})
    for (const Transport transport : {Transport::Rotate, Transport::Keep, Transport::Reset}) {
      INFO("basis " << int(kind) << ", transport " << int(transport));
      const AdamW rule{.beta1 = 0.8, .beta2 = 0.9};
      MatrixXd W = random_matrix(d, k, 1);
      Run run(W, Dct{.rank = r, .side = Side::Left, .transport = transport, .basis = kind}, rule);
      int moved = 0, stayed = 0;
      for (int t = 0; t < 12; ++t) {
        ArrayXXd M = ArrayXXd::Zero(r, k), V = M;
        MatrixXd previous;
        if (t > 0) {
          M = moment(run, "exp_avg");
          V = moment(run, "exp_avg_sq");
          previous = chosen(run, kind);
        }
        const MatrixXd G = training_gradient(d, k, 3 * t);
        run.step(W, G, {.lr = 0.01});
        const MatrixXd current = chosen(run, kind), R = current.transpose() * G;
        if (t > 0 && transport == Transport::Rotate) {  // as the reference writes it, with matrices
          const MatrixXd Rot = current.transpose() * previous;
          stayed += int(Rot.cwiseAbs().sum() + 0.5);
          moved += int(r) - int(Rot.cwiseAbs().sum() + 0.5);
          M = (Rot * M.matrix()).array();
          V = (Rot * V.matrix()).array().abs();
        }
        if (transport == Transport::Reset) M = V = ArrayXXd::Zero(r, k);
        M = rule.beta1 * M + (1 - rule.beta1) * R.array();
        V = rule.beta2 * V + (1 - rule.beta2) * R.array().square();
        INFO("step " << t);
        CHECK(distance(moment(run, "exp_avg"), M) < 1e-12);
        CHECK(distance(moment(run, "exp_avg_sq"), V) < 1e-12);
      }
      if (transport == Transport::Rotate) {
        CHECK(moved > 0);
        CHECK(stayed > 0);
      }
    }
}
