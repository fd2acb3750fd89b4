// Question: how fast are the products with a sparse matrix of fixed support, Y += S X (spmm), dX += S^T dY (spmm_transposed) and
// the products sampled where S has entries, dv_k += dY_(i_k) . X_(j_k) (sddmm), and do they keep their rate from 256 tokens to
// 4096? Two operations an entry and token. Activations are features x tokens: with a token's features together, the memory of an
// array [tokens][features], or ("_rows") with a feature's tokens together, as no model has them but as sparse products want them.
// "eigen" is a SparseMatrix times activations, on the layout that suits it, the first; and dot products entry by entry, on the second.
#include <bench/support/roofline.hpp>

#include <Eigen/SparseCore>

#include <lowrank/linalg/sparse.hpp>

namespace linalg = lowrank::linalg;

namespace bench {
namespace {

enum class Kind { Multiply, Transposed, Sampled };

constexpr double density = 0.03;
linalg::Support support(Index m, Index n) { return linalg::Support::random(m, n, Index(density * double(m) * double(n)), 7, 0); }

/// S (m x n) and the activations of N tokens; results begin at zero.
template <int Order>
struct Problem {
  linalg::Support at;
  Matrix<> v, dv;  // values, one column
  Matrix<Order> X, dY, Y, dX;

  Problem(Index m, Index n, Index N)
      : at(support(m, n)), v(random_matrix(at.entries(), 1, 3)), dv(Matrix<>::Zero(at.entries(), 1)), X(random_matrix(n, N, 1)),
        dY(random_matrix(m, N, 2)), Y(Matrix<Order>::Zero(m, N)), dX(Matrix<Order>::Zero(n, N)) {}
};

template <int Order>
struct Ours : Problem<Order> {
  using Base = Problem<Order>;
  using Base::at, Base::v, Base::dv, Base::X, Base::dY, Base::Y, Base::dX;
  lowrank::Buffer<std::byte> memory;
  linalg::SparseProduct<float, K> product;

  Ours(Index m, Index n, Index N) : Base(m, n, N) {
    const auto lay_out = [&](lowrank::Arena& arena) {
      product = linalg::SparseProduct<float, K>(arena, lowrank::detail::available_threads(), m, n, at.entries());
    };
    lowrank::Arena count;
    lay_out(count);
    memory = lowrank::Buffer<std::byte>(Index(count.used()), 1);
    lowrank::Arena arena(memory);
    lay_out(arena);
  }
  void run(Kind kind) {
    const auto there = [](Matrix<Order>& x) { return linalg::memory(lowrank::view(x)); };
    if (kind == Kind::Multiply) return product.multiply(at, v.data(), X.cols(), there(X), there(Y));
    const bool sampled = kind == Kind::Sampled;
    product.transposed(at, v.data(), X.cols(), there(X), there(dY), sampled ? linalg::Memory<void>{} : there(dX), sampled ? dv.data() : nullptr);
  }
};

template <int Order>
struct Naive : Problem<Order> {
  using Base = Problem<Order>;
  using Base::at, Base::v, Base::dv, Base::X, Base::dY, Base::Y, Base::dX;
  Eigen::SparseMatrix<float, Eigen::RowMajor> S;

  Naive(Index m, Index n, Index N) : Base(m, n, N), S(m, n) {
    std::vector<Eigen::Triplet<float>> entries;
    for (Index i = 0; i < m; ++i)
      for (Index k = at.begin(i); k < at.end(i); ++k) entries.emplace_back(int(i), int(at.column(k)), v(k, 0));
    S.setFromTriplets(entries.begin(), entries.end());
  }
  void run(Kind kind) {
    if (kind == Kind::Multiply) Y += S * X;
    else if (kind == Kind::Transposed) dX += S.transpose() * dY;
    else
      for (Index i = 0; i < at.rows(); ++i)
        for (Index k = at.begin(i); k < at.end(i); ++k) dv(k, 0) += dY.row(i).dot(X.row(at.column(k)));
  }
};

template <class Peer>
void add_peer(Kind kind, const char* layout, Index m, Index n, Index N, const char* who) {
  const std::string name = kind == Kind::Multiply ? "spmm" : kind == Kind::Transposed ? "spmm_transposed" : "sddmm";
  const double flops = 2 * std::floor(density * double(m) * double(n)) * double(N);
  for (const int threads : thread_counts())
    add(name + layout + "/" + shape(m, n) + "/N" + std::to_string(N) + "/" + who, threads, [=]() -> Case {
      Peer peer(100, 70, 150);
      Naive<Eigen::ColMajor> expected(100, 70, 150);
      peer.run(kind);
      expected.run(kind);
      // what was not asked for stays zero in both
      if (difference(peer.Y, expected.Y) > 1e-5 || difference(peer.dX, expected.dX) > 1e-5 || difference(peer.dv, expected.dv) > 1e-5)
        return {.run = {}, .error = "the sparse product is wrong"};
      const auto x = std::make_shared<Peer>(m, n, N);
      return {[=] { x->run(kind); }, {flops, 0, 0}};
    });
}

void rows(bool) {
  for (const auto& [m, n] : {std::pair<Index, Index>{512, 512}, {2048, 2048}})
    for (const Kind kind : {Kind::Multiply, Kind::Transposed, Kind::Sampled})
      for (const Index N : {256, 1024, 4096}) {
        add_peer<Ours<Eigen::ColMajor>>(kind, "", m, n, N, "lowrank");
        add_peer<Ours<Eigen::RowMajor>>(kind, "_rows", m, n, N, "lowrank");
        if (kind == Kind::Sampled) add_peer<Naive<Eigen::RowMajor>>(kind, "_rows", m, n, N, "eigen");
        else add_peer<Naive<Eigen::ColMajor>>(kind, "", m, n, N, "eigen");
      }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
