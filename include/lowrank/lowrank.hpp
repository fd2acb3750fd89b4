// lowrank: low-rank training over Eigen. This header is all of it that most programs need; it has no code of its own.
//
// Words and rooms: DESIGN.md beside this file. Options of everything: options.hpp. Optimizers by their papers' names:
// recipes.hpp. One matrix: optimizer.hpp. A whole model: fleet.hpp. The slow exact projectors are reached by name only:
// <lowrank/projector/svd.hpp> and <lowrank/projector/two_sided_svd.hpp>.
#pragma once

#include <lowrank/fleet.hpp>
#include <lowrank/linalg/int8_weight.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/optimizer/schedule.hpp>
#include <lowrank/options.hpp>
#include <lowrank/recipes.hpp>
#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>
#include <lowrank/version.hpp>
