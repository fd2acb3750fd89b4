// .npy: one array in a file, as numpy writes it (format 1.0 to 3.0). float32, float64, and the integers, little-endian,
// in C or Fortran order; read strictly, errors are std::runtime_error that name the file and what is wrong.
#pragma once

#include <bit>         // std::endian
#include <charconv>    // std::from_chars
#include <cstring>     // std::memcpy
#include <filesystem>
#include <fstream>     // std::ifstream, std::ofstream
#include <span>
#include <stdexcept>   // std::runtime_error
#include <string>
#include <vector>

#include <lowrank/core/abi.hpp>
#include <lowrank/io/read_file.hpp>

static_assert(std::endian::native == std::endian::little, "the files read here are little-endian, and so must the machine be");

namespace lowrank::inline LOWRANK_ABI {
namespace io {

struct Npy {
  enum class Order { C, Fortran };  // last or first index fastest

  std::string dtype;                 // as in safetensors: F32, F64, I8, ... U64, BOOL
  std::vector<std::uint64_t> shape;
  Order order = Order::C;
  std::vector<std::byte> data;

  static Npy read(const std::filesystem::path& path);
  static Npy parse(std::span<const std::byte> bytes, const std::string& origin);
};

/// Writes an array; its data must have the size that its shape says (std::invalid_argument).
void write_npy(const std::filesystem::path& path, const Npy& array);

namespace detail {

struct NpyType {
  std::string_view descr, dtype;
  std::uint64_t bytes;
};
inline constexpr NpyType npy_types[] = {{"<f4", "F32", 4}, {"<f8", "F64", 8}, {"<f2", "F16", 2}, {"|i1", "I8", 1},  {"|u1", "U8", 1}, {"<i2", "I16", 2},
                                        {"<u2", "U16", 2}, {"<i4", "I32", 4}, {"<u4", "U32", 4}, {"<i8", "I64", 8}, {"<u8", "U64", 8}, {"|b1", "BOOL", 1}};

/// {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }: a Python literal, of which this much is read.
class NpyHeader {
 public:
  explicit NpyHeader(std::string_view text) : text_(text) {}

  void parse(Npy& out, std::uint64_t& element) {
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr" && !descr) {
        const std::string type = string();
        for (const NpyType& t : npy_types)
          if (t.descr == type) out.dtype = t.dtype, element = t.bytes;
        if (out.dtype.empty()) fail("the type '" + type + "' is not known");
        descr = true;
      } else if (key == "fortran_order" && !order) {
        if (word("True")) out.order = Npy::Order::Fortran;
        else if (!word("False")) fail("fortran_order is neither True nor False");
        order = true;
      } else if (key == "shape" && !shape) {
        tuple(out.shape);
        shape = true;
      } else {
        fail("the key '" + key + "' is unknown or double");
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    space();
    if (at_ != text_.size()) fail("text after the header");
    if (!descr || !order || !shape) fail("a key is missing");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(what + " at byte " + std::to_string(at_) + " of the header"); }
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool take(char c) {
    space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("'") + c + "' expected");
  }
  bool word(std::string_view w) {
    space();
    if (text_.substr(at_, w.size()) != w) return false;
    at_ += w.size();
    return true;
  }
  std::string string() {
    space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') fail("a text expected");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == text_.npos) fail("a text without end");
    const std::string s(text_.substr(at_ + 1, end - at_ - 1));
    if (s.find('\\') != s.npos) fail("an escape");
    at_ = end + 1;
    return s;
  }
  void tuple(std::vector<std::uint64_t>& out) {
    expect('(');
    while (!take(')')) {
      space();
      std::uint64_t n = 0;
      const auto result = std::from_chars(text_.data() + at_, text_.data() + text_.size(), n);
      if (result.ec != std::errc()) fail("a natural number expected");
      at_ = std::size_t(result.ptr - text_.data());
      out.push_back(n);
      if (out.size() > 32) fail("more than 32 dimensions");
      if (!take(',')) {
        expect(')');
        if (out.size() == 1) fail("a tuple of one needs a comma");
        break;
      }
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

inline std::uint64_t npy_bytes(const std::vector<std::uint64_t>& shape, std::uint64_t element) {
  std::uint64_t bytes = element;
  for (const std::uint64_t n : shape)
    if (__builtin_mul_overflow(bytes, n, &bytes)) throw std::runtime_error("a shape that overflows");
  return bytes;
}

inline Npy parse_npy(std::span<const std::byte> bytes) {
  constexpr std::string_view magic = "\x93NUMPY";
  const auto byte = [&](std::size_t i) { return std::uint64_t(bytes[i]); };
  if (bytes.size() < 10 || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) throw std::runtime_error("it does not begin with \\x93NUMPY");
  const std::uint64_t version = byte(6);
  if (version < 1 || version > 3) throw std::runtime_error("version " + std::to_string(version));
  const std::size_t begin = version == 1 ? 10 : 12;
  if (bytes.size() < begin) throw std::runtime_error("shorter than its header");
  std::uint64_t length = byte(8) | byte(9) << 8;
  if (version > 1) length |= byte(10) << 16 | byte(11) << 24;
  if (length > bytes.size() - begin) throw std::runtime_error("the header ends after the file");
  Npy array;
  std::uint64_t element = 0;
  NpyHeader({reinterpret_cast<const char*>(bytes.data()) + begin, length}).parse(array, element);
  const std::uint64_t expected = npy_bytes(array.shape, element), got = bytes.size() - begin - length;
  if (got != expected) throw std::runtime_error(std::to_string(got) + " bytes of data where the shape needs " + std::to_string(expected));
  array.data.assign(bytes.end() - std::ptrdiff_t(got), bytes.end());
  return array;
}

}  // namespace detail

inline Npy Npy::parse(std::span<const std::byte> bytes, const std::string& origin) {
  try {
    return detail::parse_npy(bytes);
  } catch (const std::runtime_error& e) {
    throw std::runtime_error(origin + ": not a valid .npy file: " + e.what());
  }
}

inline Npy Npy::read(const std::filesystem::path& path) {
  std::vector<std::byte> bytes = detail::read_file(path);
  return parse(bytes, path.string());
}

inline void write_npy(const std::filesystem::path& path, const Npy& array) {
  std::string_view descr;
  std::uint64_t element = 0;
  for (const detail::NpyType& t : detail::npy_types)
    if (t.dtype == array.dtype) descr = t.descr, element = t.bytes;
  if (descr.empty()) throw std::invalid_argument("lowrank::io::write_npy: the unknown dtype " + array.dtype);
  if (detail::npy_bytes(array.shape, element) != array.data.size())
    throw std::invalid_argument("lowrank::io::write_npy: a shape that does not fit its data");
  std::string header = "{'descr': '" + std::string(descr) + "', 'fortran_order': " + (array.order == Npy::Order::C ? "False" : "True") + ", 'shape': (";
  for (std::size_t i = 0; i < array.shape.size(); ++i) header += (i > 0 ? ", " : "") + std::to_string(array.shape[i]);
  header += array.shape.size() == 1 ? ",), }" : "), }";
  // magic, version and length are 10 bytes; data begins at a multiple of 64
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10, ' ');
  header.back() = '\n';
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const char start[] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, char(header.size() & 255), char(header.size() >> 8)};
  file.write(start, sizeof(start));
  file << header;
  file.write(reinterpret_cast<const char*>(array.data.data()), std::streamsize(array.data.size()));
  if (!file.flush()) throw std::runtime_error(path.string() + ": cannot be written");
}

}  // namespace io
}  // namespace lowrank
