# What including lowrank.hpp and stepping an optimizer costs a user, in seconds of processor time. The budget is for an
# idle machine; only twice the budget is a failure.
cmake_minimum_required(VERSION 3.25)
include(${CHECKS})

function(measure budget)
  list(JOIN COMPILE " " flags)
  list(JOIN ARGN " " more)
  execute_process(
    COMMAND sh -c "\"${CXX}\" ${flags} ${more} -DUNIT=unit -c -o /dev/null \"${ROOT}/tests/odr/unit.cpp\" && times"
    RESULT_VARIABLE result OUTPUT_VARIABLE times)
  # the second line is "<user> <system>" of the children, each as 0m1.25s
  if(result OR NOT times MATCHES "\n([0-9]+)m([0-9]+)[.,]([0-9])[0-9]*s")
    message(FATAL_ERROR "cannot compile or time it: ${times}")
  endif()
  math(EXPR tenths "600 * ${CMAKE_MATCH_1} + 10 * ${CMAKE_MATCH_2} + ${CMAKE_MATCH_3}")
  string(REGEX REPLACE "(.)$" ".\\1" seconds ${tenths})
  message("lowrank.hpp and one optimizer, ${more}: ${seconds} s of ${budget} s")
  math(EXPR limit "20 * ${budget}")
  if(tenths GREATER limit)
    message(SEND_ERROR "more than twice the budget")
  endif()
endfunction()

measure(4 -O2)
if(ARCH)
  measure(6 -O2 ${ARCH})
endif()
