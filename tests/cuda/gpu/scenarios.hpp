// What a GPU is asked to show: steps of every kind on matrices in a backend's memory. Run on a Context (gpu.cu, compiled by nvcc) and
// on HostDevice (gpu.cpp), which the other tests hold against the CPU library; the results must agree. Pointers only: no Eigen.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <lowrank/cuda/fleet.cuh>
#include <lowrank/cuda/lora.cuh>
#include <lowrank/cuda/randlora.cuh>
#include <lowrank/cuda/sltrain.cuh>

namespace scenarios {

namespace lc = lowrank::cuda;

struct Result {
  std::string name;
  double tolerance;             // of the largest difference, over the largest weight change
  std::vector<double> weights;  // after the last step, less those before the first
  bool skips = true;            // a NaN changed no bit of the weight
};

/// rows x cols numbers in the backend's memory, with padding between lines.
template <class T, class B>
class Matrix {
 public:
  Matrix(B& backend, lc::Index rows, lc::Index cols, bool by_rows, lc::Index padding)
      : backend_(backend), rows_(rows), cols_(cols), ld_((by_rows ? cols : rows) + padding), by_rows_(by_rows),
        host_(std::size_t(ld_ * (by_rows ? rows : cols))), device_(static_cast<T*>(backend.allocate(host_.size() * sizeof(T)))) {}
  Matrix(const Matrix&) = delete;
  ~Matrix() { backend_.release(device_); }

  lc::View<T> view() const { return lc::view(device_, rows_, cols_, by_rows_ ? ld_ : 1, by_rows_ ? 1 : ld_); }
  void put(std::uint64_t stream, double bad = 0) {
    for (std::size_t i = 0; i < host_.size(); ++i) {
      const lc::RandomBlock r = lc::random_block(1, stream, i);
      host_[i] = lc::narrow<T>(lc::compute_t<T>(lc::normal_pair(r.word[0], r.word[1]).even));
    }
    if (bad != 0) host_[1] = lc::narrow<T>(lc::compute_t<T>(bad));
    backend_.upload(device_, host_.data(), host_.size() * sizeof(T));
  }
  std::vector<T> get() const {
    std::vector<T> x(host_.size());
    backend_.download(x.data(), device_, x.size() * sizeof(T));
    return x;
  }

