// finetune as its user meets it: equal losses of everything it writes, the same bits after any stop, a kill and on any
// number of threads, its tables, and bad input.
#include <cmath>
#include <map>

#include "support/catch.hpp"

#if !defined(FINETUNE_PROGRAM)
TEST_CASE("finetune") { SKIP("finetune was not built"); }
#else
#include "examples/program.hpp"
#include "examples/xml.hpp"

namespace {

using Catch::Matchers::ContainsSubstring;
using program::operator+;
using program::Words;

const Words methods{"full", "lora", "dora", "vera", "randlora"};

/// A small decoder that pretrain made, and another text.
class Bench : public program::Place {
 public:
  Bench() {
    REQUIRE(run(small("base") + Words{"--method", "galore", "--steps", "20"}).code == 0);
    std::ofstream other(*this / "other");
    for (int i = 0; i < 900; ++i) other << "int f" << i % 13 << "(int x) { return x * " << i % 7 << "; }\n";
  }

  Words task(const std::string& out, const std::string& steps = "9") const {
    return {"--from", (*this / "base").string(), "--corpus", (*this / "other").string(), "--out", (*this / out).string(),
            "--numbers", "500", "--steps", steps, "--batch", "3", "--eval-windows", "7", "--curve-windows", "4",
            "--eval-every", "4"};
  }
  Words resume(const std::string& out) const { return {"--resume", "--out", (*this / out).string()}; }
  Ended adapt(const Words& words) const { return run(words, FINETUNE_PROGRAM); }
  pid_t begin(const Words& words) const { return start(words, FINETUNE_PROGRAM); }
};

/// Everything but the timings.
void check_same(const Bench& bench, const std::string& out) {
  for (const std::string& method : methods) {
    INFO(out << " " << method);
    for (const char* file : {"merged.safetensors", "adapter.gguf", "peft/adapter_model.safetensors", "peft/adapter_config.json"})
      CHECK(program::text_of(bench / (out + "/" + method) / file) == program::text_of(bench / ("whole/" + method) / file));
  }
  CHECK(program::text_of(bench / out / "curves.csv") == program::text_of(bench / "whole" / "curves.csv"));
  const Words exact{"run", "rate", "steps", "before", "bits_per_byte", "peft", "gguf", "merged", "merge_error", "skipped"};
  CHECK(program::columns(bench / out / "results.csv", exact) == program::columns(bench / "whole" / "results.csv", exact));
}

}  // namespace

TEST_CASE("what was trained, its PEFT directory, its GGUF file and its merged weights have one loss") {
  const Bench bench;
  const auto ended = bench.adapt(bench.task("out", "60"));
  INFO(ended.text);
  REQUIRE(ended.code == 0);
  const auto rows = program::columns(bench / "out" / "results.csv", {"run", "before", "bits_per_byte", "peft", "gguf", "merged", "merge_error"});
  REQUIRE(rows.size() == 1 + methods.size());
  for (std::size_t i = 0; i < methods.size(); ++i) {
    const Words& row = rows[i + 1];
    INFO(row[0]);
    CHECK(row[0] == methods[i]);
    const double before = std::stod(row[1]), after = std::stod(row[2]);
    CHECK(after < before - 0.05);  // it has learned
    CHECK(std::stod(row[5]) == Catch::Approx(after).epsilon(1e-5));
    if (row[0] == "full") {
      CHECK(row[5] == row[2]);  // the same weights
      CHECK((row[3] == "-" && row[4] == "-"));
      continue;
    }
    CHECK(row[3] == row[2]);  // the same numbers: not a bit is lost in a PEFT directory
    CHECK(std::stod(row[4]) == Catch::Approx(after).epsilon(1e-5));
    CHECK((std::stod(row[6]) > 0 && std::stod(row[6]) < 1e-4));
  }
  CHECK(rows[2][4] == rows[2][2]);  // LoRA is what GGUF has
  // merged weights are something to begin from
  program::fs::copy_file(bench / "out/lora/merged.safetensors", bench / "base/galore.safetensors", program::fs::copy_options::overwrite_existing);
  REQUIRE(bench.adapt(bench.task("again") + Words{"--method", "lora"}).code == 0);
  CHECK(program::columns(bench / "again" / "results.csv", {"before"})[1][0] == rows[2][5]);
}

