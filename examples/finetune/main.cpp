// finetune: adapts what pretrain trained to other text, and hands the result on.
//
//   pretrain                       first: a small decoder, trained on Eigen's headers
//   finetune                       the C++ standard library's headers with LoRA, DoRA, VeRA, RandLoRA and in full
//   finetune --method lora --numbers 60000 --corpus ~/notes
//   finetune --resume              goes on where an interrupted session stopped, to the same bits
#include <cstdio>
#include <exception>
#include <set>

#include "examples/finetune/command_line.hpp"
#include "examples/finetune/session.hpp"

namespace {

using finetune::Settings;

/// Methods by default, and what does not fit together whatever the values are. Throws std::invalid_argument.
void complete(Settings& s) {
  if (s.methods.empty())
    for (const finetune::Method& m : finetune::all_methods()) s.methods.push_back(m.name);
  if (std::set<std::string>(s.methods.begin(), s.methods.end()).size() < s.methods.size())
    throw std::invalid_argument("--method: one of them is named twice");
  if (std::set<double>(s.lr.begin(), s.lr.end()).size() < s.lr.size())
    throw std::invalid_argument("--lr: one of them is given twice");
  if (s.corpus.empty()) throw std::invalid_argument("--corpus: no headers of a C++ standard library in /usr/include/c++, name a file or folder");
}

/// Runs that took long are not overwritten by a forgotten --resume.
void refuse_to_overwrite(const Settings& s, const finetune::Json& left) {
  if (left.is_null() || s.fresh) return;
  const auto& settings = left.at("settings");
  const std::size_t runs = settings.at("method").size() * std::max<std::size_t>(1, settings.at("lr").size());
  if (!left.at("current").is_null() || left.at("finished").size() < runs)
    throw std::runtime_error(s.out + " holds a session that is not over: --resume goes on with it, --fresh throws it away, "
                             "--out takes another folder");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Settings s;
    if (const auto code = finetune::parse(argc, argv, s)) return *code;
    const finetune::Json left = finetune::Checkpoint::read(s.out);
    if (s.resume) {
      if (left.is_null()) throw std::runtime_error("nothing to go on with in " + s.out);
      finetune::take(left, s);
      if (const auto code = finetune::parse(argc, argv, s)) return *code;  // over what was stored
    } else {
      refuse_to_overwrite(s, left);
    }
    complete(s);
    pretrain::use_threads(s.threads);
    finetune::Session session(s);
    pretrain::Interrupt::watch();
    return int(session.run());
  } catch (const finetune::Json::exception& e) {
    std::fprintf(stderr, "finetune: the folder's checkpoint.json is damaged: %s\n", e.what());
    return 1;
  } catch (const std::exception& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "finetune: %s\n", e.what());
    return 1;
  }
}
