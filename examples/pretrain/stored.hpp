// Stored: settings and results as JSON, so that a run that goes on can tell whether it is the same run.
#pragma once

#include <cmath>       // std::isfinite
#include <cstdio>      // std::snprintf
#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>   // std::runtime_error
#include <string>

#include <fcntl.h>   // open
#include <unistd.h>  // fsync

#include <nlohmann/json.hpp>

#include "examples/pretrain/settings.hpp"

namespace pretrain {

using Json = nlohmann::json;

template <class T>
Json stored(const T& value) { return value; }
template <class T>
Json stored(const std::optional<T>& value) { return value ? Json(*value) : Json(nullptr); }
/// JSON has no infinity.
inline Json stored(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

template <class T>
void take(const Json& json, T& value) { json.get_to(value); }
template <class T>
void take(const Json& json, std::optional<T>& value) {
  if (json.is_null()) value.reset();
  else value = json.get<T>();
}
inline void take(const Json& json, double& value) {
  value = json.is_null() ? std::numeric_limits<double>::infinity() : json.get<double>();
}

/// What visit_deciding lists; where the text came from; what may be another when it goes on.
inline Json stored(const Settings& settings, std::uint64_t corpus) {
  Json json = Json::object();
  visit_deciding(settings, [&](const char* name, const auto& value) { json[name] = stored(value); });
  char hash[17];
  std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(corpus));
  return {{"settings", json}, {"corpus", settings.corpus}, {"corpus-hash", hash}, {"methods", settings.methods},
          {"study-seeds", settings.study_seeds}, {"watch", settings.watch}, {"watch-every", settings.watch_every}};
}

/// Puts what was stored in the place of the defaults.
inline void take(const Json& json, Settings& settings) {
  visit_deciding(settings, [&](const char* name, auto& value) { take(json.at("settings").at(name), value); });
  json.at("corpus").get_to(settings.corpus);
  json.at("methods").get_to(settings.methods);
  json.at("study-seeds").get_to(settings.study_seeds);
  settings.watch = json.value("watch", false), settings.watch_every = json.value("watch-every", settings.watch_every);
}

/// Throws std::runtime_error with one line for each difference.
inline void check_same(const Json& kept, const Json& now, const std::filesystem::path& folder) {
  const auto text = [](const Json& value) { return value.is_null() ? "the default" : value.dump(); };
  std::string differences;
  for (const auto& [name, value] : now.at("settings").items())
    if (const Json& before = kept.at("settings").at(name); before != value)
      differences += "\n  --" + name + ": " + text(before) + " in the folder, " + text(value) + " now";
  if (kept.at("corpus-hash") != now.at("corpus-hash"))
    differences += "\n  --corpus: the text is not the one the run began with (" +
                   kept.at("corpus").get<std::string>() + "), or has changed since";
  if (!differences.empty())
    throw std::runtime_error("cannot go on with the run in " + folder.string() + ", which had other settings:" + differences);
}

/// Nothing when there is no such file. Throws std::runtime_error when it cannot be understood.
inline Json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return nullptr;
  Json json = Json::parse(file, nullptr, false);
  if (json.is_discarded()) throw std::runtime_error(path.string() + " is damaged");
  return json;
}

/// Written beside the file, brought to disk, renamed: at any moment there is a whole old or a whole new file.
inline void write_json(const std::filesystem::path& path, const Json& json) {
  const std::filesystem::path beside = path.string() + ".new";
  const std::string text = json.dump(1) + "\n";
  std::FILE* file = std::fopen(beside.c_str(), "wb");
  bool good = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  good = good && std::fflush(file) == 0 && fsync(fileno(file)) == 0;
  if (file != nullptr) good = std::fclose(file) == 0 && good;
  if (!good) throw std::runtime_error("cannot write " + path.string());
  std::filesystem::rename(beside, path);
  // the name is durable once its folder is
  const int folder = open(path.parent_path().empty() ? "." : path.parent_path().c_str(), O_RDONLY);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
}

}  // namespace pretrain
