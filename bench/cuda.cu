// Steps on a GPU against what its memory and its products allow: one row per recipe, size and scalar.
//
//   bench_cuda [torch.csv]       the file is what `python3 bench/cuda_torch.py > torch.csv` wrote on the same machine
//
// Times are medians of event-timed steps over enough copies of weights and gradients that none stays in the cache. The roof is the larger of
// bytes / (measured copy bandwidth) and flops / (measured rate of a large product); bytes count each array once per pass. Where a header
// chooses between two ways by a model, both have a row; a fleet's rows include what the host does, and the wait.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <lowrank/cuda/context.cuh>
#include <lowrank/cuda/fleet.cuh>

namespace lc = lowrank::cuda;
using Context = lc::Context<>;

namespace {

/// Median of f's time on the stream, in microseconds.
template <class F>
double median(Context& context, int repeats, const F& f) {
  cudaEvent_t begin, end;
  lc::detail::check(cudaEventCreate(&begin), "cudaEventCreate");
  lc::detail::check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<double> times;
  for (int i = 0; i < repeats + 3; ++i) {
    cudaEventRecord(begin, context.stream());
    f(i);
    cudaEventRecord(end, context.stream());
    lc::detail::check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float ms = 0;
    cudaEventElapsedTime(&ms, begin, end);
    if (i >= 3) times.push_back(1e3 * double(ms));
  }
  cudaEventDestroy(begin), cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + std::ptrdiff_t(times.size() / 2), times.end());
  return times[times.size() / 2];
}

struct Roof {
  double bytes_per_us, flops_per_us;
  double operator()(double bytes, double flops) const { return std::max(bytes / bytes_per_us, flops / flops_per_us); }
};

/// Several weights and gradients of one shape: more than any cache.
template <class T>
struct Copies {
  Context& context;
  lc::Index rows, cols;
  std::vector<T*> memory;

  Copies(Context& c, lc::Index m, lc::Index n, int count) : context(c), rows(m), cols(n) {
    std::vector<T> host(std::size_t(m * n));
    for (std::size_t i = 0; i < host.size(); ++i) {
      const lc::RandomBlock r = lc::random_block(1, 2, i);
      host[i] = lc::narrow<T>(float(1e-3 * lc::normal_pair(r.word[0], r.word[1]).even));
    }
    for (int i = 0; i < count; ++i) {
      memory.push_back(static_cast<T*>(context.allocate(host.size() * sizeof(T))));
      context.upload(memory.back(), host.data(), host.size() * sizeof(T));
    }
  }
  Copies(const Copies&) = delete;
  ~Copies() {
    for (T* p : memory) context.release(p);
  }
  lc::View<T> operator[](int i) const { return lc::view(memory[std::size_t(i) % memory.size()], rows, cols); }
};

std::map<std::string, double> torch_times(const char* path) {
  std::map<std::string, double> times;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (const auto comma = line.rfind(','); comma != std::string::npos) times[line.substr(0, comma)] = std::stod(line.substr(comma + 1));
  return times;
}

void row(const std::string& name, double time, double floor, const std::map<std::string, double>& torch) {
  const auto there = torch.find(name);
  std::printf("%-40s %10.1f %10.1f %7.2f", name.c_str(), time, floor, floor / time);
  if (there == torch.end()) std::printf("%12s\n", "-");
  else std::printf("%12.1f  x %.1f\n", there->second, there->second / time);
}

template <class T, class P, class R, class L>
void steps(Context& context, const std::string& name, lc::Index m, lc::Index n, const P& projector, const R& rule, const L& lift, double passes, double state, double flops,
           const Roof& roof, const std::map<std::string, double>& torch, lc::Form form = lc::Form::Auto) {
  const int count = int(std::max<lc::Index>(2, (lc::Index(256) << 20) / (m * n * lc::Index(sizeof(T)))));
  const Copies<T> w(context, m, n, count), g(context, m, n, count);
  lc::Optimizer opt(context, w[0], projector, rule, lift);
  opt.form(form);
  opt.step(w[0], g[0], {.lr = 1e-4});
  opt.step(w[1], g[1], {.lr = 1e-4});
  bool always = false;
  if constexpr (std::is_same_v<P, lowrank::Dct>) always = projector.refresh_every == 1;
  const double time = median(context, 30, [&](int i) { opt.enqueue(w[i], g[i], always ? lc::Refresh::Yes : lc::Refresh::No); });
  const std::string type = sizeof(T) == 2 ? " bf16" : " fp32";
  row(name + type, time, roof(passes * double(m * n) * sizeof(T) + state, flops), torch);
  if constexpr (std::is_same_v<P, lowrank::Subspace>) {
    if (form != lc::Form::Auto) return;
    const double refreshed = median(context, 10, [&](int i) { opt.enqueue(w[i], g[i], lc::Refresh::Yes); });
    row(name + type + " refresh", refreshed - time, roof(2 * double(m * n) * sizeof(T), 2 * flops), torch);
  }
}

