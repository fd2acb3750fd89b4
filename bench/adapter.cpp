// Question: what do adapters cost, forward and backward, beside the obvious Eigen expressions and beside the dense layer,
// and is the order of products that the cost rule takes the faster one? "auto" is the rule's choice, and its column
// "composed" says which that was; "eigen" the same algebra written down with .noalias(); "dense" the layer without an
// adapter, trained whole; for SLTrain "materialised" is the published backward: W and dY X^T made and read again.
#include <bench/support/adapter.hpp>

#include <lowrank/adapter/lora.hpp>
#include <lowrank/adapter/randlora.hpp>
#include <lowrank/adapter/sltrain.hpp>

namespace bench {
namespace {

using lowrank::Gradient;
using lowrank::Path;

constexpr Path factored{lowrank::Order::Factored, lowrank::Order::Factored, Gradient::Factored};
constexpr Path composed{lowrank::Order::Composed, lowrank::Order::Composed, Gradient::Dense};

/// The same algebra in Eigen, for a LoRA and for an SLTrain layer.
struct Naive {
  Matrix<> A, B, dA, dB, H, T;
  float s;

  Naive(Matrix<> a, Matrix<> b, double scale) : A(std::move(a)), B(std::move(b)), dA(A), dB(B), s(float(scale)) {}
  void forward(Batch& x) {
    x.dense_forward();
    H.noalias() = A * x.X;
    x.Y.noalias() += s * B * H;
  }
  void backward(Batch& x) {
    T.noalias() = B.transpose() * x.dY;
    x.dX.noalias() = x.W.transpose() * x.dY;
    x.dX.noalias() += s * A.transpose() * T;
    dA.noalias() = s * T * x.X.transpose();
    dB.noalias() = s * x.dY * H.transpose();
  }
  /// W = s B A + S, G = dY X^T; then everything from W and G.
  template <class Layer>
  void materialised_backward(Batch& x, Layer& layer) {
    x.W.noalias() = s * B * A;
    const auto& at = layer.support();
    float* v = layer.values().value.data();
    for (Index i = 0; i < at.rows(); ++i)
      for (Index k = at.begin(i); k < at.end(i); ++k) x.W(i, at.column(k)) += v[k];
    x.dense_backward();
    dB.noalias() = s * x.dW * A.transpose();
    dA.noalias() = s * B.transpose() * x.dW;
    float* dv = layer.values().gradient.data();
    for (Index i = 0; i < at.rows(); ++i)
      for (Index k = at.begin(i); k < at.end(i); ++k) dv[k] = x.dW(i, at.column(k));
  }
};

lowrank::Lora<float> make_lora(Index m, Index n, Index r) {
  lowrank::Lora<float> lora(m, n, {.rank = r, .alpha = double(r)});
  lora.initialize(lowrank::Init::Both);
  return lora;
}

void add_lora(Index m, Index n, Index r, Index N) {
  const auto make = [r](Index rows, Index cols) { return make_lora(rows, cols, r); };
  const std::string method = with_rank("lora", r);
  const Floor floor = floor_of(m, n, r, N, Base::Frozen);
  add_ours(method, m, n, N, "auto", {}, floor, make);
  add_ours(method, m, n, N, "factored", factored, floor, make);
  add_ours(method, m, n, N, "composed", composed, floor, make);
  for (const int threads : thread_counts())
    for (const Direction d : {Direction::Forward, Direction::Backward})
      add(row(method, d, m, n, N, "eigen"), threads, [=]() -> Case {
        auto lora = make_lora(m, n, r);
        const auto naive = std::make_shared<Naive>(map(lora.A().value), map(lora.B().value), lora.scale());
        const auto batch = std::make_shared<Batch>(m, n, N);
        naive->forward(*batch);
        naive->backward(*batch);
        Ours<lowrank::Lora<float>> ours{lora, Batch(m, n, N), {}};
        ours.forward();
        ours.backward();
        if (difference(ours.batch.Y, batch->Y) > 1e-5 || difference(ours.batch.dX, batch->dX) > 1e-5 ||
            difference(map(ours.adapter.A().gradient), naive->dA) > 1e-5)
          return {.run = {}, .error = "LoRA is wrong"};
        return {[=] { d == Direction::Forward ? naive->forward(*batch) : naive->backward(*batch); }};
      });
}

lowrank::SlTrain<float> make_sltrain(Index m, Index n, Index r) {
  lowrank::SlTrain<float> layer(m, n, {.rank = r, .alpha = double(r) / 4, .density = 0.03});
  lowrank::fill_normal(layer.B().value.data(), layer.B().value.size(), 5, 0, 0);
  return layer;
}

void add_sltrain(Index m, Index n, Index r, Index N) {
  const auto make = [r](Index rows, Index cols) { return make_sltrain(rows, cols, r); };
  const std::string method = with_rank("sltrain", r);
  const Floor floor = floor_of(m, n, r, N, Base::None, double(make(m, n).support().entries()));
  add_ours(method, m, n, N, "auto", {}, floor, make);
  add_ours(method, m, n, N, "composed", composed, floor, make);
  for (const int threads : thread_counts())
    add(row(method, Direction::Backward, m, n, N, "materialised"), threads, [=]() -> Case {
      const auto ours = std::make_shared<Ours<lowrank::SlTrain<float>>>(Ours<lowrank::SlTrain<float>>{make_sltrain(m, n, r), Batch(m, n, N), {}});
      ours->forward();
      ours->backward();
      auto& layer = ours->adapter;
      const auto naive = std::make_shared<Naive>(map(layer.A().value), map(layer.B().value), layer.scale());
      const auto batch = std::make_shared<Batch>(m, n, N);
      const Matrix<> values = map(layer.values().gradient);
      naive->materialised_backward(*batch, layer);
      if (difference(ours->batch.dX, batch->dX) > 1e-5 || difference(map(layer.A().gradient), naive->dA) > 1e-5 ||
          difference(values, map(layer.values().gradient)) > 1e-5)
        return {.run = {}, .error = "SLTrain is wrong"};
      return {[=] { naive->materialised_backward(*batch, ours->adapter); }};
    });
}

void add_randlora(Index m, Index n, Index r, Index N) {
  const auto make = [r](Index rows, Index cols) {
    const auto bases = std::make_shared<const lowrank::RandBases<float>>(
        lowrank::RandBases<float>::torch({.rank = r, .larger = std::max(rows, cols), .smaller = std::min(rows, cols)}));
    lowrank::RandLora<float> adapter(rows, cols, bases);
    lowrank::fill_normal(adapter.lambda().value.data(), adapter.lambda().value.size(), 5, 0, 0);
    return adapter;
  };
  const std::string method = with_rank("randlora", r);
  const Floor floor = floor_of(m, n, (std::min(m, n) + r - 1) / r * r, N, Base::Frozen);
  add_ours(method, m, n, N, "auto", {}, floor, make);
  add_ours(method, m, n, N, "factored", factored, floor, make);
  add_ours(method, m, n, N, "composed", composed, floor, make);
}

void rows(bool large) {
  for (const Index N : {64, 512, 4096}) {
    add_dense(1024, 1024, N);
    add_lora(1024, 1024, 16, N);
  }
  if (large) add_lora(4096, 4096, 64, 4096);
  // the two shapes of the SLTrain paper's model of 60M parameters
  for (const Index n : {512, 1376}) {
    add_dense(512, n, 4096);
    add_sltrain(512, n, 128, 4096);
  }
  add_sltrain(512, 512, 128, 64);
  for (const Index N : {64, 4096}) add_randlora(512, 512, 32, N);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
