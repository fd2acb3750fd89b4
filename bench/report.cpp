// Reads the results of cmake/bench.sh and writes table.md, rows.csv and roofline.svg beside them:
//
//   bench_report <folder> [--before <folder of an earlier run>] [--targets]
//
// --targets: the table has only rows of which something is asked. The folder json in each holds the results.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <optional>

#include <bench/report/plot.hpp>
#include <bench/report/tables.hpp>

namespace report {
namespace {

std::string file_text(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string text;
  for (std::string line; std::getline(in, line);) text += (text.empty() ? "" : ", ") + line;
  return text;
}

std::string head(const Results& all, const std::filesystem::path& folder) {
  std::string text = "# Benchmarks of lowrank\n\n";
  const auto line = [&](const char* what, const std::string& value) {
    if (!value.empty()) text += std::string("- ") + what + ": " + value + "\n";
  };
  const std::string begin = all.begin.substr(0, 16), end = all.end.substr(0, 16);
  line("measured", begin == end ? begin : begin + " to " + end);
  line("machine", all.said("cpu") + ", kernels " + all.said("kernels"));
  line("compiler and flags", all.said("compiler") + "; " + all.said("flags"));
  line("peers", all.said("peers") + (all.said("products").empty() ? "" : "; " + all.said("products")) + (all.said("python").empty() ? "" : "; " + all.said("python")));
  line("absent", file_text(folder / "json" / "absent"));
  for (const auto& [threads, roof] : all.roofs) {
    const Row* copy = all.find({"roof/copy", "lowrank", threads});
    line(format("roof, %d thread%s", threads, threads == 1 ? "" : "s").c_str(),
         format("%.0f GFLOP/s, read %.1f GB/s, update in place %.1f GB/s", 1e-9 * roof.flops, 1e-9 * roof.read, 1e-9 * roof.updated) +
             (copy != nullptr ? format(", copy %.1f GB/s", gigabytes(*copy)) : "") + format(" (upper quartile of %d measurements)", all.roof_measurements));
  }
  return text;
}

/// How many were met, and which were not looked at.
std::string summary(const Results& all) {
  int met = 0, missed = 0;
  for (const std::string& problem : compared(all)) {
    const Judged judged = judge(all, problem, ours_of(all, problem));
    met += judged.met, missed += judged.missed;
  }
  std::string absent;
  for (const Target& t : targets()) {
    bool seen = false;
    for (const auto& [key, row] : all.rows)
      seen = seen || (!row.ms.empty() && key.who == ours_of(all, key.problem) && judge(all, t, key, row).has_value());
    if (!seen) absent += std::string(absent.empty() ? "" : ", ") + "`" + t.problem + "`" + (t.measure == Measure::Ratio ? std::string(" against ") + t.peer : "");
  }
  std::string failed;
  for (const auto& [key, row] : all.rows)
    if (!row.error.empty()) failed += "\n- failed: " + key.problem + "/" + key.who + ": " + row.error;
  return format("\n- targets, each number of threads by itself: %d met, %d missed", met, missed) +
         (absent.empty() ? "" : "; not measured here: " + absent) + failed + "\n\n";
}

int run(int argc, char** argv) {
  std::filesystem::path folder, before;
  bool targets_only = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--before" && i + 1 < argc) before = argv[++i];
    else if (argument == "--targets") targets_only = true;
    else if (folder.empty() && argument[0] != '-') folder = argument;
    else throw std::runtime_error("usage: bench_report <folder> [--before <folder>] [--targets]");
  }
  if (folder.empty()) throw std::runtime_error("usage: bench_report <folder> [--before <folder>] [--targets]");
  const Results all = read_results(folder / "json");
  std::optional<Results> earlier;
  if (!before.empty()) earlier = read_results(before / "json");

  const std::string text = head(all, folder) + summary(all) + markdown_table(all, earlier ? &*earlier : nullptr, targets_only);
  std::ofstream(folder / "table.md") << text;
  write_csv(folder / "rows.csv", all);
  const RooflinePlot plot(all);
  if (!plot.empty()) svg::write(folder / "roofline.svg", plot.svg());
  std::cout << text;
  return 0;
}

}  // namespace
}  // namespace report

int main(int argc, char** argv) {
  try {
    return report::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_report: %s\n", e.what());
    return 1;
  }
}
