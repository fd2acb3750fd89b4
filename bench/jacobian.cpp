// Question: what does a Jacobian penalty add to a training step, and what do Jacobians and certified bounds cost? A
// ReLU network 784-196-196-196-10 with cross entropy and a batch of 256: one step is forward, loss and all gradients.
//
// The row `promise` times 20 plain and 20 penalised steps in turn and gives the ratio of their medians, by the clock
// and in processor time (what counts on a machine that others use), beside the ratio of their multiplications,
// 1 + 3 n S / (3 S - c_1) for n projections. Peers: the same in Eigen, and the gradient by two
// more ordinary backward passes (finite differences), which any model can have.
#include <ctime>

#include <bench/support/roofline.hpp>

#include <lowrank/jacobian/lipschitz.hpp>
#include <lowrank/jacobian/measure.hpp>
#include <lowrank/jacobian/penalty.hpp>

namespace bench {
namespace {

using namespace lowrank::jacobian;
using Net = Mlp<float>;

constexpr Index samples = 256, outputs = 10;
const std::vector<Index> dims = {784, 196, 196, 196, outputs};

/// Multiplications of one product with all weights, S, and with the first, c_1, a sample.
double multiplications() {
  double all = 0;
  for (std::size_t l = 1; l < dims.size(); ++l) all += double(dims[l] * dims[l - 1]);
  return all;
}
double first_layer() { return double(dims[0] * dims[1]); }
Work work(double products) { return {2 * samples * products, 0, 0}; }
double plain_products() { return 3 * multiplications() - first_layer(); }

/// d mean cross entropy / d logits, in place.
void cross_entropy_gradient(Matrix<>& Y) {
  for (Index b = 0; b < Y.cols(); ++b) {
    auto y = Y.col(b).array();
    y = (y - y.maxCoeff()).exp();
    y /= y.sum() * float(samples);
    y[b % outputs] -= 1 / float(samples);
  }
}

struct Ours {
  Net net{dims, {Nonlinearity::Relu}};
  Matrix<> X = random_matrix(dims[0], samples, 1), Y{outputs, samples};
  Net::Cache cache;
  Net::Grads grads;
  std::uint64_t step = 0;

  explicit Ours(int threads)
      : cache((net.randomize(3, std::sqrt(2.0)), net.cache(samples, threads))), grads(net.grads()) {}
  void forward() {
    net.forward(batch(std::as_const(X)), cache, batch(Y));
    cross_entropy_gradient(Y);
    Net::set_zero(grads);
  }
  void plain() {
    forward();
    net.param_vjp(cache, batch(std::as_const(Y)), grads);
  }
  template <class P>
  void penalised(P& penalty) {
    forward();
    penalty.add_gradient(net, cache, X, grads,
                         {.weight = 1e-3, .draw = {5, ++step}, .loss = lowrank::view(std::as_const(Y))});
  }
};

/// The step in Eigen, products with .noalias() into buffers that are kept; one projection, given.
struct Naive {
  std::vector<Matrix<>> W, dW, H, Z, U;
  Matrix<> X, Y, V, Q, A, T;

