// Json: the little of JSON (RFC 8259) that file headers need. Strict: input is hostile until parsed, so duplicate keys,
// invalid UTF-8, lone surrogates, numbers out of grammar, trailing text and deep nesting are errors. Numbers keep their
// text: an offset of 64 bits does not fit a double.
#pragma once

#include <algorithm>     // std::find_if
#include <charconv>      // std::from_chars, std::to_chars
#include <cstdint>       // std::uint64_t
#include <stdexcept>     // std::runtime_error
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>       // std::move
#include <vector>

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace io {

struct Json {
  enum class Kind { Null, False, True, Number, String, Array, Object };

  Kind kind = Kind::Null;
  std::string text;                                 // of a number or string
  std::vector<Json> items;                          // of an array
  struct Field;
  std::vector<Field> fields;                        // of an object, in order

  static Json string(std::string s);
  static Json boolean(bool b);
  static Json object();
  static Json array();
  /// The shortest text that reads back to the same bits; infinities and NaN, which JSON lacks, become strings.
  template <class T>
  static Json number(T x);

  Json& set(std::string key, Json value);
  /// The field of that name, or null.
  const Json* find(std::string_view key) const;
  /// A non-negative integer that fits; false for anything else.
  bool to_unsigned(std::uint64_t& out) const {
    if (kind != Kind::Number) return false;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), out);
    return result.ec == std::errc() && result.ptr == text.data() + text.size();
  }

  std::string dump() const {
    std::string out;
    write(out);
    return out;
  }
  /// Throws std::runtime_error with the byte at which the text stops being JSON.
  static Json parse(std::string_view text);

 private:
  static Json make(Kind kind, std::string text = {});
  static void quote(std::string& out, std::string_view s) {
    constexpr char hex[] = "0123456789abcdef";
    out += '"';
    for (const char c : s) {
      const auto u = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') out += '\\', out += c;
      else if (c == '\n') out += "\\n";
      else if (c == '\r') out += "\\r";
      else if (c == '\t') out += "\\t";
      else if (c == '\b') out += "\\b";
      else if (c == '\f') out += "\\f";
      else if (u < 0x20) out += "\\u00", out += hex[u >> 4], out += hex[u & 15];
      else out += c;
    }
    out += '"';
  }
  void write(std::string& out) const;
};

struct Json::Field {
  std::string key;
  Json value;
};

inline Json Json::make(Kind kind, std::string text) {
  Json json;
  json.kind = kind;
  json.text = std::move(text);
  return json;
}

inline Json Json::string(std::string s) { return make(Kind::String, std::move(s)); }
inline Json Json::boolean(bool b) { return make(b ? Kind::True : Kind::False); }
inline Json Json::object() { return make(Kind::Object); }
inline Json Json::array() { return make(Kind::Array); }
template <class T>
Json Json::number(T x) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), x).ptr;
  std::string s(buffer, end);
  const bool finite = s.find_first_of("in") == std::string::npos;
  return make(finite ? Kind::Number : Kind::String, std::move(s));
}

inline Json& Json::set(std::string key, Json value) {
  fields.push_back({std::move(key), std::move(value)});
  return *this;
}

inline const Json* Json::find(std::string_view key) const {
  const auto at = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.key == key; });
  return at == fields.end() ? nullptr : &at->value;
}

inline void Json::write(std::string& out) const {
  bool first = true;
  const auto comma = [&] {
    if (!first) out += ',';
    first = false;
  };
  switch (kind) {
    case Kind::Null: out += "null"; break;
    case Kind::False: out += "false"; break;
    case Kind::True: out += "true"; break;
    case Kind::Number: out += text; break;
    case Kind::String: quote(out, text); break;
    case Kind::Array:
      out += '[';
      for (const Json& item : items) comma(), item.write(out);
      out += ']';
      break;
    case Kind::Object:
      out += '{';
      for (const auto& [key, value] : fields) comma(), quote(out, key), out += ':', value.write(out);
      out += '}';
      break;
  }
}

namespace detail {

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Json document() {
    Json value = any(0);
    space();
    if (at_ != text_.size()) fail("text after the value");
    return value;
  }

 private:
  static constexpr int deepest = 32;

