// The roofline plot: a point for every row of the library whose work is known, over the flops it does for a byte. What
// streams without products and what multiplies without streaming has no such place: it is drawn at the left and the right
// edge, as far below the roof as its time says. One label a method, at its largest shape.
#pragma once

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include <bench/report/tables.hpp>
#include <examples/pretrain/svg_parts.hpp>

namespace report {

namespace svg = pretrain::svg;

class RooflinePlot {
 public:
  explicit RooflinePlot(const Results& all) : all_(all) {
    for (const std::string& problem : compared(all)) collect(problem);
    if (points_.empty()) return;
    double low = 1e300, high = 0, least = 1e300, most = 0;
    for (const auto& [n, roof] : all_.roofs) most = std::max(most, 1e-9 * roof.flops), high = std::max(high, 4 * roof.flops / roof.updated);
    for (const Point& p : points_)
      if (p.edge == 0) low = std::min(low, p.intensity), high = std::max(high, p.intensity);
    x_ = {std::log10(std::min(low, 0.25)) - 0.35, std::log10(high) + 0.35, pretrain::Axis::Scale::Log};
    for (Point& p : points_) {
      if (p.edge != 0) p.intensity = std::pow(10.0, p.edge < 0 ? x_.low + 0.12 : x_.high - 0.12);
      const Roof& roof = all_.roofs.at(p.threads);
      p.rate = p.share * 1e-9 * std::min(roof.flops, p.intensity * roof.updated);
      least = std::min(least, p.rate);
    }
    y_ = {std::log10(least) - 0.15, std::log10(most) + 0.2, pretrain::Axis::Scale::Log};
  }

  bool empty() const { return points_.empty(); }

  std::string svg() const {
    std::ostringstream out;
    out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width << " " << height
        << "' font-family='sans-serif' font-size='12' fill='#333'>\n<rect width='100%' height='100%' fill='white'/>\n"
        << svg::text(left, 28, "start", "How far below the roof", "font-size='17' font-weight='bold'");
    axes(out);
    for (const auto& [n, roof] : all_.roofs) draw_roof(out, n, roof);
    for (const Point& p : points_) draw(out, p);
    label(out);
    out << "</svg>\n";
    return out.str();
  }

 private:
  struct Point {
    std::string problem;
    int threads, edge;  // edge: -1 without products, 1 without streaming
    double intensity, share, size, rate = 0;
    std::string method() const { return problem.substr(0, problem.find('/')); }
  };
  struct Box {
    double x, y, w, h;
    bool meets(const Box& b) const { return x < b.x + b.w && b.x < x + w && y < b.y + b.h && b.y < y + h; }
  };

  static constexpr double width = 1280, height = 820, left = 70, right = 1250, top = 50, bottom = 760;

  double at_x(double intensity) const { return left + (right - left) * x_.at(intensity); }
  double at_y(double rate) const { return bottom - (bottom - top) * y_.at(rate); }

  void collect(const std::string& problem) {
    for (const auto& [n, roof] : all_.roofs) {
      const Row* row = all_.find({problem, ours_of(all_, problem), n});
      const double share = row == nullptr ? 0 : share_of_roof(roof, *row);
      if (!(share > 0)) continue;
      const double products = flops(*row), moved = bytes(*row);
      points_.push_back({problem, n, products > 0 && moved > 0 ? 0 : products > 0 ? 1 : -1, moved > 0 ? products / moved : 0, share, products + moved});
    }
  }

  void axes(std::ostringstream& out) const {
    for (const double v : svg::ticks(x_))
      out << "<path d='M" << at_x(v) << " " << top << "V" << bottom << "' stroke='#e8e8e8'/>\n"
          << svg::text(at_x(v), bottom + 18, "middle", svg::short_number(v), "");
    for (const double v : svg::ticks(y_))
      out << "<path d='M" << left << " " << at_y(v) << "H" << right << "' stroke='#e8e8e8'/>\n"
          << svg::text(left - 8, at_y(v) + 4, "end", svg::short_number(v), "");
    out << "<path d='M" << left << " " << top << "V" << bottom << "H" << right << "' fill='none' stroke='#777'/>\n"
        << svg::text((left + right) / 2, bottom + 42, "middle", "flops for each byte the work must move (left edge: streaming only, right edge: products only)", "")
        << svg::text(0, 0, "middle", "GFLOP/s", "transform='translate(18 " + svg::short_number((top + bottom) / 2) + ") rotate(-90)'");
  }

