// Catch2, version 3 or Debian's 2.13, under the names of version 3.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>

#include <string>
#include <utility>

namespace Catch {
using Detail::Approx;

namespace Matchers {
inline auto ContainsSubstring(const std::string& text, CaseSensitive::Choice how = CaseSensitive::Yes) {
  return Contains(text, how);
}

/// Applies a matcher to the what() of an exception.
template <class M>
class MessageMatcher : public MatcherBase<std::exception> {
 public:
  explicit MessageMatcher(M matcher) : matcher_(std::move(matcher)) {}
  bool match(const std::exception& e) const override { return matcher_.match(e.what()); }
  std::string describe() const override { return "exception message " + matcher_.toString(); }

 private:
  M matcher_;
};
template <class M>
MessageMatcher<M> MessageMatches(M matcher) {
  return MessageMatcher<M>(std::move(matcher));
}
}  // namespace Matchers
}  // namespace Catch
#endif

#if !defined(SKIP)  // newer than 2.13
#define SKIP(why)         \
  do {                    \
    WARN("skipped: " why); \
    return;               \
  } while (false)
#endif
