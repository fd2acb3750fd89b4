// Question: what do the adapters that bench/adapter.cpp leaves out cost, forward and backward, beside the obvious Eigen
// expressions and the dense layer? "eigen" is the paper's algebra with .noalias(), every array kept from call to call.
// AdaLoRA, VeRA, W = B A and Maestro are one form, diag(b) B diag(e) A X, with or without W X; DoRA makes the weight to
// know its row lengths; LOST gathers its columns. SST, two products of full rank, stands beside the dense layer alone.
// "bytes" are what an adapter keeps.
#include <cmath>
#include <limits>

#include <bench/support/adapter.hpp>

#include <lowrank/adapter/adalora.hpp>
#include <lowrank/adapter/dora.hpp>
#include <lowrank/adapter/lost.hpp>
#include <lowrank/adapter/low_rank.hpp>
#include <lowrank/adapter/maestro.hpp>
#include <lowrank/adapter/sst.hpp>
#include <lowrank/adapter/vera.hpp>

namespace bench {
namespace {

using Vector = Eigen::VectorXf;

/// Y = (W X) + diag(b) B diag(e) A X; which gradients are wanted depends on the method.
struct Scaled {
  Matrix<> A, B;
  Vector b, e;
  bool base, factors, scales;
  Matrix<> dA = {}, dB = {}, H = {}, U = {}, T = {}, Z = {};
  Vector db = {}, de = {};

  void forward(Batch& x) {
    if (base) x.Y.noalias() = x.W * x.X;
    H.noalias() = A * x.X;
    U = e.asDiagonal() * H;
    Z.noalias() = B * U;
    if (base) x.Y += b.asDiagonal() * Z;
    else x.Y = b.asDiagonal() * Z;
  }
  void backward(Batch& x) {
    const Matrix<> D = b.asDiagonal() * x.dY;
    T.noalias() = B.transpose() * D;
    if (scales) de = (T.array() * H.array()).rowwise().sum(), db = (x.dY.array() * Z.array()).rowwise().sum();
    if (factors) dB.noalias() = D * U.transpose();
    T = e.asDiagonal() * T;
    if (factors) dA.noalias() = T * x.X.transpose();
    if (base) x.dX.noalias() = x.W.transpose() * x.dY, x.dX.noalias() += A.transpose() * T;
    else x.dX.noalias() = A.transpose() * T;
  }
};

/// V = W + s B A, Y = diag(mu / nu) V X, the lengths nu not differentiated.
struct NaiveDora {
  Matrix<> A, B;
  Vector mu;
  float s;
  Matrix<> V = {}, dV = {}, dA = {}, dB = {}, P = {};
  Vector q = {}, dmu = {};

  void forward(Batch& x) {
    V = x.W;
    V.noalias() += s * B * A;
    q = mu.array() / V.rowwise().norm().array();
    P.noalias() = V * x.X;
    x.Y = q.asDiagonal() * P;
  }
  void backward(Batch& x) {
    dmu = (x.dY.array() * P.array()).rowwise().sum() * q.array() / mu.array();
    const Matrix<> D = q.asDiagonal() * x.dY;
    x.dX.noalias() = V.transpose() * D;
    dV.noalias() = D * x.X.transpose();
    dB.noalias() = s * dV * A.transpose();
    dA.noalias() = s * B.transpose() * dV;
  }
};

/// Y = g B silu(A X) + (1 - g) W_s X_I.
struct NaiveLost {
  Matrix<> A, B, Ws;
  std::vector<Index> columns;
  float g;
  Matrix<> H = {}, S = {}, XI = {}, T = {}, dA = {}, dB = {}, dWs = {}, dXI = {};

