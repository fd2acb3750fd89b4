// The scenarios on a GPU: compiled and linked wherever there is an nvcc, run where there is a device (gpu.cpp decides).
#include <algorithm>
#include <thread>

#include <lowrank/cuda/context.cuh>
#include <lowrank/cuda/recipes.cuh>

#include "gpu.hpp"

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
template <class R>
double replayed(const R& recipe) {
  namespace lc = lowrank::cuda;
  cudaStream_t stream;
  if (cudaStreamCreate(&stream) != cudaSuccess) throw std::runtime_error("no stream");
  double worst = 0;
  {
    lc::Context context(stream);
    using Context = lc::Context<>;
    scenarios::Matrix<float, Context> w(context, 64, 96, true, 0), v(context, 64, 96, true, 0), g(context, 64, 96, true, 0);
    w.put(1), v.put(1), g.put(2);
    auto a = recipe(context, w.view()), b = recipe(context, v.view());
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
        b.enqueue(v.view(), g.view(), b.due() ? lc::Refresh::Yes : lc::Refresh::No);
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

std::vector<Replay> replays() {
  using namespace lowrank;
  std::vector<Replay> all;
  const auto add = [&](const char* name, const auto& recipe) {
    try {
      all.push_back({name, replayed(recipe), ""});
    } catch (const std::exception& e) {
      all.push_back({name, 0, e.what()});
    }
  };
  add("adamw", adamw());
  add("lion", lion());
  add("adam8bit", Recipe{Identity{}, Adam8bit{}});
  add("galore", galore({.rank = 8, .refresh_every = 1000}));
  add("fira", fira({.rank = 8, .refresh_every = 1000}));
  add("apollo", apollo({.rank = 8, .refresh_every = 1000}));
  add("dct_adamw", dct_adamw({.rank = 8}));  // which chooses anew in every step
  add("muon", muon());
  add("trion", trion({.rank = 8}));
  add("dion", dion({.rank = 8}));
  return all;
}

bool threads_agree() {
  std::vector<float> weights[3];
  const auto train = [&](int i) {
    cudaStream_t stream;
    if (cudaStreamCreate(&stream) != cudaSuccess) return;
    {
      lowrank::cuda::Context context(stream);
      using Context = lowrank::cuda::Context<>;
      scenarios::Matrix<float, Context> w(context, 64, 96, true, 0), g(context, 64, 96, true, 0);
      w.put(1);
      auto opt = lowrank::cuda::galore(context, w.view(), {.rank = 8, .refresh_every = 3});
      for (std::uint64_t t = 0; t < 20; ++t) g.put(2 + t), opt.step(w.view(), g.view(), {.lr = 0.01});
      weights[i] = w.get();
    }
    cudaStreamDestroy(stream);
  };
  train(0);
  std::thread one([&] { train(1); }), two([&] { train(2); });
  one.join(), two.join();
  return !weights[0].empty() && weights[0] == weights[1] && weights[0] == weights[2];
}

bool contexts_ask_for_nothing() {
  static_assert(!std::is_copy_constructible_v<lowrank::cuda::Context<>> && !std::is_move_constructible_v<lowrank::cuda::Context<>>);
  try {  // a handle that is made too early throws where there is no device
    const lowrank::cuda::Context plain;
    const lowrank::cuda::Context pooled(nullptr, lowrank::cuda::StreamOrdered{});
    return plain.workspace_bytes() == 0 && pooled.workspace_bytes() == 0;
  } catch (const std::exception&) {
    return false;
  }
}
