// What gpu.cu, compiled by nvcc, does for main.cpp.
#pragma once

#include <string>
#include <vector>

#include "scenarios.hpp"

bool there_is_a_gpu();
std::vector<scenarios::Result> on_a_gpu(bool pooled);

/// Steps of a captured graph, another learning rate each, against steps that were taken.
struct Replay {
  std::string name;
  double difference;
  std::string error;  // what was thrown
};
std::vector<Replay> replays();
/// Two threads with a Context each, at the same time, get the bits of one alone.
bool threads_agree();
/// A Context that nothing is asked of asks nothing of the device; holds without one.
bool contexts_ask_for_nothing();
