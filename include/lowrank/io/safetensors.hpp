// safetensors: named tensors in one file, and nothing else. 8 bytes little-endian header length, a JSON header
// {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}}, then the tensors without gaps.
// The reader is strict and treats its input as hostile: every error is a std::runtime_error that names the file and what
// is wrong with it. The writer produces the reference implementation's layout (huggingface/safetensors): widest types
// first, then by name, the header padded with spaces to a multiple of 8; it writes beside the file and renames, so that
// a crash leaves either the old file or the new one.
#pragma once

#include <bit>         // std::endian
#include <cerrno>      // errno
#include <cstdio>      // std::fopen, std::rename
#include <cstring>     // std::memcpy, std::strerror
#include <filesystem>
#include <fstream>     // std::ifstream
#include <map>
#include <span>

#include <fcntl.h>   // open
#include <unistd.h>  // fsync

#include <lowrank/io/json.hpp>
#include <lowrank/io/read_file.hpp>

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian, and so must the machine be");

namespace lowrank::inline LOWRANK_ABI {
namespace io {

/// Element types in the order of the reference implementation; tensors are stored in the reverse of it.
struct TensorType {
  std::string_view name;
  std::uint64_t bytes;
};
inline constexpr TensorType tensor_types[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
                                              {"I32", 4},  {"U32", 4}, {"F32", 4}, {"F64", 8}, {"I64", 8}, {"U64", 8}};

/// A tensor in somebody's memory, rows before columns.
struct Tensor {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> data;
};

using Metadata = std::map<std::string, std::string>;

namespace detail {

inline std::ptrdiff_t type_index(std::string_view dtype) {
  const auto at = std::find_if(std::begin(tensor_types), std::end(tensor_types), [&](const auto& t) { return t.name == dtype; });
  return at == std::end(tensor_types) ? -1 : at - std::begin(tensor_types);
}

/// Bytes of a tensor; false when the product overflows.
inline bool tensor_bytes(const std::vector<std::uint64_t>& shape, std::uint64_t element, std::uint64_t& out) {
  out = element;
  for (const std::uint64_t n : shape)
    if (__builtin_mul_overflow(out, n, &out)) return false;
  return true;
}

}  // namespace detail

class Safetensors {
 public:
  static constexpr std::uint64_t longest_header = 100'000'000;  // as in the reference implementation

  /// Reads and checks the whole file.
  static Safetensors read(const std::filesystem::path& path) {
    return parse(detail::read_file(path), path.string());
  }
  /// The same from memory; `origin` is named in errors.
  static Safetensors parse(std::vector<std::byte> bytes, const std::string& origin) {
    Safetensors file;
    file.bytes_ = std::move(bytes);
    try {
      file.check();
    } catch (const std::runtime_error& e) {
      throw std::runtime_error(origin + ": not a valid safetensors file: " + e.what());
    }
    return file;
  }

  Safetensors(Safetensors&&) = default;
  Safetensors& operator=(Safetensors&&) = default;
  Safetensors(const Safetensors&) = delete;  // tensors point into it
  Safetensors& operator=(const Safetensors&) = delete;

  /// In the order of their data.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  const Tensor* find(std::string_view name) const {
    const auto at = index_.find(std::string(name));
    return at == index_.end() ? nullptr : &tensors_[at->second];
  }

 private:
  Safetensors() = default;

  [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error(what); }

