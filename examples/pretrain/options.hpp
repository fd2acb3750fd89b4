// Options of a recipe by name: set from text, listed for a person. The names are those of lowrank/options.hpp, which
// lists the fields of every policy itself; only the names of the enumerators are written down here.
#pragma once

#include <charconv>   // std::from_chars
#include <stdexcept>  // std::invalid_argument
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <lowrank/options.hpp>

namespace pretrain {

using Names = std::vector<std::string_view>;

/// In the order of the enumerators.
inline Names names_of(lowrank::Side) { return {"smaller", "larger", "left", "right", "smaller_left"}; }
inline Names names_of(lowrank::Transport) { return {"keep", "reset", "rotate"}; }
inline Names names_of(lowrank::DctBasis) { return {"cosines", "transposed"}; }
inline Names names_of(lowrank::Score) { return {"l1", "l2"}; }
inline Names names_of(lowrank::DctRoute) { return {"auto", "fast", "selected"}; }
inline Names names_of(lowrank::Spectrum) { return {"recompute", "store"}; }
inline Names names_of(lowrank::Epsilon) { return {"after_correction", "before_correction"}; }
inline Names names_of(lowrank::DecayOrder) { return {"before_update", "after_update"}; }
inline Names names_of(lowrank::BiasCorrection) { return {"on", "off"}; }
inline Names names_of(lowrank::FiraForm) { return {"code", "paper"}; }
inline Names names_of(lowrank::Granularity) { return {"channel", "tensor"}; }
inline Names names_of(lowrank::ScaleOrder) { return {"after_limiter", "before_limiter"}; }
inline Names names_of(lowrank::Selection) { return {"top", "sampled", "uniform"}; }
inline Names names_of(lowrank::Remainder) { return {"sign", "sgd"}; }
inline Names names_of(lowrank::Momentum) { return {"heavy", "nesterov"}; }
inline Names names_of(lowrank::Polynomial) { return {"quintic", "tuned", "polar_express"}; }
inline Names names_of(lowrank::ShapeScale) { return {"none", "tall", "rms", "spectral"}; }
inline Names names_of(lowrank::MomentumDomain) { return {"transform", "gradient"}; }
inline Names names_of(lowrank::Feedback) { return {"on", "off"}; }
inline Names names_of(lowrank::Storage) { return {"full", "int8", "int4"}; }

/// False when the text is no value of the field.
template <class T>
bool parse(std::string_view text, T& field) {
  if constexpr (std::is_enum_v<T>) {
    const Names names = names_of(field);
    for (std::size_t i = 0; i < names.size(); ++i)
      if (names[i] == text) {
        field = T(i);
        return true;
      }
    return false;
  } else {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return false;
    field = value;
    return true;
  }
}

/// What can be given for it, and what it is: "transport keep|reset|rotate (keep)".
template <class T>
std::string describe(const char* name, const T& field) {
  std::string text = name;
  if constexpr (std::is_enum_v<T>) {
    const Names names = names_of(field);
    for (std::size_t i = 0; i < names.size(); ++i) (text += i == 0 ? ' ' : '|') += names[i];
    return text + " (" + std::string(names[std::size_t(field)]) + ")";
  } else {
    char value[32];
    return text + " (" + std::string(value, std::to_chars(value, value + sizeof value, field).ptr) + ")";
  }
}

template <class R, class F>
void visit_parts(R& recipe, const F& f) {
  using P = decltype(recipe.projector);
  using Rule = decltype(recipe.rule);
  using Lift = decltype(recipe.lift);
  P::visit(recipe.projector, f), Rule::visit(recipe.rule, f), Lift::visit(recipe.lift, f);
}
/// f(name, field) over the three parts of a recipe, or over what a kind of layers lists itself.
template <class R, class F>
void visit_recipe(R& recipe, const F& f) {
  if constexpr (requires { recipe.visit(f); }) recipe.visit(f);
  else visit_parts(recipe, f);
}

template <class R>
bool has_option(R& recipe, std::string_view name) {
  bool found = false;
  visit_recipe(recipe, [&](const char* field_name, const auto&) { found = found || name == field_name; });
  return found;
}

/// Whether the recipe has an option of that name; sets it. Throws std::invalid_argument for a value it cannot have.
template <class R>
bool set_option(R& recipe, std::string_view name, std::string_view value) {
  bool found = false;
  visit_recipe(recipe, [&](const char* field_name, auto& field) {
    if (name != field_name) return;
    found = true;
    if (!parse(value, field))
      throw std::invalid_argument("'" + std::string(value) + "' is no value of the option " +
                                  describe(field_name, field));
  });
  return found;
}

template <class R>
std::string list_options(R recipe) {
  std::string text;
  visit_recipe(recipe, [&](const char* name, const auto& field) { text += "\n  " + describe(name, field); });
  return text;
}

}  // namespace pretrain
