// A GaLore step on bf16 weights and gradients as others have it: Eigen's bfloat16 products, Eigen's float products of widened matrices, and
// oneDNN's bf16 products with float sums, which also add to the weight in bf16. What is elementwise is in float, on the projected gradient only.
#pragma once

#include <cmath>
#include <cstdlib>

#include <bench/support/roofline.hpp>

#if defined(LOWRANK_BENCH_HAS_ONEDNN)
#include <dnnl.hpp>
#endif

namespace bench {

template <int Order>
using Bf16Matrix = Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic, Order>;

/// Adam on R and what surrounds it; the products are a Products'.
template <int Order, class Products>
struct Bf16Galore {
  bool right;
  Bf16Matrix<Order> P;
  Matrix<Order> R, M, V;
  Bf16Matrix<Order> N;
  Products products;
  int t = 0;

  Bf16Galore(Index m, Index n, const Matrix<Order>& basis)
      : right(m >= n),
        P(basis.template cast<Eigen::bfloat16>()),
        R(right ? Matrix<Order>::Zero(m, basis.cols()) : Matrix<Order>::Zero(basis.cols(), n)),
        M(R), V(R), N(R.template cast<Eigen::bfloat16>()),
        products(m, n, basis.cols()) {}

  void step(Bf16Matrix<Order>& W, const Bf16Matrix<Order>& G, float lr) {
    products.project(right, P, G, R);
    ++t;
    const float c1 = 1 - std::pow(0.9f, float(t)), c2 = 1 - std::pow(0.999f, float(t)), size = 0.25f * lr * std::sqrt(c2) / c1;
    M = 0.9f * M + 0.1f * R;
    V = 0.999f * V + 0.001f * R.cwiseAbs2();
    N = (-size * M.array() / (V.array().sqrt() + 1e-6f)).matrix().template cast<Eigen::bfloat16>();
    products.lift(right, P, N, W);
  }
};

struct EigenBf16 {
  static constexpr const char* name = "eigen";
  EigenBf16(Index, Index, Index) {}

  template <int Order>
  void project(bool right, const Bf16Matrix<Order>& P, const Bf16Matrix<Order>& G, Matrix<Order>& R) {
    Bf16Matrix<Order> half;
    if (right) half.noalias() = G * P;
    else half.noalias() = P.transpose() * G;
    R = half.template cast<float>();
  }
  template <int Order>
  void lift(bool right, const Bf16Matrix<Order>& P, const Bf16Matrix<Order>& N, Bf16Matrix<Order>& W) {
    if (right) W.noalias() += N * P.transpose();
    else W.noalias() += P * N;
  }
};

/// The detour through float, which needs the weight and the gradient a second time.
struct EigenWidened {
  static constexpr const char* name = "eigen_widened";
  EigenWidened(Index, Index, Index) {}

  template <int Order>
  void project(bool right, const Bf16Matrix<Order>& P, const Bf16Matrix<Order>& G, Matrix<Order>& R) {
    const Matrix<Order> basis = P.template cast<float>(), gradient = G.template cast<float>();
    if (right) R.noalias() = gradient * basis;
    else R.noalias() = basis.transpose() * gradient;
  }
  template <int Order>
  void lift(bool right, const Bf16Matrix<Order>& P, const Bf16Matrix<Order>& N, Bf16Matrix<Order>& W) {
    const Matrix<Order> basis = P.template cast<float>(), direction = N.template cast<float>();
    Matrix<Order> weight = W.template cast<float>();
    if (right) weight.noalias() += direction * basis.transpose();
    else weight.noalias() += basis * direction;
    W = weight.template cast<Eigen::bfloat16>();
  }
};

#if defined(LOWRANK_BENCH_HAS_ONEDNN)
/// Where the processor does not announce AVX-512 BF16, oneDNN widens.
class OneDnnBf16 {
 public:
  static constexpr const char* name = "onednn";
  OneDnnBf16(Index m, Index n, Index r) : m_(m), n_(n), r_(r), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  template <int Order>
  void project(bool right, const Bf16Matrix<Order>& P, const Bf16Matrix<Order>& G, Matrix<Order>& R) {
    using T = dnnl::memory::data_type;
    constexpr bool rows = Order == Eigen::RowMajor;
    if (right) run(down_, {m_, n_, rows, T::bf16, G.data()}, {n_, r_, rows, T::bf16, P.data()}, {m_, r_, rows, T::f32, R.data()}, false);
    else run(down_, {r_, m_, !rows, T::bf16, P.data()}, {m_, n_, rows, T::bf16, G.data()}, {r_, n_, rows, T::f32, R.data()}, false);
  }
  template <int Order>
  void lift(bool right, const Bf16Matrix<Order>& P, const Bf16Matrix<Order>& N, Bf16Matrix<Order>& W) {
    using T = dnnl::memory::data_type;
    constexpr bool rows = Order == Eigen::RowMajor;
    if (right) run(up_, {m_, r_, rows, T::bf16, N.data()}, {r_, n_, !rows, T::bf16, P.data()}, {m_, n_, rows, T::bf16, W.data()}, true);
    else run(up_, {m_, r_, rows, T::bf16, P.data()}, {r_, n_, rows, T::bf16, N.data()}, {m_, n_, rows, T::bf16, W.data()}, true);
  }

 private:
  struct Operand {
    Index rows, cols;
    bool by_rows;
    dnnl::memory::data_type type;
    const void* data;

    dnnl::memory::desc desc() const {
      return {{rows, cols}, type, by_rows ? dnnl::memory::format_tag::ab : dnnl::memory::format_tag::ba};
    }
    Operand transposed() const { return {cols, rows, !by_rows, type, data}; }
    dnnl::memory memory(const dnnl::engine& engine) const { return {desc(), engine, const_cast<void*>(data)}; }
  };

  /// C = A B or C + A B; the primitive is made once. A result in columns is the transposed product, or oneDNN takes its slow reference.
  void run(dnnl::matmul& primitive, const Operand& a, const Operand& b, const Operand& c, bool add) {
    if (!c.by_rows) return run(primitive, b.transposed(), a.transposed(), c.transposed(), add);
    if (!primitive) {
      dnnl::primitive_attr attributes;
      dnnl::post_ops sum;
      sum.append_sum(1);
      if (add) attributes.set_post_ops(sum);
      primitive = dnnl::matmul(dnnl::matmul::primitive_desc(dnnl::matmul::desc(a.desc(), b.desc(), c.desc()), attributes, engine_));
    }
    primitive.execute(stream_, {{DNNL_ARG_SRC, a.memory(engine_)}, {DNNL_ARG_WEIGHTS, b.memory(engine_)}, {DNNL_ARG_DST, c.memory(engine_)}});
    stream_.wait();
  }

  Index m_, n_, r_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul down_, up_;
};
#endif

}  // namespace bench
