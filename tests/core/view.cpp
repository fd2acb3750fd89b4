// View: what is somebody's memory and what is not. Everything Eigen calls a matrix with storage becomes the same pointer,
// shape and strides; strides that are no matrix are refused; overlap is seen, and disjoint blocks of one matrix pass.
#include <support/catch.hpp>

#include <lowrank/core/view.hpp>

using namespace lowrank;
using Catch::Matchers::ContainsSubstring;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace {

/// The view of m addresses m's own elements, and one of the strides is 1.
template <class M>
void check(M&& m) {
  const auto v = view(m);
  REQUIRE(v.rows == m.rows());
  REQUIRE(v.cols == m.cols());
  CHECK((v.row_stride == 1 || v.col_stride == 1));
  for (Index j = 0; j < v.cols; ++j)
    for (Index i = 0; i < v.rows; ++i) REQUIRE(v.data + i * v.row_stride + j * v.col_stride == &m.coeffRef(i, j));
}

std::vector<float> memory(200);

}  // namespace

TEST_CASE("Matrices, maps, refs and blocks of either order are viewed where they lie", "[view]") {
  Eigen::MatrixXf columns(7, 5);
  RowMajor rows(7, 5);
  check(columns);
  check(rows);
  check(columns.block(1, 2, 3, 2));
  check(rows.block(1, 2, 3, 2));
  check(columns.topRows(3));
  check(rows.leftCols(2));
  check(Eigen::Map<Eigen::MatrixXf>(memory.data(), 4, 6));
  check(Eigen::Map<RowMajor>(memory.data(), 4, 6));
  check(Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>(memory.data(), 4, 6, Eigen::OuterStride<>(9)));
  check(Eigen::Ref<Eigen::MatrixXf>(columns));
  check(Eigen::Ref<RowMajor>(rows));
  check(Eigen::Ref<Eigen::MatrixXf>(columns.middleCols(1, 3)));
  check(columns.transpose());
  check(rows.transpose());
  Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic> array(3, 4);
  check(array);
  Eigen::Matrix<double, 3, 4> fixed;
  check(fixed);
  Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic> brain(3, 4);
  check(brain);
  Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> half(3, 4);
  check(half);
}

TEST_CASE("Vectors, and rows and columns of matrices, however they are strided", "[view]") {
  Eigen::MatrixXf columns(7, 5);
  RowMajor rows(7, 5);
  Eigen::VectorXf vector(6);
  Eigen::RowVectorXf row_vector(6);
  check(vector);
  check(row_vector);
  check(vector.segment(1, 3));
  check(columns.row(2));
  check(columns.col(2));
  check(rows.row(2));
  check(rows.col(2));
  check(columns.row(2).transpose());
  check(rows.col(2).transpose());
  check(columns.row(2).segment(1, 3));
  check(Eigen::Map<Eigen::VectorXf, 0, Eigen::InnerStride<>>(memory.data(), 6, Eigen::InnerStride<>(3)));
  check(Eigen::Map<Eigen::RowVectorXf, 0, Eigen::InnerStride<>>(memory.data(), 6, Eigen::InnerStride<>(3)));
  check(columns.block(2, 3, 1, 1));
  // raw strides of a vector: the stride along its length is what counts, the other may be anything
  for (const Index other : {-4, 0, 1, 2, 5, 9}) {
    const auto tall = view(memory.data(), 6, 1, 5, other), wide = view(memory.data(), 1, 6, other, 5);
    CHECK(tall.row_stride == 5);
    CHECK(tall.col_stride == 1);
    CHECK(wide.row_stride == 1);
    CHECK(wide.col_stride == 5);
  }
}

TEST_CASE("A raw array is row-major, and const stays const", "[view]") {
  const auto v = view(memory.data(), 4, 6);
  CHECK(v.row_stride == 6);
  CHECK(v.col_stride == 1);
  const Eigen::MatrixXf constant(3, 2);
  static_assert(std::is_same_v<decltype(view(constant)), View<const float>>);
  static_assert(std::is_same_v<decltype(view(std::declval<Eigen::MatrixXd&>())), View<double>>);
  static_assert(std::is_same_v<decltype(view(std::declval<const Eigen::Map<const RowMajor>&>())), View<const float>>);
  static_assert(std::is_convertible_v<View<float>, View<const float>>);
  static_assert(!std::is_convertible_v<View<const float>, View<float>>);
  const View<const float> again = view(view(memory.data(), 4, 6));
  CHECK(again.data == memory.data());
}

