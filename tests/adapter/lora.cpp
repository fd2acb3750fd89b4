#include "adapter/laws.hpp"

#include <lowrank/adapter/lora.hpp>

using namespace support;
using lowrank::Gradient;
using lowrank::Lora;
using lowrank::LoraOptions;
using lowrank::Path;
// support::Order places matrices, lowrank::Order orders products
constexpr auto Factored = lowrank::Order::Factored, Composed = lowrank::Order::Composed;

static_assert(lowrank::Adapter<Lora<float>> && lowrank::Adapter<Lora<double>>);

namespace {

struct Shape {
  Index m, n;
};
constexpr Shape shapes[] = {{24, 16}, {16, 24}, {5, 1}, {1, 5}};

constexpr Path paths[] = {{Factored, Factored, Gradient::Factored}, {Composed, Factored, Gradient::Factored},
                          {Factored, Composed, Gradient::Factored}, {Composed, Composed, Gradient::Dense},
                          {Factored, Factored, Gradient::Dense},    {Composed, Composed, Gradient::Factored}};

Lora<double> example(Index m, Index n, const LoraOptions& options) {
  Lora<double> lora(m, n, options);
  randomize(lora, 11);
  return lora;
}

Eigen::MatrixXd change(const Lora<double>& lora) { return lora.scale() * map(lora.B().value) * map(lora.A().value); }

}  // namespace

TEST_CASE("LoRA: reference vectors", "[golden]") {
  for (const char* shape : {"tall", "wide", "square"})
    for (const Path& path : paths) {
      CAPTURE(shape, int(path.forward), int(path.backward), int(path.gradient));
      const Golden golden("lora." + std::string(shape));
      const Eigen::MatrixXd W = golden.matrix("W0"), X = golden.matrix("x").transpose(), dY = golden.matrix("dy").transpose();
      Lora<double> lora(W.rows(), W.cols(), {.rank = Index(golden.number("rank")), .alpha = golden.number("alpha")});
      map(lora.A().value) = golden.matrix("A");
      map(lora.B().value) = golden.matrix("B");
      Eigen::MatrixXd Y(W.rows(), X.cols()), dX(W.cols(), X.cols());
      Trace<double> trace;
      Workspace workspace;
      lora.forward(W, X, Y, trace, workspace, {.path = path});
      lora.backward(W, X, dY, dX, trace, workspace);
      CHECK(relative_error(Y.transpose(), golden.matrix("y")) < 1e-13);
      CHECK(relative_error(dX.transpose(), golden.matrix("dx")) < 1e-13);
      CHECK(relative_error(map(lora.A().gradient), golden.matrix("dA")) < 1e-13);
      CHECK(relative_error(map(lora.B().gradient), golden.matrix("dB")) < 1e-13);
      Eigen::MatrixXd merged = W;
      lora.add_change(merged, 1, workspace);
      CHECK(relative_error(merged, golden.matrix("W")) < 1e-14);
    }
}

TEST_CASE("LoRA: gradients are those of finite differences") {
  for (const auto& [m, n] : shapes)
    for (const Index samples : {1, 9}) {
      CAPTURE(m, n, samples);
      for (const Path& path : paths) check_gradients(example(m, n, {.rank = 3, .alpha = 6}), samples, {.path = path});
      if (n * samples > 8)  // else everything may be dropped
        check_gradients(example(m, n, {.rank = 3, .alpha = 6, .dropout = 0.3, .seed = 5}), samples, {.step = 3});
      check_gradients(example(m, n, {.rank = 4, .alpha = 8, .scaling = lowrank::Scaling::ByRootRank}), samples, {});
    }
  check_gradients(example(300, 517, {.rank = 64, .alpha = 64}), 70, {});
}

TEST_CASE("LoRA: every order of products gives the same numbers") {
  const Index m = 130, n = 70, N = 90;
  const Lora<double> lora = example(m, n, {.rank = 40, .alpha = 40});
  const auto expected = results(lora, Order::Columns, 0, N, {.path = paths[0]});
  double largest = 0;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  for (const Path& path : paths) {
    const auto got = results(lora, Order::Columns, 0, N, {.path = path});
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(got[i] - expected[i]));
    CHECK(worst < 1e-12 * largest);
  }
}

TEST_CASE("the cost rule's crossovers") {
  using lowrank::choose;
  const Index d = 1024, N = 4096;
  const auto taken = [&](Index m, Index n, Index r, Index samples) { return choose({m, n, r, samples}, {}); };
  // forward: composed from N = mn / (m + n) = d / 2 on, whatever the rank
  CHECK(lowrank::forward_flops({d, d, 16, d / 2}, Factored) == lowrank::forward_flops({d, d, 16, d / 2}, Composed));
  CHECK(taken(d, d, 16, d / 2 - 1).forward == Factored);
  // gradients: dense from a rank between d / 4 and the finite-N bound on
  CHECK(taken(d, d, 128, N).gradient == Gradient::Factored);
  CHECK(taken(d, d, 512, N).gradient == Gradient::Dense);
  CHECK(taken(d, d, 16, 1) == Path{Factored, Factored, Gradient::Factored});
  // what is forced stays
  CHECK(choose({d, d, 512, N}, {.gradient = Gradient::Factored}).gradient == Gradient::Factored);
  // and nothing is cheaper than what was chosen
  for (const Index r : {1, 64, 256, 700})
    for (const Index samples : {1, 300, 5000}) {
      const lowrank::Work w{700, 900, r, samples};
      const Path best = choose(w, {});
      const auto flops = [&](const Path& p) { return forward_flops(w, p.forward) + backward_flops(w, p.backward, p.gradient, p.forward); };
      for (const Path& path : paths) CHECK(flops(best) <= flops(path));
    }
}

