// Base: the decoder that pretrain left in a folder, which everything here starts from.
#pragma once

#include <algorithm>  // std::copy_n
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

  /// The run of that method, or the one of the lowest held-out loss. Throws std::runtime_error saying what is missing.
  static Base read(const std::filesystem::path& folder, const std::string& method) {
    const pretrain::Json json = pretrain::Checkpoint::read(folder);
    const std::string make = "; make one with: pretrain --out " + folder.string();
    if (json.is_null()) throw std::runtime_error("no comparison of pretrain in " + folder.string() + make);
    Base base;
    try {
      base.choose(json, method);
    } catch (const pretrain::Json::exception& e) {
      throw std::runtime_error((folder / "checkpoint" / "checkpoint.json").string() + " is damaged: " + e.what());
    }
    if (base.method.empty())
      throw std::runtime_error(folder.string() + " holds no finished run" + (method.empty() ? "" : " of " + method) + make);
    base.path = folder / (base.method + ".safetensors");
    if (!std::filesystem::exists(base.path)) throw std::runtime_error("no weights " + base.path.string() + make);
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
  void choose(const pretrain::Json& json, const std::string& wanted) {
    double best = 0;
    for (const pretrain::Json& run : json.at("finished")) {
      const std::string name = run.at("method");
      const pretrain::Json& loss = run.at("held-out");
      if (loss.is_null() || (!wanted.empty() && name != wanted)) continue;
      if (method.empty() || loss.get<double>() < best) method = name, best = loss.get<double>();
    }
    const pretrain::Json& s = json.at("settings");
    s.at("d-model").get_to(config.d_model), s.at("layers").get_to(config.layers), s.at("heads").get_to(config.heads);
    s.at("d-ff").get_to(config.d_ff), s.at("context").get_to(config.context);
    try {
      pretrain::check(config);
    } catch (const std::invalid_argument& e) {
      throw std::runtime_error("the folder's settings are damaged: " + std::string(e.what()));
    }
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
