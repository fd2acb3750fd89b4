// LoRA adapters in GGUF, as llama.cpp loads them with --lora: general.type "adapter", adapter.type "lora", one alpha for
// all as F32, and for each weight <name>.lora_a (dims [n, r]) and <name>.lora_b (dims [r, m]); scale = alpha / r. Names are
// those of the GGUF base model (blk.0.attn_q.weight, ...), the architecture its general.architecture.
//
// Every adapter's own scale is kept: what alpha / r cannot say (rsLoRA, another alpha) is folded into its B.
#pragma once

#include <lowrank/adapter/lora.hpp>
#include <lowrank/io/gguf.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace exchange {

/// alpha is that of the first; tensors are F32.
template <class S, class K>
void write_gguf_lora(const std::filesystem::path& path, const std::string& architecture, const std::map<std::string, const Lora<S, K>*>& adapters) {
  if (adapters.empty()) lowrank::detail::bad_argument("lowrank::exchange::write_gguf_lora", "no adapters", "at least one");
  const auto& first = *adapters.begin()->second;
  // alpha = 0 would mean a scale of 1 there
  const double alpha = first.options().alpha != 0 ? first.options().alpha : 1;
  std::vector<std::vector<float>> memory;
  std::vector<io::GgufTensor> tensors;
  memory.reserve(2 * adapters.size());
  const auto add = [&](const std::string& name, const Buffer<S>& x, double factor) {
    auto& rows = memory.emplace_back();
    for (Index i = 0; i < x.rows(); ++i)
      for (Index j = 0; j < x.cols(); ++j) rows.push_back(float(factor * double(x(i, j))));
    tensors.push_back({name, "F32", {std::uint64_t(x.cols()), std::uint64_t(x.rows())}, std::as_bytes(std::span(rows))});
  };
  for (const auto& [name, lora] : adapters) {
    add(name + ".lora_a", lora->A().value, 1);
    add(name + ".lora_b", lora->B().value, lora->scale() * double(lora->rank()) / alpha);
  }
  io::write_gguf(path,
                 {{"general.type", io::GgufValue::string("adapter")},
                  {"general.architecture", io::GgufValue::string(architecture)},
                  {"adapter.type", io::GgufValue::string("lora")},
                  {"adapter.lora.alpha", io::GgufValue::f32(float(alpha))}},
                 tensors);
}

/// The adapters of a file by the names of their weights. Errors are std::runtime_error that name the file and what is wrong.
template <class S, class K = kernel::Best>
std::map<std::string, Lora<S, K>> read_gguf_lora(const io::Gguf& file, const std::string& origin) {
  const auto fail = [&](const std::string& what) { throw std::runtime_error(origin + ": not a LoRA adapter: " + what); };
  if (file.text("general.type") != "adapter") fail("general.type is '" + file.text("general.type") + "'");
  if (file.text("adapter.type") != "lora") fail("adapter.type is '" + file.text("adapter.type") + "'");
  const auto value = file.metadata().find("adapter.lora.alpha");
  if (value == file.metadata().end() || value->second.type != io::GgufValue::Type::F32) fail("adapter.lora.alpha is not an F32");
  float alpha = 0;
  std::memcpy(&alpha, value->second.bytes.data(), 4);
  if (!lowrank::detail::is_finite(double(alpha))) fail("adapter.lora.alpha is not finite");

  const auto load = [&](const io::GgufTensor& t, Buffer<S>& out) {
    for (Index i = 0; i < out.rows(); ++i)
      for (Index j = 0; j < out.cols(); ++j) {
        const auto at = std::size_t(i * out.cols() + j);
        const auto read = [&]<class T>(T x) {
          std::memcpy(&x, t.data.data() + at * sizeof(T), sizeof(T));
          return S(float(x));
        };
        out(i, j) = t.dtype == "F32" ? read(float{}) : t.dtype == "F16" ? read(Eigen::half{}) : read(Eigen::bfloat16{});
      }
  };
  std::map<std::string, Lora<S, K>> adapters;
  for (const io::GgufTensor& a : file.tensors()) {
    const std::string_view ending = ".lora_a", other = ".lora_b";
    const bool is_b = std::string_view(a.name).ends_with(other);
    if (!is_b && !std::string_view(a.name).ends_with(ending)) fail("the tensor '" + a.name + "'");
    const std::string name = a.name.substr(0, a.name.size() - ending.size());
    const io::GgufTensor* b = file.find(name + std::string(is_b ? ending : other));
    if (b == nullptr) fail("'" + a.name + "' has no counterpart");
    if (is_b) continue;
    for (const io::GgufTensor* t : {&a, b})
      if ((t->dtype != "F32" && t->dtype != "F16" && t->dtype != "BF16") || t->dims.size() != 2 || t->data.empty())
        fail("'" + t->name + "' is not a matrix of F32, F16 or BF16");
    if (a.dims[1] != b->dims[0]) fail("'" + name + "' has factors of ranks " + std::to_string(a.dims[1]) + " and " + std::to_string(b->dims[0]));
    const auto rank = Index(a.dims[1]);
    // alpha = 0: llama.cpp takes a scale of 1
    Lora<S, K> lora(Index(b->dims[1]), Index(a.dims[0]), {.rank = rank, .alpha = alpha != 0 ? double(alpha) : double(rank)});
    load(a, lora.A().value);
    load(*b, lora.B().value);
    adapters.emplace(name, std::move(lora));
  }
  if (adapters.empty()) fail("no tensors");
  return adapters;
}
template <class S, class K = kernel::Best>
std::map<std::string, Lora<S, K>> read_gguf_lora(const std::filesystem::path& path) {
  return read_gguf_lora<S, K>(io::Gguf::read(path), path.string());
}

}  // namespace exchange
}  // namespace lowrank
