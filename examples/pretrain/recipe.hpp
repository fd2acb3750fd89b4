// Recipe: a library recipe as an entry of the tables: which options it has, and the trainer it makes. Only the tables'
// files include this, since each recipe is a type of its own.
#pragma once

#include <any>
#include <charconv>  // std::to_chars
#include <utility>   // std::move

#include <lowrank/fleet.hpp>
#include <lowrank/optimizer/schedule.hpp>

#include "examples/pretrain/options.hpp"
#include "examples/pretrain/schedule.hpp"
#include "examples/pretrain/tables.hpp"

namespace pretrain {

inline std::vector<lowrank::Parameter<float>> parameters_of(const Task& task) {
  std::vector<lowrank::Parameter<float>> params;
  const float* gradients = task.network.gradients();
  for (const MatrixInfo& m : task.network.layout().matrices()) {
    const bool tuned = m.role == Role::Attention || m.role == Role::Mlp;
    params.push_back({m.name, lowrank::view(task.network.weights() + m.offset, m.rows, m.cols),
                      lowrank::view(gradients + m.offset, m.rows, m.cols),
                      tuned ? 1 : task.settings.aux_lr / task.spec.lr});
  }
  return params;
}

/// What an optimizer really has in its hands, sorted by what it is for.
template <class Optimizer>
void count(const Optimizer& optimizer, MemoryUse& use) {
  const auto add = [&](const char* name, const auto& field) {
    const std::string_view what = name;
    if constexpr (requires { field.bytes(); }) {
      const std::size_t held = field.data() == nullptr ? 0 : field.bytes();
      const bool moment = what.starts_with("exp_avg") || what == "momentum" || what == "square_avg" || what == "row" ||
                          what == "column" || what == "scales";
      (moment ? use.moments : what.starts_with("error") ? use.error : use.basis) += held;
    } else if (what == "limited_norm") {
      use.numbers += sizeof field;
    }
  };
  optimizer.visit(add);
  if constexpr (requires { optimizer.visit_numbers(add); }) optimizer.visit_numbers(add);  // a device has them apart
}

/// Where steps are taken: this fleet's, or one of another machine with its face (device/fleet.hpp).
template <class R>
using CpuFleet = decltype(lowrank::Fleet(std::declval<const std::vector<lowrank::Parameter<float>>&>(), std::declval<lowrank::Group<R>>(),
                                         lowrank::Group{lowrank::anything(), lowrank::adamw()}));

template <class R, class Fleet = CpuFleet<R>>
class FleetTrainer final : public Trainer {
 public:
  /// machine: what the fleet's constructor wants before the parameters.
  template <class... Machine>
  FleetTrainer(const Task& task, const R& recipe, Machine&... machine)
      : params_(parameters_of(task)), lr_(task.spec.lr), state_(task.method.state),
        fleet_(machine..., params_, lowrank::Group{lowrank::named("*.attn.*", "*.mlp.*"), recipe},
               lowrank::Group{lowrank::anything(), lowrank::adamw()}),
        rebalance_every_(task.settings.rebalance_every), budget_(fleet_.state_bytes()) {
    if (rebalance_every_ > 0 && !adapts(recipe))
      throw std::invalid_argument("--rebalance-every: " + task.method.name + " has no ranks that adapt; galore, fira and " +
                                  "dct_adamw have with --option adapt.energy=0.9");
  }

  Outcome step(double factor, double clip) override {
    const double norm = lowrank::grad_norm(params_);
    const auto report = fleet_.step(params_, {.lr = lr_ * factor,
                                              .grad_scale = clip > 0 ? lowrank::clip(norm, clip) : 1,
                                              .grad_norm = norm});
    if constexpr (requires { fleet_.rebalance(budget_); })
      if (rebalance_every_ > 0 && steps() % rebalance_every_ == 0) fleet_.rebalance(budget_);
    return {report.skipped, report.refreshed};
  }

  MemoryUse memory() override {
    fleet_.allocate();
    MemoryUse use;
    for (const auto& p : params_) {
      use.weights += std::size_t(p.weight.rows * p.weight.cols) * sizeof(float);
      use.gradients += std::size_t(p.gradient.rows * p.gradient.cols) * sizeof(float);
    }
    fleet_.each([&]<class O>(const std::string&, const O& optimizer) {
      count(optimizer, use);
      use.formula += formula(optimizer);
    });
    use.workspace = fleet_.workspace_bytes();
    return use;
  }

