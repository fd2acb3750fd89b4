#include "examples/pretrain/network.hpp"

#include "examples/pretrain/model.hpp"
#include "examples/pretrain/replaced.hpp"

namespace pretrain {
namespace {

template <class L>
class NetworkOf final : public Network {
 public:
  NetworkOf(const ModelConfig& config, Index windows) : model_(config, windows) {}

  const Layout& layout() const override { return model_.layout(); }
  float* weights() override { return model_.weights(); }
  const float* weights() const override { return model_.weights(); }
  float* gradients() override { return model_.gradients(); }
  std::size_t activation_bytes() const override { return model_.activation_bytes(); }
  Replaced* replaced() override {
    if constexpr (std::is_same_v<L, Replaced>) return &model_.linear();
    return nullptr;
  }
  void initialise(std::uint64_t seed) override { model_.initialise(seed); }
  void zero_gradients() override { model_.zero_gradients(); }
  double forward_backward(std::span<const Byte> bytes, Index step) override {
    pass({lowrank::Pass::Mode::Train, std::uint64_t(step)});
    return model_.forward_backward(bytes);
  }
  double loss(std::span<const Byte> bytes) override {
    pass({lowrank::Pass::Mode::Evaluate});
    return model_.loss(bytes);
  }

 private:
  void pass(const lowrank::Pass& pass) {
    if constexpr (std::is_same_v<L, Replaced>) model_.linear().pass = pass;
  }

  Model<float, L> model_;
};

}  // namespace

std::unique_ptr<Network> Networks::make(Weights weights) const {
  if (weights == Weights::Dense) return std::make_unique<NetworkOf<Dense<float>>>(config_, windows_);
  return std::make_unique<NetworkOf<Replaced>>(config_, windows_);
}

}  // namespace pretrain
