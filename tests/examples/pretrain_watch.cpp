// Watching a run: the numbers on gradients whose subspaces are known, and the files of a watched run, which trains to the
// bits of one that nobody watches.
#include <cmath>

#include "examples/pretrain/basis.hpp"
#include "examples/pretrain/heat_map.hpp"
#include "examples/xml.hpp"
#include "support/catch.hpp"

namespace {

using Catch::Approx;
using pretrain::Basis;
using RowMajor = Eigen::Matrix<float, -1, -1, Eigen::RowMajor>;

Basis basis(const RowMajor& g, Eigen::Index rank, bool transposed = false) {
  return {"w", g.rows(), g.cols(), g.data(), transposed, rank, 0, 0, true, nullptr, nullptr};
}

}  // namespace

TEST_CASE("angles between subspaces are the angle of a plane turned by it, whatever vectors span it") {
  const RowMajor g = RowMajor::Zero(5, 3);
  Eigen::MatrixXf P = Eigen::MatrixXf::Zero(5, 2), Q = P;
  const double angle = 0.7;
  P(0, 0) = P(1, 1) = 1;
  Q(0, 0) = float(std::cos(angle)), Q(4, 0) = float(std::sin(angle)), Q(1, 1) = 1;
  Q = (Q * (Eigen::Matrix2f() << 2, 1, -1, 3).finished()).eval();  // the same plane
  Basis before = basis(g, 2), now = before;
  before.vectors = P.data(), now.vectors = Q.data();
  const auto cosines = pretrain::squared_cosines(pretrain::Snapshot(before), now);
  REQUIRE(cosines.size() == 2);
  CHECK(cosines[0] == Approx(1));
  CHECK(pretrain::degrees(cosines[1]) == Approx(angle * 180 / std::numbers::pi).epsilon(1e-5));
}

TEST_CASE("of a basis of indices the cosines say how many stayed") {
  const RowMajor g = RowMajor::Zero(6, 4);
  const std::int32_t old[] = {0, 2, 5}, fresh[] = {1, 2, 5};
  Basis before = basis(g, 3), now = before;
  before.indices = old, now.indices = fresh;
  CHECK(pretrain::squared_cosines(pretrain::Snapshot(before), now) == std::vector<double>{1, 1, 0});
}

TEST_CASE("energies of other bases, on gradients that each of them holds") {
  const Eigen::Index d = 8, k = 5;
  const auto cosine = [&](Eigen::Index i, Eigen::Index j) {
    return float(std::cos(std::numbers::pi * double(2 * i + 1) * 3 / double(2 * d)) * double(j + 1));
  };
  const RowMajor wave = RowMajor::NullaryExpr(d, k, cosine);
  const auto of_wave = pretrain::energies(basis(wave, 1));
  CHECK(of_wave.svd == Approx(1));  // rank one
  CHECK(of_wave.dct == Approx(1));  // along one cosine
  CHECK(of_wave.rows < 0.5);
  CHECK(of_wave.random == 1.0 / double(d));
  RowMajor row = RowMajor::Zero(d, k);
  row.row(2).setConstant(3), row.row(6).setConstant(1);
  const auto of_row = pretrain::energies(basis(row, 1));
  CHECK(of_row.rows == Approx(0.9));
  CHECK(of_row.svd == Approx(1));
  // seen from the other side
  const RowMajor turned = wave.transpose();
  CHECK(pretrain::energies(basis(turned, 1, true)).dct == Approx(1));
  const RowMajor zero = RowMajor::Zero(d, k);
  CHECK(pretrain::energies(basis(zero, 2)).svd == 0);
}

TEST_CASE("a heat map is XML whatever it is given") {
  CHECK(xml::fault(pretrain::heat_map("a & b", "key", 0, {})) == "");
  CHECK(xml::fault(pretrain::heat_map("t", "k", 9, {{"<one>", {0, 4, 8}, {0, 0.5, 1}, {4}}, {"none", {}, {}, {}}})) == "");
}

