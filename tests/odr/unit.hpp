#pragma once

struct Result {
  const char* kernel;  // what the optimizer computed with
  double sum;          // of the weights after three steps
};
