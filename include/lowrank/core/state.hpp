// State surgery: what a method that changes its own parameters (ReLoRA's restart, SST's swap, AdaLoRA's and Maestro's
// pruning) may do to the optimizer state behind one of them, without knowing which optimizer it is. The optimizer, or
// whatever keeps the state, implements the editor; the method is a template on it.
#pragma once

#include <concepts>  // std::same_as
#include <span>      // std::span

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// Of the parameter as its owner sees it.
enum class Axis { Rows, Cols };

/// A column-major piece of one state array, the parameter's shape: what an editor's each() hands out.
template <class S>
struct StateBlock {
  S* data;
  Index rows, cols;
  std::size_t size() const { return std::size_t(rows * cols); }
};

namespace detail {
struct AnyBlock {
  void operator()(auto) const {}
};
}  // namespace detail

/// The state of one parameter. None of these allocates.
///   reset()          moments to zero and the rule's step count to its start
///   zero(axis, at)   the moments of the listed rows or columns
///   gather(axis, at) slot j takes what slot at[j] had, -1: zero; slots beyond the list become zero
///   each(f)          f(StateBlock) for each moment: pruning of single entries
template <class E>
concept StateEditor = requires(E& e, Axis axis, std::span<const Index> at) {
  e.reset();
  e.zero(axis, at);
  e.gather(axis, at);
  e.each(detail::AnyBlock{});
};

/// The editor of a parameter that has no state, as under plain SGD.
struct NoState {
  void reset() {}
  void zero(Axis, std::span<const Index>) {}
  void gather(Axis, std::span<const Index>) {}
  void each(auto&&) {}
};
static_assert(StateEditor<NoState>);

namespace detail {

/// What an editor does to one array, for whoever implements one.
template <class S>
void zero_slots(const StateBlock<S>& block, Axis axis, std::span<const Index> at) {
  const Index slots = axis == Axis::Rows ? block.rows : block.cols, across = axis == Axis::Rows ? block.cols : block.rows;
  for (const Index slot : at)
    if (slot < 0 || slot >= slots) bad_argument("lowrank::zero_slots", std::to_string(slot), "a slot below " + std::to_string(slots));
  const Index along = axis == Axis::Rows ? 1 : block.rows, step = axis == Axis::Rows ? block.rows : 1;
  for (const Index slot : at)
    for (Index q = 0; q < across; ++q) block.data[slot * along + q * step] = S(0);
}

/// Slot j takes old slot at[j]. line: room for one row or column, so that any list will do.
template <class S>
void gather_slots(const StateBlock<S>& block, Axis axis, std::span<const Index> at, S* line) {
  const Index slots = axis == Axis::Rows ? block.rows : block.cols, across = axis == Axis::Rows ? block.cols : block.rows;
  if (Index(at.size()) > slots)
    bad_argument("lowrank::gather_slots", std::to_string(at.size()) + " slots", "at most " + std::to_string(slots));
  for (const Index from : at)
    if (from < -1 || from >= slots)
      bad_argument("lowrank::gather_slots", std::to_string(from), "-1 or a slot below " + std::to_string(slots));
  const Index along = axis == Axis::Rows ? 1 : block.rows, step = axis == Axis::Rows ? block.rows : 1;
  for (Index q = 0; q < across; ++q) {
    S* x = block.data + q * step;
    for (Index j = 0; j < slots; ++j) line[j] = x[j * along];
    for (Index j = 0; j < slots; ++j) {
      const Index from = j < Index(at.size()) ? at[std::size_t(j)] : -1;
      x[j * along] = from < 0 ? S(0) : line[from];
    }
  }
}

}  // namespace detail
}  // namespace lowrank
