// The example stops at any moment and goes on to the bits of a run that never stopped: between any two steps, refresh
// steps included, by a polite signal, and by a kill that asks nobody.
#include "support/catch.hpp"

#if !defined(PRETRAIN_PROGRAM)
TEST_CASE("resume") { SKIP("pretrain was not built"); }
#else
#include "examples/program.hpp"

namespace {

using program::operator+;
using program::Place;
using program::Words;

const Words methods{"galore", "fira", "apollo", "dct_adamw_feedback"};

/// Nine steps with a refresh every three, four methods after one another.
Words task(const Place& place, const std::string& out) {
  return place.small(out) + Words{"--method", "galore,fira,apollo,dct_adamw_feedback", "--steps", "9", "--refresh-every", "3"};
}

void check_same(const Place& place, const std::string& out) {
  for (const std::string& method : methods) {
    INFO(out << " " << method);
    CHECK(program::text_of(place / out / (method + ".safetensors")) == program::text_of(place / "whole" / (method + ".safetensors")));
  }
  CHECK(program::text_of(place / out / "curves.csv") == program::text_of(place / "whole" / "curves.csv"));
  const Words exact{"method", "rate", "seed", "steps", "bits_per_byte", "state_bytes", "skipped"};
  CHECK(program::columns(place / out / "results.csv", exact) == program::columns(place / "whole" / "results.csv", exact));
}

}  // namespace

TEST_CASE("a comparison cut into pieces of any length ends with the bits of one piece") {
  const Place place;
  REQUIRE(place.run(task(place, "whole")).code == 0);
  CHECK(program::columns(place / "whole" / "curves.csv", {"step"}).size() == 1 + 4 * 3);  // steps 4, 8 and the last
  for (const int piece : {1, 2, 4, 13}) {
    const std::string out = "pieces" + std::to_string(piece);
    const Words stop{"--stop-after", std::to_string(piece)};
    Place::Ended ended = place.run(task(place, out) + stop);
    int pieces = 1;
    std::string galore;  // its row with its timings, once it is over
    for (; ended.code == 130; ++pieces) {
      ended = place.run(Words{"--resume", "--out", (place / out).string()} + stop);
      const auto rows = program::split(program::text_of(place / out / "results.csv"), '\n');
      if (9 <= piece * (pieces + 1) && galore.empty() && piece * pieces >= 9) galore = rows.at(1);
      if (!galore.empty()) CHECK(rows.at(1) == galore);
      REQUIRE(pieces < 40);
    }
    INFO(ended.text);
    CHECK(ended.code == 0);
    CHECK(pieces == 36 / piece + 1);  // the last step is followed by a stop as well
    check_same(place, out);
  }
}

TEST_CASE("ranks that are shared out anew go on from where they were, and need a rank that adapts") {
  const Place place;
  const Words task{"--steps", "9", "--method", "galore", "--option", "adapt.energy=0.9", "--rebalance-every", "2"};
  REQUIRE(place.run(place.small("whole") + task).code == 0);
  REQUIRE(place.run(place.small("uniform") + Words(task.begin(), task.end() - 2)).code == 0);
  Place::Ended ended = place.run(place.small("pieces") + task + Words{"--stop-after", "1"});
  for (int i = 0; ended.code == 130 && i < 12; ++i) ended = place.run({"--resume", "--out", (place / "pieces").string(), "--stop-after", "1"});
  INFO(ended.text);
  REQUIRE(ended.code == 0);
  const auto weights = [&](const char* out) { return program::text_of(place / out / "galore.safetensors"); };
  CHECK(weights("pieces") == weights("whole"));
  CHECK(weights("pieces") != weights("uniform"));
  const auto refused = place.run(place.small("refused") + Words{"--method", "apollo", "--rebalance-every", "2"});
  CHECK(refused.code != 0);
  CHECK_THAT(refused.text, Catch::Matchers::ContainsSubstring("no ranks that adapt"));
  CHECK(!std::filesystem::exists(place / "refused"));
}

