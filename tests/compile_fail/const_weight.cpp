// EXPECT: the weight is written to: pass a non-const matrix
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>

void train(Eigen::MatrixXf& W, const Eigen::MatrixXf& G) {
  lowrank::Optimizer opt(W, lowrank::Subspace{.rank = 4}, lowrank::AdamW{}, lowrank::BackProject{});
#ifdef SHOULD_FAIL
  opt.step(std::as_const(W), G, {.lr = 1e-3});
#else
  opt.step(W, G, {.lr = 1e-3});
#endif
}