  [[noreturn]] void fail(const char* what) const {
    throw std::runtime_error("JSON: " + std::string(what) + " at byte " + std::to_string(at_));
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void space() {
    while (at_ < text_.size() && (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t')) ++at_;
  }
  bool word(std::string_view w) {
    if (text_.substr(at_, w.size()) != w) return false;
    at_ += w.size();
    return true;
  }

  Json any(int depth) {
    if (depth > deepest) fail("nesting too deep");
    space();
    if (peek() == '{') return object(depth);
    if (peek() == '[') return array(depth);
    if (peek() == '"') return Json::string(string());
    if (word("null")) return {};
    if (word("true")) return Json::boolean(true);
    if (word("false")) return Json::boolean(false);
    return number();
  }
  Json object(int depth) {
    Json value = Json::object();
    std::unordered_set<std::string> seen;
    take('{');
    space();
    if (take('}')) return value;
    do {
      space();
      if (peek() != '"') fail("a key expected");
      std::string key = string();
      if (!seen.insert(key).second) fail("duplicate key");
      space();
      if (!take(':')) fail("':' expected");
      value.set(std::move(key), any(depth + 1));
      space();
    } while (take(','));
    if (!take('}')) fail("',' or '}' expected");
    return value;
  }
  Json array(int depth) {
    Json value = Json::array();
    take('[');
    space();
    if (take(']')) return value;
    do {
      value.items.push_back(any(depth + 1));
      space();
    } while (take(','));
    if (!take(']')) fail("',' or ']' expected");
    return value;
  }
  bool digits() {
    const std::size_t from = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > from;
  }
  Json number() {
    const std::size_t from = at_;
    take('-');
    if (!take('0') && !digits()) fail("a value expected");
    if (take('.') && !digits()) fail("a digit expected");
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      if (!digits()) fail("a digit expected");
    }
    return {Json::Kind::Number, std::string(text_.substr(from, at_ - from)), {}, {}};
  }

  unsigned hex4() {
    unsigned value = 0;
    const auto result = std::from_chars(text_.data() + at_, text_.data() + std::min(at_ + 4, text_.size()), value, 16);
    if (result.ec != std::errc() || result.ptr != text_.data() + at_ + 4) fail("four hexadecimal digits expected");
    at_ += 4;
    return value;
  }
  static void append(std::string& out, unsigned point) {
    const auto byte = [&](unsigned b) { out += static_cast<char>(b); };
    if (point < 0x80) byte(point);
    else if (point < 0x800) byte(0xC0 | point >> 6), byte(0x80 | (point & 63));
    else if (point < 0x10000) byte(0xE0 | point >> 12), byte(0x80 | (point >> 6 & 63)), byte(0x80 | (point & 63));
    else byte(0xF0 | point >> 18), byte(0x80 | (point >> 12 & 63)), byte(0x80 | (point >> 6 & 63)), byte(0x80 | (point & 63));
  }
  void escape(std::string& out) {
    constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    if (take('u')) {
      unsigned point = hex4();
      if (point >= 0xD800 && point < 0xDC00) {
        if (!word("\\u")) fail("a lone surrogate");
        const unsigned low = hex4();
        if (low < 0xDC00 || low > 0xDFFF) fail("a lone surrogate");
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
      } else if (point >= 0xDC00 && point < 0xE000) {
        fail("a lone surrogate");
      }
      return append(out, point);
    }
    const std::size_t which = at_ < text_.size() ? from.find(peek()) : from.npos;
    if (which == from.npos) fail("an unknown escape");
    out += to[which];
    ++at_;
  }
  /// One UTF-8 sequence, shortest form, no surrogates.
  void sequence(std::string& out) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text_[i]); };
    const unsigned lead = byte(at_);
    const std::size_t n = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (n == 0 || at_ + n > text_.size()) fail("invalid UTF-8");
    unsigned point = n == 1 ? lead : lead & (0xFFu >> (n + 1));
    for (std::size_t i = 1; i < n; ++i) {
      if (byte(at_ + i) >> 6 != 2) fail("invalid UTF-8");
      point = point << 6 | (byte(at_ + i) & 63);
    }
    constexpr unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < least[n] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) fail("invalid UTF-8");
    out.append(text_.substr(at_, n));
    at_ += n;
  }
  std::string string() {
    std::string out;
    take('"');
    while (!take('"')) {
      if (at_ >= text_.size()) fail("a string without end");
      if (static_cast<unsigned char>(peek()) < 0x20) fail("a control character in a string");
      if (take('\\')) escape(out);
      else sequence(out);
    }
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace detail

inline Json Json::parse(std::string_view text) { return detail::JsonParser(text).document(); }

}  // namespace io
}  // namespace lowrank
