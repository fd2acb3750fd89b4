// Question: what does a new basis cost, and how much of the gradient's energy does it hold? Warm and cold block iteration
// and the exact decomposition, against LAPACK's sgesdd and the same warm iteration in plain Eigen; and orthonormalisation
// alone. --large adds 4096 x 4096.
//
// The gradient has singular values that fall like i^-0.8, and 2 % of noise. A warm refresh comes at G' = 0.9 G + 0.1 F, F a
// fresh gradient of the same kind and norm, from the basis of G. captured_%: ||P^T G'||^2 in percent of the r largest
// sigma^2 of G'; stale_%: the same of the basis it replaces.
#include <cmath>

#include <Eigen/QR>
#include <bench/support/roofline.hpp>

#include <lowrank/projector/subspace.hpp>
#include <lowrank/projector/svd.hpp>
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
#include <lapacke.h>
#endif

namespace linalg = lowrank::linalg;

namespace bench {
namespace {

Matrix<> gradient(Index n, std::uint64_t seed) {
  Matrix<> left = random_matrix(n, n, 10 * seed), right = random_matrix(n, n, 10 * seed + 1), G(n, n);
  for (Index i = 0; i < n; ++i) left.col(i) *= std::pow(float(i + 1), -0.8f);
  G.noalias() = left * right.transpose();
  const Matrix<> noise = random_matrix(n, n, 10 * seed + 2);
  G += 0.02f * G.norm() / noise.norm() * noise;
  return G / G.norm();
}

/// The gradients of one size and what an exact basis holds of the second.
struct Gradients {
  Index n;
  Matrix<> first, second;
  Eigen::VectorXd squares;  // sigma^2 of `second`, descending

  explicit Gradients(Index size) : n(size), first(gradient(n, 1)), second(0.9f * first + 0.1f * gradient(n, 2)) {
    const Eigen::MatrixXd wide = second.cast<double>();
    Eigen::MatrixXd gram(n, n);
    gram.noalias() = wide * wide.transpose();
    lowrank::Arena count;
    linalg::Eigh<double>(count, n);
    lowrank::Buffer<std::byte> memory(Index(count.used()), 1);
    lowrank::Arena arena(memory);
    squares.resize(n);
    linalg::Eigh<double>(arena, n)(gram.data(), squares.data());
    std::sort(squares.data(), squares.data() + n, std::greater<>());
  }
  double captured(const Matrix<>& P) const {
    return 100 * double((P.transpose() * second).squaredNorm()) / squares.head(P.cols()).sum();
  }
};

/// Kept until another size is asked for.
const Gradients& gradients(Index n) {
  static std::unique_ptr<Gradients> kept;
  if (kept == nullptr || kept->n != n) kept.reset(), kept = std::make_unique<Gradients>(n);
  return *kept;
}

/// A projector with the workspace of a refresh, which leaves its candidate there and changes nothing else.
template <class Options>
struct Refresh {
  using State = lowrank::ProjectorState<Options, float, K>;

  State state;
  lowrank::Buffer<std::byte> memory;
  linalg::Team<float, K> team;
  typename State::Work work;
  float* core = nullptr;

  Refresh(const Options& options, Index n) : state(options, n, n) {
    state.visit([](const char*, auto& field) {
      if constexpr (requires { field.allocate(); }) field.allocate();
    });
    state.begin();
    lowrank::Arena count;
    lay_out(count, n);
    memory = lowrank::Buffer<std::byte>(Index(count.used()), 1);
    lowrank::Arena arena(memory);
    lay_out(arena, n);
  }
  Refresh(const Refresh&) = delete;

