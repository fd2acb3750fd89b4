// RandBases: the frozen random bases that all RandLoRA adapters of a model share. One A (r x d) and K bases B_b (D x r),
// D >= d: the larger and the smaller of the largest output and input dimensions among the adapted weights.
//
//   const auto bases = std::make_shared<const RandBases<float>>(RandBases<float>::torch({.rank = 32, .larger = 3072, .smaller = 3072}));
//
// torch() makes the numbers that PEFT makes from the same key, bit for bit; adopt() takes given ones. Dense entries are
// uniform of unit variance, kept in S. Ternary ones (-1, 0, 1, times one factor) are kept in 2 bits each: 16 times less
// than float. A is small and always kept in S.
#pragma once

#include <array>   // std::array
#include <memory>  // std::shared_ptr

#include <lowrank/adapter/adapter.hpp>
#include <lowrank/adapter/torch_random.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// Dense: uniform. Sparse: P(-1) = P(1) = 1/6. VerySparse: P(-1) = P(1) = 1 / (2 sqrt(smaller)).
enum class Basis { Dense, Sparse, VerySparse };
/// The type that torch drew dense bases in: bf16 where the machine had it, otherwise half; the streams differ.
enum class Drawn { Bf16, Half };

struct RandBasesOptions {
  Index rank = 32;
  Index larger = 0, smaller = 0;  // D and d
  Basis basis = Basis::Dense;
  Drawn drawn = Drawn::Bf16;
  std::uint64_t key = 0;          // PEFT's projection_prng_key
};

template <class S, class K = kernel::Best>
class RandBases {
 public:
  static RandBases torch(const RandBasesOptions& o) {
    RandBases made(o);
    detail::TorchRandom random(o.key);
    if (o.basis != Basis::Dense) made.draw_ternary(random, o);
    else if (o.drawn == Drawn::Bf16) made.template draw_dense<Eigen::bfloat16>(random);
    else made.template draw_dense<Eigen::half>(random);
    return made;
  }
  /// a: r x d and b: D x (K r), base by base, r columns each.
  template <class MA, class MB>
  static RandBases adopt(const MA& a, const MB& b) {
    const auto va = lowrank::view(a);
    const auto vb = lowrank::view(b);
    RandBases made({.rank = va.rows, .larger = vb.rows, .smaller = va.cols});
    if (vb.cols != made.bases() * made.rank())
      detail::bad_shape("lowrank::RandBases::adopt", vb.rows, vb.cols, made.larger(), made.bases() * made.rank());
    for (Index k = 0; k < va.rows; ++k)
      for (Index i = 0; i < va.cols; ++i) made.A_(i, k) = S(va.data[k * va.row_stride + i * va.col_stride]);
    for (Index j = 0; j < vb.cols; ++j)
      for (Index i = 0; i < vb.rows; ++i) made.dense_(i, j) = S(vb.data[i * vb.row_stride + j * vb.col_stride]);
    return made;
  }

  Index rank() const { return A_.cols(); }
  Index smaller() const { return A_.rows(); }
  Index larger() const { return larger_; }
  Index bases() const { return (smaller() + rank() - 1) / rank(); }
  Basis basis() const { return basis_; }
  /// A transposed: row k of A is the contiguous column k.
  const Buffer<S>& A() const { return A_; }
  S b(Index i, Index column) const { return basis_ == Basis::Dense ? dense_(i, column) : values_[code(i, column)]; }
  std::size_t bytes() const { return A_.bytes() + dense_.bytes() + codes_.bytes(); }

  /// P = [B_0 B_1 ...], rows and columns from the given ones on, or its transpose: an operand of products.
  struct Operand {
    enum class Order { AsIs, Transposed };
    const RandBases* from;
    Index first;  // column
    Order order = Order::AsIs;