  std::vector<Basis> bases() const override {
    std::vector<Basis> all;
    std::size_t i = 0;
    fleet_.each([&]<class O>(const std::string& name, const O& o) {
      const auto& report = fleet_.reports()[i];
      const auto& gradient = params_[i++].gradient;
      if constexpr (O::projected) {
        Basis basis{name, o.rows(), o.cols(), gradient.data, o.transposed(), o.rank(),
                    report.captured, report.drift, report.refreshed, nullptr, nullptr};
        if constexpr (requires { o.projection().basis(); }) basis.vectors = o.projection().basis().data();
        if constexpr (requires { o.projection().indices(); }) basis.indices = o.projection().indices().data();
        if (basis.vectors != nullptr || basis.indices != nullptr) all.push_back(basis);
      }
    });
    return all;
  }

  void print_plan(std::ostream& out) const override { out << fleet_.plan(); }
  void save(const std::filesystem::path& path) const override { fleet_.save(path); }
  void load(const std::filesystem::path& path) override { fleet_.load(path); }

 private:
  using Params = std::vector<lowrank::Parameter<float>>;
  using Chosen = decltype(std::declval<const R&>()(std::declval<const lowrank::View<float>&>()));

  static bool adapts(const R& recipe) {
    if constexpr (requires { recipe.projector.adapt; }) return recipe.projector.adapt.energy > 0;
    else return false;
  }
  Index steps() const {
    Index most = 0;
    fleet_.each([&](const std::string&, const auto& o) { most = std::max(most, Index(o.steps())); });
    return most;
  }
  template <class O>
  std::size_t formula(const O& o) const {
    if constexpr (requires { requires std::is_same_v<typename O::Twin, Chosen>; } || std::is_same_v<O, Chosen>) {
      const Index d = o.transposed() ? o.cols() : o.rows();
      if constexpr (O::projected) return std::size_t(state_(d, o.rows() * o.cols() / d, o.rank()));
      else return std::size_t(state_(d, o.rows() * o.cols() / d, 0));
    } else {
      return 2 * std::size_t(o.rows() * o.cols()) * sizeof(float);  // the AdamW of the others
    }
  }

  Params params_;
  double lr_;
  StateFormula state_;
  Fleet fleet_;
  Index rebalance_every_;
  std::size_t budget_;  // what the first ranks take
};

inline std::string text(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}

/// The recipe with what the method and the user choose, the user last.
template <class R>
R tuned(R recipe, const Task& task) {
  const Method& m = task.method;
  const Settings& s = task.settings;
  if (m.has_rank()) set_option(recipe, "rank", std::to_string(s.rank_or_default()));
  if (m.has_period()) set_option(recipe, "refresh_every", std::to_string(s.refresh_every.value_or(m.refresh_every)));
  if (m.has_scale()) set_option(recipe, "scale", text(s.scale.value_or(m.scale)));
  set_option(recipe, "random_after", std::to_string(s.steps * 4 / 5));  // GoLore's, as published
  // Online Subspace Descent's basis moves by this at the first rate, a step of the warm-up: as published at the peak
  if constexpr (requires { recipe.projector.basis_lr; }) recipe.projector.basis_lr *= schedule(s, 0);
  set_option(recipe, "seed", std::to_string(task.spec.seed));
  set_option(recipe, "weight_decay", text(s.weight_decay));
  const auto set = [&](const std::string& option, bool own) {
    const auto equals = option.find('=');
    if (equals == std::string::npos) throw std::invalid_argument("--option " + option + ": expected name=value");
    std::string name = option.substr(0, equals);
    if (const auto dot = name.find('.'); dot != std::string::npos && !has_option(recipe, name)) {
      (void)method(name.substr(0, dot));  // must be one
      if (name.substr(0, dot) != m.name) return;
      name = name.substr(dot + 1);
    }
    if (!own && (name == "rank" || name == "refresh_every" || name == "scale" || name == "seed" || name == "weight_decay"))
      throw std::invalid_argument("--option " + option + ": that has a switch of its own, see --help");
    if (!set_option(recipe, name, option.substr(equals + 1)))
      throw std::invalid_argument(m.name + " has no option '" + name + "'; it has" + list_options(recipe));
  };
  for (const std::string& option : m.options) set(option, true);
  for (const std::string& option : s.options) set(option, false);
  return recipe;
}

/// recipe([] { return lowrank::galore(); })
template <class Make>
Recipe recipe(const Make& make) {
  auto one = make();
  using R = decltype(one);
  const bool rank = has_option(one, "rank");
  return {rank, has_option(one, "refresh_every"), rank && has_option(one, "scale"), Weights::Dense,
          [](const Task& task) -> std::unique_ptr<Trainer> {
            return std::make_unique<FleetTrainer<R>>(task, tuned(Make{}(), task));
          },
          [](const Task& task) -> std::any { return tuned(Make{}(), task); }};
}

/// n numbers in the state's scalar, or indices, which are as long.
constexpr Index numbers(Index n) { return n * Index(sizeof(float)); }

}  // namespace pretrain
