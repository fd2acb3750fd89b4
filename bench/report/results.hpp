// The JSON files of one run, as Google Benchmark and bench/peers.py write them, made into rows: a median for each.
#pragma once

#include <algorithm>  // std::sort, std::find, std::max
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>   // std::istreambuf_iterator
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace report {

/// The middle one, or the mean of the two in the middle.
inline double quantile(std::vector<double> x, double q) {
  std::sort(x.begin(), x.end());
  const double at = q * double(x.size() - 1);
  const std::size_t i = std::size_t(at);
  return i + 1 < x.size() ? x[i] + (at - double(i)) * (x[i + 1] - x[i]) : x[i];
}
inline double median(const std::vector<double>& x) { return quantile(x, 0.5); }

/// A row is called <problem>/<who>/threads:<n>; those of one problem are peers.
struct Key {
  std::string problem, who;
  int threads = 0;
  auto operator<=>(const Key&) const = default;
};

struct Row {
  std::vector<double> ms;  // one for each repetition
  std::map<std::string, std::vector<double>> counters;
  std::string error;

  double time() const { return median(ms); }
  bool has(const std::string& counter) const { return counters.count(counter) > 0; }
  /// The median of its counter; 0 when it has none of that name.
  double counter(const std::string& name) const {
    const auto found = counters.find(name);
    return found == counters.end() ? 0 : median(found->second);
  }
};

/// What the machine can do on one number of threads, a second. Of many measurements in the run: a quarter reached more.
struct Roof {
  double flops = 0, read = 0, updated = 0;
};

struct Results {
  std::map<Key, Row> rows;
  std::vector<std::string> problems;  // in the order they were measured
  std::map<int, Roof> roofs;
  int roof_measurements = 0;
  std::map<std::string, std::set<std::string>> context;  // "cpu", "compiler", "flags", ...: what the files say
  std::string begin, end;                                // dates

  const Row* find(const Key& key) const {
    const auto found = rows.find(key);
    return found == rows.end() || found->second.ms.empty() ? nullptr : &found->second;
  }
  std::string said(const std::string& what) const {
    std::string text;
    const auto found = context.find(what);
    if (found != context.end())
      for (const std::string& value : found->second) text += (text.empty() ? "" : "; ") + value;
    return text;
  }
};

namespace detail {

/// "a/b/who/threads:2/iterations:1/real_time"; false for a name that is not of this kind.
inline bool split(const std::string& name, Key& key) {
  const std::size_t threads = name.find("/threads:");
  if (threads == std::string::npos) return false;
  const std::size_t who = name.rfind('/', threads - 1);
  if (who == std::string::npos) return false;
  key = {name.substr(0, who), name.substr(who + 1, threads - who - 1), std::stoi(name.substr(threads + 9))};
  return true;
}

inline double in_ms(double time, const std::string& unit) {
  for (const auto& [name, factor] : {std::pair{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1.0}, {"s", 1e3}})
    if (unit == name) return factor * time;
  throw std::runtime_error("no unit of time: " + unit);
}

inline void add_rows(const nlohmann::json& file, Results& results) {
  static const std::set<std::string> not_counters{"family_index", "per_family_instance_index", "repetitions", "repetition_index",
                                                  "threads", "iterations", "real_time", "cpu_time"};
  const std::string tuning = file.at("context").value("tuning", "");
  for (const nlohmann::json& b : file.at("benchmarks")) {
    Key key;
    if (b.value("run_type", "iteration") != "iteration" || !split(b.at("name"), key)) continue;
    if (!tuning.empty()) key.who += "_" + tuning + "_tuning";
    Row& row = results.rows[key];
    if (b.value("error_occurred", false)) {
      row.error = b.value("error_message", "failed");
      continue;
    }
    row.ms.push_back(in_ms(b.at("real_time"), b.at("time_unit")));
    for (const auto& [name, value] : b.items())
      if (value.is_number() && not_counters.count(name) == 0) row.counters[name].push_back(value);
  }
}

/// Google Benchmark writes NaN, which is not JSON, for the relative deviation of a counter that is 0.
inline nlohmann::json parse(std::istream& in) {
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return nlohmann::json::parse(std::regex_replace(text, std::regex(": -?(nan|inf|infinity)\\b", std::regex::icase), ": null"));
}

/// "threads flops read updated; ..."
inline void add_roofs(const std::string& text, std::map<int, std::array<std::vector<double>, 3>>& all) {
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ';');) {
    std::istringstream numbers(part);
    int threads = 0;
    double value[3];
    if (numbers >> threads >> value[0] >> value[1] >> value[2])
      for (std::size_t i = 0; i < 3; ++i) all[threads][i].push_back(value[i]);
  }
}

}  // namespace detail

/// Reads every *.json in the folder, and the order of the problems from the file "problems" there if it exists. Throws
/// std::runtime_error for a file that is no benchmark's.
inline Results read_results(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  if (files.empty()) throw std::runtime_error("no results in " + folder.string());

  Results results;
  std::map<int, std::array<std::vector<double>, 3>> roofs;
  for (const auto& path : files) {
    std::ifstream in(path);
    try {
      const nlohmann::json file = detail::parse(in);
      detail::add_rows(file, results);
      for (const auto& [name, value] : file.at("context").items())
        if (value.is_string()) results.context[name].insert(value.get<std::string>());
      detail::add_roofs(file.at("context").value("roof_numbers", ""), roofs);
    } catch (const nlohmann::json::exception& e) {
      throw std::runtime_error(path.string() + ": " + e.what());
    }
  }
  for (const auto& [threads, values] : roofs) {
    results.roofs[threads] = {quantile(values[0], 0.75), quantile(values[1], 0.75), quantile(values[2], 0.75)};
    results.roof_measurements = std::max(results.roof_measurements, int(values[0].size()));
  }
  if (const auto& dates = results.context["date"]; !dates.empty()) results.begin = *dates.begin(), results.end = *dates.rbegin();

  std::ifstream order(folder / "problems");
  for (std::string line; std::getline(order, line);) results.problems.push_back(line);
  for (const auto& [key, row] : results.rows)
    if (std::find(results.problems.begin(), results.problems.end(), key.problem) == results.problems.end())
      results.problems.push_back(key.problem);
  return results;
}

}  // namespace report
