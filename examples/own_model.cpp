// A Jacobian penalty on a model of your own: three callables, and the penalty's gradient by finite differences since this
// one has no mixed_vjp. f(x) = W2 tanh(W1 x) learns y = |x|^2 on a disc, its slope held down.
#include <cstdio>

#include <lowrank/jacobian/penalty.hpp>

using namespace lowrank::jacobian;
using Eigen::MatrixXd;

struct Weights { MatrixXd W1, W2; };
struct Tape { MatrixXd X, H; };

int main() {
  Weights w{MatrixXd::Random(32, 3), MatrixXd::Random(1, 32)}, g = w;
  const auto model = make_model<double, Tape, Weights>(
      3, 1, Forward{[&](auto X, Tape& t, auto Y) { t.X = X; t.H = (w.W1 * X).array().tanh(); Y = w.W2 * t.H; }},
      Vjp{[&](Tape& t, auto V, auto Q) { Q = w.W1.transpose() * ((w.W2.transpose() * V).array() * (1 - t.H.array().square())).matrix(); }},
      ParamVjp{[&](Tape& t, auto V, Weights& grads) {
        grads.W2 += V * t.H.transpose();
        grads.W1 += ((w.W2.transpose() * V).array() * (1 - t.H.array().square())).matrix() * t.X.transpose();
      }});

  MatrixXd X = MatrixXd::Random(3, 64), Y(1, 64);
  X.row(2).setOnes();  // in place of biases
  const MatrixXd target = X.topRows(2).colwise().squaredNorm();
  Penalty penalty(Projection{}, SquaredFrobenius{}, FiniteDifference{});
  Tape tape;
  for (std::uint64_t step = 0; step <= 400; ++step) {
    model.forward(batch(std::as_const(X)), tape, batch(Y));
    const MatrixXd dY = (Y - target) * (2.0 / 64);
    g.W1.setZero(), g.W2.setZero();
    const double R = penalty.add_gradient(model, tape, X, g, {.weight = 0.02, .draw = {1, step}, .loss = lowrank::view(dY)});
    w.W1 -= 0.05 * g.W1, w.W2 -= 0.05 * g.W2;
    if (step % 100 == 0) std::printf("step %3d  error %.4f  |J|^2 / 2 %.3f\n", int(step), (Y - target).squaredNorm() / 64, R);
  }
}
