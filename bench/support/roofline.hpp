// What the benchmarks share: the roof of this machine, measured in the run that is compared with it, and rows that say
// how far below it they stay.
//
// A roof per number of threads: fused multiply-adds in registers of the library's kernel set, reading a long array, and
// reading and writing it in place. A piece of work that needs `flops` operations, reads `read` bytes once and updates
// `updated` bytes in place (8 per float) takes at least max(flops / roof, read / roof + updated / roof), and where part of it
// cannot begin before the rest is known, the sum of both; its "roof_%" is that floor in percent of the time it took. The
// arrays of the roof are beyond every cache: matrices that are not can come out above 100.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <benchmark/benchmark.h>
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
#include <cblas.h>
#endif

#include <lowrank/core/buffer.hpp>
#include <lowrank/core/parallel.hpp>
#include <lowrank/core/rng.hpp>
#include <lowrank/kernel/kernel.hpp>
#include <lowrank/version.hpp>

namespace bench {

using lowrank::Index;
using K = lowrank::kernel::Best;

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// -- threads ----------------------------------------------------------------------------------------------------------

/// One thread, and two where the machine and the environment give two.
inline const std::vector<int>& thread_counts() {
  static const std::vector<int> counts = lowrank::detail::available_threads() > 1 ? std::vector{1, 2} : std::vector{1};
  return counts;
}

/// The same number for the library, Eigen and OpenBLAS.
inline void use_threads(int n) {
#if defined(_OPENMP)
  omp_set_num_threads(n);
#endif
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
  openblas_set_num_threads(n);
#endif
  (void)n;
}

// -- the roof ---------------------------------------------------------------------------------------------------------

struct Sweep {
  double flops = 0, read = 0, updated = 0;
};
struct Work {
  double flops = 0, read = 0, updated = 0;
  Sweep then = {};  // what cannot begin before all of the above
};

struct Roof {
  double flops = 0, read = 0, updated = 0;  // per second

