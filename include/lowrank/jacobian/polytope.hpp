// Polytope: the x of a box with g_i x <= h_i, and linear programs over it, by the simplex method for bounded variables
// (Chvatal: Linear programming, 1983, chapter 8) with Bland's rule on a dense tableau. For some tens of inequalities.
#pragma once

#include <optional>

#include <lowrank/jacobian/box.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

class Polytope {
 public:
  explicit Polytope(Box box) : box_(std::move(box)) {}

  /// g x <= h
  void add(const Vector<double>& g, double h) {
    rows_.push_back(g);
    limits_.push_back(h);
  }
  Index inequalities() const { return Index(rows_.size()); }

  /// The largest t with g_i x + |g_i|_1 t <= h_i for all i at one x, at most 1: how far inside the inequalities (l_inf)
  /// one can be; negative when they contradict. Without inequalities 1. Nothing when the simplex method gave up.
  struct Inside {
    double depth;
    Vector<double> x;
  };
  std::optional<Inside> deepest() const {
    Tableau t(*this, 1);
    if (!t.maximise_depth()) return std::nullopt;
    return Inside{t.depth(), t.point()};
  }
  /// max c x over a polytope that deepest() found not empty.
  std::optional<double> maximum(const Vector<double>& c) const {
    Tableau t(*this, 0);
    if (!t.maximise_depth() || t.depth() < -1e-9 || !t.maximise(c)) return std::nullopt;
    return c.dot(t.point());
  }

 private:
  /// Variables: x (n of them), the depth t, slacks s_i = h_i - g_i x - |g_i| t >= 0. Basic ones are functions of the
  /// others: x_B = const - T x_N.
  class Tableau {
   public:
    Tableau(const Polytope& p, double deepest)
        : n_(p.box_.size() + 1), m_(p.inequalities()), T_(m_, n_), value_(n_ + m_), lower_(n_ + m_), upper_(n_ + m_) {
      value_.head(n_ - 1) = lower_.head(n_ - 1) = p.box_.lower;
      upper_.head(n_ - 1) = p.box_.upper;
      double start = deepest;
      for (Index i = 0; i < m_; ++i) {
        const Vector<double>& g = p.rows_[std::size_t(i)];
        T_.row(i).head(n_ - 1) = g.transpose();
        T_(i, n_ - 1) = std::max(g.lpNorm<1>(), 1e-300);
        start = std::min(start, (p.limits_[std::size_t(i)] - g.dot(p.box_.lower)) / T_(i, n_ - 1));
      }
      value_[n_ - 1] = lower_[n_ - 1] = start;
      upper_[n_ - 1] = deepest;
      for (Index i = 0; i < m_; ++i) {
        value_[n_ + i] = std::max(
            0.0, p.limits_[std::size_t(i)] - p.rows_[std::size_t(i)].dot(p.box_.lower) - T_(i, n_ - 1) * start);
        lower_[n_ + i] = 0;
        upper_[n_ + i] = std::numeric_limits<double>::infinity();
      }
      for (Index j = 0; j < n_; ++j) outside_.push_back(j);
      for (Index i = 0; i < m_; ++i) basic_.push_back(n_ + i);
    }
    bool maximise_depth() {
      Vector<double> c = Vector<double>::Zero(n_ + m_);
      c[n_ - 1] = 1;
      return run(c);
    }
    /// With the depth held where it is.
    bool maximise(const Vector<double>& objective) {
      lower_[n_ - 1] = upper_[n_ - 1] = value_[n_ - 1];
      Vector<double> c = Vector<double>::Zero(n_ + m_);
      c.head(n_ - 1) = objective;
      return run(c);
    }
    double depth() const { return value_[n_ - 1]; }
    Vector<double> point() const { return value_.head(n_ - 1); }

   private:
    static constexpr double tolerance = 1e-11;

    bool run(const Vector<double>& c) {
      // reduced costs: the objective as a function of the variables outside the basis
      Vector<double> z(n_);
      for (Index j = 0; j < n_; ++j) {
        z[j] = c[outside_[std::size_t(j)]];
        for (Index i = 0; i < m_; ++i) z[j] -= c[basic_[std::size_t(i)]] * T_(i, j);
      }
      const double scale = tolerance * std::max(1.0, c.cwiseAbs().maxCoeff());
      for (Index iteration = 0; iteration < 200 * (n_ + m_); ++iteration) {
        Index enter = -1;
        for (Index j = 0; j < n_; ++j) {
          const Index v = outside_[std::size_t(j)];
          const bool may = upper_[v] > lower_[v] && (value_[v] <= lower_[v] ? z[j] > scale : z[j] < -scale);
          if (may && (enter < 0 || v < outside_[std::size_t(enter)])) enter = j;
        }
        if (enter < 0) return true;
        step(enter, z);
      }
      return false;
    }
    void step(Index enter, Vector<double>& z) {
      const Index v = outside_[std::size_t(enter)];
      const double sign = value_[v] <= lower_[v] ? 1 : -1;
      double length = upper_[v] - lower_[v];
      Index leave = -1;
      for (Index i = 0; i < m_; ++i) {
        const Index b = basic_[std::size_t(i)];
        const double rate = -T_(i, enter) * sign;
        if (std::abs(rate) < tolerance) continue;
        const double room = std::max(0.0, rate > 0 ? upper_[b] - value_[b] : value_[b] - lower_[b]) / std::abs(rate);
        if (room < length || (room == length && leave >= 0 && b < basic_[std::size_t(leave)])) {
          length = room;
          leave = i;
        }
      }
      for (Index i = 0; i < m_; ++i) value_[basic_[std::size_t(i)]] -= T_(i, enter) * sign * length;
      if (leave < 0) {
        value_[v] = sign > 0 ? upper_[v] : lower_[v];
        return;
      }
      const Index out = basic_[std::size_t(leave)];
      value_[v] += sign * length;
      value_[out] = -T_(leave, enter) * sign > 0 ? upper_[out] : lower_[out];
      const double pivot = T_(leave, enter);
      const Eigen::RowVectorXd row = T_.row(leave) / pivot;
      const Vector<double> column = T_.col(enter);
      const double cost = z[enter];
      for (Index j = 0; j < n_; ++j) {
        if (j == enter || row[j] == 0) continue;
        T_.col(j) -= row[j] * column;
        z[j] -= cost * row[j];
      }
      T_.row(leave) = row;
      T_.col(enter) = -column / pivot;
      T_(leave, enter) = 1 / pivot;
      z[enter] = -cost / pivot;
      std::swap(outside_[std::size_t(enter)], basic_[std::size_t(leave)]);
    }

    Index n_, m_;
    Matrix<double> T_;
    Vector<double> value_, lower_, upper_;
    std::vector<Index> outside_, basic_;
  };

  Box box_;
  std::vector<Vector<double>> rows_;
  std::vector<double> limits_;
};

}  // namespace jacobian
}  // namespace lowrank
