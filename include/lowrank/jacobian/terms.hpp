// Terms: what a penalty makes of the products q_i = J^T v_i. A term is a function R = psi(q_1 .. q_n) of a whole batch;
// its seeds g_i = dR/dq_i are all that the model's mixed_vjp needs:  dR/dtheta = sum_i grad_theta <v_i, J g_i>.
//
//   double seeds<K>(p, gain, dX)   p.Q holds the q_i and is left holding gain * g_i; returns R. Where R depends on X
//                                  other than through J, that part of gain * dR/dX is added to dX unless dX is empty.
//   separable                      R is a sum over i: blocks of projections may be handed over one after the other
//
// A term of your own is a struct with these two.
#pragma once

#include <lowrank/jacobian/elementwise.hpp>
#include <lowrank/jacobian/model.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// q(i, b) = J_b^T v(i, b): projection i of sample b, contiguous. sum_i |q|^2 * factor ~ |J_b|_F^2.
template <class S>
struct Products {
  ConstBatch<S> X;  // inputs x samples
  const S* V;       // outputs x (count samples), block i being projection i of all samples
  S* Q;             // inputs x (count samples)
  Index inputs, outputs, samples, count;
  double factor;

  S* q(Index i, Index b) const { return Q + (i * samples + b) * inputs; }
  const S* v(Index i, Index b) const { return V + (i * samples + b) * outputs; }
  const S* x(Index b) const { return X.data() + b * X.outerStride(); }
};

namespace detail {

/// factor sum_i |q_{i,b}|^2
template <class K, class S>
double sample_square(const Products<S>& p, Index b) {
  double sum = 0;
  for (Index i = 0; i < p.count; ++i) sum += K::sum_squares(p.inputs, p.q(i, b));
  return p.factor * sum;
}
template <class K, class S>
void scale_sample(const Products<S>& p, Index b, double scale) {
  for (Index i = 0; i < p.count; ++i) K::combine(p.inputs, scale, p.q(i, b), 0.0, p.q(i, b), p.q(i, b));
}

}  // namespace detail

/// R = scale mean_b |J_b|_F^2: unbiased with any law. scale = 1/2 is Hoffman, Roberts, Yaida: Robust learning with
/// Jacobian regularization, arXiv 1908.02729 (there lambda = 0.01); scale = 1 the action Jacobian penalty.
struct SquaredFrobenius {
  double scale = 0.5;
  static constexpr bool separable = true;

  template <class K, class S>
  double seeds(const Products<S>& p, double gain, Batch<S>) const {
    double sum = 0;
    const double each = scale / double(p.samples);
    for (Index b = 0; b < p.samples; ++b) {
      sum += detail::sample_square<K>(p, b);
      detail::scale_sample<K>(p, b, 2 * gain * each * p.factor);
    }
    return each * sum;
  }
};

/// R = mean_b sqrt(max(|J_b|_F^2, floor)): GrokAlign (Walker, Humayun, Balestriero, Baraniuk: arXiv 2506.12284, code
/// 2025b6e; there lambda = 1e-3 for cross entropy). The square root makes the estimate low for n < C (down to 0.80 for
/// rank-one Jacobians) and the pull independent of |J|; a sample at the floor gets none, where sqrt alone gives NaN.
struct FrobeniusNorm {
  double floor = 1e-8;
  static constexpr bool separable = false;

  template <class K, class S>
  double seeds(const Products<S>& p, double gain, Batch<S>) const {
    double sum = 0;
    for (Index b = 0; b < p.samples; ++b) {
      const double square = detail::sample_square<K>(p, b), r = std::sqrt(std::max(square, floor));
      sum += r;
      detail::scale_sample<K>(p, b, square >= floor ? gain * p.factor / (double(p.samples) * r) : 0.0);
    }
    return sum / double(p.samples);
  }
};

/// R = |level - F|, F the FrobeniusNorm of the batch: holds the Jacobian's norm (the estimate of it) at a level.
struct HoldAt {
  double level;
  double floor = 1e-8;
  static constexpr bool separable = false;

