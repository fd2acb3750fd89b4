// Pattern: the regular expressions of PEFT's configurations (target_modules, rank_pattern, ...), which come from files and
// are hostile until proven otherwise. A text is matched as a whole, in time proportional to text times pattern: all
// alternatives advance together (K. Thompson: Regular expression search algorithm, CACM 11, 1968), nothing is tried twice.
//
// Known: characters, ., \d \w \s and their opposites, escaped punctuation, [classes], ( ), (?: ), |, *, +, ?, their lazy
// forms (a whole match does not care), ^ and $ at the ends. Anything else is a std::runtime_error that names it.
#pragma once

#include <bitset>       // std::bitset
#include <cstdint>      // std::int32_t
#include <stdexcept>    // std::runtime_error
#include <string>
#include <string_view>
#include <vector>       // std::vector

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace exchange {

class Pattern {
 public:
  explicit Pattern(std::string_view text) : text_(text) {
    if (text.size() > 4096) fail("longer than 4096 characters");
    start_ = alternatives(finish_ = add({Kind::End, {}, 0, 0}), 0);
    if (at_ < text_.size()) fail("an unmatched ')'");
    text_ = {};
  }

  bool matches(std::string_view name) const {
    std::vector<std::int32_t> now, next;
    std::vector<std::size_t> seen(nodes_.size(), 0);
    std::size_t round = 1;
    follow(start_, now, seen, round);
    for (const char c : name) {
      ++round;
      next.clear();
      for (const std::int32_t n : now) {
        const Node& node = nodes_[std::size_t(n)];
        if (node.kind == Kind::Set && node.set[static_cast<unsigned char>(c)]) follow(node.next, next, seen, round);
      }
      now.swap(next);
    }
    for (const std::int32_t n : now)
      if (n == finish_) return true;
    return false;
  }

 private:
  using Set = std::bitset<256>;
  enum class Kind { Set, Split, End };
  struct Node {
    Kind kind;
    Set set;
    std::int32_t next, other;
  };
  static constexpr int deepest = 100;

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("pattern '" + std::string(text_.substr(0, 100)) + "': " + what + " at character " + std::to_string(at_));
  }
  std::int32_t add(Node node) {
    if (nodes_.size() > 20000) fail("too large");
    nodes_.push_back(node);
    return std::int32_t(nodes_.size() - 1);
  }
  bool more() const { return at_ < text_.size(); }
  bool take(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  /// Nodes reached from n without a character, each once a round. A stack, not recursion: patterns may be long.
  void follow(std::int32_t n, std::vector<std::int32_t>& out, std::vector<std::size_t>& seen, std::size_t round) const {
    std::vector<std::int32_t> stack{n};
    while (!stack.empty()) {
      const std::int32_t at = stack.back();
      stack.pop_back();
      if (seen[std::size_t(at)] == round) continue;
      seen[std::size_t(at)] = round;
      const Node& node = nodes_[std::size_t(at)];
      if (node.kind != Kind::Split) out.push_back(at);
      else stack.push_back(node.next), stack.push_back(node.other);
    }
  }

  // Each returns the node at which its piece begins; `then` is what follows. Since the text is read forwards and the
  // nodes are linked backwards, pieces end in a Split of their own that is linked to `then`.

  std::int32_t alternatives(std::int32_t then, int depth) {
    if (depth > deepest) fail("nested too deeply");
    std::int32_t start = sequence(then, depth);
    while (take('|')) start = add({Kind::Split, {}, start, sequence(then, depth)});
    return start;
  }
  std::int32_t sequence(std::int32_t then, int depth) {
    const std::int32_t begin = add({Kind::Split, {}, then, then});
    std::int32_t end = begin;  // the Split whose targets are still open
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      if (at_ == 0 && take('^')) continue;
      if (at_ + 1 == text_.size() && take('$')) continue;
      const std::int32_t after = add({Kind::Split, {}, then, then});
      const std::int32_t piece = repeated(after, depth);
      nodes_[std::size_t(end)].next = nodes_[std::size_t(end)].other = piece;
      end = after;
    }
    return begin;
  }
  std::int32_t repeated(std::int32_t then, int depth) {
    const std::int32_t again = add({Kind::Split, {}, then, then});
    const std::int32_t piece = one(again, depth);
    const bool star = take('*'), plus = !star && take('+'), optional = !star && !plus && take('?');
    if (star || plus || optional) take('?');  // lazy
    if (star || plus) nodes_[std::size_t(again)].other = piece;
    if (more() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '{')) fail("an unknown repetition");
    return star || optional ? add({Kind::Split, {}, piece, then}) : piece;
  }
  std::int32_t one(std::int32_t then, int depth) {
    if (take('(')) {
      if (take('?') && !take(':')) fail("an unknown kind of group");
      const std::int32_t start = alternatives(then, depth + 1);
      if (!take(')')) fail("a missing ')'");
      return start;
    }
    Set set;
    if (take('[')) set = klass();
    else if (take('.')) set.set(), set.reset('\n');
    else if (take('\\')) set = escape();
    else if (std::string_view("*+?{^$").find(text_[at_]) != std::string_view::npos) fail("an operator out of place");
    else set.set(static_cast<unsigned char>(text_[at_++]));
    return add({Kind::Set, set, then, then});
  }
  Set escape() {
    if (!more()) fail("nothing after '\\'");
    const char c = text_[at_++];
    Set set;
    const auto range = [&](int from, int to) { for (int x = from; x <= to; ++x) set.set(std::size_t(x)); };
    switch (c) {
      case 'd': case 'D': range('0', '9'); break;
      case 'w': case 'W': range('0', '9'), range('a', 'z'), range('A', 'Z'), set.set('_'); break;
      case 's': case 'S': range('\t', '\r'), set.set(' '); break;
      default:
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) fail("an unknown escape");
        set.set(static_cast<unsigned char>(c));
        return set;
    }
    return c < 'a' ? ~set : set;
  }
  Set klass() {
    Set set;
    const bool inverse = take('^');
    bool first = true;
    while (more() && (first || text_[at_] != ']')) {
      first = false;
      if (take('\\')) {
        set |= escape();
        continue;
      }
      const auto from = static_cast<unsigned char>(text_[at_++]);
      unsigned char to = from;
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        to = static_cast<unsigned char>(text_[at_ + 1]);
        at_ += 2;
        if (to < from || to == '\\') fail("a range that is none");
      }
      for (unsigned x = from; x <= to; ++x) set.set(x);
    }
    if (!take(']')) fail("a missing ']'");
    return inverse ? ~set : set;
  }

  std::string_view text_;  // only while it is parsed
  std::size_t at_ = 0;
  std::vector<Node> nodes_;
  std::int32_t start_ = 0, finish_ = 0;
};

}  // namespace exchange
}  // namespace lowrank
