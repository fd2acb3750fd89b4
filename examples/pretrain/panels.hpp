// Small multiples as SVG: one small chart for each name, all over the same axes, its lowest point marked and written out.
#pragma once

#include <algorithm>  // std::min, std::max, std::min_element
#include <cmath>      // std::isfinite, std::log10
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "examples/pretrain/svg.hpp"

namespace pretrain {

/// x logarithmic. Values above y.limit, infinite ones included, are drawn at the upper edge.
inline std::string panels(const std::string& title, const Axis& x_axis, const Axis& y_axis, const std::vector<Series>& all) {
  constexpr double width = 860, left = 58, top = 52, gap = 12, panel_height = 84, name_height = 31;
  constexpr std::size_t columns = 5;
  const double panel_width = (width - left - 14 - gap * (columns - 1)) / columns, pitch = panel_height + name_height + gap;
  const std::size_t lines = std::max<std::size_t>(1, (all.size() + columns - 1) / columns);

  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low, y_low = x_low, y_high = -y_low;
  for (const Series& s : all)
    for (const Point& p : s.points) {
      x_low = std::min(x_low, std::log10(p.x)), x_high = std::max(x_high, std::log10(p.x));
      if (std::isfinite(p.y)) y_low = std::min(y_low, p.y), y_high = std::max(y_high, std::min(p.y, y_axis.limit));
    }
  if (!(x_low <= x_high)) x_low = 0, x_high = 1;
  if (!(y_low <= y_high)) y_low = 0, y_high = 1;
  const double x_margin = x_high > x_low ? 0.06 * (x_high - x_low) : 0.5, y_margin = y_high > y_low ? 0.08 * (y_high - y_low) : 0.5;
  const svg::Range x{x_low - x_margin, x_high + x_margin, Axis::Scale::Log}, y{y_low - y_margin, y_high + y_margin, Axis::Scale::Linear};

  // small charts have room for few numbers
  std::vector<double> decades, levels;
  for (const double v : svg::ticks(x))
    if (std::abs(std::log10(v) - std::round(std::log10(v))) < 1e-9) decades.push_back(v);
  const std::vector<double> all_levels = svg::ticks(y);
  for (std::size_t i = 0; i < all_levels.size(); i += all_levels.size() > 5 ? 2 : 1) levels.push_back(all_levels[i]);

  std::ostringstream out;
  out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width << " " << top + double(lines) * pitch + 34
      << "' font-family='sans-serif' font-size='11' fill='#333'>\n<rect width='100%' height='100%' fill='white'/>\n"
      << svg::text(20, 28, "start", title, "font-size='16' font-weight='bold'");
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double from = left + double(i % columns) * (panel_width + gap), to = from + panel_width;
    const double high = top + double(i / columns) * pitch + name_height, low = high + panel_height;
    const auto place = [&](const Point& p) {
      const double share = std::isfinite(p.y) ? std::min(1.0, y.at(p.y)) : 1.0;
      return std::pair(from + panel_width * x.at(p.x), low - panel_height * share);
    };
    for (const double v : decades) {
      const double at = from + panel_width * x.at(v);
      out << "<path d='M" << at << " " << high << "V" << low << "' stroke='#e8e8e8'/>\n";
      if (i + columns >= all.size()) out << svg::text(at, low + 14, "middle", svg::short_number(v), "");
    }
    for (const double v : levels) {
      const double at = low - panel_height * y.at(v);
      out << "<path d='M" << from << " " << at << "H" << to << "' stroke='#e8e8e8'/>\n";
      if (i % columns == 0) out << svg::text(from - 6, at + 4, "end", svg::short_number(v), "");
    }
    out << svg::text(from, high - 18, "start", all[i].label,
                     all[i].label.size() > 20 ? "font-weight='bold' font-size='10.5'" : "font-weight='bold'");  // else it meets its neighbour
    if (all[i].points.empty()) continue;
    out << "<path d='";
    for (std::size_t k = 0; k < all[i].points.size(); ++k) {
      const auto [px, py] = place(all[i].points[k]);
      out << (k == 0 ? "M" : "L") << px << " " << py;
    }
    out << "' fill='none' stroke='" << svg::color(2) << "' stroke-width='1.6'/>\n";
    const auto best = std::min_element(all[i].points.begin(), all[i].points.end(), [](const Point& a, const Point& b) { return a.y < b.y; });
    for (const Point& p : all[i].points) {
      const auto [px, py] = place(p);
      const bool marked = &p == &*best && std::isfinite(p.y);
      out << "<circle cx='" << px << "' cy='" << py << "' r='" << (marked ? 4 : 2.4) << "' fill='" << svg::color(marked ? 1 : 2) << "'/>\n";
      if (marked) out << svg::text(from, high - 5, "start", svg::short_number(std::round(p.y * 1000) / 1000) + " at " + svg::short_number(p.x), "");
    }
  }
  out << svg::text(width / 2, top + double(lines) * pitch + 24, "middle", x_axis.title + "; upwards: " + y_axis.title, "font-size='13'")
      << "</svg>\n";
  return out.str();
}

}  // namespace pretrain
