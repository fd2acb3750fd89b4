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

/// What every program with a folder, steps and a checkpoint has; `unfinished` is what --fresh throws away.
template <class Settings>
void describe_session(CLI::App& app, Settings& s, const std::string& unfinished) {
  CLI::Option* resume = app.add_flag("--resume", s.resume, "Go on with what is in the folder, with its settings");
  app.add_flag("--fresh", s.fresh, "Throw away " + unfinished + " in the folder")->excludes(resume);
  app.add_option("--threads", s.threads, "0: as many as OpenMP finds. No result depends on them")
      ->check(at_least(0))->capture_default_str();
  app.add_option("--checkpoint-every", s.checkpoint_every, "Steps from one checkpoint to the next")
      ->check(at_least(1))->capture_default_str();
  app.add_option("--stop-after", s.stop_after, "Stop with a checkpoint after so many steps from now; 0: never")
      ->check(at_least(0))->capture_default_str();
}
/// Of the held-out curve.
template <class Settings>
void describe_curve(CLI::App& app, Settings& s, const std::string& group) {
  app.add_option("--curve-windows", s.curve_windows, "Held-out windows of a point of the curve")
      ->check(at_least(1))->capture_default_str()->group(group);
  app.add_option("--eval-every", s.eval_every, "Steps from one point of the curve to the next; 0: none")
      ->check(at_least(0))->capture_default_str()->group(group);
}

/// A switch with its default behind it; the bounds are in the error of who passes them.
struct Formatter final : CLI::Formatter {
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string standard = option->get_default_str();
    return standard.empty() ? "" : " [" + standard + "]";
  }
};

}  // namespace pretrain
