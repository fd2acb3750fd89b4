// GGUF (ggml-org/ggml, docs/gguf.md): typed key-value pairs and named tensors in one file, as llama.cpp loads them. Version
// 2 and 3, little-endian. Dimensions are listed fastest first, the reverse of safetensors. The reader is strict and treats
// its input as hostile: errors are std::runtime_error that name the file and what is wrong. The writer goes through a
// temporary file and a rename.
#pragma once

#include <bit>         // std::endian
#include <cstdio>      // std::rename
#include <cstring>     // std::memcpy
#include <filesystem>
#include <fstream>     // std::ifstream, std::ofstream
#include <map>
#include <set>
#include <span>
#include <stdexcept>   // std::runtime_error
#include <string>
#include <vector>

#include <unistd.h>  // getpid

#include <lowrank/core/abi.hpp>
#include <lowrank/io/read_file.hpp>

static_assert(std::endian::native == std::endian::little, "GGUF files read here are little-endian, and so must the machine be");

namespace lowrank::inline LOWRANK_ABI {
namespace io {

/// A value of the file's metadata. Scalars and arrays of scalars keep their bytes; texts are texts.
struct GgufValue {
  enum class Type : std::uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };

  Type type = Type::U8;
  Type element = Type::U8;         // of an array
  std::vector<std::byte> bytes;    // of a scalar, or of an array's scalars
  std::vector<std::string> texts;  // of a String (one), or of an array of them

  static GgufValue string(std::string s) { return {Type::String, Type::U8, {}, {std::move(s)}}; }
  static GgufValue f32(float x) {
    GgufValue v{Type::F32, Type::U8, std::vector<std::byte>(4), {}};
    std::memcpy(v.bytes.data(), &x, 4);
    return v;
  }
};

/// dims: fastest first. dtype: F32, F16, BF16, F64, I8, I16, I32, I64.
struct GgufTensor {
  std::string name, dtype;
  std::vector<std::uint64_t> dims;
  std::span<const std::byte> data;
};

namespace detail {

struct GgmlType {
  std::uint32_t number;
  std::string_view dtype;
  std::uint64_t bytes;
};
inline constexpr GgmlType ggml_types[] = {{0, "F32", 4}, {1, "F16", 2}, {24, "I8", 1}, {25, "I16", 2}, {26, "I32", 4}, {27, "I64", 8}, {28, "F64", 8}, {30, "BF16", 2}};
/// Of GgufValue::Type; 0: no fixed size.
inline constexpr std::uint64_t gguf_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

inline std::uint64_t align_up(std::uint64_t x, std::uint64_t to) { return (x + to - 1) / to * to; }

}  // namespace detail

class Gguf {
 public:
  static Gguf read(const std::filesystem::path& path) {
    return parse(detail::read_file(path), path.string());
  }
  static Gguf parse(std::vector<std::byte> bytes, const std::string& origin) {
    Gguf file;
    file.bytes_ = std::move(bytes);
    try {
      file.check();
    } catch (const std::runtime_error& e) {
      throw std::runtime_error(origin + ": not a valid GGUF file: " + e.what());
    }
    return file;
  }
  Gguf(Gguf&&) = default;
  Gguf& operator=(Gguf&&) = default;
  Gguf(const Gguf&) = delete;  // tensors point into it
  Gguf& operator=(const Gguf&) = delete;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  const GgufTensor* find(const std::string& name) const {
    const auto at = index_.find(name);
    return at == index_.end() ? nullptr : &tensors_[at->second];
  }
  /// The text under a key, or empty.
  std::string text(const std::string& key) const {
    const auto at = metadata_.find(key);
    return at == metadata_.end() || at->second.type != GgufValue::Type::String ? "" : at->second.texts[0];
  }

 private:
  Gguf() = default;
  [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error(what); }

