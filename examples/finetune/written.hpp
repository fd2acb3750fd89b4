// Written: a trained adapter as the files that other programs read, each read back and run: a PEFT directory, a GGUF
// adapter for llama.cpp, and the weights with the adapter merged into them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <type_traits>  // std::is_same_v
#include <utility>  // std::move

#include <lowrank/adapter/convert.hpp>
#include <lowrank/exchange/gguf_lora.hpp>

#include "examples/finetune/kinds.hpp"
#include "examples/finetune/learner.hpp"

namespace finetune {

using pretrain::Model;

/// layers.0.attn.q.weight -> blk.0.attn_q.weight. The rows of q and k are in this program's order: rotary pairs lie half a
/// head apart.
inline std::string gguf_name(const MatrixInfo& m) {
  static const std::map<std::string, std::string> names{{"attn.q", "attn_q"},     {"attn.k", "attn_k"},
                                                        {"attn.v", "attn_v"},     {"attn.o", "attn_output"},
                                                        {"mlp.gate", "ffn_gate"}, {"mlp.up", "ffn_up"},
                                                        {"mlp.down", "ffn_down"}};
  const std::string module = module_of(m);  // layers.<l>.<part>
  const auto first = module.find('.') + 1, second = module.find('.', first);
  return "blk." + module.substr(first, second - first) + "." + names.at(module.substr(second + 1)) + ".weight";
}

/// The held-out loss of the base with these adapters on it.
template <class A, class Make>
double loss_with(const Base& base, const Make& make, Index batch, const HeldOut& held_out, Index windows) {
  Model<float, Adapted<float, A>> model(base.config, batch);
  base.copy_to(model);
  model.linear().install(model.layout(), make);
  return held_out(model, windows);
}

/// Writes merged.safetensors, reads it into a plain decoder and runs that.
inline double write_merged(const std::filesystem::path& folder, const Base& base, const pretrain::Vector<float>& weights,
                           Index batch, const HeldOut& held_out, Index windows) {
  const auto path = folder / "merged.safetensors";
  Model<float> model(base.config, batch);
  std::copy_n(weights.data(), weights.size(), model.weights());
  std::filesystem::create_directories(folder);
  pretrain::write_weights(path, model);
  base.copy_to(model);
  pretrain::read_weights(path, model);
  return held_out(model, windows);
}

/// Every adapter as LoRA, which is all that GGUF has; of full rank where it is none, so that nothing of the change is cut.
template <class A>
lowrank::Lora<float> as_lora(const MatrixInfo& m, const A& adapter, const pretrain::Vector<float>& change) {
  if constexpr (std::is_same_v<A, lowrank::Lora<float>>) {
    return adapter;
  } else {
    lowrank::Workspace workspace;
    return lowrank::to_lora<float>(weight_view(change.data(), m), std::min(m.rows, m.cols), workspace);
  }
}

inline std::size_t bytes_in(const std::filesystem::path& folder) {
  std::size_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) bytes += entry.file_size();
  return bytes;
}

template <class Kind>
Written write_adapter(const std::filesystem::path& folder, const Base& base,
                      const Model<float, Adapted<float, typename Kind::Adapter>>& model, const HeldOut& held_out, Index windows) {
  namespace exchange = lowrank::exchange;
  const Index batch = model.windows();
  Written written;

  exchange::PeftWriter writer(base.path.string());
  model.linear().each([&](const MatrixInfo& m, const auto& adapter) { writer.add(module_of(m), adapter); });
  writer.write(folder / "peft");
  const auto directory = PeftDirectory::read(folder / "peft");
  const Kind kind(directory, Largest(adapted_matrices(model.layout())));
  const auto from_peft = [&](const MatrixInfo& m) { return kind.read(directory, m, base.weights.data()); };
  written.peft = loss_with<typename Kind::Adapter>(base, from_peft, batch, held_out, windows);
  written.peft_bytes = bytes_in(folder / "peft");

  pretrain::Vector<float> merged = base.weights;
  lowrank::Workspace workspace;
  model.linear().each([&](const MatrixInfo& m, const auto& adapter) {
    const lowrank::MergeReport report = adapter.merge_into(weight_view(merged.data(), m), workspace);
    written.merge_error = std::max(written.merge_error, report.error);
  });
  written.merged = write_merged(folder, base, merged, batch, held_out, windows);

  std::map<std::string, lowrank::Lora<float>> loras;
  const pretrain::Vector<float> change = merged - base.weights;
  model.linear().each([&](const MatrixInfo& m, const auto& adapter) { loras.emplace(gguf_name(m), as_lora(m, adapter, change)); });
  std::map<std::string, const lowrank::Lora<float>*> named;
  for (const auto& [name, lora] : loras) named[name] = &lora;
  exchange::write_gguf_lora(folder / "adapter.gguf", "llama", named);
  const auto read = exchange::read_gguf_lora<float>(folder / "adapter.gguf");
  const auto from_gguf = [&](const MatrixInfo& m) { return read.at(gguf_name(m)); };
  written.gguf = loss_with<lowrank::Lora<float>>(base, from_gguf, batch, held_out, windows);
  written.gguf_bytes = std::filesystem::file_size(folder / "adapter.gguf");
  return written;
}

}  // namespace finetune
