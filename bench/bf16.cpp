// Question: what does bf16 cost, and what does it save? A GaLore step on weights and gradients in bf16 with a basis, moments and sums in float,
// against the same step in float and against what others offer in bf16; and a basis in bf16 as well (SubspaceBf16), whose products are held
// against what the instruction vdpbf16ps can do in registers, its error beside them. Steps between two refreshes.
//
// The second half needs AVX-512 BF16: where the compiler is not told of it, another program, bench_bf16_basis, is, and has no other rows.
#include <bench/support/bf16_peers.hpp>
#include <bench/support/naive.hpp>
#if defined(LOWRANK_BF16)
#include <Eigen/QR>

#include <tests/support/bf16_probe.hpp>
#endif

#include <lowrank/projector/subspace_bf16.hpp>
#include <lowrank/recipes.hpp>

namespace bench {
namespace {

namespace linalg = lowrank::linalg;
using lowrank::View;

/// A GaLore step touches W and G once, `bytes` a number, and does 4 d k r operations.
Work work_of(Index m, Index n, Index r, double bytes) {
  const double d = double(std::min(m, n)), k = double(std::max(m, n));
  return {4 * d * k * double(r), bytes * d * k, 2 * bytes * d * k + 16 * double(r) * k};
}

template <class Dense>
Dense as(const Eigen::MatrixXf& x) { return x.template cast<typename Dense::Scalar>(); }

/// A weight and its gradient in Dense's scalar and order, and the library's optimizer.
template <class Dense, class Projector, class Kernel = K>
struct Ours {
  Dense W, G;
  lowrank::Optimizer<float, Projector, lowrank::AdamW, lowrank::BackProject, Kernel> optimizer;

  Ours(Index m, Index n, Index r)
      : W(as<Dense>(random_matrix(m, n, 1))),
        G(as<Dense>(random_matrix(m, n, 2))),
        optimizer(lowrank::view(W), Projector{.rank = r},
                  lowrank::AdamW{.eps = 1e-6, .epsilon = lowrank::Epsilon::BeforeCorrection}, lowrank::BackProject{.scale = 0.25}, Kernel{}) {}
  void step(float lr) { optimizer.step(W, G, {.lr = double(lr)}); }
};

// -- weights and gradients in bf16 -----------------------------------------------------------------------------------

template <class Dense>
void add_ours(const std::string& row, Index m, Index n, Index r, int threads) {
  add(row, threads, [=]() -> Case {
    const auto x = std::make_shared<Ours<Dense, lowrank::Subspace>>(m, n, r);
    x->step(naive_lr);  // the first one makes the basis
    return {[x] { x->step(naive_lr); }, work_of(m, n, r, double(sizeof(typename Dense::Scalar)))};
  });
}

/// Three large steps by the library and by a peer on the same basis: apart by the roundings to bf16, which Adam makes more of where R is small.
template <int Order, class Products>
double error_of(Index m, Index n) {
  constexpr float lr = 0.5f;
  Ours<Bf16Matrix<Order>, lowrank::Subspace> ours(m, n, 16);
  const Bf16Matrix<Order> before = ours.W;
  for (int t = 0; t < 3; ++t) ours.step(lr);
  const auto& P = ours.optimizer.projection().basis();
  Bf16Galore<Order, Products> peer(m, n, Eigen::Map<const Eigen::MatrixXf>(P.data(), P.rows(), P.cols()));
  Bf16Matrix<Order> W = before;
  for (int t = 0; t < 3; ++t) peer.step(W, ours.G, lr);
  const Matrix<Order> start = before.template cast<float>();
  return difference(W.template cast<float>() - start, ours.W.template cast<float>() - start);
}

template <int Order, class Products>
void add_peer(const std::string& problem, Index m, Index n, Index r, int threads) {
  add(problem + Products::name, threads, [=]() -> Case {
    for (const auto& [rows, cols] : {std::pair<Index, Index>{90, 70}, {70, 90}})
      if (const double error = error_of<Order, Products>(rows, cols); !(error < 0.1))
        return {.run = {}, .error = "the steps differ by " + std::to_string(error)};
    struct State {
      Bf16Matrix<Order> W, G;
      Bf16Galore<Order, Products> optimizer;
    };
    const auto x = std::make_shared<State>(State{
        as<Bf16Matrix<Order>>(random_matrix(m, n, 1)), as<Bf16Matrix<Order>>(random_matrix(m, n, 2)),
        Bf16Galore<Order, Products>(m, n, random_matrix<Order>(std::min(m, n), r, 3) / std::sqrt(float(m)))});
    return {[x] { x->optimizer.step(x->W, x->G, naive_lr); }, work_of(m, n, r, 2)};
  });
}

template <int Order>
void add_weights(Index m, Index n, Index r) {
  const std::string problem = with_rank("galore_bf16", r) + "/" + shape(m, n) + (Order == Eigen::RowMajor ? "/rows/" : "/columns/");
  for (const int threads : thread_counts()) {
    add_ours<Bf16Matrix<Order>>(problem + "lowrank", m, n, r, threads);
    add_ours<Matrix<Order>>(problem + "lowrank_in_float", m, n, r, threads);
    add_peer<Order, EigenBf16>(problem, m, n, r, threads);
    add_peer<Order, EigenWidened>(problem, m, n, r, threads);
#if defined(LOWRANK_BENCH_HAS_ONEDNN)
    add_peer<Order, OneDnnBf16>(problem, m, n, r, threads);
#endif
  }
}

// -- a basis in bf16 ---------------------------------------------------------------------------------------------------

#if defined(LOWRANK_BF16)
/// GFLOP/s of vdpbf16ps in registers.
double bf16_roof(int threads) {
  static std::map<int, double> roofs;
  auto found = roofs.find(threads);
  if (found == roofs.end()) {
    const detail::Pass pass = detail::bf16_products(threads);
    found = roofs.emplace(threads, 1e-9 * pass.work.flops / detail::best_time(pass.run)).first;
  }
  return found->second;
}

/// The basis, R and a weight U moves, d x k in rows or columns, with the workspace of the products.
template <class K>
struct Products {
  Index d, k, r;
  linalg::Order order;
  Matrix<> P;
  Matrix<> A, W, R;  // A and W as d x k in columns, or k x d: the same in rows
  lowrank::Buffer<std::byte> memory;
  linalg::Team<float, K> team;
  linalg::Bf16Basis<K> packed;

