#include <lowrank/cuda/context.cuh>

#include "examples/pretrain/device/machine.cuh"

namespace pretrain::inline LOWRANK_ABI {
namespace {

/// A stream and what the kernels need on it, before the machine on them.
struct Stream {
  cudaStream_t stream = nullptr;

  Stream() { lowrank::cuda::detail::check(cudaStreamCreate(&stream), "cudaStreamCreate"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream); }
};
struct Owned {
  Stream stream;
  lowrank::cuda::Context<> context{stream.stream};
};

template <class... R>
std::unique_ptr<Machine> owning(const MachineFor<R...>*) {
  using On = MachineOn<lowrank::cuda::Context<>, Machine, R...>;
  struct Gpu final : private Owned, public On {
    Gpu() : On(context) {}
  };
  return std::make_unique<Gpu>();
}

}  // namespace

std::unique_ptr<Machine> gpu() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)
    throw std::runtime_error("no CUDA device; the program pretrain takes the same steps on the CPU, and goes on with the same folder");
  return owning(static_cast<const Machine*>(nullptr));
}

}  // namespace pretrain
