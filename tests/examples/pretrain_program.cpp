// What the example prints and writes: memory beside its formula, a small study, a run that diverges, and bad input.
#include <cmath>
#include <map>

#include "support/catch.hpp"

#if !defined(PRETRAIN_PROGRAM)
TEST_CASE("program") { SKIP("pretrain was not built"); }
#else
#include "examples/program.hpp"
#include "examples/xml.hpp"

using Catch::Matchers::ContainsSubstring;
using program::operator+;
using program::Place;
using program::Words;

TEST_CASE("the bytes that are held are those of the formulas") {
  const Place place;
  // two layers, each with four 12 x 12 matrices, two of 20 x 12 and one of 12 x 20, at rank 3: sums over them of
  const int matrices = 2 * 7, d = 12, e = matrices * d, k = 2 * (4 * 12 + 3 * 20), r = 3, entries = d * k;
  // ...in bytes; moments of one byte have two scales for every 64 columns here, both in each matrix and in its projection
  const int outputs = 2 * (5 * 12 + 2 * 20), sparse = 2 * (4 * (144 * 3 / 100) + 3 * (240 * 3 / 100));
  const int number = 4, scales = 2 * number * matrices, whole_scales = 2 * number * (2 * (4 * 3 + 2 * 5 + 3));
  const std::map<std::string, int> state{
      {"adamw", 2 * entries * number},
      {"adam8bit", 2 * entries + whole_scales},
      {"adam_bf16", 4 * entries},
      {"galore", r * (e + 2 * k) * number},
      {"golore", r * (e + 2 * k) * number},
      {"sara", r * (e + 2 * k) * number},
      {"galore_random", r * (e + 2 * k) * number},
      {"galore_coordinates", r * (matrices + 2 * k) * number},
      {"galore_8bit", r * e * number + 2 * r * k + scales},
      {"galore_adafactor", (r * e + r * matrices + k) * number},
      {"fira", (r * (e + 2 * k) + matrices) * number},
      {"fira_rmsprop", (r * (e + k) + matrices) * number},
      {"subtrack", (r * (e + 2 * k) + matrices) * number},
      {"dct_fira", (r * (matrices + 2 * k) + matrices) * number},
      {"apollo", (2 * r * k + matrices) * number},
      {"apollo_mini", (2 * k + matrices) * number},
      {"apollo_svd", (r * (e + 2 * k) + matrices) * number},
      {"dct_adamw", r * (matrices + 2 * k) * number},
      {"dct_adamw_feedback", (r * (matrices + 2 * k) + entries) * number},
      {"frugal", r * (e + 2 * k) * number},
      {"dct_frugal", r * (matrices + 2 * k) * number},
      {"muon", entries * number},
      {"trion", (entries + r * matrices) * number},
      {"dion", (entries + r * e) * number},
      {"dion2", (entries + r * matrices) * number},
      {"ldadam", (r * (e + 2 * k) + entries) * number},
      {"online_subspace", r * (3 * e + 2 * k) * number},
      {"flora", (r * k + e + k) * number},
      // two moments for every number trained; a twentieth of 12 or 20 columns is one
      {"low_rank", 2 * r * (e + k) * number},
      {"sltrain", 2 * (r * (e + k) + sparse) * number},
      {"lost", 2 * (r * (e + k) + outputs) * number},
      {"sst", 2 * (r * (e + k) + e) * number},
      {"maestro", 2 * d * (e + k) * number},
      {"relora", 2 * r * (e + k) * number}};
  // what is there in the place of the matrices, and how much of it is trained
  const std::map<std::string, std::pair<int, int>> replaced{
      {"low_rank", {r * (e + k) * number, r * (e + k) * number}},
      {"sltrain", {(r * (e + k) + sparse) * number + sparse * 2 + (outputs + matrices) * 4, (r * (e + k) + sparse) * number}},
      {"lost", {(r * (e + k) + outputs + matrices) * number, (r * (e + k) + outputs) * number}},
      {"sst", {(d * (e + k) + r * (e + k) + e + r * matrices) * number, (r * (e + k) + e) * number}},
      {"maestro", {d * (e + k) * number, d * (e + k) * number}},
      {"relora", {(entries + r * (e + k)) * number, r * (e + k) * number}}};
  // the rest is AdamW's: 256 x 12 twice and five norms of 12
  const int others = 2 * 256 * 12 + 5 * 12;
  std::string names;
  for (const auto& [name, bytes] : state) names += (names.empty() ? "" : ",") + name;
  const Place::Ended ended = place.run(place.small("out") + Words{"--steps", "1", "--method", names});
  INFO(ended.text);
  REQUIRE(ended.code == 0);
  const auto rows = program::columns(place / "out" / "memory.csv", {"method", "state", "formula", "weights", "gradients"});
  REQUIRE(rows.size() == 1 + state.size());
  std::size_t i = 1;
  for (const auto& [name, bytes] : state) {
    const auto [weights, gradients] = replaced.contains(name) ? replaced.at(name) : std::pair(entries * number, entries * number);
    const std::string expected = std::to_string(bytes + 2 * others * number);
    CHECK(rows[i++] == Words{name, expected, expected, std::to_string(weights + others * number), std::to_string(gradients + others * number)});
  }
}

