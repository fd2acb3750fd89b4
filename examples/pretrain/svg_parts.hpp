// What charts are made of: axes, round numbers, text that is safe in XML, colours.
#pragma once

#include <cmath>
#include <cstddef>   // std::size_t
#include <cstdio>    // std::snprintf
#include <filesystem>
#include <fstream>
#include <iterator>  // std::size
#include <limits>
#include <sstream>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <vector>

namespace pretrain {

struct Axis {
  enum class Scale { Linear, Log };

  std::string title;
  Scale scale = Scale::Linear;
  double limit = std::numeric_limits<double>::infinity();  // values above are cut off
};

namespace svg {

/// Positions are linear in value or in log10(value).
struct Range {
  double low, high;
  Axis::Scale scale;
  double at(double value) const {
    return ((scale == Axis::Scale::Log ? std::log10(value) : value) - low) / (high - low);
  }
};

/// Multiples of 1, 2 or 5 times a power of ten: at least four of them, at most ten.
inline std::vector<double> ticks(const Range& r) {
  std::vector<double> values;
  if (r.scale == Axis::Scale::Log) {
    const bool wide = r.high - r.low > 2.5;
    for (int e = int(std::floor(r.low)); e <= int(std::ceil(r.high)); ++e)
      for (const double digit : {1.0, 2.0, 5.0})
        if (const double v = digit * std::pow(10.0, e);
            (digit == 1 || !wide) && std::log10(v) >= r.low && std::log10(v) <= r.high)
          values.push_back(v);
    return values;
  }
  const double power = std::pow(10.0, std::floor(std::log10(r.high - r.low)));
  double step = power;
  for (const double finer : {0.5, 0.2, 0.1})
    if ((r.high - r.low) / step < 4) step = finer * power;
  for (double i = std::ceil(r.low / step); i * step <= r.high; ++i) values.push_back(i * step);
  return values;
}

inline std::string short_number(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.4g", std::abs(value) < 1e-12 ? 0.0 : value);
  return buffer;
}

inline std::string text(double x, double y, const char* anchor, const std::string& words, const std::string& more) {
  std::string safe;
  for (const char c : words) {
    if (c == '<') safe += "&lt;";
    else if (c == '&') safe += "&amp;";
    else safe += c;
  }
  std::ostringstream out;
  out << "<text x='" << x << "' y='" << y << "' text-anchor='" << anchor << "' " << more << ">" << safe
      << "</text>\n";
  return out.str();
}

/// Eight colours that differ in lightness as well, so that they survive grey print and colour-blind eyes.
inline const char* color(std::size_t i) {
  static constexpr const char* colors[] = {"#222222", "#d55e00", "#0072b2", "#009e73",
                                           "#cc79a7", "#e69f00", "#56b4e9", "#7f5539"};
  return colors[i % std::size(colors)];
}
/// Tells the ninth from the first.
inline const char* dashes(std::size_t i) { return i % 16 < 8 ? "" : " stroke-dasharray='6 3'"; }

inline void write(const std::filesystem::path& path, const std::string& image) {
  std::ofstream file(path);
  file << image;
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

}  // namespace svg
}  // namespace pretrain
