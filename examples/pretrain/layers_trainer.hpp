// LayersTrainer: trains a decoder whose attention and MLP matrices are layers of some kind. AdamW for their arrays at the
// method's rate, and as ever for embedding, head and norms.
#pragma once

#include <deque>
#include <utility>  // std::move

#include "examples/pretrain/kept.hpp"
#include "examples/pretrain/layer_kinds.hpp"
#include "examples/pretrain/recipe.hpp"
#include "examples/pretrain/replaced.hpp"

namespace pretrain {

template <class Kind>
class LayersTrainer final : public Trainer {
  using Layer = typename Kind::Layer;

 public:
  LayersTrainer(const Task& task, const Kind& kind)
      : kind_(kind), lr_(task.spec.lr), state_(task.method.state), replaced_(*task.network.replaced()) {
    const std::vector<MatrixInfo>& matrices = task.network.layout().matrices();
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const MatrixInfo& m = matrices[i];
      const DenseWeight dense = lowrank::view(task.network.weights() + m.offset, m.rows, m.cols);
      if (m.role == Role::Attention || m.role == Role::Mlp) {
        parts_.emplace_back(m, dense, kind_.make(dense, i));
        replaced_.install(i, &parts_.back());
      } else {
        const float* gradient = task.network.gradients() + m.offset;
        params_.push_back({m.name, dense, lowrank::view(gradient, m.rows, m.cols), task.settings.aux_lr / lr_});
      }
    }
    others_ = params_.size();
    for (PartOf& p : parts_)
      p.layer.visit([&](auto& array) {
        array.gradient.allocate();
        params_.push_back({p.matrix.name + "." + array.name, array.view(), array.gradient_view(), array.lr_scale});
      });
    fleet_.emplace(params_, lowrank::Group{lowrank::anything(), lowrank::adamw({.weight_decay = task.settings.weight_decay})});
  }

  void begin_step(Index t) override {
    for (PartOf& p : parts_) lowrank::zero_gradients(p.layer);
    kind_.begin(layers(), t);
    steps_ = t;
  }

  Outcome step(double factor, double clip) override {
    kind_.add_gradients(layers());
    const double norm = lowrank::grad_norm(params_), rate = kind_.rate(steps_);
    std::size_t i = others_;
    for (PartOf& p : parts_) p.layer.visit([&](const auto& array) { params_[i++].lr_scale = rate * array.lr_scale; });
    const auto report = fleet_->step(params_, {.lr = lr_ * factor,
                                               .grad_scale = clip > 0 ? lowrank::clip(norm, clip) : 1,
                                               .grad_norm = norm});
    if (report.skipped == 0)
      for (PartOf& p : parts_)
        kind_.end(p.layer, p.dense, steps_ + 1, [&](const char* array) { return editor(p.matrix.name + "." + array); },
                  replaced_.workspace());
    return {report.skipped, report.refreshed};
  }

  MemoryUse memory() override {
    fleet_->allocate();
    MemoryUse use;
    for (std::size_t i = 0; i < params_.size(); ++i) {
      const std::size_t bytes = std::size_t(params_[i].weight.rows * params_[i].weight.cols) * sizeof(float);
      use.gradients += bytes;
      if (i < others_) use.weights += bytes, use.formula += 2 * bytes;
    }
    for (const PartOf& p : parts_) {
      const Index m = p.matrix.rows, n = p.matrix.cols;
      use.weights += p.layer.bytes() + (Kind::keeps_weight ? std::size_t(m * n) * sizeof(float) : 0);
      use.formula += std::size_t(state_(m, n, rank_of(p.layer)));
    }
    fleet_->each([&](const std::string&, const auto& optimizer) { count(optimizer, use); });
    use.workspace = fleet_->workspace_bytes();
    return use;
  }

  void print_plan(std::ostream& out) const override { out << fleet_->plan(); }

