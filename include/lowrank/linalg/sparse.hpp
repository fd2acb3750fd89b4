// A sparse matrix of fixed support at work on activations: Y += S X, dX += S^T dY and dv_k += <dY_(i_k), X_(j_k)>, with
// no dense m x n buffer. Rows are compressed (CSR); columns take 2 bytes when the matrix has at most 65536 of them.
//
// A gather of features is slow when a token's features lie together (ten times the time per operation of a dense
// product). So activations are turned, 64 tokens at a time, into panels in which a feature's tokens lie together, and
// each stored number costs a few register operations on 64 tokens. Panels are workspace; either storage order will do.
// Sums run over rows, columns and tokens in a fixed order, so the bits do not depend on threads.
#pragma once

#include <algorithm>  // std::sort, std::unique
#include <span>       // std::span
#include <vector>     // std::vector

#include <lowrank/linalg/product.hpp>
#include <lowrank/linalg/vectors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// Where the entries are: row by row, columns ascending.
class Support {
 public:
  Support() = default;
  /// From flat row-major indices i * n + j, ascending and distinct: std::invalid_argument otherwise.
  template <class I>
  Support(Index m, Index n, std::span<const I> flat) : m_(m), n_(n) {
    const char* who = "lowrank::linalg::Support";
    if (m < 0 || n < 0 || n > 0x7fffffff) lowrank::detail::bad_argument(who, lowrank::detail::shape_text(m, n), "a matrix of less than 2^31 columns");
    if (flat.size() > 0x7fffffff) lowrank::detail::bad_argument(who, std::to_string(flat.size()) + " entries", "fewer than 2^31");
    starts_ = Buffer<std::int32_t>(m + 1, 1);
    if (n <= 65536) narrow_ = Buffer<std::uint16_t>(Index(flat.size()), 1);
    else wide_ = Buffer<std::int32_t>(Index(flat.size()), 1);
    std::int64_t before = -1;
    for (Index k = 0; k < Index(flat.size()); ++k) {
      const auto at = std::int64_t(flat[std::size_t(k)]);
      if (at <= before || at >= std::int64_t(m) * std::int64_t(n))
        lowrank::detail::bad_argument(who, "index " + std::to_string(at) + " at position " + std::to_string(k),
                                      "ascending, distinct indices below " + std::to_string(std::int64_t(m) * n));
      before = at;
      ++starts_[Index(at / n) + 1];
      if (n <= 65536) narrow_[k] = std::uint16_t(at % n);
      else wide_[k] = std::int32_t(at % n);
    }
    for (Index i = 0; i < m; ++i) starts_[i + 1] += starts_[i];
  }
  /// `count` of the m n places, every choice equally likely.
  static Support random(Index m, Index n, Index count, std::uint64_t seed, std::uint64_t stream) {
    const std::uint64_t places = std::uint64_t(m) * std::uint64_t(n);
    if (count < 0 || std::uint64_t(count) > places)
      lowrank::detail::bad_argument("lowrank::linalg::Support", std::to_string(count) + " entries", "at most " + std::to_string(places));
    // distinct draws, as many as are missing, until none is; of the places that stay empty when these are fewer
    const bool inverse = std::uint64_t(count) > places / 2;
    const auto wanted = std::size_t(inverse ? places - std::uint64_t(count) : std::uint64_t(count));
    std::vector<std::uint64_t> drawn;
    std::uint64_t draw = 0;
    while (drawn.size() < wanted) {
      for (std::size_t missing = wanted - drawn.size(); missing > 0; --missing, ++draw) {
        const auto words = lowrank::detail::random_block(seed, stream, draw);
        __extension__ using Wide = unsigned __int128;
        drawn.push_back(std::uint64_t((Wide(std::uint64_t(words[0]) << 32 | words[1]) * places) >> 64));
      }
      std::sort(drawn.begin(), drawn.end());
      drawn.erase(std::unique(drawn.begin(), drawn.end()), drawn.end());
    }
    if (!inverse) return Support(m, n, std::span<const std::uint64_t>(drawn));
    std::vector<std::uint64_t> rest;
    std::size_t next = 0;
    for (std::uint64_t at = 0; at < places; ++at) {
      if (next < drawn.size() && drawn[next] == at) ++next;
      else rest.push_back(at);
    }
    return Support(m, n, std::span<const std::uint64_t>(rest));
  }

