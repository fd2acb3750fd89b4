// The hand-written backward pass of the decoder against central differences, in double, for every kind of matrix; and
// the promises its header makes: windows of a batch are independent, the loss is causal, bits repeat.
#include <algorithm>  // std::copy_n
#include <cmath>
#include <vector>

#include "examples/pretrain/model.hpp"
#include "support/catch.hpp"

namespace {

using pretrain::Byte;
using pretrain::Index;
using pretrain::Model;
using pretrain::ModelConfig;

std::vector<Byte> text(Index windows, Index context, std::uint64_t seed) {
  const pretrain::Random random(seed, 0);
  std::vector<Byte> bytes(std::size_t(windows * (context + 1)));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = Byte(random.below(256, i));
  return bytes;
}

/// Larger weights than those training starts from, so that no layer is nearly linear.
template <class S>
void randomise(Model<S>& model, std::uint64_t seed) {
  for (const pretrain::MatrixInfo& m : model.layout().matrices()) {
    const pretrain::Random random(seed, std::uint64_t(m.offset));
    const double centre = m.role == pretrain::Role::Norm ? 1 : 0;
    for (Index e = 0; e < m.rows * m.cols; ++e)
      model.weights()[m.offset + e] = S(centre + 0.4 * random.normal(std::uint64_t(e)));
  }
}

template <class S>
pretrain::Vector<S> gradient_of(Model<S>& model) {
  return Eigen::Map<pretrain::Vector<S>>(model.gradients(), model.layout().size());
}

/// Largest |difference quotient - gradient| of at most 200 entries of a matrix, over the largest |gradient|.
double gradient_error(Model<double>& model, const pretrain::MatrixInfo& m, const std::vector<Byte>& bytes) {
  // only rows of bytes that occur have a gradient in the embedding
  const Index entries = m.rows * m.cols;
  const Index stride = m.role == pretrain::Role::Embedding ? 1 : std::max<Index>(1, entries / 200);
  const double h = 1e-5;
  double error = 0, largest = 0;
  for (Index e = 0; e < entries; e += stride) {
    double& w = model.weights()[m.offset + e];
    const double gradient = model.gradients()[m.offset + e], kept = w;
    if (m.role == pretrain::Role::Embedding && gradient == 0) continue;
    w = kept + h;
    const double above = model.loss(bytes);
    w = kept - h;
    const double below = model.loss(bytes);
    w = kept;
    error = std::max(error, std::abs((above - below) / (2 * h) - gradient));
    largest = std::max(largest, std::abs(gradient));
  }
  REQUIRE(largest > 0);
  return error / largest;
}

}  // namespace

TEST_CASE("every matrix of the decoder has the gradient of the loss") {
  // a context beyond one block of queries, three windows (a whole tile and a half one), sizes that are no power of two
  const ModelConfig config = GENERATE(ModelConfig{.d_model = 12, .layers = 2, .heads = 2, .d_ff = 20, .context = 5},
                                      ModelConfig{.d_model = 6, .layers = 1, .heads = 1, .d_ff = 7, .context = 70});
  Model<double> model(config, 3);
  randomise(model, 7);
  const std::vector<Byte> bytes = text(3, config.context, 11);
  model.forward_backward(bytes);
  for (const pretrain::MatrixInfo& m : model.layout().matrices()) {
    INFO(m.name);
    CHECK(gradient_error(model, m, bytes) < 1e-7);
  }
}

TEST_CASE("gradients accumulate, and a batch is the mean of its windows") {
  const ModelConfig config{.d_model = 12, .layers = 2, .heads = 2, .d_ff = 20, .context = 9};
  Model<double> model(config, 3);
  randomise(model, 3);
  const std::vector<Byte> bytes = text(3, config.context, 5);
  const double together = model.forward_backward(bytes);
  const pretrain::Vector<double> gradient = gradient_of(model);

  model.zero_gradients();
  double apart = 0;
  const auto one = [&](std::size_t w) { return std::span(bytes).subspan(10 * w, 10); };
  for (std::size_t w = 0; w < 3; ++w) apart += model.forward_backward(one(w));
  CHECK(apart / 3 == Catch::Approx(together).epsilon(1e-13));
  CHECK((gradient_of(model) / 3 - gradient).cwiseAbs().maxCoeff() < 1e-14);
}

