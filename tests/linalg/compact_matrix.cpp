// Matrices in few bits: what comes back is within half a step of what went in, whatever its sign; halves of bytes keep
// their order; weights of one byte drift nowhere.
#include <cmath>

#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/linalg/int8_weight.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;
using Eigen::MatrixXd;

namespace {

template <class S>
using Dense = Eigen::Matrix<S, -1, -1>;

template <class S>
Dense<S> round_trip(const Dense<S>& X, Storage storage) {
  linalg::CompactMatrix<S> compact(X.rows(), X.cols(), storage);
  compact.allocate();
  compact.store(0, X.rows(), 0, X.cols(), X.data(), X.rows());
  Dense<S> back(X.rows(), X.cols());
  compact.load(0, X.rows(), 0, X.cols(), back.data(), X.rows());
  return back;
}

}  // namespace

TEMPLATE_TEST_CASE("Numbers come back within half a step, groups of one sign and of one value too", "[linalg]", float, double) {
  using S = TestType;
  for (const Index rows : {1, 2, 7, 255, 256, 257, 700}) {
    Dense<S> X = random_matrix(rows, 4, 3).cast<S>();
    X.col(1) = X.col(1).cwiseAbs().array() + S(3);   // a zero that the group does not hold
    X.col(2) = -X.col(1) * S(1e-6);
    X.col(3).setConstant(S(-0.37));
    CHECK((round_trip<S>(X, Storage::Full) - X).norm() == 0);
    for (const auto& [storage, largest] : {std::pair{Storage::Int8, 255}, std::pair{Storage::Int4, 15}}) {
      INFO(rows << " rows, " << largest << " steps");
      const Dense<S> back = round_trip<S>(X, storage);
      for (Index j = 0; j < 4; ++j)
        for (Index i0 = 0; i0 < rows; i0 += 256) {
          const auto x = X.col(j).segment(i0, std::min<Index>(256, rows - i0));
          const auto y = back.col(j).segment(i0, x.size());
          const double half = double(x.maxCoeff() - x.minCoeff()) / largest / 2;
          const double rounding = 4 * double(std::numeric_limits<S>::epsilon() * x.cwiseAbs().maxCoeff());
          CHECK(double((x - y).cwiseAbs().maxCoeff()) <= half + rounding);
          if (rows > 200) CHECK(double((x - y).cwiseAbs().maxCoeff()) >= 0.5 * half);  // it does round
          CHECK(y.minCoeff() == x.minCoeff());
        }
      Dense<S> again = X;
      linalg::CompactMatrix<S>::round_trip(again.data(), rows, 4, storage);
      CHECK((again - back).norm() == 0);
    }
  }
}

TEMPLATE_TEST_CASE("Numbers of 16 bits come back within 2^-8 of themselves, those that bf16 has as they are", "[linalg]", float, double) {
  using S = TestType;
  for (const Index rows : {1, 2, 255, 256, 257, 700}) {
    Dense<S> X = random_matrix(rows, 3, 3).cast<S>();
    X.col(1) *= S(1e20), X.col(2) *= S(1e-20);
    X(0, 0) = S(-0.0);
    const Dense<S> back = round_trip<S>(X, Storage::Bf16);
    CHECK(((back - X).cwiseAbs().array() <= S(0x1p-8) * X.cwiseAbs().array()).all());
    if (rows > 200) CHECK(((back - X).cwiseAbs().array() / X.cwiseAbs().array().max(S(1e-30))).maxCoeff() > S(0x1p-9));  // it does round
    CHECK(back == X.template cast<float>().template cast<Eigen::bfloat16>().template cast<float>().template cast<S>());
    CHECK(round_trip<S>(back, Storage::Bf16) == back);
    Dense<S> again = X;
    linalg::CompactMatrix<S>::round_trip(again.data(), rows, 3, Storage::Bf16);
    CHECK(again == back);
  }
}

TEST_CASE("Half bytes come back in the order they went in (DCT-AdamW's come back as 0 2 0 2)", "[linalg][regression]") {
  Dense<float> X(8, 1);
  X << 0, 1, 2, 3, 12, 13, 14, 15;
  CHECK(round_trip<float>(X, Storage::Int4) == X);
  // 8 bits have 255 steps (there: 15), and a constant group is no 0 / 0
  X << 0, 1, 2, 100, 101, 200, 254, 255;
  CHECK(round_trip<float>(X, Storage::Int8) == X);
  CHECK(round_trip<float>(Dense<float>::Zero(8, 1), Storage::Int4) == Dense<float>::Zero(8, 1));
}

