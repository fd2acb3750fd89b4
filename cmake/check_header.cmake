# HEADER compiles alone and without a warning, for this machine. What it includes can differ elsewhere only if it has an #if of its own:
# then also plain and with the second compiler. Without HEADER, the same with each of these for all headers together.
cmake_minimum_required(VERSION 3.25)
include(${CHECKS})

if(HEADER)
  set(headers ${HEADER})
  file(STRINGS ${ROOT}/include/${HEADER} conditions REGEX "^ *# *if")
else()
  file(GLOB_RECURSE headers RELATIVE ${ROOT}/include ${ROOT}/include/lowrank/*.hpp)
  set(HEADER "the library")
endif()
list(TRANSFORM headers PREPEND "-include;" OUTPUT_VARIABLE includes)

function(check compiler)
  execute_process(COMMAND ${compiler} ${COMPILE} ${WARNINGS} ${ARGN} -fsyntax-only ${includes} -x c++ /dev/null
                  RESULT_VARIABLE result)
  if(result)
    message(SEND_ERROR "${HEADER} does not compile alone with ${compiler} ${ARGN}")
  endif()
endfunction()

check(${CXX} ${ARCH} ${OPENMP})
if(conditions OR HEADER STREQUAL "the library")
  check(${CXX})
  if(SECOND AND NOT SECOND STREQUAL CXX)
    check(${SECOND} ${ARCH})
  endif()
endif()
