// A rule on its own: its state allocated, its moments readable, its direction taken block by block from strided memory.
#pragma once

#include <map>
#include <string>

#include <linalg/workspace.hpp>
#include <lowrank/kernel/kernel.hpp>
#include <lowrank/rule/rule.hpp>
#include <support/placed.hpp>

namespace support {

template <class S, class Options>
class Driven {
 public:
  using K = lowrank::kernel::Best;

  Driven(const Options& options, Index r, Index k) : rule_(options, r, k), r_(r), k_(k) {
    rule_.visit([](const char*, auto& field) {
      if constexpr (requires { field.allocate(); }) field.allocate();
    });
  }

  /// One step: lr * gain * N is what W moves by. R and N lie in larger matrices and are visited in uneven blocks.
  Eigen::MatrixXd step(const Eigen::MatrixXd& R) {
    const Placed<S> from(R, Order::Columns, 1, 3);
    Placed<S> to(Eigen::MatrixXd::Zero(r_, k_), Order::Columns, 2, 1);
    rule_.check();
    rule_.advance();
    const Index m = (r_ + 1) / 2, w = 11;
    for (Index j = 0; j < k_; j += w)
      for (Index i = 0; i < r_; i += m)
        rule_.direction(&from.at(i, j), r_ + 3, &to.at(i, j), r_ + 1, i, std::min(m, r_ - i), j, std::min(w, k_ - j));
    if (!to.guards_intact()) throw std::logic_error("a rule wrote beside its block");
    return rule_.gain() * to.values();
  }

  /// Carries the moments over to a new basis.
  void transport(const lowrank::linalg::BasisChange<S>& change) {
    const auto team = lowrank_test::make_team<S, K>(std::max(r_, k_));
    const auto work = lowrank_test::Owned([&](lowrank::Arena& arena) {
      return lowrank::linalg::TransportWork<S, K>(arena, r_, lowrank::detail::available_threads());
    });
    rule_.transport(change, *work, *team);
  }

  Eigen::MatrixXd moment(const std::string& name) const {
    Eigen::MatrixXd m;
    rule_.visit([&](const char* field, const auto& value) {
      if constexpr (requires { value.column(0); })
        if (name == field) {
          m.resize(value.rows(), value.cols());
          for (Index i = 0; i < m.size(); ++i) m.data()[i] = double(value.data()[i]);
        }
    });
    return m;
  }

  lowrank::RuleState<Options, S, K>& rule() { return rule_; }
  Options& options() { return rule_.options(); }

 private:
  lowrank::RuleState<Options, S, K> rule_;
  Index r_, k_;
};

/// Largest difference over the largest value.
inline double distance(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b) {
  return (a - b).cwiseAbs().maxCoeff() / std::max(b.cwiseAbs().maxCoeff(), 1e-300);
}

}  // namespace support
