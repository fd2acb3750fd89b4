// grad_scale, as clipping gives it: a projection takes it into its basis and reads the gradient where it is, which must not show.
// The skip is that of scale G: a gradient whose square overflows can be clipped, one that overflows only when scaled is skipped.
#include <support/catch.hpp>

#include <lowrank/recipes.hpp>

using namespace lowrank;

namespace {

using Columns = Eigen::MatrixXf;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index m = 83, n = 131;

Columns normal(std::uint64_t seed) {
  Columns x(m, n);
  fill_normal(x.data(), x.size(), seed, 0, 0);
  return x;
}

struct Galore {
  static auto make(const Columns& W) { return galore(W, {.rank = 9, .refresh_every = 3}); }
};
struct Fira {
  static auto make(const Columns& W) { return fira(W, {.rank = 9, .refresh_every = 3}); }
};
struct Apollo {
  static auto make(const Columns& W) { return apollo(W, {.rank = 9}); }
};
struct ApolloMini {
  static auto make(const Columns& W) { return apollo_mini(W); }
};

/// W after five steps along factor G_t, each times scale.
template <class Recipe, class G = Columns>
Columns train(float factor, double scale) {
  Columns W = normal(1);
  auto optimizer = Recipe::make(W);
  for (std::uint64_t t = 0; t < 5; ++t) {
    const G gradient = factor * normal(2 + t);
    const Report report = optimizer.step(W, gradient, {.lr = 0.01, .grad_scale = scale});
    REQUIRE_FALSE(report.skipped);
    CHECK(report.grad_norm == Catch::Approx(std::abs(scale) * gradient.template cast<double>().norm()).epsilon(1e-5));
  }
  return W;
}

/// ||a - b|| relative to how far a has come.
double apart(const Columns& a, const Columns& b) { return double((a - b).norm() / (a - normal(1)).norm()); }

}  // namespace

TEMPLATE_TEST_CASE("A clipped step is the step of the scaled gradient", "[optimizer]", Galore, Fira, Apollo, ApolloMini) {
  const Columns plain = train<TestType>(1, 1);
  CHECK(apart(plain, train<TestType>(4, 0.25)) == 0);  // the same numbers, whichever factor is multiplied first
  CHECK(apart(plain, train<TestType>(float(1 / 0.3), 0.3)) < 2e-5);
  CHECK(apart(plain, train<TestType>(-float(1 / 0.3), -0.3)) < 2e-5);
  CHECK(train<TestType>(2, 0.3) == train<TestType, Rows>(2, 0.3));
}

TEMPLATE_TEST_CASE("A gradient whose square overflows can be clipped", "[optimizer]", Galore, Fira, Apollo, ApolloMini) {
  const Columns plain = train<TestType>(1, 1);
  CHECK(apart(plain, train<TestType>(1e17f, 1e-17)) < 2e-5);
  CHECK(apart(plain, train<TestType>(1e25f, 1e-25)) < 2e-5);  // a factor that is not taken into the basis
}

TEMPLATE_TEST_CASE("A gradient that overflows when it is scaled is skipped", "[optimizer]", Galore, Fira, Apollo, ApolloMini) {
  for (const double scale : {1e17, 1e19, 1e30}) {
    Columns W = normal(1);
    auto optimizer = TestType::make(W);
    REQUIRE_FALSE(optimizer.step(W, normal(2), {.lr = 0.01}).skipped);
    const auto before = optimizer;
    const Columns kept = W;
    CHECK(optimizer.step(W, Columns(1e4f * normal(3)), {.lr = 0.01, .grad_scale = scale}).skipped);
    CHECK(W == kept);
    CHECK(optimizer == before);
  }
}
