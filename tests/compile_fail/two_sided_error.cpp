// EXPECT: a two-sided projection has no columns to scale and keeps no error
#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/two_sided_svd.hpp>
#include <lowrank/rule/adamw.hpp>

#ifdef SHOULD_FAIL
using Lift = lowrank::ErrorFeedback;
#else
using Lift = lowrank::BackProject;
#endif

void train(Eigen::MatrixXf& W, const Eigen::MatrixXf& G) {
  lowrank::Optimizer opt(W, lowrank::TwoSidedSvd{.rank = 4}, lowrank::AdamW{}, Lift{});
  opt.step(W, G, {.lr = 1e-3});
}
