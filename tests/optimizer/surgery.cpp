// The optimizer's StateEditor: what happens to the moments, seen in the steps that follow.
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/lion.hpp>
#include <support/catch.hpp>
#include <support/malloc_counter.hpp>
#include <support/placed.hpp>

using namespace lowrank;
using support::random_matrix;

namespace {

template <int Order>
using M = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Order>;

}  // namespace

TEMPLATE_TEST_CASE("the editor acts on the parameter as its owner sees it", "", M<Eigen::ColMajor>, M<Eigen::RowMajor>) {
  using Weight = TestType;
  const Index m = 5, n = 3;
  Weight W = random_matrix(m, n, 1);
  Optimizer opt(W, Identity{}, AdamW{});
  static_assert(StateEditor<decltype(opt.editor())>);
  for (int t = 0; t < 4; ++t) opt.step(W, Weight(random_matrix(m, n, unsigned(t + 2))), {.lr = 0.1});

  // a step without gradient moves each entry by its first moment alone: what was zeroed stays
  const auto moved = [&](auto o) {
    Weight V = W;
    o.step(V, Weight(Weight::Zero(m, n)), {.lr = 0.1});
    return Eigen::MatrixXd(V - W);
  };
  const Eigen::MatrixXd plain = moved(opt);
  const std::vector<Index> rows = {1, 4}, columns = {2, -1, 0};
  SECTION("zero") {
    auto edited = opt;
    edited.editor().zero(Axis::Rows, rows);
    const Eigen::MatrixXd d = moved(edited);
    for (Index i = 0; i < m; ++i) CHECK(d.row(i) == (i == 1 || i == 4 ? Eigen::MatrixXd(Eigen::MatrixXd::Zero(1, n)) : Eigen::MatrixXd(plain.row(i))));
  }
  SECTION("gather") {
    auto edited = opt;
    edited.editor().gather(Axis::Cols, columns);
    const Eigen::MatrixXd d = moved(edited);
    // the same moments give the same movement, up to the rounding of W
    CHECK((d.col(0) - plain.col(2)).norm() < 1e-14);
    CHECK(d.col(1).norm() == 0);
    CHECK((d.col(2) - plain.col(0)).norm() < 1e-14);
  }
  SECTION("reset: the steps that follow are those of a new optimizer") {
    auto edited = opt;
    edited.editor().reset();
    Optimizer fresh(W, Identity{}, AdamW{});
    Weight a = W, b = W;
    for (int t = 0; t < 3; ++t) {
      const Weight G = random_matrix(m, n, unsigned(t + 20));
      edited.step(a, G, {.lr = 0.1});
      fresh.step(b, G, {.lr = 0.1});
    }
    CHECK(a == b);
  }
  SECTION("each sees every moment, and nothing allocates once warm") {
    int blocks = 0;
    auto editor = opt.editor();
    editor.each([&](const auto& block) {
      ++blocks;
      CHECK(block.size() == std::size_t(m * n));
    });
    CHECK(blocks == 2);
    editor.gather(Axis::Cols, columns);
    const support::AllocationCount count;
    editor.gather(Axis::Rows, rows);
    editor.zero(Axis::Cols, std::span(rows).first(1));
    editor.reset();
    CHECK(count.since() == 0);
  }
}

TEST_CASE("an editor before the first step, and of a rule with one moment") {
  Eigen::MatrixXf W = random_matrix(4, 3, 1).cast<float>();
  Optimizer opt(W, Identity{}, Lion{});
  auto editor = opt.editor();
  editor.reset();
  int blocks = 0;
  editor.each([&](const auto&) { ++blocks; });
  CHECK(blocks == 1);
}
