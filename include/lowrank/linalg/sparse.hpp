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

#include <lowrank/core/rng.hpp>
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
  /// For supports of that many entries, or fewer.
  SparseProduct(Arena& arena, int threads, Index m, Index n, Index entries)
      : m_(m), n_(n), threads_(threads), kept_(std::min<Index>(threads, summed)),
        X_(arena.take<S>(std::max<Index>(kept_ * summed, threads) * n * tokens)),
        Y_(arena.take<S>(std::max<Index>(kept_ * summed, threads) * m * tokens)), tile_(arena.take<S>(threads * 2 * high * tokens)),
        dX_(arena.take<S>(threads * n * tokens)), partial_(arena.take<S>((kept_ - 1) * entries)), entries_(entries),
        sorted_(arena.take<S>(entries)), rows_(arena.take<std::int32_t>(entries)), starts_(arena.take<std::int32_t>(n + 1)),
        reached_(arena.take<std::int32_t>(kept_ * m)) {}

  /// Y += S X, N tokens.
  void multiply(const Support& support, const S* values, Index N, const Factor<S, K>& X, const Memory<void>& Y) const {
    lowrank::detail::for_each((N + tokens - 1) / tokens, threads_, [&](Index panel, int slot) {
      const Index t0 = panel * tokens, width = std::min(tokens, N - t0);
      S* x = X_ + slot * n_ * tokens;
      gather(X, n_, t0, width, x, tokens);
      support.with_columns([&](const auto* columns) {
        add_rows(m_, t0, width, Y, slot, [&](Index i, S* y) { multiply_row(support.begin(i), support.end(i), values, columns, x, y); });
      });
    });
  }

  /// dX += S^T dY and dv += the products of dY's and X's rows. What is null is not wanted.
  void transposed(const Support& support, const S* values, Index N, const Factor<S, K>& X, const Factor<S, K>& dY,
                  const Memory<void>& dX, S* dv) const {
    const Index panels = (N + tokens - 1) / tokens, groups = (panels + summed - 1) / summed;
    const bool sorted = panels > 2 * threads_;  // one thread does it, for as long as it saves in two panels
    if (dX.data != nullptr && sorted) sort(support, values);
    const auto width = [&](Index panel) { return std::min(tokens, N - panel * tokens); };
    const auto turn = [&](Index panel, Index place) {
      const Index at = panel % summed * tokens;
      if (dv != nullptr) gather(X, n_, panel * tokens, width(panel), X_ + place * n_ * row + at, row);
      gather(dY, m_, panel * tokens, width(panel), Y_ + (place * summed + panel % summed) * m_ * tokens, tokens);
    };
    const auto spread = [&](Index panel, Index place, int slot) {
      S* out = dX_ + slot * n_ * tokens;
      const S* from = Y_ + (place * summed + panel % summed) * m_ * tokens;
      if (sorted)
        return add_rows(n_, panel * tokens, width(panel), dX, slot,
                        [&](Index j, S* y) { multiply_row(starts_[j], starts_[j + 1], sorted_, rows_, from, y); });
      std::fill_n(out, n_ * tokens, S(0));
      support.with_columns([&](const auto* columns) {
        for (Index i = 0; i < m_; ++i) spread_row(support.begin(i), support.end(i), values, columns, from + i * tokens, out);
      });
      for (Index f = 0; f < n_; f += high) add(out + f * tokens, f, std::min(high, n_ - f), panel * tokens, width(panel), dX, slot);
    };
    Index first = 0;
    // a group of panels at a time for each thread, at the thread's own place, which no other thread's cache has to give
    for (; threads_ <= summed && groups - first >= threads_; first += kept_) {
      lowrank::detail::for_each(kept_, threads_, [&](Index group, int slot) {
        const Index begin = (first + group) * summed, end = std::min(panels, begin + summed);
        for (Index panel = begin; panel < end; ++panel) turn(panel, slot);
        for (Index panel = begin; dX.data != nullptr && panel < end; ++panel) spread(panel, slot, slot);
        if (dv == nullptr) return;
        S* sums = group == 0 ? dv : partial_ + (group - 1) * entries_;
        if (group > 0) std::fill_n(sums, support.entries(), S(0));
        sample(support, 0, m_, slot, end - begin, sums);
      });
      for (Index group = 1; dv != nullptr && group < kept_; ++group)
        K::combine(support.entries(), 1.0, partial_ + (group - 1) * entries_, 1.0, dv, dv);
    }
    // fewer than threads are left, or threads are many: all work on one group after another
    for (; first < groups; ++first) {
      const Index begin = first * summed, here = std::min(summed, panels - begin);
      lowrank::detail::for_each(here, threads_, [&](Index p, int) { turn(begin + p, 0); });
      if (dX.data != nullptr) lowrank::detail::for_each(here, threads_, [&](Index p, int slot) { spread(begin + p, 0, slot); });
      constexpr Index block = 64;  // rows
      if (dv != nullptr)
        lowrank::detail::for_each((m_ + block - 1) / block, threads_, [&](Index b, int) {
          sample(support, b * block, std::min(m_, (b + 1) * block), 0, here, dv);
        });
    }
  }

 private:
  static constexpr Index row = summed * tokens;  // of a group: a feature's tokens in all of its panels
  static constexpr Index high = 64;              // features that are turned at a time

  /// panel[f * ld + t] = X(f, t0 + t), zero beyond the last of 64 tokens.
  void gather(const Factor<S, K>& X, Index features, Index t0, Index width, S* panel, Index ld) const {
    for (Index f = 0; f < features; f += high)  // what is asked for ahead of being turned stays in the first cache
      X.transposed().load(t0, width, f, std::min(high, features - f), panel + f * ld, ld);
    if (width < tokens)
      for (Index f = 0; f < features; ++f) std::fill_n(panel + f * ld + width, tokens - width, S(0));
  }
  /// Y(f, t0 + t) += the sum of feature f and token t0 + t, of which sums(f, out) computes 64.
  template <class Row>
  void add_rows(Index features, Index t0, Index width, const Memory<void>& Y, int slot, const Row& sums) const {
    S* rows = tile_ + 2 * slot * high * tokens;
    for (Index f = 0; f < features; f += high) {
      const Index here = std::min(high, features - f);
      for (Index i = 0; i < here; ++i) sums(f + i, rows + i * tokens);
      add(rows, f, here, t0, width, Y, slot);
    }
  }
  /// Y(f + i, t0 + t) += rows[i * 64 + t], no more than 64 of them.
  void add(const S* rows, Index f, Index count, Index t0, Index width, const Memory<void>& Y, int slot) const {
    if (Y.row_stride != 1) return write_block<K>(linalg::transposed(Y), t0, width, f, count, rows, tokens, Mode::Add);
    if (count == high && width == tokens && Y.dtype == lowrank::detail::DtypeOf<S>::value) {
      for (Index t = 0; t < tokens; t += V::lanes)
        for (Index i = 0; i < high; i += V::lanes) {
          V x[V::lanes];
          for (Index l = 0; l < V::lanes; ++l) x[l] = V::load(rows + (i + l) * tokens + t);
          kernel::transpose(x);
          S* y = Y.template at<S>(f + i, t0 + t);
          for (Index l = 0; l < V::lanes; ++l) (V::load(y + l * Y.col_stride) + x[l]).store(y + l * Y.col_stride);
        }
      return;
    }
    S* tile = tile_ + (2 * slot + 1) * high * tokens;
    K::transpose(width, count, rows, tokens, tile, high);
    write_block<K>(Y, f, count, t0, width, tile, high, Mode::Add);
  }

  /// The entries column by column, rows ascending: S^T dY is then a product like S X, and each sum the one of spread_row().
  void sort(const Support& support, const S* values) const {
    support.with_columns([&](const auto* columns) {
      std::fill_n(starts_, n_ + 1, 0);
      for (Index k = 0; k < support.entries(); ++k) ++starts_[Index(columns[k]) + 1];
      for (Index j = 0; j < n_; ++j) starts_[j + 1] += starts_[j];
      for (Index i = 0; i < m_; ++i)
        for (Index k = support.begin(i); k < support.end(i); ++k) {
          const Index at = starts_[Index(columns[k])]++;
          rows_[at] = std::int32_t(i);
          sorted_[at] = values[k];
        }
      for (Index j = n_; j > 0; --j) starts_[j] = starts_[j - 1];
      starts_[0] = 0;
    });
  }

  /// y <- sum_k v_k x_(j_k)
  template <class C>
  LOWRANK_NOINLINE static void multiply_row(Index begin, Index end, const S* values, const C* columns, const S* x, S* y) {
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
  LOWRANK_NOINLINE static void spread_row(Index begin, Index end, const S* values, const C* columns, const S* y, S* x) {
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
  /// dv_k += dY_i . X_(j_k) over the panels of a group, for rows [i0, end). As many features at a time as the second cache level
  /// holds beside the rest: reached_ is how far each row has come.
  void sample(const Support& support, Index i0, Index end, Index place, Index panels, S* dv) const {
    constexpr Index wide = 512;
    const S* X = X_ + place * n_ * row;
    const S* Y = Y_ + place * m_ * row;
    std::int32_t* reached = reached_ + place * m_;
    support.with_columns([&](const auto* columns) {
      for (Index i = i0; i < end; ++i) reached[i] = std::int32_t(support.begin(i));
      for (Index j0 = 0; j0 < n_; j0 += wide)
        for (Index i = i0; i < end; ++i) {
          const Index begin = reached[i];
          Index last = begin;
          if (j0 + wide >= n_) last = support.end(i);
          else while (last < support.end(i) && Index(columns[last]) < j0 + wide) ++last;
          sample_row(begin, last, columns, panels, X, Y + i * tokens, m_ * tokens, dv);
          reached[i] = std::int32_t(last);
        }
    });
  }
  /// The row of dY stays in registers where they are wide: 1.4 times the speed of reading it for each entry.
  template <class C>
  LOWRANK_NOINLINE static void sample_row(Index begin, Index end, const C* columns, Index panels, const S* X, const S* y, Index apart, S* dv) {
    constexpr Index parts = chunk / V::lanes;
    if constexpr (chunk == tokens) {
      if (panels == summed) {
        V held[summed][parts];
        for (Index q = 0; q < summed; ++q)
          for (Index l = 0; l < parts; ++l) held[q][l] = V::load(y + q * apart + l * V::lanes);
        for (Index k = begin; k < end; ++k) {
          const S* x = X + Index(columns[k]) * row;
          V sum[parts];
          for (Index l = 0; l < parts; ++l) sum[l] = fma(V::load(x + l * V::lanes), held[0][l], V::zero());
          for (Index q = 1; q < summed; ++q)
            for (Index l = 0; l < parts; ++l) sum[l] = fma(V::load(x + q * tokens + l * V::lanes), held[q][l], sum[l]);
          dv[k] += S(total_of(sum));
        }
        return;
      }
    }
    for (Index k = begin; k < end; ++k) {
      const S* x = X + Index(columns[k]) * row;
      V sum[parts];
      for (auto& s : sum) s = V::zero();
      for (Index q = 0; q < panels; ++q)
        for (Index t = 0; t < tokens; t += chunk)
          for (Index l = 0; l < parts; ++l)
            sum[l] = fma(V::load(x + q * tokens + t + l * V::lanes), V::load(y + q * apart + t + l * V::lanes), sum[l]);
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
  Index kept_ = 1;         // groups in memory
  S* X_ = nullptr;
  S* Y_ = nullptr;
  S* tile_ = nullptr;
  S* dX_ = nullptr;
  S* partial_ = nullptr;   // sums of groups but the first, added in their order
  Index entries_ = 0;
  S* sorted_ = nullptr;    // values column by column
  std::int32_t *rows_ = nullptr, *starts_ = nullptr, *reached_ = nullptr;
};

}  // namespace linalg
}  // namespace lowrank
