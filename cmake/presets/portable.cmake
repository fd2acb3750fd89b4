# cmake -C cmake/presets/portable.cmake ...: what a user gets without flags, no instruction set and no threads
set(LOWRANK_NATIVE OFF CACHE BOOL "")
set(LOWRANK_OPENMP OFF CACHE BOOL "")
