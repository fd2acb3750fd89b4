// What the Jacobian tests share: networks of every kind, directions in their parameters, central differences.
#pragma once

#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/jacobian/mlp.hpp>

namespace lowrank_test {

using namespace lowrank;
using namespace lowrank::jacobian;
using support::random_matrix;

inline const std::vector<Activation>& activations() {
  static const std::vector<Activation> all = {
      {Nonlinearity::Identity}, {Nonlinearity::Relu},     {Nonlinearity::LeakyRelu, 0.2},
      {Nonlinearity::Tanh},     {Nonlinearity::Sigmoid},  {Nonlinearity::Softplus},
      {Nonlinearity::Gelu},     {Nonlinearity::GeluTanh}, {Nonlinearity::Silu}};
  return all;
}

/// dims[0] -> .. -> dims.back(); layers with an odd number have low rank.
enum class Kind { Dense, Mixed };
inline Mlp<double> network(const std::vector<Index>& dims, Activation a, Kind kind, unsigned seed = 1) {
  std::vector<Layer<double>> layers;
  for (std::size_t l = 1; l < dims.size(); ++l) {
    const double scale = 1 / std::sqrt(double(dims[l - 1]));
    Layer<double> k{scale * random_matrix(dims[l], dims[l - 1], seed + unsigned(10 * l)),
                    {},
                    random_matrix(dims[l], 1, seed + unsigned(10 * l + 1))};
    if (kind == Kind::Mixed && l % 2 == 1) {
      k.weight = random_matrix(dims[l], 2, seed + unsigned(10 * l + 2));
      k.right = scale * random_matrix(dims[l - 1], 2, seed + unsigned(10 * l + 3));
    }
    layers.push_back(std::move(k));
  }
  return {std::move(layers), a};
}

using Grads = Mlp<double>::Grads;

inline Grads random_direction(const Mlp<double>& net, unsigned seed) {
  Grads d = net.grads();
  for (auto& k : d) {
    k.weight = random_matrix(k.weight.rows(), k.weight.cols(), seed++);
    k.right = random_matrix(k.right.rows(), k.right.cols(), seed++);
    k.bias = random_matrix(k.bias.rows(), 1, seed++);
  }
  return d;
}
inline void move(Mlp<double>& net, double h, const Grads& d) {
  for (std::size_t l = 0; l < d.size(); ++l) {
    net.layers()[l].weight += h * d[l].weight;
    net.layers()[l].right += h * d[l].right;
    net.layers()[l].bias += h * d[l].bias;
  }
}
inline double inner(const Grads& a, const Grads& b) {
  double sum = 0;
  for (std::size_t l = 0; l < a.size(); ++l)
    sum += a[l].weight.cwiseProduct(b[l].weight).sum() + a[l].right.cwiseProduct(b[l].right).sum() +
           a[l].bias.dot(b[l].bias);
  return sum;
}
inline double difference(const Grads& a, const Grads& b) {
  double worst = 0;
  const auto compare = [&](const auto& x, const auto& y) {
    if (x.size() > 0) worst = std::max(worst, double((x - y).cwiseAbs().maxCoeff()));
  };
  for (std::size_t l = 0; l < a.size(); ++l)
    compare(a[l].weight, b[l].weight), compare(a[l].right, b[l].right), compare(a[l].bias, b[l].bias);
  return worst;
}

/// (f(h) - f(-h)) / 2h, with Richardson's step: error O(h^4).
template <class F>
double slope(const F& f, double h) {
  const double near = (f(h) - f(-h)) / (2 * h), far = (f(2 * h) - f(-2 * h)) / (4 * h);
  return near + (near - far) / 3;
}

}  // namespace lowrank_test
