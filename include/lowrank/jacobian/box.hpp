// Boxes: where the pre-activations z_l of a network can be when its input is in a box. By intervals, by linear bounds
// sent back to the input (CROWN: Zhang, Weng, Chen, Hsieh, Daniel, arXiv 1811.00866, with the adaptive lower slope), or
// both intersected, which is the default: either can be far looser than the other.
//
// Everything in double on small dense matrices. Sound up to the rounding of these sums.
#pragma once

#include <algorithm>  // std::clamp, std::minmax
#include <vector>

#include <lowrank/jacobian/mlp.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// lower <= x <= upper, entry by entry.
struct Box {
  Vector<double> lower, upper;

  static Box around(const Vector<double>& center, double radius) {
    return {center.array() - radius, center.array() + radius};
  }
  Index size() const { return lower.size(); }
  bool empty() const { return (lower.array() > upper.array()).any(); }
};

/// The weights of a network multiplied out and in double: what bounds are computed from.
struct DenseNetwork {
  std::vector<Matrix<double>> weights;
  std::vector<Vector<double>> biases;
  Activation activation;

  template <class S, class K>
  explicit DenseNetwork(const Mlp<S, K>& net) : activation(net.activation()) {
    for (const Layer<S>& k : net.layers()) {
      Matrix<double> W = k.weight.template cast<double>();
      if (k.low_rank()) {
        const Matrix<double> V = k.right.template cast<double>();
        W = W.lazyProduct(V.transpose()).eval();
      }
      weights.push_back(std::move(W));
      biases.push_back(k.bias.size() > 0 ? Vector<double>(k.bias.template cast<double>())
                                         : Vector<double>(Vector<double>::Zero(k.outputs())));
    }
  }
  Index inputs() const { return weights.front().cols(); }
  Index outputs() const { return weights.back().rows(); }
  Index hidden() const { return Index(weights.size()) - 1; }
};

struct Range {
  double lower, upper;
};

namespace detail {

/// Where f, of one sign at a and another at b, is zero.
template <class F>
double root(double a, double b, const F& f) {
  const bool rising = f(b) > 0;
  for (int i = 0; i < 60; ++i) {
    const double middle = (a + b) / 2;
    ((f(middle) > 0) == rising ? b : a) = middle;
  }
  return (a + b) / 2;
}

/// The z > 0 with s''(z) = 0 and the z < 0 with s'(z) = 0 of the activations that have them.
inline double inflection(const Activation& a) {
  if (a.kind == Nonlinearity::Gelu) return std::numbers::sqrt2;
  if (a.kind == Nonlinearity::Silu) return 2.3993572805154866;
  return root(1, 2, [&](double z) { return evaluate(a, z).curvature; });
}
inline double minimum(const Activation& a) {
  if (a.kind == Nonlinearity::Gelu) return -0.7517915246935641;
  if (a.kind == Nonlinearity::Silu) return -1.2784645427610737;
  return root(-1, -0.5, [&](double z) { return evaluate(a, z).slope; });
}
inline bool humped(const Activation& a) {
  return a.kind == Nonlinearity::Gelu || a.kind == Nonlinearity::GeluTanh || a.kind == Nonlinearity::Silu;
}
inline void widen(Range& r, double x) { r = {std::min(r.lower, x), std::max(r.upper, x)}; }

/// A B by columns; zeros of B cost nothing.
inline Matrix<double> times(const Matrix<double>& A, const Matrix<double>& B) {
  Matrix<double> C = Matrix<double>::Zero(A.rows(), B.cols());
  for (Index j = 0; j < B.cols(); ++j)
    for (Index k = 0; k < B.rows(); ++k)
      if (B(k, j) != 0) add<kernel::Best>(A.rows(), B(k, j), A.data() + k * A.rows(), C.data() + j * C.rows());
  return C;
}

}  // namespace detail

