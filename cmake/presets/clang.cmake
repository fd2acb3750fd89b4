# cmake -C cmake/presets/clang.cmake ...: with clang and its OpenMP (libomp-dev)
set(CMAKE_CXX_COMPILER clang++ CACHE STRING "")
