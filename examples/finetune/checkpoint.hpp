// Checkpoint: a folder with what the run under way has trained and its optimizer's state, and checkpoint.json, which names
// those two files and holds everything else. The files of a step have names of their own and are written first; the JSON
// is replaced by a rename last, and only then are the files before removed: a kill at any moment leaves a whole one.
#pragma once

#include <filesystem>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <vector>

#include "examples/finetune/record.hpp"

namespace finetune {

class Checkpoint {
 public:
  explicit Checkpoint(const std::filesystem::path& out) : folder_(out / "checkpoint") {}

  /// null when there is none.
  static Json read(const std::filesystem::path& out) { return pretrain::read_json(out / "checkpoint" / "checkpoint.json"); }

  static std::vector<Record> finished(const Json& checkpoint) {
    std::vector<Record> runs;
    for (const Json& j : checkpoint.at("finished")) take(j, runs.emplace_back());
    return runs;
  }

  /// Throws away what an earlier call left there.
  void begin(const Json& settings) {
    settings_ = settings;
    std::filesystem::create_directories(folder_);
    std::filesystem::remove(folder_ / "checkpoint.json");  // the files it names next
    remove_files_except("");
    save({}, nullptr, nullptr);
  }
  /// Goes on with one that was read; clears away what a kill left beside it.
  void resume(const Json& settings, const Json& checkpoint) {
    settings_ = settings;
    const Json& current = checkpoint.at("current");
    remove_files_except(current.is_null() ? "" : current.at("files").get<std::string>());
  }

  /// The runs that are over and the one under way, if any.
  void save(const std::vector<Record>& finished, const Record* current, const Learner* learner) const {
    Json json = settings_;
    json["finished"] = Json::array(), json["current"] = nullptr;
    for (const Record& r : finished) json["finished"].push_back(stored(r));
    std::string files;
    if (current != nullptr) {
      files = current->name + "." + std::to_string(current->steps);
      learner->save((folder_ / files).string());
      json["current"] = {{"files", files}, {"run", stored(*current)}};
    }
    pretrain::write_json(folder_ / "checkpoint.json", json);
    remove_files_except(files);
  }
  /// Brings a run that has just been made to where the checkpoint left it.
  void restore(const Json& current, Record& record, Learner& learner) const {
    learner.load((folder_ / current.at("files").get<std::string>()).string());
    const std::string name = record.name;
    take(current.at("run"), record);
    if (record.name != name) throw std::runtime_error((folder_ / "checkpoint.json").string() + " is of another run");
  }

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

}  // namespace finetune
