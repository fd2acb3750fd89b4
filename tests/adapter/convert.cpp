#include <lowrank/adapter/convert.hpp>
#include <support/catch.hpp>
#include <support/golden.hpp>
#include <support/placed.hpp>

using namespace lowrank;
using support::random_matrix;

namespace {

Eigen::Map<Eigen::MatrixXd> map(Buffer<double>& b) { return {b.data(), b.rows(), b.cols()}; }

Lora<double> example(Index m, Index n, Index rank, unsigned seed) {
  Lora<double> lora(m, n, {.rank = rank, .alpha = 3});
  map(lora.A().value) = random_matrix(rank, n, seed);
  map(lora.B().value) = random_matrix(m, rank, seed + 1);
  return lora;
}
Eigen::MatrixXd change(Lora<double> lora) { return lora.scale() * map(lora.B().value) * map(lora.A().value); }

}  // namespace

TEST_CASE("the sum of adapters is the sum of their changes") {
  const auto a = example(20, 15, 3, 1), b = example(20, 15, 5, 7);
  const auto both = sum<double>({{&a, 2}, {&b, -0.5}});
  CHECK(both.rank() == 8);
  CHECK((change(both) - 2 * change(a) + 0.5 * change(b)).norm() < 1e-12);
  const auto other = example(20, 16, 3, 1);
  CHECK_THROWS_AS(sum<double>({{&a}, {&other}}), std::invalid_argument);
  CHECK_THROWS_AS(sum<double>({}), std::invalid_argument);
}

TEST_CASE("compression keeps what has that rank, and otherwise the best of it") {
  Workspace workspace;
  for (const auto& [m, n] : {std::pair<Index, Index>{40, 30}, {30, 40}}) {
    const auto a = example(m, n, 3, 1), b = example(m, n, 3, 9);
    // twice the same directions: rank 6 on paper, 3 in truth
    const auto twice = sum<double>({{&a, 1}, {&a, 0.5}});
    const auto compressed = compress(twice, 3, workspace);
    CHECK(compressed.rank() == 3);
    CHECK((change(compressed) - 1.5 * change(a)).norm() < 1e-11 * change(a).norm());
    // cutting: as good as the SVD of the dense change
    const auto both = sum<double>({{&a, 1}, {&b, 0.3}});
    const auto cut = compress(both, 4, workspace), dense = to_lora<double>(change(both), 4, workspace);
    CHECK((change(cut) - change(dense)).norm() < 1e-10 * change(both).norm());
    CHECK((change(cut) - change(both)).norm() < 0.5 * change(both).norm());
    CHECK_THROWS_AS(compress(a, 4, workspace), std::invalid_argument);
    CHECK_THROWS_AS(to_lora<double>(change(a), 31, workspace), std::invalid_argument);
  }
}

TEST_CASE("PiSSA and OLoRA adapters become plain LoRA on the weight as it was") {
  const Index m = 24, n = 18;
  Workspace workspace;
  for (const Init init : {Init::Pissa, Init::Olora}) {
    const Eigen::MatrixXd W = random_matrix(m, n, 3);
    Eigen::MatrixXd rest = W;
    Lora<double> lora(m, n, {.rank = 4, .alpha = 8});
    lora.initialize(init, rest, workspace);
    const Lora<double> first = lora;
    map(lora.A().value) += 0.1 * random_matrix(4, n, 5);
    map(lora.B().value) += 0.1 * random_matrix(m, 4, 6);
    const auto plain = portable(lora, first);
    CHECK(plain.rank() == 8);
    CHECK((W + change(plain) - rest - change(lora)).norm() < 1e-11 * W.norm());
    // and the change itself has no more than twice the rank
    CHECK((change(compress(plain, 8, workspace)) - change(plain)).norm() < 1e-10 * change(plain).norm());
  }
}

TEST_CASE("the rank that holds a share of the energy") {
  const double sigma[] = {2, 1, 1, 0.5, 0};
  CHECK(rank_for(sigma, 0) == 0);
  CHECK(rank_for(sigma, 0.6) == 1);
  CHECK(rank_for(sigma, 0.65) == 2);
  CHECK(rank_for(sigma, 1) == 4);
  CHECK_THROWS_AS(rank_for(sigma, 1.1), std::invalid_argument);
}