TEST_CASE("curves and tables are whole") {
  const Place place;
  const Place::Ended ended = place.run(place.small("out") + Words{"--steps", "10", "--method", "adamw,dct_adamw"});
  REQUIRE(ended.code == 0);
  CHECK_THAT(ended.text, ContainsSubstring("bits/byte") && ContainsSubstring("share"));
  CHECK(program::columns(place / "out" / "curves.csv", {"method", "step"}) ==
        std::vector<Words>{{"method", "step"}, {"adamw", "4"}, {"adamw", "8"}, {"adamw", "10"},
                           {"dct_adamw", "4"}, {"dct_adamw", "8"}, {"dct_adamw", "10"}});
  for (const auto& row : program::columns(place / "out" / "curves.csv", {"training", "held_out"}))
    if (row[0] != "training")
      for (const std::string& cell : row) CHECK((std::stod(cell) > 0 && std::stod(cell) < 9));
  CHECK(xml::fault(program::text_of(place / "out" / "curves.svg")) == "");
  CHECK_THAT(place.run(place.small("out") + Words{"--plan", "--method", "galore"}).text, ContainsSubstring("layers.1.mlp.up.weight"));
}

TEST_CASE("a small study is bracketed or says that it is not, and goes on from its table") {
  const Place place;
  const Words task = place.small("whole") + Words{"--study", "--method", "adamw,galore", "--steps", "4", "--study-seeds", "2"};
  const Place::Ended whole = place.run(task);
  INFO(whole.text);
  REQUIRE(whole.code == 0);
  CHECK_THAT(whole.text, ContainsSubstring("best rate") && ContainsSubstring("told apart"));
  const Words exact{"method", "rate", "lr", "seed", "bits_per_byte", "steps", "state_bytes"};
  const auto rows = program::columns(place / "whole" / "study.csv", exact);
  CHECK(rows.size() > 1 + 4 + 3 + 2);  // both grids and a second seed each, at least
  CHECK(rows[1] == Words{"adamw", "0.001", "0.001", "0", rows[1][4], "4", rows[1][6]});
  for (const char* chart : {"study.svg", "study_rates.svg"})
    CHECK(xml::fault(program::text_of(place / "whole" / chart)) == "");

  // stopped in every run but the last ones, half a row at the end
  const Words pieces = place.small("pieces") + Words{"--study", "--method", "adamw,galore", "--steps", "4", "--study-seeds", "2"};
  Place::Ended ended = place.run(pieces + Words{"--stop-after", "10"});
  CHECK(ended.code == 130);
  CHECK(place.run(pieces).code == 1);  // not overwritten
  std::ofstream(place / "pieces" / "study.csv", std::ios::app) << "adamw,0.0";
  for (int i = 0; ended.code == 130; ++i) {
    ended = place.run({"--study", "--resume", "--out", (place / "pieces").string(), "--stop-after", "10"});
    REQUIRE(i < 60);
  }
  CHECK(ended.code == 0);
  CHECK(program::columns(place / "pieces" / "study.csv", exact) == rows);

  // a study that is over says the same again, and takes one more method
  const Words again{"--resume", "--out", (place / "whole").string()};
  const Place::Ended repeated = place.run(again);
  CHECK(repeated.text.substr(repeated.text.find("best rate")) == whole.text.substr(whole.text.find("best rate")));
  const Place::Ended extended = place.run(again + Words{"--study", "--method", "apollo_mini"});
  CHECK(extended.code == 0);
  for (const char* method : {"adamw", "galore", "apollo_mini"})
    CHECK_THAT(extended.text.substr(extended.text.find("best rate")), ContainsSubstring(method));
  CHECK(program::columns(place / "whole" / "study.csv", exact).size() > rows.size());
}

