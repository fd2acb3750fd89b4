#!/bin/sh
# Builds everything and runs every test: sh cmake/test.sh [arguments for cmake]
# Environment: BUILD_DIR (default build), CXX, LOWRANK_EIGEN (an Eigen tree instead of the installed one).
. "$(dirname "$0")/setup.sh"
build=${BUILD_DIR:-$root/build}

setup
phase "configuring $build"
cmake -S "$root" -B "$build" ${LOWRANK_EIGEN:+"-DLOWRANK_EIGEN=$LOWRANK_EIGEN"} "$@"
phase "building with $jobs jobs"
cmake --build "$build" --parallel "$jobs"
phase "testing with $jobs jobs"
ctest --test-dir "$build" --output-on-failure --parallel "$jobs"
