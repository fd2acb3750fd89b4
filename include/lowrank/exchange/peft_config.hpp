// adapter_config.json of a PEFT directory: the fields that decide what the tensors beside it mean. Missing ones have
// PEFT's defaults, unknown ones are ignored as PEFT ignores them, and what would change the meaning and is not known here
// is an error.
#pragma once

#include <cmath>       // std::isfinite
#include <filesystem>
#include <fstream>     // std::ifstream

#include <lowrank/adapter/lora.hpp>
#include <lowrank/adapter/rand_bases.hpp>
#include <lowrank/exchange/pattern.hpp>
#include <lowrank/io/json.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace exchange {

struct PeftConfig {
  enum class Type { Lora, Dora, Vera, RandLora, AdaLora };

  Type type = Type::Lora;
  Index rank = 8;             // AdaLora: init_r
  double alpha = 8, dropout = 0;
  Scaling scaling = Scaling::ByRank;
  std::vector<std::pair<std::string, Index>> rank_pattern;    // first key that matches wins
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> target_modules, exclude_modules;   // names or ends of names
  std::string target_pattern, exclude_pattern;                // instead, one expression for the whole name
  std::vector<Index> layers_to_transform;
  std::vector<std::string> layers_pattern;
  std::string init = "true";  // init_lora_weights: what it says about the base weights, see changes_base()
  bool fan_in_fan_out = false;  // the base stores its weight as n x m
  std::uint64_t key = 0;      // projection_prng_key
  bool save_projection = true;
  Basis basis = Basis::Dense;
  std::string base_model, task_type;

  /// The adapter trains what Init::Pissa and the like took out of the base: it means nothing on the original weights.
  bool changes_base() const { return init.starts_with("pissa") || init == "olora" || init == "corda" || init == "lora_ga" || init == "loftq"; }

  /// rank_pattern and alpha_pattern: the first key of which (.*\.)?(key) is the name.
  Index rank_of(const std::string& module) const { return resolve(rank_pattern, module, rank); }
  double alpha_of(const std::string& module) const { return resolve(alpha_pattern, module, alpha); }

  /// Whether PEFT would adapt this module (of a kind that it can adapt).
  bool targets(const std::string& module) const {
    if (!exclude_pattern.empty() ? Pattern(exclude_pattern).matches(module) : named(exclude_modules, module)) return false;
    if (target_pattern == "all-linear") return true;
    if (!target_pattern.empty()) return Pattern(target_pattern).matches(module);
    if (!named(target_modules, module)) return false;
    if (layers_to_transform.empty()) return true;
    const Index layer = layer_of(module);
    return std::find(layers_to_transform.begin(), layers_to_transform.end(), layer) != layers_to_transform.end();
  }

