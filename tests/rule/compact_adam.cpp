// Moments in fewer bits: the step they give against fp32 moments, that V decays where rounding to nearest would hold it for
// ever, that a stored V is zero only if V is, and that coordinates which survive a refresh keep their moments.
#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/rule/adam8bit.hpp>
#include <lowrank/rule/adam_bf16.hpp>
#include <lowrank/rule/adamw.hpp>

using namespace lowrank;
using Eigen::MatrixXf;
using support::random_matrix;
using K = kernel::Best;

namespace {

/// Moments as numbers.
template <class Rule>
struct Moments {
  RuleState<Rule, float, K> rule;
  MatrixXf out;

  Moments(const Rule& options, Index r, Index k) : rule(options, r, k), out(r, k) {
    rule.visit([](const char*, auto& field) {
      if constexpr (requires { field.allocate(); }) field.allocate();
    });
  }
  const MatrixXf& step(const MatrixXf& R) {
    rule.advance();
    for (Index j = 0; j < R.cols(); j += 64)
      rule.direction(R.data() + j * R.rows(), R.rows(), out.data() + j * R.rows(), R.rows(), 0, R.rows(), j, std::min<Index>(64, R.cols() - j));
    return out;
  }
  /// V, decoded by a reading of the format that is not the library's.
  std::vector<double> second() const {
    std::vector<double> v;
    std::vector<int> codes;
    std::vector<float> scales;
    Index rows = 0, scale_rows = 0;
    rule.visit([&](const char* name, const auto& field) {
      if constexpr (requires { field.size(); }) {
        for (Index i = 0; i < field.size(); ++i) {
          if (std::string(name) == "exp_avg_sq") codes.push_back(int(field[i])), v.push_back(double(float(field[i])));
          if (std::string(name) == "scales") scales.push_back(float(field[i]));
        }
        if (std::string(name) == "exp_avg_sq") rows = field.rows();
        if (std::string(name) == "scales") scale_rows = field.rows();
      }
    });
    if (scales.empty()) return v;
    for (std::size_t e = 0; e < codes.size(); ++e) {
      const Index tile = Index(e) / (64 * rows), block = (Index(e) - tile * 64 * rows) / 256;
      v[e] = std::pow(codes[e] / 255.0, 4) * double(scales[std::size_t(tile * scale_rows + 2 * block + 1)]);
    }
    return v;
  }
};

/// Gradients whose entries have log-normal sizes of their own.
struct Stream {
  MatrixXf size;
  explicit Stream(Index r, Index k) : size(random_matrix(r, k, 5).array().exp().cast<float>()) {}
  MatrixXf operator()(int t) const { return size.array() * random_matrix(size.rows(), size.cols(), 100 + unsigned(t)).cast<float>().array(); }
};

/// ||N - N_fp32|| / ||N_fp32|| over the last steps.
template <class Rule>
double direction_error(const Rule& o, int steps) {
  const Stream stream(7, 90);
  Moments<Rule> compact(o, 7, 90);
  Moments<AdamW> exact(AdamW{.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps}, 7, 90);
  double difference = 0, size = 0;
  for (int t = 0; t < steps; ++t) {
    const MatrixXf g = stream(t);
    const MatrixXf a = compact.step(g), b = exact.step(g);
    if (t >= steps / 2) difference += double((a - b).squaredNorm()), size += double(b.squaredNorm());
  }
  return std::sqrt(difference / size);
}

/// mean of V / exact V after `hot` steps of gradients of size 1 and `cold` ones of size 0.1; one entry stays at 1.
template <class Rule>
double decayed(const Rule& o, int hot, int cold) {
  const Index r = 4, k = 64;
  Moments<Rule> compact(o, r, k);
  Eigen::MatrixXd exact = Eigen::MatrixXd::Zero(r, k);
  for (int t = 0; t < hot + cold; ++t) {
    Eigen::MatrixXd g = (t < hot ? 1.0 : 0.1) * random_matrix(r, k, 100 + unsigned(t));
    g(0, 0) = 1;
    exact = o.beta2 * exact.array() + (1 - o.beta2) * g.array().square();
    compact.step(g.cast<float>());
  }
  const auto v = compact.second();
  double mean = 0;
  for (Index i = 1; i < r * k; ++i) mean += v[std::size_t(i)] / exact(i) / double(r * k - 1);
  return mean;
}

}  // namespace

