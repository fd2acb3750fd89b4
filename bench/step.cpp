// Question: what does one optimizer step cost on one matrix, against the same equations written in plain Eigen, and how
// far is it from what its products and its memory traffic must take? Steps between two refreshes, except DCT-AdamW, which
// chooses its coefficients anew every step.
#include <bench/support/naive.hpp>

#include <lowrank/recipes.hpp>
#include <lowrank/rule/adam8bit.hpp>
#include <lowrank/rule/adam_bf16.hpp>
#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>

namespace bench {
namespace {

using lowrank::View;

// -- the recipes ------------------------------------------------------------------------------------------------------

/// Makes the library's optimizer.
struct AdamW {
  static constexpr const char* name = "adamw";
  static auto make(View<float> W, Index) { return lowrank::adamw(W, {}); }
};
/// With the gradient's norm given, as it is known when gradients are clipped: without it, a step reads G once more to see
/// that it is finite.
struct AdamWGivenNorm : AdamW {
  static constexpr const char* name = "adamw_given_norm";
};
/// Dense rules of fewer bytes, their norm given. Nobody else has them in the same format, so they have no peer here.
struct LionGivenNorm : AdamWGivenNorm {
  static constexpr const char* name = "lion_given_norm";
  static auto make(View<float> W, Index) { return lowrank::Optimizer(W, lowrank::Identity{}, lowrank::Lion{}, lowrank::BackProject{}); }
};
struct SgdGivenNorm : AdamWGivenNorm {
  static constexpr const char* name = "sgd_given_norm";
  static auto make(View<float> W, Index) {
    return lowrank::Optimizer(W, lowrank::Identity{}, lowrank::Sgd{.momentum = 0.9}, lowrank::BackProject{});
  }
};
struct AdamBf16GivenNorm : AdamWGivenNorm {
  static constexpr const char* name = "adam_bf16_given_norm";
  static auto make(View<float> W, Index) { return lowrank::Optimizer(W, lowrank::Identity{}, lowrank::AdamBf16{}, lowrank::BackProject{}); }
};
struct Adam8bitGivenNorm : AdamWGivenNorm {
  static constexpr const char* name = "adam8bit_given_norm";
  static auto make(View<float> W, Index) { return lowrank::Optimizer(W, lowrank::Identity{}, lowrank::Adam8bit{}, lowrank::BackProject{}); }
};
struct Galore8bit {
  static constexpr const char* name = "galore_8bit";
  static auto make(View<float> W, Index r) { return lowrank::galore_8bit(W, {.rank = r}); }
};
struct Galore {
  static constexpr const char* name = "galore";
  static auto make(View<float> W, Index r) { return lowrank::galore(W, {.rank = r}); }
};
/// Of a gradient that was clipped: the step takes it times grad_scale.
struct GaloreClipped : Galore {
  static constexpr const char* name = "galore_clipped";
};
struct Fira {
  static constexpr const char* name = "fira";
  static auto make(View<float> W, Index r) { return lowrank::fira(W, {.rank = r}); }
};
struct Apollo {
  static constexpr const char* name = "apollo";
  static auto make(View<float> W, Index r) { return lowrank::apollo(W, {.rank = r}); }
};
struct ApolloMini {
  static constexpr const char* name = "apollo_mini";
  static auto make(View<float> W, Index) { return lowrank::apollo_mini(W); }
};
struct DctAdamW {
  static constexpr const char* name = "dct_adamw";
  static auto make(View<float> W, Index r) { return lowrank::dct_adamw(W, {.rank = r}); }
};

template <class Recipe>
constexpr bool dense = std::is_base_of_v<AdamW, Recipe>;
/// Whether the same equations are written in Eigen below.
template <class Recipe>
constexpr bool has_peer = !std::is_same_v<Recipe, Galore8bit> && !std::is_same_v<Recipe, GaloreClipped> &&
                          (!std::is_base_of_v<AdamWGivenNorm, Recipe> || std::is_same_v<Recipe, AdamWGivenNorm>);
/// Bytes a dense rule keeps per weight.
template <class Recipe>
constexpr double kept = std::is_same_v<Recipe, LionGivenNorm> || std::is_same_v<Recipe, SgdGivenNorm> || std::is_same_v<Recipe, AdamBf16GivenNorm> ? 4
                        : std::is_same_v<Recipe, Adam8bitGivenNorm>                                                                             ? 2
                                                                                                                                                : 8;

/// What a step cannot do without, d the projected side: reading G (twice where its norm or its being finite must be known first), updating
/// W and the moments in place, its products, and for the cosine transform two times 2.5 d log2 d flops per column. Fira and APOLLO limit a
/// norm over all columns of what they scale: W moves, and G is read again, after all of P^T G and the moments.
template <class Recipe>
Work work_of(Index rows, Index cols, Index r) {
  const double d = double(std::min(rows, cols)), k = double(std::max(rows, cols));
  const double G = 4 * d * k, W = 8 * d * k, moments = 16 * double(r) * k, product = 2 * d * k * double(r);
  if constexpr (dense<Recipe>) return {0, std::is_same_v<Recipe, AdamW> ? 2 * G : G, W + 2 * kept<Recipe> * d * k};
  if constexpr (std::is_same_v<Recipe, Galore8bit>) return {2 * product, G, W + moments / 4};
  if constexpr (std::is_base_of_v<Galore, Recipe>) return {2 * product, G, W + moments};
  if constexpr (std::is_same_v<Recipe, DctAdamW>) return {5 * d * std::log2(d) * k, G, W + moments};
  return {product, G, moments, {std::is_same_v<Recipe, Fira> ? product : 0, G, W}};
}

// -- the same in plain Eigen ------------------------------------------------------------------------------------------

/// The basis our optimizer projects with after its first step.
template <class Recipe, int Order, class Optimizer>
Matrix<Order> basis_of(const Optimizer& optimizer, Index d) {
  const Index r = optimizer.rank();
  Eigen::MatrixXf P(d, r);
  if constexpr (std::is_same_v<Recipe, Apollo> || std::is_same_v<Recipe, ApolloMini>)
    lowrank::fill_normal(P.data(), P.size(), 0, 1, 0), P /= std::sqrt(float(r));
  else
    P = Eigen::Map<const Eigen::MatrixXf>(optimizer.projection().basis().data(), d, r);
  return P;
}

template <class Recipe, int Order>
auto make_naive(Index m, Index n, Index r, const Matrix<Order>& basis) {
  if constexpr (dense<Recipe>) return NaiveAdamW<Order>(m, n);
  else if constexpr (std::is_same_v<Recipe, DctAdamW>) return NaiveDctAdamW<Order>(m, n, r);
  else return NaiveLowRank<Order>(m, n, r, basis);
}
template <class Recipe, int Order, class Naive>
void step_naive(Naive& naive, Matrix<Order>& W, const Matrix<Order>& G) {
  if constexpr (std::is_same_v<Recipe, Galore>) naive.galore(W, G);
  else if constexpr (std::is_same_v<Recipe, Fira>) naive.fira(W, G);
  else if constexpr (std::is_same_v<Recipe, Apollo>) naive.apollo(W, G);
  else if constexpr (std::is_same_v<Recipe, ApolloMini>) naive.apollo_mini(W, G);
  else naive.step(W, G);
}

#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
/// GaLore composed from OpenBLAS's products; its elementwise part is Eigen's, on R only.
template <int Order>
void galore_openblas(NaiveLowRank<Order>& x, Matrix<Order>& W, const Matrix<Order>& G) {
  const auto product = [](bool ta, bool tb, float alpha, const Matrix<Order>& A, const Matrix<Order>& B, float beta,
                          Matrix<Order>& C) {
    cblas_sgemm(Order == Eigen::RowMajor ? CblasRowMajor : CblasColMajor, ta ? CblasTrans : CblasNoTrans,
                tb ? CblasTrans : CblasNoTrans, int(C.rows()), int(C.cols()), int(ta ? A.rows() : A.cols()), alpha, A.data(),
                int(A.outerStride()), B.data(), int(B.outerStride()), beta, C.data(), int(C.outerStride()));
  };
  if (x.right) product(false, false, 1, G, x.P, 0, x.R);
  else product(true, false, 1, x.P, G, 0, x.R);
  const float step = 0.25f * x.adam(1e-6f);
  if (x.right) product(false, true, -step, x.N, x.P, 1, W);
  else product(false, false, -step, x.P, x.N, 1, W);
}
#endif

// -- rows -------------------------------------------------------------------------------------------------------------

/// A weight, its gradient and the library's optimizer.
template <class Recipe, int Order>
struct Ours {
  Matrix<Order> W, G;
  double norm;
  decltype(Recipe::make({}, 0)) optimizer;