TEST_CASE("the table counts what is held, and the files are whole") {
  const Bench bench;
  const auto ended = bench.adapt(bench.task("out"));
  REQUIRE(ended.code == 0);
  CHECK_THAT(ended.text, ContainsSubstring("frozen bases") && ContainsSubstring("merge error"));
  // two layers, each four 12 x 12, two 20 x 12 and one 12 x 20, and 500 numbers asked for
  const auto rows = program::columns(bench / "out" / "memory.csv", {"run", "rank", "trained", "gradients", "optimizer", "adapters", "frozen_bases"});
  const int side = 2 * (4 * 24 + 3 * 32), outputs = 2 * (4 * 12 + 2 * 20 + 12), all = 2 * (4 * 144 + 3 * 240) + 2 * 256 * 12 + 5 * 12;
  const auto row = [&](const std::string& name, int rank, int trained, int more, int bases) {
    return Words{name, std::to_string(rank), std::to_string(trained), std::to_string(4 * trained), std::to_string(8 * trained),
                 std::to_string(rank == 0 ? 0 : 4 * trained + more), std::to_string(bases)};
  };
  REQUIRE(rows.size() == 6);
  CHECK(rows[1] == row("full", 0, all, 0, 0));
  CHECK(rows[2] == row("lora", 1, side, 0, 0));
  CHECK(rows[3] == row("dora", 1, side + outputs, 8 * outputs, 0));  // and the squared lengths of the rows in double
  CHECK(rows[4] == row("vera", 21, outputs + 14 * 21, 0, 4 * 2 * 20 * 21));
  CHECK(rows[5] == row("randlora", 6, 14 * (12 + 2 * 12), 0, 4 * (20 * 6 + 20 * 24)));
  CHECK(program::columns(bench / "out" / "curves.csv", {"run", "step"}).size() == 1 + 5 * 4);  // steps 0, 4, 8 and 9
  CHECK(xml::fault(program::text_of(bench / "out" / "curves.svg")) == "");
  const auto several = bench.adapt(bench.task("rates") + Words{"--method", "lora", "--lr", "0.001,0.01"});
  REQUIRE(several.code == 0);
  CHECK(program::columns(bench / "rates" / "results.csv", {"run", "rate"}) ==
        std::vector<Words>{{"run", "rate"}, {"lora-0.001", "0.001"}, {"lora-0.01", "0.01"}});
}

TEST_CASE("a session cut into pieces, on other threads or killed ends with the bits of one piece") {
  const Bench bench;
  REQUIRE(bench.adapt(bench.task("whole")).code == 0);
  for (const int piece : {1, 4}) {
    const std::string out = "pieces" + std::to_string(piece);
    const Words stop{"--stop-after", std::to_string(piece)};
    auto ended = bench.adapt(bench.task(out) + stop);
    int pieces = 1;
    for (; ended.code == 130; ++pieces) {
      ended = bench.adapt(bench.resume(out) + stop);
      REQUIRE(pieces < 60);
    }
    INFO(ended.text);
    CHECK(ended.code == 0);
    CHECK(pieces == 45 / piece + 1);
    check_same(bench, out);
  }
  REQUIRE(bench.adapt(bench.task("three") + Words{"--threads", "3"}).code == 0);
  check_same(bench, "three");

  int kills = 0;
  for (int delay = 5000;; delay += 9000) {  // microseconds: later and later, so that it ends
    const bool begun = program::fs::exists(bench / "killed" / "checkpoint" / "checkpoint.json");
    const pid_t child = bench.begin((begun ? bench.resume("killed") : bench.task("killed")) + Words{"--checkpoint-every", "1"});
    usleep(useconds_t(delay));
    kill(child, SIGKILL);
    const auto ended = bench.wait(child);
    if (ended.code != -1) {
      INFO(ended.text);
      REQUIRE(ended.code == 0);
      break;
    }
    REQUIRE(++kills < 200);
  }
  CHECK(kills > 0);
  check_same(bench, "killed");
  CHECK(std::distance(program::fs::directory_iterator(bench / "killed" / "checkpoint"), program::fs::directory_iterator()) == 1);
}

