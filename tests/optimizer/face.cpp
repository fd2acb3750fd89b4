// The public face: which matrices a caller may pass, which scalars may meet, what can be asked before anything is
// allocated, and that an Optimizer is a value.
#include <support/catch.hpp>
#include <support/placed.hpp>
#include <support/tilewise.hpp>

#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using namespace lowrank;
using Eigen::MatrixXd;
using Eigen::MatrixXf;
using RowMajor = Eigen::Matrix<float, -1, -1, Eigen::RowMajor>;

namespace {

constexpr Index rows = 33, cols = 20;
const Subspace subspace{.rank = 4, .refresh_every = 2};
const AdamW adam{.weight_decay = 0.1};

MatrixXf gradient(int t) { return training_gradient(rows, cols, t).cast<float>(); }

}  // namespace

TEST_CASE("Matrix, Map, Ref, block, View and array, of either order: the same step", "[optimizer]") {
  const MatrixXf start = random_matrix(rows, cols, 1).cast<float>();
  MatrixXf expected = start;
  Optimizer reference(expected, subspace, adam);
  for (int t = 0; t < 4; ++t) reference.step(expected, gradient(t), {.lr = 0.01});

  const auto check = [&](auto&& W, auto&& G) {  // an lvalue each: Map and block are passed as they are
    W = start;
    Optimizer optimizer(W, subspace, adam);
    for (int t = 0; t < 4; ++t) {
      G = gradient(t);
      optimizer.step(W, G, {.lr = 0.01});
    }
    CHECK(MatrixXf(W) == expected);
    CHECK(optimizer == reference);
  };
  MatrixXf columns(rows, cols), other(rows, cols), large(2 * rows, 2 * cols);
  RowMajor by_rows(rows, cols), large_by_rows(2 * rows, 2 * cols);
  std::vector<float> arena(4000);
  check(columns, other);
  check(by_rows, columns);
  check(Eigen::Map<MatrixXf>(arena.data() + 1, rows, cols), Eigen::Map<RowMajor>(arena.data() + 2003, rows, cols));
  check(Eigen::Ref<MatrixXf>(columns), Eigen::Ref<RowMajor>(by_rows));
  check(large.block(3, 5, rows, cols), large_by_rows.block(1, 2, rows, cols));
  check(large.block(0, 0, rows, cols), large.block(rows, 0, rows, cols));  // interleaved, disjoint
  Eigen::ArrayXXf array(rows, cols);
  for (Index i = 0; i < start.size(); ++i) arena[std::size_t(i)] = start(i / cols, i % cols);
  // raw pointers, row-major as C arrays are; the gradient need not be const
  Optimizer raw(view(arena.data(), rows, cols), subspace, adam);
  for (int t = 0; t < 4; ++t) {
    array = gradient(t).array();
    raw.step(view(arena.data(), rows, cols), array, {.lr = 0.01});
  }
  CHECK(MatrixXf(Eigen::Map<RowMajor>(arena.data(), rows, cols)) == expected);
  Optimizer last(columns, subspace, adam);
  CHECK_NOTHROW(last.step(columns, view(arena.data(), rows, cols), {.lr = 0.01}));
}

TEST_CASE("Scalars that compute alike may meet; the state's is the weight's", "[optimizer]") {
  using Brain = Eigen::Matrix<Eigen::bfloat16, -1, -1>;
  using Half = Eigen::Matrix<Eigen::half, -1, -1, Eigen::RowMajor>;
  const auto start = random_matrix(rows, cols, 1).cast<float>().eval();
  // narrow gradients of a float weight are widened: the same bits as those of the widened matrix
  const auto narrow_gradient = [&](auto narrow) {
    narrow = gradient(0).cast<typename decltype(narrow)::Scalar>();
    MatrixXf a = start, b = start;
    Optimizer first(a, subspace, adam), second(b, subspace, adam);
    static_assert(std::is_same_v<typename decltype(first)::Scalar, float>);
    first.step(a, narrow, {.lr = 0.01});
    second.step(b, MatrixXf(narrow.template cast<float>()), {.lr = 0.01});
    CHECK(a == b);
    CHECK(first == second);
  };
  narrow_gradient(Brain(rows, cols));
  narrow_gradient(Half(rows, cols));
  // narrow weights have float state and are rounded once, at the end
  const auto narrow_weight = [&](auto narrow) {
    narrow = start.cast<typename decltype(narrow)::Scalar>();
    MatrixXf wide = narrow.template cast<float>();
    Optimizer first(narrow, subspace, adam), second(wide, subspace, adam);
    static_assert(std::is_same_v<typename decltype(first)::Scalar, float>);
    first.step(narrow, gradient(0), {.lr = 0.01});
    second.step(wide, gradient(0), {.lr = 0.01});
    CHECK(MatrixXf(narrow.template cast<float>()) == MatrixXf(wide.cast<typename decltype(narrow)::Scalar>().template cast<float>()));
    CHECK(first == second);
  };
  narrow_weight(Brain(rows, cols));
  narrow_weight(Half(rows, cols));
  // a double weight takes a float gradient
  MatrixXd a = start.cast<double>(), b = a;
  Optimizer first(a, Identity{}, Sgd{.momentum = 0.9}), second(b, Identity{}, Sgd{.momentum = 0.9});
  first.step(a, gradient(0), {.lr = 0.01});
  second.step(b, MatrixXd(gradient(0).cast<double>()), {.lr = 0.01});
  CHECK(a == b);
}

