// Reading a PEFT adapter directory; see peft.hpp. Modules have the names of the base model. Ranks and scales are those that
// PEFT works out from rank_pattern and alpha_pattern; a tensor of another shape is an error. RandLoRA's bases are taken
// from the file, where older releases put a copy beside each module, or made again from the key when they were not saved.
// Errors are std::runtime_error that name the file and what is wrong.
#pragma once

#include <lowrank/adapter/adalora.hpp>
#include <lowrank/adapter/dora.hpp>
#include <lowrank/adapter/randlora.hpp>
#include <lowrank/adapter/vera.hpp>
#include <lowrank/exchange/peft_config.hpp>
#include <lowrank/io/safetensors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace exchange {

namespace detail {

/// One element, widened.
inline double element(const io::Tensor& t, std::uint64_t i) {
  const auto read = [&]<class T>(T x) {
    std::memcpy(&x, t.data.data() + i * sizeof(T), sizeof(T));
    return double(x);
  };
  if (t.dtype == "F64") return read(double{});
  if (t.dtype == "BF16") return read(Eigen::bfloat16{});
  if (t.dtype == "F16") return read(Eigen::half{});
  return read(float{});
}

/// out (i, j) <- the tensor's element (i, j), row by row.
template <class S>
void copy_into(const io::Tensor& t, Buffer<S>& out) {
  for (Index i = 0; i < out.rows(); ++i)
    for (Index j = 0; j < out.cols(); ++j) out(i, j) = S(element(t, std::uint64_t(i * out.cols() + j)));
}

inline std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (const std::uint64_t n : shape) text += (text.size() > 1 ? "," : "") + std::to_string(n);
  return text + "]";
}

}  // namespace detail

class PeftDirectory {
 public:
  static PeftDirectory read(const std::filesystem::path& folder) {
    const auto weights = folder / "adapter_model.safetensors";
    std::error_code error;
    if (!std::filesystem::exists(weights, error) && std::filesystem::exists(folder / "adapter_model.bin", error))
      throw std::runtime_error((folder / "adapter_model.bin").string() + ": a pickle can run code and is not read; save with safe_serialization=True");
    PeftConfig config = PeftConfig::read(folder / "adapter_config.json");
    return PeftDirectory(std::move(config), io::Safetensors::read(weights), weights.string());
  }
  PeftDirectory(PeftConfig config, io::Safetensors file, std::string origin)
      : config_(std::move(config)), file_(std::move(file)), origin_(std::move(origin)) {
    for (const io::Tensor& t : file_.tensors()) sort(t);
  }

  const PeftConfig& config() const { return config_; }
  /// Every module that has tensors of the adapter, in the order of their names.
  std::vector<std::string> modules() const {
    std::vector<std::string> names;
    for (const auto& [name, parts] : parts_) names.push_back(name);
    return names;
  }
  /// Names of tensors that belong to no adapter (modules_to_save, ...).
  const std::vector<std::string>& others() const { return others_; }

  /// LoRA, or the low-rank part of AdaLoRA with diag(E) folded into A.
  template <class S>
  Lora<S> lora(const std::string& module) const {
    if (config_.type != PeftConfig::Type::Lora && config_.type != PeftConfig::Type::AdaLora) fail("is no LoRA");
    const bool ada = config_.type == PeftConfig::Type::AdaLora;
    const auto [m, n, rank] = factors(module, !ada);
    // AdaLoRA's scale stays alpha / (init_r + 1e-5), whatever was pruned
    const double alpha = ada ? (config_.alpha > 0 ? config_.alpha : double(config_.rank)) / (double(config_.rank) + 1e-5) * double(rank)
                             : config_.alpha_of(module);
    Lora<S> made(m, n, {.rank = rank, .alpha = alpha, .scaling = ada ? Scaling::ByRank : config_.scaling, .dropout = config_.dropout});
    detail::copy_into(part(module, "lora_A"), made.A().value);
    detail::copy_into(part(module, "lora_B"), made.B().value);
    if (ada) {
      const io::Tensor& E = shaped(part(module, "lora_E"), {std::uint64_t(rank), 1});
      for (Index k = 0; k < rank; ++k)
        for (Index j = 0; j < n; ++j) made.A().value(k, j) = S(double(made.A().value(k, j)) * detail::element(E, std::uint64_t(k)));
    }
    return made;
  }