/// All slopes s'(z) with l <= z <= u; at a kink both sides.
inline Range slope_range(const Activation& a, double l, double u) {
  const double at_l = evaluate(a, l).slope, at_u = evaluate(a, u).slope;
  Range r{std::min(at_l, at_u), std::max(at_l, at_u)};
  switch (a.kind) {
    case Nonlinearity::Relu: return {l > 0 ? 1.0 : 0.0, u >= 0 ? 1.0 : 0.0};
    case Nonlinearity::LeakyRelu: return {l > 0 ? 1 : a.leak, u < 0 ? a.leak : 1};
    case Nonlinearity::Tanh:
    case Nonlinearity::Sigmoid:
      if (l <= 0 && u >= 0) detail::widen(r, evaluate(a, 0).slope);
      return r;
    case Nonlinearity::Gelu:
    case Nonlinearity::GeluTanh:
    case Nonlinearity::Silu:
      if (const double z = detail::inflection(a); l <= z && z <= u) detail::widen(r, evaluate(a, z).slope);
      if (const double z = -detail::inflection(a); l <= z && z <= u) detail::widen(r, evaluate(a, z).slope);
      return r;
    default: return r;
  }
}

/// All values s(z) with l <= z <= u.
inline Range value_range(const Activation& a, double l, double u) {
  const double at_l = evaluate(a, l).value, at_u = evaluate(a, u).value;
  Range r{std::min(at_l, at_u), std::max(at_l, at_u)};
  if (detail::humped(a))
    if (const double z = detail::minimum(a); l <= z && z <= u) detail::widen(r, evaluate(a, z).value);
  return r;
}

/// lower_slope z + lower_intercept <= s(z) <= upper_slope z + upper_intercept for l <= z <= u.
struct Lines {
  double lower_slope, lower_intercept, upper_slope, upper_intercept;
};
inline Lines enclosing_lines(const Activation& a, double l, double u) {
  if (a.piecewise_linear()) {
    const double leak = a.kind == Nonlinearity::Identity ? 1 : a.kind == Nonlinearity::Relu ? 0 : a.leak;
    if (l >= 0 || leak == 1) return {1, 0, 1, 0};
    if (u <= 0) return {leak, 0, leak, 0};
    const double chord = (u - leak * l) / std::max(u - l, 1e-300);
    return {u > -l ? 1 : leak, 0, chord, u - chord * u};
  }
  if (!(u - l > 1e-9)) {
    const Range v = value_range(a, l, u);
    return {0, v.lower, 0, v.upper};
  }
  // two lines parallel to the chord: the error e(z) = s(z) - k z is bounded piece by piece through its slope
  const double k = (evaluate(a, u).value - evaluate(a, l).value) / (u - l);
  constexpr int pieces = 32;
  Range error{evaluate(a, l).value - k * l, evaluate(a, l).value - k * l};
  double z0 = l, e0 = error.lower;
  for (int i = 1; i <= pieces; ++i) {
    const double z1 = i == pieces ? u : l + (u - l) * i / pieces, e1 = evaluate(a, z1).value - k * z1;
    const Range slopes = slope_range(a, z0, z1);
    // |e'| <= steep: between the ends e stays within steep * width / 2 of their mean
    const double steep = std::max(std::abs(slopes.lower - k), std::abs(slopes.upper - k)), middle = (e0 + e1) / 2;
    detail::widen(error, middle + steep * (z1 - z0) / 2);
    detail::widen(error, middle - steep * (z1 - z0) / 2);
    z0 = z1;
    e0 = e1;
  }
  return {k, error.lower, k, error.upper};
}

enum class BoxMethod { Intervals, LinearBounds, Intersection };

