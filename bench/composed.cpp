// Question: what does a GaLore step cost that is put together from the products of oneDNN and of BLIS? Between two
// refreshes; what is elementwise is Eigen's, on the projected gradient only, and the weight is updated by the second
// product. Peers of the rows of the same name in bench/step.cpp; a program of its own, since BLIS and OpenBLAS share names.
#include <bench/support/naive.hpp>
#include <bench/support/peers.hpp>

namespace bench {
namespace {

template <class Library, int Order>
void galore(NaiveLowRank<Order>& x, Matrix<Order>& W, const Matrix<Order>& G) {
  if (x.right) Library::product(false, false, 1, G, x.P, 0, x.R);
  else Library::product(true, false, 1, x.P, G, 0, x.R);
  const float step = 0.25f * x.adam(1e-6f);
  if (x.right) Library::product(false, true, -step, x.N, x.P, 1, W);
  else Library::product(false, false, -step, x.P, x.N, 1, W);
}

template <int Order>
struct State {
  NaiveLowRank<Order> optimizer;
  Matrix<Order> W, G;

  State(Index m, Index n, Index r)
      : optimizer(m, n, r, random_matrix<Order>(std::min(m, n), r, 3) / std::sqrt(float(m))),
        W(random_matrix<Order>(m, n, 1)),
        G(random_matrix<Order>(m, n, 2)) {}
};

/// Three steps by the library and by Eigen.
template <class Library, int Order>
double error_of(Index m, Index n) {
  State<Order> x(m, n, 16), expected(m, n, 16);
  const Matrix<Order> before = x.W;
  for (int t = 0; t < 3; ++t) {
    galore<Library>(x.optimizer, x.W, x.G);
    expected.optimizer.galore(expected.W, expected.G);
  }
  return difference(x.W - before, expected.W - before);
}

template <class Library, int Order>
void add_galore(Index m, Index n, Index r) {
  const std::string name = with_rank("galore", r) + "/" + shape(m, n) + (Order == Eigen::RowMajor ? "/rows/" : "/columns/");
  for (const int threads : thread_counts())
    add(name + Library::name, threads, [=]() -> Case {
      if (error_of<Library, Order>(90, 70) > 1e-3 || error_of<Library, Order>(70, 90) > 1e-3)
        return {.run = {}, .error = "the step is wrong"};
      const auto x = std::make_shared<State<Order>>(m, n, r);
      const double d = double(std::min(m, n)), k = double(std::max(m, n));
      return {[x] { galore<Library>(x->optimizer, x->W, x->G); }, {4 * d * k * double(r), 4 * d * k, 8 * d * k + 16 * double(r) * k}};
    });
}

template <class Library>
void add_library() {
  for (const Index n : {1024, 4096})
    for (const Index r : {32, 128}) {
      add_galore<Library, Eigen::ColMajor>(n, n, r);
      add_galore<Library, Eigen::RowMajor>(n, n, r);
    }
}

void rows(bool) {
  benchmark::AddCustomContext("products", product_libraries());  // first: it chooses BLIS's kernels
#if defined(LOWRANK_BENCH_HAS_ONEDNN)
  add_library<OneDnn>();
#endif
#if defined(LOWRANK_BENCH_HAS_BLIS)
  add_library<Blis>();
#endif
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