    void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
      const bool as_is = order == Order::AsIs;
      if (from->basis_ == Basis::Dense) {
        const S* at = from->dense_.data() + first * from->larger_;
        const linalg::Strided<S, K> plain{at, 1, from->larger_};
        return (as_is ? plain : plain.transposed()).load(i0, m, j0, n, dst, ld);
      }
      const Index rows = as_is ? m : n, cols = as_is ? n : m, r0 = as_is ? i0 : j0, c0 = as_is ? j0 : i0;
      const Index down = as_is ? 1 : ld, across = as_is ? ld : 1;
      for (Index j = 0; j < cols; ++j)
        for (Index i = 0; i < rows; ++i) dst[i * down + j * across] = from->values_[from->code(r0 + i, first + c0 + j)];
    }
    Operand transposed() const { return {from, first, order == Order::AsIs ? Order::Transposed : Order::AsIs}; }
  };
  Operand P(Index first = 0) const { return {this, first}; }

 private:
  explicit RandBases(const RandBasesOptions& o) : larger_(o.larger), basis_(o.basis) {
    const char* who = "lowrank::RandBases";
    detail::check_rank(who, o.rank);
    if (o.smaller < 1 || o.larger < o.smaller)
      detail::bad_argument(who, "larger = " + std::to_string(o.larger) + ", smaller = " + std::to_string(o.smaller), "1 <= smaller <= larger");
    A_ = Buffer<S>(o.smaller, o.rank);
    if (o.basis == Basis::Dense) dense_ = Buffer<S>(o.larger, bases() * o.rank);
    else codes_ = Buffer<std::uint8_t>((o.larger + 3) / 4, bases() * o.rank);
  }

  std::size_t code(Index i, Index column) const { return std::size_t(codes_(i / 4, column) >> (2 * (i % 4)) & 3); }

  /// kaiming_uniform(a = sqrt 5) in T, A first, then base by base, row by row; each divided by its standard deviation in T.
  template <class T>
  void draw_dense(detail::TorchRandom& random) {
    const double gain = std::sqrt(2.0 / 6.0);
    const auto bound = [&](Index fan_in) { return std::sqrt(3.0) * (gain / std::sqrt(double(fan_in))); };
    const Index r = rank(), d = smaller(), D = larger_;
    const double a = bound(d), b = bound(r);
    for (Index k = 0; k < r; ++k)
      for (Index i = 0; i < d; ++i) A_(i, k) = S(float(random.uniform<T>(-a, a)));
    for (Index base = 0; base < bases(); ++base)
      for (Index i = 0; i < D; ++i)
        for (Index k = 0; k < r; ++k) dense_(i, base * r + k) = S(float(random.uniform<T>(-b, b)));
    for (Buffer<S>* x : {&A_, &dense_}) {
      const float deviation = float(T(float(standard_deviation(*x))));
      for (Index i = 0; i < x->size(); ++i) (*x)[i] = S(float(T(float((*x)[i]) / deviation)));
    }
  }

  void draw_ternary(detail::TorchRandom& random, const RandBasesOptions& o) {
    const double t = o.basis == Basis::Sparse ? 3 : std::sqrt(double(o.smaller));
    const auto low = float(1 / (2 * t)), high = float(1 - 1 / (2 * t));
    const Index r = rank(), d = smaller(), D = larger_, K_r = bases() * r;
    const auto draw = [&] {
      const float u = random.uniform<float>(0, 1);
      return u < low ? -1 : u > high ? 1 : 0;
    };
    for (Index k = 0; k < r; ++k)
      for (Index i = 0; i < d; ++i) A_(i, k) = S(draw());
    const double deviation = standard_deviation(A_);
    for (Index i = 0; i < A_.size(); ++i) A_[i] = divide(A_[i], deviation);
    double sum = 0, squares = 0;
    for (Index i = 0; i < D; ++i)
      for (Index j = 0; j < K_r; ++j) {
        const int x = draw();
        sum += x;
        squares += x * x;
        codes_(i / 4, j) = std::uint8_t(codes_(i / 4, j) | (x < 0 ? 2 : x) << (2 * (i % 4)));
      }
    const double n = double(D * K_r), all = std::sqrt((squares - sum * sum / n) / (n - 1));
    values_ = {S(0), divide(S(1), all), divide(S(-1), all), S(0)};
  }
  /// As torch divides: in float.
  static S divide(S x, double by) { return S(float(x) / float(by)); }
  static double standard_deviation(const Buffer<S>& x) {
    double mean = 0, squares = 0;
    for (Index i = 0; i < x.size(); ++i) mean += double(x[i]);
    mean /= double(x.size());
    for (Index i = 0; i < x.size(); ++i) squares += (double(x[i]) - mean) * (double(x[i]) - mean);
    return std::sqrt(squares / double(x.size() - 1));
  }

  Index larger_ = 0;
  Basis basis_ = Basis::Dense;
  Buffer<S> A_;                   // d x r
  Buffer<S> dense_;               // D x K r
  Buffer<std::uint8_t> codes_;    // 4 rows a byte x K r
  std::array<S, 4> values_{};     // of the codes
};

}  // namespace lowrank