  Index rows() const { return m_; }
  Index cols() const { return n_; }
  Index entries() const { return n_ <= 65536 ? narrow_.size() : wide_.size(); }
  std::size_t bytes() const { return starts_.bytes() + narrow_.bytes() + wide_.bytes(); }
  Index begin(Index i) const { return starts_[i]; }
  Index end(Index i) const { return starts_[i + 1]; }
  Index column(Index k) const { return n_ <= 65536 ? Index(narrow_[k]) : Index(wide_[k]); }
  /// f(columns of all entries), a pointer to the type they are stored in.
  template <class F>
  void with_columns(const F& f) const {
    if (n_ <= 65536) f(narrow_.data());
    else f(wide_.data());
  }
  friend bool operator==(const Support&, const Support&) = default;

 private:
  Index m_ = 0, n_ = 0;
  Buffer<std::int32_t> starts_, wide_;
  Buffer<std::uint16_t> narrow_;
};

template <class S, class K>
class SparseProduct {
  using V = detail::Register<K, S>;

 public:
  static constexpr Index tokens = 64;  // of a panel
  static constexpr Index chunk = std::min<Index>(tokens, 4 * V::lanes);
  static constexpr Index summed = 4;   // panels that one sum of dv runs over before it is added: part of the result

  SparseProduct() = default;
  SparseProduct(Arena& arena, int threads, Index m, Index n)
      : m_(m), n_(n), threads_(threads), group_((threads + summed - 1) / summed * summed),
        X_(arena.take<S>(group_ * n * tokens)), Y_(arena.take<S>(group_ * m * tokens)),
        tile_(arena.take<S>(threads * tokens * tokens)), dX_(arena.take<S>(threads * n * tokens)) {}

  /// Y += S X, N tokens.
  void multiply(const Support& support, const S* values, Index N, const Factor<S, K>& X, const Memory<void>& Y) const {
    lowrank::detail::for_each((N + tokens - 1) / tokens, threads_, [&](Index panel, int slot) {
      const Index t0 = panel * tokens, width = std::min(tokens, N - t0);
      S* x = X_ + slot * n_ * tokens;
      S* y = Y_ + slot * m_ * tokens;
      gather(X, n_, t0, width, x);
      support.with_columns([&](const auto* columns) {
        for (Index i = 0; i < m_; ++i) multiply_row(support.begin(i), support.end(i), values, columns, x, y + i * tokens);
      });
      scatter(y, m_, t0, width, Y, slot);
    });
  }

  /// dX += S^T dY and dv += the products of dY's and X's rows. What is null is not wanted.
  void transposed(const Support& support, const S* values, Index N, const Factor<S, K>& X, const Factor<S, K>& dY,
                  const Memory<void>& dX, S* dv) const {
    const Index panels = (N + tokens - 1) / tokens;
    for (Index first = 0; first < panels; first += group_) {
      const Index here = std::min(group_, panels - first);
      lowrank::detail::for_each(2 * here, threads_, [&](Index item, int) {
        const Index panel = item / 2, t0 = (first + panel) * tokens, width = std::min(tokens, N - t0);
        if (item % 2 == 0) gather(X, n_, t0, width, X_ + panel * n_ * tokens);
        else gather(dY, m_, t0, width, Y_ + panel * m_ * tokens);
      });
      if (dX.data != nullptr)
        lowrank::detail::for_each(here, threads_, [&](Index panel, int slot) {
          const Index t0 = (first + panel) * tokens;
          S* out = dX_ + slot * n_ * tokens;
          std::fill_n(out, n_ * tokens, S(0));
          support.with_columns([&](const auto* columns) {
            for (Index i = 0; i < m_; ++i)
              spread_row(support.begin(i), support.end(i), values, columns, Y_ + (panel * m_ + i) * tokens, out);
          });
          scatter(out, n_, t0, std::min(tokens, N - t0), dX, slot);
        });
      constexpr Index block = 16;  // rows
      if (dv == nullptr) continue;
      lowrank::detail::for_each((m_ + block - 1) / block, threads_, [&](Index b, int) {
        support.with_columns([&](const auto* columns) {
          for (Index i = b * block; i < std::min(m_, (b + 1) * block); ++i)
            for (Index p = 0; p < here; p += summed)
              sample_row(support.begin(i), support.end(i), columns, p, std::min(here, p + summed), i, dv);
        });
      });
    }
  }

