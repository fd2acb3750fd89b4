// EXPECT: add mixed_vjp.*or pass FiniteDifference
#include <lowrank/jacobian/penalty.hpp>

using namespace lowrank::jacobian;

struct Linear {
  using Scalar = float;
  struct Cache {};
  using Grads = Matrix<float>;
  Matrix<float> W;

  lowrank::Index input_dim() const { return W.cols(); }
  lowrank::Index output_dim() const { return W.rows(); }
  void forward(ConstBatch<float> X, Cache&, Batch<float> Y) const { Y = W * X; }
  void vjp(Cache&, ConstBatch<float> V, Batch<float> Q) const { Q = W.transpose() * V; }
  void param_vjp(Cache&, ConstBatch<float>, Grads&) const {}
};

double step(const Linear& f, Linear::Cache& cache, const Matrix<float>& X, Matrix<float>& grads) {
#ifdef SHOULD_FAIL
  Penalty penalty(Projection{}, FrobeniusNorm{});
#else
  Penalty penalty(Projection{}, FrobeniusNorm{}, FiniteDifference{.h = 1e-3});
#endif
  return penalty.add_gradient(f, cache, X, grads, {.weight = 1e-3});
}