  void check() {
    std::uint64_t n = 0;
    if (bytes_.size() < 8) fail("shorter than the header's length");
    std::memcpy(&n, bytes_.data(), 8);
    if (n > longest_header) fail("a header of " + std::to_string(n) + " bytes");
    if (n > bytes_.size() - 8) fail("the header ends after the file");
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + 8, n);
    if (!text.starts_with('{')) fail("the header does not begin with '{'");
    const Json header = Json::parse(text);
    const std::uint64_t room = bytes_.size() - 8 - n;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
    for (const auto& [name, value] : header.fields) {
      if (name == "__metadata__") read_metadata(value);
      else ranges.push_back(read_tensor(name, value, room, n));
    }
    std::vector<std::size_t> order(tensors_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return ranges[a] < ranges[b]; });
    std::uint64_t end = 0;
    std::vector<Tensor> sorted;
    for (const std::size_t i : order) {
      if (ranges[i].first < end) fail("tensor '" + tensors_[i].name + "' overlaps the one before it");
      if (ranges[i].first > end) fail("a hole of unused bytes before tensor '" + tensors_[i].name + "'");
      end = ranges[i].second;
      index_.emplace(tensors_[i].name, sorted.size());
      sorted.push_back(std::move(tensors_[i]));
    }
    if (end != room) fail(std::to_string(room - end) + " bytes after the last tensor");
    tensors_ = std::move(sorted);
  }

  void read_metadata(const Json& value) {
    if (value.kind != Json::Kind::Object) fail("__metadata__ is not an object");
    for (const auto& [key, text] : value.fields) {
      if (text.kind != Json::Kind::String) fail("metadata '" + key + "' is not text");
      metadata_.emplace(key, text.text);
    }
  }

  std::pair<std::uint64_t, std::uint64_t> read_tensor(const std::string& name, const Json& value, std::uint64_t room, std::uint64_t header) {
    const std::string who = "tensor '" + name + "' ";
    const Json *dtype = value.find("dtype"), *shape = value.find("shape"), *offsets = value.find("data_offsets");
    if (value.kind != Json::Kind::Object || !dtype || !shape || !offsets || value.fields.size() != 3)
      fail(who + "is not {dtype, shape, data_offsets}");
    const auto type = dtype->kind == Json::Kind::String ? detail::type_index(dtype->text) : -1;
    if (type < 0) fail(who + "has the unknown dtype " + dtype->dump());
    Tensor tensor{name, dtype->text, {}, {}};
    if (shape->kind != Json::Kind::Array) fail(who + "has a shape that is not a list");
    for (const Json& item : shape->items) {
      std::uint64_t n = 0;
      if (!item.to_unsigned(n)) fail(who + "has a shape that is not of natural numbers");
      tensor.shape.push_back(n);
    }
    std::uint64_t begin = 0, end = 0, bytes = 0;
    if (offsets->kind != Json::Kind::Array || offsets->items.size() != 2 || !offsets->items[0].to_unsigned(begin) ||
        !offsets->items[1].to_unsigned(end))
      fail(who + "has data_offsets that are not two natural numbers");
    if (begin > end || end > room) fail(who + "lies outside the file");
    if (!detail::tensor_bytes(tensor.shape, tensor_types[type].bytes, bytes)) fail(who + "has a shape that overflows");
    if (bytes != end - begin)
      fail(who + "has " + std::to_string(end - begin) + " bytes where its shape needs " + std::to_string(bytes));
    tensor.data = std::span(bytes_).subspan(8 + header + begin, bytes);
    tensors_.push_back(std::move(tensor));
    return {begin, end};
  }

  std::vector<std::byte> bytes_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t> index_;
  Metadata metadata_;
};

/// Writes `tensors` to `path`. Throws std::invalid_argument for tensors that contradict themselves and
/// std::runtime_error when the file cannot be written; then what was at `path` is still there.
inline void write_safetensors(const std::filesystem::path& path, std::vector<Tensor> tensors, const Metadata& metadata = {}) {
  const auto refuse = [](const Tensor& t, const char* what) {
    throw std::invalid_argument("lowrank::io::write_safetensors: tensor '" + t.name + "' " + what);
  };
  std::sort(tensors.begin(), tensors.end(), [](const Tensor& a, const Tensor& b) {
    const auto i = detail::type_index(a.dtype), j = detail::type_index(b.dtype);
    return i != j ? i > j : a.name < b.name;
  });
  Json header = Json::object();
  if (!metadata.empty()) {
    Json texts = Json::object();
    for (const auto& [key, text] : metadata) texts.set(key, Json::string(text));
    header.set("__metadata__", std::move(texts));
  }
  std::uint64_t offset = 0;
  std::unordered_set<std::string> seen;
  for (const Tensor& t : tensors) {
    const auto type = detail::type_index(t.dtype);
    std::uint64_t bytes = 0;
    if (type < 0) refuse(t, "has an unknown dtype");
    if (!detail::tensor_bytes(t.shape, tensor_types[type].bytes, bytes) || bytes != t.data.size())
      refuse(t, "has a shape that does not fit its data");
    if (t.name == "__metadata__" || !seen.insert(t.name).second) refuse(t, "has a name that is taken");
    Json shape = Json::array(), offsets = Json::array();
    for (const std::uint64_t n : t.shape) shape.items.push_back(Json::number(n));
    offsets.items = {Json::number(offset), Json::number(offset + bytes)};
    offset += bytes;
    header.set(t.name, Json::object().set("dtype", Json::string(t.dtype)).set("shape", std::move(shape)).set("data_offsets", std::move(offsets)));
  }
  std::string text = header.dump();
  (void)Json::parse(text);  // a name that is not UTF-8 must not become a file nobody reads
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t n = text.size();

  const std::string temporary = path.string() + ".tmp" + std::to_string(getpid());
  const auto fail = [&](const char* what) {
    const std::string reason = std::strerror(errno);
    std::remove(temporary.c_str());
    throw std::runtime_error(path.string() + ": " + what + ": " + reason);
  };
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  if (file == nullptr) fail("cannot be written");
  bool good = std::fwrite(&n, 8, 1, file) == 1 && std::fwrite(text.data(), 1, n, file) == n;
  for (const Tensor& t : tensors)
    good = good && std::fwrite(t.data.data(), 1, t.data.size(), file) == t.data.size();
  good = good && std::fflush(file) == 0 && fsync(fileno(file)) == 0;
  good = std::fclose(file) == 0 && good;
  if (!good) fail("cannot be written to its end");
  if (std::rename(temporary.c_str(), path.c_str()) != 0) fail("cannot be replaced");
  // the new name is durable once its folder is
  const int folder = open(path.has_parent_path() ? path.parent_path().c_str() : ".", O_RDONLY);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
}

}  // namespace io
}  // namespace lowrank
