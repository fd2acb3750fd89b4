// Fleet on a device: one recipe over many matrices, of any shapes, on one stream and with one workspace, the context's.
//
//   std::vector<lowrank::cuda::Parameter<float>> params = {{"layers.0.fc", view(w, F, C), view(g, F, C)}, ..};
//   lowrank::cuda::Fleet fleet(context, params, lowrank::galore({.rank = 128}));     // or a projector, a rule and a lift
//   fleet.step(params, {.lr = lr});
//
// A model has one fleet per recipe. step() enqueues every matrix before it waits for any, so that the host runs ahead of the device.
#pragma once

#include <string>
#include <vector>

#include <lowrank/cuda/optimizer.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// A matrix of a model: its name in files and errors, where it is, where its gradient will be.
template <class T, class U = T>
struct Parameter {
  std::string name;
  View<T> weight;
  View<const U> gradient;
};

template <class S, class P, class R, class L, class B>
class Fleet {
 public:
  /// Refreshes are spread over the period: the i-th matrix renews its basis i steps after the first. Throws std::invalid_argument
  /// (options, empty matrices).
  template <class T, class U>
  Fleet(B& backend, const std::vector<Parameter<T, U>>& parameters, P projector, R rule = {}, L lift = {}) {
    optimizers_.reserve(parameters.size());
    for (const auto& p : parameters) {
      P mine = projector;
      if constexpr (requires { mine.phase; mine.refresh_every; })
        if (mine.refresh_every > 1) mine.phase = (projector.phase + std::int64_t(optimizers_.size())) % mine.refresh_every;
      optimizers_.emplace_back(backend, p.weight, mine, rule, lift);
    }
  }

  template <class T, class U>
  Fleet(B& backend, const std::vector<Parameter<T, U>>& parameters, const Recipe<P, R, L>& recipe)
      : Fleet(backend, parameters, recipe.projector, recipe.rule, recipe.lift) {}

  /// One step of every matrix, in the order of construction, with the same numbers. Throws before anything is touched, if one of
  /// them would.
  template <class T, class U>
  std::vector<Report> step(const std::vector<Parameter<T, U>>& parameters, const Step& step) {
    if (parameters.size() != optimizers_.size())
      detail::bad_argument("lowrank::cuda::Fleet::step", std::to_string(parameters.size()) + " parameters", std::to_string(optimizers_.size()));
    for (std::size_t i = 0; i < optimizers_.size(); ++i) optimizers_[i].check(parameters[i].weight, parameters[i].gradient, step);
    for (std::size_t i = 0; i < optimizers_.size(); ++i) {
      optimizers_[i].set(step);
      optimizers_[i].enqueue(parameters[i].weight, parameters[i].gradient, optimizers_[i].due() ? Refresh::Yes : Refresh::No);
    }
    std::vector<Report> reports;
    for (auto& optimizer : optimizers_) reports.push_back(optimizer.report());
    return reports;
  }

  std::size_t size() const { return optimizers_.size(); }
  Optimizer<S, P, R, L, B>& operator[](std::size_t i) { return optimizers_[i]; }
  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    for (const auto& optimizer : optimizers_) bytes += optimizer.state_bytes();
    return bytes;
  }
  /// Of the largest: one workspace serves all.
  std::size_t workspace_bytes() const {
    std::size_t bytes = 0;
    for (const auto& optimizer : optimizers_) bytes = most(bytes, optimizer.workspace_bytes());
    return bytes;
  }

 private:
  std::vector<Optimizer<S, P, R, L, B>> optimizers_;
};

template <class B, class T, class U, class P, class R>
Fleet(B&, const std::vector<Parameter<T, U>>&, P, R) -> Fleet<compute_t<T>, P, R, BackProject, B>;
template <class B, class T, class U, class P, class R, class L>
Fleet(B&, const std::vector<Parameter<T, U>>&, const Recipe<P, R, L>&) -> Fleet<compute_t<T>, P, R, L, B>;
template <class B, class T, class U, class P, class R, class L>
Fleet(B&, const std::vector<Parameter<T, U>>&, P, R, L) -> Fleet<compute_t<T>, P, R, L, B>;

}  // namespace cuda
}  // namespace lowrank
