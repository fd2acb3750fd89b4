// Methods: the optimizers one can choose by name, with the rates that a study found best.
#pragma once

#include <any>
#include <cmath>
#include <optional>
#include <stdexcept>  // std::invalid_argument
#include <string>
#include <string_view>
#include <vector>

#include "examples/pretrain/trainer.hpp"

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

/// What only the type of a recipe knows (recipe.hpp).
struct Recipe {
  bool has_rank, has_period, has_scale;
  Weights weights;
  std::unique_ptr<Trainer> (*make)(const Task&);
  std::any (*tuned)(const Task&) = nullptr;  // the lowrank::Recipe itself, with the task's options; null where weights are replaced
};

/// Bytes kept for a matrix whose side of length d is projected to r <= d dimensions, k being the other side (counters
/// aside). Without a projection: for a matrix of d rows and k columns.
using StateFormula = Index (*)(Index d, Index k, Index r);

/// Whether a study without --method has it: a recipe of its own, or one that differs from another in an option.
enum class Standing { Recipe, Variant };

struct Method {
  std::string name;  // on the command line and in tables
  Recipe recipe;
  StateFormula state;
  double rate;  // the recorded one, scale included
  Grid grid;
  Scaling scaling = Scaling::Separate;
  double scale = 1;
  Index refresh_every = 1;
  std::vector<std::string> options = {};  // name=value; what is set here is not the user's to choose
  bool clips = true;
  Standing standing = Standing::Recipe;

  bool has_rank() const { return recipe.has_rank && !sets("rank"); }
  bool has_period() const { return recipe.has_period; }
  bool has_scale() const { return recipe.has_scale; }
  bool sets(const std::string& option) const {
    for (const std::string& o : options)
      if (o.starts_with(option + "=")) return true;
    return false;
  }
};

/// Recorded at the default size (d 128, 600 steps, rank 32); the grids are where a study starts.
const std::vector<Method>& all_methods();

inline constexpr const char* compared_by_default[] = {"adamw", "galore", "fira", "dct_adamw"};

inline std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const Method& m : all_methods()) names.push_back(m.name);
  return names;
}
inline std::vector<std::string> studied_by_default() {
  std::vector<std::string> names;
  for (const Method& m : all_methods())
    if (m.standing == Standing::Recipe) names.push_back(m.name);
  return names;
}
inline const Method& method(std::string_view name) {
  for (const Method& m : all_methods())
    if (m.name == name) return m;
  throw std::invalid_argument("no method '" + std::string(name) + "'");
}

/// With this rate (scale included), or the one the settings ask for.
inline RunSpec spec_of(const Method& m, const Settings& s, std::optional<double> rate = {}) {
  const double scale = m.has_scale() ? s.scale.value_or(m.scale) : 1;
  const double factor = m.scaling == Scaling::Linear ? scale : m.scaling == Scaling::Root ? std::sqrt(scale) : 1;
  const double lr = rate ? *rate / factor : s.lr.value_or(m.rate / factor);
  return {m.name, rate ? *rate : lr * factor, lr, s.seed, m.clips ? s.clip : 0};
}

}  // namespace pretrain
