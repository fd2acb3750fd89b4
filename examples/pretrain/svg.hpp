// Line charts as SVG: linear or logarithmic axes, ticks at round numbers, a legend, several series with markers and
// error bars. Text stays text, so a chart in a README can be searched and scaled.
#pragma once

#include <algorithm>  // std::max, std::min
#include <cmath>
#include <cstdio>     // std::snprintf
#include <filesystem>
#include <limits>
#include <sstream>
#include <string>
#include <utility>    // std::move
#include <vector>

#include "examples/pretrain/svg_parts.hpp"

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

class Chart {
 public:
  Chart(std::string title, Axis x, Axis y) : title_(std::move(title)), x_(std::move(x)), y_(std::move(y)) {}

  void add(Series series) { series_.push_back(std::move(series)); }

  void write(const std::filesystem::path& path) const { svg::write(path, svg()); }

  std::string svg() const {
    const svg::Range x = range(x_, [](const Point& p) { return std::pair(p.x, p.x); });
    const svg::Range y = range(y_, [](const Point& p) { return std::pair(p.y - p.error, p.y + p.error); });
    std::ostringstream out;
    out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width << " " << height
        << "' font-family='sans-serif' font-size='13' fill='#333'>\n<rect width='100%' height='100%' fill='white'/>\n"
        << svg::text(left, 26, "start", title_, "font-size='16' font-weight='bold'");
    axes(out, x, y);
    out << "<clipPath id='plot'><rect x='" << left << "' y='" << top - 6 << "' width='" << right - left + 6
        << "' height='" << bottom - top + 12 << "'/></clipPath>\n";
    for (std::size_t i = 0; i < series_.size(); ++i) curve(out, series_[i], i, x, y);
    for (std::size_t i = 0; i < series_.size(); ++i) {
      const double at = top + 10 + 22 * double(i);
      out << "<line x1='" << right + 18 << "' x2='" << right + 42 << "' y1='" << at << "' y2='" << at << "' stroke='"
          << svg::color(i) << "' stroke-width='2.5'" << svg::dashes(i) << "/>\n"
          << svg::text(right + 50, at + 4.5, "start", series_[i].label, "");
    }
    out << "</svg>\n";
    return out.str();
  }

 private:
  static constexpr double width = 860, height = 460, left = 72, right = 690, top = 46, bottom = 400;

  static double place_x(const svg::Range& r, double value) { return left + (right - left) * r.at(value); }
  static double place_y(const svg::Range& r, double value) { return bottom - (bottom - top) * r.at(value); }

  template <class F>
  svg::Range range(const Axis& axis, const F& extent) const {
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (const Series& s : series_)
      for (const Point& p : s.points) {
        if (!std::isfinite(p.y)) continue;
        const auto [a, b] = extent(p);
        low = std::min(low, std::min(a, axis.limit));
        high = std::max(high, std::min(b, axis.limit));
      }
    if (!(low <= high)) low = 1, high = 2;  // no point at all
    if (axis.scale == Axis::Scale::Log) low = std::log10(low), high = std::log10(high);
    const double margin = high > low ? 0.04 * (high - low) : 0.5;
    return {low - margin, high + margin, axis.scale};
  }

  void axes(std::ostringstream& out, const svg::Range& x, const svg::Range& y) const {
    for (const double v : svg::ticks(x)) {
      const double at = place_x(x, v);
      out << "<line x1='" << at << "' x2='" << at << "' y1='" << top << "' y2='" << bottom << "' stroke='#e4e4e4'/>\n"
          << svg::text(at, bottom + 19, "middle", svg::short_number(v), "");
    }
    for (const double v : svg::ticks(y)) {
      const double at = place_y(y, v);
      out << "<line x1='" << left << "' x2='" << right << "' y1='" << at << "' y2='" << at << "' stroke='#e4e4e4'/>\n"
          << svg::text(left - 8, at + 4.5, "end", svg::short_number(v), "");
    }
    out << "<path d='M" << left << " " << top << "V" << bottom << "H" << right << "' fill='none' stroke='#777'/>\n"
        << svg::text((left + right) / 2, bottom + 44, "middle", x_.title, "")
        << svg::text(0, 0, "middle", y_.title, "transform='translate(20 " + svg::short_number((top + bottom) / 2) + ") rotate(-90)'");
  }

  static void curve(std::ostringstream& out, const Series& s, std::size_t i, const svg::Range& x, const svg::Range& y) {
    out << "<g clip-path='url(#plot)' stroke='" << svg::color(i) << "' fill='none' stroke-width='1.8'>\n<path"
        << svg::dashes(i) << " d='";
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
        out << "<circle cx='" << cx << "' cy='" << cy << "' r='3.2' fill='" << svg::color(i) << "' stroke='none'/>\n";
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
