// Local Lipschitz constants: upper bounds of |w^T J|_1 over all Clarke Jacobians J in a box of inputs, the l_inf
// constant of w^T f there (Shi, Wang, Zhang, Kolter, Hsieh: Efficiently computing local Lipschitz constants of neural
// networks via bound propagation, arXiv 2210.07394; in closed form for any activation).
//
// With p_{L-1} = W_L^T w, u_k = s'(z_k) o p_k, p_{k-1} = W_k^T u_k the row is p_0. Only the range [dl, du] of slopes
// enters, not x:   u = dl p + (du - dl) m with m between 0 and p, and for lp < 0 < up
//
//   lp up / (up - lp) - lp p / (up - lp)  <=  m  <=  up (p - lp) / (up - lp).
//
// Bounds of any linear functional of p_k follow by carrying coefficients up to the constant p_{L-1}.
#pragma once

#include <lowrank/jacobian/box.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// What m is enclosed by where the sign of p is open: the chords above, or constants (RecurJac: Zhang, Zhang, Hsieh,
/// arXiv 1810.11783, which is weaker and here for comparison).
enum class Enclosure { Chords, Constants };

/// Slopes of every hidden unit.
using Slopes = std::vector<Box>;

inline Slopes slope_boxes(const Activation& a, const std::vector<Box>& preactivations) {
  Slopes slopes;
  for (const Box& z : preactivations) {
    Box d = z;
    for (Index i = 0; i < z.size(); ++i) {
      const Range r = slope_range(a, z.lower[i], z.upper[i]);
      d.lower[i] = r.lower;
      d.upper[i] = r.upper;
    }
    slopes.push_back(std::move(d));
  }
  return slopes;
}

/// Bounds of the row w^T J, and three bounds of its 1-norm.
struct RowBounds {
  Box entries;                  // d
  double norm = 0;              // linear bound of the norm: the tightest
  double entry_sum = 0;         // sum of the entries' largest magnitudes
  std::vector<Box> cotangents;  // of p_1 .. p_{L-1}, where a unit's slope matters
};

namespace detail {

/// Upper bounds of A p_k, row by row; k = -1: p_0, the input's. cotangents[j] encloses p of hidden layer j.
inline Vector<double> upper_of(const DenseNetwork& net, Matrix<double> A, Index k, const Slopes& slopes,
                               const std::vector<Box>& cotangents, const Vector<double>& last, Enclosure enclosure) {
  Vector<double> bias = Vector<double>::Zero(A.rows());
  for (Index j = k + 1; j < net.hidden(); ++j) {
    A = times(A, net.weights[std::size_t(j)].transpose());
    const Box &d = slopes[std::size_t(j)], &p = cotangents[std::size_t(j)];
    for (Index i = 0; i < A.cols(); ++i) {
      const double dl = d.lower[i], gap = d.upper[i] - dl, lp = p.lower[i], up = p.upper[i];
      if (gap == 0) {
        A.col(i) *= dl;
        continue;
      }
      double su = 1, tu = 0, sl = 0, tl = 0;  // lp >= 0
      if (up <= 0) {
        su = 0, sl = 1;
      } else if (lp < 0) {
        const double width = std::max(up - lp, 1e-300);
        if (enclosure == Enclosure::Chords)
          su = up / width, tu = -lp * up / width, sl = -lp / width, tl = lp * up / width;
        else su = 0, tu = up, sl = 0, tl = lp;
      }
      for (Index r = 0; r < A.rows(); ++r) {
        const double a = A(r, i), m = a * gap;
        bias[r] += m > 0 ? m * tu : m * tl;
        A(r, i) = a * dl + (m > 0 ? m * su : m * sl);
      }
    }
  }
  for (Index j = 0; j < A.cols(); ++j) bias += A.col(j) * last[j];
  return bias;
}

}  // namespace detail

/// Bounds of w^T J for given slopes, sound for every sign pattern and every activation.
inline RowBounds row_bounds(const DenseNetwork& net, const Vector<double>& w, const Slopes& slopes,
                            Enclosure enclosure = Enclosure::Chords) {
  detail::check_batch("lowrank::jacobian::row_bounds", w.size(), 1, net.outputs(), 1);
  const Index H = net.hidden();
  RowBounds out;
  out.cotangents.resize(std::size_t(H));
  const Vector<double> last = net.weights.back().transpose().lazyProduct(w);
  const auto enclose = [&](Index k, Index n) {
    const Matrix<double> I = Matrix<double>::Identity(n, n);
    return Box{-detail::upper_of(net, -I, k, slopes, out.cotangents, last, enclosure),
               detail::upper_of(net, I, k, slopes, out.cotangents, last, enclosure)};
  };
  for (Index k = H - 1; k >= 0; --k) out.cotangents[std::size_t(k)] = enclose(k, net.weights[std::size_t(k)].rows());
  out.entries = enclose(-1, net.inputs());
  // |p| <= k p + b on [lp, up]
  Matrix<double> slope(1, net.inputs());
  double intercepts = 0;
  for (Index i = 0; i < net.inputs(); ++i) {
    const double lo = std::min(out.entries.lower[i], 0.0), up = std::max(out.entries.upper[i], 0.0);
    slope(0, i) = up > lo ? (up + lo) / (up - lo) : 0;
    intercepts += -lo - slope(0, i) * lo;
    out.entry_sum += std::max(-lo, up);
  }
  const double norm = detail::upper_of(net, slope, -1, slopes, out.cotangents, last, enclosure)[0] + intercepts;
  // the sums above are rounded to nearest: 1e-12 of them is more than they can have lost
  out.norm = std::min(norm, out.entry_sum) * (1 + 1e-12);
  out.entry_sum *= 1 + 1e-12;
  return out;
}

