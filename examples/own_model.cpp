// A Jacobian penalty on a model of your own: three callables, and the penalty's gradient by finite differences since this
// one has no mixed_vjp. f(x) = tanh(W x) learns the sign of W* x from 64 samples, its slope held down.
#include <cstdio>

#include <lowrank/jacobian/penalty.hpp>

using namespace lowrank::jacobian;
using Eigen::MatrixXd;

struct Tape { MatrixXd X, Y; };

int main() {
  const MatrixXd X = MatrixXd::Random(8, 64), target = (MatrixXd::Random(2, 8) * X).cwiseSign();
  MatrixXd W = MatrixXd::Random(2, 8), dW(2, 8), Y(2, 64);
  const auto before_tanh = [](const Tape& t, auto V) -> MatrixXd { return V.array() * (1 - t.Y.array().square()); };
  const auto f = make_model<double, Tape, MatrixXd>(8, 2,
      Forward{[&](auto x, Tape& t, auto y) { t = {x, (W * x).array().tanh()}; y = t.Y; }},
      Vjp{[&](Tape& t, auto V, auto Q) { Q = W.transpose() * before_tanh(t, V); }},
      ParamVjp{[&](Tape& t, auto V, MatrixXd& grad) { grad += before_tanh(t, V) * t.X.transpose(); }});
  Tape tape;
  Penalty penalty(Projection{}, SquaredFrobenius{}, FiniteDifference{});
  for (std::uint64_t step = 0; step < 400; ++step, W -= dW) {
    f.forward(batch(X), tape, batch(Y));
    const MatrixXd dY = (Y - target) / 64;  // of |Y - target|^2 / 128
    const double R = penalty.add_gradient(f, tape, X, dW.setZero(), {.weight = 0.1, .draw = {1, step}, .loss = lowrank::view(dY)});
    if (step % 100 == 0) std::printf("step %3d  loss %.4f  |J|^2 / 2 %.3f\n", int(step), (Y - target).squaredNorm() / 128, R);
  }
}
