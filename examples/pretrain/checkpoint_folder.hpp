// CheckpointFolder: checkpoint.json with the settings, the runs that are over and the counters of the one under way, and
// beside it the files of that one, which are named after its step. They are written first; checkpoint.json is replaced by
// a rename last, and only then are the files of the step before removed. A kill at any moment leaves one whole checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "examples/pretrain/stored.hpp"

namespace pretrain {

class CheckpointFolder {
 public:
  explicit CheckpointFolder(const std::filesystem::path& out) : folder_(out / "checkpoint") {}

  /// null when there is none.
  static Json read(const std::filesystem::path& out) { return read_json(out / "checkpoint" / "checkpoint.json"); }

  /// Throws away what an earlier call left there.
  void begin(const Json& settings) {
    settings_ = settings;
    std::filesystem::create_directories(folder_);
    std::filesystem::remove(json_path());  // the files it names next
    remove_files_except("");
    write(Json::array(), "", nullptr);
  }
  /// Goes on with one that was read; clears away what a kill left beside it.
  void resume(const Json& settings, const Json& checkpoint) {
    settings_ = settings;
    const Json& current = checkpoint.at("current");
    remove_files_except(current.is_null() ? "" : current.at("files").get<std::string>());
  }

 protected:
  /// The records, each with a stored() of its own, as JSON and back.
  template <class Record>
  static Json stored_all(const std::vector<Record>& records) {
    Json all = Json::array();
    for (const Record& r : records) all.push_back(stored(r));
    return all;
  }
  template <class Record>
  static std::vector<Record> taken(const Json& checkpoint) {
    std::vector<Record> records;
    for (const Json& j : checkpoint.at("finished")) take(j, records.emplace_back());
    return records;
  }

  /// After the files that begin with this name were written; "": there is no run under way.
  void write(const Json& finished, const std::string& files, const Json& run) const {
    Json json = settings_;
    json["finished"] = finished, json["current"] = nullptr;
    if (!files.empty()) json["current"] = {{"files", files}, {"run", run}};
    write_json(json_path(), json);
    remove_files_except(files);
  }
  std::filesystem::path path(const std::string& file) const { return folder_ / file; }
  std::filesystem::path json_path() const { return path("checkpoint.json"); }

 private:
  void remove_files_except(const std::string& files) const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      const bool mine = name.find(".safetensors") != std::string::npos;  // halves of killed writes included
      if (mine && (files.empty() || !name.starts_with(files + "."))) std::filesystem::remove(entry.path());
    }
  }

  std::filesystem::path folder_;
  Json settings_;
};

}  // namespace pretrain