TEST_CASE("input that cannot be is refused with its reason, before anything is touched") {
  const Bench bench;
  const auto refused = [&](const Words& words, int code, const std::string& why) {
    const auto ended = bench.adapt(words);
    CHECK(ended.code == code);
    CHECK_THAT(ended.text, ContainsSubstring(why));
    CHECK(!program::fs::exists(bench / "out"));
  };
  const Words task = bench.task("out"), out{"--out", (bench / "out").string()};
  CHECK(bench.adapt({"--help"}).code == 0);
  refused({"--frobnicate"}, 2, "--frobnicate");
  refused({"--numbers", "0"}, 2, "--numbers: 0 is not a number >= 1");
  refused({"--lr", "0.1,nan"}, 2, "--lr");
  refused({"--method", "adalora"}, 2, "no method 'adalora'; there are full, lora");
  refused({"--resume", "--fresh"}, 2, "--fresh");
  refused(task + Words{"--method", "lora,lora"}, 1, "twice");
  refused(task + Words{"--lr", "0.1,0.1"}, 1, "twice");
  refused(out + Words{"--resume"}, 1, "nothing to go on with");
  refused(out + Words{"--from", (bench / "gone").string()}, 1, "make one with: pretrain --out " + (bench / "gone").string());
  refused(task + Words{"--base", "adamw"}, 1, "no finished run of adamw");
  refused(out + Words{"--from", (bench / "base").string(), "--corpus", (bench / "gone").string()}, 1, "gone");
  const std::string weights = program::text_of(bench / "base/galore.safetensors");
  std::ofstream(bench / "base/galore.safetensors") << weights.substr(0, weights.size() / 2);
  refused(task, 1, "galore.safetensors");
  std::ofstream(bench / "base/galore.safetensors") << weights;
  program::fs::rename(bench / "base/galore.safetensors", bench / "base/elsewhere");
  refused(task, 1, "no finished run that left the weights of a decoder");
  program::fs::rename(bench / "base/elsewhere", bench / "base/galore.safetensors");
  const std::string json = program::text_of(bench / "base/checkpoint/checkpoint.json");
  std::ofstream(bench / "base/checkpoint/checkpoint.json") << "{\"finished\": 3}";
  refused(task, 1, "damaged");
  std::ofstream(bench / "base/checkpoint/checkpoint.json") << json;

  // a session that is not over is not overwritten, and does not go on with something else
  REQUIRE(bench.adapt(task + Words{"--stop-after", "2"}).code == 130);
  const auto stays = [&](const Words& words, const std::string& why) {
    const auto ended = bench.adapt(words);
    CHECK(ended.code == 1);
    CHECK_THAT(ended.text, ContainsSubstring(why));
  };
  stays(task, "--fresh");
  stays(bench.resume("out") + Words{"--steps", "10"}, "--steps: 9 in the folder, 10 now");
  std::ofstream(bench / "other", std::ios::app) << "more\n";
  stays(bench.resume("out"), "--corpus");
  CHECK(bench.adapt(task + Words{"--fresh", "--stop-after", "2"}).code == 130);
  REQUIRE(bench.run(bench.small("base") + Words{"--method", "galore", "--steps", "21", "--fresh"}).code == 0);
  stays(bench.resume("out"), "--from");
  std::ofstream(bench / "out/checkpoint/checkpoint.json") << "{";
  stays(bench.resume("out"), "damaged");
}

TEST_CASE("an adaptation that diverges is reported and the others go on") {
  const Bench bench;
  const auto ended = bench.adapt(bench.task("out") + Words{"--method", "lora,full", "--lr", "1e30"});
  INFO(ended.text);
  CHECK(ended.code == 0);
  CHECK_THAT(ended.text, ContainsSubstring("diverged") && ContainsSubstring("a lower --lr"));
  CHECK(program::columns(bench / "out" / "results.csv", {"run", "bits_per_byte", "merged"}) ==
        std::vector<Words>{{"run", "bits_per_byte", "merged"}, {"lora", "diverged", "-"}, {"full", "diverged", "-"}});
}
#endif
