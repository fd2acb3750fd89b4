# The code that opens README.md is examples/hero_loop.cpp to the letter, its model of one's own is the body of main in
# examples/own_model.cpp, every file README.md names exists, and so does
# every recipe its table lists.
cmake_minimum_required(VERSION 3.25)
file(READ ${ROOT}/README.md readme)
file(READ ${ROOT}/examples/hero_loop.cpp hero)
string(FIND "${readme}" "```cpp\n${hero}```" at)
if(at EQUAL -1)
  message(SEND_ERROR "the code that opens README.md is not examples/hero_loop.cpp")
endif()

file(READ ${ROOT}/examples/own_model.cpp own)
string(REGEX REPLACE ".*int main\\(\\) {\n  (.*)}\n$" "\\1" own "${own}")
string(REPLACE "\n  " "\n" own "${own}")
string(FIND "${readme}" "```cpp\n${own}```" at)
if(at EQUAL -1)
  message(SEND_ERROR "the model of one's own in README.md is not the body of main in examples/own_model.cpp")
endif()

# brackets would join what CMake takes for one element of a list
string(REPLACE "](" "`" links "${readme}")
string(REGEX REPLACE "[][;]" " " links "${links}")
string(REGEX MATCHALL "`(include|tests|bench|examples|cmake)/[A-Za-z0-9_./-]+" names "${links}")
foreach(name IN LISTS names)
  string(REPLACE "`" "" name "${name}")
  if(NOT EXISTS ${ROOT}/${name})
    message(SEND_ERROR "README.md names ${name}, which is not there")
  endif()
endforeach()

file(READ ${ROOT}/include/lowrank/recipes.hpp recipes)
string(REGEX MATCHALL "\n(inline )?auto [a-z0-9_]+\\(" functions "${recipes}")
list(TRANSFORM functions REPLACE "\n(inline )?auto ([a-z0-9_]+)\\(" "\\2")
list(REMOVE_DUPLICATES functions)
foreach(name IN LISTS functions)
  if(NOT readme MATCHES "`${name}`")
    message(SEND_ERROR "README.md does not list the recipe ${name}")
  endif()
endforeach()
