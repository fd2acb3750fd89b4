# lowrank::cuda: the libraries that include/lowrank/cuda/context.cuh calls, next to lowrank::lowrank, which stays as it is.
# Kernels are compiled by whoever includes the headers, in a .cu file.
if(NOT TARGET lowrank::cuda)
  find_package(CUDAToolkit REQUIRED)
  add_library(lowrank::cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(lowrank::cuda INTERFACE lowrank::lowrank CUDA::cudart CUDA::cublas CUDA::cusolver)
endif()
