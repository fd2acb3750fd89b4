// Activations: s(z), s'(z) and s''(z), element by element. At a kink s' is what automatic differentiation takes for it,
// the left-hand slope: s'(0) = 0 for ReLU.
#pragma once

#include <cmath>    // std::tanh, std::exp, std::log1p, std::erf
#include <numbers>  // std::numbers

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// Gelu is z Phi(z), GeluTanh its approximation (Hendrycks, Gimpel: arXiv 1606.08415), Silu is z sigmoid(z).
enum class Nonlinearity { Identity, Relu, LeakyRelu, Tanh, Sigmoid, Softplus, Gelu, GeluTanh, Silu };

struct Activation {
  Nonlinearity kind = Nonlinearity::Relu;
  double leak = 0.01;  // slope of LeakyRelu at z <= 0, in [0, 1]

  /// s'' = 0 wherever it exists.
  bool piecewise_linear() const {
    return kind == Nonlinearity::Identity || kind == Nonlinearity::Relu || kind == Nonlinearity::LeakyRelu;
  }
};

template <class S>
struct Jet {
  S value, slope, curvature;
};

namespace detail {

template <class S>
S sigmoid(S z) {
  const S e = std::exp(z < 0 ? z : -z);
  return z < 0 ? e / (1 + e) : 1 / (1 + e);
}

/// f(jet) with jet: z -> Jet<S>; the choice is made once, outside of the caller's loop.
template <class S, class F>
void with_activation(const Activation& a, const F& f) {
  switch (a.kind) {
    case Nonlinearity::Identity: return f([](S z) -> Jet<S> { return {z, S(1), S(0)}; });
    case Nonlinearity::Relu: return f([](S z) -> Jet<S> { return {z > 0 ? z : S(0), z > 0 ? S(1) : S(0), S(0)}; });
    case Nonlinearity::LeakyRelu:
      return f([k = S(a.leak)](S z) -> Jet<S> { return {z > 0 ? z : k * z, z > 0 ? S(1) : k, S(0)}; });
    case Nonlinearity::Tanh:
      return f([](S z) -> Jet<S> {
        const S t = std::tanh(z), d = 1 - t * t;
        return {t, d, -2 * t * d};
      });
    case Nonlinearity::Sigmoid:
      return f([](S z) -> Jet<S> {
        const S p = sigmoid(z), d = p * (1 - p);
        return {p, d, d * (1 - 2 * p)};
      });
    case Nonlinearity::Softplus:
      return f([](S z) -> Jet<S> {
        const S p = sigmoid(z);
        return {(z > 0 ? z : S(0)) + std::log1p(std::exp(-std::abs(z))), p, p * (1 - p)};
      });
    case Nonlinearity::Gelu:
      return f([](S z) -> Jet<S> {
        const S cdf = std::erfc(-z * S(std::numbers::sqrt2 / 2)) / 2;
        const S pdf = std::exp(-z * z / 2) * S(std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2);
        return {z * cdf, cdf + z * pdf, (2 - z * z) * pdf};
      });
    case Nonlinearity::GeluTanh:
      // w = k (z + c z^3), s = z (1 + tanh w) / 2
      return f([](S z) -> Jet<S> {
        const S k = S(std::numbers::sqrt2 * std::numbers::inv_sqrtpi), c = S(0.044715);
        const S t = std::tanh(k * (z + c * z * z * z)), d = 1 - t * t;
        const S w1 = k * (1 + 3 * c * z * z), w2 = 6 * k * c * z;
        return {z * (1 + t) / 2, (1 + t + z * d * w1) / 2, d * w1 + z * d * (w2 / 2 - t * w1 * w1)};
      });
    case Nonlinearity::Silu:
      return f([](S z) -> Jet<S> {
        const S p = sigmoid(z), d = p * (1 - p);
        return {z * p, p + z * d, d * (2 + z * (1 - 2 * p))};
      });
  }
}

inline void check_activation(const char* who, const Activation& a) {
  if (!(a.leak >= 0 && a.leak <= 1))
    lowrank::detail::bad_argument(who, "leak = " + std::to_string(a.leak), "a slope between 0 and 1");
}

}  // namespace detail

/// s, s' and s'' at one place.
inline Jet<double> evaluate(const Activation& a, double z) {
  Jet<double> result{};
  detail::with_activation<double>(a, [&](const auto& jet) { result = jet(z); });
  return result;
}

}  // namespace jacobian
}  // namespace lowrank
