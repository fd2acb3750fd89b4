// What benchmarks of adapters share: a batch, the library's adapter with its batch, and rows forward and backward.
#pragma once

#include <map>
#include <memory>

#include <bench/support/roofline.hpp>

#include <lowrank/adapter/adapter.hpp>
#include <lowrank/options/path.hpp>

namespace bench {
namespace {

using lowrank::Path;
using lowrank::Trace;
using lowrank::Workspace;

/// A weight, a batch and its gradient.
struct Batch {
  Matrix<> W, X, dY, Y, dX, dW;

  Batch(Index m, Index n, Index N)
      : W(random_matrix(m, n, 1) / std::sqrt(float(n))), X(random_matrix(n, N, 2)), dY(random_matrix(m, N, 3)), Y(m, N), dX(n, N), dW(m, n) {}
  void dense_forward() { Y.noalias() = W * X; }
  void dense_backward() {
    dX.noalias() = W.transpose() * dY;
    dW.noalias() = dY * X.transpose();
  }
};

template <class S>
Eigen::Map<Matrix<>> map(lowrank::Buffer<S>& b) { return {b.data(), b.rows(), b.cols()}; }

/// The library: one adapter with its batch.
template <class A>
struct Ours {
  A adapter;
  Batch batch;
  Path path;
  Trace<float> trace = {};
  Workspace workspace = {};

  void forward() {
    if constexpr (lowrank::Layer<A>) adapter.forward(batch.X, batch.Y, trace, workspace, {.path = path});
    else adapter.forward(batch.W, batch.X, batch.Y, trace, workspace, {.path = path});
  }
  void backward() {
    if constexpr (lowrank::Layer<A>) adapter.backward(batch.X, batch.dY, batch.dX, trace, workspace);
    else adapter.backward(batch.W, batch.X, batch.dY, batch.dX, trace, workspace);
  }
  std::map<std::string, double> counters() const {
    return {{"bytes", double(adapter.bytes())},
            {"workspace", double(workspace.bytes())},
            {"trace", double(trace.bytes())},
            {"composed", trace.path.forward == lowrank::Order::Composed ? 1.0 : 0.0}};
  }
};

/// The least work of the two passes.
struct Floor {
  Work forward, backward;
};

enum class Base { None, Frozen };
/// By the cost rule (options/path.hpp): the cheapest order of products of rank r, beside the product with a frozen weight in each
/// pass, and two operations for each of `others` numbers a sample (a sparse or a dense part; its gradient as many again). What is
/// read once: the weight, X, dY; what is written: Y, dX.
inline Floor floor_of(Index m, Index n, Index r, Index N, Base base, double others = 0) {
  const lowrank::Work w{m, n, r, N};
  const bool frozen = base == Base::Frozen;
  const lowrank::Path path = frozen ? lowrank::choose(w, {}) : lowrank::short_of_weight({});
  const double beside = 2 * double(N) * (others + (frozen ? double(m) * double(n) : 0));
  const double weight = frozen ? 4 * double(m) * double(n) : 0, in = 4 * double(n) * double(N), out = 4 * double(m) * double(N);
  return {{lowrank::forward_flops(w, path.forward) + beside, weight + in, out},
          {lowrank::backward_flops(w, path.backward, path.gradient, path.forward) + beside + 2 * double(N) * others, weight + in + out, in}};
}

enum class Direction { Forward, Backward };
const char* name_of(Direction d) { return d == Direction::Forward ? "forward" : "backward"; }

std::string row(const std::string& method, Direction d, Index m, Index n, Index N, const char* who) {
  return method + "_" + name_of(d) + "/" + shape(m, n) + "/N" + std::to_string(N) + "/" + who;
}

/// make() gives a fresh adapter of values that are not zero. The forward pass is run once before a backward row.
template <class Make>
void add_ours(const std::string& method, Index m, Index n, Index N, const char* who, const Path& path, const Floor& floor, Make make) {
  for (const int threads : thread_counts())
    for (const Direction d : {Direction::Forward, Direction::Backward})
      add(row(method, d, m, n, N, who), threads, [=]() -> Case {
        using A = decltype(make(m, n));
        const auto x = std::make_shared<Ours<A>>(Ours<A>{make(m, n), Batch(m, n, N), path});
        x->forward();
        x->backward();
        return {[=] { d == Direction::Forward ? x->forward() : x->backward(); },
                d == Direction::Forward ? floor.forward : floor.backward, x->counters()};
      });
}

void add_dense(Index m, Index n, Index N) {
  for (const int threads : thread_counts())
    for (const Direction d : {Direction::Forward, Direction::Backward})
      add(row("dense", d, m, n, N, "eigen"), threads, [=]() -> Case {
        const auto x = std::make_shared<Batch>(m, n, N);
        const double flops = 2 * double(m) * double(n) * double(N);
        if (d == Direction::Forward) return {[=] { x->dense_forward(); }, {flops, 0, 0}};
        return {[=] { x->dense_backward(); }, {2 * flops, 0, 0}};
      });
}

}  // namespace
}  // namespace bench
