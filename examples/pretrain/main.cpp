// pretrain: trains a small byte-level decoder on real text with low-rank optimizers and compares them.
//
//   pretrain                                    AdamW, GaLore, Fira and DCT-AdamW on Eigen's own headers, a few minutes
//   pretrain --method apollo --corpus ~/notes   one recipe on text of yours
//   pretrain --resume                           goes on where an interrupted run stopped, to the same bits
//   pretrain_cuda --method galore               the same with the optimizer's steps on a GPU; either goes on with the other's folder
//   pretrain --study                            the careful comparison: rates bracketed, three seeds (hours)
#include <cstdio>
#include <exception>
#include <iterator>  // std::begin, std::end
#include <optional>
#include <set>

#include "examples/pretrain/command_line.hpp"
#include "examples/pretrain/compare.hpp"
#include "examples/pretrain/study.hpp"

namespace {

using pretrain::Settings;

/// Methods by default, and what does not fit together whatever the values are. Throws std::invalid_argument.
void complete(Settings& s) {
  using namespace pretrain;
  if (s.methods.empty() && s.study) s.methods = studied_by_default();
  if (s.methods.empty()) s.methods.assign(std::begin(compared_by_default), std::end(compared_by_default));
  const auto none = [&](bool (Method::*has)() const) {
    for (const std::string& name : s.methods)
      if ((method(name).*has)()) return false;
    return true;
  };
  if (std::set<std::string>(s.methods.begin(), s.methods.end()).size() < s.methods.size())
    throw std::invalid_argument("--method: one of them is named twice");
  if (s.study && s.watch) throw std::invalid_argument("--watch: a study does not watch its runs");
  if (s.study && s.lr) throw std::invalid_argument("--lr: a study finds the rates itself");
  if (s.corpus.empty()) throw std::invalid_argument("--corpus: no text to train on by default, name a file or folder");
  check(s.model);
  if (s.resume) return;  // a study that goes on with one more method keeps what the others were given
  if (s.rank && none(&Method::has_rank)) throw std::invalid_argument("--rank: the method has no rank to choose");
  if (s.refresh_every && none(&Method::has_period)) throw std::invalid_argument("--refresh-every: the method has no basis");
  if (s.scale && none(&Method::has_scale)) throw std::invalid_argument("--scale: the method has none");
}

/// What an earlier call left in the folder: null, or the JSON its settings are in.
pretrain::Json left_behind(Settings& s) {
  pretrain::Json study = pretrain::Study::read(s.out), comparison = pretrain::Checkpoint::read(s.out);
  if (s.resume && comparison.is_null() && !study.is_null()) s.study = true;
  return s.study ? study : comparison;
}

/// Runs that took long are not overwritten by a forgotten --resume.
void refuse_to_overwrite(const Settings& s, const pretrain::Json& left) {
  if (left.is_null() || s.fresh) return;
  const bool done = !s.study && left.at("current").is_null() &&
                    left.at("finished").size() == left.at("settings").at("method").size();
  if (!done)
    throw std::runtime_error(s.out + " holds a " + (s.study ? "study" : "comparison that is not over") +
                             ": --resume goes on with it, --fresh throws it away, --out takes another folder");
}

pretrain::Exit run(Settings& s) {
  if (s.plan) {
    pretrain::Comparison(s).print_plans();
    return pretrain::Exit::Done;
  }
  pretrain::Interrupt::watch();
  return s.study ? pretrain::Study(s).run() : pretrain::Comparison(s).run();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Settings s;
    if (const auto code = pretrain::parse(argc, argv, s)) return *code;
    const pretrain::Json left = left_behind(s);
    if (s.resume) {
      if (left.is_null()) throw std::runtime_error("nothing to go on with in " + s.out);
      pretrain::take(left, s);
      if (const auto code = pretrain::parse(argc, argv, s)) return *code;  // over what was stored
      if (s.study) s.methods = pretrain::Study::methods(left, s.methods);
    } else {
      refuse_to_overwrite(s, left);
    }
    complete(s);
    pretrain::use_threads(s.threads);
    return int(run(s));
  } catch (const pretrain::Json::exception& e) {
    std::fprintf(stderr, "pretrain: the folder's checkpoint.json or study.json is damaged: %s\n", e.what());
    return 1;
  } catch (const std::exception& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "pretrain: %s\n", e.what());
    return 1;
  }
}
