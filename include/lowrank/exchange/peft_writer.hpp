// Writing a PEFT adapter directory; see peft.hpp.
#pragma once

#include <lowrank/adapter/adalora.hpp>
#include <lowrank/adapter/dora.hpp>
#include <lowrank/adapter/randlora.hpp>
#include <lowrank/adapter/vera.hpp>
#include <lowrank/exchange/peft_config.hpp>
#include <lowrank/io/safetensors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace exchange {

/// Collects adapters of one kind and writes a directory that PEFT loads. Tensors are F32.
class PeftWriter {
 public:
  explicit PeftWriter(std::string base_model = "", std::string task_type = "") {
    config_.base_model = std::move(base_model);
    config_.task_type = std::move(task_type);
  }

  template <class S, class K>
  void add(const std::string& module, const Lora<S, K>& lora) {
    begin(module, PeftConfig::Type::Lora, lora.rank(), lora.options().alpha, lora.options().scaling, lora.options().dropout);
    put(module + ".lora_A.weight", lora.A().value);
    put(module + ".lora_B.weight", lora.B().value);
  }
  template <class S, class K>
  void add(const std::string& module, const Dora<S, K>& dora) {
    begin(module, PeftConfig::Type::Dora, dora.rank(), dora.options().alpha, dora.options().scaling, 0);
    put(module + ".lora_A.weight", dora.A().value);
    put(module + ".lora_B.weight", dora.B().value);
    put(module + ".lora_magnitude_vector", dora.magnitude().value, {std::uint64_t(dora.rows())});
  }
  /// All triplets, those outside the budget with E = 0: their rank is the one the scale is made of.
  template <class S, class K>
  void add(const std::string& module, const AdaLora<S, K>& adalora) {
    begin(module, PeftConfig::Type::AdaLora, adalora.rank(), adalora.options().alpha, Scaling::ByRank, 0);
    put(module + ".lora_A", adalora.A().value);
    put(module + ".lora_B", adalora.B().value);
    put(module + ".lora_E", adalora.E().value);
  }
  template <class S, class K>
  void add(const std::string& module, const Vera<S, K>& vera) {
    begin(module, PeftConfig::Type::Vera, vera.rank(), 0, Scaling::ByRank, 0);
    put(module + ".vera_lambda_b", vera.lambda_b().value, {std::uint64_t(vera.rows())});
    put(module + ".vera_lambda_d", vera.lambda_d().value, {std::uint64_t(vera.rank())});
    share(&vera.bases(), [&] {
      put_shared("vera_A", vera.bases().A);
      put_shared("vera_B", vera.bases().B);
    });
  }
  /// The published pairing only: PEFT knows no other.
  template <class S, class K>
  void add(const std::string& module, const RandLora<S, K>& randlora) {
    if (randlora.options().pairing != Pairing::Peft)
      lowrank::detail::bad_argument("lowrank::exchange::PeftWriter", "Pairing::Paper", "Pairing::Peft");
    begin(module, PeftConfig::Type::RandLora, randlora.rank(), randlora.options().alpha, Scaling::ByRank, randlora.options().dropout);
    put(module + ".randlora_lambda", randlora.lambda().value);
    put(module + ".randlora_gamma", randlora.gamma().value);
    const auto& bases = randlora.bases();
    share(&bases, [&] {
      const auto r = std::uint64_t(bases.rank()), d = std::uint64_t(bases.smaller()), D = std::uint64_t(bases.larger()), k = std::uint64_t(bases.bases());
      Buffer<S> A(bases.rank(), bases.smaller()), B(bases.larger(), bases.bases() * bases.rank());
      for (Index i = 0; i < A.rows(); ++i)
        for (Index j = 0; j < A.cols(); ++j) A(i, j) = bases.A()(j, i);
      for (Index i = 0; i < B.rows(); ++i)
        for (Index j = 0; j < B.cols(); ++j) B(i, j) = bases.b(i, j);
      put_shared("randlora_A", A, {r, 1, d});
      put_shared("randlora_B", B, {D, k, r});
    });
  }

  const PeftConfig& config() const { return config_; }

