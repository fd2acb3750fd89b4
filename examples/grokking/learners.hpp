// Learners: a network and its gradient behind one face, so that every method trains either:
//
//   Split<S> prepare(split, p)                  what the learner reads of a task's samples
//   forward(X)                                  outputs C x B; X: columns of a prepared split
//   backward(X, dY, penalty, weight, draw)      gradients of the loss and the penalty, which may be null; R
//   visit(f)                                    f(weight, gradient) for every parameter
//   alignment(B)                                measures of the last forward
#pragma once

#include <lowrank/jacobian/measure.hpp>
#include <lowrank/jacobian/mlp.hpp>
#include <lowrank/jacobian/penalty.hpp>
#include <lowrank/jacobian/transformer.hpp>

#include "examples/grokking/data.hpp"

namespace grokking {

namespace jac = lowrank::jacobian;

template <class S>
class MlpLearner {
 public:
  MlpLearner(jac::Mlp<S> net, Index samples)
      : net_(std::move(net)), cache_(net_.cache(samples)), grads_(net_.grads()) {}

  /// Pairs of numbers become one-hot.
  Split<S> prepare(const Split<S>& split, Index p) const {
    return split.X.rows() == 2 && net_.input_dim() == 2 * p ? one_hot(split, p) : split;
  }

  const Matrix<S>& forward(const jac::ConstBatch<S>& X) {
    Y_.resize(net_.output_dim(), X.cols());
    net_.forward(X, cache_, jac::batch(Y_));
    return Y_;
  }
  template <class P>
  double backward(const jac::ConstBatch<S>& X, const Matrix<S>& dY, P* penalty, double weight, jac::Draw draw) {
    jac::Mlp<S>::set_zero(grads_);
    if (penalty != nullptr)
      return penalty->add_gradient(net_, cache_, X, grads_,
                                   {.weight = weight, .draw = draw, .loss = lowrank::view(dY)});
    net_.param_vjp(cache_, jac::batch(dY), grads_);
    return 0;
  }
  template <class F>
  void visit(const F& f) {
    for (std::size_t l = 0; l < grads_.size(); ++l) {
      f(net_.layers()[l].weight, grads_[l].weight);
      if (grads_[l].bias.size() > 0) f(net_.layers()[l].bias, grads_[l].bias);
    }
  }
  const jac::Mlp<S>& net() const { return net_; }
  jac::Alignment alignment(const jac::ConstBatch<S>& X) {
    const Matrix<S> ones = Matrix<S>::Ones(net_.output_dim(), X.cols());
    return jac::alignment(net_, cache_, X, ones);
  }

 private:
  jac::Mlp<S> net_;
  typename jac::Mlp<S>::Cache cache_;
  typename jac::Mlp<S>::Grads grads_;
  Matrix<S> Y_;
};

/// Numbers a, b and an equals sign as three embeddings, learned; the Jacobian penalised is the one with respect to
/// them, and its gradient flows into them.
template <class S>
class TransformerLearner {
 public:
  TransformerLearner(jac::Transformer<S> net, Index p, std::uint64_t seed, Index samples)
      : net_(std::move(net)),
        cache_(net_.cache(samples)),
        grads_(net_.grads()),
        table_(net_.shape().width, p + 1),
        d_table_(table_) {
    lowrank::fill_normal(table_.data(), table_.size(), seed, 500, 0);
    table_ /= std::sqrt(S(net_.shape().width));
  }

  Split<S> prepare(const Split<S>& split, Index) const { return split; }

  const Matrix<S>& forward(const jac::ConstBatch<S>& pairs) {
    const Index d = net_.shape().width;
    X_.resize(3 * d, pairs.cols());
    for (Index j = 0; j < pairs.cols(); ++j)
      X_.col(j) << table_.col(Index(pairs(0, j))), table_.col(Index(pairs(1, j))), table_.col(table_.cols() - 1);
    Y_.resize(net_.output_dim(), pairs.cols());
    net_.forward(jac::batch(std::as_const(X_)), cache_, jac::batch(Y_));
    return Y_;
  }
  template <class P>
  double backward(const jac::ConstBatch<S>& pairs, const Matrix<S>& dY, P* penalty, double weight, jac::Draw draw) {
    const Index d = net_.shape().width;
    grads_.set_zero();
    dX_.setZero(X_.rows(), X_.cols());
    double R = 0;
    if (penalty != nullptr) {
      R = penalty->add_gradient(
          net_, cache_, X_, grads_,
          {.weight = weight, .draw = draw, .loss = lowrank::view(dY), .input_gradient = lowrank::view(dX_)});
    } else {
      net_.param_vjp(cache_, jac::batch(dY), grads_);
      net_.vjp(cache_, jac::batch(dY), jac::batch(dX_));
    }
    d_table_.setZero();
    for (Index j = 0; j < pairs.cols(); ++j) {
      d_table_.col(Index(pairs(0, j))) += dX_.col(j).head(d);
      d_table_.col(Index(pairs(1, j))) += dX_.col(j).segment(d, d);
      d_table_.col(d_table_.cols() - 1) += dX_.col(j).tail(d);
    }
    return R;
  }
  template <class F>
  void visit(const F& f) {
    std::vector<Matrix<S>*> gradients;
    grads_.visit([&](const char*, Matrix<S>& g) { gradients.push_back(&g); });
    auto g = gradients.begin();
    net_.weights().visit([&](const char*, Matrix<S>& w) { f(w, **g++); });
    f(table_, d_table_);
  }
  jac::Alignment alignment(const jac::ConstBatch<S>&) {
    const Matrix<S> ones = Matrix<S>::Ones(net_.output_dim(), X_.cols());
    return jac::alignment(net_, cache_, X_, ones);
  }

 private:
  jac::Transformer<S> net_;
  typename jac::Transformer<S>::Cache cache_;
  typename jac::Transformer<S>::Grads grads_;
  Matrix<S> table_, d_table_, X_, dX_, Y_;
};

}  // namespace grokking