#if defined(PRETRAIN_PROGRAM)
#include "examples/program.hpp"

using program::operator+;
using program::Place;
using program::Words;

TEST_CASE("a watched run leaves a table and a map, and the bits of one that is not watched") {
  const Place place;
  const Words methods{"galore", "dct_adamw", "ldadam", "trion", "online_subspace"};
  const Words task{"--steps", "9", "--refresh-every", "3", "--method", "galore,dct_adamw,ldadam,trion,online_subspace,adamw"};
  REQUIRE(place.run(place.small("plain") + task).code == 0);
  const Place::Ended ended = place.run(place.small("watched") + task + Words{"--watch", "--watch-every", "2"});
  INFO(ended.text);
  REQUIRE(ended.code == 0);
  CHECK(!program::fs::exists(place / "watched" / "adamw.watch.csv"));  // nothing is projected
  for (const std::string& method : methods) {
    INFO(method);
    CHECK(program::text_of(place / "watched" / (method + ".safetensors")) == program::text_of(place / "plain" / (method + ".safetensors")));
    CHECK(xml::fault(program::text_of(place / "watched" / (method + ".watch.svg"))) == "");
    const auto rows = program::columns(place / "watched" / (method + ".watch.csv"),
                                       {"step", "refreshed", "rank", "captured", "kept", "svd", "dct", "rows", "random", "largest_angle"});
    std::string steps;
    for (std::size_t i = 1; i < rows.size(); ++i) {
      if (i == 1 || rows[i][0] != rows[i - 1][0]) steps += rows[i][0] + " ";
      CHECK(rows[i][2] == "3");
      for (const std::size_t column : {3u, 5u, 6u, 7u, 8u}) CHECK((std::stod(rows[i][column]) >= 0 && std::stod(rows[i][column]) <= 1));
      const double svd = std::stod(rows[i][5]);
      CHECK(svd >= std::stod(rows[i][6]) - 1e-3);  // the optimum
      CHECK(svd >= std::stod(rows[i][7]) - 1e-3);
      CHECK(std::stod(rows[i][8]) == 0.25);
      CHECK((rows[i][4].empty() || (std::stod(rows[i][4]) >= 0 && std::stod(rows[i][4]) <= 1)));
      if (method == "galore") {
        CHECK(std::stod(rows[i][3]) <= svd + 1e-3);
        CHECK(rows[i][4].empty() == !(rows[i][0] == "4" || rows[i][0] == "7"));  // a new basis had a predecessor
        CHECK(rows[i][9].empty() == rows[i][4].empty());
      }
    }
    // every second step from the first, the last, and where a basis that lasts was renewed
    const bool lasts = method == "galore" || method == "dct_adamw";
    CHECK(steps == (lasts ? (method == "galore" ? "1 3 4 5 7 9 " : "1 3 5 6 7 9 ") : "1 3 5 7 9 "));
  }
  // cut into pieces: the same table
  Place::Ended piece = place.run(place.small("pieces") + task + Words{"--watch", "--watch-every", "2", "--stop-after", "2"});
  for (int i = 0; piece.code == 130 && i < 60; ++i)
    piece = place.run({"--resume", "--out", (place / "pieces").string(), "--stop-after", "2"});
  REQUIRE(piece.code == 0);
  for (const std::string& method : methods)
    for (const char* end : {".watch.csv", ".watch.svg"}) {
      INFO(method << end);
      CHECK(program::text_of(place / "pieces" / (method + end)) == program::text_of(place / "watched" / (method + end)));
    }
}

TEST_CASE("what has no basis cannot be watched") {
  const Place place;
  CHECK(place.run({"--study", "--watch", "--out", (place / "out").string()}).code == 1);
  const Words words{"--corpus", (place / "text").string(), "--out", (place / "out").string(), "--method", "apollo_mini", "--watch"};
  const Place::Ended drawn = place.run(words);
  CHECK(drawn.code == 1);
  CHECK_THAT(drawn.text, Catch::Matchers::ContainsSubstring("keeps no basis"));
}
#endif
