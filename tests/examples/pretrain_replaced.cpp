// A decoder whose matrices are replaced one by one: with each of them replaced by itself it is the decoder with dense
// weights, and every kind of layer lowers the loss it has a gradient of.
#include <memory>

#include "examples/pretrain/methods.hpp"
#include "examples/pretrain/model.hpp"
#include "examples/pretrain/replaced.hpp"
#include "support/catch.hpp"

namespace {

using namespace pretrain;

const ModelConfig config{.d_model = 12, .layers = 2, .heads = 2, .d_ff = 20, .context = 6};

/// The matrix itself, in the place of the matrix.
struct Itself final : Part {
  MatrixInfo matrix;
  Matrix<float> gradient;

  explicit Itself(const MatrixInfo& m) : matrix(m), gradient(Matrix<float>::Zero(m.rows, m.cols)) {}
  void forward(const float* w, const Block<float>& x, Block<float> y, const lowrank::Pass&, lowrank::Workspace&) override {
    y.noalias() = Weight<float>(w, matrix.rows, matrix.cols) * x;
  }
  void backward(const float* w, const Block<float>& x, const Block<float>& dy, Block<float> dx, lowrank::Workspace&) override {
    dx.noalias() = Weight<float>(w, matrix.rows, matrix.cols).transpose() * dy;
    gradient.noalias() += dy * x.transpose();
  }
};

std::vector<Byte> text(Index windows) {
  std::vector<Byte> bytes;
  for (Index i = 0; i < windows * (config.context + 1); ++i) bytes.push_back(Byte('a' + i * i % 7));
  return bytes;
}

}  // namespace

TEST_CASE("matrices that replace themselves change nothing") {
  const std::vector<Byte> bytes = text(3);
  Model<float> dense(config, 3);
  Model<float, Replaced> model(config, 3);
  dense.initialise(1), model.initialise(1);
  std::vector<std::unique_ptr<Itself>> parts;
  const auto& matrices = model.layout().matrices();
  for (std::size_t i = 0; i < matrices.size(); ++i)
    if (matrices[i].role == Role::Attention || matrices[i].role == Role::Mlp) {
      parts.push_back(std::make_unique<Itself>(matrices[i]));
      model.linear().install(i, parts.back().get());
    }
  REQUIRE(parts.size() == 14);
  CHECK(model.loss(bytes) == Catch::Approx(dense.loss(bytes)).epsilon(1e-6));
  CHECK(model.forward_backward(bytes) == Catch::Approx(dense.forward_backward(bytes)).epsilon(1e-6));
  for (const MatrixInfo& m : matrices) {
    INFO(m.name);
    const WeightGradient<float> expected(dense.gradients() + m.offset, m.rows, m.cols);
    Matrix<float> got = WeightGradient<float>(model.gradients() + m.offset, m.rows, m.cols);
    for (const auto& part : parts)
      if (part->matrix.name == m.name) {
        CHECK(got.isZero(0));  // the arena has none of it
        got = part->gradient;
      }
    CHECK((got - expected).norm() <= 1e-5 * expected.norm());
  }
}

TEST_CASE("every method lowers the loss of a batch that it sees again and again") {
  const std::vector<Byte> bytes = text(3);
  Settings settings;
  settings.model = config, settings.rank = 3, settings.refresh_every = 5;
  Networks networks(config, 3);
  for (const Method& m : all_methods()) {
    INFO(m.name);
    Network& network = networks.of(m.recipe.weights);
    network.initialise(0);
    RunSpec spec = spec_of(m, settings);
    const auto trainer = make_trainer(spec, settings, network);
    const double before = network.loss(bytes);
    for (Index t = 0; t < 20; ++t) {
      network.zero_gradients();
      trainer->begin_step(t);
      network.forward_backward(bytes, t);
      CHECK(trainer->step(1, 1).skipped == 0);
    }
    CHECK(network.loss(bytes) < 0.8 * before);
  }
}
