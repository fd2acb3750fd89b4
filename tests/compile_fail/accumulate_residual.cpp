// EXPECT: only P\^T G is linear in the gradient, and this optimizer needs more of it
#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>

#ifdef SHOULD_FAIL
using Lift = lowrank::Residual;
#else
using Lift = lowrank::BackProject;
#endif

void train(Eigen::MatrixXf& W, const Eigen::MatrixXf& G) {
  lowrank::Optimizer opt(W, lowrank::Subspace{.rank = 4}, lowrank::AdamW{}, Lift{});
  opt.step(W, G, {.lr = 1e-3});
  for (int i = 0; i < 4; ++i) opt.accumulate(G, 0.25);
  opt.step(W, {.lr = 1e-3});
}
