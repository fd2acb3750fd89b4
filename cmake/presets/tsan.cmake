# cmake -C cmake/presets/tsan.cmake ...: everything under the thread sanitizer, with clang, whose OpenMP runtime it
# understands (libomp-dev); run ctest with TSAN_OPTIONS=ignore_noninstrumented_modules=1
set(CMAKE_CXX_COMPILER clang++ CACHE STRING "")
set(CMAKE_BUILD_TYPE None CACHE STRING "")
set(CMAKE_CXX_FLAGS "-O1 -g -fsanitize=thread" CACHE STRING "")
set(LOWRANK_SANITIZED ON CACHE BOOL "")
set(LOWRANK_BUILD_BENCH OFF CACHE BOOL "")
