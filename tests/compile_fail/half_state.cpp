// EXPECT: state is kept in float or double
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/rule/adamw.hpp>

#ifdef SHOULD_FAIL
using State = Eigen::half;
#else
using State = float;
#endif

void train(Eigen::MatrixXf& W) {
  lowrank::Optimizer<State, lowrank::Identity, lowrank::AdamW> opt(W, lowrank::Identity{});
  (void)opt;
}