namespace detail {

inline Box through_intervals(const Matrix<double>& W, const Vector<double>& b, const Box& in) {
  Box out{b, b};
  for (Index j = 0; j < W.cols(); ++j)
    for (Index i = 0; i < W.rows(); ++i) {
      const double w = W(i, j);
      out.lower[i] += w > 0 ? w * in.lower[j] : w * in.upper[j];
      out.upper[i] += w > 0 ? w * in.upper[j] : w * in.lower[j];
    }
  return out;
}
inline Box through_activation(const Activation& a, const Box& z) {
  Box h = z;
  for (Index i = 0; i < z.size(); ++i) {
    const Range r = value_range(a, z.lower[i], z.upper[i]);
    h.lower[i] = r.lower;
    h.upper[i] = r.upper;
  }
  return h;
}

/// Upper bound of sign (W_k h_{k-1} + b_k), all rows, by sending the coefficients back to the input.
inline Vector<double> upper_by_lines(const DenseNetwork& net, Index k, double sign,
                                     const std::vector<std::vector<Lines>>& lines, const Box& input) {
  Matrix<double> A = sign * net.weights[std::size_t(k)];
  Vector<double> bias = sign * net.biases[std::size_t(k)];
  for (Index m = k - 1; m >= 0; --m) {
    const auto& line = lines[std::size_t(m)];
    const Vector<double>& b = net.biases[std::size_t(m)];
    for (Index j = 0; j < A.cols(); ++j) {
      const Lines& s = line[std::size_t(j)];
      for (Index i = 0; i < A.rows(); ++i) {
        const bool up = A(i, j) > 0;
        bias[i] += A(i, j) * (up ? s.upper_intercept : s.lower_intercept);
        A(i, j) *= up ? s.upper_slope : s.lower_slope;
        bias[i] += A(i, j) * b[j];
      }
    }
    A = times(A, net.weights[std::size_t(m)]);
  }
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i) bias[i] += A(i, j) * (A(i, j) > 0 ? input.upper[j] : input.lower[j]);
  return bias;
}

}  // namespace detail

/// Boxes of z_1 .. z_{L-1} for inputs in the box. known: boxes they are in as well (of an enclosing problem, or clamped
/// at a kink), intersected layer by layer; empty: none. A box that comes out empty says that the clamps contradict.
inline std::vector<Box> preactivation_boxes(const DenseNetwork& net, const Box& input, BoxMethod method,
                                            const std::vector<Box>& known = {}) {
  detail::check_batch("lowrank::jacobian::preactivation_boxes", input.lower.size(), input.upper.size(), net.inputs(),
                      net.inputs());
  if (input.empty())
    lowrank::detail::bad_argument("lowrank::jacobian::preactivation_boxes", "an empty box", "lower <= upper");
  std::vector<Box> boxes;
  std::vector<std::vector<Lines>> lines;
  Box h = input;
  for (Index k = 0; k < net.hidden(); ++k) {
    const auto at = std::size_t(k);
    Box z = detail::through_intervals(net.weights[at], net.biases[at], h);
    if (k > 0 && method != BoxMethod::Intervals) {
      const Box linear{-detail::upper_by_lines(net, k, -1, lines, input),
                       detail::upper_by_lines(net, k, 1, lines, input)};
      if (method == BoxMethod::LinearBounds) z = linear;
      else z = {z.lower.cwiseMax(linear.lower), z.upper.cwiseMin(linear.upper)};
    }
    if (!known.empty()) z = {z.lower.cwiseMax(known[at].lower), z.upper.cwiseMin(known[at].upper)};
    if (z.empty()) {
      // two computations of one number may cross by rounding; more is a contradiction
      const double gap = (z.lower - z.upper).maxCoeff(), size = 1 + z.lower.cwiseAbs().maxCoeff();
      if (gap > 1e-10 * size) return {z};
      const Vector<double> low = z.lower.cwiseMin(z.upper);
      z = {low, z.lower.cwiseMax(z.upper)};
    }
    auto& line = lines.emplace_back();
    for (Index i = 0; i < z.size(); ++i) line.push_back(enclosing_lines(net.activation, z.lower[i], z.upper[i]));
    h = detail::through_activation(net.activation, z);
    boxes.push_back(std::move(z));
  }
  return boxes;
}

}  // namespace jacobian
}  // namespace lowrank
