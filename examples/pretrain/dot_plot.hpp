// A dot plot as SVG: one line for each name, its mean as a dot, the deviation as a bar, the numbers written beside it.
#pragma once

#include <algorithm>  // std::max, std::min
#include <cmath>      // std::isfinite
#include <cstdio>     // std::snprintf
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "examples/pretrain/svg_parts.hpp"

namespace pretrain {

struct Dot {
  std::string label;
  double mean, deviation;  // a mean that is not finite has no dot
  std::string note;        // in a column of its own
};

inline std::string dot_plot(const std::string& title, const std::string& axis, const std::vector<Dot>& dots) {
  constexpr double width = 860, left = 190, right = 600, top = 60;
  const double row = dots.size() > 12 ? 19 : 30;
  const double bottom = top + row * double(dots.size());
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Dot& d : dots)
    if (std::isfinite(d.mean)) low = std::min(low, d.mean - d.deviation), high = std::max(high, d.mean + d.deviation);
  if (!(low <= high)) low = 0, high = 1;
  const double margin = high > low ? 0.06 * (high - low) : 0.5;
  const svg::Range range{low - margin, high + margin, Axis::Scale::Linear};
  const auto place = [&](double value) { return left + (right - left) * range.at(value); };

  std::ostringstream out;
  out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width << " " << bottom + 60
      << "' font-family='sans-serif' font-size='13' fill='#333'>\n<rect width='100%' height='100%' fill='white'/>\n"
      << svg::text(20, 28, "start", title, "font-size='16' font-weight='bold'");
  for (const double v : svg::ticks(range)) {
    const double x = place(v);
    out << "<line x1='" << x << "' x2='" << x << "' y1='" << top << "' y2='" << bottom << "' stroke='#e4e4e4'/>\n"
        << svg::text(x, bottom + 19, "middle", svg::short_number(v), "");
  }
  out << "<path d='M" << left << " " << bottom << "H" << right << "' fill='none' stroke='#777'/>\n"
      << svg::text((left + right) / 2, bottom + 44, "middle", axis, "");
  for (std::size_t i = 0; i < dots.size(); ++i) {
    const Dot& d = dots[i];
    const double y = top + row * (double(i) + 0.5);
    out << svg::text(left - 12, y + 4.5, "end", d.label, "");
    char numbers[64] = "diverged";
    if (std::isfinite(d.mean)) {
      std::snprintf(numbers, sizeof numbers, "%.3f ± %.3f", d.mean, d.deviation);
      const double from = place(d.mean - d.deviation), to = place(d.mean + d.deviation);
      out << "<path d='M" << from << " " << y << "H" << to << "M" << from << " " << y - 5 << "v10M" << to << " "
          << y - 5 << "v10' fill='none' stroke='" << svg::color(2) << "' stroke-width='1.8'/>\n<circle cx='"
          << place(d.mean) << "' cy='" << y << "' r='4' fill='" << svg::color(2) << "'/>\n";
    }
    out << svg::text(right + 14, y + 4.5, "start", numbers, "") << svg::text(width - 20, y + 4.5, "end", d.note, "");
  }
  out << "</svg>\n";
  return out.str();
}

}  // namespace pretrain