TEST_CASE("Bytes are known before anything is allocated, and a workspace is as large as announced", "[optimizer]") {
  MatrixXf W = random_matrix(rows, cols, 1).cast<float>(), small = W.topRows(9);
  Optimizer optimizer(W, subspace, adam), other(small, subspace, adam), alone(small, subspace, adam);
  CHECK(optimizer.state_bytes() == (cols * 4 + 2 * 4 * rows) * sizeof(float));
  CHECK(optimizer.projection().basis().data() == nullptr);
  Workspace workspace;
  optimizer.step_with(workspace, W, gradient(0), {.lr = 0.01});
  CHECK(workspace.bytes() == optimizer.workspace_bytes(workspace.threads()));
  CHECK(optimizer.projection().basis().data() != nullptr);
  // another optimizer in the same workspace: nothing of the first is left in it that would matter
  MatrixXf copy = small;
  for (int t = 0; t < 3; ++t) {
    other.step_with(workspace, small, MatrixXf(gradient(t).topRows(9)), {.lr = 0.01});
    optimizer.step_with(workspace, W, gradient(t), {.lr = 0.01});
    alone.step(copy, MatrixXf(gradient(t).topRows(9)), {.lr = 0.01});
  }
  CHECK(small == copy);
  CHECK(other == alone);
  CHECK(workspace.bytes() == optimizer.workspace_bytes(workspace.threads()));
}

TEST_CASE("No workspace holds the gradient: none is copied, whatever the optimizer", "[optimizer]") {
  // a view that is only asked for its shape
  float anything = 0;
  const Index m = 4096, n = 3000;
  const View<const float> large = view(&anything, m, n, Index(1), m);
  for (const auto& policy : tilewise_policies<float>()) {
    // one was asked to keep a spectrum; the exact references make a Gram matrix and its eigenvectors
    if (policy.name == "dct, fast, spectrum stored" || policy.name.find("svd") != std::string::npos) continue;
    INFO(policy.name);
    const auto optimizer = policy.make(large, {.rank = 8, .refresh_every = 2});
    const std::size_t all = std::size_t(m * n) * sizeof(float);
    CHECK(optimizer->workspace_bytes(1) < all / 10);
  }
}

TEST_CASE("An Optimizer is a value without a virtual function", "[optimizer]") {
  using O = Optimizer<float, Subspace, AdamW, BackProject>;
  static_assert(!std::is_polymorphic_v<O> && std::is_copy_constructible_v<O> && std::is_copy_assignable_v<O>);
  static_assert(std::is_nothrow_move_constructible_v<O>);
  static_assert(!std::is_polymorphic_v<ProjectorState<Subspace, float, kernel::Best>> &&
                !std::is_polymorphic_v<RuleState<AdamW, float, kernel::Best>> &&
                !std::is_polymorphic_v<LiftState<Residual, float, kernel::Best>>);
  MatrixXf W = random_matrix(rows, cols, 1).cast<float>();
  O a(W, subspace, adam);
  const O untouched = a;
  CHECK(a == untouched);
  a.step(W, gradient(0), {.lr = 0.01});
  CHECK_FALSE(a == untouched);
  O b = a;
  CHECK(b == a);
  MatrixXf first = W, second = W;
  a.step(first, gradient(1), {.lr = 0.01});
  CHECK_FALSE(b == a);
  CHECK(b.steps() == 1);
  O moved = std::move(b);
  moved.step(second, gradient(1), {.lr = 0.01});
  CHECK(first == second);
  CHECK(moved == a);
  a = untouched;
  CHECK(a == untouched);
  CHECK((a.rows() == rows && a.cols() == cols && a.rank() == 4));
}
