// examples/arena.cpp with the optimizer on a GPU: what changes is the type of the two arenas, whose memory both machines see, and the
// machine that the fleets are made on. Built with LOWRANK_CUDA=ON.
#include <cstdio>

#include <examples/arena/device.cuh>
#include <lowrank/cuda/context.cuh>

namespace {

/// Floats that the CPU and the GPU see.
class Managed {
 public:
  explicit Managed(int n) {
    lowrank::cuda::detail::check(cudaMallocManaged(&data_, std::size_t(n) * sizeof(float)), "cudaMallocManaged");
  }
  Managed(const Managed&) = delete;
  Managed& operator=(const Managed&) = delete;
  ~Managed() { cudaFree(data_); }
  float* data() { return data_; }

 private:
  float* data_ = nullptr;
};

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device\n");
    return 77;
  }
  lowrank::cuda::Context context;
  arena::train<Managed>(context, 120);
}