  explicit Naive(const Ours& from) : X(from.X), V(outputs, samples) {
    for (const auto& k : from.net.layers())
      W.push_back(k.weight), dW.push_back(0 * k.weight), H.emplace_back(), Z.emplace_back(), U.emplace_back();
    lowrank::jacobian::detail::draw<K>({}, 1, outputs, samples, {5, 1}, V.data());
  }
  void plain() {
    const std::size_t L = W.size();
    for (std::size_t l = 0; l < L; ++l) {
      Z[l].noalias() = W[l] * (l == 0 ? X : H[l - 1]);
      if (l + 1 < L) H[l] = Z[l].cwiseMax(0.0f);
    }
    Y = Z[L - 1];
    cross_entropy_gradient(Y);
    U[L - 1] = Y;
    for (std::size_t l = L; l-- > 0;) {
      dW[l].noalias() = U[l] * (l == 0 ? X : H[l - 1]).transpose();
      if (l == 0) break;
      U[l - 1].noalias() = W[l].transpose() * U[l];
      U[l - 1].array() *= (Z[l - 1].array() > 0).cast<float>();
    }
  }
  void penalised() {
    plain();
    const std::size_t L = W.size();
    U[L - 1] = V;
    for (std::size_t l = L; l-- > 1;) {
      U[l - 1].noalias() = W[l].transpose() * U[l];
      U[l - 1].array() *= (Z[l - 1].array() > 0).cast<float>();
    }
    Q.noalias() = W[0].transpose() * U[0];
    for (Index b = 0; b < samples; ++b) {
      const float r = std::sqrt(std::max(float(outputs) * Q.col(b).squaredNorm(), 1e-8f));
      Q.col(b) *= 1e-3f * float(outputs) / (float(samples) * r);
    }
    A = Q;
    for (std::size_t l = 0; l < L; ++l) {
      dW[l].noalias() += U[l] * A.transpose();
      if (l + 1 == L) break;
      T.noalias() = W[l] * A;
      A = T.array() * (Z[l].array() > 0).cast<float>();
    }
  }
};

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
}

/// 20 plain and 20 penalised steps in turn.
template <class P>
Case promise(int threads, const P& with, double projections) {
  struct State {
    Ours ours;
    P penalty;
  };
  const auto x = std::make_shared<State>(State{Ours(threads), with});
  struct Times {
    std::vector<double> clock, processor;
    void add(const std::function<void()>& f, bool count) {
      const auto begin = std::chrono::steady_clock::now();
      const std::clock_t used = std::clock();
      f();
      const double taken = double(std::clock() - used) / CLOCKS_PER_SEC;
      if (count) clock.push_back(seconds_since(begin)), processor.push_back(taken);
    }
  } plain, penalised;
  for (int i = -2; i < 20; ++i) {
    plain.add([&] { x->ours.plain(); }, i >= 0);
    penalised.add([&] { x->ours.penalised(x->penalty); }, i >= 0);
  }
  const double theory = 1 + 3 * projections * multiplications() / plain_products();
  return {.run = [x] { x->ours.penalised(x->penalty); },
          .work = work(theory * plain_products()),
          .counters = {{"ratio", median(penalised.clock) / median(plain.clock)},
                       {"ratio_cpu", median(penalised.processor) / median(plain.processor)},
                       {"theory", theory},
                       {"plain_cpu_ms", 1e3 * median(plain.processor)}}};
}

void rows(bool) {
  const double one = plain_products() + 3 * multiplications();
  for (const int threads : thread_counts()) {
    add("promise/grokalign_n1", threads, [=] { return promise(threads, Penalty(Projection{}, FrobeniusNorm{}), 1); });
    add("promise/hoffman_n3", threads, [=] {
      return promise(threads, Penalty(Projection{Law::Orthonormal, 3}, SquaredFrobenius{}), 3);
    });
    add("step/plain/lowrank", threads, [=]() -> Case {
      const auto x = std::make_shared<Ours>(threads);
      return {[x] { x->plain(); }, work(plain_products())};
    });
    add("step/plain/eigen", threads, [=]() -> Case {
      const auto ours = std::make_shared<Ours>(threads);
      const auto x = std::make_shared<Naive>(*ours);
      x->plain(), ours->plain();
      if (difference(x->dW[0], ours->grads[0].weight) > 1e-4) return {.run = {}, .error = "the gradients differ"};
      return {[x] { x->plain(); }, work(plain_products())};
    });
    add("step/penalised/lowrank", threads, [=]() -> Case {
      const auto x = std::make_shared<Ours>(threads);
      const auto penalty = std::make_shared<Penalty<FrobeniusNorm>>(Projection{}, FrobeniusNorm{});
      return {[x, penalty] { x->penalised(*penalty); }, work(one)};
    });
    add("step/penalised/eigen", threads, [=]() -> Case {
      const auto ours = std::make_shared<Ours>(threads);
      const auto x = std::make_shared<Naive>(*ours);
      Penalty penalty(Projection{}, FrobeniusNorm{});
      x->penalised(), ours->penalised(penalty);
      if (difference(x->dW[0], ours->grads[0].weight) > 1e-4) return {.run = {}, .error = "the gradients differ"};
      return {[x] { x->penalised(); }, work(one)};
    });
    // its time only: in float, with kinks, what it computes is not to be used
    add("step/penalised/finite_difference", threads, [=]() -> Case {
      const auto x = std::make_shared<Ours>(threads);
      const auto penalty = std::make_shared<Penalty<FrobeniusNorm, FiniteDifference>>(Projection{}, FrobeniusNorm{},
                                                                                      FiniteDifference{.h = 1e-3});
      return {[x, penalty] { x->penalised(*penalty); }, work(one)};
    });
    add("jacobian/lowrank", threads, [=]() -> Case {
      const auto x = std::make_shared<Ours>(threads);
      x->forward();
      return {[x] { benchmark::DoNotOptimize(jacobians(x->net, x->cache, samples).data()); },
              work(outputs * multiplications())};
    });
  }
  // the row bound of a ball of inputs around one sample: one thread, in double
  for (const double radius : {0.001, 0.01})
    add("lipschitz/row_bound/radius:" + std::to_string(radius), 1, [=]() -> Case {
      const auto x = std::make_shared<Ours>(1);
      const auto net = std::make_shared<DenseNetwork>(x->net);
      const Box box = Box::around(x->X.col(0).cast<double>(), radius);
      Vector<double> w = Vector<double>::Zero(outputs);
      w[0] = 1;
      const double bound = row_bounds(*net, w, box).norm, attained = sampled_lipschitz(*net, w, box, 20, 1);
      return {.run = [net, box, w] { benchmark::DoNotOptimize(row_bounds(*net, w, box).norm); },
              .counters = {{"bound", bound}, {"attained", attained}, {"global", global_lipschitz(*net)}}};
    });
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
