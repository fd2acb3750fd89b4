// The five nets whose exact local Lipschitz constants are known from listing their linear regions.
#pragma once

#include "jacobian/networks.hpp"

#include <lowrank/jacobian/lipschitz.hpp>

namespace lowrank_test {

struct Example {
  DenseNetwork net;
  Box box;
  std::vector<double> exact;  // one an output

  Vector<double> row(Index r) const {
    Vector<double> w = Vector<double>::Zero(net.outputs());
    w[r] = 1;
    return w;
  }
};

inline Matrix<double> matrix(Index rows, Index cols, std::vector<double> values) {
  return Eigen::Map<Eigen::Matrix<double, -1, -1, Eigen::RowMajor>>(values.data(), rows, cols);
}
inline Example example(std::vector<Matrix<double>> W, std::vector<Matrix<double>> b, Box box,
                       std::vector<double> exact) {
  std::vector<Layer<double>> layers;
  for (std::size_t l = 0; l < W.size(); ++l) layers.push_back({W[l], {}, b[l]});
  return {DenseNetwork(Mlp<double>(std::move(layers), {Nonlinearity::Relu})), std::move(box), std::move(exact)};
}

inline Example net_n0() {
  return example({matrix(2, 1, {1, 1}), matrix(1, 2, {1, -1})}, {matrix(2, 1, {0, -1}), matrix(1, 1, {0})},
                 {matrix(1, 1, {-1}), matrix(1, 1, {2})}, {1});
}
inline Example net_n1() {
  return example({matrix(2, 2, {1, 1, 1, -1}), matrix(1, 2, {1, 1})}, {matrix(2, 1, {0, 0}), matrix(1, 1, {0})},
                 Box::around(Vector<double>::Zero(2), 1), {2});
}
inline Example net_n3() {
  return example(
      {matrix(3, 2, {1, 1, 1, -1, 2, 0.5}), matrix(2, 3, {1, -1, 0.5, -1, 2, 1}), matrix(2, 2, {1, 1, 2, -1})},
      {matrix(3, 1, {0, 0.5, -0.25}), matrix(2, 1, {0.25, -0.5}), matrix(2, 1, {0, 0})},
      Box::around(Vector<double>::Zero(2), 1), {5.5, 8});
}
inline Example net_n3_small() {
  Example e = net_n3();
  e.box = Box::around(matrix(2, 1, {0.25, -0.25}), 0.25);
  return e;
}
/// Weights by formula, so that they can be made anywhere; the box is around x_k = 0.1 (k + 1).
inline Example formula_net(const std::vector<Index>& dims, double radius, std::vector<double> exact) {
  std::vector<Matrix<double>> W, b;
  for (std::size_t l = 0; l + 1 < dims.size(); ++l) {
    const double n_in = double(dims[l]), depth = double(l);
    Matrix<double> w(dims[l + 1], dims[l]), bias(dims[l + 1], 1);
    for (Index i = 0; i < w.rows(); ++i) {
      for (Index j = 0; j < w.cols(); ++j)
        w(i, j) = 1.4 * std::sqrt(2.0) / std::sqrt(n_in) *
                  std::sin(1 + 3.7 * double(i) + 1.3 * double(j * j) + 2.1 * (depth + 1) * (double(i) + 1));
      bias(i, 0) = 0.2 * std::cos(1.7 * double(i) + depth + 1);
    }
    W.push_back(w);
    b.push_back(bias);
  }
  Vector<double> x(dims[0]);
  for (Index k = 0; k < x.size(); ++k) x[k] = 0.1 * double(k + 1);
  return example(W, b, Box::around(x, radius), std::move(exact));
}
inline Example net_na() { return formula_net({2, 4, 3, 2}, 0.3, {0.2729518104, 2.0049963957}); }
inline Example net_nb() { return formula_net({3, 6, 5, 4, 2}, 0.2, {3.1945146521, 3.5701007822}); }

}  // namespace lowrank_test
