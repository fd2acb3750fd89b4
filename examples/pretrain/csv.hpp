// Tables as CSV: written row by row, each row at once on disk, and read back.
#pragma once

#include <charconv>  // std::to_chars
#include <cstdint>   // std::uintmax_t
#include <filesystem>
#include <fstream>
#include <iterator>  // std::istreambuf_iterator
#include <sstream>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <vector>

namespace pretrain {

/// The shortest text that reads back as the same number.
inline std::string number(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}

class CsvWriter {
 public:
  enum class Open { Fresh, Append };

  /// Append keeps the whole lines that are there and writes the header only when there are none.
  CsvWriter(const std::filesystem::path& path, const std::vector<std::string>& header, Open how) {
    const bool titled = how == Open::Append && cut_after_last_line(path) > 0;
    file_.open(path, how == Open::Append ? std::ios::app : std::ios::trunc);
    if (!file_) throw std::runtime_error("cannot write " + path.string());
    if (!titled) row(header);
  }

  void row(const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i) file_ << (i > 0 ? "," : "") << cells[i];
    file_ << std::endl;  // flushed: an interrupted program keeps its finished rows
    if (!file_) throw std::runtime_error("cannot write a row: is the disk full?");
  }

 private:
  /// A program killed while it wrote leaves half a row: takes it away. Bytes that are left.
  static std::uintmax_t cut_after_last_line(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return 0;
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const std::uintmax_t end = text.rfind('\n') + 1;  // npos + 1 = 0
    if (end < text.size()) std::filesystem::resize_file(path, end);
    return end;
  }

  std::ofstream file_;
};

/// The whole rows after the header; none when there is no such file. Cells hold no commas here.
inline std::vector<std::vector<std::string>> read_csv(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::vector<std::string>> rows;
  std::size_t width = 0;
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string> cells;
    std::istringstream in(line);
    for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
    if (width == 0)
      width = cells.size();
    else if (cells.size() == width && !file.eof())  // half a row has no line end
      rows.push_back(std::move(cells));
  }
  return rows;
}

}  // namespace pretrain
