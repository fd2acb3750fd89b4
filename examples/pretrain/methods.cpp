// The one place that knows the optimizers' types.
#include "examples/pretrain/methods.hpp"

#include <algorithm>  // std::min
#include <charconv>   // std::to_chars
#include <utility>    // std::move

#include <lowrank/fleet.hpp>
#include <lowrank/optimizer/schedule.hpp>

#include "examples/pretrain/memory.hpp"
#include "examples/pretrain/options.hpp"

namespace pretrain {
namespace {

using Parameters = std::vector<lowrank::Parameter<float>>;

/// What an optimizer really has in its hands, sorted by what it is for.
template <class Optimizer>
void count(const Optimizer& optimizer, MemoryUse& use) {
  optimizer.visit([&](const char* name, const auto& field) {
    const std::string_view what = name;
    if constexpr (requires { field.bytes(); }) {
      const std::size_t held = field.data() == nullptr ? 0 : field.bytes();
      const bool moment = what.starts_with("exp_avg");
      (moment ? use.moments : what == "error" ? use.error : use.basis) += held;
    } else if (what == "limited_norm") {
      use.numbers += sizeof field;
    }
  });
}

template <class R>
class FleetTrainer final : public Trainer {
 public:
  FleetTrainer(Parameters params, const RunSpec& spec, const R& recipe)
      : params_(std::move(params)), lr_(spec.lr), recipe_(recipe), name_(method(spec.method).recipe),
        fleet_(params_, lowrank::Group{lowrank::named("*.attn.*", "*.mlp.*"), recipe},
               lowrank::Group{lowrank::anything(), lowrank::adamw()}) {}

  Outcome step(double factor, double clip) override {
    const double norm = lowrank::grad_norm(params_);
    const auto report = fleet_.step(params_, {.lr = lr_ * factor,
                                              .grad_scale = clip > 0 ? lowrank::clip(norm, clip) : 1,
                                              .grad_norm = norm});
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
      use.formula += formula(optimizer.rows(), optimizer.cols(), O::projected);
    });
    use.workspace = fleet_.workspace_bytes();
    return use;
  }

  void print_plan(std::ostream& out) const override { out << fleet_.plan(); }
  void save(const std::filesystem::path& path) const override { fleet_.save(path); }
  void load(const std::filesystem::path& path) override { fleet_.load(path); }

 private:
  using Fleet = decltype(lowrank::Fleet(std::declval<const Parameters&>(), std::declval<lowrank::Group<R>>(),
                                        lowrank::Group{lowrank::anything(), lowrank::adamw()}));

  std::size_t formula(Index rows, Index cols, bool projected) const {
    if constexpr (requires { recipe_.projector.side; }) {
      if (projected) {
        const lowrank::Side side = recipe_.projector.side;
        const bool left = side == lowrank::Side::Left || (side == lowrank::Side::Smaller && rows < cols) ||
                          (side == lowrank::Side::Larger && rows >= cols);
        const Index d = left ? rows : cols;
        return state_formula(name_, d, left ? cols : rows, std::min<Index>(recipe_.projector.rank, d));
      }
    }
    return state_formula(RecipeName::AdamW, rows, cols, 0);
  }

  Parameters params_;
  double lr_;
  R recipe_;
  RecipeName name_;
  Fleet fleet_;
};

std::string text(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}

/// The recipe with what the method and the user choose, the user last.
template <class R>
R tuned(R recipe, const Method& m, const RunSpec& spec, const Settings& s) {
  if (m.has_rank()) set_option(recipe, "rank", std::to_string(s.rank_or_default()));
  if (m.has_period()) set_option(recipe, "refresh_every", std::to_string(s.refresh_every.value_or(m.refresh_every)));
  if (m.has_scale()) set_option(recipe, "scale", text(s.scale.value_or(m.scale)));
  set_option(recipe, "seed", std::to_string(spec.seed));
  set_option(recipe, "weight_decay", text(s.weight_decay));
  const auto set = [&](const std::string& option, bool own) {
    const auto equals = option.find('=');
    if (equals == std::string::npos) throw std::invalid_argument("--option " + option + ": expected name=value");
    std::string name = option.substr(0, equals);
    if (const auto dot = name.find('.'); dot != std::string::npos) {
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

}  // namespace

std::unique_ptr<Trainer> make_trainer(const RunSpec& spec, const Settings& settings, const Layout& layout,
                                      float* weights, const float* gradients) {
  Parameters params;
  for (const MatrixInfo& m : layout.matrices()) {
    const bool projected = m.role == Role::Attention || m.role == Role::Mlp;
    params.push_back({m.name, lowrank::view(weights + m.offset, m.rows, m.cols),
                      lowrank::view(gradients + m.offset, m.rows, m.cols), projected ? 1 : settings.aux_lr / spec.lr});
  }
  const Method& m = method(spec.method);
  const auto make = [&]<class R>(const R& recipe) -> std::unique_ptr<Trainer> {
    return std::make_unique<FleetTrainer<R>>(std::move(params), spec, tuned(recipe, m, spec, settings));
  };
  switch (m.recipe) {
    case RecipeName::AdamW: return make(lowrank::adamw());
    case RecipeName::Galore: return make(lowrank::galore());
    case RecipeName::Fira: return make(lowrank::fira());
    case RecipeName::Apollo: return make(lowrank::apollo());
    case RecipeName::ApolloMini: return make(lowrank::apollo_mini());
    case RecipeName::DctAdamw: return make(lowrank::dct_adamw());
    case RecipeName::DctAdamwFeedback: return make(lowrank::dct_adamw<lowrank::ErrorFeedback>());
  }
  throw std::logic_error("a recipe without a trainer");
}

}  // namespace pretrain
