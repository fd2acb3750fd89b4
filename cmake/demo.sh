#!/bin/sh
# Builds the example trainer and runs it: sh cmake/demo.sh [its arguments, e.g. --help]
# Environment: BUILD_DIR (default build-demo), CXX, LOWRANK_EIGEN (an Eigen tree instead of the installed one).
. "$(dirname "$0")/setup.sh"
build=${BUILD_DIR:-$root/build-demo}

setup
phase "configuring $build"
cmake -S "$root" -B "$build" -DLOWRANK_BUILD_TESTS=OFF -DLOWRANK_BUILD_BENCH=OFF \
  ${LOWRANK_EIGEN:+"-DLOWRANK_EIGEN=$LOWRANK_EIGEN"}
phase "building pretrain with $jobs jobs"
cmake --build "$build" --parallel "$jobs" --target pretrain
phase "running pretrain $*"
exec "$build/examples/pretrain" "$@"
