// The arithmetic of a study, and the charts on hostile input.
#include <cmath>
#include <limits>

#include "examples/pretrain/bracket.hpp"
#include "examples/pretrain/dot_plot.hpp"
#include "examples/pretrain/methods.hpp"
#include "examples/pretrain/panels.hpp"
#include "examples/pretrain/svg.hpp"
#include "examples/xml.hpp"
#include "support/catch.hpp"

namespace {

using pretrain::Tried;
constexpr double inf = std::numeric_limits<double>::infinity();

/// The places a search visits when `loss` is the truth.
template <class F>
std::vector<int> visited(const F& loss, int count, int most = 12) {
  Tried tried;
  std::vector<int> places;
  while (const auto place = pretrain::next_place(tried, count, most)) {
    REQUIRE(!tried.contains(*place));
    places.push_back(*place);
    tried[*place] = loss(*place);
  }
  return places;
}

}  // namespace

TEST_CASE("a grid is extended until the best rate has a worse one on both sides") {
  const auto bowl = [](int centre) { return [=](int place) { return double((place - centre) * (place - centre)); }; };
  CHECK(visited(bowl(1), 3) == std::vector{0, 1, 2});
  CHECK(visited(bowl(0), 3) == std::vector{0, 1, 2, -1});
  CHECK(visited(bowl(-2), 3) == std::vector{0, 1, 2, -1, -2, -3});
  CHECK(visited(bowl(4), 3) == std::vector{0, 1, 2, 3, 4, 5});
  // equal is not worse
  CHECK(visited([](int place) { return place >= 2 && place <= 4 ? 1.0 : 2.0; }, 3) == std::vector{0, 1, 2, 3, 4, 5});
  // a run that diverged is the worst, and if all did only lower rates can help
  CHECK(visited([](int place) { return place >= 1 ? inf : -double(place == 0); }, 3) == std::vector{0, 1, 2, -1});
  CHECK(visited([](int place) { return place >= -1 ? inf : place == -2 ? 1.0 : 2.0; }, 2) == std::vector{0, 1, -1, -2, -3});
}

TEST_CASE("a search that finds no bracket ends, and says so") {
  const auto falling = visited([](int place) { return -double(place); }, 3, 6);
  CHECK(falling == std::vector{0, 1, 2, 3, 4, 5});
  CHECK(visited([](int) { return inf; }, 2, 5).size() == 5);
  CHECK(!pretrain::bracketed({{0, 3.0}, {1, 2.0}, {2, 1.0}}));
  CHECK(!pretrain::bracketed({{0, inf}, {1, inf}}));
  CHECK(!pretrain::bracketed({}));
  CHECK(pretrain::bracketed({{0, 3.0}, {1, 2.0}, {2, inf}}));
  CHECK(!pretrain::best_place({{0, inf}}));
}

TEST_CASE("rates of a grid are short decimals at equal ratios") {
  const pretrain::Grid grid{1e-3, 2, 4};
  const double expected[] = {5e-4, 7.1e-4, 1e-3, 1.4e-3, 2e-3, 2.8e-3, 4e-3, 5.7e-3, 8e-3};
  for (int i = 0; i < 9; ++i) CHECK(grid.rate(i - 2) == expected[i]);
  for (const pretrain::Method& m : pretrain::all_methods()) {  // the recorded rates are on the grids
    INFO(m.name);
    bool found = false;
    for (int i = -6; i < 10; ++i) found = found || m.grid.rate(i) == m.rate;
    CHECK(found);
  }
}

TEST_CASE("means, deviations and the distance that counts") {
  CHECK(pretrain::mean({1, 2, 6}) == 3);
  CHECK(pretrain::deviation({1, 2, 6}) == Catch::Approx(std::sqrt(7.0)));
  CHECK(pretrain::deviation({1}) == 0);
  CHECK(pretrain::distance(3, 0.01).one_pair == Catch::Approx(0.024));
  CHECK(pretrain::distance(3, 0.01).many_pairs == Catch::Approx(0.042));
  CHECK(pretrain::distance(3, 0.028).many_pairs == Catch::Approx(0.084));  // noisier than it was calibrated
  CHECK(pretrain::distance(12, 0.014).one_pair == Catch::Approx(0.012));
}

TEST_CASE("a rate means the same whatever the scale, where the two are one number") {
  pretrain::Settings settings;
  const auto lr = [&](const char* name) { return pretrain::spec_of(pretrain::method(name), settings).lr; };
  const double galore = lr("galore"), apollo = lr("apollo"), fira = lr("fira");
  settings.scale = 4;
  CHECK(lr("galore") * 4 == Catch::Approx(galore * 0.25));
  CHECK(lr("apollo") * 2 == Catch::Approx(apollo));
  CHECK(lr("fira") == fira);
  settings.lr = 0.5;
  CHECK(lr("galore") == 0.5);
  CHECK(pretrain::spec_of(pretrain::method("adamw"), settings).clip == 1);
  CHECK(pretrain::spec_of(pretrain::method("adamw_unclipped"), settings).clip == 0);
}

TEST_CASE("charts are XML whatever they are given") {
  using namespace pretrain;
  for (const auto scale : {Axis::Scale::Linear, Axis::Scale::Log}) {
    Chart chart("a < b & c", {"rate", scale}, {"loss", Axis::Scale::Linear, 3});
    CHECK(xml::fault(chart.svg()) == "");
    chart.add({"nothing", {}});
    chart.add({"<one>", {{1e-3, 2.5}}, Series::Mark::Dots});
    chart.add({"gaps", {{1e-3, 2, 0.1}, {2e-3, inf}, {4e-3, std::nan("")}, {8e-3, 2.2}}, Series::Mark::Dots});
    for (int i = 0; i < 12; ++i) chart.add({"more", {{1e-3, 2.0 + i}, {3e-3, 2.0}}});
    CHECK(xml::fault(chart.svg()) == "");
  }
  const Axis rate{"a < b", Axis::Scale::Log}, loss{"c & d", Axis::Scale::Linear, 3};
  CHECK(xml::fault(panels("t", rate, loss, {})) == "");
  CHECK(xml::fault(panels("<t>", rate, loss, {{"nothing", {}}, {"<one>", {{1e-3, 2.5}}}, {"worst", {{1e-3, inf}, {2e-3, inf}}},
                                              {"cut", {{1e-3, 2}, {2e-3, 7}, {4e-3, std::nan("")}}}})) == "");
  CHECK(xml::fault(dot_plot("t", "x", {})) == "");
  CHECK(xml::fault(dot_plot("a & b", "x", {{"<m>", 2, 0.1, "n"}, {"worst", inf, 0, ""}, {"same", 2, 0, ""}})) == "");
}

TEST_CASE("the check of the charts can fail") {
  CHECK(xml::fault("<a><b x='1'/></a>\n") == "");
  for (const char* bad : {"", "<a>", "<a></b>", "<a x='1' x='2'/>", "<a x=1/>", "<a>&</a>", "<a x='nan'/>", "<a/><b/>", "<a/>text", "<a x='1/>"})
    CHECK(xml::fault(bad) != "");
}