namespace {

/// Dense, but for the whole batch at once and with a gradient of its own.
struct WholeBatch : pretrain::Dense<double> {
  static constexpr pretrain::Reach reach = pretrain::Reach::Batch;
  static constexpr pretrain::Trained trained = pretrain::Trained::Others;
  using Dense::Dense;

  void backward(const double* w, const pretrain::Layout::Linear& at, const pretrain::Block<double>& x,
                const pretrain::Block<double>& dy, pretrain::Block<double> dx) {
    Dense::backward(w, at, x, dy, dx);
    pretrain::WeightGradient<double>(gradients + at.offset, at.rows, at.cols).noalias() += dy * x.transpose();
  }

  double* gradients = nullptr;
};

}  // namespace

TEST_CASE("a linear layer that takes the whole batch sees what small tiles see") {
  const ModelConfig config{.d_model = 12, .layers = 2, .heads = 2, .d_ff = 20, .context = 9};
  Model<double> tiles(config, 5);
  Model<double, WholeBatch> whole(config, 5);
  randomise(tiles, 3);
  std::copy_n(tiles.weights(), tiles.layout().size(), whole.weights());
  whole.linear().gradients = whole.gradients();
  const std::vector<Byte> bytes = text(5, config.context, 5);
  CHECK(whole.forward_backward(bytes) == Catch::Approx(tiles.forward_backward(bytes)).epsilon(1e-14));
  CHECK(whole.loss(bytes) == Catch::Approx(tiles.loss(bytes)).epsilon(1e-14));
  const auto there = Eigen::Map<pretrain::Vector<double>>(whole.gradients(), whole.layout().size());
  CHECK((there - gradient_of(tiles)).cwiseAbs().maxCoeff() < 1e-14 * there.cwiseAbs().maxCoeff() + 1e-15);
}

TEST_CASE("a prediction does not see the bytes after it") {
  const ModelConfig config{.d_model = 12, .layers = 2, .heads = 2, .d_ff = 20, .context = 70};
  Model<double> model(config, 1);
  randomise(model, 9);
  pretrain::Passes<double> passes(config, config.context, 1);
  std::vector<Byte> bytes = text(1, config.context, 2);
  const auto predictions = [&] {
    passes.forward(model.weights(), {0, 0, config.context}, bytes.data());
    return pretrain::Matrix<double>(passes.shared().logits);
  };
  const pretrain::Matrix<double> before = predictions();
  for (const Index changed : {0, 1, 63, 64, 69}) {
    bytes[std::size_t(changed)] ^= 1;
    const pretrain::Matrix<double> after = predictions();
    bytes[std::size_t(changed)] ^= 1;
    CHECK(after.leftCols(changed) == before.leftCols(changed));
    for (Index t = changed; t < config.context; ++t) CHECK(after.col(t) != before.col(t));
  }
}

TEST_CASE("the same batch gives the same bits") {
  const ModelConfig config{.d_model = 24, .layers = 2, .heads = 2, .d_ff = 40, .context = 33};
  Model<float> model(config, 5);
  model.initialise(1);
  const std::vector<Byte> bytes = text(5, config.context, 4);
  const double first = model.forward_backward(bytes);
  const pretrain::Vector<float> gradient = gradient_of(model);
  for (int repeat = 0; repeat < 3; ++repeat) {
    model.zero_gradients();
    CHECK(model.forward_backward(bytes) == first);
    CHECK(gradient_of(model) == gradient);
  }
  CHECK(first == Catch::Approx(std::log(256.0)).epsilon(0.02));  // training starts from a uniform guess
}

TEST_CASE("a batch of another shape and a model that cannot be are refused") {
  Model<float> model({.d_model = 8, .layers = 1, .heads = 2, .d_ff = 8, .context = 4}, 2);
  CHECK_THROWS_AS(model.loss(std::vector<Byte>(4)), std::invalid_argument);
  CHECK_THROWS_AS(model.loss(std::vector<Byte>(11)), std::invalid_argument);
  CHECK_THROWS_AS(model.loss(std::vector<Byte>(15)), std::invalid_argument);
  const ModelConfig uneven{.d_model = 10, .layers = 1, .heads = 4, .d_ff = 8, .context = 4};
  const ModelConfig odd_heads{.d_model = 6, .layers = 1, .heads = 2, .d_ff = 8, .context = 4};
  CHECK_THROWS_AS(Model<float>(uneven, 2), std::invalid_argument);
  CHECK_THROWS_AS(Model<float>(odd_heads, 2), std::invalid_argument);
}