  /// Beside the optimizer's file one with the layers.
  void save(const std::filesystem::path& path) const override {
    fleet_->save(path);
    std::vector<lowrank::io::Tensor> tensors;
    visit_layers(*this, [&](const std::string& name, const auto& x) { tensors.push_back(kept::tensor(name, x)); });
    lowrank::io::write_safetensors(beside(path), std::move(tensors));
  }
  void load(const std::filesystem::path& path) override {
    fleet_->load(path);
    const auto file = lowrank::io::Safetensors::read(beside(path));
    visit_layers(*this, [&](const std::string& name, auto& x) { kept::read(file, name, x); });
  }
  std::vector<lowrank::io::Tensor> replacements() const override {
    std::vector<lowrank::io::Tensor> tensors;
    for (const PartOf& p : parts_) {
      if (Kind::keeps_weight) tensors.push_back(dense_tensor(p.matrix.name, p.dense));
      p.layer.visit([&](const auto& array) { tensors.push_back(kept::tensor(p.matrix.name + "." + array.name, array.value)); });
    }
    return tensors;
  }

 private:
  struct PartOf final : Part {
    PartOf(const MatrixInfo& m, const DenseWeight& w, Layer made) : matrix(m), dense(w), layer(std::move(made)) {}

    void forward(const float* w, const Block<float>& x, Block<float> y, const lowrank::Pass& pass,
                 lowrank::Workspace& workspace) override {
      if constexpr (Kind::keeps_weight) layer.forward(lowrank::view(w, matrix.rows, matrix.cols), x, y, trace, workspace, pass);
      else layer.forward(x, y, trace, workspace, pass);
    }
    void backward(const float* w, const Block<float>& x, const Block<float>& dy, Block<float> dx,
                  lowrank::Workspace& workspace) override {
      if constexpr (Kind::keeps_weight) layer.backward(lowrank::view(w, matrix.rows, matrix.cols), x, dy, dx, trace, workspace);
      else layer.backward(x, dy, dx, trace, workspace);
    }

    MatrixInfo matrix;
    DenseWeight dense;
    Layer layer;
    lowrank::Trace<float> trace;
  };
  using Params = std::vector<lowrank::Parameter<float>>;
  using Fleet = decltype(lowrank::Fleet(std::declval<const Params&>(), lowrank::Group{lowrank::anything(), lowrank::adamw()}));

  /// f(layer) for each, as a kind's hooks want them.
  auto layers() {
    return [this](const auto& f) {
      for (PartOf& p : parts_) f(p.layer);
    };
  }
  auto editor(const std::string& name) {
    using Optimizer = decltype(lowrank::adamw()(std::declval<const lowrank::View<float>&>()));
    std::optional<typename Optimizer::Editor> found;
    fleet_->each([&](const std::string& parameter, Optimizer& optimizer) {
      if (parameter == name) found = optimizer.editor();
    });
    return *found;
  }
  static Index rank_of(const Layer& layer) {
    if constexpr (requires { layer.rank(); }) return layer.rank();
    else return std::min(layer.rows(), layer.cols());
  }
  static std::filesystem::path beside(std::filesystem::path path) {  // x.state.safetensors -> x.layers.safetensors
    return path.replace_extension().replace_extension(".layers.safetensors");
  }
  static lowrank::io::Tensor dense_tensor(const std::string& name, const DenseWeight& w) {
    return {name, "F32", {std::uint64_t(w.rows), std::uint64_t(w.cols)}, std::as_bytes(std::span(w.data, std::size_t(w.rows * w.cols)))};
  }
  /// f(name, array or number) for all that changes and is not in the arena of weights.
  template <class Self, class F>
  static void visit_layers(Self& self, const F& f) {
    for (auto& p : self.parts_) {
      p.layer.visit([&](auto& array) { f(p.matrix.name + "." + array.name, array.value); });
      if constexpr (requires { p.layer.visit_kept([](const char*, auto&) {}); })
        p.layer.visit_kept([&](const char* name, auto& x) { f(p.matrix.name + "." + name, x); });
    }
    self.kind_.visit_kept([&](const char* name, auto& x) { f(std::string("layers.") + name, x); });
  }

  Kind kind_;
  double lr_;
  StateFormula state_;
  Replaced& replaced_;
  std::deque<PartOf> parts_;  // which stay where they are
  Params params_;             // embedding, norms and head, then the arrays of the layers
  std::size_t others_ = 0;
  std::optional<Fleet> fleet_;
  Index steps_ = 0;
};

/// replaced(SlTrainKind{})
template <class Kind>
Recipe replaced(Kind kind) {
  return {has_option(kind, "rank"), has_option(kind, "refresh_every"), false, Weights::Replaced,
          [](const Task& task) -> std::unique_ptr<Trainer> {
            return std::make_unique<LayersTrainer<Kind>>(task, tuned(Kind{}, task));
          }};
}

}  // namespace pretrain
