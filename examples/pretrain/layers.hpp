// The layers that are not matrix products: RMSNorm, rotary positions, SwiGLU, cross entropy; forward and backward.
//
// An activation of n tokens is features x n, column-major: one token is one contiguous column, which is the memory of
// a row-major C array [token][feature]. Columns are independent everywhere in this file. In the backward functions dX
// is the gradient of the loss with respect to X.
#pragma once

#include <cmath>    // std::log, std::pow
#include <cstddef>  // std::size_t

#include <Eigen/Core>

#include "examples/pretrain/layout.hpp"

namespace pretrain {

template <class S>
using Matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;
template <class S>
using Vector = Eigen::Matrix<S, Eigen::Dynamic, 1>;
/// Some columns of an activation, or some rows of some columns.
template <class S>
using Block = Eigen::Map<Matrix<S>, 0, Eigen::OuterStride<>>;
/// A matrix of weights or of their gradients: row-major, outputs x inputs.
template <class S>
using RowMajor = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class S>
using Weight = Eigen::Map<const RowMajor<S>>;
template <class S>
using WeightGradient = Eigen::Map<RowMajor<S>>;

/// Columns [first, first + n) of an activation.
template <class S>
Block<S> columns(Matrix<S>& x, Index first, Index n) {
  return {x.data() + first * x.rows(), x.rows(), n, Eigen::OuterStride<>(x.rows())};
}

/// Rows [first, first + n) of such columns.
template <class S>
Block<S> rows(Block<S> x, Index first, Index n) {
  return {x.data() + first, n, x.cols(), Eigen::OuterStride<>(x.outerStride())};
}

/// y = g * x / rms(x), rms(x)^2 = mean(x^2) + eps. Keeps inv_rms[t] = 1 / rms for the way back.
template <class S>
void rms_norm(const Block<S>& x, const S* gain, Block<S> y, S* inv_rms) {
  const Eigen::Map<const Vector<S>> g(gain, x.rows());
  for (Index t = 0; t < x.cols(); ++t) {
    inv_rms[t] = S(1) / std::sqrt(x.col(t).squaredNorm() / S(x.rows()) + S(1e-5));
    y.col(t) = inv_rms[t] * x.col(t).cwiseProduct(g);
  }
}

/// With z = x / rms: dg += dy * z and dx += (g dy - z mean(z g dy)) / rms.
template <class S>
void rms_norm_backward(const Block<S>& x, const S* gain, const S* inv_rms, const Block<S>& dy, Block<S> dx, S* dgain) {
  const Eigen::Map<const Vector<S>> g(gain, x.rows());
  Eigen::Map<Vector<S>> dg(dgain, x.rows());
  for (Index t = 0; t < x.cols(); ++t) {
    const S r = inv_rms[t];
    const S zgdy = r * x.col(t).cwiseProduct(g).dot(dy.col(t)) / S(x.rows());
    dg += r * x.col(t).cwiseProduct(dy.col(t));
    dx.col(t) += r * (g.cwiseProduct(dy.col(t)) - (r * zgdy) * x.col(t));
  }
}

/// The gradient of a rotation is the rotation back.
enum class Turn { Forward, Back };

/// Rotary positions. At position t the pair (x_i, x_{i + h/2}) of every head turns by the angle t * base^(-2i/h).
template <class S>
class Rotary {
 public:
  explicit Rotary(const ModelConfig& c) : cos_(c.head_dim() / 2, c.context), sin_(c.head_dim() / 2, c.context) {
    for (Index t = 0; t < c.context; ++t)
      for (Index i = 0; i < cos_.rows(); ++i) {
        const double angle = double(t) * std::pow(10000.0, -2.0 * double(i) / double(c.head_dim()));
        cos_(i, t) = S(std::cos(angle));
        sin_(i, t) = S(std::sin(angle));
      }
  }

  /// x: features x n, made of whole heads; n a multiple of the context.
  template <Turn turn>
  void apply(Block<S> x) const {
    const Index half = cos_.rows();
    for (Index t = 0; t < x.cols(); ++t) {
      const S* c = cos_.col(t % cos_.cols()).data();
      const S* s = sin_.col(t % sin_.cols()).data();
      for (S* a = x.col(t).data(); a != x.col(t).data() + x.rows(); a += 2 * half)
        for (Index i = 0; i < half; ++i) {
          const S u = a[i], v = a[i + half], si = turn == Turn::Forward ? s[i] : -s[i];
          a[i] = u * c[i] - v * si;
          a[i + half] = u * si + v * c[i];
        }
    }
  }

 private:
  Matrix<S> cos_, sin_;
};

/// act = silu(gate) * up with silu(x) = x sigma(x). gate_up: 2f x n (gate above up), act: f x n.
template <class S>
void swiglu(const Block<S>& gate_up, Block<S> act) {
  const Index f = act.rows();
  for (Index t = 0; t < act.cols(); ++t) {
    const auto gate = gate_up.col(t).head(f).array(), up = gate_up.col(t).tail(f).array();
    act.col(t).array() = gate * gate.logistic() * up;
  }
}

/// In: the lower half of d_gate_up holds dact. Out: dgate = dact up silu'(gate) above dup = dact silu(gate), where
/// silu'(x) = sigma (1 + x (1 - sigma)).
template <class S>
void swiglu_backward(const Block<S>& gate_up, Block<S> d_gate_up, S* sigma_scratch) {
  const Index f = gate_up.rows() / 2;
  Eigen::Map<Eigen::Array<S, Eigen::Dynamic, 1>> sigma(sigma_scratch, f);
  for (Index t = 0; t < gate_up.cols(); ++t) {
    const auto gate = gate_up.col(t).head(f).array(), up = gate_up.col(t).tail(f).array();
    auto d_gate = d_gate_up.col(t).head(f).array(), d_up = d_gate_up.col(t).tail(f).array();
    sigma = gate.logistic();
    d_gate = d_up * up * sigma * (S(1) + gate * (S(1) - sigma));
    d_up *= gate * sigma;
  }
}

/// Sum over the columns of -log softmax(logits)[target]. logits: vocab x n, left as the softmax.
template <class S>
double cross_entropy(Block<S> logits, const Byte* targets) {
  double sum = 0;
  for (Index t = 0; t < logits.cols(); ++t) {
    auto z = logits.col(t).array();
    const S top = z.maxCoeff(), at_target = z(targets[t]) - top;
    z = (z - top).exp();
    const S total = z.sum();
    sum += std::log(double(total)) - double(at_target);
    z *= S(1) / total;
  }
  return sum;
}

/// d = weight * (softmax - onehot(target)), in place of the softmax.
template <class S>
void cross_entropy_backward(Block<S> softmax, const Byte* targets, S weight) {
  softmax *= weight;
  for (Index t = 0; t < softmax.cols(); ++t) softmax(targets[t], t) -= weight;
}

}  // namespace pretrain
