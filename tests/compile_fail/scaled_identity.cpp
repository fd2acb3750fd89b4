// EXPECT: Identity keeps the whole gradient: there is nothing to scale or feed back
#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/rule/adamw.hpp>

#ifdef SHOULD_FAIL
using Lift = lowrank::Residual;
#else
using Lift = lowrank::BackProject;
#endif

void train(Eigen::MatrixXf& W, const Eigen::MatrixXf& G) {
  lowrank::Optimizer opt(W, lowrank::Identity{}, lowrank::AdamW{}, Lift{});
  opt.step(W, G, {.lr = 1e-3});
}
