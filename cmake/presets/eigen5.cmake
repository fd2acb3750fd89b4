# EIGEN5=<tree> cmake -C cmake/presets/eigen5.cmake ...: with an Eigen 5 checkout
if(NOT EXISTS "$ENV{EIGEN5}/Eigen/Version")
  message(FATAL_ERROR "set EIGEN5 to an Eigen 5 source tree")
endif()
set(LOWRANK_EIGEN "$ENV{EIGEN5}" CACHE PATH "")
