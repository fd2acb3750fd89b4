// Fleet on a device: one recipe over many matrices, of any shapes, on one stream and with one workspace, the context's.
//
//   std::vector<lowrank::cuda::Parameter<float>> params = {{"layers.0.fc", view(w, F, C), view(g, F, C)}, ..};
//   lowrank::cuda::Fleet fleet(context, params, lowrank::galore({.rank = 128}));     // or a projector, a rule and a lift
//   fleet.step(params, {.lr = lr});
//
// A model has one fleet per recipe. Matrices of one shape whose bases are due alike step together, up to 16 of them as long as their
// workspaces take no more than 64 MiB (batching.cuh); the results are those of each alone, but for what cuBLAS makes of a batched product.
// step() enqueues everything before it waits, once.
#pragma once

#include <memory>  // std::unique_ptr
#include <string>
#include <vector>

#include <lowrank/cuda/batching.cuh>
#include <lowrank/cuda/optimizer.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// A matrix of a model: its name in files and errors, where it is, where its gradient will be.
template <class T, class U = T>
struct Parameter {
  std::string name;
  View<T> weight;
  View<const U> gradient;
  double lr_scale = 1;  // times Step::lr. 0 freezes: weight and state stay as they are
};

template <class S, class P, class R, class L, class B>
class Fleet {
 public:
  using Machine = Batching<B>;
  using Member = Optimizer<S, P, R, L, Machine>;

  /// Refreshes are spread over the period: the i-th matrix renews its basis i steps after the first. Throws std::invalid_argument
  /// (options, empty matrices).
  template <class T, class U>
  Fleet(B& backend, const std::vector<Parameter<T, U>>& parameters, P projector, R rule = {}, L lift = {})
      : machine_(new Machine(backend)), now_(parameters.size()), told_(Index(parameters.size()), 1) {
    optimizers_.reserve(parameters.size());
    for (const auto& p : parameters) {
      P mine = projector;
      if constexpr (requires { mine.phase; mine.refresh_every; })
        if (mine.refresh_every > 1) mine.phase = (projector.phase + std::int64_t(optimizers_.size())) % mine.refresh_every;
      optimizers_.emplace_back(*machine_, p.weight, mine, rule, lift);
      shape_of(optimizers_.size() - 1).push_back(optimizers_.size() - 1);
    }
    told_.allocate(backend);
    backend.workspace(workspace_bytes());
  }

  template <class T, class U>
  Fleet(B& backend, const std::vector<Parameter<T, U>>& parameters, const Recipe<P, R, L>& recipe)
      : Fleet(backend, parameters, recipe.projector, recipe.rule, recipe.lift) {}

  /// One step of every matrix that is not frozen, and what each says of it, in the order of construction. Throws before anything
  /// is touched, if one of them would. A gradient that is not finite skips its own matrix only.
  template <class T, class U>
  std::vector<Report> step(const std::vector<Parameter<T, U>>& parameters, const Step& step) {
    if (parameters.size() != size())
      detail::bad_argument("lowrank::cuda::Fleet::step", std::to_string(parameters.size()) + " parameters", std::to_string(size()));
    for (std::size_t i = 0; i < size(); ++i) {
      const auto& p = parameters[i];
      detail::require(p.lr_scale >= 0, "lowrank::cuda::Fleet::step", "lr_scale", p.lr_scale, "a finite number >= 0");
      optimizers_[i].check(p.weight, p.gradient, step);
    }
    for (const auto& members : shapes_)
      for (const Refresh refresh : {Refresh::No, Refresh::Yes}) {
        const std::size_t bytes = optimizers_[members[0]].workspace_bytes(), most = Machine::capacity_of(bytes);
        for (const std::size_t i : members) {
          Member& member = optimizers_[i];
          if (parameters[i].lr_scale == 0 || member.due() != (refresh == Refresh::Yes)) continue;
          if (std::size_t(machine_->members()) == most) machine_->flush();
          machine_->begin(bytes, members.size());
          member.set(share(step, i, parameters[i].lr_scale));
          member.enqueue(parameters[i].weight, parameters[i].gradient, refresh);
          member.tell(told_.data() + i);
        }
        machine_->flush();
      }
    std::vector<Report> reports;
    if (size() > 0) machine_->download(now_.data(), told_.data(), told_.bytes());
    for (std::size_t i = 0; i < size(); ++i) reports.push_back(parameters[i].lr_scale == 0 ? Report{} : optimizers_[i].report(now_[i]));
    return reports;
  }

  std::size_t size() const { return optimizers_.size(); }
  Member& operator[](std::size_t i) { return optimizers_[i]; }
  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    for (const auto& optimizer : optimizers_) bytes += optimizer.state_bytes();
    return bytes;
  }
  /// Of the largest batch: one workspace serves all.
  std::size_t workspace_bytes() const {
    std::size_t bytes = 0;
    for (const auto& members : shapes_) bytes = most(bytes, Machine::workspace_bytes(optimizers_[members[0]].workspace_bytes(), members.size()));
    return bytes;
  }

 private:
  /// The step of parameter i: its own rate, and its own stream of stochastic rounding.
  static Step share(const Step& step, std::size_t i, double lr_scale) {
    Step mine = step;
    mine.lr *= lr_scale;
    mine.seed += 0x9E3779B97F4A7C15u * (i + 1);
    return mine;
  }
  /// The matrices with the shape of the i-th.
  std::vector<std::size_t>& shape_of(std::size_t i) {
    for (auto& members : shapes_) {
      const Member& other = optimizers_[members[0]];
      if (other.rows() == optimizers_[i].rows() && other.cols() == optimizers_[i].cols()) return members;
    }
    return shapes_.emplace_back();
  }

  std::unique_ptr<Machine> machine_;
  std::vector<Member> optimizers_;
  std::vector<std::vector<std::size_t>> shapes_;
  std::vector<Control<S>> now_;
  Array<Control<S>, B> told_;
};

template <class B, class T, class U, class P, class R>
Fleet(B&, const std::vector<Parameter<T, U>>&, P, R) -> Fleet<compute_t<T>, P, R, BackProject, B>;
template <class B, class T, class U, class P, class R, class L>
Fleet(B&, const std::vector<Parameter<T, U>>&, const Recipe<P, R, L>&) -> Fleet<compute_t<T>, P, R, L, B>;
template <class B, class T, class U, class P, class R, class L>
Fleet(B&, const std::vector<Parameter<T, U>>&, P, R, L) -> Fleet<compute_t<T>, P, R, L, B>;

}  // namespace cuda
}  // namespace lowrank