TEST_CASE("Blocks are read from anywhere, and added", "[linalg]") {
  const Dense<float> X = random_matrix(600, 5, 1).cast<float>();
  for (const Storage storage : {Storage::Full, Storage::Int8, Storage::Int4, Storage::Bf16}) {
    linalg::CompactMatrix<float> compact(600, 5, storage);
    CHECK(compact.bytes() == (storage == Storage::Full ? 12000u : storage == Storage::Bf16 ? 6000u : (storage == Storage::Int8 ? 3000u : 1500u) + 5 * 3 * 8u));
    CHECK_FALSE(compact.allocated());
    compact.allocate();
    for (Index j = 0; j < 5; ++j)  // a group at a time
      for (Index i = 0; i < 600; i += 256) compact.store(i, std::min<Index>(256, 600 - i), j, 1, X.data() + i + j * 600, 600);
    const Dense<float> all = round_trip<float>(X, storage);
    Dense<float> block = Dense<float>::Ones(300, 3), sum = block;
    compact.load(201, 300, 1, 3, block.data(), 300);
    CHECK(block == all.block(201, 1, 300, 3));
    compact.add_to<kernel::Best>(201, 300, 1, 3, sum.data(), 300);
    CHECK((sum - block - Dense<float>::Ones(300, 3)).cwiseAbs().maxCoeff() < 1e-6);
  }
}

TEST_CASE("A weight of one byte: a quarter of the memory, either storage order, shapes and NaN refused", "[linalg]") {
  const MatrixXd W = random_matrix(300, 70, 1);
  Placed<float> columns(W, Order::Columns), rows(W, Order::Rows, 3, 2), back(MatrixXd::Zero(300, 70), Order::Rows);
  Int8Weight a(columns.view());
  const Int8Weight b(rows.view());
  CHECK(a.bytes() == 300 * 70 + 70 * 2 * 2 * 4);
  a.decode(back.view());
  const MatrixXd decoded = back.values();
  b.decode(back.view());
  CHECK(decoded == back.values());
  CHECK(back.guards_intact());
  CHECK((decoded - W).cwiseAbs().maxCoeff() < 8.0 / 255 / 2);
  a.encode(back.view());  // what the codes can hold stays
  a.decode(back.view());
  CHECK((decoded - back.values()).cwiseAbs().maxCoeff() < 8.0 / 255 / 2);
  CHECK(((decoded - back.values()).array().abs() > 1e-6).count() < 5);

  back.at(299, 1) = NAN;
  CHECK_THROWS_WITH(a.encode(back.view()), ContainsSubstring("(299, 1)") && ContainsSubstring("finite"));
  Placed<float> other(MatrixXd::Zero(70, 300), Order::Rows);
  CHECK_THROWS_WITH(a.decode(other.view()), ContainsSubstring("70x300") && ContainsSubstring("300x70"));
  CHECK_THROWS_AS(a.encode(other.view()), std::invalid_argument);
}

TEST_CASE("Updates far below a step arrive on average, rounded to nearest they never do", "[linalg]") {
  const Index m = 256, n = 64;
  MatrixXd W = random_matrix(m, n, 1);
  W.row(m - 1).setConstant(5), W.row(m - 2).setConstant(-5);  // the ends of every group do not move
  const double step = 10.0 / 255, move = step / 50;
  Int8Weight stochastic(W), nearest(W);
  MatrixXd start(m, n), w(m, n);
  nearest.decode(start);
  for (std::uint64_t t = 0; t < 100; ++t)
    for (auto* weight : {&stochastic, &nearest}) {
      weight->decode(w);
      w.topRows(m / 2).array() += move;
      weight->encode(w, {.rounding = weight == &nearest ? Rounding::Nearest : Rounding::Stochastic, .step = t, .seed = 7});
    }
  stochastic.decode(w);
  const double moved = (w - start).topRows(m / 2).mean(), stayed = (w - start).bottomRows(m / 2).mean();
  // a walk of at most 100 roundings of variance <= step^2 / 4 for each of 8192 entries
  const double deviation = step * std::sqrt(100 / 4.0 / double(m / 2 * n));
  CHECK(std::abs(moved - 100 * move) < 5 * deviation);
  CHECK(std::abs(stayed) < 5 * deviation);
  nearest.decode(w);
  CHECK((w - start).cwiseAbs().maxCoeff() < 1e-12);
}