  void forward(Batch& x) {
    H.noalias() = A * x.X;
    S = H.array() / (1 + (-H.array()).exp());
    XI = x.X(columns, Eigen::all);
    x.Y.noalias() = g * B * S;
    x.Y.noalias() += (1 - g) * Ws * XI;
  }
  void backward(Batch& x) {
    T.noalias() = g * B.transpose() * x.dY;
    dB.noalias() = g * x.dY * S.transpose();
    const auto sigma = 1 / (1 + (-H.array()).exp());
    T.array() *= sigma * (1 + H.array() * (1 - sigma));
    dA.noalias() = T * x.X.transpose();
    dWs.noalias() = (1 - g) * x.dY * XI.transpose();
    x.dX.noalias() = A.transpose() * T;
    dXI.noalias() = (1 - g) * Ws.transpose() * x.dY;
    x.dX(columns, Eigen::all) += dXI;
  }
};

/// Rows of ours and of the peer that `naive(ours)` gives, which must compute the same.
template <class Make, class Peer>
void add_pair(const std::string& method, Index m, Index n, Index N, const Floor& floor, Make make, Peer naive) {
  add_ours(method, m, n, N, "auto", {}, floor, make);
  for (const int threads : thread_counts())
    for (const Direction d : {Direction::Forward, Direction::Backward})
      add(row(method, d, m, n, N, "eigen"), threads, [=]() -> Case {
        using A = decltype(make(m, n));
        Ours<A> ours{make(m, n), Batch(m, n, N), {}};
        const auto peer = std::make_shared<decltype(naive(ours.adapter))>(naive(ours.adapter));
        const auto batch = std::make_shared<Batch>(m, n, N);
        ours.forward();
        ours.backward();
        peer->forward(*batch);
        peer->backward(*batch);
        if (difference(ours.batch.Y, batch->Y) > 1e-4 || difference(ours.batch.dX, batch->dX) > 1e-4)
          return {.run = {}, .error = method + " is wrong"};
        return {[=] { d == Direction::Forward ? peer->forward(*batch) : peer->backward(*batch); }};
      });
}

Matrix<> weight(Index m, Index n) { return random_matrix(m, n, 1) / std::sqrt(float(n)); }
Vector ones(Index n) { return Vector::Ones(n); }
template <class B>
void fill(B& buffer, float scale) {
  Matrix<> values = scale * random_matrix(buffer.rows(), buffer.cols(), 9);
  map(buffer) = values;
}

void add_frozen(Index m, Index n, Index r, Index N) {
  add_pair(with_rank("dora", r), m, n, N, floor_of(m, n, r, N, Base::Frozen), [r](Index rows, Index cols) {
    lowrank::Dora<float> dora(weight(rows, cols), {.rank = r, .alpha = double(r)});
    fill(dora.B().value, 0.1f);
    return dora;
  }, [](auto& a) { return NaiveDora{map(a.A().value), map(a.B().value), map(a.magnitude().value), 1}; });

  add_pair(with_rank("vera", 16 * r), m, n, N, {}, [r](Index rows, Index cols) {
    lowrank::Vera<float> vera(rows, cols, std::make_shared<const lowrank::VeraBases<float>>(lowrank::VeraBases<float>::torch(16 * r, rows, cols)));
    fill(vera.lambda_b().value, 0.1f);
    return vera;
  }, [](auto& a) {
    auto bases = a.bases();
    return Scaled{map(bases.A), map(bases.B), map(a.lambda_b().value), map(a.lambda_d().value), true, false, true};
  });

  add_pair(with_rank("adalora", r), m, n, N, floor_of(m, n, r, N, Base::Frozen), [r](Index rows, Index cols) {
    lowrank::AdaLora<float> ada(rows, cols, {.rank = r, .micro_batches = std::numeric_limits<Index>::max()});
    fill(ada.E().value, 0.1f);
    return ada;
  }, [m](auto& a) { return Scaled{map(a.A().value), map(a.B().value), float(a.scale()) * ones(m), map(a.E().value), true, true, true}; });
}

void add_from_scratch(Index m, Index n, Index r, Index N) {
  const Index full = std::min(m, n);
  add_pair(with_rank("low_rank", r), m, n, N, floor_of(m, n, r, N, Base::None), [r](Index rows, Index cols) { return lowrank::LowRank<float>(rows, cols, {.rank = r}); },
           [=](auto& a) { return Scaled{map(a.A().value), map(a.B().value), ones(m), ones(r), false, true, false}; });
  add_pair(with_rank("lost", r), m, n, N, floor_of(m, n, r, N, Base::None, double(m) * std::floor(0.05 * double(n))), [r](Index rows, Index cols) { return lowrank::Lost<float>(weight(rows, cols), {.rank = r}); },
           [](auto& a) {
             std::vector<Index> columns(a.columns().data(), a.columns().data() + a.columns().size());
             return NaiveLost{map(a.A().value), map(a.B().value), map(a.dense().value), columns, float(a.options().mix)};
           });
  add_ours(with_rank("sst", r), m, n, N, "auto", {}, {}, [r](Index rows, Index cols) { return lowrank::Sst<float>(weight(rows, cols), {.rank = r}); });
  add_pair("maestro", m, n, N, floor_of(m, n, full, N, Base::None), [](Index rows, Index cols) { return lowrank::Maestro<float>(weight(rows, cols)); },
           [=](auto& a) { return Scaled{map(a.F().value), map(a.C().value), ones(m), ones(full), false, true, false}; });
}

void rows(bool) {
  for (const Index N : {64, 4096}) {
    add_dense(512, 512, N);
    add_frozen(512, 512, 16, N);
    add_from_scratch(512, 512, 128, N);
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
