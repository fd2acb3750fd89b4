// Every option of every policy, with its default and where that comes from. Plain aggregates over std only: shared by
// the CPU library, device code, command lines and files. Options may be read and changed between steps, except rank and
// side, which fix the shape of the state.
//
// Each policy has a name and lists its fields once, visit(o, f) calling f(name, field): what files compare and print.
#pragma once

#include <lowrank/options/galore.hpp>
#include <lowrank/options/lift.hpp>
#include <lowrank/options/projector.hpp>
#include <lowrank/options/recipe.hpp>
#include <lowrank/options/rule.hpp>
#include <lowrank/options/step.hpp>
#include <lowrank/options/storage.hpp>
#include <lowrank/options/whole.hpp>
