// The device's cosine transform, top-k and DCT-AdamW.
#include <cuda/both.hpp>
#include <support/golden.hpp>

using namespace support;

namespace {

template <class S>
Eigen::MatrixXd transformed(const Eigen::MatrixXd& A, lowrank::DctBasis basis, bool by_rows) {
  HostDevice machine;
  const lc::Index d = A.rows(), k = A.cols();
  Padded<S> g(d, k, by_rows, 1);
  g.set(A);
  std::vector<S> table(std::size_t(4 * d)), out(std::size_t(d * k), S(9));
  lc::Control<S> control;
  lc::launch(machine, lc::CosineTable<S>{table.data(), d});
  const auto v = g.device();
  const lc::Gradient<S, S> from{.a = {v.data, d, k, v.row_stride, v.col_stride}};
  lc::launch(machine, lc::CosineTransform<S, lc::Gradient<S, S>, lc::Columns<S>>{from, {out.data(), d}, d, k, basis, lc::Factors(d), table.data(), &control, true});
  return Eigen::Map<Eigen::Matrix<S, -1, -1>>(out.data(), d, k).template cast<double>();
}

Eigen::MatrixXd naive(lc::Index n) {
  Eigen::MatrixXd T(n, n);
  for (lc::Index k = 0; k < n; ++k)
    for (lc::Index j = 0; j < n; ++j) T(k, j) = std::sqrt((k == 0 ? 1.0 : 2.0) / double(n)) * std::cos(M_PI * double(k) * double(2 * j + 1) / double(2 * n));
  return T;
}

}  // namespace

TEST_CASE("The transform of any length is the product with the cosine matrix, and its transpose", "[cuda]") {
  for (const lc::Index n : {1, 2, 3, 4, 5, 7, 8, 12, 16, 30, 43, 64, 86, 101, 128, 172, 344})
    for (const lc::Index k : {1, 2, 3}) {
      INFO(n);
      const Eigen::MatrixXd A = noise(n, k, 5), T = naive(n);
      for (const bool by_rows : {false, true}) {
        CHECK((transformed<double>(A, lowrank::DctBasis::Cosines, by_rows) - T * A).cwiseAbs().maxCoeff() < 1e-12);
        CHECK((transformed<double>(A, lowrank::DctBasis::Transposed, by_rows) - T.transpose() * A).cwiseAbs().maxCoeff() < 1e-12);
        CHECK((transformed<float>(A, lowrank::DctBasis::Cosines, by_rows) - T * A).cwiseAbs().maxCoeff() < 2e-5);
        CHECK((transformed<float>(A, lowrank::DctBasis::Transposed, by_rows) - T.transpose() * A).cwiseAbs().maxCoeff() < 2e-5);
      }
    }
}

TEST_CASE("Lengths of real layers, LLaMA's among them", "[cuda]") {
  for (const lc::Index n : {2048, 5120, 11008}) {
    Eigen::MatrixXd x = Eigen::MatrixXd::Zero(n, 2);
    x(17, 0) = 1, x(n - 5, 1) = 2;
    const Eigen::MatrixXd c = transformed<float>(x, lowrank::DctBasis::Cosines, false);
    double worst = 0;
    for (lc::Index k = 0; k < n; ++k) {
      const double s = std::sqrt((k == 0 ? 1.0 : 2.0) / double(n));
      worst = std::max(worst, std::abs(c(k, 0) - s * std::cos(M_PI * double(k) * 35 / double(2 * n))));
      worst = std::max(worst, std::abs(c(k, 1) - 2 * s * std::cos(M_PI * double(k) * double(2 * n - 9) / double(2 * n))));
    }
    CHECK(worst < 1e-6);
  }
}