  /// To train on: all triplets in the budget. Only one that was not pruned, since the scale is made of the first rank.
  template <class S>
  AdaLora<S> adalora(const std::string& module) const {
    if (config_.type != PeftConfig::Type::AdaLora) fail("is no AdaLoRA");
    const auto [m, n, rank] = factors(module, false);
    if (rank != config_.rank) fail("module '" + module + "' was pruned to rank " + std::to_string(rank) + "; read it with lora()");
    AdaLora<S> made(m, n, {.rank = rank, .alpha = config_.alpha});
    detail::copy_into(part(module, "lora_A"), made.A().value);
    detail::copy_into(part(module, "lora_B"), made.B().value);
    detail::copy_into(shaped(part(module, "lora_E"), {std::uint64_t(rank), 1}), made.E().value);
    return made;
  }

  /// On the base weight W, m x n.
  template <class S, class M>
  Dora<S> dora(const std::string& module, const M& W) const {
    if (config_.type != PeftConfig::Type::Dora) fail("is no DoRA");
    const auto [m, n, rank] = factors(module, true);
    base_is(module, lowrank::view(W).rows, lowrank::view(W).cols, m, n);
    Dora<S> made(W, {.rank = rank, .alpha = config_.alpha_of(module), .scaling = config_.scaling});
    detail::copy_into(part(module, "lora_A"), made.A().value);
    detail::copy_into(part(module, "lora_B"), made.B().value);
    detail::copy_into(shaped(part(module, "lora_magnitude_vector"), {std::uint64_t(m)}), made.magnitude().value);
    return made;
  }

  /// m_max and n_max: the largest among the adapted weights, for bases that are not in the file.
  template <class S>
  std::shared_ptr<const VeraBases<S>> vera_bases(Index m_max, Index n_max) const {
    if (config_.type != PeftConfig::Type::Vera) fail("is no VeRA");
    const auto a = shared_.find("vera_A"), b = shared_.find("vera_B");
    if (a == shared_.end() || b == shared_.end()) {
      if (config_.save_projection) fail("has no vera_A and vera_B although save_projection is true");
      rank_is_that_of("vera_lambda_d");
      return std::make_shared<const VeraBases<S>>(VeraBases<S>::torch(config_.rank, m_max, n_max, config_.key));
    }
    const auto r = std::uint64_t(config_.rank);
    const Index n = extent(*a->second, 2, 1), m = extent(*b->second, 2, 0);
    shaped(*a->second, {r, std::uint64_t(n)}), shaped(*b->second, {std::uint64_t(m), r});  // before memory is asked for
    VeraBases<S> made{Buffer<S>(Index(r), n), Buffer<S>(m, Index(r))};
    detail::copy_into(*a->second, made.A);
    detail::copy_into(*b->second, made.B);
    return std::make_shared<const VeraBases<S>>(std::move(made));
  }
  template <class S>
  Vera<S> vera(const std::string& module, Index m, Index n, std::shared_ptr<const VeraBases<S>> bases) const {
    if (config_.type != PeftConfig::Type::Vera) fail("is no VeRA");
    Vera<S> made(m, n, std::move(bases), {.dropout = config_.dropout});
    detail::copy_into(shaped(part(module, "vera_lambda_b"), {std::uint64_t(m)}), made.lambda_b().value);
    detail::copy_into(shaped(part(module, "vera_lambda_d"), {std::uint64_t(made.rank())}), made.lambda_d().value);
    return made;
  }

