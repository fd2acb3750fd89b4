// What command lines are made of: bounds that say what they want, and a help in which a default stands behind its switch.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace pretrain {

/// A bound with a message that fits on a line.
template <class F>
CLI::Validator bound(const std::string& rule, const F& holds) {
  return {[=](std::string& text) {
            double value = 0;
            return CLI::detail::lexical_cast(text, value) && holds(value) ? "" : text + " is not a number " + rule;
          },
          rule};
}
inline CLI::Validator positive() {
  return bound("> 0", [](double x) { return x > 0 && x < 1e300; });
}
inline CLI::Validator at_least(int low) {
  return bound(">= " + std::to_string(low), [=](double x) { return x >= low && x < 1e300; });
}
inline CLI::Validator between(int low, int high) {
  return bound(std::to_string(low) + " to " + std::to_string(high), [=](double x) { return x >= low && x <= high; });
}

/// A switch with its default behind it; the bounds are in the error of who passes them.
struct Formatter final : CLI::Formatter {
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string standard = option->get_default_str();
    return standard.empty() ? "" : " [" + standard + "]";
  }
};

}  // namespace pretrain
