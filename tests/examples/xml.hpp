// As much of an XML parser as tells whether a chart can be displayed: tags nest and close, attributes are quoted and
// not repeated, text has no bare & or <, and no number is one.
#pragma once

#include <cctype>  // std::isalpha
#include <set>
#include <string>
#include <vector>

namespace xml {

/// What is wrong with the document; empty if nothing is.
inline std::string fault(const std::string& text) {
  std::vector<std::string> open;
  std::size_t at = 0, roots = 0;
  const auto here = [&](const std::string& what) { return what + " at " + std::to_string(at) + ": " + text.substr(at, 40); };
  const auto is_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == ':'; };
  const auto name = [&] {
    const std::size_t from = at;
    while (at < text.size() && is_name(text[at])) ++at;
    return text.substr(from, at - from);
  };
  while (at < text.size()) {
    if (text[at] == '&') {
      const std::size_t end = text.find(';', at);
      const std::string entity = text.substr(at, end == std::string::npos ? end : end - at + 1);
      if (entity != "&lt;" && entity != "&amp;" && entity != "&gt;") return here("a bare &");
      at = end + 1;
    } else if (text[at] != '<') {
      if (open.empty() && std::isspace(static_cast<unsigned char>(text[at])) == 0) return here("text outside");
      ++at;
    } else if (text.compare(at, 2, "</") == 0) {
      at += 2;
      const std::string tag = name();
      if (open.empty() || open.back() != tag || text[at] != '>') return here("a wrong end tag");
      open.pop_back(), ++at;
    } else {
      ++at;
      const std::string tag = name();
      if (tag.empty()) return here("a bare <");
      if (open.empty() && roots++ > 0) return here("a second root");
      std::set<std::string> seen;
      while (at < text.size() && text[at] == ' ') {
        while (text[at] == ' ') ++at;
        if (!is_name(text[at])) break;
        if (!seen.insert(name()).second) return here("a repeated attribute");
        if (text.compare(at, 2, "='") != 0) return here("an attribute without a value");
        const std::size_t end = text.find('\'', at + 2);
        if (end == std::string::npos) return here("an open attribute");
        const std::string value = text.substr(at + 2, end - at - 2);
        for (const char* bad : {"<", "nan", "inf"})
          if (value.find(bad) != std::string::npos) return here("an attribute with " + std::string(bad));
        at = end + 1;
      }
      if (text.compare(at, 2, "/>") == 0) at += 2;
      else if (text[at] == '>') open.push_back(tag), ++at;
      else return here("an open tag");
    }
  }
  return !open.empty() ? "<" + open.back() + "> is never closed" : roots == 1 ? "" : "no root";
}

}  // namespace xml
