// Weights of more than two dimensions, and fused ones, as the views that README.md lists: each steps like a matrix that lies
// alone, and nothing between them moves.
#include <sstream>

#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/fleet.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;

namespace {

/// An array of weights and one of gradients, filled with noise.
struct Array {
  std::vector<float> weight, gradient;

  explicit Array(Index n) : weight(std::size_t(n)), gradient(std::size_t(n)) {
    fill_normal(weight.data(), n, 1, 0, 0);
    fill_normal(gradient.data(), n, 2, 0, 0);
  }
};

using Matrix = Eigen::Matrix<float, -1, -1, Eigen::RowMajor>;

template <class T>
Matrix copy_of(const View<T>& v) {
  Matrix m(v.rows, v.cols);
  for (Index i = 0; i < v.rows; ++i)
    for (Index j = 0; j < v.cols; ++j) m(i, j) = v.data[i * v.row_stride + j * v.col_stride];
  return m;
}

/// Steps the views in one fleet, and copies of them one by one.
void check(Array& arena, const std::vector<View<float>>& weights) {
  std::vector<Parameter<float>> params;
  std::vector<Matrix> alone;
  std::vector<bool> covered(arena.weight.size());
  const auto before = arena.weight;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const View<float>& w = weights[i];
    const Index offset = w.data - arena.weight.data();
    const View<const float> g{arena.gradient.data() + offset, w.rows, w.cols, w.row_stride, w.col_stride};
    params.push_back({"w" + std::to_string(i), w, g});
    alone.push_back(copy_of(w));
    for (Index r = 0; r < w.rows; ++r)
      for (Index c = 0; c < w.cols; ++c) covered[std::size_t(offset + r * w.row_stride + c * w.col_stride)] = true;
  }
  Fleet fleet(params, Group{anything(), galore({.rank = 4, .refresh_every = 2})});
  for (int t = 0; t < 3; ++t) fleet.step(params, {.lr = 0.01});
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Matrix G = copy_of(params[i].gradient);
    auto optimizer = galore(alone[i], {.rank = 4, .refresh_every = 2, .seed = std::uint64_t(i)});
    for (int t = 0; t < 3; ++t) optimizer.step(alone[i], G, {.lr = 0.01});
    CHECK(copy_of(weights[i]) == alone[i]);
  }
  Index moved = 0;
  for (std::size_t e = 0; e < before.size(); ++e) {
    moved += covered[e];
    if (!covered[e]) REQUIRE(before[e] == arena.weight[e]);
  }
  CHECK(moved > 0);
}

}  // namespace

TEST_CASE("A convolution is a row per filter", "[fleet]") {
  const Index out = 24, in = 3, kh = 5, kw = 2;
  Array arena(out * in * kh * kw);
  const auto w = view(arena.weight.data(), out, in * kh * kw);
  CHECK(&w.data[7 * w.row_stride + ((2 * kh + 4) * kw + 1) * w.col_stride] == &arena.weight[std::size_t(((7 * in + 2) * kh + 4) * kw + 1)]);
  check(arena, {w});
}

TEST_CASE("A stack of layers is a matrix per layer", "[fleet]") {
  const Index layers = 3, out = 20, in = 12;
  Array arena(layers * out * in);
  std::vector<View<float>> weights;
  for (const Index l : {0, 2}) weights.push_back(view(arena.weight.data() + l * out * in, out, in));  // the middle one stays
  check(arena, weights);
}

TEST_CASE("A fused QKV weight is three blocks of rows, in either storage order", "[fleet]") {
  const Index d = 16;
  Array rows(3 * d * d), columns(3 * d * d);
  std::vector<View<float>> in_rows, in_columns;
  for (Index q = 0; q < 3; ++q) {
    in_rows.push_back(view(rows.weight.data() + q * d * d, d, d));
    in_columns.push_back(view(columns.weight.data() + q * d, d, d, 1, 3 * d));
  }
  check(rows, in_rows);
  check(columns, in_columns);
}

TEST_CASE("Every head may have a subspace of its own", "[fleet]") {
  const Index heads = 4, h = 6, d = 24;
  Array arena(heads * h * d);
  std::vector<View<float>> weights;
  for (Index i = 0; i < heads; ++i) weights.push_back(view(arena.weight.data() + i * h * d, h, d));
  check(arena, weights);
}

TEST_CASE("Vectors and single rows get the rule alone, and the plan says so", "[fleet]") {
  Array arena(100);
  const std::vector<Parameter<float>> params{{"bias", view(arena.weight.data(), 1, 40), view(std::as_const(arena.gradient).data(), 1, 40)},
                                             {"gain", view(arena.weight.data() + 40, 60, 1), view(std::as_const(arena.gradient).data() + 40, 60, 1)}};
  Fleet fleet(params, Group{anything(), galore({.rank = 4})});
  std::ostringstream text;
  text << fleet.plan();
  for (const char* name : {"bias", "gain"}) {
    const std::string all = text.str();
    const auto at = all.find(name);
    REQUIRE(at != std::string::npos);
    CHECK_THAT(all.substr(at, all.find('\n', at) - at), ContainsSubstring("a vector is not projected"));
  }
  const Eigen::VectorXf before = Eigen::Map<const Eigen::VectorXf>(arena.weight.data(), 100);
  CHECK(fleet.step(params, {.lr = 0.01}).skipped == 0);
  CHECK((Eigen::Map<const Eigen::VectorXf>(arena.weight.data(), 100).array() != before.array()).all());
}
