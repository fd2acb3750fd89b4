// Steps on a GPU against what its memory and its products allow: one row per recipe, size and scalar.
//
//   bench_cuda [torch.csv]       the file is what `python3 bench/cuda_torch.py > torch.csv` wrote on the same machine
//
// Times are medians of event-timed steps over enough copies of weights and gradients that none stays in the cache. The roof is the larger of
// bytes / (measured copy bandwidth) and flops / (measured rate of a large product in fp32); bytes count each array once per pass. Gradients
// have singular values that fall as i^-1/2, the same in every copy, and a tenth of noise, another in each. Last come the targets, each with
// what was measured and whether it is met; the program ends with 1 if one is missed.
// Where a header chooses between two ways by a model, both have a row; a fleet's rows include what the host does, and the wait.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <lowrank/cuda/context.cuh>
#include <lowrank/cuda/fleet.cuh>
#include <lowrank/cuda/recipes.cuh>

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

inline float noise(std::size_t i, std::uint64_t stream) {
  const lc::RandomBlock r = lc::random_block(1, stream, i);
  return float(lc::normal_pair(r.word[0], r.word[1]).even);
}

/// Memory on the device, gone with the object.
template <class T>
class Block {
 public:
  Block(Context& context, std::size_t n) : context_(context), data_(static_cast<T*>(context.allocate(n * sizeof(T)))) {}
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { context_.release(data_); }
  T* data() const { return data_; }

 private:
  Context& context_;
  T* data_;
};

enum class Values { Noise, Spectrum };

/// Several matrices of one shape, row-major: more than any cache.
template <class T>
struct Copies {
  Context& context;
  lc::Index rows, cols;
  std::vector<T*> memory;

  Copies(Context& c, lc::Index m, lc::Index n, int count, Values values = Values::Noise) : context(c), rows(m), cols(n) {
    const std::size_t size = std::size_t(m * n);
    std::vector<float> signal(size), random(size);
    for (std::size_t i = 0; i < size; ++i) random[i] = 1e-3f * noise(i, 2);
    if (values == Values::Spectrum) spectrum(signal);
    const float part = values == Values::Spectrum ? 0.3f : 1;  // of the norm: a tenth of the energy
    std::vector<T> host(size);
    for (int k = 0; k < count; ++k) {
      for (std::size_t i = 0; i < size; ++i) host[i] = lc::narrow<T>(signal[i] + part * random[(i + std::size_t(k) * 9973) % size]);
      memory.push_back(static_cast<T*>(context.allocate(size * sizeof(T))));
      context.upload(memory.back(), host.data(), size * sizeof(T));
    }
  }
  Copies(const Copies&) = delete;
  Copies& operator=(const Copies&) = delete;
  ~Copies() {
    for (T* p : memory) context.release(p);
  }
  lc::View<T> operator[](int i) const { return lc::view(memory[std::size_t(i) % memory.size()], rows, cols); }

 private:
  /// sum_i i^-1/2 u_i v_i^T over 1024 independent normal vectors, with entries of 1e-3 in the mean square.
  void spectrum(std::vector<float>& out) const {
    const lc::Index s = 1024;
    std::vector<float> left(std::size_t(rows * s)), right(std::size_t(cols * s));
    double energy = 0;
    for (lc::Index i = 0; i < s; ++i) energy += 1.0 / double(i + 1);
    const double scale = 1e-3 / std::sqrt(energy);
    for (std::size_t i = 0; i < left.size(); ++i) left[i] = float(scale / std::sqrt(double(i / std::size_t(rows) + 1))) * noise(i, 3);
    for (std::size_t i = 0; i < right.size(); ++i) right[i] = noise(i, 4);
    const Block<float> l(context, left.size()), r(context, right.size()), product(context, out.size());
    context.upload(l.data(), left.data(), left.size() * sizeof(float));
    context.upload(r.data(), right.data(), right.size() * sizeof(float));
    context.gemm(lc::columns<const float>(l.data(), rows), lc::transposed<const float>(r.data(), cols), lc::transposed(product.data(), cols), rows, cols, s, lc::Scale<float>{});
    context.download(out.data(), product.data(), out.size() * sizeof(float));
  }
};

