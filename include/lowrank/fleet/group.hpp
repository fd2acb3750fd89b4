// Groups: which matrices of a model get which recipe, by name. A name belongs to the first group with a pattern that
// matches it. Patterns are globs: * is any run of characters, dots included, ? is one.
//
//   Group{named("*.attn.*", "*.mlp.*"), galore({.rank = 128})}, Group{anything(), adamw({.weight_decay = 0.1})}
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {

struct Names {
  std::vector<std::string> patterns;
  bool rest = false;  // whatever no group before wanted, possibly nothing
};

template <class... Patterns>
Names named(const Patterns&... patterns) {
  static_assert(sizeof...(patterns) > 0, "named() needs a pattern; anything() takes what is left");
  return {{std::string(patterns)...}, false};
}
inline Names anything() { return {{"*"}, true}; }

/// Whether the bases of a group's matrices are renewed in the same step, or one after the other over a period, which
/// bounds the longest step of a large model.
enum class Stagger { Off, On };

template <class R>
struct Group {
  Names names;
  R recipe;
  Stagger stagger = Stagger::Off;
};
template <class R>
Group(Names, R) -> Group<R>;
template <class R>
Group(Names, R, Stagger) -> Group<R>;

namespace detail {

/// Greedy from the left: on a mismatch the last * takes one character more.
inline bool glob_matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

/// The group of every name, first match first. Throws for a name that no group takes and for a pattern that takes none:
/// either is a mistake that would show only as a worse model.
inline std::vector<std::size_t> assign(const std::vector<std::string>& names, const std::vector<Names>& groups) {
  const char* who = "lowrank::Fleet";
  std::vector<std::size_t> group_of(names.size(), groups.size());
  std::vector<std::vector<bool>> used;
  for (const Names& g : groups) used.emplace_back(g.patterns.size(), g.rest);
  for (std::size_t i = 0; i < names.size(); ++i)
    for (std::size_t g = 0; g < groups.size() && group_of[i] == groups.size(); ++g)
      for (std::size_t p = 0; p < groups[g].patterns.size(); ++p)
        if (glob_matches(groups[g].patterns[p], names[i])) {
          group_of[i] = g;
          used[g][p] = true;
        }
  for (std::size_t i = 0; i < names.size(); ++i)
    if (group_of[i] == groups.size())
      bad_argument(who, "parameter '" + names[i] + "', which no group takes", "a last group with anything()");
  for (std::size_t g = 0; g < groups.size(); ++g)
    for (std::size_t p = 0; p < groups[g].patterns.size(); ++p)
      if (!used[g][p])
        bad_argument(who, "pattern '" + groups[g].patterns[p] + "' of group " + std::to_string(g) +
                              ", which takes no parameter", "patterns that match a name no group before takes");
  return group_of;
}

}  // namespace detail
}  // namespace lowrank