/// The same over a box of inputs.
inline RowBounds row_bounds(const DenseNetwork& net, const Vector<double>& w, const Box& input,
                            BoxMethod method = BoxMethod::Intersection, Enclosure enclosure = Enclosure::Chords) {
  return row_bounds(net, w, slope_boxes(net.activation, preactivation_boxes(net, input, method)), enclosure);
}

/// Weaker: intervals all the way down.
inline double interval_lipschitz(const DenseNetwork& net, const Vector<double>& w, const Slopes& slopes) {
  Vector<double> lo = net.weights.back().transpose().lazyProduct(w), up = lo;
  for (Index k = net.hidden() - 1; k >= 0; --k) {
    const Box& d = slopes[std::size_t(k)];
    Box u{lo, up};
    for (Index i = 0; i < lo.size(); ++i) {
      const auto [least, most] =
          std::minmax({d.lower[i] * lo[i], d.lower[i] * up[i], d.upper[i] * lo[i], d.upper[i] * up[i]});
      u.lower[i] = least;
      u.upper[i] = most;
    }
    const Matrix<double> Wt = net.weights[std::size_t(k)].transpose();
    const Box p = detail::through_intervals(Wt, Vector<double>::Zero(Wt.rows()), u);
    lo = p.lower;
    up = p.upper;
  }
  return lo.cwiseAbs().cwiseMax(up.cwiseAbs()).sum() * (1 + 1e-12);
}

/// Weakest: the product of the layers' own constants, any input, all outputs. Steepest slope of s: 1, or 1.13 for GELU.
inline double global_lipschitz(const DenseNetwork& net) {
  double product = 1;
  const Range all = slope_range(net.activation, -1e3, 1e3);
  const double steepest = std::max(std::abs(all.lower), std::abs(all.upper));
  for (const auto& W : net.weights) product *= W.cwiseAbs().rowwise().sum().maxCoeff();
  return product * std::pow(steepest, double(net.hidden())) * (1 + 1e-12);
}

namespace detail {

/// (w^T J(x))^T with the slopes of x.
inline Vector<double> gradient_at(const DenseNetwork& net, const Vector<double>& w, const Vector<double>& x) {
  std::vector<Vector<double>> slopes;
  Vector<double> h = x;
  for (Index k = 0; k < net.hidden(); ++k) {
    const Vector<double> z = net.weights[std::size_t(k)].lazyProduct(h) + net.biases[std::size_t(k)];
    Vector<double> d(z.size());
    h.resize(z.size());
    for (Index i = 0; i < z.size(); ++i) {
      const Jet<double> j = evaluate(net.activation, z[i]);
      h[i] = j.value;
      d[i] = j.slope;
    }
    slopes.push_back(std::move(d));
  }
  Vector<double> p = net.weights.back().transpose().lazyProduct(w);
  for (Index k = net.hidden() - 1; k >= 0; --k)
    p = net.weights[std::size_t(k)].transpose().lazyProduct(p.cwiseProduct(slopes[std::size_t(k)])).eval();
  return p;
}

}  // namespace detail

/// A lower bound: the largest |w^T J(x)|_1 over random x of the box (uniform, numbered by the seed).
inline double sampled_lipschitz(const DenseNetwork& net, const Vector<double>& w, const Box& input, Index samples,
                                std::uint64_t seed) {
  double largest = 0;
  Vector<double> x(net.inputs());
  for (Index t = 0; t < samples; ++t) {
    for (Index i = 0; i < x.size(); ++i) {
      const double u = (double(uniform_bits(seed, 0, std::uint64_t(t * x.size() + i))) + 0.5) * 0x1p-32;
      x[i] = input.lower[i] + u * (input.upper[i] - input.lower[i]);
    }
    largest = std::max(largest, detail::gradient_at(net, w, x).lpNorm<1>());
  }
  return largest;
}

}  // namespace jacobian
}  // namespace lowrank
