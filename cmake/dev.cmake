# lowrank_dev: what this project's own programs are compiled with, and nobody else's.
include(CheckCXXCompilerFlag)

option(LOWRANK_WERROR "Warnings are errors in the tests" ${PROJECT_IS_TOP_LEVEL})
option(LOWRANK_NATIVE "Compile tests, benchmarks and examples for this machine" ON)
option(LOWRANK_OPENMP "Use OpenMP in tests, benchmarks and examples" ON)

add_library(lowrank_dev INTERFACE)
target_link_libraries(lowrank_dev INTERFACE lowrank)
set(LOWRANK_WARNINGS -Wall -Wextra -Wconversion -Wshadow)
# gcc 12 takes the "undefined" registers inside its own AVX-512 intrinsics, inlined through Eigen, for our variables
target_compile_options(lowrank_dev INTERFACE ${LOWRANK_WARNINGS}
                       $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)

if(LOWRANK_NATIVE)
  # gcc 12 tunes for some processors so badly that Eigen's products lose a quarter: generic scheduling is never worse
  check_cxx_compiler_flag("-march=native -mtune=generic" LOWRANK_HAS_NATIVE)
  if(LOWRANK_HAS_NATIVE)
    set(LOWRANK_ARCH -march=native -mtune=generic)
    target_compile_options(lowrank_dev INTERFACE ${LOWRANK_ARCH})
  endif()
endif()

# Some machines execute the products of AVX-512 BF16 without announcing them, so that -march=native leaves them out. Programs of their own
# are compiled with this flag, and try the instruction before they use it.
if(LOWRANK_HAS_NATIVE)
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS "-march=native")
  check_cxx_source_compiles("
    #if !defined(__AVX512DQ__) || !defined(__AVX512VL__) || defined(__AVX512BF16__)
    #error no AVX-512, or BF16 anyway
    #endif
    int main() {}" LOWRANK_NATIVE_LACKS_BF16)
  unset(CMAKE_REQUIRED_FLAGS)
  check_cxx_compiler_flag(-mavx512bf16 LOWRANK_HAS_BF16_FLAG)
  if(LOWRANK_NATIVE_LACKS_BF16 AND LOWRANK_HAS_BF16_FLAG)
    set(LOWRANK_BF16_FLAG -mavx512bf16)
  endif()
endif()

if(LOWRANK_OPENMP)
  find_package(OpenMP COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    target_link_libraries(lowrank_dev INTERFACE OpenMP::OpenMP_CXX)
  else()
    message(STATUS "lowrank: no OpenMP, everything runs on one thread")
  endif()
endif()
