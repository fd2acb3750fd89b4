// SiLU and its derivative against the C library in a wider scalar, every width of register, lengths with a tail.
#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"

#include <lowrank/linalg/sigmoid.hpp>

namespace linalg = lowrank::linalg;
namespace kernel = lowrank::kernel;
using lowrank::Index;

namespace {

template <class S, class K>
void compare() {
  const double limit = sizeof(S) == 4 ? 87 : 708, eps = double(std::numeric_limits<S>::epsilon());
  std::vector<S> x;
  for (int i = -4001; i <= 4001; ++i) x.push_back(S(limit * double(i) / 4001)), x.push_back(S(8.0 * double(i) / 4001));
  const Index n = Index(x.size());
  std::vector<S> z(x.size()), d(x.size(), S(0.75));
  linalg::silu<K>(n, x.data(), z.data());
  linalg::silu_backward<K>(n, x.data(), d.data());
  double worst = 0, slope = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double v = x[i], s = 1 / (1 + std::exp(-v)), expected = v * s, gradient = 0.75L * s * (1 + v * (1 - s));
    if (v != 0) worst = std::max(worst, double(std::abs((z[i] - expected) / expected)));
    slope = std::max(slope, double(std::abs(d[i] - gradient) / std::max(1.0L, std::abs(v))));
  }
  INFO(K::name << ", " << sizeof(S) << " bytes");
  CHECK(worst < 3 * eps);
  CHECK(slope < 3 * eps);
  const S far[] = {S(1e4), S(-1e4), std::numeric_limits<S>::quiet_NaN()};
  S out[3];
  linalg::silu<K>(3, far, out);
  CHECK(out[0] == S(1e4));
  CHECK(std::abs(out[1]) < S(1e-30));
  CHECK(std::isnan(out[2]));
}

}  // namespace

TEST_CASE("SiLU and its derivative", "[linalg]") {
  compare<float, kernel::Portable>();
  compare<double, kernel::Portable>();
  compare<float, kernel::Best>();
  compare<double, kernel::Best>();
}