  double seconds(const Sweep& s) const { return std::max(s.flops / flops, s.read / read + s.updated / updated); }
  double seconds(const Work& w) const { return seconds(Sweep{w.flops, w.read, w.updated}) + seconds(w.then); }
};

namespace detail {

/// The least time of f in about 0.1 s.
template <class F>
double best_time(const F& f) {
  f();
  double best = 1e9;
  const auto begin = std::chrono::steady_clock::now();
  do {
    const auto start = std::chrono::steady_clock::now();
    f();
    best = std::min(best, seconds_since(start));
  } while (seconds_since(begin) < 0.1);
  return best;
}

using V = lowrank::kernel::Vec<float, int(K::lanes<float>) * 4>;

/// 12 independent chains: two units of up to 5 cycles need 10, and 16 registers have room for no more.
inline V multiply_add_chains(Index length) {
  V x[12];
  for (int i = 0; i < 12; ++i) x[i] = V::all(float(i));
  volatile float input = 0.5f;
  const V a = V::all(input), b = V::all(input);
  for (Index n = 0; n < length; ++n)
    for (V& chain : x) chain = fma(chain, a, b);
  for (int i = 1; i < 12; ++i) x[0] = x[0] + x[i];
  return x[0];
}

#if defined(LOWRANK_BF16)
/// The same of pairs of bf16 numbers, by vdpbf16ps.
inline V bf16_product_chains(Index length) {
  V x[12];
  for (int i = 0; i < 12; ++i) x[i] = V::all(float(i));
  volatile std::uint32_t input = 0x3e803e80;
  const auto a = lowrank::kernel::Vec<lowrank::kernel::Bf16Pair, 64>::all(input);
  for (Index n = 0; n < length; ++n)
    for (V& chain : x) chain = lowrank::kernel::DotInstruction::dot(a, a, chain);
  for (int i = 1; i < 12; ++i) x[0] = x[0] + x[i];
  return x[0];
}
#endif

inline V sum_of(const float* p, Index n) {
  V x[8];
  for (V& sum : x) sum = V::zero();
  for (Index i = 0; i + 8 * V::lanes <= n; i += 8 * V::lanes)
    for (int u = 0; u < 8; ++u) x[u] = x[u] + V::load(p + i + u * V::lanes);
  for (int u = 1; u < 8; ++u) x[0] = x[0] + x[u];
  return x[0];
}

/// Beyond every cache: 128 pieces of 1 MiB.
inline lowrank::Buffer<float>& long_array() {
  static lowrank::Buffer<float> memory(1 << 18, 128);
  return memory;
}
template <class F>
void for_pieces(int threads, const F& f) {
  lowrank::Buffer<float>& memory = long_array();
  lowrank::detail::for_each(memory.cols(), threads, [&](Index i, int) { f(memory.rows(), memory.column(i)); });
}

/// Something to time, and the work it does.
struct Pass {
  Work work;
  std::function<void()> run;
};

inline Pass multiply_adds(int threads) {
  constexpr Index length = 1 << 18, pieces = 16;
  return {{double(pieces * length * 12 * 2 * V::lanes), 0, 0}, [threads] {
            lowrank::detail::for_each(pieces, threads, [](Index, int) { benchmark::DoNotOptimize(multiply_add_chains(length)); });
          }};
}
#if defined(LOWRANK_BF16)
inline Pass bf16_products(int threads) {
  constexpr Index length = 1 << 18, pieces = 16;
  return {{double(pieces * length * 12 * 4 * V::lanes), 0, 0}, [threads] {
            lowrank::detail::for_each(pieces, threads, [](Index, int) { benchmark::DoNotOptimize(bf16_product_chains(length)); });
          }};
}
#endif
inline Pass reading(int threads) {
  return {{0, double(long_array().bytes()), 0}, [threads] {
            for_pieces(threads, [](Index n, const float* p) { benchmark::DoNotOptimize(sum_of(p, n)); });
          }};
}
inline Pass updating(int threads) {
  return {{0, 0, 2 * double(long_array().bytes())}, [threads] {
            for_pieces(threads, [](Index n, float* p) { K::combine(n, 0.5, p, 0.0, p, p); });
          }};
}

inline Roof measure_roof(int threads) {
  use_threads(threads);
  const Pass flops = multiply_adds(threads), read = reading(threads), updated = updating(threads);
  best_time(flops.run);  // on a busy machine a new thread needs a while to get a core of its own
  return {flops.work.flops / best_time(flops.run), read.work.read / best_time(read.run),
          updated.work.updated / best_time(updated.run)};
}

}  // namespace detail

/// Measured at the first call for that number of threads.
inline const Roof& roof(int threads) {
  static std::map<int, Roof> roofs;
  const auto found = roofs.find(threads);
  return found != roofs.end() ? found->second : roofs.emplace(threads, detail::measure_roof(threads)).first->second;
}

// -- rows -------------------------------------------------------------------------------------------------------------

namespace detail {

/// With the flag --work a row also tells its work, for report.cpp to hold against the roof of many runs.
inline bool& tell_work() {
  static bool tell = false;
  return tell;
}

}  // namespace detail

/// What a row runs, the least work it stands for, and what else it has to say.
struct Case {
  std::function<void()> run;
  Work work = {};
  std::map<std::string, double> counters = {};
  std::string error = {};  // not empty: what is wrong with the result, instead of a time
};

/// A row is called <problem>/<who>/threads:<n>: rows of one problem are peers.
inline std::string problem_of(const std::string& name) { return name.substr(0, name.rfind('/', name.rfind('/') - 1)); }

namespace detail {

/// The Cases of the problem whose turn it is, by the names of their rows.
inline std::map<std::string, Case>& kept() {
  static std::map<std::string, Case> cases;
  return cases;
}

}  // namespace detail

/// Adds a row. `prepare` gives its Case once the number of threads is set; the Case, warmed up by one run, is kept until
/// another problem's turn, since rows are called several times and peers may take turns (random interleaving).
template <class Prepare>
benchmark::internal::Benchmark* add(const std::string& name, int threads, Prepare prepare) {
  const std::string full = name + "/threads:" + std::to_string(threads);
  const auto body = [full, threads, prepare](benchmark::State& state) {
    std::map<std::string, Case>& kept = detail::kept();
    use_threads(threads);
    if (!kept.empty() && problem_of(kept.begin()->first) != problem_of(full)) kept.clear();  // its memory first
    auto found = kept.find(full);
    if (found == kept.end()) {
      found = kept.emplace(full, prepare()).first;
      if (found->second.error.empty()) found->second.run();
    }
    const Case& row = found->second;
    if (!row.error.empty()) return state.SkipWithError(row.error.c_str());
    const auto begin = std::chrono::steady_clock::now();
    for (auto _ : state) row.run();
    const double seconds = seconds_since(begin) / double(state.iterations());
    const Work& w = row.work;
    const double flops = w.flops + w.then.flops, bytes = w.read + w.updated + w.then.read + w.then.updated;
    if (flops > 0) state.counters["GFLOP/s"] = 1e-9 * flops / seconds;
    if (bytes > 0) state.counters["GB/s"] = 1e-9 * bytes / seconds;
    if (flops + bytes > 0) state.counters["roof_%"] = 100 * roof(threads).seconds(w) / seconds;
    if (detail::tell_work())
      for (const auto& [label, value] : {std::pair{"flops", w.flops}, {"read", w.read}, {"updated", w.updated}, {"then_flops", w.then.flops},
                                         {"then_read", w.then.read}, {"then_updated", w.then.updated}})
        state.counters[label] = value;
    for (const auto& [label, value] : row.counters) state.counters[label] = value;
  };
  return benchmark::RegisterBenchmark(full.c_str(), body)->UseRealTime()->Unit(benchmark::kMillisecond);
}

inline std::string shape(Index rows, Index cols) { return std::to_string(rows) + "x" + std::to_string(cols); }

/// "galore_r128"
inline std::string with_rank(const char* what, Index r) { return std::string(what) + "_r" + std::to_string(r); }

// -- numbers ----------------------------------------------------------------------------------------------------------

template <int Order = Eigen::ColMajor>
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Order>;

/// Independent N(0, 1) entries.
template <int Order = Eigen::ColMajor>
Matrix<Order> random_matrix(Index rows, Index cols, std::uint64_t seed) {
  Matrix<Order> x(rows, cols);
  lowrank::fill_normal(x.data(), x.size(), seed, 0, 0);
  return x;
}

/// ||a - b|| / ||b||
template <class A, class B>
double difference(const A& a, const B& b) {
  return double((a - b).norm()) / double(b.norm());
}

// -- main -------------------------------------------------------------------------------------------------------------

namespace detail {

inline std::string cpu() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

inline std::string compiler() {
#if defined(__clang__)
  return std::string("clang ") + __clang_version__;
#else
  return std::string("g++ ") + __VERSION__;
#endif
}

inline std::string peers() {
  std::string with = "Eigen " + std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                     std::to_string(EIGEN_MINOR_VERSION), without;
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
  with += std::string(", ") + openblas_get_config() + ", its kernels " + openblas_get_corename();
#elif !defined(LOWRANK_BENCH_HAS_BLIS) && !defined(LOWRANK_BENCH_HAS_ONEDNN)  // those stand in a program of their own
  without += " OpenBLAS with LAPACKE";
#endif
#if defined(LOWRANK_BENCH_HAS_FFTW)
  with += ", FFTW 3";
#elif !defined(LOWRANK_BENCH_HAS_BLIS) && !defined(LOWRANK_BENCH_HAS_ONEDNN)
  without += std::string(without.empty() ? "" : ",") + " FFTW";
#endif
  return with + (without.empty() ? "" : "; missing:" + without);
}

inline std::string roof_text(int threads) {
  const Roof& r = roof(threads);
  char text[160];
  std::snprintf(text, sizeof text, "%d thread%s %.0f GFLOP/s, read %.1f GB/s, update in place %.1f GB/s", threads,
                threads == 1 ? "" : "s", 1e-9 * r.flops, 1e-9 * r.read, 1e-9 * r.updated);
  return text;
}

/// "threads flops read updated; ...", per second, as the report reads it.
inline std::string roof_numbers() {
  std::string all;
  for (const int threads : thread_counts()) {
    const Roof& r = roof(threads);
    char text[96];
    std::snprintf(text, sizeof text, "%s%d %.6g %.6g %.6g", all.empty() ? "" : "; ", threads, r.flops, r.read, r.updated);
    all += text;
  }
  return all;
}

}  // namespace detail

/// Prints what was measured on what, then runs the rows that `rows()` adds. A flag --large is passed on to it.
template <class Rows>
int run(int argc, char** argv, const Rows& rows) {
  // short by default, so that a program ends within two minutes; flags that follow overrule it
  std::vector<std::string> arguments{argv[0], "--benchmark_min_time=0.1"};
  bool large = false, list = false;
  for (int i = 1; i < argc; ++i) {
    list = list || std::string(argv[i]).rfind("--benchmark_list_tests", 0) == 0;
    if (std::string(argv[i]) == "--large") large = true;
    else if (std::string(argv[i]) == "--work") detail::tell_work() = true;
    else arguments.emplace_back(argv[i]);
  }
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  int count = int(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 1;
  if (list) return rows(large), benchmark::RunSpecifiedBenchmarks(), 0;

  std::string line;
  for (const int threads : thread_counts()) line += (threads == 1 ? "" : "; ") + detail::roof_text(threads);
  std::fprintf(stderr, "lowrank %d.%d.%d, kernels %s, %s, %d threads, %s; peers: %s\nroof: %s\n", LOWRANK_VERSION_MAJOR,
               LOWRANK_VERSION_MINOR, LOWRANK_VERSION_PATCH, K::name, detail::compiler().c_str(),
               thread_counts().back(), detail::cpu().c_str(), detail::peers().c_str(), line.c_str());
  benchmark::AddCustomContext("kernels", K::name);
  benchmark::AddCustomContext("cpu", detail::cpu());
  benchmark::AddCustomContext("compiler", detail::compiler());
#if defined(LOWRANK_BENCH_FLAGS)
  benchmark::AddCustomContext("flags", LOWRANK_BENCH_FLAGS);
#endif
#if defined(LOWRANK_BENCH_TUNING)
  benchmark::AddCustomContext("tuning", LOWRANK_BENCH_TUNING);
#endif
  benchmark::AddCustomContext("peers", detail::peers());
  benchmark::AddCustomContext("roof", line);
  benchmark::AddCustomContext("roof_numbers", detail::roof_numbers());
  rows(large);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace bench
