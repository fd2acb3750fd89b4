// Question: do the passes that are nothing but memory traffic run at the speed of memory? A transpose by blocks, the norms of
// columns and of rows, and moving a weight along a scaled gradient (the write of APOLLO), against Eigen.
#include <bench/support/roofline.hpp>

#include <lowrank/linalg/packed_basis.hpp>

namespace linalg = lowrank::linalg;

namespace bench {
namespace {

struct Arrays {
  Index m, n;
  Matrix<> A, B;
  Eigen::VectorXf phi;
  Eigen::VectorXd squares;

  Arrays(Index m_, Index n_)
      : m(m_), n(n_), A(random_matrix(m, n, 1)), B(random_matrix(n, m, 2)), phi(Eigen::VectorXf::Constant(std::max(m, n), 1e-9f)),
        squares(std::max(m, n)) {}
  template <class F>
  void blocks(Index size, Index length, const F& f) const {
    lowrank::detail::for_each((length + size - 1) / size, lowrank::detail::available_threads(),
                              [&](Index b, int slot) { f(b * size, std::min(size, length - b * size), slot); });
  }
};

enum class Pass { Transpose, ColumnNorms, RowNorms, Move };

const char* name_of(Pass p) {
  switch (p) {
    case Pass::Transpose: return "transpose";
    case Pass::ColumnNorms: return "column_norms";
    case Pass::RowNorms: return "row_norms";
    default: return "move_along_gradient";
  }
}

Work work_of(Pass p, Index m, Index n) {
  const double matrix = 4 * double(m) * double(n);
  if (p == Pass::Transpose) return {0, matrix, 2 * matrix};  // a line that is written is read first
  if (p == Pass::Move) return {0, matrix, 2 * matrix};
  return {0, matrix, 0};
}

void run_lowrank(Pass p, Arrays& x) {
  const Index m = x.m, n = x.n;
  constexpr Index block = 64, depth = 256;
  if (p == Pass::Transpose)  // 4 MB stay in the caches
    x.blocks(m * n > 1 << 20 ? 128 : block, m, [&](Index i, Index rows, int) {
      if (m * n > 1 << 20) K::transpose_past(rows, n, x.A.data() + i, m, x.B.data() + i * n, n);
      else K::transpose(rows, n, x.A.data() + i, m, x.B.data() + i * n, n);
    });
  if (p == Pass::ColumnNorms)
    x.blocks(block, n, [&](Index j, Index cols, int) {
      for (Index q = j; q < j + cols; ++q) x.squares[q] = K::sum_squares(m, x.A.data() + q * m);
    });
  if (p == Pass::RowNorms)  // as the energies of a gradient in rows
    x.blocks(depth, m, [&](Index i, Index rows, int) {
      std::fill_n(x.squares.data() + i, rows, 0.0);
      for (Index k = 0; k < n; k += depth)
        K::column_squares(std::min(depth, n - k), rows, x.A.data() + i + k * m, m, x.squares.data() + i);
    });
  if (p == Pass::Move)
    x.blocks(4, n, [&](Index j, Index cols, int) {
      for (Index q = j; q < j + cols; ++q)
        K::move(m, static_cast<const float*>(nullptr), {x.B.data() + q * m, m, x.A.data() + q * m, m, x.phi.data() + q, false}, {1e-9f});
    });
}

void run_eigen(Pass p, Arrays& x) {
  if (p == Pass::Transpose) x.B.noalias() = x.A.transpose();
  if (p == Pass::ColumnNorms) x.squares.head(x.n) = x.A.colwise().squaredNorm().transpose().cast<double>();
  if (p == Pass::RowNorms) x.squares.head(x.m) = x.A.rowwise().squaredNorm().cast<double>();
  if (p == Pass::Move) {
    Eigen::Map<Matrix<>> W(x.B.data(), x.m, x.n);
    W.noalias() -= 1e-9f * (x.A * x.phi.head(x.n).asDiagonal());
  }
}

void rows(bool) {
  for (const auto& [m, n] : {std::pair<Index, Index>{1024, 1024}, {4096, 4096}, {2048, 5461}})
    for (const Pass p : {Pass::Transpose, Pass::ColumnNorms, Pass::RowNorms, Pass::Move})
      for (const int threads : thread_counts())
        for (const auto& [who, run] : {std::pair<const char*, void (*)(Pass, Arrays&)>{"lowrank", run_lowrank}, {"eigen", run_eigen}})
          add(std::string(name_of(p)) + "/" + shape(m, n) + "/" + who, threads, [=, m = m, n = n, run = run]() -> Case {
            Arrays small(150, 133), expected(150, 133);
            run(p, small);
            run_eigen(p, expected);
            const bool sums = p == Pass::ColumnNorms || p == Pass::RowNorms;
            const Index count = p == Pass::ColumnNorms ? 133 : 150;
            if ((sums ? difference(small.squares.head(count), expected.squares.head(count)) : difference(small.B, expected.B)) > 1e-5)
              return {.run = {}, .error = "the result is wrong"};
            const auto x = std::make_shared<Arrays>(m, n);
            return {[=] { run(p, *x); }, work_of(p, m, n)};
          });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
