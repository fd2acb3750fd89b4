// Methods: the optimizers one can choose by name, with the rates that a study found best, and what a run needs of an
// optimizer whatever its type.
#pragma once

#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>  // std::invalid_argument
#include <string>
#include <string_view>
#include <vector>

#include "examples/pretrain/layout.hpp"
#include "examples/pretrain/settings.hpp"

namespace pretrain {

/// Whether a recipe's scale and its learning rate are one number (Linear: their product, Root: rate * sqrt(scale)), when
/// nothing else depends on either. Rates are recorded and searched as that number.
enum class Scaling { Separate, Linear, Root };

/// Rates at equal ratios, to two digits: first * 2^(i / per_octave), i in [0, count) to start with, beyond on demand.
struct Grid {
  double first;
  int per_octave, count;

  double rate(int i) const {
    const double exact = first * std::exp2(double(i) / per_octave);
    const double digit = std::pow(10.0, std::floor(std::log10(exact)) - 1);
    return std::stod(text_of(std::round(exact / digit) * digit));
  }

 private:
  /// The shortest decimal: 0.0014 and not the double next to it that the product above gives.
  static std::string text_of(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2g", value);
    return text;
  }
};

enum class RecipeName { AdamW, Galore, Fira, Apollo, ApolloMini, DctAdamw, DctAdamwFeedback };

struct Method {
  std::string name;  // on the command line and in tables
  RecipeName recipe;
  double rate;       // the recorded one, scale included
  Grid grid;
  Scaling scaling = Scaling::Separate;
  double scale = 1;
  Index refresh_every = 1;
  std::vector<std::string> options = {};  // what makes it a variant, name=value
  bool clips = true;

  bool has_rank() const { return recipe != RecipeName::AdamW && recipe != RecipeName::ApolloMini; }
  bool has_period() const { return recipe != RecipeName::AdamW; }
  bool has_scale() const {
    return recipe != RecipeName::AdamW && recipe != RecipeName::DctAdamwFeedback;
  }
};

/// Recorded at the default size (d 128, 600 steps, rank 32); the grids are where a study starts.
inline const std::vector<Method>& all_methods() {
  using enum RecipeName;
  static const Grid dense{1e-3, 2, 4}, low{2e-3, 1, 3}, channel{8e-3, 1, 3}, tensor{4e-3, 1, 3};
  static const std::vector<Method> methods{
      {"adamw", AdamW, 2e-3, dense},
      {"galore", Galore, 4e-3, low, Scaling::Linear, 0.25, 200},
      {"fira", Fira, 8e-3, low, Scaling::Separate, 0.25, 200},
      {"apollo", Apollo, 16e-3, channel, Scaling::Root, 1, 200},
      {"apollo_mini", ApolloMini, 64e-3, tensor, Scaling::Root, 128, 200},
      {"dct_adamw", DctAdamw, 4e-3, low},
      // the same with one thing changed
      {"adamw_unclipped", AdamW, 2e-3, dense, Scaling::Separate, 1, 1, {}, false},
      {"galore_rotate", Galore, 4e-3, low, Scaling::Linear, 0.25, 200, {"transport=rotate"}},
      {"dct_adamw_keep", DctAdamw, 4e-3, low, Scaling::Separate, 1, 1, {"transport=keep"}},
      {"dct_adamw_feedback", DctAdamwFeedback, 4e-3, low},
  };
  return methods;
}
inline constexpr const char* compared_by_default[] = {"adamw", "galore", "fira", "dct_adamw"};
inline constexpr const char* studied_by_default[] = {"adamw", "adamw_unclipped", "galore", "fira",
                                                     "apollo", "apollo_mini",    "dct_adamw"};

inline std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const Method& m : all_methods()) names.push_back(m.name);
  return names;
}
inline const Method& method(std::string_view name) {
  for (const Method& m : all_methods())
    if (m.name == name) return m;
  throw std::invalid_argument("no method '" + std::string(name) + "'");
}

/// One training run.
struct RunSpec {
  std::string method;
  double rate, lr;  // scale included; what the step gets
  std::uint64_t seed;
  double clip;

  bool operator==(const RunSpec&) const = default;
};

/// With this rate (scale included), or the one the settings ask for.
inline RunSpec spec_of(const Method& m, const Settings& s, std::optional<double> rate = {}) {
  const double scale = m.has_scale() ? s.scale.value_or(m.scale) : 1;
  const double factor = m.scaling == Scaling::Linear ? scale : m.scaling == Scaling::Root ? std::sqrt(scale) : 1;
  const double lr = rate ? *rate / factor : s.lr.value_or(m.rate / factor);
  return {m.name, rate ? *rate : lr * factor, lr, s.seed, m.clips ? s.clip : 0};
}

/// Bytes a trainer holds for all matrices together, counted in its state and, beside it, by the formula.
struct MemoryUse {
  std::size_t weights = 0, gradients = 0;
  std::size_t basis = 0, moments = 0, error = 0, numbers = 0;  // the state: bases or indices, ..., limiter norms
  std::size_t formula = 0, workspace = 0;

  std::size_t state() const { return basis + moments + error + numbers; }
};

/// An optimizer of the whole model. The parts that differ by type are behind one virtual call a step; the library has
/// none.
class Trainer {
 public:
  struct Outcome {
    Index skipped = 0, refreshed = 0;
  };

  Trainer() = default;
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  virtual ~Trainer() = default;

  /// factor: of the peak rates, by the schedule. The gradient is clipped to this norm; 0: not.
  virtual Outcome step(double factor, double clip) = 0;
  virtual MemoryUse memory() = 0;
  virtual void print_plan(std::ostream& out) const = 0;
  virtual void save(const std::filesystem::path& path) const = 0;
  virtual void load(const std::filesystem::path& path) = 0;
};

/// Attention and MLP matrices get the method, everything else AdamW at its own rate. The arenas must outlive it.
/// Throws std::invalid_argument for options the method does not have or allow.
std::unique_ptr<Trainer> make_trainer(const RunSpec& spec, const Settings& settings, const Layout& layout,
                                      float* weights, const float* gradients);

}  // namespace pretrain
