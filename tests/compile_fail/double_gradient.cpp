// EXPECT: a double gradient needs a double optimizer
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>

void train(Eigen::MatrixXf& W, const Eigen::MatrixXd& G) {
  lowrank::Optimizer opt(W, lowrank::Subspace{.rank = 4}, lowrank::AdamW{}, lowrank::BackProject{});
#ifdef SHOULD_FAIL
  opt.step(W, G, {.lr = 1e-3});
#else
  opt.step(W, G.cast<float>().eval(), {.lr = 1e-3});
#endif
}