  Products(Index d_, Index k_, Index r_, linalg::Order o)
      : d(d_), k(k_), r(r_), order(o),
        P(Eigen::HouseholderQR<Matrix<>>(random_matrix(d, r, 1)).householderQ() * Matrix<>::Identity(d, r)),
        A(random_matrix(rows() ? k : d, rows() ? d : k, 2)), W(A), R(random_matrix(r, k, 3)) {
    lowrank::Arena count;
    lay_out(count);
    memory = lowrank::Buffer<std::byte>(Index(count.used()), 1);
    lowrank::Arena arena(memory);
    lay_out(arena);
  }
  Products(const Products&) = delete;

  bool rows() const { return order == linalg::Order::Rows; }
  void lay_out(lowrank::Arena& arena) {
    team = linalg::Team<float, K>(arena, lowrank::detail::available_threads(), std::max(d, k));
    packed = linalg::Bf16Basis<K>(arena, d, r);
  }
  template <class F>
  void for_tiles(const F& f) const {
    const Index tile = rows() && 4 * linalg::tile_columns * r <= team.block_size() ? 4 * linalg::tile_columns : linalg::tile_columns;
    lowrank::detail::for_each((k + tile - 1) / tile, team.threads(), [&](Index t, int slot) { f(t * tile, std::min(tile, k - t * tile), slot); });
  }
  void project() {
    packed.pack_down(linalg::transposed<K>(P.data(), d), team);
    const linalg::Strided<float, K> a{A.data(), rows() ? k : 1, rows() ? 1 : d};
    for_tiles([&](Index j, Index w, int slot) { packed.project(a, j, w, R.data() + j * r, nullptr, team[slot]); });
  }
  void lift(float step) {
    if (rows()) packed.pack_rows(linalg::transposed<K>(P.data(), d), team);
    else packed.pack_up(linalg::columns<K>(P.data(), d), team);
    linalg::WeightUpdate<float> update{W.data(), rows() ? k : d};
    update.order = order;
    update.motion.step = step;
    for_tiles([&](Index j, Index w, int slot) { packed.update(R.data() + j * r, j, w, update, team[slot]); });
  }

