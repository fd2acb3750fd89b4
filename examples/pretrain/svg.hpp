// Line charts as SVG: linear or logarithmic axes, ticks at round numbers, a legend, several series with markers and
// error bars. Text stays text, so a chart in a README can be searched and scaled.
#pragma once

#include <algorithm>  // std::max, std::min
#include <cmath>
#include <cstdio>     // std::snprintf
#include <filesystem>
#include <fstream>
#include <limits>
#include <iterator>   // std::size
#include <sstream>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <vector>

namespace pretrain {

struct Point {
  double x, y;
  double error = 0;  // half length of the bar
};

struct Series {
  enum class Mark { Line, Dots };  // Dots: a line with a dot at every point

  std::string label;
  std::vector<Point> points;
  Mark mark = Mark::Line;
};

struct Axis {
  enum class Scale { Linear, Log };

  std::string title;
  Scale scale = Scale::Linear;
  double limit = std::numeric_limits<double>::infinity();  // values above are cut off
};

class Chart {
 public:
  Chart(std::string title, Axis x, Axis y) : title_(std::move(title)), x_(std::move(x)), y_(std::move(y)) {}

  void add(Series series) { series_.push_back(std::move(series)); }

  void write(const std::filesystem::path& path) const {
    std::ofstream file(path);
    file << svg();
    if (!file) throw std::runtime_error("cannot write " + path.string());
  }

  std::string svg() const {
    const Range x = range(x_, [](const Point& p) { return std::pair(p.x, p.x); });
    const Range y = range(y_, [](const Point& p) { return std::pair(p.y - p.error, p.y + p.error); });
    std::ostringstream out;
    out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width << " " << height
        << "' font-family='sans-serif' font-size='13' fill='#333'>\n<rect width='100%' height='100%' fill='white'/>\n"
        << text(left, 26, "start", title_, "font-size='16' font-weight='bold'");
    axes(out, x, y);
    out << "<clipPath id='plot'><rect x='" << left << "' y='" << top - 6 << "' width='" << right - left + 6
        << "' height='" << bottom - top + 12 << "'/></clipPath>\n";
    for (std::size_t i = 0; i < series_.size(); ++i) curve(out, series_[i], color(i), x, y);
    for (std::size_t i = 0; i < series_.size(); ++i) {
      const double at = top + 10 + 22 * double(i);
      out << "<line x1='" << right + 18 << "' x2='" << right + 42 << "' y1='" << at << "' y2='" << at << "' stroke='"
          << color(i) << "' stroke-width='2.5'/>\n"
          << text(right + 50, at + 4.5, "start", series_[i].label, "");
    }
    out << "</svg>\n";
    return out.str();
  }

 private:
  static constexpr double width = 860, height = 460, left = 72, right = 690, top = 46, bottom = 400;

  /// Positions are linear in value or in log10(value).
  struct Range {
    double low, high;
    Axis::Scale scale;
    double at(double value) const {
      return ((scale == Axis::Scale::Log ? std::log10(value) : value) - low) / (high - low);
    }
  };
  static double place_x(const Range& r, double value) { return left + (right - left) * r.at(value); }
  static double place_y(const Range& r, double value) { return bottom - (bottom - top) * r.at(value); }

  template <class F>
  Range range(const Axis& axis, const F& extent) const {
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (const Series& s : series_)
      for (const Point& p : s.points) {
        const auto [a, b] = extent(p);
        low = std::min(low, std::min(a, axis.limit));
        high = std::max(high, std::min(b, axis.limit));
      }
    if (!(low <= high)) low = 0, high = 1;
    if (axis.scale == Axis::Scale::Log) low = std::log10(low), high = std::log10(high);
    const double margin = high > low ? 0.04 * (high - low) : 0.5;
    return {low - margin, high + margin, axis.scale};
  }

  /// Multiples of 1, 2 or 5 times a power of ten: at least four of them, at most ten.
  static std::vector<double> ticks(const Range& r) {
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

  static std::string short_number(double value) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.4g", std::abs(value) < 1e-12 ? 0.0 : value);
    return buffer;
  }

  static std::string text(double x, double y, const char* anchor, const std::string& words, const std::string& more) {
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
  static const char* color(std::size_t i) {
    static constexpr const char* colors[] = {"#222222", "#d55e00", "#0072b2", "#009e73",
                                             "#cc79a7", "#e69f00", "#56b4e9", "#7f5539"};
    return colors[i % std::size(colors)];
  }

  void axes(std::ostringstream& out, const Range& x, const Range& y) const {
    for (const double v : ticks(x)) {
      const double at = place_x(x, v);
      out << "<line x1='" << at << "' x2='" << at << "' y1='" << top << "' y2='" << bottom << "' stroke='#e4e4e4'/>\n"
          << text(at, bottom + 19, "middle", short_number(v), "");
    }
    for (const double v : ticks(y)) {
      const double at = place_y(y, v);
      out << "<line x1='" << left << "' x2='" << right << "' y1='" << at << "' y2='" << at << "' stroke='#e4e4e4'/>\n"
          << text(left - 8, at + 4.5, "end", short_number(v), "");
    }
    out << "<path d='M" << left << " " << top << "V" << bottom << "H" << right << "' fill='none' stroke='#777'/>\n"
        << text((left + right) / 2, bottom + 44, "middle", x_.title, "")
        << text(0, 0, "middle", y_.title, "transform='translate(20 " + short_number((top + bottom) / 2) + ") rotate(-90)'");
  }

  static void curve(std::ostringstream& out, const Series& s, const char* color, const Range& x, const Range& y) {
    out << "<g clip-path='url(#plot)' stroke='" << color << "' fill='none' stroke-width='1.8'>\n<path d='";
    bool pen_down = false;
    for (const Point& p : s.points) {
      if (!std::isfinite(p.y)) {
        pen_down = false;
        continue;
      }
      char buffer[64];
      std::snprintf(buffer, sizeof buffer, "%c%.1f %.1f", pen_down ? 'L' : 'M', place_x(x, p.x), place_y(y, p.y));
      out << buffer;
      pen_down = true;
    }
    out << "'/>\n";
    for (const Point& p : s.points) {
      if (!std::isfinite(p.y)) continue;
      const double cx = place_x(x, p.x), cy = place_y(y, p.y);
      if (s.mark == Series::Mark::Dots)
        out << "<circle cx='" << cx << "' cy='" << cy << "' r='3.2' fill='" << color << "' stroke='none'/>\n";
      if (p.error > 0) {
        const double low = place_y(y, p.y - p.error), high = place_y(y, p.y + p.error);
        out << "<path d='M" << cx << " " << low << "V" << high << "M" << cx - 5 << " " << low << "h10M" << cx - 5 << " "
            << high << "h10'/>\n";
      }
    }
    out << "</g>\n";
  }

  std::string title_;
  Axis x_, y_;
  std::vector<Series> series_;
};

}  // namespace pretrain
