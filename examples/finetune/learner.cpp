// The one place that knows the types of adapters and optimizers.
#include "examples/finetune/learner.hpp"

#include <lowrank/fleet.hpp>

#include "examples/finetune/kinds.hpp"
#include "examples/finetune/written.hpp"

namespace finetune {
namespace {

using Parameters = std::vector<lowrank::Parameter<float>>;

/// A decoder whose trained arrays are Parameters of one Fleet.
template <class L>
class Trainee : public Learner {
 public:
  double held_out(const HeldOut& held_out, Index windows) override { return held_out(model_, windows); }

  bool step(double lr, double clip) override {
    const double norm = lowrank::grad_norm(params_);
    const auto report = fleet_->step(params_, {.lr = lr, .grad_scale = clip > 0 ? lowrank::clip(norm, clip) : 1, .grad_norm = norm});
    return report.skipped == 0;
  }

  MemoryUse memory(std::span<const pretrain::Byte> bytes) override {
    this->forward_backward(bytes);
    fleet_->allocate();
    MemoryUse use;
    for (const auto& p : params_) use.trained += p.weight.rows * p.weight.cols;
    use.gradients = std::size_t(use.trained) * sizeof(float);
    use.optimizer = fleet_->state_bytes();
    return use;
  }

  void save(const std::string& stem) const override {
    std::vector<lowrank::io::Tensor> tensors;
    for (const auto& p : params_)
      tensors.push_back({p.name, "F32", {std::uint64_t(p.weight.rows * p.weight.cols)}, std::as_bytes(values(p))});
    lowrank::io::write_safetensors(stem + ".values.safetensors", std::move(tensors));
    fleet_->save(stem + ".state.safetensors");
  }
  void load(const std::string& stem) override {
    const std::string path = stem + ".values.safetensors";
    const auto file = lowrank::io::Safetensors::read(path);
    for (const auto& p : params_) {
      const lowrank::io::Tensor* t = file.find(p.name);
      if (t == nullptr || t->dtype != "F32" || t->data.size() != values(p).size_bytes())
        throw std::runtime_error(path + " holds no F32 tensor '" + p.name + "' of the right size");
      std::memcpy(values(p).data(), t->data.data(), t->data.size());
    }
    fleet_->load(stem + ".state.safetensors");
  }

 protected:
  Trainee(const Base& base, Index windows) : base_(base), model_(base.config, windows) { base_.copy_to(model_); }

  /// Once the parameters are all there.
  void optimize() { fleet_.emplace(params_, lowrank::Group{lowrank::anything(), lowrank::adamw()}); }

  const Base& base_;
  pretrain::Model<float, L> model_;
  Parameters params_;

 private:
  using Fleet = decltype(lowrank::Fleet(std::declval<const Parameters&>(), lowrank::Group{lowrank::anything(), lowrank::adamw()}));

  /// Every trained array is contiguous, in whichever order.
  static std::span<float> values(const lowrank::Parameter<float>& p) {
    return {p.weight.data, std::size_t(p.weight.rows * p.weight.cols)};
  }

  std::optional<Fleet> fleet_;
};

class Full final : public Trainee<pretrain::Dense<float>> {
 public:
  Full(const Base& base, Index windows) : Trainee(base, windows) {
    for (const MatrixInfo& m : model_.layout().matrices())
      params_.push_back({m.name, weight_view(model_.weights(), m), weight_view(std::as_const(model_).gradients(), m)});
    optimize();
  }
  double forward_backward(std::span<const pretrain::Byte> bytes) override {
    model_.zero_gradients();
    return model_.forward_backward(bytes);
  }
  Written write(const std::filesystem::path& folder, const HeldOut& held_out, Index windows) const override {
    const pretrain::Vector<float> weights = Eigen::Map<const pretrain::Vector<float>>(model_.weights(), model_.layout().size());
    Written written;
    written.merged = write_merged(folder, base_, weights, model_.windows(), held_out, windows);
    return written;
  }
};

template <class Kind>
class WithAdapters final : public Trainee<Adapted<float, typename Kind::Adapter>> {
  using Parent = Trainee<Adapted<float, typename Kind::Adapter>>;
  using Parent::model_, Parent::params_, Parent::base_;

 public:
  WithAdapters(const Base& base, Index windows, Index numbers, std::uint64_t seed)
      : Parent(base, windows), matrices_(adapted_matrices(model_.layout())), rank_(nearest_rank<Kind>(matrices_, numbers)),
        kind_(rank_, Largest(matrices_), seed) {
    model_.linear().install(model_.layout(), [&](const MatrixInfo& m) { return kind_.make(m, model_.weights()); });
    model_.linear().each([&](const MatrixInfo& m, auto& adapter) {
      adapter.visit([&](auto& p) {
        p.gradient.allocate();
        params_.push_back({module_of(m) + "/" + p.name, p.view(), p.gradient_view(), p.lr_scale});
      });
    });
    this->optimize();
  }

  double forward_backward(std::span<const pretrain::Byte> bytes) override {
    model_.linear().each([](const MatrixInfo&, auto& adapter) { lowrank::zero_gradients(adapter); });
    return model_.forward_backward(bytes);
  }
  MemoryUse memory(std::span<const pretrain::Byte> bytes) override {
    MemoryUse use = Parent::memory(bytes);
    use.rank = rank_;
    model_.linear().each([&](const MatrixInfo&, const auto& adapter) { use.adapters += adapter.bytes(); });
    use.shared = kind_.shared_bytes();
    use.passes = model_.linear().pass_bytes();
    return use;
  }
  Written write(const std::filesystem::path& folder, const HeldOut& held_out, Index windows) const override {
    return write_adapter<Kind>(folder, base_, model_, held_out, windows);
  }

 private:
  std::vector<MatrixInfo> matrices_;
  Index rank_;
  Kind kind_;
};

}  // namespace

std::unique_ptr<Learner> make_learner(const std::string& method, const Base& base, Index windows, Index numbers,
                                      std::uint64_t seed) {
  if (method == "full") return std::make_unique<Full>(base, windows);
  if (method == "lora") return std::make_unique<WithAdapters<LoraKind<float>>>(base, windows, numbers, seed);
  if (method == "dora") return std::make_unique<WithAdapters<DoraKind<float>>>(base, windows, numbers, seed);
  if (method == "vera") return std::make_unique<WithAdapters<VeraKind<float>>>(base, windows, numbers, seed);
  if (method == "randlora") return std::make_unique<WithAdapters<RandLoraKind<float>>>(base, windows, numbers, seed);
  throw std::logic_error("a method without a learner: " + method);
}

Index default_numbers(const pretrain::ModelConfig& config) {
  return numbers<LoraKind<float>>(adapted_matrices(Layout(config)), std::max<Index>(1, config.d_model / 32));
}

}  // namespace finetune