/// The r largest of the squared singular values of G (row-major, rows <= cols), over their sum: what an exact SVD captures.
template <class T>
double exact_energy(Context& context, const lc::View<T>& g, lc::Index r) {
  const lc::Index m = g.rows, n = g.cols;
  std::vector<T> stored(std::size_t(m * n));
  context.download(stored.data(), g.data, stored.size() * sizeof(T));
  std::vector<double> wide(stored.size()), values(static_cast<std::size_t>(m));
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = double(lc::widen(stored[i]));
  const Block<double> a(context, wide.size()), gram(context, std::size_t(m * m)), w(context, values.size());
  context.upload(a.data(), wide.data(), wide.size() * sizeof(double));
  context.gemm(lc::transposed<const double>(a.data(), n), lc::columns<const double>(a.data(), n), lc::columns(gram.data(), m), m, m, n, lc::Scale<double>{});
  context.eigh(m, gram.data(), w.data());
  context.download(values.data(), w.data(), values.size() * sizeof(double));
  double all = 0, top = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    all += values[i];
    if (lc::Index(i) >= m - r) top += values[i];
  }
  return top / all;
}

std::map<std::string, double> torch_times(const char* path) {
  std::map<std::string, double> times;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (const auto comma = line.rfind(','); comma != std::string::npos) times[line.substr(0, comma)] = std::stod(line.substr(comma + 1));
  return times;
}

/// The table, and what is asked of it.
class Report {
 public:
  Report(const Roof& roof, std::map<std::string, double> torch) : roof_(roof), torch_(std::move(torch)) {}

  void row(const std::string& name, double time, double bytes, double flops) {
    const auto there = torch_.find(name);
    const double floor = roof_(bytes, flops);
    times_[name] = time, shares_[name] = floor / time;
    std::printf("%-40s %10.1f %10.1f %7.2f", name.c_str(), time, floor, floor / time);
    if (there == torch_.end()) std::printf("%12s\n", "-");
    else std::printf("%12.1f  x %.1f\n", there->second, there->second / time);
  }
  void captured(const std::string& name, double share) { captured_[name] = share; }

  /// True unless one was missed.
  bool targets() const {
    bool good = true;
    const auto target = [&](const std::string& what, double value, const char* sign, double wanted) {
      const bool met = *sign == '>' ? value >= wanted : value <= wanted;
      std::printf("%s  %-64s %8.2f, target %s %.2f\n", met ? "pass" : "FAIL", what.c_str(), value, sign, wanted);
      good = good && met;
    };
    const auto against_torch = [&](const std::string& name, double time, double wanted) {
      if (const auto there = torch_.find(name); there != torch_.end()) target(name + ": PyTorch's time over ours", there->second / time, ">=", wanted);
      else std::printf("----  %-64s no PyTorch figure given\n", name.c_str());
    };
    std::printf("\n");
    for (const auto& [name, time] : times_) {
      const bool refresh = name.ends_with(" refresh");
      if (refresh) {
        against_torch(name, time, 50);
        target(name + ": energy over an exact SVD's", captured_.at(name), ">=", 0.99);
      } else if (name.starts_with("galore")) {
        against_torch(name, time, 3);
        target(name + ": share of the roof", shares_.at(name), ">=", 0.5);
      } else if (name.starts_with("adamw")) {
        target(name + ": share of the roof", shares_.at(name), ">=", 0.85);
      } else if (name.starts_with("dct_adamw")) {
        target(name + ": time over dense AdamW's", time / times_.at("adamw" + name.substr(9, name.rfind(" r") - 9) + name.substr(name.rfind(' '))), "<=", 3);
      }
    }
    return good;
  }

 private:
  Roof roof_;
  std::map<std::string, double> torch_, times_, shares_, captured_;
};

/// A step of an m x n weight and gradient of T; bytes: of `passes` of those, and `state`.
template <class T, class P, class R, class L>
void steps(Context& context, const std::string& what, lc::Index m, lc::Index n, const lowrank::Recipe<P, R, L>& recipe, double passes, double state, double flops, Report& report,
           lc::Form form = lc::Form::Auto) {
  const int count = int(std::max<lc::Index>(2, (lc::Index(256) << 20) / (m * n * lc::Index(sizeof(T)))));
  const std::string name = what + (sizeof(T) == 2 ? " bf16" : " fp32");
  const double size = double(m) * double(n) * sizeof(T);
  const Copies<T> w(context, m, n, count), g(context, m, n, count, Values::Spectrum);
  auto opt = recipe(context, w[0]);
  opt.form(form);
  opt.step(w[0], g[0], {.lr = 1e-4});
  opt.step(w[1], g[1], {.lr = 1e-4});
  bool always = false;
  if constexpr (std::is_same_v<P, lowrank::Dct>) always = recipe.projector.refresh_every == 1;
  const double time = median(context, 30, [&](int i) { opt.enqueue(w[i], g[i], always ? lc::Refresh::Yes : lc::Refresh::No); });
  report.row(name, time, passes * size + state, flops);
  if constexpr (std::is_same_v<P, lowrank::Subspace> && std::is_same_v<L, lowrank::BackProject>) {
    if (form != lc::Form::Auto) return;
    int last = 0;
    const double refreshed = median(context, 10, [&](int i) { opt.enqueue(w[i], g[i], lc::Refresh::Yes), last = i; });
    report.row(name + " refresh", refreshed - time, 2 * size, 2 * flops);
    report.captured(name + " refresh", opt.report().captured / exact_energy(context, g[last], recipe.projector.rank));
  }
}