  /// larger and smaller: of the largest output and the largest input dimension among the adapted weights; drawn: what the
  /// machine that trained had. All three matter only for bases that are not in the file.
  template <class S>
  std::shared_ptr<const RandBases<S>> randlora_bases(Index larger, Index smaller, Drawn drawn = Drawn::Bf16) const {
    if (config_.type != PeftConfig::Type::RandLora) fail("is no RandLoRA");
    const auto a = shared_.find("randlora_A"), b = shared_.find("randlora_B");
    if (a == shared_.end() || b == shared_.end()) {
      if (config_.save_projection) fail("has no randlora_A and randlora_B although save_projection is true");
      rank_is_that_of("randlora_lambda");
      return std::make_shared<const RandBases<S>>(RandBases<S>::torch(
          {.rank = config_.rank, .larger = larger, .smaller = smaller, .basis = config_.basis, .drawn = drawn, .key = config_.key}));
    }
    const Index r = config_.rank, d = extent(*a->second, 3, 2), D = extent(*b->second, 3, 0), K = (d + r - 1) / r;
    shaped(*a->second, {std::uint64_t(r), 1, std::uint64_t(d)});  // before memory is asked for
    shaped(*b->second, {std::uint64_t(D), std::uint64_t(K), std::uint64_t(r)});
    Buffer<S> A(r, d), B(D, K * r);
    detail::copy_into(*a->second, A);
    detail::copy_into(*b->second, B);
    return std::make_shared<const RandBases<S>>(
        RandBases<S>::adopt(View<const S>{A.data(), r, d, 1, r}, View<const S>{B.data(), D, K * r, 1, D}));
  }
  template <class S>
  RandLora<S> randlora(const std::string& module, Index m, Index n, std::shared_ptr<const RandBases<S>> bases) const {
    if (config_.type != PeftConfig::Type::RandLora) fail("is no RandLoRA");
    RandLora<S> made(m, n, std::move(bases), {.alpha = config_.alpha, .dropout = config_.dropout});
    const auto K = std::uint64_t(made.blocks());
    detail::copy_into(shaped(part(module, "randlora_lambda"), {std::uint64_t(made.rank()), K}), made.lambda().value);
    detail::copy_into(shaped(part(module, "randlora_gamma"), {K, std::uint64_t(std::min(m, n))}), made.gamma().value);
    return made;
  }

