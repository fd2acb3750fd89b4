// A heat map as SVG: one line for each name, steps to the right, colour for a share of 0 to 1. Every cell reaches from its
// step to the next one of its line; cells of one colour are one path, which keeps the file small.
#pragma once

#include <algorithm>  // std::clamp, std::max
#include <array>
#include <cstdio>     // std::snprintf
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "examples/pretrain/svg_parts.hpp"

namespace pretrain {

struct HeatLine {
  std::string label;
  std::vector<double> steps, shares;  // ascending, one share for each step
  std::vector<double> marks;          // steps that get a tick in the line
};

namespace svg {

/// From dark to light at even steps of lightness, legible in grey and to colour-blind eyes.
inline std::string heat(double share) {
  static constexpr std::array<std::array<double, 3>, 5> stops{{{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}}};
  const double at = std::clamp(share, 0.0, 1.0) * double(stops.size() - 1);
  const std::size_t i = std::min(std::size_t(at), stops.size() - 2);
  char text[8];
  int c[3];
  for (std::size_t k = 0; k < 3; ++k) c[k] = int(stops[i][k] + (at - double(i)) * (stops[i + 1][k] - stops[i][k]) + 0.5);
  std::snprintf(text, sizeof text, "#%02x%02x%02x", unsigned(c[0]) & 255, unsigned(c[1]) & 255, unsigned(c[2]) & 255);
  return text;
}

}  // namespace svg

inline std::string heat_map(const std::string& title, const std::string& key, double last_step, const std::vector<HeatLine>& lines) {
  constexpr double width = 860, left = 130, right = 750, top = 56, row = 15, gap = 2;
  constexpr int levels = 50;
  const double bottom = top + row * double(std::max<std::size_t>(1, lines.size()));
  const svg::Range x{0, std::max(1.0, last_step), Axis::Scale::Linear};
  const auto place = [&](double step) { return left + (right - left) * x.at(step); };
  const auto append = [](std::string& path, const char* how, auto... values) {
    char text[64];
    std::snprintf(text, sizeof text, how, values...);
    path += text;
  };

  std::map<int, std::string> cells;  // by colour
  std::string marks;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const HeatLine& line = lines[i];
    const double y = top + row * double(i), h = row - gap;
    for (std::size_t c = 0; c < line.steps.size(); ++c) {
      const double from = place(line.steps[c]), to = place(c + 1 < line.steps.size() ? line.steps[c + 1] : x.high);
      append(cells[int(line.shares[c] * levels + 0.5)], "M%.1f %gH%.1fv%gH%.1f", from, y, to, h, from);
    }
    for (const double step : line.marks) append(marks, "M%.1f %gv%g", place(step), y, h);
  }

  std::ostringstream out;
  out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width << " " << bottom + 56
      << "' font-family='sans-serif' font-size='12' fill='#333'>\n<rect width='100%' height='100%' fill='white'/>\n"
      << svg::text(20, 28, "start", title, "font-size='16' font-weight='bold'");
  for (const auto& [level, path] : cells)
    out << "<path d='" << path << "' fill='" << svg::heat(double(level) / levels) << "'/>\n";
  if (!marks.empty()) out << "<path d='" << marks << "' stroke='white' stroke-width='1.6' fill='none'/>\n";
  for (std::size_t i = 0; i < lines.size(); ++i)
    out << svg::text(left - 8, top + row * (double(i) + 0.72), "end", lines[i].label, "");
  for (const double v : svg::ticks(x)) out << svg::text(place(v), bottom + 17, "middle", svg::short_number(v), "");
  out << svg::text((left + right) / 2, bottom + 40, "middle", "step", "");
  // the key
  constexpr double key_left = right + 22, key_width = 16, key_height = 150;
  for (int i = 0; i < levels; ++i)
    out << "<rect x='" << key_left << "' y='" << top + key_height * (1 - double(i + 1) / levels) << "' width='" << key_width
        << "' height='" << key_height / levels + 0.5 << "' fill='" << svg::heat((double(i) + 0.5) / levels) << "'/>\n";
  for (const double v : {0.0, 0.25, 0.5, 0.75, 1.0})
    out << svg::text(key_left + key_width + 6, top + key_height * (1 - v) + 4, "start", svg::short_number(v), "");
  out << svg::text(width - 20, top - 14, "end", key, "") << "</svg>\n";
  return out.str();
}

}  // namespace pretrain