 private:
  /// panel[f * 64 + t] = X(f, t0 + t), zero beyond the last token.
  void gather(const Factor<S, K>& X, Index features, Index t0, Index width, S* panel) const {
    X.transposed().load(t0, width, 0, features, panel, tokens);
    if (width < tokens)
      for (Index f = 0; f < features; ++f) std::fill_n(panel + f * tokens + width, tokens - width, S(0));
  }
  /// Y(f, t0 + t) += panel[f * 64 + t].
  void scatter(const S* panel, Index features, Index t0, Index width, const Memory<void>& Y, int slot) const {
    if (Y.row_stride != 1) return write_block<K>(linalg::transposed(Y), t0, width, 0, features, panel, tokens, Mode::Add);
    S* tile = tile_ + slot * tokens * tokens;
    for (Index f = 0; f < features; f += tokens) {
      const Index rows = std::min(tokens, features - f);
      K::transpose(width, rows, panel + f * tokens, tokens, tile, tokens);
      write_block<K>(Y, f, rows, t0, width, tile, tokens, Mode::Add);
    }
  }

  /// y <- sum_k v_k x_(j_k)
  template <class C>
  static void multiply_row(Index begin, Index end, const S* values, const C* columns, const S* x, S* y) {
    for (Index t = 0; t < tokens; t += chunk) {
      V sum[chunk / V::lanes];
      for (auto& s : sum) s = V::zero();
      for (Index k = begin; k < end; ++k) {
        const V v = V::all(values[k]);
        const S* from = x + Index(columns[k]) * tokens + t;
        for (Index l = 0; l < chunk / V::lanes; ++l) sum[l] = fma(v, V::load(from + l * V::lanes), sum[l]);
      }
      for (Index l = 0; l < chunk / V::lanes; ++l) sum[l].store(y + t + l * V::lanes);
    }
  }
  /// x_(j_k) <- x_(j_k) + v_k y
  template <class C>
  static void spread_row(Index begin, Index end, const S* values, const C* columns, const S* y, S* x) {
    for (Index t = 0; t < tokens; t += chunk) {
      V from[chunk / V::lanes];
      for (Index l = 0; l < chunk / V::lanes; ++l) from[l] = V::load(y + t + l * V::lanes);
      for (Index k = begin; k < end; ++k) {
        const V v = V::all(values[k]);
        S* to = x + Index(columns[k]) * tokens + t;
        for (Index l = 0; l < chunk / V::lanes; ++l) fma(v, from[l], V::load(to + l * V::lanes)).store(to + l * V::lanes);
      }
    }
  }
  /// dv_k += dY_i . X_(j_k) over the tokens of panels [p, end). The row of dY stays in registers where they are wide: 1.4 times
  /// the speed of reading it for each entry.
  template <class C>
  void sample_row(Index begin, Index end_of_row, const C* columns, Index p, Index end, Index i, S* dv) const {
    constexpr Index parts = chunk / V::lanes;
    const S* first = Y_ + (p * m_ + i) * tokens;
    if constexpr (chunk == tokens) {
      if (end - p == summed) {
        V y[summed][parts];
        for (Index q = 0; q < summed; ++q)
          for (Index l = 0; l < parts; ++l) y[q][l] = V::load(first + q * m_ * tokens + l * V::lanes);
        for (Index k = begin; k < end_of_row; ++k) {
          const S* x = X_ + (p * n_ + Index(columns[k])) * tokens;
          V sum[parts];
          for (Index l = 0; l < parts; ++l) sum[l] = fma(V::load(x + l * V::lanes), y[0][l], V::zero());
          for (Index q = 1; q < summed; ++q)
            for (Index l = 0; l < parts; ++l) sum[l] = fma(V::load(x + q * n_ * tokens + l * V::lanes), y[q][l], sum[l]);
          dv[k] += S(total_of(sum));
        }
        return;
      }
    }
    for (Index k = begin; k < end_of_row; ++k) {
      V sum[parts];
      for (auto& s : sum) s = V::zero();
      for (Index q = p; q < end; ++q) {
        const S* x = X_ + (q * n_ + Index(columns[k])) * tokens;
        const S* y = first + (q - p) * m_ * tokens;
        for (Index t = 0; t < tokens; t += chunk)
          for (Index l = 0; l < parts; ++l) sum[l] = fma(V::load(x + t + l * V::lanes), V::load(y + t + l * V::lanes), sum[l]);
      }
      dv[k] += S(total_of(sum));
    }
  }
  static double total_of(const V* sum) {
    V all = sum[0];
    for (Index l = 1; l < chunk / V::lanes; ++l) all = all + sum[l];
    return detail::total(all);
  }

  Index m_ = 0, n_ = 0;
  int threads_ = 1;
  Index group_ = 0;  // panels in memory at a time
  S* X_ = nullptr;
  S* Y_ = nullptr;
  S* tile_ = nullptr;
  S* dX_ = nullptr;
};

}  // namespace linalg
}  // namespace lowrank
