// The device's building blocks against the CPU's, on fresh random inputs.
#include <cuda/both.hpp>

#include <Eigen/SVD>

using namespace support;

TEST_CASE("16-bit scalars: every value widens as Eigen's, every rounding is Eigen's", "[cuda]") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float b = lc::widen(lc::Bf16{std::uint16_t(bits)}), h = lc::widen(lc::Half{std::uint16_t(bits)});
    const float eb = float(Eigen::numext::bit_cast<Eigen::bfloat16>(std::uint16_t(bits))), eh = float(Eigen::numext::bit_cast<Eigen::half>(std::uint16_t(bits)));
    if (std::isnan(eb)) CHECK(std::isnan(b));
    else if (std::bit_cast<std::uint32_t>(b) != std::bit_cast<std::uint32_t>(eb)) FAIL(bits);
    if (std::isnan(eh)) CHECK(std::isnan(h));
    else if (std::bit_cast<std::uint32_t>(h) != std::bit_cast<std::uint32_t>(eh)) FAIL(bits);
  }
  for (std::uint64_t i = 0; i < 200000; ++i) {
    const std::uint32_t word = lc::random_block(1, 2, i).word[0];
    const float x = std::bit_cast<float>(i % 2 == 0 ? word : (word & 0x8fffffff) + 0x30000000);  // any float; and those that half has
    if (std::isnan(x)) continue;
    if (Eigen::numext::bit_cast<std::uint16_t>(Eigen::bfloat16(x)) != lc::narrow<lc::Bf16>(x).bits) FAIL(x);
    if (Eigen::numext::bit_cast<std::uint16_t>(Eigen::half(x)) != lc::narrow<lc::Half>(x).bits) FAIL(x);
    const float u = lc::unit(lc::random_block(1, 3, i).word[0]);
    if (!lc::is_finite(double(x)) || std::abs(x) > 60000) continue;
    if (Eigen::numext::bit_cast<std::uint16_t>(lowrank::linalg::detail::round_stochastically<Eigen::bfloat16>(x, u)) != lc::narrow<lc::Bf16>(x, u).bits) FAIL(x);
    if (Eigen::numext::bit_cast<std::uint16_t>(lowrank::linalg::detail::round_stochastically<Eigen::half>(x, u)) != lc::narrow<lc::Half>(x, u).bits) FAIL(x);
  }
  CHECK(std::isnan(lc::widen(lc::narrow<lc::Half>(std::nanf("")))));
  CHECK(std::isnan(lc::widen(lc::narrow<lc::Bf16>(-std::nanf("")))));
}

TEST_CASE("Random numbers are the CPU's", "[cuda]") {
  for (std::uint64_t i = 0; i < 1000; ++i) CHECK(lc::random_block(i * 7919, i, i << 33).word[i % 4] == lowrank::uniform_bits(i * 7919, i, 4 * (i << 33) + i % 4));
  HostDevice machine;
  for (const lc::Index n : {1, 3, 4, 1023, 1025, 5000}) {
    std::vector<float> a(std::size_t(n), 0), b = a;
    std::vector<double> c(std::size_t(n), 0), d = c;
    lowrank::fill_normal(a.data(), n, 5, 8, 0), lowrank::fill_normal(c.data(), n, 5, 8, 0);
    const std::uint64_t three = 3;
    lc::launch(machine, lc::FillNormal<float>{b.data(), n, 5, 8});
    lc::launch(machine, lc::FillNormal<double>{d.data(), n, 5, 5, 1, &three});
    CHECK(a == b);
    for (std::size_t i = 0; i < c.size(); ++i) CHECK(std::abs(c[i] - d[i]) <= 1e-15 * std::abs(c[i]));
  }
}

TEST_CASE("Sums of squares have one order, whatever the storage and the schedule", "[cuda]") {
  for (const auto& [m, n] : {std::pair<lc::Index, lc::Index>{1, 1}, {33, 70}, {2500, 5}, {7, 300}}) {
    const Eigen::MatrixXd x = noise(m, n, 1);
    std::vector<std::vector<double>> results;
    for (const bool by_rows : {false, true})
      for (const Schedule schedule : {Schedule::Forward, Schedule::Scattered}) {
        HostDevice machine(schedule);
        Padded<float> a(m, n, by_rows, 3);
        a.set(x);
        lc::Arena count;
        (void)lc::Squares(count, m, n);
        lc::Arena arena(machine.workspace(count.used()));
        const lc::Squares squares(arena, m, n);
        const auto v = a.device();
        squares.operator()<float, float>(machine, {v.data, m, n, v.row_stride, v.col_stride});
        results.emplace_back(squares.column, squares.column + n);
        for (lc::Index j = 0; j < n; ++j) CHECK(squares.column[j] == Catch::Approx(x.cast<float>().cast<double>().col(j).squaredNorm()));
      }
    for (const auto& r : results) CHECK(r == results[0]);
  }
}

TEST_CASE("The polar factor is the SVD's", "[cuda]") {
  for (const auto& [r, k] : {std::pair<lc::Index, lc::Index>{8, 30}, {30, 8}, {12, 12}, {1, 5}})
    for (const double size : {1.0, 1e12}) {
      const Eigen::MatrixXd X = size * noise(r, k, 3);
      HostDevice machine;
      lc::Arena count;
      (void)lc::Polar<double>(count, r, k);
      lc::Arena arena(machine.workspace(count.used()));
      const lc::Polar<double> polar(arena, r, k);
      lc::Control<double> control;
      Eigen::MatrixXd Y = X;
      polar(machine, Y.data(), lowrank::Polynomial::Tuned, &control);
      const Eigen::JacobiSVD<Eigen::MatrixXd> svd(X, Eigen::ComputeThinU | Eigen::ComputeThinV);
      const Eigen::VectorXd s = Eigen::JacobiSVD<Eigen::MatrixXd>(Y).singularValues();
      CHECK((s.array() - 1).abs().maxCoeff() < 0.1);
      CHECK((Y - svd.matrixU() * svd.matrixV().transpose()).norm() < 0.1 * std::sqrt(double(std::min(r, k))));
    }
}