  static const char* color_of(int threads) { return svg::color(threads == 1 ? 2 : 1); }

  void draw_roof(std::ostringstream& out, int threads, const Roof& roof) const {
    const double knee = roof.flops / roof.updated, begin = std::pow(10.0, x_.low), end = std::pow(10.0, x_.high);
    const double bend = std::max(begin, knee), ridge = 1e-9 * roof.flops;
    const double start = std::max(1e-9 * roof.updated * begin, std::pow(10.0, y_.low));
    out << "<path d='M" << at_x(start / (1e-9 * roof.updated)) << " " << at_y(start) << "L" << at_x(bend) << " " << at_y(ridge) << "H"
        << at_x(end) << "' fill='none' stroke='" << color_of(threads) << "' stroke-width='2.2'/>\n"
        << svg::text(at_x(bend) + 8, at_y(ridge) - 7, "start",
                     format("%d thread%s: %.0f GFLOP/s, %.0f GB/s in place", threads, threads == 1 ? "" : "s", ridge, 1e-9 * roof.updated),
                     std::string("font-weight='bold' fill='") + color_of(threads) + "'");
  }

  void draw(std::ostringstream& out, const Point& p) const {
    const char* color = color_of(p.threads);
    out << "<circle cx='" << at_x(p.intensity) << "' cy='" << at_y(p.rate) << "' r='3.6' fill='" << (p.threads == 1 ? "white" : color) << "' stroke='" << color
        << "' stroke-width='1.4'><title>" << p.problem << ", " << p.threads << (p.threads == 1 ? " thread: " : " threads: ")
        << format("%.0f %% of the roof", 100 * p.share) << "</title></circle>\n";
  }

  /// The point of each method that is labelled: its largest shape on most threads, first in the table of several.
  std::vector<const Point*> labelled() const {
    std::vector<const Point*> chosen;
    for (const Point& p : points_) {
      const auto same = std::find_if(chosen.begin(), chosen.end(), [&](const Point* q) { return q->method() == p.method(); });
      if (same == chosen.end()) chosen.push_back(&p);
      else if (p.size > (*same)->size * 1.001 || (p.problem == (*same)->problem && p.threads > (*same)->threads)) *same = &p;
    }
    return chosen;
  }

  /// Each label as near its point as is free of points, roofs' captions and labels that are there.
  void label(std::ostringstream& out) const {
    std::vector<Box> taken;
    for (const Point& p : points_) taken.push_back({at_x(p.intensity) - 4, at_y(p.rate) - 4, 8, 8});
    for (const auto& [n, roof] : all_.roofs) {
      taken.push_back({left, at_y(1e-9 * roof.flops) - 3, right - left, 6});
      taken.push_back({at_x(std::max(roof.flops / roof.updated, std::pow(10.0, x_.low))), at_y(1e-9 * roof.flops) - 20, 300, 24});
    }
    for (const Point* p : labelled()) {
      const std::string words = p->method() + format(" %.0f %%", 100 * p->share);
      const double x = at_x(p->intensity), y = at_y(p->rate), w = 6.4 * double(words.size()) + 4, h = 14;
      Box best{x + 8, y - 7, w, h};
      for (int i = 0; i < 4000; ++i) {  // a spiral
        const double radius = 14 + 0.12 * i, angle = 0.37 * i;
        const double cx = x + 1.7 * radius * std::cos(angle), cy = y + radius * std::sin(angle);
        const Box box{std::cos(angle) < 0 ? cx - w : cx, cy - h / 2, w, h};
        if (box.x < left || box.x + w > right || box.y < top || box.y + h > bottom) continue;
        if (std::any_of(taken.begin(), taken.end(), [&](const Box& b) { return b.meets(box); })) continue;
        best = box;
        break;
      }
      taken.push_back(best);
      const double from = std::min(std::max(x, best.x), best.x + best.w);
      out << "<path d='M" << x << " " << y << "L" << from << " " << (best.y > y ? best.y + 2 : best.y + best.h - 2)
          << "' stroke='#999' stroke-width='0.8' fill='none'/>\n"
          << svg::text(best.x + 2, best.y + 11, "start", words, std::string("fill='") + color_of(p->threads) + "'");
    }
  }

  const Results& all_;
  std::vector<Point> points_;
  svg::Range x_{0, 1, pretrain::Axis::Scale::Log}, y_{0, 1, pretrain::Axis::Scale::Log};
};

}  // namespace report
