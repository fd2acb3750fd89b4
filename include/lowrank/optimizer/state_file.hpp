// State on disk: one safetensors file for one optimizer or a whole model's.
//
// Tensors `<parameter>/<field>`: a Buffer (r x k, column-major) has shape [k, r], numbers are 0-dimensional F64, F32 or
// U64. One metadata key, `lowrank`, holds JSON {"version": 1, "parameters": {name: {"scalar", "rows", "cols" (the user's),
// "transposed", "projector", "rule", "lift"}}} with the name and every option of the three policies.
// Loading reads and checks everything before anything is replaced.
#pragma once

#include <set>

#include <lowrank/core/buffer.hpp>
#include <lowrank/io/safetensors.hpp>
#include <lowrank/optimizer/canonical.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

template <class T>
constexpr const char* tensor_type() {
  if constexpr (std::is_same_v<T, float>) return "F32";
  if constexpr (std::is_same_v<T, double>) return "F64";
  if constexpr (std::is_same_v<T, std::uint64_t>) return "U64";
  if constexpr (std::is_same_v<T, std::int32_t>) return "I32";
  if constexpr (std::is_same_v<T, std::int8_t>) return "I8";
  if constexpr (std::is_same_v<T, std::uint8_t>) return "U8";
  if constexpr (std::is_same_v<T, Eigen::bfloat16>) return "BF16";
}

/// {"name": ..., option: value ...}; enums by their number.
template <class Options>
io::Json describe(const Options& options) {
  io::Json json = io::Json::object();
  json.set("name", io::Json::string(Options::name));
  Options::visit(options, [&](const char* name, const auto& value) {
    using T = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_enum_v<T>)
      json.set(name, io::Json::number(static_cast<int>(value)));
    else
      json.set(name, io::Json::number(value));
  });
  return json;
}

/// Collects what will be written. The state must stay where it is until write().
class StateWriter {
 public:
  void begin(const std::string& parameter, io::Json description) {
    prefix_ = parameter + "/";
    parameters_.set(parameter, std::move(description));
  }
  template <class T>
  void operator()(const char* field, const Buffer<T>& value) {
    add<T>(field, {std::uint64_t(value.cols()), std::uint64_t(value.rows())}, value.data(), value.bytes());
  }
  template <class T>
  void operator()(const char* field, const T& number) {
    add<T>(field, {}, &number, sizeof(T));
  }
  void write(const std::filesystem::path& path) {
    io::Json json = io::Json::object();
    json.set("version", io::Json::number(1)).set("parameters", std::move(parameters_));
    io::write_safetensors(path, std::move(tensors_), {{"lowrank", json.dump()}});
  }

 private:
  template <class T>
  void add(const char* field, std::vector<std::uint64_t> shape, const T* data, std::size_t bytes) {
    tensors_.push_back({prefix_ + field, tensor_type<T>(), std::move(shape), std::as_bytes(std::span(data, bytes / sizeof(T)))});
  }

  std::string prefix_;
  std::vector<io::Tensor> tensors_;
  io::Json parameters_ = io::Json::object();
};