  template <class K, class S>
  double seeds(const Products<S>& p, double gain, Batch<S> dX) const {
    const double norm = FrobeniusNorm{floor}.seeds<K>(p, gain, dX);
    const double sign = norm > level ? 1 : norm < level ? -1 : 0;
    for (Index b = 0; b < p.samples; ++b) detail::scale_sample<K>(p, b, sign);
    return std::abs(level - norm);
  }
};

/// R = scale mean_b |J_b - target|_F^2, target C x d.
struct TargetMatrix {
  Matrix<double> target;
  double scale = 0.5;
  static constexpr bool separable = true;

  template <class K, class S>
  double seeds(const Products<S>& p, double gain, Batch<S> dX) const {
    if (target.rows() != p.outputs || target.cols() != p.inputs)
      lowrank::detail::bad_shape("lowrank::jacobian::TargetMatrix", target.rows(), target.cols(), p.outputs, p.inputs);
    // (J - T)^T v = q - T^T v
    for (Index i = 0; i < p.count; ++i)
      for (Index b = 0; b < p.samples; ++b) {
        S* q = p.q(i, b);
        const S* v = p.v(i, b);
        for (Index k = 0; k < p.inputs; ++k) {
          double along = 0;
          for (Index c = 0; c < p.outputs; ++c) along += target(c, k) * double(v[c]);
          q[k] = S(double(q[k]) - along);
        }
      }
    return SquaredFrobenius{scale}.seeds<K>(p, gain, dX);
  }
};

/// R = mean_b |J_b diag(input_scale)|_F^2: the action Jacobian penalty of a policy with mean action f(s). input_scale:
/// d entries, 0 for inputs that are not to be looked at, 1/sd for raw states behind a normalisation.
struct ActionJacobian {
  Vector<double> input_scale;
  static constexpr bool separable = true;

  template <class K, class S>
  double seeds(const Products<S>& p, double gain, Batch<S> dX) const {
    if (input_scale.size() != p.inputs)
      lowrank::detail::bad_shape("lowrank::jacobian::ActionJacobian", input_scale.size(), 1, p.inputs, 1);
    const auto scale = [&] {
      for (Index j = 0; j < p.count * p.samples; ++j)
        for (Index k = 0; k < p.inputs; ++k) p.q(0, j)[k] *= S(input_scale[k]);
    };
    scale();  // R = |S q|^2, dR/dq = 2 S^2 q
    const double value = SquaredFrobenius{1}.seeds<K>(p, gain, dX);
    scale();
    return value;
  }
};

/// R = mean_b (1 - cos(mu_b, x_b)), mu = J^T w the centroid for the one cotangent w that is passed as explicit
/// projection (ones in arXiv 2506.12284). Where |mu| |x| < 1e-8 the cosine counts as 0 and has no gradient.
struct CentroidCosine {
  static constexpr bool separable = false;

  template <class K, class S>
  double seeds(const Products<S>& p, double gain, Batch<S> dX) const {
    if (p.count != 1)
      lowrank::detail::bad_argument("lowrank::jacobian::CentroidCosine", std::to_string(p.count) + " projections",
                                    "one");
    const Index d = p.inputs;
    double sum = 0;
    for (Index b = 0; b < p.samples; ++b) {
      S* mu = p.q(0, b);
      const S* x = p.x(b);
      const double mm = K::sum_squares(d, mu), xx = K::sum_squares(d, x), lengths = std::sqrt(mm) * std::sqrt(xx);
      if (lengths < 1e-8) {
        sum += 1;
        std::fill_n(mu, d, S(0));
        continue;
      }
      const double cosine = linalg::dot<K>(d, mu, x) / lengths, each = -gain / double(p.samples);
      sum += 1 - cosine;
      if (dX.cols() > 0) {
        detail::add<K>(d, each / lengths, mu, &dX(0, b));
        detail::add<K>(d, -each * cosine / xx, x, &dX(0, b));
      }
      K::combine(d, each / lengths, x, -each * cosine / mm, mu, mu);
    }
    return sum / double(p.samples);
  }
};

}  // namespace jacobian
}  // namespace lowrank