TEST_CASE("The r largest, ascending, ties to the lower index", "[cuda]") {
  HostDevice machine(Schedule::Scattered);
  const lc::Index n = 700;
  std::vector<double> score(std::size_t(n), 0.0);
  for (lc::Index i = 0; i < n; ++i) score[std::size_t(i)] = double(lc::random_block(1, 2, std::uint64_t(i)).word[0] % 50);
  for (const lc::Index r : {1, 5, 300, 700}) {
    std::vector<int> chosen(std::size_t(n), 0), index(std::size_t(r), -1), from(std::size_t(r), -1), old(std::size_t(r), 3);
    lc::launch(machine, lc::Choose{score.data(), n, r, chosen.data()});
    lc::launch(machine, lc::Chosen{chosen.data(), n, r, index.data(), old.data(), from.data()});
    std::vector<std::int32_t> work(std::size_t(n), 0), expected(std::size_t(r), 0);
    lowrank::linalg::top_k(score.data(), n, r, work.data(), expected.data());
    CHECK(std::equal(expected.begin(), expected.end(), index.begin()));
    for (std::size_t i = 0; i < index.size(); ++i) CHECK(from[i] == (index[i] == 3 ? int(r - 1) : -1));
  }
}

TEST_CASE("dct_adamw on the device takes the CPU's steps", "[cuda]") {
  for (const Case& c : {Case{.rows = 20, .cols = 33}, Case{.rows = 45, .cols = 21, .weight_by_rows = true, .padding = 3}, Case{.rows = 24, .cols = 24, .gradient_by_rows = true}})
    for (const auto basis : {lowrank::DctBasis::Cosines, lowrank::DctBasis::Transposed})
      for (const auto score : {lowrank::Score::L1, lowrank::Score::L2})
        for (const auto transport : {lowrank::Transport::Rotate, lowrank::Transport::Keep, lowrank::Transport::Reset})
          for (const int every : {1, 3}) {
            INFO(c.rows << " x " << c.cols << ", transport " << int(transport) << ", every " << every);
            const auto route = score == lowrank::Score::L1 ? lowrank::DctRoute::Fast : lowrank::DctRoute::Selected;
            const lowrank::Dct dct{.rank = 6, .refresh_every = every, .transport = transport, .basis = basis, .score = score, .route = route};
            CHECK(difference<double, double>(c, dct, lowrank::AdamW{.weight_decay = 0.1}, lowrank::BackProject{}) < 1e-9);
            CHECK(difference<float, float>(c, dct, lowrank::AdamW{}, lowrank::BackProject{}) < 5e-3);
            CHECK(difference<double, double>(c, dct, lowrank::AdamW{}, lowrank::ErrorFeedback{}) < 1e-9);
            if (every == 3) CHECK(difference<double, double>(c, dct, lowrank::AdamW{}, lowrank::Residual{}) < 1e-9);
          }
}

TEST_CASE("Both routes of a cosine basis take the same steps", "[cuda]") {
  const auto run = [](lowrank::DctRoute route, const auto& lift, bool by_rows, int& transforms, int& products) {
    HostDevice machine(Schedule::Scattered);
    Padded<double> w(23, 40, by_rows, 2), g(23, 40, true);
    w.set(noise(23, 40, 3));
    const lowrank::Dct dct{.rank = 5, .refresh_every = 3, .route = route};
    lc::Optimizer opt(machine, w.device(), dct, lowrank::AdamW{.weight_decay = 0.1}, lift);
    opt.form(lc::Form::Composed);
    for (std::uint64_t t = 0; t < 8; ++t) {
      g.set(gradient(23, 40, t));
      if (t == 5) g(2, 2) = HUGE_VAL;
      const auto before = w.memory;
      machine.calls();
      CHECK(opt.step(w.device(), g.device(), {.lr = 0.01}).skipped == (t == 5));
      CHECK((before == w.memory) == (t == 5));
      transforms = products = 0;
      for (const std::string& call : machine.calls()) transforms += call.find("CosineTransform") != std::string::npos, products += call.rfind("gemm", 0) == 0;
    }
    return w.values();
  };
  for (const bool by_rows : {false, true}) {
    int transforms = 0, products = 0;
    const auto selected = run(lowrank::DctRoute::Selected, lowrank::BackProject{.scale = 0.5}, by_rows, transforms, products);
    CHECK((transforms == 0 && products == 2));
    const auto fast = run(lowrank::DctRoute::Fast, lowrank::BackProject{.scale = 0.5}, by_rows, transforms, products);
    CHECK((transforms == 2 && products == 0));
    CHECK((selected - fast).cwiseAbs().maxCoeff() < 1e-11);
    const auto residual = run(lowrank::DctRoute::Selected, lowrank::Residual{}, by_rows, transforms, products);
    CHECK((residual - run(lowrank::DctRoute::Fast, lowrank::Residual{}, by_rows, transforms, products)).cwiseAbs().maxCoeff() < 1e-11);
    CHECK((transforms == 1 && products == 1));  // its way back is a product: it has the gradient beside it
  }
  // few coefficients are a product; those of a length with a large prime are one for long
  CHECK_FALSE(lc::transform_pays(32, 4, lc::Factors(4096)));
  CHECK(lc::transform_pays(512, 4, lc::Factors(4096)));
  CHECK_FALSE(lc::transform_pays(512, 4, lc::Factors(11008)));
}