  /// Of R, in percent of R, for a gradient without structure; and of the orthogonality of P.
  std::map<std::string, double> errors() {
    project();
    const Matrix<> A_columns = rows() ? Matrix<>(Eigen::Map<const Matrix<Eigen::RowMajor>>(A.data(), d, k)) : A;
    const Matrix<> exact = P.transpose() * A_columns, rounded = P.cast<Eigen::bfloat16>().cast<float>();
    const Matrix<> lost = rounded.transpose() * rounded - Matrix<>::Identity(r, r);
    return {{"error_of_R_%", 100 * difference(R, exact)}, {"orthogonality_lost", double(lost.cwiseAbs().maxCoeff())}};
  }
};

template <class K>
void add_products(const char* who, Index d, Index k, Index r, linalg::Order order) {
  std::string where = "/";
  where += shape(d, k) + (order == linalg::Order::Rows ? "/rows/" : "/columns/");
  const double flops = 2 * double(d) * double(k) * double(r), matrix = 4 * double(d) * double(k);
  for (const int threads : thread_counts())
    for (const bool lifts : {false, true})
      add(with_rank(lifts ? "lift_bf16" : "project_bf16", r) + where + who, threads, [=]() -> Case {
        const auto x = std::make_shared<Products<K>>(d, k, r, order);
        std::map<std::string, double> counters = x->errors();
        if (!(counters["error_of_R_%"] < 0.4)) return {.run = {}, .error = "R is wrong by " + std::to_string(counters["error_of_R_%"]) + " %"};
        counters["bf16_roof"] = bf16_roof(threads);
        return {[x, lifts] { lifts ? x->lift(1e-6f) : x->project(); }, lifts ? Work{flops, 0, 2 * matrix} : Work{flops, matrix, 0}, counters};
      });
}

template <int Order, class Projector, class Kernel = K>
void add_step(const std::string& row, Index m, Index n, Index r, int threads) {
  add(row, threads, [=]() -> Case {
    const auto x = std::make_shared<Ours<Matrix<Order>, Projector, Kernel>>(m, n, r);
    x->step(naive_lr);
    return {[x] { x->step(naive_lr); }, work_of(m, n, r, 4), {{"bf16_roof", bf16_roof(threads)}, {"state_MB", 1e-6 * double(x->optimizer.state_bytes())}}};
  });
}

template <int Order>
void add_steps(const std::string& problem, Index m, Index n, Index r, int threads) {
  add_step<Order, lowrank::SubspaceBf16>(problem + "lowrank", m, n, r, threads);
  add_step<Order, lowrank::SubspaceBf16, lowrank::kernel::Avx512>(problem + "lowrank_widened", m, n, r, threads);
  add_step<Order, lowrank::Subspace>(problem + "lowrank_in_float", m, n, r, threads);
}

void add_basis(Index m, Index n, Index r) {
  for (const auto order : {linalg::Order::Columns, linalg::Order::Rows}) {
    add_products<K>("lowrank", std::min(m, n), std::max(m, n), r, order);
    add_products<lowrank::kernel::Avx512>("lowrank_widened", std::min(m, n), std::max(m, n), r, order);  // without the instruction
  }
  for (const int threads : thread_counts()) {
    const std::string problem = with_rank("galore_bf16_basis", r) + "/" + shape(m, n);
    add_steps<Eigen::ColMajor>(problem + "/columns/", m, n, r, threads);
    add_steps<Eigen::RowMajor>(problem + "/rows/", m, n, r, threads);
  }
}
#endif

void rows(bool) {
  for (const auto& [m, n] : {std::pair<Index, Index>{512, 512}, {4096, 4096}, {2048, 5461}})
    for (const Index r : {32, 128}) {
#if !defined(LOWRANK_BENCH_BASIS_ONLY)
      add_weights<Eigen::ColMajor>(m, n, r);
      add_weights<Eigen::RowMajor>(m, n, r);
#endif
#if defined(LOWRANK_BF16)
      add_basis(m, n, r);
#endif
    }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
#if defined(LOWRANK_BF16)
  if (!support::executes_bf16()) {
    std::fputs("SKIPPED: this machine does not execute vdpbf16ps\n", stderr);
    return 0;
  }
#endif
  return bench::run(argc, argv, bench::rows);
}