TEST_CASE("Steps with compact moments are near those with fp32 moments", "[rule]") {
  const double int8 = direction_error(Adam8bit{}, 1500), bf16 = direction_error(AdamBf16{}, 1500);
  const double short_memory = direction_error(Adam8bit{.beta2 = 0.95}, 600);
  // 0.114, 0.064 and 0.017: what rounding a state of this format in every step costs, whatever the rounding
  INFO("||N - N_fp32|| / ||N_fp32||: 8 bit " << int8 << ", beta2 = 0.95 " << short_memory << "; bf16 " << bf16);
  CHECK(int8 < 0.13);
  CHECK(short_memory < 0.08);
  CHECK(bf16 < 0.025);
}

TEST_CASE("V decays", "[rule]") {
  // rounded to nearest, no bf16 number survives a multiplication by 0.999 as another one
  for (float v = 1; v < 2; v += 1.0f / 128) CHECK(float(Eigen::bfloat16(0.999f * v)) == v);
  for (const double mean : {decayed(AdamBf16{}, 500, 5000), decayed(Adam8bit{}, 500, 5000)}) {
    CHECK(mean > 0.93);
    CHECK(mean < 1.07);
  }
}

TEST_CASE("A stored V is zero only if V is, and a block of zeros is no division by zero", "[rule]") {
  Moments<Adam8bit> compact(Adam8bit{}, 3, 70);
  CHECK(compact.step(MatrixXf::Zero(3, 70)).isZero(0));
  MatrixXf g = MatrixXf::Constant(3, 70, 1e-12f);
  g(2, 3) = 1e4f;
  g(1, 1) = 0;
  compact.step(g);
  const auto v = compact.second();
  for (Index i = 0; i < 3 * 70; ++i) CHECK((v[std::size_t(i)] == 0) == (i == 1 + 3 * 1));
  for (int t = 0; t < 3; ++t) CHECK(compact.step(MatrixXf::Zero(3, 70)).allFinite());
}

// of rows a piece of 256 x 128 is turned at a time where blocks allow it: columns of whole blocks, or of whole draws in bf16
TEMPLATE_TEST_CASE("Matrices in rows take the same step, to the bit, and keep the same moments", "[rule]", Adam8bit, AdamBf16) {
  using support::Order, support::Placed;
  const auto check = [](auto scalar, Index rows, Index cols, Order w_order, Order g_order) {
    using T = decltype(scalar);
    INFO(rows << " x " << cols << ", weight in " << (w_order == Order::Rows ? "rows" : "columns") << " of " << sizeof(T) << " bytes");
    Placed<T> expected(random_matrix(rows, cols, 1), Order::Columns), w(expected.values(), w_order, 1, 3);
    Optimizer reference(expected.view(), Identity{}, TestType{}, BackProject{.scale = 0.5});
    Optimizer optimizer(w.view(), Identity{}, TestType{}, BackProject{.scale = 0.5});
    for (int t = 0; t < 3; ++t) {
      const Placed<float> there(random_matrix(rows, cols, 10 + unsigned(t)), Order::Columns), g(there.values(), g_order, 2, 1);
      const Step step{.lr = 0.01, .grad_scale = t == 1 ? 0.5 : 1.0, .rounding = Rounding::Stochastic};
      reference.step(expected.view(), there.view(), step);
      optimizer.step(w.view(), g.view(), step);
    }
    CHECK(w.guards_intact());
    CHECK(w.elements() == expected.elements());
    CHECK(optimizer == reference);
  };
  for (const auto& [rows, cols] : {std::pair<Index, Index>{512, 300}, {256, 129}, {520, 200}, {40, 7}, {8, 300}, {131, 140}, {272, 300}})
    for (const Order g : {Order::Rows, Order::Columns}) {
      check(float(), rows, cols, Order::Rows, g);
      check(Eigen::bfloat16(), rows, cols, Order::Rows, g);
      check(float(), rows, cols, Order::Columns, g);
    }
}

TEST_CASE("Surviving coordinates keep their moments, fresh ones start at zero", "[rule]") {
  const Index r = 3, k = 70;
  Buffer<std::byte> memory(1 << 22, 1);
  Arena arena(memory);
  const linalg::Team<float, K> team(arena, 1, 128);
  const linalg::TransportWork<float, K> work(arena, r, 1);
  Moments<AdamBf16> compact(AdamBf16{}, r, k);
  for (int t = 0; t < 5; ++t) compact.step(random_matrix(r, k, unsigned(t)).cast<float>());
  const auto before = compact.second();
  const std::int32_t from[] = {2, -1, 1};
  compact.rule.transport({linalg::BasisChange<float>::Kind::Gather, from, nullptr}, work, team);
  const auto after = compact.second();
  for (Index j = 0; j < k; ++j)
    for (Index i = 0; i < r; ++i)
      CHECK(after[std::size_t(i + j * r)] == (from[i] < 0 ? 0 : before[std::size_t(from[i] + j * r)]));
}