  Ours(Index m, Index n, Index r)
      : W(random_matrix<Order>(m, n, 1)),
        G(random_matrix<Order>(m, n, 2)),
        norm(double(G.norm())),
        optimizer(Recipe::make(lowrank::view(W), r)) {}
  void step() {
    lowrank::Step step{.lr = double(naive_lr)};
    if constexpr (std::is_base_of_v<AdamWGivenNorm, Recipe>) step.grad_norm = norm;
    if constexpr (std::is_same_v<Recipe, GaloreClipped>) step.grad_scale = 1 / norm;
    optimizer.step(W, G, step);
  }
};

/// Three steps on a small weight, the library's and a peer's; empty when they agree.
template <class Recipe, int Order, class Step>
std::string compare(Index m, Index n, const Step& step) {
  Ours<Recipe, Order> ours(m, n, 16);
  const Matrix<Order> before = ours.W;
  for (int t = 0; t < 3; ++t) ours.step();
  Matrix<Order> W = before, basis;
  if constexpr (!dense<Recipe> && !std::is_same_v<Recipe, DctAdamW>)
    basis = basis_of<Recipe, Order>(ours.optimizer, std::min(m, n));
  auto peer = make_naive<Recipe, Order>(m, n, ours.optimizer.rank(), basis);
  for (int t = 0; t < 3; ++t) step(peer, W, ours.G);
  const double error = difference(W - before, ours.W - before);
  return error < 1e-3 ? "" : "the steps differ by " + std::to_string(error);
}

template <class Recipe, int Order, class Step>
void add_peer(const std::string& name, const char* who, Index m, Index n, Index r, int threads, Step step) {
  add(name + who, threads, [=]() -> Case {
    for (const auto& [rows, cols] : {std::pair<Index, Index>{90, 70}, {70, 90}}) {
      const std::string error = compare<Recipe, Order>(rows, cols, step);
      if (!error.empty()) return {.run = {}, .error = error};
    }
    const Index rank = std::is_same_v<Recipe, ApolloMini> ? 1 : r;
    auto peer = make_naive<Recipe, Order>(m, n, rank, random_matrix<Order>(std::min(m, n), rank, 3) / std::sqrt(float(m)));
    struct State {
      decltype(peer) optimizer;
      Matrix<Order> W, G;
    };
    const auto x = std::make_shared<State>(
        State{std::move(peer), random_matrix<Order>(m, n, 1), random_matrix<Order>(m, n, 2)});
    return {[x, step] { step(x->optimizer, x->W, x->G); }, work_of<Recipe>(m, n, rank)};
  });
}

template <class Recipe, int Order>
void add_recipe(Index m, Index n, Index r = 0) {
  const bool ranked = r > 0;
  const std::string name = (ranked ? with_rank(Recipe::name, r) : Recipe::name) + "/" + shape(m, n) +
                           (Order == Eigen::RowMajor ? "/rows/" : "/columns/");
  for (const int threads : thread_counts()) {
    add(name + "lowrank", threads, [=]() -> Case {
      const auto x = std::make_shared<Ours<Recipe, Order>>(m, n, r);
      x->step();  // the first one makes the basis
      return {[x] { x->step(); }, work_of<Recipe>(m, n, x->optimizer.rank())};
    });
    if constexpr (has_peer<Recipe>)
      add_peer<Recipe, Order>(name, "eigen", m, n, r, threads, step_naive<Recipe, Order, decltype(make_naive<Recipe, Order>(0, 0, 0, {}))>);
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
    if constexpr (std::is_same_v<Recipe, Galore>) add_peer<Recipe, Order>(name, "openblas", m, n, r, threads, galore_openblas<Order>);
#endif
  }
}

template <int Order>
void add_shape(Index m, Index n) {
  add_recipe<AdamW, Order>(m, n);
  add_recipe<AdamWGivenNorm, Order>(m, n);
  add_recipe<LionGivenNorm, Order>(m, n);
  add_recipe<SgdGivenNorm, Order>(m, n);
  add_recipe<AdamBf16GivenNorm, Order>(m, n);
  add_recipe<Adam8bitGivenNorm, Order>(m, n);
  for (const Index r : {32, 128}) add_recipe<Galore, Order>(m, n, r);
  add_recipe<GaloreClipped, Order>(m, n, 32);
  add_recipe<Galore8bit, Order>(m, n, 128);
  add_recipe<Fira, Order>(m, n, 128);
  add_recipe<Apollo, Order>(m, n, 128);
  add_recipe<ApolloMini, Order>(m, n);
  add_recipe<DctAdamW, Order>(m, n, 128);
}

/// A vector trained as a matrix of one row: rank 1.
template <int Order>
void add_vector(Index n) {
  add_recipe<AdamW, Order>(1, n);
  add_recipe<Galore, Order>(1, n, 1);
}

void rows(bool large) {
  std::vector<std::pair<Index, Index>> shapes{{512, 512}, {512, 1376}, {1024, 1024}, {4096, 4096}, {2048, 5461}};
  if (large) shapes.emplace_back(4096, 11008);
  for (const auto& [m, n] : shapes) {
    add_shape<Eigen::ColMajor>(m, n);
    add_shape<Eigen::RowMajor>(m, n);
  }
  add_vector<Eigen::RowMajor>(1 << 20);
  add_recipe<Galore, Eigen::ColMajor>(4096, 4096, 512);
  add_recipe<Galore, Eigen::RowMajor>(4096, 4096, 512);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
