// The learning rate over a run, as a factor of its peak: a linear warm-up, then a cosine.
#pragma once

#include <lowrank/optimizer/schedule.hpp>

#include "examples/pretrain/layout.hpp"

namespace pretrain {

/// For settings with the fields steps, warmup (a fraction of them) and final_lr (of the peak).
template <class Settings>
double schedule(const Settings& s, Index t) {
  const auto warm = Index(s.warmup * double(s.steps) + 0.5);
  return lowrank::warmup(t, warm) * lowrank::cosine(t, s.steps, s.final_lr);
}

}  // namespace pretrain
