# HEADER compiles alone and without a warning: plain, for this machine, and with the second compiler.
cmake_minimum_required(VERSION 3.25)
include(${CHECKS})

function(check compiler)
  execute_process(COMMAND ${compiler} ${COMPILE} ${WARNINGS} ${ARGN} -fsyntax-only -include ${HEADER} -x c++ /dev/null
                  RESULT_VARIABLE result)
  if(result)
    message(SEND_ERROR "${HEADER} does not compile alone with ${compiler} ${ARGN}")
  endif()
endfunction()

check(${CXX})
check(${CXX} ${ARCH} ${OPENMP})
if(SECOND AND NOT SECOND STREQUAL CXX)
  check(${SECOND} ${ARCH})
endif()
