// Kinds: what differs between LoRA, DoRA, VeRA and RandLoRA once they are on a model: how many numbers a rank trains, what
// all matrices share, how one begins on a weight and how it is read from a PEFT directory.
#pragma once

#include <algorithm>  // std::max
#include <cstdlib>    // std::abs
#include <memory>     // std::shared_ptr
#include <vector>

#include <lowrank/adapter/dora.hpp>
#include <lowrank/adapter/lora.hpp>
#include <lowrank/adapter/randlora.hpp>
#include <lowrank/adapter/vera.hpp>
#include <lowrank/exchange/peft.hpp>

#include "examples/finetune/adapted.hpp"

namespace finetune {

using lowrank::exchange::PeftDirectory;

/// The matrices that get an adapter: attention and MLP.
inline std::vector<MatrixInfo> adapted_matrices(const Layout& layout) {
  std::vector<MatrixInfo> all;
  for (const MatrixInfo& m : layout.matrices())
    if (m.role == pretrain::Role::Attention || m.role == pretrain::Role::Mlp) all.push_back(m);
  return all;
}

/// The largest number of outputs and of inputs among them: shared bases are cut from these, as PEFT does.
struct Largest {
  Index outputs = 0, inputs = 0;

  explicit Largest(const std::vector<MatrixInfo>& matrices) {
    for (const MatrixInfo& m : matrices) outputs = std::max(outputs, m.rows), inputs = std::max(inputs, m.cols);
  }
};

/// Two factors of its own for each matrix; alpha = 2 r, so that the change is 2 B A at any rank.
struct FactorsKind {
  FactorsKind(Index r, const Largest&, std::uint64_t s) : rank(r), seed(s) {}
  FactorsKind(const PeftDirectory&, const Largest&) {}

  static Index most(Index m, Index n) { return std::min(m, n); }
  std::size_t shared_bytes() const { return 0; }

  Index rank = 0;
  std::uint64_t seed = 0;
};

template <class S>
struct LoraKind : FactorsKind {
  using Adapter = lowrank::Lora<S>;
  using FactorsKind::FactorsKind;

  static Index numbers(Index m, Index n, Index r) { return r * (m + n); }

  Adapter make(const MatrixInfo& m, const S*) const {
    return {m.rows, m.cols, {.rank = rank, .alpha = 2.0 * double(rank), .seed = seed + std::uint64_t(m.offset)}};
  }
  Adapter read(const PeftDirectory& from, const MatrixInfo& m, const S*) const { return from.lora<S>(module_of(m)); }
};

template <class S>
struct DoraKind : FactorsKind {
  using Adapter = lowrank::Dora<S>;
  using FactorsKind::FactorsKind;

  static Index numbers(Index m, Index n, Index r) { return r * (m + n) + m; }

  Adapter make(const MatrixInfo& m, const S* w) const {
    return Adapter(weight_view(w, m), {.rank = rank, .alpha = 2.0 * double(rank), .seed = seed + std::uint64_t(m.offset)});
  }
  Adapter read(const PeftDirectory& from, const MatrixInfo& m, const S* w) const {
    return from.dora<S>(module_of(m), weight_view(w, m));
  }
};

/// The rank is that of frozen bases and costs one number a matrix, so it may be far beyond the matrix's own.
template <class S>
struct VeraKind {
  using Adapter = lowrank::Vera<S>;
  using Bases = lowrank::VeraBases<S>;

  VeraKind(Index rank, const Largest& most, std::uint64_t seed)
      : bases(std::make_shared<const Bases>(Bases::torch(rank, most.outputs, most.inputs, seed))) {}
  VeraKind(const PeftDirectory& from, const Largest& most) : bases(from.vera_bases<S>(most.outputs, most.inputs)) {}

  static Index numbers(Index m, Index, Index r) { return m + r; }
  static Index most(Index m, Index n) { return 16 * (m + n); }

  Adapter make(const MatrixInfo& m, const S*) const { return {m.rows, m.cols, bases}; }
  Adapter read(const PeftDirectory& from, const MatrixInfo& m, const S*) const {
    return from.vera<S>(module_of(m), m.rows, m.cols, bases);
  }
  std::size_t shared_bytes() const { return bases->bytes(); }

  std::shared_ptr<const Bases> bases;
};

/// alpha = 20 r, PEFT's advice. A smaller rank trains more numbers.
template <class S>
struct RandLoraKind {
  using Adapter = lowrank::RandLora<S>;
  using Bases = lowrank::RandBases<S>;

  RandLoraKind(Index rank, const Largest& most, std::uint64_t seed)
      : bases(std::make_shared<const Bases>(Bases::torch({.rank = rank, .larger = std::max(most.outputs, most.inputs),
                                                          .smaller = std::min(most.outputs, most.inputs), .key = seed}))) {}
  RandLoraKind(const PeftDirectory& from, const Largest& most)
      : bases(from.randlora_bases<S>(std::max(most.outputs, most.inputs), std::min(most.outputs, most.inputs))) {}

  static Index numbers(Index m, Index n, Index r) {
    const Index d = std::min(m, n), blocks = (d + r - 1) / r;
    return r * blocks + blocks * d;
  }
  static Index most(Index m, Index n) { return std::min(m, n); }

  Adapter make(const MatrixInfo& m, const S*) const {
    return {m.rows, m.cols, bases, {.alpha = 20.0 * double(bases->rank())}};
  }
  Adapter read(const PeftDirectory& from, const MatrixInfo& m, const S*) const {
    return from.randlora<S>(module_of(m), m.rows, m.cols, bases);
  }
  std::size_t shared_bytes() const { return bases->bytes(); }

  std::shared_ptr<const Bases> bases;
};

/// Numbers that a kind trains on all these matrices together.
template <class Kind>
Index numbers(const std::vector<MatrixInfo>& matrices, Index rank) {
  Index sum = 0;
  for (const MatrixInfo& m : matrices) sum += Kind::numbers(m.rows, m.cols, rank);
  return sum;
}

/// The rank that trains as nearly as possible `wanted` numbers; of two, the lower.
template <class Kind>
Index nearest_rank(const std::vector<MatrixInfo>& matrices, Index wanted) {
  Index most = Kind::most(matrices[0].rows, matrices[0].cols), best = 1;
  for (const MatrixInfo& m : matrices) most = std::min(most, Kind::most(m.rows, m.cols));
  const auto off = [&](Index rank) { return std::abs(numbers<Kind>(matrices, rank) - wanted); };
  for (Index rank = 2; rank <= most; ++rank)
    if (off(rank) < off(best)) best = rank;
  return best;
}

}  // namespace finetune
