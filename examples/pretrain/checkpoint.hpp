// Checkpoint: the weights and the optimizer's state of the run that is under way, in a CheckpointFolder; and how a decoder's
// weights lie in a file.
#pragma once

#include <algorithm>  // std::copy_n
#include <cstring>    // std::memcpy
#include <filesystem>
#include <span>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <vector>

#include <lowrank/io/safetensors.hpp>

#include "examples/pretrain/checkpoint_folder.hpp"
#include "examples/pretrain/run.hpp"

namespace pretrain {

inline Json stored(const RunRecord& r) {
  Json curve = Json::array();
  for (const CurvePoint& p : r.curve) curve.push_back({p.step, stored(p.training), stored(p.held_out)});
  const MemoryUse& m = r.memory;
  return {{"method", r.spec.method}, {"rate", r.spec.rate}, {"lr", r.spec.lr}, {"seed", r.spec.seed},
          {"clip", r.spec.clip}, {"steps", r.steps}, {"diverged", r.diverged}, {"held-out", stored(r.held_out)},
          {"curve", curve}, {"loss-sum", r.loss_sum}, {"loss-count", r.loss_count},
          {"model-seconds", r.model_seconds}, {"optimizer-seconds", r.optimizer_seconds}, {"skipped", r.skipped},
          {"bytes", {m.weights, m.gradients, m.basis, m.moments, m.error, m.numbers, m.formula, m.workspace}}};
}

inline void take(const Json& j, RunRecord& r) {
  r.spec = {j.at("method"), j.at("rate"), j.at("lr"), j.at("seed"), j.at("clip")};
  take(j.at("steps"), r.steps), take(j.at("diverged"), r.diverged), take(j.at("held-out"), r.held_out);
  r.curve.clear();
  for (const Json& p : j.at("curve")) {
    CurvePoint& point = r.curve.emplace_back();
    take(p.at(0), point.step), take(p.at(1), point.training), take(p.at(2), point.held_out);
  }
  take(j.at("loss-sum"), r.loss_sum), take(j.at("loss-count"), r.loss_count);
  take(j.at("model-seconds"), r.model_seconds), take(j.at("optimizer-seconds"), r.optimizer_seconds);
  take(j.at("skipped"), r.skipped);
  const Json& b = j.at("bytes");
  MemoryUse& m = r.memory;
  std::size_t i = 0;
  for (std::size_t* bytes : {&m.weights, &m.gradients, &m.basis, &m.moments, &m.error, &m.numbers, &m.formula, &m.workspace})
    take(b.at(i++), *bytes);
}

/// The weights of a Model or a Network by name, as others read them. With replacements: those, and what is not replaced.
template <class M>
void write_weights(const std::filesystem::path& path, const M& model, std::vector<lowrank::io::Tensor> tensors = {}) {
  const bool all = tensors.empty();
  for (const MatrixInfo& m : model.layout().matrices())
    if (all || (m.role != Role::Attention && m.role != Role::Mlp)) tensors.push_back({m.name, "F32", {std::uint64_t(m.rows), std::uint64_t(m.cols)},
                       std::as_bytes(std::span(model.weights() + m.offset, std::size_t(m.rows * m.cols)))});
  lowrank::io::write_safetensors(path, std::move(tensors));
}

template <class M>
void read_weights(const std::filesystem::path& path, M& model) {
  const auto file = lowrank::io::Safetensors::read(path);
  for (const MatrixInfo& m : model.layout().matrices()) {
    const lowrank::io::Tensor* t = file.find(m.name);
    if (t == nullptr || t->dtype != "F32" || t->shape != std::vector{std::uint64_t(m.rows), std::uint64_t(m.cols)})
      throw std::runtime_error(path.string() + " holds no F32 tensor '" + m.name + "' of the right shape");
    std::memcpy(model.weights() + m.offset, t->data.data(), t->data.size());
  }
}

class Checkpoint : public CheckpointFolder {
 public:
  using CheckpointFolder::CheckpointFolder;

  /// The runs that are over and the one under way, if any.
  void save(const std::vector<RunRecord>& finished, const Run* current) const {
    if (current == nullptr) return write(stored_all(finished), "", nullptr);
    const std::string files = current->record().spec.method + "." + std::to_string(current->record().steps);
    write_weights(path(files + ".weights.safetensors"), current->network());
    current->trainer().save(path(files + ".state.safetensors"));
    write(stored_all(finished), files, stored(current->record()));
  }

  static std::vector<RunRecord> finished(const Json& checkpoint) { return taken<RunRecord>(checkpoint); }
  /// Brings a run that has just been made to where the checkpoint left it.
  void restore(const Json& checkpoint, Run& run) const {
    const Json& current = checkpoint.at("current");
    const std::string files = current.at("files");
    read_weights(path(files + ".weights.safetensors"), run.network());
    run.trainer().load(path(files + ".state.safetensors"));
    const RunSpec spec = run.record().spec;
    const MemoryUse memory = run.record().memory;
    take(current.at("run"), run.record());
    if (!(run.record().spec == spec)) throw std::runtime_error(json_path().string() + " is of another run");
    run.record().memory = memory;
  }
};

}  // namespace pretrain
