// Columns side by side, as transforms take them: the same from every storage order and scale, moved back into W to the same bits in
// either order, and their sums. Groups that are not full have zeros.
#include <support/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include <lowrank/linalg/interleaved.hpp>
#include <lowrank/linalg/weight_update.hpp>

#include "workspace.hpp"

using namespace lowrank;

namespace {

/// The same matrix in both orders, with gaps.
template <class S>
struct Both {
  Index d, w, ldc = d + 3, ldr = w + 5;
  std::vector<S> columns = lowrank_test::random_matrix<S>(ldc * w, 1, 1), rows = std::vector<S>(std::size_t(ldr * d), S(7));

  Both(Index d_, Index w_) : d(d_), w(w_) {
    for (Index j = 0; j < w; ++j)
      for (Index i = 0; i < d; ++i) rows[std::size_t(j + i * ldr)] = at(i, j);
  }
  S at(Index i, Index j) const { return columns[std::size_t(i + j * ldc)]; }
};

template <class S, class K>
void check(Index d, Index w) {
  constexpr Index lanes = K::template lanes<S>;
  INFO(K::name << ": " << d << " x " << w);
  const linalg::Interleaved<S, K> side_by_side{d};
  const auto team = lowrank_test::make_team<S, K>(std::max(d, w));
  const auto scratch = (*team)[0];
  const Both<S> A(d, w);
  const Index groups = (w + lanes - 1) / lanes;
  const auto dtype = detail::DtypeOf<S>::value;

  std::vector<S> x(std::size_t(groups * lanes * d), S(9)), y = x;
  const linalg::Source<S, K> by_columns{{A.columns.data(), dtype, 1, A.ldc}, d, w}, by_rows{{A.rows.data(), dtype, A.ldr, 1}, d, w};
  side_by_side.load(by_columns, 0, w, x.data(), scratch);
  side_by_side.load(by_rows, 0, w, y.data(), scratch);
  CHECK(x == y);
  bool right = true;
  for (Index j = 0; j < groups * lanes; ++j)
    for (Index i = 0; i < d; ++i) right = right && x[std::size_t((j / lanes * d + i) * lanes + j % lanes)] == (j < w ? A.at(i, j) : S(0));
  CHECK(right);
  auto scaled = by_rows;
  scaled.scale = 0.5;
  side_by_side.load(scaled, 0, w, y.data(), scratch);
  for (S& v : y) v *= 2;
  CHECK(x == y);

  std::vector<double> score(std::size_t(d), 1.0), squares(std::size_t(d), 0.0), energy(std::size_t(groups * lanes));
  for (Index g = 0; g < groups; ++g) {
    const S* group = x.data() + g * lanes * d;
    side_by_side.add_scores(group, false, score.data());
    side_by_side.add_scores(group, true, squares.data());
    side_by_side.energies(group, std::min(lanes, w - g * lanes), energy.data() + g * lanes);
  }
  const double eps = double(std::numeric_limits<S>::epsilon());
  for (Index i = 0; i < d; ++i) {
    double sum = 1, of_squares = 0;
    for (Index j = 0; j < w; ++j) sum += std::abs(double(A.at(i, j))), of_squares += double(A.at(i, j)) * double(A.at(i, j));
    CHECK(std::abs(score[std::size_t(i)] - sum) <= 16 * eps * sum);
    CHECK(std::abs(squares[std::size_t(i)] - of_squares) <= 16 * eps * of_squares);
  }
  for (Index j = 0; j < w; ++j) {
    double sum = 0;
    for (Index i = 0; i < d; ++i) sum += double(A.at(i, j)) * double(A.at(i, j));
    CHECK(std::abs(energy[std::size_t(j)] - sum) <= 256 * eps * sum);
  }

  // along U, and along U + scale G diag(phi)
  if (w > linalg::tile_columns) return;
  const std::vector<S> phi = lowrank_test::random_matrix<S>(w, 1, 3);
  for (const bool with_gradient : {false, true}) {
    Both<S> W(d, w);
    const Both<S> before = W;
    linalg::WeightUpdate<S> u{W.columns.data(), W.ldc, nullptr, 0, nullptr, linalg::Order::Columns, {S(0.25), S(0.75), S(0.5), S(2)}};
    if (with_gradient) u.g = A.columns.data(), u.ldg = A.ldc, u.phi = phi.data();
    side_by_side.update(x.data(), 0, w, u, scratch.rows);
    u.w = W.rows.data(), u.ldw = W.ldr, u.order = linalg::Order::Rows;
    if (with_gradient) u.g = A.rows.data(), u.ldg = A.ldr;
    side_by_side.update(x.data(), 0, w, u, scratch.rows);
    bool same = true, near = true;
    for (Index i = 0; i < d; ++i) {
      for (Index j = 0; j < w; ++j) {
        const S got = W.at(i, j);
        same = same && got == W.rows[std::size_t(j + i * W.ldr)];
        const double U = double(A.at(i, j)), G = with_gradient ? 2 * U * double(phi[std::size_t(j)]) : 0;
        const double want = 0.5 * (0.75 * double(before.at(i, j)) - 0.25 * (U + G));
        near = near && std::abs(double(got) - want) <= 8 * eps * (1 + std::abs(U) + std::abs(G));
      }
      for (Index j = w; j < W.ldr; ++j) same = same && W.rows[std::size_t(j + i * W.ldr)] == S(7);  // what is not W stays
    }
    CHECK(same);
    CHECK(near);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("columns side by side, there and back", "", kernel::Portable, kernel::Best) {
  for (const Index d : {1, 7, 16, 40, 300})
    for (const Index w : {1, 5, 16, 33, 64}) {
      check<float, TestType>(d, w);
      check<double, TestType>(d, w);
    }
}
