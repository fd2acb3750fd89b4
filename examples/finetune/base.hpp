// Base: the decoder that pretrain left in a folder, which everything here starts from.
#pragma once

#include <algorithm>  // std::all_of, std::copy_n
#include <filesystem>
#include <stdexcept>  // std::runtime_error
#include <string>

#include "examples/pretrain/checkpoint.hpp"
#include "examples/pretrain/corpus.hpp"
#include "examples/pretrain/model.hpp"

namespace finetune {

struct Base {
  std::string method;          // of pretrain's run
  std::filesystem::path path;  // of its weights
  pretrain::ModelConfig config;
  pretrain::Vector<float> weights;  // the arena
  std::uint64_t fingerprint = 0;

  /// The run of that method, or the one of the lowest held-out loss among those that left whole weights. Throws
  /// std::runtime_error saying what is missing.
  static Base read(const std::filesystem::path& folder, const std::string& method) {
    const pretrain::Json json = pretrain::Checkpoint::read(folder);
    const std::string make = "; make one with: pretrain --out " + folder.string();
    if (json.is_null()) throw std::runtime_error("no comparison of pretrain in " + folder.string() + make);
    Base base;
    try {
      base.choose(json, folder, method);
    } catch (const pretrain::Json::exception& e) {
      throw std::runtime_error((folder / "checkpoint" / "checkpoint.json").string() + " is damaged: " + e.what());
    }
    if (base.method.empty())
      throw std::runtime_error(folder.string() + " holds no finished run" + (method.empty() ? "" : " of " + method) +
                               " that left the weights of a decoder" + make);
    pretrain::Model<float> model(base.config, 1);
    pretrain::read_weights(base.path, model);
    base.weights = Eigen::Map<const pretrain::Vector<float>>(model.weights(), model.layout().size());
    base.fingerprint = pretrain::hash_bytes({reinterpret_cast<const pretrain::Byte*>(base.weights.data()),
                                             std::size_t(base.weights.size()) * sizeof(float)});
    return base;
  }

  template <class L>
  void copy_to(pretrain::Model<float, L>& model) const {
    std::copy_n(weights.data(), weights.size(), model.weights());
  }

 private:
  void choose(const pretrain::Json& json, const std::filesystem::path& folder, const std::string& wanted) {
    const pretrain::Json& s = json.at("settings");
    s.at("d-model").get_to(config.d_model), s.at("layers").get_to(config.layers), s.at("heads").get_to(config.heads);
    s.at("d-ff").get_to(config.d_ff), s.at("context").get_to(config.context);
    const pretrain::Layout layout(config);  // throws for a shape that cannot be
    double best = 0;
    for (const pretrain::Json& run : json.at("finished")) {
      const std::string name = run.at("method");
      const pretrain::Json& loss = run.at("held-out");
      const std::filesystem::path file = folder / (name + ".safetensors");
      if (loss.is_null() || (!wanted.empty() && name != wanted)) continue;
      if (!method.empty() && loss.get<double>() >= best) continue;
      if (whole(file, layout)) method = name, path = file, best = loss.get<double>();
    }
  }
  /// Weights that a run kept as factors are no base for an adapter.
  static bool whole(const std::filesystem::path& file, const pretrain::Layout& layout) {
    if (!std::filesystem::exists(file)) return false;
    const auto tensors = lowrank::io::Safetensors::read(file);
    return std::all_of(layout.matrices().begin(), layout.matrices().end(),
                       [&](const pretrain::MatrixInfo& m) { return tensors.find(m.name) != nullptr; });
  }
};

/// The mean held-out loss, in bits per byte, of any decoder of the same shape.
class HeldOut {
 public:
  HeldOut(const pretrain::Corpus& corpus, pretrain::Index batch) : corpus_(&corpus), batch_(batch) {}

  template <class L>
  double operator()(pretrain::Model<float, L>& model, pretrain::Index windows) const {
    double sum = 0;
    std::vector<pretrain::Byte> bytes;
    for (pretrain::Index first = 0; first < windows; first += batch_) {
      const pretrain::Index count = std::min(batch_, windows - first);
      corpus_->held_out_batch(first, count, windows, model.config().context + 1, bytes);
      sum += double(count) * model.loss(bytes);
    }
    return pretrain::bits(sum / double(windows));
  }

 private:
  const pretrain::Corpus* corpus_;
  pretrain::Index batch_;
};

}  // namespace finetune