  std::uint64_t left() const { return bytes_.size() - at_; }
  template <class T>
  T take(const char* what) {
    T x{};
    if (left() < sizeof(T)) fail(std::string("it ends in ") + what);
    std::memcpy(&x, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return x;
  }
  std::string string(const char* what) {
    const auto n = take<std::uint64_t>(what);
    if (n > left()) fail(std::string("it ends in ") + what);
    std::string s(reinterpret_cast<const char*>(bytes_.data()) + at_, n);
    at_ += n;
    return s;
  }
  GgufValue::Type type(const std::string& key) {
    const auto t = take<std::uint32_t>("a type");
    if (t > 12) fail("the value of '" + key + "' has the unknown type " + std::to_string(t));
    return GgufValue::Type(t);
  }
  void scalars(GgufValue& v, std::uint64_t count, std::uint64_t each, const std::string& key) {
    if (count > left() / each) fail("it ends in the value of '" + key + "'");
    v.bytes.assign(bytes_.begin() + std::ptrdiff_t(at_), bytes_.begin() + std::ptrdiff_t(at_ + count * each));
    at_ += count * each;
  }

  void check() {
    if (bytes_.size() < 24 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) fail("it does not begin with GGUF");
    at_ = 4;
    const auto version = take<std::uint32_t>("the header");
    if (version != 2 && version != 3) fail("version " + std::to_string(version));
    const auto n_tensors = take<std::uint64_t>("the header"), n_values = take<std::uint64_t>("the header");
    // each takes at least so many bytes: counts beyond are lies, found before anything is made for them
    if (n_values > left() / 13 || n_tensors > left() / 24) fail("more tensors or values than it has room for");
    for (std::uint64_t i = 0; i < n_values; ++i) read_value();
    std::uint64_t alignment = 32;
    if (const auto at = metadata_.find("general.alignment"); at != metadata_.end()) {
      std::uint32_t a = 0;
      if (at->second.type != GgufValue::Type::U32) fail("general.alignment is no U32");
      std::memcpy(&a, at->second.bytes.data(), 4);
      if (a < 8 || (a & (a - 1)) != 0 || a > 65536) fail("general.alignment is " + std::to_string(a));
      alignment = a;
    }
    std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
    for (std::uint64_t i = 0; i < n_tensors; ++i) places.push_back(read_tensor());
    const std::uint64_t begin = detail::align_up(at_, alignment);
    std::uint64_t next = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
      const auto [offset, bytes] = places[i];
      const std::string who = "tensor '" + tensors_[i].name + "' ";
      if (offset != next) fail(who + "begins at " + std::to_string(offset) + ", expected " + std::to_string(next));
      if (begin > bytes_.size() || bytes > bytes_.size() - begin || offset > bytes_.size() - begin - bytes) fail(who + "lies outside the file");
      tensors_[i].data = std::span(bytes_).subspan(begin + offset, bytes);
      next = detail::align_up(offset + bytes, alignment);
    }
    if (bytes_.size() > begin && bytes_.size() - begin > next) fail("bytes after the last tensor");
  }
  void read_value() {
    const std::string key = string("a key");
    if (key.empty() || key.size() > 65535) fail("a key of " + std::to_string(key.size()) + " characters");
    GgufValue v;
    v.type = type(key);
    if (v.type == GgufValue::Type::String) {
      v.texts.push_back(string("a text"));
    } else if (v.type == GgufValue::Type::Array) {
      v.element = type(key);
      const auto n = take<std::uint64_t>("an array");
      if (v.element == GgufValue::Type::Array) fail("'" + key + "' is an array of arrays");
      if (v.element != GgufValue::Type::String) scalars(v, n, detail::gguf_bytes[std::size_t(v.element)], key);
      else if (n > left() / 8) fail("it ends in the value of '" + key + "'");
      else for (std::uint64_t i = 0; i < n; ++i) v.texts.push_back(string("a text"));
    } else {
      scalars(v, 1, detail::gguf_bytes[std::size_t(v.type)], key);
    }
    if (!metadata_.emplace(key, std::move(v)).second) fail("two values for '" + key + "'");
  }
  /// offset and bytes
  std::pair<std::uint64_t, std::uint64_t> read_tensor() {
    GgufTensor t;
    t.name = string("a tensor's name");
    if (t.name.size() > 64) fail("a tensor's name of " + std::to_string(t.name.size()) + " bytes, at most 64 are allowed");
    if (!index_.emplace(t.name, tensors_.size()).second) fail("two tensors '" + t.name + "'");
    const std::string who = "tensor '" + t.name + "' ";
    const auto n = take<std::uint32_t>("a tensor's shape");
    if (n < 1 || n > 4) fail(who + "has " + std::to_string(n) + " dimensions");
    for (std::uint32_t i = 0; i < n; ++i) t.dims.push_back(take<std::uint64_t>("a tensor's shape"));
    const auto number = take<std::uint32_t>("a tensor's type");
    std::uint64_t bytes = 0;
    for (const auto& type : detail::ggml_types)
      if (type.number == number) t.dtype = type.dtype, bytes = type.bytes;
    if (t.dtype.empty()) fail(who + "has the type " + std::to_string(number) + ", which is not read here");
    for (const std::uint64_t d : t.dims)
      if (__builtin_mul_overflow(bytes, d, &bytes)) fail(who + "has a shape that overflows");
    if (bytes > bytes_.size()) fail(who + "is larger than the file");
    tensors_.push_back(std::move(t));
    return {take<std::uint64_t>("a tensor's offset"), bytes};
  }

