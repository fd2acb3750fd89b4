// Warm-up, cosine and clipping: their values at the ends, between and beyond.
#include <cmath>
#include <limits>

#include <support/catch.hpp>

#include <lowrank/optimizer/schedule.hpp>

using lowrank::clip, lowrank::cosine, lowrank::warmup;

TEST_CASE("Warm-up rises in equal parts and its first step moves", "[schedule]") {
  CHECK(warmup(0, 4) == 0.25);
  CHECK(warmup(1, 4) == 0.5);
  CHECK(warmup(3, 4) == 1);
  CHECK(warmup(1000, 4) == 1);
  CHECK(warmup(0, 1) == 1);
  CHECK(warmup(0, 0) == 1);
}

TEST_CASE("Cosine falls from 1 to its final value and stays", "[schedule]") {
  CHECK(cosine(0, 100) == 1);
  CHECK(cosine(-5, 100) == 1);
  CHECK(std::abs(cosine(50, 100) - 0.5) < 1e-15);
  CHECK(cosine(100, 100) == 0);
  CHECK(cosine(101, 100, 0.1) == 0.1);
  CHECK(std::abs(cosine(25, 100, 0.1) - (0.1 + 0.9 * 0.5 * (1 + std::sqrt(0.5)))) < 1e-15);
  for (int t = 1; t <= 100; ++t) CHECK(cosine(t, 100, 0.1) < cosine(t - 1, 100, 0.1));
  CHECK(cosine(0, 0) == 0);  // nothing to run: over before it begins
}

TEST_CASE("Clipping scales down, never up, and leaves what is not finite to the step", "[schedule]") {
  CHECK(clip(2, 1) == 0.5);
  CHECK(clip(0.5, 1) == 1);
  CHECK(clip(1, 1) == 1);
  CHECK(clip(0, 1) == 1);
  CHECK(clip(std::numeric_limits<double>::quiet_NaN(), 1) == 1);
  CHECK(clip(std::numeric_limits<double>::infinity(), 1) == 1);
  CHECK(clip(1e300, 1) * 1e300 == Catch::Approx(1));
}