TEST_CASE("a run that diverges is reported and the others go on") {
  const Place place;
  const Place::Ended ended = place.run(place.small("out") + Words{"--steps", "6", "--method", "adamw,apollo", "--lr", "1e30"});
  INFO(ended.text);
  CHECK(ended.code == 0);
  CHECK_THAT(ended.text, ContainsSubstring("diverged") && ContainsSubstring("a lower --lr"));
  CHECK(program::columns(place / "out" / "results.csv", {"method", "bits_per_byte"}) ==
        std::vector<Words>{{"method", "bits_per_byte"}, {"adamw", "diverged"}, {"apollo", "diverged"}});
  CHECK(xml::fault(program::text_of(place / "out" / "curves.svg")) == "");
}

TEST_CASE("input that cannot be is refused with its reason") {
  const Place place;
  const auto refused = [&](const Words& words, int code, const std::string& why) {
    const Place::Ended ended = place.run(words);
    CHECK(ended.code == code);
    CHECK_THAT(ended.text, ContainsSubstring(why));
    CHECK(!program::fs::exists(place / "out"));
  };
  const Words small = place.small("out");
  refused({"--frobnicate"}, 2, "--frobnicate");
  refused({"--rank", "0"}, 2, "--rank: 0 is not a number >= 1");
  refused({"--steps", "-3"}, 2, "--steps");
  refused({"--lr", "nan"}, 2, "--lr");
  refused({"--method", "lion"}, 2, "no method 'lion'; there are adamw");
  refused({"--resume", "--fresh"}, 2, "--fresh");
  refused(small + Words{"--method", "galore,galore"}, 1, "twice");
  refused({"--method", "adamw", "--rank", "3", "--out", (place / "out").string()}, 1, "no rank to choose");
  refused({"--study", "--lr", "1", "--out", (place / "out").string()}, 1, "finds the rates itself");
  refused({"--corpus", (place / "gone").string(), "--out", (place / "out").string()}, 1, "gone");
  refused({"--heads", "3", "--out", (place / "out").string()}, 1, "even multiple of heads = 3");
  refused(small + Words{"--method", "galore", "--option", "beta9=1"}, 1, "galore has no option 'beta9'; it has");
  refused(small + Words{"--method", "galore", "--option", "transport=fly"}, 1, "transport keep|reset|rotate (keep)");
  refused(small + Words{"--method", "galore", "--option", "beta1=2"}, 1, "beta1");
  refused(small + Words{"--method", "galore", "--option", "lion.beta1=2"}, 1, "no method 'lion'");
  refused(small + Words{"--method", "galore", "--option", "rank=2"}, 1, "switch of its own");
}
#endif
