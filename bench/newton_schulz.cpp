// Question: how near to the roof is Newton-Schulz, the five polynomials of Muon, Trion and Dion, with half of each symmetric
// product computed? Against the expressions as one writes them in Eigen, and OpenBLAS with its own symmetric product.
//
// A step of n x k, n <= k, is G = X X^T, G^2 and P X: at least n^2 k + n^3 + 2 n^2 k operations, which is what GFLOP/s and
// roof_% count for every row. Three plain products take 4 n^2 k + 2 n^3: plain_flops is the ratio, so GFLOP/s times
// plain_flops is the rate that counts those.
#include <bench/support/roofline.hpp>

#include <lowrank/linalg/newton_schulz.hpp>

namespace linalg = lowrank::linalg;

namespace bench {
namespace {

constexpr int steps = 5;
constexpr float a = 3.4445f, b = -4.7750f, c = 2.0315f;

/// X and where its polynomials go; X itself is kept, so that every repetition does the same.
struct Ours {
  Matrix<> X, Y;
  lowrank::Buffer<std::byte> memory;
  linalg::Team<float, K> team;
  linalg::NewtonSchulz<float, K> iteration;

  explicit Ours(const Matrix<>& x) : X(x), Y(x) {
    lowrank::Arena count;
    lay_out(count);
    memory = lowrank::Buffer<std::byte>(Index(count.used()), 1);
    lowrank::Arena arena(memory);
    lay_out(arena);
  }
  Ours(const Ours&) = delete;
  void lay_out(lowrank::Arena& arena) {
    team = linalg::Team<float, K>(arena, lowrank::detail::available_threads(), std::max(X.rows(), X.cols()));
    iteration = linalg::NewtonSchulz<float, K>(arena, X.rows(), X.cols());
  }
  void run() {
    Y = X;
    iteration(Y.data(), lowrank::Polynomial::Quintic, team);
  }
};

struct Naive {
  Matrix<> X, Y, G, P, next;

  explicit Naive(const Matrix<>& x) : X(x), Y(x), G(x.rows(), x.rows()), P(G), next(x) {}
  void run() {
    Y = X / X.norm();
    for (int step = 0; step < steps; ++step) {
      G.noalias() = Y * Y.transpose();
      P = b * G;
      P.noalias() += c * G * G;
      P.diagonal().array() += a;
      next.noalias() = P * Y;
      Y.swap(next);
    }
  }
};

#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
/// G by syrk, G^2 by syrk of G, which is symmetric, P X by symm.
struct OpenBlas : Naive {
  using Naive::Naive;
  void run() {
    const int n = int(X.rows()), k = int(X.cols());
    Y = X / X.norm();
    for (int step = 0; step < steps; ++step) {
      cblas_ssyrk(CblasColMajor, CblasLower, CblasNoTrans, n, k, 1, Y.data(), n, 0, G.data(), n);
      G.triangularView<Eigen::StrictlyUpper>() = G.transpose();
      P = b * G;
      cblas_ssyrk(CblasColMajor, CblasLower, CblasNoTrans, n, n, c, G.data(), n, 1, P.data(), n);
      P.triangularView<Eigen::StrictlyUpper>() = P.transpose();
      P.diagonal().array() += a;
      cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, n, k, n, 1, P.data(), n, Y.data(), n, 0, next.data(), n);
      Y.swap(next);
    }
  }
};
#endif

template <class Peer>
void add_peer(Index n, Index k, const char* who) {
  for (const int threads : thread_counts())
    add("newton_schulz/" + shape(n, k) + "/" + who, threads, [=]() -> Case {
      const Matrix<> small = random_matrix(70, 133, 2);
      Peer peer(small);
      Naive expected(small);
      peer.run();
      expected.run();
      if (difference(peer.Y, expected.Y) > 1e-4) return {.run = {}, .error = "the polynomials are wrong"};
      const auto x = std::make_shared<Peer>(random_matrix(n, k, 3));
      const double flops = steps * double(n) * double(n) * double(3 * k + n), matrix = 4 * double(n) * double(k);
      return {[x] { x->run(); }, {flops, matrix, matrix}, {{"plain_flops", double(4 * k + 2 * n) / double(3 * k + n)}}};
    });
}

void rows(bool) {
  for (const auto& [n, k] : {std::pair<Index, Index>{512, 512}, {512, 1376}, {1024, 1024}, {2048, 2048}}) {
    add_peer<Ours>(n, k, "lowrank");
    add_peer<Naive>(n, k, "eigen");
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
    add_peer<OpenBlas>(n, k, "openblas");
#endif
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
