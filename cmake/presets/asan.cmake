# cmake -C cmake/presets/asan.cmake ...: everything under the address and undefined-behaviour sanitizers
set(CMAKE_BUILD_TYPE None CACHE STRING "")
set(CMAKE_CXX_FLAGS "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" CACHE STRING "")
set(LOWRANK_SANITIZED ON CACHE BOOL "")
set(LOWRANK_BUILD_BENCH OFF CACHE BOOL "")