 private:
  B& backend_;
  lc::Index rows_, cols_, ld_;
  bool by_rows_;
  std::vector<T> host_;
  T* device_;
};

template <class T, class U, class B, class P, class R, class L>
Result scenario(B& backend, const std::string& name, double tolerance, const P& projector, const R& rule, const L& lift, bool by_rows, lowrank::Step step = {.lr = 0.01}) {
  Matrix<T, B> w(backend, 70, 130, by_rows, 2);
  Matrix<U, B> g(backend, 70, 130, !by_rows, 0);
  w.put(1);
  const std::vector<T> before = w.get();
  lc::Optimizer opt(backend, w.view(), projector, rule, lift);
  for (std::uint64_t t = 0; t < 6; ++t) {
    g.put(10 + t % 2);
    opt.step(w.view(), g.view(), step);
  }
  Result result{name, tolerance, {}};
  const std::vector<T> after = w.get();
  for (std::size_t i = 0; i < after.size(); ++i) result.weights.push_back(double(lc::widen(after[i])) - double(lc::widen(before[i])));
  g.put(20, __builtin_nan(""));
  result.skips = opt.step(w.view(), g.view(), step).skipped;
  const std::vector<T> unchanged = w.get();
  result.skips = result.skips && std::memcmp(after.data(), unchanged.data(), after.size() * sizeof(T)) == 0;
  return result;
}

/// Y, dX and the gradients of two passes forward and back.
template <class S, class B, class Adapter, class Forward, class Backward>
Result passes(B& backend, const std::string& name, double tolerance, Adapter& adapter, bool by_rows, const Forward& forward, const Backward& backward) {
  Matrix<S, B> x(backend, 130, 40, by_rows, 2), y(backend, 70, 40, !by_rows, 0), dy(backend, 70, 40, by_rows, 1), dx(backend, 130, 40, !by_rows, 0);
  lc::Trace<S, B> trace;
  for (std::uint64_t pass = 0; pass < 2; ++pass) {
    x.put(40 + pass), dy.put(50 + pass), y.put(60), dx.put(61);
    forward(x.view(), y.view(), trace);
    backward(x.view(), dy.view(), dx.view(), trace);
  }
  Result result{name, tolerance, {}};
  const auto append = [&](const std::vector<S>& values) { result.weights.insert(result.weights.end(), values.begin(), values.end()); };
  append(y.get()), append(dx.get());
  adapter.visit([&](auto& p) {
    std::vector<S> values(std::size_t(p.gradient.size()));
    backend.download(values.data(), p.gradient.data(), p.gradient.bytes());
    append(values);
  });
  return result;
}
template <class S, class B>
Result lora(B& backend, const std::string& name, double tolerance, bool by_rows, const lowrank::Path& path) {
  lc::Lora<S, B> lora(backend, 70, 130, {.rank = 8, .seed = 3});
  Matrix<S, B> w(backend, 70, 130, by_rows, 3), b(backend, 70, 8, false, 0);
  w.put(1), b.put(2);
  backend.copy(lora.B().value.data(), b.view().data, lora.B().value.bytes());
  return passes<S>(
      backend, name, tolerance, lora, by_rows, [&](auto x, auto y, auto& trace) { lora.forward(w.view(), x, y, trace, path); },
      [&](auto x, auto dy, auto dx, const auto& trace) { lora.backward(w.view(), x, dy, dx, trace); });
}
template <class S, class B>
Result randlora(B& backend, const std::string& name, double tolerance, bool by_rows, const lowrank::Path& path) {
  std::vector<S> a(std::size_t(70 * 8)), b(std::size_t(130 * 72));
  for (auto* numbers : {&a, &b})
    for (std::size_t i = 0; i < numbers->size(); ++i) (*numbers)[i] = S(lc::unit(lc::random_block(2, numbers == &a ? 1 : 2, i).word[0]) - 0.5f);
  const lc::RandBases<S, B> bases(backend, 130, 70, 8, a.data(), b.data());
  lc::RandLora<S, B> layer(backend, 70, 130, bases, {.alpha = 16});
  Matrix<S, B> w(backend, 70, 130, by_rows, 3), lambda(backend, 8, 9, false, 0);
  w.put(1), lambda.put(2);
  backend.copy(layer.lambda().value.data(), lambda.view().data, layer.lambda().value.bytes());
  return passes<S>(
      backend, name, tolerance, layer, by_rows, [&](auto x, auto y, auto& trace) { layer.forward(w.view(), x, y, trace, path); },
      [&](auto x, auto dy, auto dx, const auto& trace) { layer.backward(w.view(), x, dy, dx, trace); });
}
/// Five matrices of two shapes, three of which step together.
template <class T, class B, class P>
Result fleet(B& backend, const std::string& name, double tolerance, const P& projector) {
  std::vector<std::unique_ptr<Matrix<T, B>>> w, g;
  std::vector<lc::Parameter<T>> params;
  for (int i = 0; i < 5; ++i) {
    const lc::Index m = i < 3 ? 70 : 40;
    w.push_back(std::make_unique<Matrix<T, B>>(backend, m, 130, true, 0)), g.push_back(std::make_unique<Matrix<T, B>>(backend, m, 130, true, 0));
    w.back()->put(std::uint64_t(i));
    const auto view = g.back()->view();
    params.push_back({"w", w.back()->view(), {view.data, view.rows, view.cols, view.row_stride, view.col_stride}});
  }
  lc::Fleet fleet(backend, params, projector, lowrank::AdamW{.eps = 1e-6}, lowrank::BackProject{});
  Result result{name, tolerance, {}};
  bool skipped = false;
  for (std::uint64_t t = 0; t < 6; ++t) {
    for (std::size_t i = 0; i < g.size(); ++i) g[i]->put(10 + t % 2, t == 4 && i == 1 ? __builtin_nan("") : 0);
    const auto reports = fleet.step(params, {.lr = 0.01});
    for (std::size_t i = 0; i < reports.size(); ++i) skipped = skipped || reports[i].skipped, result.skips = result.skips && reports[i].skipped == (t == 4 && i == 1);
  }
  result.skips = result.skips && skipped;
  for (const auto& matrix : w)
    for (const T x : matrix->get()) result.weights.push_back(double(lc::widen(x)));
  return result;
}
template <class S, class B>
Result sltrain(B& backend, const std::string& name, double tolerance, bool by_rows) {
  std::vector<std::int64_t> places;
  for (std::int64_t at = 0; at < 70 * 130; at += 1 + std::int64_t(lc::random_block(4, 1, std::uint64_t(at)).word[0] % 20)) places.push_back(at);
  lc::SlTrain<S, B> layer(backend, 70, 130, places, {.rank = 8, .seed = 3});
  Matrix<S, B> b(backend, 70, 8, false, 0), w(backend, 70, 130, by_rows, 0);
  b.put(2);
  backend.copy(layer.B().value.data(), b.view().data, layer.B().value.bytes());
  Result result = passes<S>(
      backend, name, tolerance, layer, by_rows, [&](auto x, auto y, auto& trace) { layer.forward(x, y, trace); },
      [&](auto x, auto dy, auto dx, const auto& trace) { layer.backward(x, dy, dx, trace); });
  layer.write_weight(w.view());
  const std::vector<S> weight = w.get();
  result.weights.insert(result.weights.end(), weight.begin(), weight.end());
  return result;
}

template <class B>
std::vector<Result> all(B& backend) {
  using namespace lowrank;
  const AdamW galore{.eps = 1e-6, .weight_decay = 0.1, .epsilon = Epsilon::BeforeCorrection, .decay_order = DecayOrder::AfterUpdate};
  const Step stochastic{.lr = 0.05, .rounding = Rounding::Stochastic, .seed = 3};
  const Subspace subspace{.rank = 12, .refresh_every = 3};
  std::vector<Result> r;
  for (const bool by_rows : {false, true}) {
    const std::string order = by_rows ? " rows" : " columns";
    r.push_back(scenario<float, float>(backend, "adamw" + order, 1e-6, Identity{}, AdamW{.weight_decay = 0.1}, BackProject{}, by_rows));
    r.push_back(scenario<double, double>(backend, "adamw double" + order, 1e-14, Identity{}, AdamW{.weight_decay = 0.1}, BackProject{}, by_rows));
    r.push_back(scenario<lc::Bf16, lc::Bf16>(backend, "adamw bf16" + order, 0.02, Identity{}, AdamW{}, BackProject{}, by_rows, stochastic));
    r.push_back(scenario<lc::Half, lc::Half>(backend, "adamw half" + order, 0.01, Identity{}, AdamBf16{}, BackProject{}, by_rows));
    r.push_back(scenario<float, float>(backend, "lion" + order, 1e-6, Identity{}, Lion{}, BackProject{}, by_rows));
    r.push_back(scenario<double, double>(backend, "galore double" + order, 1e-8, subspace, galore, BackProject{}, by_rows));
    r.push_back(scenario<float, float>(backend, "galore" + order, 1e-2, subspace, galore, BackProject{.scale = 0.25}, by_rows));
    r.push_back(scenario<lc::Bf16, lc::Bf16>(backend, "galore bf16" + order, 0.1, subspace, galore, BackProject{}, by_rows, stochastic));
    r.push_back(scenario<double, double>(backend, "fira double" + order, 1e-8, subspace, galore, Residual{}, by_rows));
    r.push_back(scenario<float, float>(backend, "fira" + order, 1e-2, subspace, galore, Residual{}, by_rows));
    r.push_back(scenario<float, float>(backend, "apollo" + order, 1e-3, Gaussian{.rank = 8}, galore, ChannelScale{}, by_rows));
    r.push_back(scenario<lc::Bf16, float>(backend, "apollo_mini bf16" + order, 0.1, Gaussian{.rank = 1, .refresh_every = 2, .transport = Transport::Rotate}, galore,
                                          ChannelScale{.scale = 128, .granularity = Granularity::Tensor}, by_rows, stochastic));
    r.push_back(scenario<double, double>(backend, "galore 8-bit double" + order, 0.05, Subspace{.rank = 12, .refresh_every = 3, .transport = Transport::Keep}, Adam8bit{.eps = 1e-4},
                                         BackProject{}, by_rows));
    r.push_back(scenario<double, double>(backend, "muon double" + order, 1e-8, Identity{}, Orthogonal{}, BackProject{}, by_rows));
    r.push_back(scenario<float, lc::Bf16>(backend, "muon" + order, 1e-2, Identity{}, Orthogonal{}, BackProject{}, by_rows));
    r.push_back(scenario<double, double>(backend, "dct_adamw double" + order, 1e-9, Dct{.rank = 12}, AdamW{}, BackProject{}, by_rows));
    r.push_back(scenario<float, float>(backend, "dct_adamw" + order, 1e-2, Dct{.rank = 12, .refresh_every = 2}, AdamW{}, BackProject{}, by_rows));
    r.push_back(scenario<double, double>(backend, "dct_adamw fed back double" + order, 1e-9, Dct{.rank = 12}, AdamW{}, ErrorFeedback{}, by_rows));
    r.push_back(scenario<double, double>(backend, "trion double" + order, 1e-8, Trion{.rank = 12}, Coupled{}, Coupled{}, by_rows));
    r.push_back(lora<double>(backend, "lora double" + order, 1e-12, by_rows, {}));
    r.push_back(lora<float>(backend, "lora composed" + order, 1e-5, by_rows, {Order::Composed, Order::Composed, lowrank::Gradient::Dense}));
    r.push_back(sltrain<double>(backend, "sltrain double" + order, 1e-12, by_rows));
    r.push_back(randlora<double>(backend, "randlora double" + order, 1e-12, by_rows, {}));
    r.push_back(randlora<float>(backend, "randlora factored" + order, 1e-5, by_rows, {Order::Factored, Order::Factored, lowrank::Gradient::Factored}));
    r.push_back(sltrain<float>(backend, "sltrain" + order, 1e-5, by_rows));
    // a fused step of small rank, and the cosine basis by transforms both ways
    r.push_back(scenario<double, double>(backend, "galore r4 double" + order, 1e-8, Subspace{.rank = 4, .refresh_every = 3}, galore, BackProject{}, by_rows));
    r.push_back(scenario<lc::Bf16, lc::Bf16>(backend, "galore r4 bf16" + order, 0.1, Subspace{.rank = 4, .refresh_every = 3}, galore, BackProject{}, by_rows));
    r.push_back(scenario<double, double>(backend, "dct_adamw fast double" + order, 1e-9, Dct{.rank = 12, .refresh_every = 3, .route = DctRoute::Fast}, AdamW{}, BackProject{}, by_rows));
    r.push_back(scenario<float, float>(backend, "dion" + order, 1e-2, Dion{.rank = 12}, Coupled{}, Coupled{}, by_rows));
  }
  r.push_back(fleet<float>(backend, "fleet adamw", 1e-6, Identity{}));
  r.push_back(fleet<double>(backend, "fleet galore double", 1e-8, subspace));
  r.push_back(fleet<float>(backend, "fleet galore", 1e-2, Gaussian{.rank = 8, .refresh_every = 3}));
  return r;
}

}  // namespace scenarios
