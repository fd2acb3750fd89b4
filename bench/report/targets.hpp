// What the rows of the library must reach, one line a target. A target is a least value of something measured: the share
// of the roof, the share of the in-place streaming bandwidth, a rate, how many times as long a peer takes, or a counter.
#pragma once

#include <cmath>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include <bench/report/results.hpp>

namespace report {

enum class Measure { Roof, Streaming, GflopsPerThread, Ratio, Counter };

struct Target {
  const char* problem;       // a regular expression for all of its name
  Measure measure;
  double least, least2 = 0;  // on one thread and on two; 0: the same
  const char* peer = "";     // of Ratio, a regular expression: the fastest of those that match. Of Counter: its name
  const char* where = "";    // of Ratio: the peer's problem when it is another one, "$1" from `problem`. Of Counter: what it
                             // is divided by

  double at(int threads) const { return threads > 1 && least2 > 0 ? least2 : least; }
};

/// The least time a row can take by the roof, in ms: of what can run together the longest, and what waits for it after that.
inline double floor_ms(const Roof& roof, const Row& row) {
  const auto least = [](double work, double rate) { return rate > 0 ? 1e3 * work / rate : 0; };
  const auto sweep = [&](const std::string& when) {
    const double streamed = least(row.counter(when + "read"), roof.read) + least(row.counter(when + "updated"), roof.updated);
    return std::max(least(row.counter(when + "flops"), roof.flops), streamed);
  };
  return sweep("") + sweep("then_");
}
/// In [0, 1] unless caches help; 0 for a row that does not tell its work.
inline double share_of_roof(const Roof& roof, const Row& row) { return floor_ms(roof, row) / row.time(); }
inline double flops(const Row& row) { return row.counter("flops") + row.counter("then_flops"); }
inline double bytes(const Row& row) { return row.counter("read") + row.counter("updated") + row.counter("then_read") + row.counter("then_updated"); }
inline double gflops(const Row& row) { return 1e-6 * flops(row) / row.time(); }
inline double gigabytes(const Row& row) { return 1e-6 * bytes(row) / row.time(); }

inline const std::vector<Target>& targets() {
  constexpr const char* svd = "torch_svd_lowrank.*";
  static const std::vector<Target> all{
      {"galore_r(128|256|512)/4096x4096/.*", Measure::Roof, 0.85, 0.80},
      {"galore_r32/4096x4096/.*", Measure::Roof, 0.70, 0.62},
      {"galore_r(32|128)/4096x4096/.*", Measure::Ratio, 1.8, 0, "eigen"},
      {"galore_r32/4096x4096/.*", Measure::Ratio, 1.5, 0, "onednn|blis"},
      {"galore_r128/4096x4096/.*", Measure::Ratio, 1.0, 0, "onednn|blis"},
      {"galore_r[0-9]+/(512x512|512x1376|2048x5461|4096x11008|1x[0-9]+)/.*", Measure::Roof, 0.6},
      {"(fira_r[0-9]+|apollo_r[0-9]+|apollo_mini)/(4096x4096|2048x5461|4096x11008)/.*", Measure::Roof, 0.8},
      {"dct_adamw_r[0-9]+/4096x4096/(.*)", Measure::Ratio, 1 / 4.5, 0, "lowrank", "adamw/4096x4096/$1"},
      {"dct_adamw_r(128|256)/4096x4096/(.*)", Measure::Ratio, 1.0, 0, "lowrank", "galore_r$1/4096x4096/$2"},
      {"dct[23]/(512|1024|2048|4096)/.*", Measure::Ratio, 2.5, 0, "fftw"},
      {"dct[23]/(512|1024|2048|4096)/.*", Measure::Ratio, 1.7, 0, "scipy"},
      {"dct[23]/(768|1365|1376|2736|5461|11008)/.*", Measure::Ratio, 1.5, 0, "scipy"},
      {"warm_r(128)/2048x2048", Measure::Ratio, 50, 0, "lapack_sgesdd", "exact_r$1/2048x2048"},
      {"warm_r(128)/4096x4096", Measure::Ratio, 150, 0, "lapack_sgesdd", "exact_r$1/4096x4096"},
      {"warm_r[0-9]+/.*", Measure::Counter, 99, 0, "captured_%"},
      {"warm_r[0-9]+/.*", Measure::Counter, 1, 0, "captured_%", "stale_%"},
      {"cold_r[0-9]+/.*", Measure::Ratio, 1.0, 0, svd},
      {"orth_r256/4096x256", Measure::Roof, 1 / 1.6},
      {"(adamw|adamw_given_norm|lion_given_norm|sgd_given_norm)/(4096x4096|2048x5461|4096x11008)/.*", Measure::Streaming, 0.9},
      {"adam_bf16_given_norm/(4096x4096|2048x5461|4096x11008)/.*", Measure::Streaming, 0.9},
      {"adam8bit_given_norm/(4096x4096|2048x5461|4096x11008)/.*", Measure::Streaming, 0.6},
      {"galore_bf16_r[0-9]+/(4096x4096|2048x5461)/.*", Measure::Ratio, 0.9, 0, "lowrank_in_float"},
      {"galore_bf16_r[0-9]+/(4096x4096|2048x5461)/.*", Measure::Ratio, 1.0, 0, "eigen|eigen_widened|onednn"},
      {"(project|lift)_bf16_r[0-9]+/(4096x4096|2048x5461)/.*", Measure::Counter, 0.6, 0, "GFLOP/s", "bf16_roof"},
      {"newton_schulz/.*", Measure::Roof, 0.8},
      {"(lora|sltrain|randlora)_r[0-9]+_(forward|backward)/.*", Measure::Roof, 1 / 1.3},
      {"(spmm|sddmm).*", Measure::GflopsPerThread, 35},
      {"transpose.*", Measure::Streaming, 0.7},
      {"(row_norms|column_norms).*", Measure::Roof, 0.7},  // they only read
  };
  return all;
}

/// A target held against what was measured on one number of threads.
struct Verdict {
  const Target* target;
  double value, least;
  std::string against;  // the peer it was, of a Ratio
  bool met() const { return value >= least; }
};

namespace detail {

/// Of low-rank decompositions only those count that hold as much energy as ours, but for a thousandth.
inline bool comparable(const Row& ours, const Row& peer) {
  return !ours.has("captured_%") || !peer.has("captured_%") || peer.counter("captured_%") >= ours.counter("captured_%") - 0.1;
}

inline std::optional<Verdict> ratio(const Results& all, const Target& t, const Key& key, const Row& ours, const std::smatch& match) {
  const std::string problem = *t.where != 0 ? match.format(t.where) : key.problem;
  const std::regex peer(t.peer);
  std::optional<Verdict> best;
  for (const auto& [k, row] : all.rows) {
    if (k.problem != problem || k.threads != key.threads || row.ms.empty() || !std::regex_match(k.who, peer)) continue;
    if (*t.where == 0 && !comparable(ours, row)) continue;
    const double value = row.time() / ours.time();
    if (!best || value < best->value) best = Verdict{&t, value, t.at(key.threads), *t.where != 0 ? problem.substr(0, problem.find('/')) + " " + k.who : k.who};
  }
  return best;
}

}  // namespace detail

/// Nothing when it is not of this row, or what it takes was not measured.
inline std::optional<Verdict> judge(const Results& all, const Target& t, const Key& key, const Row& ours) {
  std::smatch match;
  if (!std::regex_match(key.problem, match, std::regex(t.problem))) return {};
  const auto roof = all.roofs.find(key.threads);
  const double least = t.at(key.threads);
  switch (t.measure) {
    case Measure::Ratio: return detail::ratio(all, t, key, ours, match);
    case Measure::Counter:
      if (!ours.has(t.peer) || (*t.where != 0 && !ours.has(t.where))) return {};
      return Verdict{&t, ours.counter(t.peer) / (*t.where != 0 ? ours.counter(t.where) : 1), least, {}};
    case Measure::GflopsPerThread:
      if (!(flops(ours) > 0)) return {};
      return Verdict{&t, gflops(ours) / key.threads, least, {}};
    case Measure::Streaming:
      if (roof == all.roofs.end() || !(gigabytes(ours) > 0)) return {};
      return Verdict{&t, 1e9 * gigabytes(ours) / roof->second.updated, least, {}};
    case Measure::Roof: break;
  }
  if (roof == all.roofs.end() || !(share_of_roof(roof->second, ours) > 0)) return {};
  return Verdict{&t, share_of_roof(roof->second, ours), least, {}};
}

}  // namespace report