/// Many small matrices: by a fleet, and by an optimizer each that is waited for once, as in the fleet.
void fleets(Context& context, lc::Index n, int count, Report& report) {
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
    const double bytes = count * (passes * double(n * n) * 4 + state);
    const std::string size = " " + std::to_string(count) + " of " + std::to_string(n) + "x" + std::to_string(n);
    report.row("fleet " + name + size, median(context, 20, [&](int) { fleet.step(params, {.lr = 1e-4}); }), bytes, 0);
    report.row("one by one " + name + size, median(context, 20, one_by_one), bytes, 0);
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
  bool met = false;
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
    Report report(roof, torch);
    for (const auto& [m, n] : {std::pair<lc::Index, lc::Index>{4096, 4096}, {4096, 11008}}) {
      const std::string shape = " " + std::to_string(m) + "x" + std::to_string(n);
      const double size = double(m) * double(n);
      // the gradient twice (its norm, the step), the weight twice, moments twice each
      steps<float>(context, "adamw" + shape, m, n, lowrank::adamw(), 4, 16 * size, 0, report);
      steps<lc::Bf16>(context, "adamw" + shape, m, n, lowrank::adamw(), 4, 16 * size, 0, report);
      for (const std::int64_t r : {128, 512}) {
        const std::string name = "galore" + shape + " r" + std::to_string(r);
        const double flops = 4 * size * double(r), state = 16 * double(r) * double(std::max(m, n));
        const auto galore = lowrank::galore({.rank = r, .refresh_every = 0, .scale = 1});
        steps<float>(context, name, m, n, galore, 4, state, flops, report);
        steps<lc::Bf16>(context, name, m, n, galore, 4, state, flops, report);
      }
      const double flops = 2 * size * 128;
      steps<float>(context, "dct_adamw" + shape + " r128", m, n, lowrank::dct_adamw({.rank = 128}), 5, 0, flops, report);
      steps<float>(context, "fira" + shape + " r128", m, n, lowrank::fira({.rank = 128, .refresh_every = 0}), 7, 0, 2 * flops, report);
      steps<float>(context, "apollo" + shape + " r128", m, n, lowrank::apollo({.rank = 128, .refresh_every = 0}), 5, 0, flops, report);
      // the two forms of a step of small rank: what lowrank::cuda::fused_pays() chooses between
      for (const std::int64_t r : {8, 16, 32})
        for (const auto form : {lc::Form::Fused, lc::Form::Composed}) {
          const bool fused = form == lc::Form::Fused;
          const std::string name = (fused ? "fused galore" : "composed galore") + shape + " r" + std::to_string(r);
          const double products = 4 * size * double(r), state = 16 * double(r) * double(std::max(m, n));
          const auto galore = lowrank::galore({.rank = r, .refresh_every = 0, .scale = 1});
          steps<float>(context, name, m, n, galore, fused ? 3 : 4, state, products, report, form);
          steps<lc::Bf16>(context, name, m, n, galore, fused ? 3 : 4, state, products, report, form);
        }
      // and the two routes between refreshes of a cosine basis: what transform_pays() chooses between
      for (const std::int64_t r : {32, 128, 512})
        for (const auto route : {lowrank::DctRoute::Fast, lowrank::DctRoute::Selected}) {
          const bool fast = route == lowrank::DctRoute::Fast;
          const lowrank::Recipe<lowrank::Dct, lowrank::AdamW, lowrank::BackProject> seldom{
              {.rank = r, .refresh_every = 1 << 30, .phase = 0, .route = route}, {}, {}};
          steps<float>(context, (fast ? "fast dct" : "selected dct") + shape + " r" + std::to_string(r), m, n, seldom, fast ? 5 : 4, 0,
                       fast ? 0 : 4 * size * double(r), report, lc::Form::Composed);
        }
    }
    fleets(context, 512, 48, report);
    fleets(context, 1024, 48, report);
    met = report.targets();
  }
  cudaStreamDestroy(stream);
  return met ? 0 : 1;
}