TEST_CASE("every method is cut between any two steps without a trace") {
  const Place place;
  const std::string help = place.run({"--method", "none"}).text, there = "there are ";
  Words all = program::split(help.substr(help.find(there) + there.size()), ',');  // "no method 'none'; there are a, b, c"
  for (std::string& name : all) name.erase(0, name.find_first_not_of(' ')), name.erase(std::min(name.find('\n'), name.size()));
  REQUIRE(all.size() > 25);
  const std::size_t together = 7;  // few, since every start checks the options of all
  for (std::size_t first = 0; first < all.size(); first += together) {
    Words some{"galore"};  // at least one with the period that is asked for
    for (std::size_t i = first; i < std::min(first + together, all.size()); ++i)
      if (all[i] != "galore") some.push_back(all[i]);
    std::string names;
    for (const std::string& name : some) names += (names.empty() ? "" : ",") + name;
    const Words task{"--steps", "5", "--refresh-every", "2", "--fresh", "--method", names};
    REQUIRE(place.run(place.small("whole") + task).code == 0);
    Place::Ended ended = place.run(place.small("pieces") + task + Words{"--stop-after", "1"});
    for (std::size_t i = 0; ended.code == 130 && i < 5 * some.size(); ++i)
      ended = place.run({"--resume", "--out", (place / "pieces").string(), "--stop-after", "1"});
    INFO(ended.text);
    REQUIRE(ended.code == 0);
    for (const std::string& name : some) {
      INFO(name);
      const std::string weights = program::text_of(place / "pieces" / (name + ".safetensors"));
      CHECK(!weights.empty());
      CHECK(weights == program::text_of(place / "whole" / (name + ".safetensors")));
    }
  }
}

TEST_CASE("no bit depends on the number of threads") {
  const Place place;
  REQUIRE(place.run(task(place, "whole")).code == 0);
  REQUIRE(place.run(task(place, "three") + Words{"--threads", "3"}).code == 0);
  check_same(place, "three");
}

TEST_CASE("a polite signal ends with a checkpoint") {
  const Place place;
  const Words longer{"--steps", "100000", "--method", "galore"};
  const pid_t child = place.start(place.small("signal") + longer);
  int waited = 0;  // milliseconds, for the first checkpoint of a run under way
  while (program::text_of(place / "signal/checkpoint/checkpoint.json").find("galore.") == std::string::npos && ++waited < 60000)
    usleep(1000);
  kill(child, SIGTERM);
  const Place::Ended ended = place.wait(child);
  CHECK(ended.code == 130);
  CHECK_THAT(ended.text, Catch::Matchers::ContainsSubstring("go on with: pretrain --resume"));
  const Place::Ended more = place.run({"--resume", "--stop-after", "5", "--out", (place / "signal").string()});
  CHECK(more.code == 130);
}

TEST_CASE("a kill at any moment leaves a whole checkpoint") {
  const Place place;
  REQUIRE(place.run(task(place, "whole")).code == 0);
  int kills = 0;
  for (int delay = 4000;; delay += 3000) {  // microseconds: later and later, so that it ends
    const bool begun = program::fs::exists(place / "killed" / "checkpoint" / "checkpoint.json");
    const Words words = begun ? Words{"--resume", "--out", (place / "killed").string()} : task(place, "killed");
    const pid_t child = place.start(words + Words{"--checkpoint-every", "1"});
    usleep(useconds_t(delay));
    kill(child, SIGKILL);
    const Place::Ended ended = place.wait(child);
    if (ended.code != -1) {
      INFO(ended.text);
      REQUIRE(ended.code == 0);
      break;
    }
    REQUIRE(++kills < 300);
  }
  CHECK(kills > 0);
  check_same(place, "killed");
  // nothing of the killed writes is left
  CHECK(std::distance(program::fs::directory_iterator(place / "killed" / "checkpoint"), program::fs::directory_iterator()) == 1);
}

TEST_CASE("a run does not go on with other settings or another text, and is not overwritten by accident") {
  const Place place;
  REQUIRE(place.run(task(place, "out") + Words{"--stop-after", "2"}).code == 130);
  const Words resume{"--resume", "--out", (place / "out").string()};
  using Catch::Matchers::ContainsSubstring;
  const auto refused = [&](const Words& words, const std::string& why) {
    const Place::Ended ended = place.run(words);
    CHECK(ended.code == 1);
    CHECK_THAT(ended.text, ContainsSubstring(why));
  };
  refused(resume + Words{"--steps", "10", "--lr", "0.5"}, "--steps: 9 in the folder, 10 now");
  refused(resume + Words{"--lr", "0.5"}, "--lr: the default in the folder, 0.5 now");
  refused(resume + Words{"--option", "beta1=0.5"}, "--option");
  refused(task(place, "out"), "--fresh");
  refused({"--resume", "--out", (place / "nowhere").string()}, "nothing to go on with");
  CHECK(place.run(resume + Words{"--stop-after", "1"}).code == 130);  // what was refused did no harm
  std::ofstream(place / "text/0", std::ios::app) << "more\n";
  refused(resume, "--corpus");
  CHECK(place.run(task(place, "out") + Words{"--fresh", "--stop-after", "1"}).code == 130);
  std::ofstream(place / "out/checkpoint/checkpoint.json") << "{";
  refused(resume, "damaged");
}
#endif
