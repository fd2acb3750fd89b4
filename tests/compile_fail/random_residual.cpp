// EXPECT: only for an orthonormal P, which Gaussian's is not
#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/gaussian.hpp>
#include <lowrank/rule/adamw.hpp>

#ifdef SHOULD_FAIL
using Lift = lowrank::Residual;
#else
using Lift = lowrank::ChannelScale;
#endif

void train(Eigen::MatrixXf& W, const Eigen::MatrixXf& G) {
  lowrank::Optimizer opt(W, lowrank::Gaussian{.rank = 4}, lowrank::AdamW{}, Lift{});
  opt.step(W, G, {.lr = 1e-3});
}
