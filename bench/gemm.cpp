// Question: how close to the roof are the two products of a step, R = P^T A and W <- W - P N, and the plain product they
// are built like? As a step runs them, packing of the basis included; against Eigen and OpenBLAS.
#include <bench/support/roofline.hpp>

#include <lowrank/linalg/packed_basis.hpp>

namespace linalg = lowrank::linalg;

namespace bench {
namespace {

/// A basis d x r and a gradient or weight d x k, with the workspace of the library's products.
struct Products {
  Index d, k, r;
  Matrix<> P, A, R, W;
  lowrank::Buffer<std::byte> memory;
  linalg::Team<float, K> team;
  linalg::PackedBasis<float, K> packed;

  Products(Index d_, Index k_, Index r_)
      : d(d_), k(k_), r(r_), P(random_matrix(d, r, 1)), A(random_matrix(d, k, 2)), R(random_matrix(r, k, 3)), W(A) {
    lowrank::Arena count;
    lay_out(count);
    memory = lowrank::Buffer<std::byte>(Index(count.used()), 1);
    lowrank::Arena arena(memory);
    lay_out(arena);
  }
  Products(const Products&) = delete;

  void lay_out(lowrank::Arena& arena) {
    team = linalg::Team<float, K>(arena, lowrank::detail::available_threads(), std::max(d, k));
    packed = linalg::PackedBasis<float, K>(arena, d, r);
  }
  template <class F>
  void for_tiles(const F& f) const {
    constexpr Index tile = linalg::tile_columns;
    lowrank::detail::for_each((k + tile - 1) / tile, team.threads(),
                              [&](Index t, int slot) { f(t * tile, std::min(tile, k - t * tile), slot); });
  }

  void project() {
    packed.pack_down(linalg::transposed<K>(P.data(), d), team);
    const auto a = linalg::columns<K>(A.data(), d);
    for_tiles([&](Index j, Index w, int slot) { packed.project(a, j, w, R.data() + j * r, nullptr, team[slot]); });
  }
  void lift(float step) {
    packed.pack_up(linalg::columns<K>(P.data(), d), team);
    linalg::WeightUpdate<float> update{W.data(), d};
    update.motion.step = step;
    for_tiles([&](Index j, Index w, int slot) { packed.update(R.data() + j * r, j, w, update, team[slot]); });
  }
  void square() {
    linalg::gemm<K>(d, k, d, linalg::columns<K>(P.data(), d), linalg::columns<K>(A.data(), d), W.data(), d, team);
  }
};

enum class Product { Project, Lift, Square };

const char* name_of(Product p) { return p == Product::Project ? "project" : "lift"; }

Work work_of(Product p, Index d, Index k, Index r) {
  const double flops = 2 * double(d) * double(k) * double(r), matrix = 4 * double(d) * double(k);
  if (p == Product::Project) return {flops, matrix, 0};
  if (p == Product::Lift) return {flops, 0, 2 * matrix};
  return {flops, 2 * matrix, 0};
}

constexpr float lr = 1e-6f;  // W stays what it is for any number of repetitions

void run_lowrank(Product p, Products& x) {
  if (p == Product::Project) x.project();
  if (p == Product::Lift) x.lift(lr);
  if (p == Product::Square) x.square();
}

void run_eigen(Product p, Products& x) {
  if (p == Product::Project) x.R.noalias() = x.P.transpose() * x.A;
  if (p == Product::Lift) x.W.noalias() -= lr * x.P * x.R;
  if (p == Product::Square) x.W.noalias() = x.P * x.A;
}

#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
void run_openblas(Product p, Products& x) {
  const int d = int(x.d), k = int(x.k), r = int(x.r);
  if (p == Product::Project)
    cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, r, k, d, 1, x.P.data(), d, x.A.data(), d, 0, x.R.data(), r);
  if (p == Product::Lift)
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, d, k, r, -lr, x.P.data(), d, x.R.data(), r, 1, x.W.data(), d);
  if (p == Product::Square)
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, d, k, d, 1, x.P.data(), d, x.A.data(), d, 0, x.W.data(), d);
}
#endif

/// A row, unless its result differs from the plain expression's on a small shape.
template <class Run>
void add_product(Product p, Index d, Index k, Index r, int threads, const char* who, Run run) {
  const std::string what = p == Product::Square ? "square" : with_rank(name_of(p), r);
  add(what + "/" + shape(d, k) + "/" + who, threads, [=]() -> Case {
    const Index rows = p == Product::Square ? 70 : 150;
    Products small(rows, 133, p == Product::Square ? rows : 37), expected(rows, 133, small.r);
    run(p, small);
    run_eigen(p, expected);
    if (difference(small.R, expected.R) > 1e-5 || difference(small.W, expected.W) > 1e-5)
      return {.run = {}, .error = "the product is wrong"};
    const auto x = std::make_shared<Products>(d, k, r);
    return {[=] { run(p, *x); }, work_of(p, d, k, r)};
  });
}

void add_peers(Product p, Index d, Index k, Index r) {
  for (const int threads : thread_counts()) {
    add_product(p, d, k, r, threads, "lowrank", run_lowrank);
    add_product(p, d, k, r, threads, "eigen", run_eigen);
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
    add_product(p, d, k, r, threads, "openblas", run_openblas);
#endif
  }
}

void rows(bool) {
  struct Shape {
    Index d, k, r;
  };
  for (const auto& [d, k, r] : {Shape{1024, 1024, 32}, {1024, 1024, 128}, {1024, 1024, 256}, {4096, 4096, 8},
                                {4096, 4096, 32}, {4096, 4096, 128}, {4096, 4096, 256}, {4096, 4096, 512},
                                {2048, 5461, 128}, {2048, 5461, 512}, {4096, 11008, 128}})
    for (const Product p : {Product::Project, Product::Lift}) add_peers(p, d, k, r);
  for (const Index n : {1024, 2048}) add_peers(Product::Square, n, n, n);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