/// Hands out what a file holds, once each, and names the file in every error.
class StateReader {
 public:
  explicit StateReader(const std::filesystem::path& path) : origin_(path.string()), file_(io::Safetensors::read(path)) {
    const auto text = file_.metadata().find("lowrank");
    if (text == file_.metadata().end()) fail("holds no state of lowrank's optimizers (no 'lowrank' metadata)");
    try {
      meta_ = io::Json::parse(text->second);
    } catch (const std::runtime_error& e) {
      fail(std::string("has damaged metadata: ") + e.what());
    }
    const io::Json* version = meta_.find("version");
    if (version == nullptr || version->dump() != "1")
      fail("has version " + (version == nullptr ? std::string("none") : version->dump()) + ", this library reads 1");
    if (meta_.find("parameters") == nullptr) fail("has damaged metadata: no parameters");
  }

  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(origin_ + ": " + what); }

  std::vector<std::string> parameters() const {
    std::vector<std::string> names;
    for (const auto& [name, description] : meta_.find("parameters")->fields) names.push_back(name);
    return names;
  }

  /// From here on fields are this parameter's. Gives its description.
  const io::Json& begin(const std::string& parameter) {
    prefix_ = parameter + "/";
    const io::Json* description = meta_.find("parameters")->find(parameter);
    if (description == nullptr) fail("holds no parameter '" + parameter + "'");
    return *description;
  }
  const std::string& entry(const io::Json& json, const char* key) const {
    const io::Json* value = json.find(key);
    if (value == nullptr || (value->kind != io::Json::Kind::Number && value->kind != io::Json::Kind::String))
      fail("has damaged metadata: '" + std::string(key) + "' of " + prefix_);
    return value->text;
  }

  /// Adds to `differences` where the options of the file are not `mine`. Gives the rank of the file, or -1.
  template <class Options>
  std::int64_t compare(const io::Json& description, const char* part, const Options& mine, std::string& differences) const {
    const io::Json* theirs = description.find(part);
    if (theirs == nullptr) fail("has damaged metadata: no " + std::string(part) + " of " + prefix_);
    std::int64_t rank = -1;
    const io::Json expected = describe(mine);
    for (const auto& [key, value] : expected.fields) {
      const std::string& text = entry(*theirs, key.c_str());
      if (key == "rank") {
        const auto end = std::from_chars(text.data(), text.data() + text.size(), rank).ptr;
        if (end != text.data() + text.size() || rank < 1) fail("has a rank of " + text + " for " + prefix_);
      } else if (text != value.text) {
        differences += "\n  " + prefix_ + part + "." + key + ": " + text + " in the file, " + value.text + " here";
      }
      if (key == "name" && text != value.text) break;  // another policy has other options
    }
    return rank;
  }

  /// A buffer of the expected shape; with `transpose` the file holds the transpose of it.
  template <class T>
  void read(const char* field, Buffer<T>& value, bool transpose) {
    const auto rows = std::uint64_t(value.rows()), cols = std::uint64_t(value.cols());
    const io::Tensor& t = tensor<T>(field, transpose ? std::vector{rows, cols} : std::vector{cols, rows});
    value.allocate();
    if (!transpose) {
      if (value.size() > 0) std::memcpy(value.data(), t.data.data(), value.bytes());
    } else {
      for (Index j = 0; j < value.cols(); ++j)
        for (Index i = 0; i < value.rows(); ++i)
          std::memcpy(&value(i, j), t.data.data() + std::size_t(j + i * value.cols()) * sizeof(T), sizeof(T));
    }
    if constexpr (std::is_floating_point_v<T>)
      for (Index i = 0; i < value.size(); ++i)
        if (!is_finite(value[i])) fail("tensor '" + prefix_ + field + "' is not finite");
  }
  template <class T>
  void read(const char* field, T& number, bool) {
    std::memcpy(&number, tensor<T>(field, {}).data.data(), sizeof(T));
    if constexpr (std::is_floating_point_v<T>)
      if (!is_finite(number) || number < 0) fail("tensor '" + prefix_ + field + "' is not a number >= 0");
  }

  /// Throws unless everything in the file was used.
  void finish() const {
    for (const io::Tensor& t : file_.tensors())
      if (!used_.contains(t.name)) fail("holds tensor '" + t.name + "', which belongs to nothing here");
  }

 private:
  template <class T>
  const io::Tensor& tensor(const char* field, const std::vector<std::uint64_t>& shape) {
    const std::string name = prefix_ + field;
    const io::Tensor* t = file_.find(name);
    if (t == nullptr) fail("holds no tensor '" + name + "'");
    if (t->dtype != tensor_type<T>()) fail("tensor '" + name + "' is " + t->dtype + ", expected " + tensor_type<T>());
    if (t->shape != shape) fail("tensor '" + name + "' has shape " + text(t->shape) + ", expected " + text(shape));
    used_.insert(name);
    return *t;
  }
  static std::string text(const std::vector<std::uint64_t>& shape) {
    std::string s = "[";
    for (const auto n : shape) s += (s.size() > 1 ? ", " : "") + std::to_string(n);
    return s + "]";
  }

  std::string origin_, prefix_;
  io::Safetensors file_;
  io::Json meta_;
  std::set<std::string> used_;
};

}  // namespace detail
}  // namespace lowrank