/// Many small matrices: by a fleet, and by an optimizer each that is waited for once, as in the fleet.
void fleets(Context& context, lc::Index n, int count, const Roof& roof, const std::map<std::string, double>& torch) {
  const Copies<float> w(context, n, n, count), g(context, n, n, count);
  std::vector<lc::Parameter<float>> params;
  for (int i = 0; i < count; ++i) {
    const auto gradient = g[i];
    params.push_back({"w" + std::to_string(i), w[i], {gradient.data, n, n, gradient.row_stride, gradient.col_stride}});
  }
  const auto both = [&](const std::string& name, const auto& projector, double passes, double state) {
    const lowrank::AdamW rule;
    const lowrank::BackProject lift;
    lc::Fleet fleet(context, params, projector, rule, lift);
    using Alone = lc::Optimizer<float, std::remove_cvref_t<decltype(projector)>, lowrank::AdamW, lowrank::BackProject, Context>;
    std::vector<Alone> alone;
    for (const auto& p : params) alone.emplace_back(context, p.weight, projector, rule, lift);
    const auto one_by_one = [&](int) {
      for (std::size_t i = 0; i < alone.size(); ++i) {
        alone[i].set({.lr = 1e-4});
        alone[i].enqueue(params[i].weight, params[i].gradient, alone[i].due() ? lc::Refresh::Yes : lc::Refresh::No);
      }
      for (auto& optimizer : alone) optimizer.report();
    };
    const double floor = roof(count * (passes * double(n * n) * 4 + state), 0);
    const std::string size = " " + std::to_string(count) + " of " + std::to_string(n) + "x" + std::to_string(n);
    row(name + size + " fleet", median(context, 20, [&](int) { fleet.step(params, {.lr = 1e-4}); }), floor, torch);
    row(name + size + " one by one", median(context, 20, one_by_one), floor, torch);
  };
  both("adamw", lowrank::Identity{}, 4, 16 * double(n * n));
  both("galore r8", lowrank::Subspace{.rank = 8, .refresh_every = 0}, 3, 16.0 * 8 * double(n));
  both("galore r64", lowrank::Subspace{.rank = 64, .refresh_every = 0}, 4, 16.0 * 64 * double(n));
}

}  // namespace

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("no CUDA device: nothing was measured\n");
    return 77;
  }
  cudaDeviceProp device;
  cudaGetDeviceProperties(&device, 0);
  const auto torch = argc > 1 ? torch_times(argv[1]) : std::map<std::string, double>{};
  cudaStream_t stream;
  lc::detail::check(cudaStreamCreate(&stream), "cudaStreamCreate");
  {
    Context context(stream);
    Roof roof;
    {
      const lc::Index n = lc::Index(1) << 28;
      const Copies<float> x(context, 1 << 14, 1 << 14, 2);
      roof.bytes_per_us = 2.0 * double(n) * 4 / median(context, 20, [&](int i) { context.copy(x[i].data, x[i + 1].data, std::size_t(n) * 4); });
      const lc::Index s = 8192;
      roof.flops_per_us = 2.0 * double(s) * double(s) * double(s) / median(context, 5, [&](int) {
        context.gemm(lc::columns<const float>(x[0].data, s), lc::columns<const float>(x[0].data + s * s, s), lc::columns(x[1].data, s), s, s, s, lc::Scale<float>{});
      });
    }
    std::printf("%s: copies %.0f GB/s, products in fp32 %.1f TFLOP/s\n", device.name, 1e-3 * roof.bytes_per_us, 1e-6 * roof.flops_per_us);
    std::printf("%-40s %10s %10s %7s %12s\n", "one step", "us", "roof us", "share", "PyTorch us");
    for (const auto& [m, n] : {std::pair<lc::Index, lc::Index>{4096, 4096}, {4096, 11008}}) {
      const std::string shape = " " + std::to_string(m) + "x" + std::to_string(n);
      const double size = double(m) * double(n);
      // the gradient twice (its norm, the step), the weight twice, moments twice each
      steps<float>(context, "adamw" + shape, m, n, lowrank::Identity{}, lowrank::AdamW{}, lowrank::BackProject{}, 4, 16 * size, 0, roof, torch);
      steps<lc::Bf16>(context, "adamw" + shape, m, n, lowrank::Identity{}, lowrank::AdamW{}, lowrank::BackProject{}, 4, 16 * size, 0, roof, torch);
      for (const std::int64_t r : {128, 512}) {
        const std::string name = "galore" + shape + " r" + std::to_string(r);
        const double flops = 4 * size * double(r), state = 16 * double(r) * double(std::max(m, n));
        const lowrank::Subspace subspace{.rank = r, .refresh_every = 0, .transport = lowrank::Transport::Keep};
        steps<float>(context, name, m, n, subspace, lowrank::AdamW{}, lowrank::BackProject{}, 4, state, flops, roof, torch);
        steps<lc::Bf16>(context, name, m, n, subspace, lowrank::AdamW{}, lowrank::BackProject{}, 4, state, flops, roof, torch);
      }
      // the two forms of a step of small rank: what lowrank::cuda::fused_pays() chooses between
      for (const std::int64_t r : {8, 16, 32})
        for (const auto form : {lc::Form::Fused, lc::Form::Composed}) {
          const bool fused = form == lc::Form::Fused;
          const std::string name = "galore" + shape + " r" + std::to_string(r) + (fused ? " fused" : " composed");
          const double flops = 4 * size * double(r), state = 16 * double(r) * double(std::max(m, n));
          const lowrank::Subspace subspace{.rank = r, .refresh_every = 0, .transport = lowrank::Transport::Keep};
          steps<float>(context, name, m, n, subspace, lowrank::AdamW{}, lowrank::BackProject{}, fused ? 3 : 4, state, flops, roof, torch, form);
          steps<lc::Bf16>(context, name, m, n, subspace, lowrank::AdamW{}, lowrank::BackProject{}, fused ? 3 : 4, state, flops, roof, torch, form);
        }
      // and the two routes between refreshes of a cosine basis: what transform_pays() chooses between
      for (const std::int64_t r : {32, 128, 512})
        for (const auto route : {lowrank::DctRoute::Fast, lowrank::DctRoute::Selected}) {
          const bool fast = route == lowrank::DctRoute::Fast;
          const std::string name = "dct_adamw" + shape + " r" + std::to_string(r) + (fast ? " fast" : " selected");
          const lowrank::Dct dct{.rank = r, .refresh_every = 1 << 30, .phase = 0, .route = route};
          steps<float>(context, name, m, n, dct, lowrank::AdamW{}, lowrank::BackProject{}, fast ? 5 : 4, 0, fast ? 0 : 4 * size * double(r), roof, torch, lc::Form::Composed);
        }
      steps<float>(context, "dct_adamw" + shape + " r128", m, n, lowrank::Dct{.rank = 128}, lowrank::AdamW{}, lowrank::BackProject{}, 5, 0, 2 * size * 128, roof, torch);
      steps<float>(context, "fira" + shape + " r128", m, n, lowrank::Subspace{.rank = 128, .refresh_every = 0}, lowrank::AdamW{}, lowrank::Residual{}, 7, 0, 4 * size * 128, roof, torch);
      steps<float>(context, "apollo" + shape + " r128", m, n, lowrank::Gaussian{.rank = 128, .refresh_every = 0}, lowrank::AdamW{}, lowrank::ChannelScale{}, 5, 0, 2 * size * 128, roof, torch);
    }
    fleets(context, 512, 48, roof, torch);
    fleets(context, 1024, 48, roof, torch);
  }
  cudaStreamDestroy(stream);
}
