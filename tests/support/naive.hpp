// What independent transcriptions of published equations share: Eigen matrices in double, the user's orientation, no line
// of the library's arithmetic; and the comparison of a trajectory with one.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/QR>

#include <support/catch.hpp>
#include <support/golden.hpp>
#include <support/placed.hpp>

#include <lowrank/options.hpp>

namespace naive {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// The polynomial iterations as published (Muon's quintic, the tuned one of Dion's code, Polar Express).
inline MatrixXd newton_schulz(const MatrixXd& input, lowrank::Polynomial which) {
  const std::vector<std::array<double, 3>> quintic(5, {3.4445, -4.7750, 2.0315});
  const std::vector<std::array<double, 3>> tuned{{4.0848, -6.8946, 2.9270}, {3.9505, -6.3029, 2.6377},
                                                 {3.7418, -5.5913, 2.3037}, {2.8769, -3.1427, 1.2046},
                                                 {2.8366, -3.0525, 1.2012}};
  const std::vector<std::array<double, 3>> express{{8.156554524902461, -22.48329292557795, 15.878769915207462},
                                                   {4.042929935166739, -2.808917465908714, .5000178451051316},
                                                   {3.8916678022926607, -2.772484153217685, .5060648178503393},
                                                   {3.285753657755655, -2.3681294933425376, .46449024233003106},
                                                   {2.3465413258596377, -1.7097828382687081, .42323551169305323}};
  const bool polar = which == lowrank::Polynomial::PolarExpress;
  const auto& steps = polar ? express : which == lowrank::Polynomial::Tuned ? tuned : quintic;
  MatrixXd X = input.rows() > input.cols() ? MatrixXd(input.transpose()) : input;
  X /= polar ? 1.02 * X.norm() + 1e-6 : X.norm() + 1e-7;
  for (const auto& [a, b, c] : steps) {
    const MatrixXd A = X * X.transpose();
    X = (a * X + (b * A + c * A * A) * X).eval();
  }
  return input.rows() > input.cols() ? MatrixXd(X.transpose()) : X;
}

/// Runs an optimizer of make(weight view) beside a transcription, step(W, G, t), over tall, wide and square matrices in both
/// storage orders. Relative differences of the weight stay below the tolerance.
template <class S, class Make, class MakeNaive>
void follow(const Make& make, const MakeNaive& make_naive, int steps, double lr, double tolerance) {
  using namespace support;
  for (const auto& [rows, cols] : {std::pair<Index, Index>{24, 17}, {17, 24}, {20, 20}, {70, 131}})
    for (const Order order : {Order::Columns, Order::Rows}) {
      INFO(rows << " x " << cols << (order == Order::Rows ? " by rows" : " by columns"));
      MatrixXd W = random_matrix(rows, cols, 3);
      Placed<S> w(W, order);
      auto optimizer = make(w.view());
      auto naive_step = make_naive(rows, cols);
      for (int t = 0; t < steps; ++t) {
        INFO("step " << t);
        const MatrixXd G = training_gradient(rows, cols, t).template cast<S>().template cast<double>();
        const Placed<S> g(G, order);
        naive_step(W, G, t);
        REQUIRE_FALSE(optimizer.step(w.view(), g.view(), {.lr = lr}).skipped);
        REQUIRE(relative_error(w.values(), W) < tolerance);
      }
    }
}

/// Orthonormal bases, one per refresh, for a projector whose bases are given (support/injected.hpp).
inline std::vector<MatrixXd> bases(Index d, Index r, int count) {
  std::vector<MatrixXd> list;
  for (int i = 0; i < count; ++i)
    list.push_back(MatrixXd(Eigen::HouseholderQR<MatrixXd>(support::random_matrix(d, r, 70 + unsigned(i))).householderQ() *
                            MatrixXd::Identity(d, r)));
  return list;
}

/// M with the smaller side as rows, ties turned over; its own inverse, given the user's shape.
inline MatrixXd smaller_first(const MatrixXd& M, Index rows, Index cols) {
  return rows >= cols ? MatrixXd(M.transpose()) : M;
}

}  // namespace naive