  void write(const std::filesystem::path& folder) const {
    if (tensors_.empty()) lowrank::detail::bad_argument("lowrank::exchange::PeftWriter::write", "no adapters", "at least one");
    std::filesystem::create_directories(folder);
    std::vector<io::Tensor> tensors;
    for (const auto& [name, tensor] : tensors_)
      tensors.push_back({name, "F32", tensor.shape, std::as_bytes(std::span(tensor.values))});
    io::write_safetensors(folder / "adapter_model.safetensors", std::move(tensors), {{"format", "pt"}});
    const auto path = folder / "adapter_config.json", temporary = folder / "adapter_config.json.tmp";
    {
      std::ofstream file(temporary, std::ios::binary);
      file << config_.dump() << '\n';
      if (!file.flush()) throw std::runtime_error(temporary.string() + ": cannot be written");
    }
    std::filesystem::rename(temporary, path);
  }

 private:
  struct Stored {
    std::vector<std::uint64_t> shape;
    std::vector<float> values;
  };

  void begin(const std::string& module, PeftConfig::Type type, Index rank, double alpha, Scaling scaling, double dropout) {
    const char* who = "lowrank::exchange::PeftWriter";
    auto& names = config_.target_modules;
    if (module.empty() || std::find(names.begin(), names.end(), module) != names.end())
      lowrank::detail::bad_argument(who, "the module name '" + module + "'", "a name that is not taken");
    if (names.empty()) {
      config_.type = type;
      config_.rank = rank;
      config_.alpha = alpha;
      config_.scaling = scaling;
      config_.dropout = dropout;
    }
    if (config_.type != type || config_.scaling != scaling || config_.dropout != dropout)
      lowrank::detail::bad_argument(who, "module '" + module + "' of another kind, scaling or dropout", "what the first module has");
    const bool patterns = type == PeftConfig::Type::Lora || type == PeftConfig::Type::Dora;
    if (!patterns && (rank != config_.rank || alpha != config_.alpha))
      lowrank::detail::bad_argument(who, "module '" + module + "' of another rank or alpha", "what the first module has");
    // a pattern also matches names that end in it
    for (const std::string& other : names)
      if (other.ends_with("." + module) || module.ends_with("." + other))
        lowrank::detail::bad_argument(who, "'" + module + "' beside '" + other + "'", "names of which none ends in another");
    std::string escaped;
    for (const char c : module) {
      const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
      escaped += plain ? std::string(1, c) : std::string("\\") + c;
    }
    if (rank != config_.rank) config_.rank_pattern.emplace_back(escaped, rank);
    if (alpha != config_.alpha) config_.alpha_pattern.emplace_back(escaped, alpha);
    names.push_back(module);
  }
  template <class F>
  void share(const void* bases, const F& store) {
    if (bases_ == nullptr) store();
    else if (bases_ != bases) lowrank::detail::bad_argument("lowrank::exchange::PeftWriter", "a module with other bases", "one set of bases for all");
    bases_ = bases;
  }
  template <class S>
  void store(const std::string& name, const Buffer<S>& x, std::vector<std::uint64_t> shape) {
    Stored stored{std::move(shape), {}};
    stored.values.reserve(std::size_t(x.size()));
    for (Index i = 0; i < x.rows(); ++i)
      for (Index j = 0; j < x.cols(); ++j) stored.values.push_back(float(x(i, j)));
    tensors_.emplace(name, std::move(stored));
  }
  template <class S>
  void put(const std::string& name, const Buffer<S>& x) { put(name, x, {std::uint64_t(x.rows()), std::uint64_t(x.cols())}); }
  template <class S>
  void put(const std::string& name, const Buffer<S>& x, std::vector<std::uint64_t> shape) { store("base_model.model." + name, x, std::move(shape)); }
  template <class S>
  void put_shared(const std::string& name, const Buffer<S>& x) { put_shared(name, x, {std::uint64_t(x.rows()), std::uint64_t(x.cols())}); }
  template <class S>
  void put_shared(const std::string& name, const Buffer<S>& x, std::vector<std::uint64_t> shape) { store("base_model." + name, x, std::move(shape)); }

  PeftConfig config_;
  std::map<std::string, Stored> tensors_;
  const void* bases_ = nullptr;
};

}  // namespace exchange
}  // namespace lowrank
