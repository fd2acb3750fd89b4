// CompactMatrix: a matrix that is kept in its own scalar, in bf16, in bytes or in half bytes. Codes of b bits, with two numbers for
// every 256 consecutive rows of a column (fewer at its end),
//   low = min x,   step = (max x - low) / (2^b - 1),   q = round((x - low) / step),   x ~ low + q step,
// so that the error is at most step / 2, a group of one value is exact, and a group of one sign loses nothing to a zero it
// does not hold. Int4: row 2i is the low half of byte i of its column, row 2i + 1 the high half.
// A number in bf16 is the upper half of a float, to nearest (ties away from zero).
// Bytes: Full s d k; Bf16 2 d k; Int8 d k, Int4 ceil(d/2) k, and both 2 s for every started group, s being the scalar's.
#pragma once

#include <algorithm>  // std::minmax_element, std::clamp
#include <bit>        // std::bit_cast
#include <cstdint>    // std::uint8_t, std::uint16_t, std::uint32_t

#include <Eigen/Core>  // Eigen::bfloat16

#include <lowrank/core/buffer.hpp>
#include <lowrank/options/storage.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

template <class S>
class CompactMatrix {
 public:
  static constexpr Index group = 256;

  CompactMatrix() = default;
  /// Without memory, until allocate().
  CompactMatrix(Index rows, Index cols, Storage storage) : storage_(storage), rows_(rows), cols_(cols) {
    if (storage == Storage::Full) {
      full_ = Buffer<S>::shaped(rows, cols);
    } else if (storage == Storage::Bf16) {
      halves_ = Buffer<Eigen::bfloat16>::shaped(rows, cols);
    } else {
      codes_ = Buffer<std::uint8_t>::shaped(storage == Storage::Int8 ? rows : (rows + 1) / 2, cols);
      ranges_ = Buffer<S>::shaped(2 * ((rows + group - 1) / group), cols);
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Storage storage() const { return storage_; }
  bool allocated() const { return full_.allocated() && halves_.allocated() && codes_.allocated(); }
  void allocate() { full_.allocate(), halves_.allocate(), codes_.allocate(), ranges_.allocate(); }
  std::size_t bytes() const { return full_.bytes() + halves_.bytes() + codes_.bytes() + ranges_.bytes(); }
  /// The numbers themselves where they are kept in full, or in bf16, otherwise empty.
  Buffer<S>& full() { return full_; }
  const Buffer<S>& full() const { return full_; }
  const Buffer<Eigen::bfloat16>& halves() const { return halves_; }

  /// dst[i + j ld] = X(i0 + i, j0 + j), m x n of them.
  void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
    each(i0, m, j0, n, [&](Index i, Index j, Index count, const S* values) {
      std::memcpy(dst + (i - i0) + (j - j0) * ld, values, std::size_t(count) * sizeof(S));
    });
  }
  /// dst[i + j ld] += X(i0 + i, j0 + j).
  template <class K>
  void add_to(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
    each(i0, m, j0, n, [&](Index i, Index j, Index count, const S* values) {
      S* out = dst + (i - i0) + (j - j0) * ld;
      K::combine(count, 1.0, out, 1.0, values, out);
    });
  }

  /// All of src, rows x cols, to what store() and load() would make of it.
  static void round_trip(S* src, Index rows, Index cols, Storage storage) {
    if (storage == Storage::Full) return;
    if (storage == Storage::Bf16) {
      for (Index i = 0; i < rows * cols; ++i) src[i] = widened(narrowed(src[i], S(0.5)));
      return;
    }
    for (Index j = 0; j < cols; ++j)
      for (Index i = 0; i < rows; i += group) {
        S* const x = src + i + j * rows;
        const Range range(x, x + std::min(group, rows - i), largest(storage));
        for (Index q = 0; q < std::min(group, rows - i); ++q) x[q] = range.value(range.code(x[q], S(0.5)));
      }
  }

  /// X(i0 + i, j0 + j) <- src[i + j ld]; whole groups: i0 is a multiple of 256, and so is m unless it reaches the last row.
  void store(Index i0, Index m, Index j0, Index n, const S* src, Index ld) {
    store(i0, m, j0, n, src, ld, [](Index, Index) { return S(0.5); });
  }
  /// The code is the whole part of (x - low) / step + shift(i, j), and of |x| in units of its last place in bf16: 1/2 is nearest, a
  /// uniform number in [0, 1) stochastic rounding.
  template <class Shift>
  void store(Index i0, Index m, Index j0, Index n, const S* src, Index ld, const Shift& shift) {
    for (Index j = j0; j < j0 + n; ++j) {
      const S* column = src + (j - j0) * ld - i0;
      if (storage_ == Storage::Full) {
        std::memcpy(full_.column(j) + i0, column + i0, std::size_t(m) * sizeof(S));
        continue;
      }
      if (storage_ == Storage::Bf16) {
        for (Index i = i0; i < i0 + m; ++i) halves_(i, j).value = narrowed(column[i], shift(i, j));
        continue;
      }
      for (Index i = i0; i < i0 + m; i += group) {
        const Index end = std::min(i + group, i0 + m);
        const Range range(column + i, column + end, largest(storage_));
        ranges_(2 * (i / group), j) = range.low;
        ranges_(2 * (i / group) + 1, j) = range.step;
        for (Index q = i; q < end; ++q) set_code(q, j, range.code(column[q], shift(q, j)));
      }
    }
  }

  void visit(const char* full, const char* codes, const char* ranges, auto&& f) { visit(*this, full, codes, ranges, f); }
  void visit(const char* full, const char* codes, const char* ranges, auto&& f) const { visit(*this, full, codes, ranges, f); }

 private:
  static std::uint16_t narrowed(S x, S shift) {
    return std::uint16_t((std::bit_cast<std::uint32_t>(float(x)) + std::uint32_t(shift * S(65536))) >> 16);
  }
  static S widened(std::uint16_t bits) { return S(std::bit_cast<float>(std::uint32_t(bits) << 16)); }

  static int largest(Storage storage) { return storage == Storage::Int8 ? 255 : 15; }

  /// What the codes of one group stand for.
  struct Range {
    S low, step;
    S inverse = 0;
    int top = 0;

    explicit Range(const S* kept) : low(kept[0]), step(kept[1]) {}
    Range(const S* begin, const S* end, int largest_code) : top(largest_code) {
      const auto [least, most] = std::minmax_element(begin, end);
      low = *least;
      step = (*most - low) / S(top);
      inverse = step > 0 ? 1 / step : 0;
    }
    int code(S x, S shift) const { return std::clamp(int((x - low) * inverse + shift), 0, top); }
    S value(int code) const { return low + S(code) * step; }
  };

  int code(Index i, Index j) const {
    if (storage_ == Storage::Int8) return codes_(i, j);
    return codes_(i / 2, j) >> (4 * (i % 2)) & 15;
  }
  void set_code(Index i, Index j, int q) {
    if (storage_ == Storage::Int8) {
      codes_(i, j) = std::uint8_t(q);
      return;
    }
    std::uint8_t& byte = codes_(i / 2, j);
    byte = std::uint8_t(i % 2 == 0 ? (byte & 0xF0) | q : (byte & 0x0F) | q << 4);
  }

  /// f(i, j, count, values) for pieces of columns that lie in one group.
  template <class F>
  void each(Index i0, Index m, Index j0, Index n, const F& f) const {
    for (Index j = j0; j < j0 + n; ++j) {
      if (storage_ == Storage::Full) {
        f(i0, j, m, full_.column(j) + i0);
        continue;
      }
      for (Index i = i0; i < i0 + m;) {
        const Index end = std::min(i / group * group + group, i0 + m);
        S values[group];
        if (storage_ == Storage::Bf16) {
          for (Index q = i; q < end; ++q) values[q - i] = widened(halves_(q, j).value);
        } else {
          const Range range(ranges_.column(j) + 2 * (i / group));
          for (Index q = i; q < end; ++q) values[q - i] = range.value(code(q, j));
        }
        f(i, j, end - i, values);
        i = end;
      }
    }
  }

  static void visit(auto& self, const char* full, const char* codes, const char* ranges, auto&& f) {
    if (self.storage_ == Storage::Full) {
      f(full, self.full_);
    } else if (self.storage_ == Storage::Bf16) {
      f(full, self.halves_);
    } else {
      f(codes, self.codes_);
      f(ranges, self.ranges_);
    }
  }

  Storage storage_ = Storage::Full;
  Index rows_ = 0, cols_ = 0;
  Buffer<S> full_;
  Buffer<Eigen::bfloat16> halves_;
  Buffer<std::uint8_t> codes_;
  Buffer<S> ranges_;
};

}  // namespace linalg
}  // namespace lowrank
