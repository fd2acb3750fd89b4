// A decoder whose matrices have adapters, against central differences through the whole model and against the plain
// decoder with the adapters merged, in double; and the ranks at which the kinds train equally many numbers.
#include <cmath>
#include <vector>

#include "examples/finetune/kinds.hpp"
#include "examples/pretrain/model.hpp"
#include "support/catch.hpp"

namespace {

using finetune::Adapted;
using finetune::MatrixInfo;
using pretrain::Byte;
using pretrain::Index;
using pretrain::Model;
using pretrain::ModelConfig;

const ModelConfig config{.d_model = 12, .layers = 2, .heads = 2, .d_ff = 20, .context = 5};
constexpr Index rank = 3;

std::vector<Byte> text(Index windows) {
  const pretrain::Random random(11, 0);
  std::vector<Byte> bytes(std::size_t(windows * (config.context + 1)));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = Byte(random.below(256, i));
  return bytes;
}

/// Weights large enough that no layer is nearly linear.
void randomise(double* weights, const pretrain::Layout& layout) {
  for (const MatrixInfo& m : layout.matrices()) {
    const pretrain::Random random(7, std::uint64_t(m.offset));
    for (Index e = 0; e < m.rows * m.cols; ++e)
      weights[m.offset + e] = (m.role == pretrain::Role::Norm ? 1 : 0) + 0.4 * random.normal(std::uint64_t(e));
  }
}

template <class Kind>
using Decoder = Model<double, Adapted<double, typename Kind::Adapter>>;

/// Adapters whose change is not zero: at first one factor is, and the other has no gradient.
template <class Kind>
struct Changed {
  Decoder<Kind> model{config, 3};

  Changed() {
    randomise(model.weights(), model.layout());
    const Kind kind(rank, finetune::Largest(finetune::adapted_matrices(model.layout())), 5);
    model.linear().install(model.layout(), [&](const MatrixInfo& m) { return make(kind, m); });
    // RandLoRA's change is larger by its scale of 20
    const double size = std::is_same_v<Kind, finetune::RandLoraKind<double>> ? 0.005 : 0.1;
    std::uint64_t stream = 100;
    model.linear().each([&](const MatrixInfo&, auto& adapter) {
      adapter.visit([&](auto& p) {
        const pretrain::Random random(3, stream++);
        for (Index e = 0; e < p.value.size(); ++e) p.value[e] += size * random.normal(std::uint64_t(e));
      });
    });
  }
  typename Kind::Adapter make(const Kind& kind, const MatrixInfo& m) {
    if constexpr (std::is_same_v<Kind, finetune::DoraKind<double>>)  // the published one leaves the lengths' gradient out
      return typename Kind::Adapter(finetune::weight_view(model.weights(), m),
                                    {.rank = rank, .alpha = 6, .norm_gradient = lowrank::NormGradient::Exact});
    else
      return kind.make(m, model.weights());
  }
};

}  // namespace

TEMPLATE_TEST_CASE("every array an adapter trains has the gradient of the decoder's loss", "", finetune::LoraKind<double>,
                   finetune::DoraKind<double>, finetune::VeraKind<double>, finetune::RandLoraKind<double>) {
  Changed<TestType> changed;
  auto& model = changed.model;
  const std::vector<Byte> bytes = text(3);
  const double before = model.forward_backward(bytes);
  CHECK(model.loss(bytes) == before);
  const double h = 1e-5;
  model.linear().each([&](const MatrixInfo& m, auto& adapter) {
    adapter.visit([&](auto& p) {
      INFO(m.name << " " << p.name);
      double error = 0, largest = 0;
      const Index stride = std::max<Index>(1, p.value.size() / 12);
      for (Index e = 0; e < p.value.size(); e += stride) {
        const double kept = p.value[e];
        p.value[e] = kept + h;
        const double above = model.loss(bytes);
        p.value[e] = kept - h;
        const double below = model.loss(bytes);
        p.value[e] = kept;
        error = std::max(error, std::abs((above - below) / (2 * h) - p.gradient[e]));
        largest = std::max(largest, std::abs(p.gradient[e]));
      }
      REQUIRE(largest > 0);
      CHECK(error < 1e-7 * largest + 1e-10);
    });
  });
}

TEMPLATE_TEST_CASE("merged into the weights an adapter is the same decoder", "", finetune::LoraKind<double>,
                   finetune::DoraKind<double>, finetune::VeraKind<double>, finetune::RandLoraKind<double>) {
  Changed<TestType> changed;
  const std::vector<Byte> bytes = text(3);
  Model<double> plain(config, 3);
  randomise(plain.weights(), plain.layout());
  const double without = plain.loss(bytes);
  lowrank::Workspace workspace;
  changed.model.linear().each([&](const MatrixInfo& m, const auto& adapter) {
    const auto report = adapter.merge_into(finetune::weight_view(plain.weights(), m), workspace);
    CHECK((report.change_norm > 0.01 && report.error < 1e-13));
  });
  const double merged = plain.loss(bytes);
  CHECK(std::abs(merged - without) > 1e-3);
  CHECK(changed.model.loss(bytes) == Catch::Approx(merged).epsilon(1e-12));
}

TEST_CASE("a rank is chosen for the number that is trained") {
  const auto matrices = finetune::adapted_matrices(pretrain::Layout(ModelConfig{}));  // d 128, d_ff 344, 3 layers
  const Index wanted = finetune::numbers<finetune::LoraKind<float>>(matrices, 4);
  CHECK(wanted == 3 * 4 * (4 * (128 + 128) + 3 * (128 + 344)));
  CHECK(finetune::nearest_rank<finetune::LoraKind<float>>(matrices, wanted) == 4);
  const auto check = [&]<class Kind>(const Kind*, double share) {
    const Index r = finetune::nearest_rank<Kind>(matrices, wanted);
    const auto off = [&](Index x) { return std::abs(finetune::numbers<Kind>(matrices, x) - wanted); };
    CHECK(double(off(r)) < share * double(wanted));
    CHECK(off(r) <= off(r + 1));
    if (r > 1) CHECK(off(r) <= off(r - 1));
  };
  check(static_cast<finetune::DoraKind<float>*>(nullptr), 0.13);  // steps of a fourth
  check(static_cast<finetune::VeraKind<float>*>(nullptr), 0.001);
  check(static_cast<finetune::RandLoraKind<float>*>(nullptr), 0.05);
  // fewer than any adapter has, and more
  CHECK(finetune::nearest_rank<finetune::LoraKind<float>>(matrices, 1) == 1);
  CHECK(finetune::nearest_rank<finetune::LoraKind<float>>(matrices, 100000000) == 128);
}