TEST_CASE("Strides that are no matrix are refused, with what they are", "[view]") {
  const auto refused = [](Index rows, Index cols, Index row_stride, Index col_stride) {
    INFO(rows << " x " << cols << " with " << row_stride << ", " << col_stride);
    CHECK_THROWS_WITH(view(memory.data(), rows, cols, row_stride, col_stride),
                      ContainsSubstring("lowrank::view: got") &&
                          ContainsSubstring("strides " + std::to_string(row_stride) + ", " + std::to_string(col_stride)));
  };
  CHECK_NOTHROW(view(memory.data(), 4, 3, 1, 4));
  CHECK_NOTHROW(view(memory.data(), 4, 3, 1, 7));
  CHECK_NOTHROW(view(memory.data(), 4, 3, 3, 1));
  refused(4, 3, 1, 3);    // columns run into each other
  refused(4, 3, 2, 1);    // rows do
  refused(4, 3, 1, 1);    // all do
  refused(4, 3, 2, 8);    // neither is contiguous
  refused(4, 3, 1, 0);    // every column is the first
  refused(4, 3, 0, 1);
  refused(4, 3, 1, -4);   // backwards
  refused(4, 3, -1, 4);
  refused(4, 3, -3, 1);
  refused(-4, 3, 1, 4);
  refused(4, -3, 1, 4);
  refused(6, 1, 0, 1);    // vectors too
  refused(6, 1, -1, 1);
  refused(1, 6, 1, 0);
  refused(1, 6, 1, -2);
  CHECK_THROWS_AS(view<float>(nullptr, 4, 3, 1, 4), std::invalid_argument);
  CHECK_THROWS_AS(view(View<float>{memory.data(), 4, 3, 1, 3}), std::invalid_argument);
  CHECK_NOTHROW(view<float>(nullptr, 0, 3, 1, 0));  // empty: there is nothing to point at
  Eigen::MatrixXf matrix(12, 12);
  CHECK_THROWS_AS(view(Eigen::Map<Eigen::MatrixXf, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>(
                      matrix.data(), 3, 3, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(24, 2))),
                  std::invalid_argument);
}

TEST_CASE("Overlap is sharing an element, for blocks of one matrix exactly", "[view]") {
  // every pair of blocks of a 5 x 4 matrix, against the definition
  const auto shared = [](const auto& a, const auto& b) {
    for (Index i = 0; i < a.rows * a.cols; ++i)
      for (Index j = 0; j < b.rows * b.cols; ++j)
        if (a.data + i % a.rows * a.row_stride + i / a.rows * a.col_stride ==
            b.data + j % b.rows * b.row_stride + j / b.rows * b.col_stride)
          return true;
    return false;
  };
  const auto every_pair = [&](auto& m) {
    std::vector<View<float>> blocks;
    for (Index i = 0; i < m.rows(); ++i)
      for (Index j = 0; j < m.cols(); ++j)
        for (Index rows = 1; i + rows <= m.rows(); ++rows)
          for (Index cols = 1; j + cols <= m.cols(); ++cols) blocks.push_back(view(m.block(i, j, rows, cols)));
    Index wrong = 0, apart = 0;
    for (const auto& a : blocks)
      for (const auto& b : blocks) {
        wrong += detail::overlap(a, b) != shared(a, b);
        apart += !detail::overlap(a, b);
      }
    CHECK(wrong == 0);
    CHECK(apart > 0);
  };
  Eigen::MatrixXf columns(5, 4);
  RowMajor rows(5, 4);
  every_pair(columns);
  every_pair(rows);
}

TEST_CASE("Overlap of unrelated views errs on the side of refusal", "[view]") {
  float* p = memory.data();
  CHECK(detail::overlap(view(p, 4, 5), view(p, 5, 4)));                        // one memory, two shapes
  CHECK(detail::overlap(view(p, 4, 5), view(p, 4, 5, 1, 4)));                  // two orders
  CHECK_FALSE(detail::overlap(view(p, 4, 5), view(p + 20, 4, 5)));             // neighbours
  CHECK(detail::overlap(view(p, 4, 5), view(p + 19, 4, 5)));
  CHECK(detail::overlap(view(p, 4, 3, 10, 1), view(p + 4, 4, 3, 12, 1)));      // other strides: ranges meet
  CHECK_FALSE(detail::overlap(view(p, 4, 3, 10, 1), view(p + 40, 4, 3, 12, 1)));
  const auto bits = view(reinterpret_cast<Eigen::bfloat16*>(p), 4, 5);
  CHECK(detail::overlap(view(p, 4, 5), bits));                                 // one memory, two scalars
  CHECK_FALSE(detail::overlap(view(p, 0, 5), view(p, 4, 5)));                  // nothing overlaps nothing
}
