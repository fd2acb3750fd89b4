// Moments as an optimizer has them, with the editor that methods use: what surgery tests look at.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <lowrank/core/state.hpp>
#include <support/placed.hpp>

namespace support {

/// Two moments of one parameter's shape, and a step count.
struct Moments {
  Eigen::MatrixXd first, second;
  long steps = 7;
  std::vector<double> line;

  Moments() = default;
  Moments(Index rows, Index cols, unsigned seed)
      : first(random_matrix(rows, cols, seed)), second(random_matrix(rows, cols, seed + 1).cwiseAbs()), line(std::size_t(std::max(rows, cols))) {}
};

class MomentsEditor {
 public:
  explicit MomentsEditor(Moments& m) : m_(&m) {}
  void reset() {
    m_->first.setZero(), m_->second.setZero();
    m_->steps = 0;
  }
  void zero(lowrank::Axis axis, std::span<const Index> at) {
    each([&](const auto& block) { lowrank::detail::zero_slots(block, axis, at); });
  }
  void gather(lowrank::Axis axis, std::span<const Index> at) {
    each([&](const auto& block) { lowrank::detail::gather_slots(block, axis, at, m_->line.data()); });
  }
  void each(auto&& f) {
    for (Eigen::MatrixXd* x : {&m_->first, &m_->second}) f(lowrank::StateBlock<double>{x->data(), x->rows(), x->cols()});
  }

 private:
  Moments* m_;
};
static_assert(lowrank::StateEditor<MomentsEditor>);

/// The moments of all parameters of an adapter, by name.
class Optimizers {
 public:
  template <class A>
  explicit Optimizers(A& adapter) {
    unsigned seed = 100;
    adapter.visit([&](auto& p) { moments_.emplace(p.name, Moments(p.value.rows(), p.value.cols(), seed += 2)); });
  }
  Moments& operator[](const std::string& name) { return moments_.at(name); }
  auto editors() {
    return [this](const char* name) { return MomentsEditor(moments_.at(name)); };
  }

 private:
  std::map<std::string, Moments> moments_;
};

}  // namespace support