TEST_CASE("LoRA: the change alone, added") {
  const Index m = 12, n = 20, N = 6;
  Lora<double> lora = example(m, n, {.rank = 3});
  const Eigen::MatrixXd X = random_matrix(n, N, 1), Y0 = random_matrix(m, N, 2), dX0 = random_matrix(n, N, 3);
  for (const Path& path : paths) {
    Eigen::MatrixXd Y = Y0, dX = dX0;
    Trace<double> trace;
    Workspace workspace;
    lora.forward(lowrank::no_base, X, Y, trace, workspace, {.path = path});
    lora.backward(lowrank::no_base, X, Y0, dX, trace, workspace);
    CHECK((Y - Y0 - change(lora) * X).norm() < 1e-12);
    CHECK((dX - dX0 - change(lora).transpose() * Y0).norm() < 1e-12);
  }
}

TEST_CASE("LoRA: the same bits for any order, offset and number of threads") {
  Lora<float> lora(300, 197, {.rank = 24, .dropout = 0.1});
  randomize(lora, 3);
  check_determinism(lora, 133, {.step = 2});
  Lora<float> plain(300, 197, {.rank = 24});
  randomize(plain, 3);
  for (const Path& path : {paths[0], paths[3]}) check_determinism(plain, 133, {.path = path});
}

TEST_CASE("LoRA: no allocation once warm") {
  for (const Path& path : paths) check_no_allocation(Lora<float>(70, 130, {.rank = 8}), 90, {.path = path});
  check_no_allocation(Lora<float>(70, 130, {.rank = 8, .dropout = 0.5}), 90);
}

TEST_CASE("LoRA: bad input") {
  check_bad_input(Lora<double>(6, 9, {.rank = 2}));
  CHECK_THROWS_AS(Lora<double>(0, 9), std::invalid_argument);
  CHECK_THROWS_AS(Lora<double>(6, 9, {.rank = 0}), std::invalid_argument);
  CHECK_THROWS_AS(Lora<double>(6, 9, {.dropout = 1}), std::invalid_argument);
  Lora<double> lora(6, 9, {.rank = 2, .dropout = 0.5});
  Eigen::MatrixXd W = random_matrix(6, 9, 1), X = random_matrix(9, 2, 1), Y(6, 2);
  Trace<double> trace;
  Workspace workspace;
  CHECK_THROWS_AS(lora.forward(W, X, Y, trace, workspace, {.path = {.forward = Composed}}), std::invalid_argument);
  CHECK_NOTHROW(lora.forward(W, X, Y, trace, workspace, {.mode = Pass::Mode::Evaluate, .path = {.forward = Composed}}));
}

TEST_CASE("LoRA: float is near double, and takes bf16 activations") {
  Lora<float> narrow(40, 30, {.rank = 5});
  randomize(narrow, 9);
  check_float(Lora<double>(40, 30, {.rank = 5}), narrow, 17);

  using Half = Eigen::bfloat16;
  const Eigen::MatrixXf W = random_matrix(40, 30, 1).cast<float>(), X = random_matrix(30, 7, 2).cast<Half>().cast<float>();
  Eigen::MatrixXf Y(40, 7);
  Matrix<Half> Y16(40, 7);
  Trace<float> trace;
  Workspace workspace;
  narrow.forward(W, X, Y, trace, workspace);
  narrow.forward(W, X.cast<Half>().eval(), Y16, trace, workspace, {.path = {.forward = Composed}});
  CHECK((Y16.cast<float>() - Y).norm() < 4e-3f * Y.norm());
}

TEST_CASE("LoRA: dropout is inverted, on the branch only, off in evaluation, and the same wherever it is made") {
  const Index m = 8, n = 400, N = 50;
  Lora<double> lora = example(m, n, {.rank = n, .dropout = 0.25, .seed = 4});
  // A = I, B = ones / s: Y_it = sum_f of the masked X
  map(lora.A().value).setIdentity();
  map(lora.B().value).setConstant(1 / lora.scale());
  const Eigen::MatrixXd W = Eigen::MatrixXd::Zero(m, n), X = Eigen::MatrixXd::Ones(n, N);
  Eigen::MatrixXd Y(m, N), other(m, N);
  Trace<double> trace;
  Workspace workspace;
  lora.forward(W, X, Y, trace, workspace, {.step = 1});
  const double kept = Y.row(0).sum() * 0.75 / double(n * N);  // the fraction that is left, times 1 / (1 - p) already
  CHECK(std::abs(kept - 0.75) < 4 * std::sqrt(0.75 * 0.25 / double(n * N)));
  lora.forward(W, X, other, trace, workspace, {.step = 2});
  CHECK(Y != other);
  lora.forward(W, X, other, trace, workspace, {.step = 1});
  CHECK(Y == other);
  lora.forward(W, X, other, trace, workspace, {.mode = Pass::Mode::Evaluate});
  CHECK((other - Eigen::MatrixXd::Constant(m, N, double(n))).norm() < 1e-9);
}

TEST_CASE("LoRA-FA and LoRA+") {
  Lora<double> lora = example(9, 7, {.rank = 3, .train = lowrank::Train::OnlyB, .b_lr_ratio = 16});
  check_gradients(lora, 5, {});
  int parameters = 0;
  lora.visit([&](auto& p) {
    ++parameters;
    CHECK((std::string(p.name) == "B" && p.lr_scale == 16));
  });
  CHECK(parameters == 1);
  CHECK(lora.bytes() == 8 * 3 * (9 + 7));
}
