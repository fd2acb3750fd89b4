// Checkpoint: what the run under way has trained and its optimizer's state, in a CheckpointFolder.
#pragma once

#include <stdexcept>  // std::runtime_error
#include <string>
#include <vector>

#include "examples/finetune/record.hpp"
#include "examples/pretrain/checkpoint_folder.hpp"

namespace finetune {

class Checkpoint : public pretrain::CheckpointFolder {
 public:
  using CheckpointFolder::CheckpointFolder;

  static std::vector<Record> finished(const Json& checkpoint) { return taken<Record>(checkpoint); }

  /// The runs that are over and the one under way, if any.
  void save(const std::vector<Record>& finished, const Record* current, const Learner* learner) const {
    if (current == nullptr) return write(stored_all(finished), "", nullptr);
    const std::string files = current->name + "." + std::to_string(current->steps);
    learner->save(path(files).string());
    write(stored_all(finished), files, stored(*current));
  }
  /// Brings a run that has just been made to where the checkpoint left it.
  void restore(const Json& current, Record& record, Learner& learner) const {
    learner.load(path(current.at("files").get<std::string>()).string());
    const std::string name = record.name;
    take(current.at("run"), record);
    if (record.name != name) throw std::runtime_error(json_path().string() + " is of another run");
  }
};

}  // namespace finetune
