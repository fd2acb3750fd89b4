// MomentEditor: the moments of an optimizer without a projection as a StateEditor (core/state.hpp).
#pragma once

#include <algorithm>  // std::max
#include <span>

#include <lowrank/core/state.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

template <class Optimizer>
class MomentEditor {
  using S = typename Optimizer::Scalar;

 public:
  explicit MomentEditor(Optimizer& optimizer) : optimizer_(&optimizer) { optimizer.allocate(); }

  /// Moments and the rule's step count.
  void reset() {
    optimizer_->rule_.visit([](const char*, auto& field) {
      if constexpr (requires { field.set_zero(); }) field.set_zero();
      else field = {};
    });
  }
  void zero(Axis axis, std::span<const Index> at) {
    each([&](const auto& block) { zero_slots(block, along(axis), at); });
  }
  void gather(Axis axis, std::span<const Index> at) {
    const auto room = sizeof(S) * std::size_t(std::max(optimizer_->rows(), optimizer_->cols()));
    S* line = reinterpret_cast<S*>(optimizer_->workspace_.reserve(room).data());
    each([&](const auto& block) { gather_slots(block, along(axis), at, line); });
  }
  /// f(StateBlock<S>) for each moment; one of a row-major weight is transposed.
  void each(auto&& f) {
    optimizer_->rule_.visit([&](const char*, auto& field) {
      if constexpr (requires { field.set_zero(); }) f(StateBlock<S>{field.data(), field.rows(), field.cols()});
    });
  }

 private:
  /// Of the stored d x k array.
  Axis along(Axis axis) const {
    if (!optimizer_->transposed()) return axis;
    return axis == Axis::Rows ? Axis::Cols : Axis::Rows;
  }

  Optimizer* optimizer_;
};

}  // namespace detail
}  // namespace lowrank