  std::vector<std::byte> bytes_;
  std::uint64_t at_ = 0;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, GgufValue> metadata_;
};

/// Version 3, alignment 32, in the order given. std::invalid_argument for what contradicts itself, std::runtime_error when
/// the file cannot be written; then what was at `path` is still there.
inline void write_gguf(const std::filesystem::path& path, const std::vector<std::pair<std::string, GgufValue>>& metadata, const std::vector<GgufTensor>& tensors) {
  constexpr std::uint64_t alignment = 32;
  std::string head = "GGUF";
  const auto put = [&](auto x) { head.append(reinterpret_cast<const char*>(&x), sizeof(x)); };
  const auto text = [&](const std::string& s) { put(std::uint64_t(s.size())), head += s; };
  const auto raw = [&](const std::vector<std::byte>& b) { head.append(reinterpret_cast<const char*>(b.data()), b.size()); };
  put(std::uint32_t(3)), put(std::uint64_t(tensors.size())), put(std::uint64_t(metadata.size()));
  std::set<std::string> seen;
  for (const auto& [key, v] : metadata) {
    if (key == "general.alignment" || !seen.insert(key).second) throw std::invalid_argument("lowrank::io::write_gguf: the key '" + key + "' is taken");
    const bool array = v.type == GgufValue::Type::Array;
    const GgufValue::Type scalar = array ? v.element : v.type;
    text(key), put(std::uint32_t(v.type));
    if (array) put(std::uint32_t(v.element));
    const std::uint64_t each = detail::gguf_bytes[std::size_t(scalar)], count = each == 0 ? v.texts.size() : v.bytes.size() / each;
    if (scalar == GgufValue::Type::Array || (each > 0 && v.bytes.size() % each != 0) || (!array && count != 1))
      throw std::invalid_argument("lowrank::io::write_gguf: the value of '" + key + "' does not fit its type");
    if (array) put(count);
    if (each > 0) raw(v.bytes);
    else for (const std::string& s : v.texts) text(s);
  }
  seen.clear();
  std::uint64_t offset = 0;
  for (const GgufTensor& t : tensors) {
    const auto refuse = [&](const char* what) { throw std::invalid_argument("lowrank::io::write_gguf: tensor '" + t.name + "' " + what); };
    const detail::GgmlType* type = nullptr;
    for (const auto& known : detail::ggml_types)
      if (known.dtype == t.dtype) type = &known;
    if (type == nullptr) return refuse("has an unknown dtype");
    std::uint64_t bytes = type->bytes;
    for (const std::uint64_t d : t.dims)
      if (__builtin_mul_overflow(bytes, d, &bytes)) refuse("has a shape that overflows");
    if (t.dims.empty() || t.dims.size() > 4 || bytes != t.data.size()) refuse("has a shape that does not fit its data");
    if (t.name.size() > 64 || !seen.insert(t.name).second) refuse("has a name that is taken or longer than 64 bytes");
    text(t.name), put(std::uint32_t(t.dims.size()));
    for (const std::uint64_t d : t.dims) put(d);
    put(type->number), put(offset);
    offset = detail::align_up(offset + bytes, alignment);
  }
  head.resize(detail::align_up(head.size(), alignment), '\0');
  const std::string temporary = path.string() + ".tmp" + std::to_string(getpid());
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << head;
    for (const GgufTensor& t : tensors) {
      file.write(reinterpret_cast<const char*>(t.data.data()), std::streamsize(t.data.size()));
      const std::string padding(detail::align_up(t.data.size(), alignment) - t.data.size(), '\0');
      file << padding;
    }
    if (!file.flush()) {
      std::remove(temporary.c_str());
      throw std::runtime_error(path.string() + ": cannot be written");
    }
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    std::remove(temporary.c_str());
    throw std::runtime_error(path.string() + ": cannot be replaced");
  }
}

}  // namespace io
}  // namespace lowrank
