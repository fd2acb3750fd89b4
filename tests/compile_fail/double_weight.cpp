// EXPECT: construct the Optimizer from the weight
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>

void train(Eigen::MatrixXf& W, Eigen::MatrixXd& master, const Eigen::MatrixXf& G) {
#ifdef SHOULD_FAIL
  lowrank::Optimizer opt(W, lowrank::Subspace{.rank = 4}, lowrank::AdamW{}, lowrank::BackProject{});
#else
  (void)W;
  lowrank::Optimizer opt(master, lowrank::Subspace{.rank = 4}, lowrank::AdamW{}, lowrank::BackProject{});
#endif
  opt.step(master, G, {.lr = 1e-3});
}
