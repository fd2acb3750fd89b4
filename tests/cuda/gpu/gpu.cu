// The scenarios on a GPU: compiled and linked wherever there is an nvcc, run where there is a device (gpu.cpp decides).
#include <lowrank/cuda/context.cuh>

#include "scenarios.hpp"

bool there_is_a_gpu() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

std::vector<scenarios::Result> on_a_gpu(bool pooled) {
  cudaStream_t stream;
  if (cudaStreamCreate(&stream) != cudaSuccess) throw std::runtime_error("no stream");
  std::vector<scenarios::Result> results;
  if (pooled) {
    lowrank::cuda::Context context(stream, lowrank::cuda::StreamOrdered{});
    results = scenarios::all(context);
  } else {
    lowrank::cuda::Context context(stream);
    results = scenarios::all(context);
  }
  cudaStreamDestroy(stream);
  return results;
}

namespace {

/// Steps from a captured graph, replayed with another learning rate each, against steps that are taken: the largest difference.
template <class P, class L>
double replayed(const P& projector, const L& lift) {
  namespace lc = lowrank::cuda;
  cudaStream_t stream;
  if (cudaStreamCreate(&stream) != cudaSuccess) throw std::runtime_error("no stream");
  double worst = 0;
  {
    lc::Context context(stream);
    using Context = lc::Context<>;
    scenarios::Matrix<float, Context> w(context, 64, 96, true, 0), v(context, 64, 96, true, 0), g(context, 64, 96, true, 0);
    w.put(1), v.put(1), g.put(2);
    lc::Optimizer a(context, w.view(), projector, lowrank::AdamW{}, lift), b(context, v.view(), projector, lowrank::AdamW{}, lift);
    cudaGraphExec_t step = nullptr;
    for (int t = 0; t < 8; ++t) {
      const lowrank::Step numbers{.lr = 0.1 / (1 + t)};
      g.put(2 + std::uint64_t(t));
      a.step(w.view(), g.view(), numbers);
      if (t < 2) {
        b.step(v.view(), g.view(), numbers);
        continue;
      }
      if (step == nullptr) {
        cudaGraph_t graph;
        lc::detail::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
        b.enqueue(v.view(), g.view(), lc::Refresh::No);
        lc::detail::check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
        lc::detail::check(cudaGraphInstantiate(&step, graph, 0), "cudaGraphInstantiate");
        cudaGraphDestroy(graph);
      }
      b.set(numbers);
      lc::detail::check(cudaGraphLaunch(step, stream), "cudaGraphLaunch");
    }
    b.report();
    const auto x = w.get(), y = v.get();
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(double(x[i]) - double(y[i])));
    if (a.steps() != b.steps()) worst = 1;
    cudaGraphExecDestroy(step);
  }
  cudaStreamDestroy(stream);
  return worst;
}

}  // namespace

double worst_of_replays() {
  const lowrank::Subspace subspace{.rank = 8, .refresh_every = 1000};
  return std::max({replayed(lowrank::Identity{}, lowrank::BackProject{}), replayed(subspace, lowrank::BackProject{}), replayed(subspace, lowrank::Residual{}),
                   replayed(lowrank::Gaussian{.rank = 8, .refresh_every = 1000}, lowrank::ChannelScale{})});
}
