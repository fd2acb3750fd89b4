// Placed: a matrix somewhere in somebody's memory. Values, storage order, the block's offset from an aligned address and
// the gap to the next column or row are chosen one by one; everything around the matrix is a guard that must not change.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include <lowrank/core/view.hpp>

namespace support {

using lowrank::Index;
using lowrank::View;

enum class Order { Columns, Rows };

template <class T>
class Placed {
 public:
  Placed(const Eigen::MatrixXd& values, Order order, Index offset = 0, Index gap = 0)
      : rows_(values.rows()), cols_(values.cols()), order_(order), offset_(offset) {
    inner_ = (order == Order::Columns ? rows_ : cols_) + gap;
    const Index outer = order == Order::Columns ? cols_ : rows_;
    memory_.assign(std::size_t(16 + offset + inner_ * outer + 16), T(guard));
    // 64-byte alignment of element 0, so that the offset is what it says
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    shift_ = Index((64 - address % 64) % 64 / sizeof(T));
    if (shift_ > 16) memory_.resize(memory_.size() + std::size_t(shift_), T(guard));
    for (Index j = 0; j < cols_; ++j)
      for (Index i = 0; i < rows_; ++i) at(i, j) = T(values(i, j));
  }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  T& at(Index i, Index j) { return begin()[order_ == Order::Columns ? i + j * inner_ : i * inner_ + j]; }
  const T& at(Index i, Index j) const { return const_cast<Placed*>(this)->at(i, j); }

  View<T> view() {
    return order_ == Order::Columns ? lowrank::view(begin(), rows_, cols_, Index(1), inner_)
                                    : lowrank::view(begin(), rows_, cols_, inner_, Index(1));
  }
  View<const T> view() const { return const_cast<Placed*>(this)->view(); }

  Eigen::MatrixXd values() const {
    Eigen::MatrixXd m(rows_, cols_);
    for (Index j = 0; j < cols_; ++j)
      for (Index i = 0; i < rows_; ++i) m(i, j) = double(at(i, j));
    return m;
  }
  /// The elements in column-major order: what two placements of equal matrices share, bit by bit.
  std::vector<T> elements() const {
    std::vector<T> all;
    for (Index j = 0; j < cols_; ++j)
      for (Index i = 0; i < rows_; ++i) all.push_back(at(i, j));
    return all;
  }
  bool guards_intact() const {
    std::vector<bool> mine(memory_.size());
    for (Index j = 0; j < cols_; ++j)
      for (Index i = 0; i < rows_; ++i) mine[std::size_t(&at(i, j) - memory_.data())] = true;
    for (std::size_t i = 0; i < memory_.size(); ++i)
      if (!mine[i] && memory_[i] != T(guard)) return false;
    return true;
  }

 private:
  static constexpr float guard = 12345;
  T* begin() { return memory_.data() + shift_ + offset_; }

  std::vector<T> memory_;
  Index rows_, cols_, inner_ = 0, shift_ = 0;
  Order order_;
  Index offset_;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Normal entries, the same on every machine.
inline Eigen::MatrixXd random_matrix(Index rows, Index cols, unsigned seed) {
  std::mt19937_64 bits(seed);
  Eigen::MatrixXd m(rows, cols);
  for (Index j = 0; j < cols; ++j)
    for (Index i = 0; i < rows; ++i) {
      double sum = 0;  // of 12 uniforms: normal enough, and no library decides how
      for (int q = 0; q < 12; ++q) sum += double(bits() >> 11) * 0x1p-53;
      m(i, j) = sum - 6;
    }
  return m;
}

/// A gradient as training gives them: a few strong directions that turn slowly with t, and noise.
inline Eigen::MatrixXd training_gradient(Index rows, Index cols, int t, unsigned seed = 1) {
  const Index r = std::max<Index>(1, std::min(rows, cols) / 3);
  Eigen::MatrixXd left = random_matrix(rows, r, seed) + 0.1 * t * random_matrix(rows, r, seed + 1);
  const Eigen::MatrixXd right = random_matrix(cols, r, seed + 2);
  for (Index q = 0; q < r; ++q) left.col(q) *= std::pow(0.8, double(q));
  return left * right.transpose() + 0.3 * random_matrix(rows, cols, seed + 10 + unsigned(t));
}

}  // namespace support