  static PeftConfig read(const std::filesystem::path& path) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    std::ifstream file(path, std::ios::binary);
    if (error || !file) throw std::runtime_error(path.string() + ": cannot be read");
    if (size > 10'000'000) throw std::runtime_error(path.string() + ": too large for a configuration");
    std::string text(size, '\0');
    file.read(text.data(), std::streamsize(size));
    if (std::uint64_t(file.gcount()) != size) throw std::runtime_error(path.string() + ": cannot be read to its end");
    try {
      return parse(text);
    } catch (const std::runtime_error& e) {
      throw std::runtime_error(path.string() + ": " + e.what());
    }
  }

  static PeftConfig parse(std::string_view text) {
    const io::Json json = io::Json::parse(text);
    if (json.kind != io::Json::Kind::Object) fail("not an object");
    PeftConfig c;
    const std::string type = string(json, "peft_type", "");
    const char* rank_key = "r";
    const char* alpha_key = "lora_alpha";
    const char* dropout_key = "lora_dropout";
    if (type == "LORA") c.type = truth(json, "use_dora") ? Type::Dora : Type::Lora;
    else if (type == "ADALORA") c.type = Type::AdaLora, rank_key = "init_r", c.rank = 12;
    else if (type == "VERA") c.type = Type::Vera, dropout_key = "vera_dropout", c.rank = 256;
    else if (type == "RANDLORA") c.type = Type::RandLora, alpha_key = "randlora_alpha", dropout_key = "randlora_dropout", c.rank = 32, c.alpha = 640;
    else fail("peft_type " + (type.empty() ? "is missing" : "'" + type + "' is not one of LORA, ADALORA, VERA, RANDLORA"));

    for (const char* key : {"lora_bias", "use_qalora", "use_bdlora", "alora_invocation_tokens", "layer_replication", "target_parameters",
                            "trainable_token_indices", "arrow_config", "monteclora_config", "velora_config", "kasa_config"})
      if (const io::Json* value = json.find(key); value != nullptr && !empty(*value)) fail(std::string(key) + " is not supported");
    if (const std::string bias = string(json, "bias", "none"); bias != "none") fail("bias '" + bias + "' is not supported");

    c.rank = whole(json, rank_key, c.rank, 1);
    c.alpha = number(json, alpha_key, c.alpha);
    c.dropout = number(json, dropout_key, 0);
    c.scaling = truth(json, "use_rslora") ? Scaling::ByRootRank : Scaling::ByRank;
    c.fan_in_fan_out = truth(json, "fan_in_fan_out");
    c.key = std::uint64_t(whole(json, "projection_prng_key", 0, 0));
    c.save_projection = truth(json, "save_projection", true);
    c.basis = truth(json, "very_sparse") ? Basis::VerySparse : truth(json, "sparse") ? Basis::Sparse : Basis::Dense;
    c.base_model = string(json, "base_model_name_or_path", "");
    c.task_type = string(json, "task_type", "");
    if (const io::Json* init = json.find("init_lora_weights"); init != nullptr && init->kind == io::Json::Kind::String) c.init = init->text;

    if (const io::Json* ranks = object(json, "rank_pattern"))
      for (const auto& [name, value] : ranks->fields) c.rank_pattern.emplace_back(name, integer(value, "rank_pattern", 1));
    if (const io::Json* alphas = object(json, "alpha_pattern"))
      for (const auto& [name, value] : alphas->fields) c.alpha_pattern.emplace_back(name, real(value, "alpha_pattern"));
    names(json, "target_modules", c.target_modules, c.target_pattern);
    names(json, "exclude_modules", c.exclude_modules, c.exclude_pattern);
    std::string one;
    names(json, "layers_pattern", c.layers_pattern, one);
    if (!one.empty()) c.layers_pattern.push_back(one);
    if (const io::Json* layers = json.find("layers_to_transform"); layers != nullptr && layers->kind != io::Json::Kind::Null) {
      if (layers->kind == io::Json::Kind::Array)
        for (const io::Json& item : layers->items) c.layers_to_transform.push_back(integer(item, "layers_to_transform", 0));
      else c.layers_to_transform.push_back(integer(*layers, "layers_to_transform", 0));
    }
    return c;
  }

  /// The text that PEFT reads.
  std::string dump() const {
    using io::Json;
    const auto text = [](const std::string& s) { return s.empty() ? Json{} : Json::string(s); };
    const auto list = [](const std::vector<std::string>& items, const std::string& pattern) {
      if (!pattern.empty()) return Json::string(pattern);
      Json made = Json::array();
      for (const std::string& item : items) made.items.push_back(Json::string(item));
      return made;
    };
    const auto map = [](const auto& items) {
      Json made = Json::object();
      for (const auto& [name, value] : items) made.set(name, Json::number(value));
      return made;
    };
    Json json = Json::object();
    json.set("base_model_name_or_path", text(base_model)).set("bias", Json::string("none"));
    json.set("fan_in_fan_out", Json::boolean(fan_in_fan_out)).set("inference_mode", Json::boolean(true));
    if (type == Type::Lora || type == Type::Dora) {
      json.set("alpha_pattern", map(alpha_pattern)).set("init_lora_weights", Json::boolean(true));
      json.set("lora_alpha", Json::number(alpha)).set("lora_dropout", Json::number(dropout)).set("peft_type", Json::string("LORA"));
      json.set("r", Json::number(rank)).set("rank_pattern", map(rank_pattern));
      json.set("use_dora", Json::boolean(type == Type::Dora)).set("use_rslora", Json::boolean(scaling == Scaling::ByRootRank));
    } else if (type == Type::Vera) {
      json.set("peft_type", Json::string("VERA")).set("projection_prng_key", Json::number(key)).set("r", Json::number(rank));
      json.set("save_projection", Json::boolean(save_projection)).set("vera_dropout", Json::number(dropout));
    } else if (type == Type::RandLora) {
      json.set("peft_type", Json::string("RANDLORA")).set("projection_prng_key", Json::number(key)).set("r", Json::number(rank));
      json.set("randlora_alpha", Json::number(alpha)).set("randlora_dropout", Json::number(dropout));
      json.set("save_projection", Json::boolean(save_projection));
      json.set("sparse", Json::boolean(basis == Basis::Sparse)).set("very_sparse", Json::boolean(basis == Basis::VerySparse));
    } else {
      json.set("init_r", Json::number(rank)).set("lora_alpha", Json::number(alpha)).set("lora_dropout", Json::number(dropout));
      json.set("peft_type", Json::string("ADALORA")).set("total_step", Json::number(1));
    }
    json.set("target_modules", list(target_modules, target_pattern)).set("task_type", text(task_type));
    return json.dump();
  }

 private:
  [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error("not a usable PEFT configuration: " + what); }

  template <class T>
  static T resolve(const std::vector<std::pair<std::string, T>>& patterns, const std::string& module, T otherwise) {
    for (const auto& [key, value] : patterns)
      if (Pattern("(.*\\.)?(" + key + ")").matches(module)) return value;
    return otherwise;
  }
  static bool named(const std::vector<std::string>& names, const std::string& module) {
    for (const std::string& name : names)
      if (module == name || module.ends_with("." + name)) return true;
    return false;
  }
  /// The number after the first ".<pattern>." (any segment without a pattern) that is followed by one; -1: none.
  Index layer_of(const std::string& module) const {
    std::vector<std::string> parts(1);
    for (const char c : module)
      if (c == '.') parts.emplace_back();
      else parts.back() += c;
    const auto number = [](const std::string& s) { return !s.empty() && s.size() < 10 && s.find_first_not_of("0123456789") == s.npos; };
    for (std::size_t p = 0; p < std::max<std::size_t>(layers_pattern.size(), 1); ++p)
      for (std::size_t i = layers_pattern.empty() ? 2 : 1; i + 1 < parts.size(); ++i)
        if (number(parts[i]) && (layers_pattern.empty() || parts[i - 1] == layers_pattern[p])) return Index(std::stol(parts[i]));
    return -1;
  }

  static bool empty(const io::Json& v) {
    using Kind = io::Json::Kind;
    return v.kind == Kind::Null || v.kind == Kind::False || (v.kind == Kind::Array && v.items.empty()) || (v.kind == Kind::Object && v.fields.empty());
  }
  static std::string string(const io::Json& json, const char* key, const char* otherwise) {
    const io::Json* v = json.find(key);
    if (v == nullptr || v->kind == io::Json::Kind::Null) return otherwise;
    if (v->kind != io::Json::Kind::String) fail(std::string(key) + " is not text");
    return v->text;
  }
  static bool truth(const io::Json& json, const char* key, bool otherwise = false) {
    const io::Json* v = json.find(key);
    if (v == nullptr || v->kind == io::Json::Kind::Null) return otherwise;
    if (v->kind != io::Json::Kind::True && v->kind != io::Json::Kind::False) fail(std::string(key) + " is neither true nor false");
    return v->kind == io::Json::Kind::True;
  }
  static double real(const io::Json& v, const char* key) {
    double x = 0;
    const char *from = v.text.data(), *to = from + v.text.size();
    if (v.kind != io::Json::Kind::Number || std::from_chars(from, to, x).ptr != to || !lowrank::detail::is_finite(x)) fail(std::string(key) + " is not a number");
    return x;
  }
  static Index integer(const io::Json& v, const char* key, Index least) {
    std::uint64_t x = 0;
    if (!v.to_unsigned(x) || x < std::uint64_t(least) || x > 0x7fffffff) fail(std::string(key) + " is not an integer of at least " + std::to_string(least));
    return Index(x);
  }
  static double number(const io::Json& json, const char* key, double otherwise) {
    const io::Json* v = json.find(key);
    return v == nullptr || v->kind == io::Json::Kind::Null ? otherwise : real(*v, key);
  }
  static Index whole(const io::Json& json, const char* key, Index otherwise, Index least) {
    const io::Json* v = json.find(key);
    return v == nullptr || v->kind == io::Json::Kind::Null ? otherwise : integer(*v, key, least);
  }
  /// Null when it is not there.
  static const io::Json* object(const io::Json& json, const char* key) {
    const io::Json* v = json.find(key);
    if (v == nullptr || v->kind == io::Json::Kind::Null) return nullptr;
    if (v->kind != io::Json::Kind::Object) fail(std::string(key) + " is not an object");
    return v;
  }
  static void names(const io::Json& json, const char* key, std::vector<std::string>& list, std::string& pattern) {
    const io::Json* v = json.find(key);
    if (v == nullptr || v->kind == io::Json::Kind::Null) return;
    if (v->kind == io::Json::Kind::String) {
      pattern = v->text;
      return;
    }
    if (v->kind != io::Json::Kind::Array) fail(std::string(key) + " is neither text nor a list of texts");
    for (const io::Json& item : v->items) {
      if (item.kind != io::Json::Kind::String) fail(std::string(key) + " is neither text nor a list of texts");
      list.push_back(item.text);
    }
  }
};

}  // namespace exchange
}  // namespace lowrank
