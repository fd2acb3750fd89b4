// Record: what a run has done so far, as plain data and as JSON.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "examples/finetune/learner.hpp"
#include "examples/pretrain/stored.hpp"

namespace finetune {

using pretrain::Json;

struct Record {
  std::string name;  // of the run: the method, and the rate where there are several
  std::string method;
  double lr = 0;
  Index steps = 0, skipped = 0;  // skipped: a gradient kept them from being made
  bool diverged = false;
  double held_out = std::numeric_limits<double>::infinity();  // bits per byte; known at the end
  std::vector<pretrain::CurvePoint> curve;
  double loss_sum = 0;  // in nats, since the last point of the curve
  Index loss_count = 0;
  double seconds = 0;
  Written written;
};

/// f(name, field) but for the curve.
template <class R, class F>
void visit(R& r, const F& f) {
  f("run", r.name), f("method", r.method), f("lr", r.lr), f("steps", r.steps), f("skipped", r.skipped);
  f("diverged", r.diverged), f("held-out", r.held_out), f("loss-sum", r.loss_sum), f("loss-count", r.loss_count);
  f("seconds", r.seconds), f("peft", r.written.peft), f("gguf", r.written.gguf), f("peft-bytes", r.written.peft_bytes);
  f("gguf-bytes", r.written.gguf_bytes), f("merged", r.written.merged), f("merge-error", r.written.merge_error);
}

inline Json stored(const Record& r) {
  Json json = Json::object(), curve = Json::array();
  visit(r, [&](const char* name, const auto& value) { json[name] = pretrain::stored(value); });
  for (const pretrain::CurvePoint& p : r.curve) curve.push_back({p.step, pretrain::stored(p.training), pretrain::stored(p.held_out)});
  json["curve"] = curve;
  return json;
}
inline void take(const Json& json, Record& r) {
  visit(r, [&](const char* name, auto& value) { pretrain::take(json.at(name), value); });
  r.curve.clear();
  for (const Json& p : json.at("curve")) {
    pretrain::CurvePoint& point = r.curve.emplace_back();
    pretrain::take(p.at(0), point.step), pretrain::take(p.at(1), point.training), pretrain::take(p.at(2), point.held_out);
  }
}

/// The settings that decide, the text and the weights that the runs begin from.
inline Json stored(const Settings& s, const Base& base, const pretrain::Corpus& corpus) {
  const auto hex = [](std::uint64_t hash) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
    return std::string(text);
  };
  Json json = Json::object();
  visit_deciding(s, [&](const char* name, const auto& value) { json[name] = pretrain::stored(value); });
  json["from"] = "weights " + hex(base.fingerprint);
  return {{"settings", json}, {"corpus", s.corpus}, {"corpus-hash", hex(corpus.fingerprint)}, {"from", s.from}, {"base", s.base}};
}
/// Puts what was stored in the place of the defaults.
inline void take(const Json& json, Settings& s) {
  visit_deciding(s, [&](const char* name, auto& value) { pretrain::take(json.at("settings").at(name), value); });
  json.at("corpus").get_to(s.corpus), json.at("from").get_to(s.from), json.at("base").get_to(s.base);
}

}  // namespace finetune