TEST_CASE("DCT-AdamW's reference vectors on the device's path", "[cuda][golden]") {
  const auto check = [&]<class S>(const Golden& g, const auto& lift, bool by_rows, double tolerance, S) {
    const lowrank::Dct projector{.rank = std::int64_t(g.number("rank")),
                                 .refresh_every = std::int64_t(g.number("gap")),
                                 .transport = g.number("rotate") == 1 ? lowrank::Transport::Rotate : lowrank::Transport::Keep,
                                 .basis = g.text("basis") == "dct2" ? lowrank::DctBasis::Cosines : lowrank::DctBasis::Transposed,
                                 .score = g.number("ell") == 1 ? lowrank::Score::L1 : lowrank::Score::L2};
    const lowrank::AdamW rule{.beta1 = g.number("b1"), .beta2 = g.number("b2"), .eps = g.number("eps"), .weight_decay = g.number("wd")};
    HostDevice machine;
    Padded<S> w(g.matrix("W0").rows(), g.matrix("W0").cols(), by_rows, 2), gradient(w.rows, w.cols, !by_rows);
    w.set(g.matrix("W0"));
    lc::Optimizer opt(machine, w.device(), projector, rule, lift);
    for (lowrank::Index t = 0; t < lowrank::Index(g.number("steps")); ++t) {
      gradient.set(g.matrix("G", t));
      CHECK(opt.step(w.device(), gradient.device(), {.lr = g.number("lr")}).refreshed == (t == 0 || (t + 1) % lowrank::Index(g.number("gap")) == 0));
      const Eigen::MatrixXd indices = g.matrix("indices", t);
      opt.visit([&](const char* name, const auto& x) {
        if (std::string(name) == "indices")
          for (lowrank::Index i = 0; i < x.size(); ++i) REQUIRE(double(x.data()[i]) == indices(i));
      });
      CHECK(relative_error(w.values(), g.matrix("W", t)) < tolerance);
    }
  };
  int vectors = 0;
  for (const std::string shape : {"square", "tall", "wide"})
    for (const std::string basis : {"dct2", "dct3"})
      for (const std::string rotate : {"0", "1"})
        for (const std::string norm : {"1", "2"})
          for (const std::string feedback : {"0", "1"}) {
            const std::string name = "dct_adamw." + shape + "." + basis + ".rotate" + rotate + ".ef" + feedback + ".l" + norm;
            INFO(name);
            const Golden g(name);
            ++vectors;
            for (const bool by_rows : {false, true}) {
              if (feedback == "0") check(g, lowrank::BackProject{}, by_rows, 1e-9, double()), check(g, lowrank::BackProject{}, by_rows, 2e-5, float());
              else check(g, lowrank::ErrorFeedback{}, by_rows, 1e-9, double()), check(g, lowrank::ErrorFeedback{}, by_rows, 2e-5, float());
            }
          }
  CHECK(vectors == 48);
}

TEST_CASE("What a block's shared memory cannot hold is refused", "[cuda]") {
  HostDevice machine;
  float x = 0;
  const lc::View<float> wide{&x, 30000, 40000, 1, 30000};
  CHECK_THROWS_AS(lc::Optimizer(machine, wide, lowrank::Dct{}, lowrank::AdamW{}), std::invalid_argument);
}
