// Options of the adapters that run on either machine.
#pragma once

#include <cstdint>  // std::int64_t, std::uint64_t

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// s = alpha / r or alpha / sqrt(r).
enum class Scaling { ByRank, ByRootRank };
enum class Train { Both, OnlyB };

/// LoRA (arXiv 2106.09685): PEFT's defaults (r, lora_alpha, lora_dropout, use_rslora); alpha does not follow the rank.
struct LoraOptions {
  std::int64_t rank = 8;
  double alpha = 8;
  Scaling scaling = Scaling::ByRank;
  double dropout = 0;      // of the branch's input, in Pass::Mode::Train
  Train train = Train::Both;
  double b_lr_ratio = 1;   // LoRA+ (arXiv 2402.12354): learning rate of B over that of A; 16 is the paper's advice
  std::uint64_t seed = 0;  // of first values and dropout: one per layer
};

/// SLTrain (arXiv 2406.02214): the paper's settings for 60M parameters.
struct SlTrainOptions {
  std::int64_t rank = 128;
  double alpha = 32;
  double density = 0.03;   // of S
  std::uint64_t seed = 0;  // of places and first values: one per layer
};

/// Which of RandLoRA's scales belong to row j of its second factor (lowrank/adapter/randlora.hpp).
enum class Pairing { Peft, Paper };

/// RandLoRA (arXiv 2502.00987): PEFT's alpha for the bases' default rank, 20 r.
struct RandLoraOptions {
  double alpha = 640;
  double dropout = 0;
  Pairing pairing = Pairing::Peft;
  std::uint64_t seed = 0;  // of dropout
};

}  // namespace lowrank