 private:
  struct Factors {
    Index m, n, rank;
  };

  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(origin_ + ": " + what); }

  /// base_model.model.<module>.<part>[.default][.weight], or base_model.<part> for what the model shares.
  void sort(const io::Tensor& t) {
    enum class Owner { Module, Model };
    struct Kind {
      const char* name;
      Owner owner;
    };
    static constexpr Kind kinds[] = {{"lora_A", Owner::Module},        {"lora_B", Owner::Module},
                                     {"lora_E", Owner::Module},        {"lora_magnitude_vector", Owner::Module},
                                     {"vera_lambda_b", Owner::Module}, {"vera_lambda_d", Owner::Module},
                                     {"vera_A", Owner::Model},         {"vera_B", Owner::Model},
                                     {"randlora_lambda", Owner::Module}, {"randlora_gamma", Owner::Module},
                                     {"randlora_A", Owner::Model},     {"randlora_B", Owner::Model}};
    std::string name = t.name;
    for (const char* ending : {".weight", ".default"})
      if (name.ends_with(ending)) name.resize(name.size() - std::strlen(ending));
    for (const char* beginning : {"base_model.model.", "base_model."})
      if (name.starts_with(beginning)) {
        name.erase(0, std::strlen(beginning));
        break;
      }
    for (const Kind& kind : kinds) {
      const std::string ending = std::string(".") + kind.name;
      const bool shared = kind.owner == Owner::Model && name == kind.name;
      if (!shared && !name.ends_with(ending)) continue;
      if (t.dtype != "F32" && t.dtype != "F64" && t.dtype != "BF16" && t.dtype != "F16")
        fail("tensor '" + t.name + "' has the dtype " + t.dtype + ", expected F32, F64, BF16 or F16");
      if (kind.owner == Owner::Model) return share(kind.name, t);
      const std::string module = name.substr(0, name.size() - ending.size());
      if (!parts_[module].emplace(kind.name, &t).second) fail("module '" + module + "' has two tensors " + kind.name);
      return;
    }
    others_.push_back(t.name);
  }
  /// Bases: the model's, or a copy of them beside each module, which must be one.
  void share(const char* kind, const io::Tensor& t) {
    const auto [at, fresh] = shared_.emplace(kind, &t);
    const io::Tensor& first = *at->second;
    if (!fresh && (first.shape != t.shape || first.dtype != t.dtype || !std::equal(first.data.begin(), first.data.end(), t.data.begin())))
      fail("tensors '" + first.name + "' and '" + t.name + "' differ, but all modules share their bases");
  }

  const io::Tensor& part(const std::string& module, const char* kind) const {
    const auto at = parts_.find(module);
    if (at == parts_.end()) fail("has no module '" + module + "'");
    const auto tensor = at->second.find(kind);
    if (tensor == at->second.end()) fail("module '" + module + "' has no " + std::string(kind));
    return *tensor->second;
  }
  const io::Tensor& shaped(const io::Tensor& t, const std::vector<std::uint64_t>& shape) const {
    if (t.shape != shape) fail("tensor '" + t.name + "' is " + detail::shape_text(t.shape) + ", expected " + detail::shape_text(shape));
    return t;
  }
  /// One dimension of a tensor that has `dims` of them; bounded, so that products of two cannot overflow.
  Index extent(const io::Tensor& t, std::size_t dims, std::size_t which) const {
    if (t.shape.size() != dims || t.shape[which] < 1 || t.shape[which] > 0x7fffffff || t.data.empty())
      fail("tensor '" + t.name + "' is " + detail::shape_text(t.shape) + ", expected " + std::to_string(dims) + " dimensions that are not empty");
    return Index(t.shape[which]);
  }
  Factors factors(const std::string& module, bool fixed_rank) const {
    const io::Tensor &A = part(module, "lora_A"), &B = part(module, "lora_B");
    const Index rank = extent(A, 2, 0), n = extent(A, 2, 1), m = extent(B, 2, 0);
    shaped(B, {std::uint64_t(m), std::uint64_t(rank)});
    if (fixed_rank && rank != config_.rank_of(module))
      fail("module '" + module + "' has rank " + std::to_string(rank) + " where the configuration says " + std::to_string(config_.rank_of(module)));
    return {m, n, rank};
  }
  /// Before anything is made from the configuration's rank alone: the tensors must have it.
  void rank_is_that_of(const char* kind) const {
    for (const auto& [module, parts] : parts_)
      if (const io::Tensor& t = part(module, kind); t.shape.empty() || t.shape[0] != std::uint64_t(config_.rank))
        fail("tensor '" + t.name + "' is " + detail::shape_text(t.shape) + " where the configuration says rank " + std::to_string(config_.rank));
    if (parts_.empty()) fail("has no modules");
  }
  void base_is(const std::string& module, Index rows, Index cols, Index m, Index n) const {
    if (rows == m && cols == n) return;
    fail("module '" + module + "' adapts a weight of " + lowrank::detail::shape_text(m, n) + ", got one of " + lowrank::detail::shape_text(rows, cols));
  }

  PeftConfig config_;
  io::Safetensors file_;
  std::string origin_;
  std::map<std::string, std::map<std::string, const io::Tensor*>> parts_;  // module, kind
  std::map<std::string, const io::Tensor*> shared_;
  std::vector<std::string> others_;
};

}  // namespace exchange
}  // namespace lowrank
