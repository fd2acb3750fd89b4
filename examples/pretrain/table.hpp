// Tables for people: columns as wide as their widest cell, numbers to the right.
#pragma once

#include <algorithm>  // std::max
#include <cstdio>
#include <string>
#include <vector>

namespace pretrain {

/// printf into a string.
template <class... T>
std::string format(const char* how, T... values) {
  char text[256];
  std::snprintf(text, sizeof text, how, values...);
  return text;
}

/// 5,062,656
inline std::string grouped(std::size_t n) {
  const std::string digits = std::to_string(n);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

class Table {
 public:
  explicit Table(std::vector<std::string> header) { add(std::move(header)); }

  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  /// The first column is flush left, the others are flush right.
  void print(std::FILE* out) const {
    std::vector<std::size_t> widths;
    for (const auto& row : rows_)
      for (std::size_t i = 0; i < row.size(); ++i) {
        if (i == widths.size()) widths.push_back(0);
        widths[i] = std::max(widths[i], row[i].size());
      }
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i)
        std::fprintf(out, i == 0 ? "%-*s" : "  %*s", int(widths[i]), row[i].c_str());
      std::fputc('\n', out);
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace pretrain