  void lay_out(lowrank::Arena& arena, Index n) {
    const int threads = lowrank::detail::available_threads();
    team = linalg::Team<float, K>(arena, threads, n);
    work = typename State::Work(arena, state, threads);
    core = arena.take<float>((state.rank() + 8) * n);
  }
  void operator()(const Matrix<>& G) {
    using lowrank::linalg::Memory;
    const linalg::Source<float, K> a{{G.data(), lowrank::Dtype::F32, 1, G.rows()}, G.rows(), G.cols()};
    state.refresh(a, core, work, team);
  }
  /// The candidate becomes the basis.
  void accept() {
    state.commit(work);
    state.observe(1, true);
  }
  Matrix<> candidate() const { return Eigen::Map<const Matrix<>>(work.dense.candidate, state.basis().rows(), state.rank()); }
};

std::string name(const char* what, Index n, Index r) { return with_rank(what, r) + "/" + shape(n, n) + "/"; }

/// Two passes of Cholesky-QR: Gram matrix and triangular solve, half a product each.
double orth_flops(Index d, Index r) { return 4 * double(d) * double(r) * double(r); }

void add_warm(Index n, Index r, int threads) {
  const double matrix = 4 * double(n) * double(n);
  const Work work{matrix * double(r) + orth_flops(n, r), 2 * matrix, 0};
  add(name("warm", n, r) + "lowrank", threads, [=]() -> Case {
    const Gradients& g = gradients(n);
    const auto x = std::make_shared<Refresh<lowrank::Subspace>>(lowrank::Subspace{.rank = r}, n);
    (*x)(g.first);
    x->accept();
    const double stale = g.captured(x->candidate());
    (*x)(g.second);
    return {[x, &g] { (*x)(g.second); }, work, {{"captured_%", g.captured(x->candidate())}, {"stale_%", stale}}};
  });
  add(name("warm", n, r) + "eigen", threads, [=]() -> Case {
    const Gradients& g = gradients(n);
    struct State {
      Matrix<> P, R, Y;
    };
    const auto x = std::make_shared<State>();
    Refresh<lowrank::Subspace> start({.rank = r}, n);
    start(g.first);
    x->P = start.candidate();
    const auto run = [x, &g, n, r] {
      x->R.noalias() = x->P.transpose() * g.second;
      x->Y.noalias() = g.second * x->R.transpose();
      x->Y = Eigen::HouseholderQR<Eigen::Ref<Matrix<>>>(x->Y).householderQ() * Matrix<>::Identity(n, r);
    };
    run();
    return {run, work, {{"captured_%", g.captured(x->Y)}}};
  });
}

void add_cold(Index n, Index r, int threads) {
  const double matrix = 4 * double(n) * double(n), l = double(r + lowrank::ProjectorState<lowrank::Subspace, float, K>::oversampling);
  const Work work{3 * matrix * l + 4 * orth_flops(n, r), 6 * matrix, 0};
  add(name("cold", n, r) + "lowrank", threads, [=]() -> Case {
    const Gradients& g = gradients(n);
    const auto x = std::make_shared<Refresh<lowrank::Subspace>>(lowrank::Subspace{.rank = r}, n);
    (*x)(g.second);
    return {[x, &g] { (*x)(g.second); }, work, {{"captured_%", g.captured(x->candidate())}}};
  });
}

void add_exact(Index n, Index r, int threads) {
  add(name("exact", n, r) + "lowrank", threads, [=]() -> Case {
    const Gradients& g = gradients(n);
    const auto x = std::make_shared<Refresh<lowrank::Svd>>(lowrank::Svd{.rank = r}, n);
    (*x)(g.second);
    return {[x, &g] { (*x)(g.second); }, {}, {{"captured_%", g.captured(x->candidate())}}};
  })->Iterations(1);
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
  add(name("exact", n, r) + "lapack_sgesdd", threads, [=]() -> Case {
    const Gradients& g = gradients(n);
    struct State {
      Matrix<> A, U, Vt;
      Eigen::VectorXf sigma;
    };
    const auto x = std::make_shared<State>(State{g.second, Matrix<>(n, n), Matrix<>(n, n), Eigen::VectorXf(n)});
    const auto run = [x, &g, n] {
      x->A = g.second;
      const int order = int(n);
      LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'S', order, order, x->A.data(), order, x->sigma.data(), x->U.data(), order,
                     x->Vt.data(), order);
    };
    run();
    return {run, {}, {{"captured_%", g.captured(x->U.leftCols(r))}}};
  })->Iterations(1);
#endif
}

void add_orth(Index d, Index r, int threads) {
  const Work work{orth_flops(d, r), 0, 0};
  const std::string start = with_rank("orth", r) + "/" + shape(d, r) + "/";
  /// ||Q^T Q - I||_F
  const auto error = [r](const Matrix<>& Q) { return double((Q.transpose() * Q - Matrix<>::Identity(r, r)).norm()); };

  add(start + "lowrank", threads, [=]() -> Case {
    struct State {
      Matrix<> Y, Q;
      lowrank::Buffer<std::byte> memory;
      linalg::Team<float, K> team;
      linalg::Orth<float, K> orth;
    };
    const auto x = std::make_shared<State>();
    x->Y = random_matrix(d, r, 5);
    const auto lay_out = [&](lowrank::Arena arena) {
      x->team = linalg::Team<float, K>(arena, lowrank::detail::available_threads(), d);
      x->orth = linalg::Orth<float, K>(arena, d, r);
      return Index(arena.used());
    };
    x->memory = lowrank::Buffer<std::byte>(lay_out({}), 1);
    lay_out(lowrank::Arena(x->memory));
    const auto run = [x] {
      x->Q = x->Y;
      x->orth(x->Q.data(), x->team);
    };
    run();
    return {run, work, {{"error", error(x->Q)}}};
  });
  add(start + "eigen_householder", threads, [=]() -> Case {
    const auto Y = std::make_shared<Matrix<>>(random_matrix(d, r, 5)), Q = std::make_shared<Matrix<>>();
    const auto run = [=] {
      *Q = *Y;
      *Q = Eigen::HouseholderQR<Eigen::Ref<Matrix<>>>(*Q).householderQ() * Matrix<>::Identity(d, r);
    };
    run();
    return {run, work, {{"error", error(*Q)}}};
  });
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
  add(start + "lapack_sgeqrf_sorgqr", threads, [=]() -> Case {
    const auto Y = std::make_shared<Matrix<>>(random_matrix(d, r, 5)), Q = std::make_shared<Matrix<>>();
    const auto run = [=, tau = Eigen::VectorXf(r)]() mutable {
      *Q = *Y;
      LAPACKE_sgeqrf(LAPACK_COL_MAJOR, int(d), int(r), Q->data(), int(d), tau.data());
      LAPACKE_sorgqr(LAPACK_COL_MAJOR, int(d), int(r), int(r), Q->data(), int(d), tau.data());
    };
    Case made{run, work};
    made.run();
    made.counters["error"] = error(*Q);
    return made;
  });
#endif
}

void rows(bool large) {
  for (const auto& [d, r] : {std::pair<Index, Index>{1024, 128}, {4096, 128}, {4096, 256}})
    for (const int threads : thread_counts()) add_orth(d, r, threads);
  std::vector<Index> sizes{1024, 2048};
  if (large) sizes.push_back(4096);
  for (const Index n : sizes) {
    for (const Index r : {128, 256})
      for (const int threads : thread_counts()) {
        add_warm(n, r, threads);
        add_cold(n, r, threads);
      }
    for (const int threads : thread_counts()) add_exact(n, 128, threads);
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
