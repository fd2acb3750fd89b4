# The architecture as a test: cmake -DROOT=<project> -P check_layers.cmake lists every breach and fails if there is one.
#
#   core, options <- {kernel, io} <- linalg <- {projector, rule, lift, adapter, jacobian} <- optimizer
#                 <- whole <- recipes <- fleet <- exchange <- lowrank.hpp
#
# A header may include its own folder and what stands to the left; rooms of one brace never include each other.
cmake_minimum_required(VERSION 3.25)

set(level_version 0)
set(level_core 1)
set(level_options 2)
set(level_kernel 3)
set(level_io 3)
set(level_linalg 4)
foreach(room projector rule lift adapter jacobian)
  set(level_${room} 5)
endforeach()
set(level_optimizer 6)
set(level_whole 7)
set(level_recipes 8)
set(level_fleet 9)
set(level_exchange 10)
set(level_lowrank 11)

set(top include tests bench examples cmake CMakeLists.txt LICENSE README.md)

set(breaches 0)
macro(breach text)
  message("${text}")
  math(EXPR breaches "${breaches} + 1")
endmacro()

file(GLOB entries RELATIVE ${ROOT} ${ROOT}/*)
foreach(entry IN LISTS entries)
  if(NOT entry IN_LIST top AND NOT entry MATCHES "^(build|pretrain-out|finetune-out|[.])")
    breach("${entry}: the top level has no place for it")
  endif()
endforeach()

# room(<variable> <path below lowrank/>): the first folder, or the name of a header that has none
function(room variable path)
  string(REGEX REPLACE "(/.*|[.]hpp)$" "" name ${path})
  set(${variable} ${name} PARENT_SCOPE)
endfunction()

# a line of code that matches the pattern is a breach, except in files that match `where`
function(only_in where pattern why)
  if(file MATCHES "${where}")
    return()
  endif()
  foreach(line IN LISTS code)
    if(line MATCHES "${pattern}")
      breach("${file}: ${why}: ${line}")
    endif()
  endforeach()
  set(breaches ${breaches} PARENT_SCOPE)
endfunction()

file(GLOB_RECURSE headers RELATIVE ${ROOT}/include/lowrank ${ROOT}/include/lowrank/*.hpp ${ROOT}/include/lowrank/*.cuh)
foreach(file IN LISTS headers)
  room(room ${file})
  if(NOT DEFINED level_${room} AND NOT room STREQUAL "cuda")
    breach("${file}: the room '${room}' has no place in the layers")
    continue()
  endif()

  # lines of code without comments and string contents; brackets and semicolons would break CMake's lists
  file(READ ${ROOT}/include/lowrank/${file} code)
  string(REGEX REPLACE "[][;\\\\]" "?" code "${code}")
  string(REGEX REPLACE "//[^\n]*" "" code "${code}")
  string(REGEX REPLACE "(#include +)\"([^\"\n]*)\"" "\\1<\\2>" code "${code}")
  string(REGEX REPLACE "\"[^\"\n]*\"" "\"\"" code "${code}")
  string(REPLACE "\n" ";" code "${code}")

  foreach(line IN LISTS code)
    if(NOT line MATCHES "^ *# *include *<lowrank/([^>]*)>")
      if(line MATCHES "^ *# *include *<([^>]*[.]hpp|[.][^>]*)>")
        breach("${file}: includes <${CMAKE_MATCH_1}>; our headers are named <lowrank/...>")
      endif()
      continue()
    endif()
    set(included ${CMAKE_MATCH_1})
    room(other ${included})
    if(room STREQUAL other OR other STREQUAL "version")
      continue()
    endif()
    if(room STREQUAL "cuda")
      if(NOT other STREQUAL "options")
        breach("${file}: includes ${included}; cuda includes options only")
      endif()
    elseif(other STREQUAL "cuda")
      breach("${file}: includes ${included}; device headers are the user's to include")
    elseif(NOT DEFINED level_${other} OR NOT level_${other} LESS level_${room})
      breach("${file}: includes ${included}, which does not stand to its left")
    endif()
  endforeach()

  if(room STREQUAL "cuda")
    only_in("^$" "Eigen" "names Eigen, which no device header sees")
  endif()
  only_in("^linalg/gemm[.]hpp$" "Eigen::internal" "Eigen::internal")
  only_in("^$" "include *<Eigen/(SVD|Dense|Eigenvalues|Eigen)>" "costs every user seconds of compilation")
  only_in("^(core/abi[.]hpp$|kernel/|cuda/)"
          "^ *# *(el)?if.*(__(AVX|SSE|FMA|F16C|BMI|ARM|aarch64|x86|GNUC|GNUG|clang|INTEL|FAST_MATH)|_MSC_VER|_WIN32|LOWRANK_(ISA|VECTOR))"
          "decides by compiler or instruction set")
  only_in("^(core/buffer[.]hpp$|cuda/)"
          "(^|[^A-Za-z0-9_<])(new[ (:]|malloc|calloc|realloc|aligned_alloc|posix_memalign|make_unique)"
          "allocates; core/buffer.hpp is the only owner of memory")
  # a directory's reader hands the same frozen bases to many adapters
  only_in("^(core/buffer[.]hpp$|cuda/|exchange/)" "(^|[^A-Za-z0-9_<])make_shared"
          "shares memory; core/buffer.hpp is the only owner of it")
endforeach()

if(breaches)
  message(FATAL_ERROR "${breaches} breaches of the layer rule")
endif()
