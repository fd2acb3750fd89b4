// Plan: what a Fleet keeps for every matrix and needs during a step, in bytes, before anything is allocated.
#pragma once

#include <algorithm>  // std::max
#include <array>
#include <cstdio>  // std::snprintf
#include <ostream>
#include <string>
#include <vector>

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {

struct Plan {
  struct Row {
    std::string name;
    Index rows = 0, cols = 0;
    std::string recipe;           // projector, rule and lift
    Index rank = 0;               // 0: the whole gradient
    std::size_t state_bytes = 0;  // kept between steps
    std::size_t dense_bytes = 0;  // what AdamW keeps: two moments of the matrix's size
    std::string note;             // where something else happens than the group asked for
  };

  std::vector<Row> rows;
  std::size_t workspace_bytes = 0;  // shared by all, needed during a step

  std::size_t state_bytes() const { return sum(&Row::state_bytes); }
  std::size_t dense_bytes() const { return sum(&Row::dense_bytes); }

  friend std::ostream& operator<<(std::ostream& out, const Plan& plan) {
    const auto line = [&](const std::string& name, const std::string& shape, const std::string& rank, const std::string& state,
                          const std::string& dense, const std::string& recipe) {
      const auto left = [&](const std::string& s, std::size_t width) { out << s << std::string(width - std::min(width, s.size()), ' ') << "  "; };
      const auto right = [&](const std::string& s, std::size_t width) { out << std::string(width - std::min(width, s.size()), ' ') << s << "  "; };
      left(name, plan.widest()), right(shape, 11), right(rank, 4), right(state, 10), right(dense, 10);
      out << recipe << '\n';
    };
    line("parameter", "shape", "rank", "state", "AdamW's", "recipe");
    for (const Row& r : plan.rows)
      line(r.name, detail::shape_text(r.rows, r.cols), r.rank > 0 ? std::to_string(r.rank) : "-", size_text(r.state_bytes),
           size_text(r.dense_bytes), r.recipe + (r.note.empty() ? "" : "  (" + r.note + ")"));
    line("total", "", "", size_text(plan.state_bytes()), size_text(plan.dense_bytes()),
         "and " + size_text(plan.workspace_bytes) + " of workspace, shared");
    return out;
  }

  /// 512 B, 1.5 KiB, 87.9 MiB.
  static std::string size_text(std::size_t bytes) {
    constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB"};
    double value = double(bytes);
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
    char text[32];
    std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
  }

 private:
  std::size_t sum(std::size_t Row::* bytes) const {
    std::size_t total = 0;
    for (const Row& r : rows) total += r.*bytes;
    return total;
  }
  std::size_t widest() const {
    std::size_t width = 9;
    for (const Row& r : rows) width = std::max(width, r.name.size());
    return width;
  }
};

}  // namespace lowrank
