// Training one learner by one method, and what is written down of it.
#pragma once

#include <optional>

#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/sgd.hpp>

#include "examples/grokking/learners.hpp"

namespace grokking {

enum class Method { WeightDecay, GrokAlign, Grokfast, Hold };

inline const char* name(Method m) {
  switch (m) {
    case Method::GrokAlign: return "grokalign";
    case Method::Grokfast: return "grokfast";
    case Method::Hold: return "hold";
    default: return "decay";
  }
}

struct Plan {
  Index steps = 300, batch = 0, eval_every = 5;  // batch 0: all samples; a step is one pass over the batches
  double lr = 0.1;
  double lambda = 0.3;              // GrokAlign's weight
  double level = 5, hold = 1e-3;    // held norm of the Jacobian, and the weight of holding it
  double alpha = 0.8, boost = 0.1;  // Grokfast's moving average and its gain (Lee et al.: arXiv 2405.20233)
  Index measured = 64;              // samples the alignment is measured on
};

struct Row {
  Index step;
  double loss, train_accuracy, test_accuracy, alignment, centroid, jacobian_norm;
};

struct Run {
  std::vector<Row> rows;

  /// The first evaluated step with this accuracy on the test samples.
  std::optional<Index> learned(double accuracy) const {
    for (const Row& r : rows)
      if (r.test_accuracy >= accuracy) return r.step;
    return std::nullopt;
  }
};

/// Loss (mean of squares for one output, cross entropy for several), its gradient in dY, and the share of right
/// answers.
template <class S>
struct Score {
  double loss = 0, accuracy = 0;
  Matrix<S> dY;
};
template <class S>
Score<S> score(const Matrix<S>& Y, const Index* labels) {
  const Index n = Y.cols();
  Score<S> s;
  s.dY.resize(Y.rows(), n);
  Index right = 0;
  for (Index j = 0; j < n; ++j) {
    if (Y.rows() == 1) {
      const double target = labels[j] > 0 ? 1 : -1, error = double(Y(0, j)) - target;
      s.loss += error * error / double(n);
      s.dY(0, j) = S(2 * error / double(n));
      right += double(Y(0, j)) * target > 0;
      continue;
    }
    Index best = 0;
    const double top = double(Y.col(j).maxCoeff(&best));
    const auto shares = (Y.col(j).template cast<double>().array() - top).exp().eval();
    const double sum = shares.sum();
    s.loss -= (double(Y(labels[j], j)) - top - std::log(sum)) / double(n);
    s.dY.col(j) = (shares / (sum * double(n))).template cast<S>().matrix();
    s.dY(labels[j], j) -= S(1 / double(n));
    right += best == labels[j];
  }
  s.accuracy = double(right) / double(n);
  return s;
}

/// rule: how every parameter is stepped, weight decay included. watch(row) is called after every evaluation and says
/// whether to go on.
template <class S, class Learner, class Rule, class Watch>
Run train(Learner& learner, const Task<S>& task, Method method, const Rule& rule, const Plan& plan, std::uint64_t seed,
          const Watch& watch) {
  const Split<S> train = learner.prepare(task.train, task.outputs), test = learner.prepare(task.test, task.outputs);
  std::vector<lowrank::Optimizer<S, lowrank::Identity, Rule>> optimizers;
  std::vector<Matrix<S>> averages;
  learner.visit([&](auto& w, auto&) { optimizers.emplace_back(w, lowrank::Identity{}, rule); });
  jac::Penalty grokalign(jac::Projection{}, jac::FrobeniusNorm{});
  jac::Penalty hold(jac::Projection{}, jac::HoldAt{.level = plan.level});
  const Index size = plan.batch > 0 ? std::min(plan.batch, train.size()) : train.size();
  const auto part = [](const Split<S>& s, Index first, Index n) {
    return jac::ConstBatch<S>(s.X.data() + first * s.X.rows(), s.X.rows(), n, Eigen::OuterStride<>(s.X.rows()));
  };
  const auto measure = [&](const Split<S>& s) {  // in pieces that the learner has room for
    Score<S> all;
    double right = 0;
    for (Index first = 0; first < s.size(); first += size) {
      const Index n = std::min(size, s.size() - first);
      const Score<S> piece = score(learner.forward(part(s, first, n)), s.labels.data() + first);
      all.loss += piece.loss * double(n) / double(s.size());
      right += piece.accuracy * double(n);
    }
    all.accuracy = std::round(right) / double(s.size());
    return all;
  };

  Run run;
  std::uint64_t draws = 0;
  for (Index step = 0; step <= plan.steps; ++step) {
    if (step % plan.eval_every == 0) {
      const Score<S> seen = measure(train), unseen = measure(test);
      const auto few = part(train, 0, std::min({plan.measured, size, train.size()}));
      learner.forward(few);
      const jac::Alignment a = learner.alignment(few);
      run.rows.push_back({step, seen.loss, seen.accuracy, unseen.accuracy, a.jacobian.mean(),
                          a.centroid.cwiseAbs().mean(), a.jacobian_norm.mean()});
      if (!watch(run.rows.back())) break;
    }
    if (step == plan.steps) break;
    for (Index first = 0; first + size <= train.size(); first += size) {
      const auto X = part(train, first, size);
      const Score<S> s = score(learner.forward(X), train.labels.data() + first);
      const jac::Draw draw{seed, draws++};
      if (method == Method::Hold) learner.backward(X, s.dY, &hold, plan.hold, draw);
      else learner.backward(X, s.dY, method == Method::GrokAlign ? &grokalign : nullptr, plan.lambda, draw);
      std::size_t i = 0;
      learner.visit([&](auto& w, auto& g) {
        if (method == Method::Grokfast) {
          if (averages.size() == i) averages.push_back(g);
          averages[i] = S(plan.alpha) * averages[i] + S(1 - plan.alpha) * g;
          g += S(plan.boost) * averages[i];
        }
        optimizers[i++].step(w, g, {.lr = plan.lr});
      });
    }
  }
  return run;
}

/// XOR clusters by full-batch SGD on a bias-free ReLU network with one hidden layer, weights U(+-1/sqrt(fan-in)).
inline MlpLearner<double> xor_learner(const XorSize& size, std::uint64_t seed) {
  jac::Mlp<double> net({size.features, size.hidden, 1}, {jac::Nonlinearity::Relu}, jac::Mlp<double>::Bias::Without);
  std::uint64_t stream = 200;
  for (auto& layer : net.layers()) {
    const double bound = 1 / std::sqrt(double(layer.inputs()));
    for (Index i = 0; i < layer.weight.size(); ++i)
      layer.weight.data()[i] = bound * (2 * uniform(seed, stream, std::uint64_t(i)) - 1);
    ++stream;
  }
  return {std::move(net), size.samples};
}

}  // namespace grokking
