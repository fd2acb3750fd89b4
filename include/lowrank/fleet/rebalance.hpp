// Rebalance: how many dimensions each matrix of a model gets out of one budget of bytes. With e_i the share of its gradient
// that the i-th coordinate holds, and a matrix counting by its elements m n,
//   maximise  sum over matrices  m n (e_1 + ... + e_r)   subject to   sum of bytes(r) <= budget,
// greedily by m n e_{r+1} / bytes of one more dimension: best but for the last dimension that fits, since shares fall.
// Every matrix keeps at least one.
#pragma once

#include <cmath>   // std::abs
#include <queue>
#include <string>
#include <vector>

#include <lowrank/projector/energies.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// A matrix whose rank may change.
struct RankBid {
  Index rank, largest;           // as it is, and the most it can be
  double elements, hysteresis;
  std::size_t of_one, of_more;   // bytes of rank 1, and of every further dimension
  Energies::Curve shares;
};

/// The ranks, in the order of the bids, that cost at most `bytes`, which pay for one dimension of each.
inline std::vector<Index> share_out(const std::vector<RankBid>& bids, std::size_t bytes) {
  std::vector<Index> ranks(bids.size(), 1);
  std::size_t left = bytes;
  for (const RankBid& bid : bids) left -= bid.of_one;
  const auto gain = [&](std::size_t i) { return bids[i].elements * bids[i].shares[ranks[i]] / double(bids[i].of_more); };
  std::priority_queue<std::pair<double, std::size_t>> offers;
  const auto offer = [&](std::size_t i) {
    if (ranks[i] < bids[i].largest) offers.emplace(gain(i), bids.size() - i);  // ties to the earlier matrix
  };
  for (std::size_t i = 0; i < bids.size(); ++i) offer(i);
  while (!offers.empty()) {
    const std::size_t i = bids.size() - offers.top().second;
    offers.pop();
    if (bids[i].of_more > left) continue;
    left -= bids[i].of_more;
    ++ranks[i];
    offer(i);
  }
  return ranks;
}

/// f(optimizer, b) for every matrix of the fleet whose rank adapts, b counting them from 0.
template <class Fleet, class F>
void each_adaptive(Fleet& fleet, const F& f) {
  std::size_t b = 0;
  fleet.each([&](const std::string& name, auto& o) {
    if constexpr (requires { o.projection().energies(); })
      if (o.projection().energies().kept()) f(name, o, b++);
  });
}

/// What Fleet::rebalance does, to a fleet that may be thrown away when this throws.
template <class Fleet>
Index rebalance(Fleet& fleet, std::size_t budget) {
  const char* who = "lowrank::Fleet::rebalance";
  std::vector<RankBid> bids;
  std::size_t fixed = fleet.state_bytes(), least = 0;
  each_adaptive(fleet, [&](const std::string& name, const auto& o, std::size_t) {
    if (o.projection().wants_rank() == 0) bad_argument(who, "'" + name + "' without a basis", "a step with a gradient before it");
    const Index largest = o.projection().largest_rank();
    const std::size_t one = o.state_bytes_at(1), all = o.state_bytes_at(largest);
    bids.push_back({o.rank(), largest, double(o.rows() * o.cols()), o.projector().adapt.hysteresis, one,
                    largest > 1 ? (all - one) / std::size_t(largest - 1) : all, Energies::Curve(o.projection().energies())});
    least += one;
    fixed -= o.state_bytes();
  });
  if (bids.empty()) bad_argument(who, "a fleet of fixed ranks", "a group whose projector has adapt.energy > 0");
  if (budget < fixed + least)
    bad_argument(who, std::to_string(budget) + " bytes", "at least " + std::to_string(fixed + least) + ", for rank 1 of each");

  const auto total = [&](const std::vector<Index>& ranks) {
    std::size_t bytes = fixed;
    each_adaptive(fleet, [&](const std::string&, const auto& o, std::size_t b) { bytes += o.state_bytes_at(ranks[b]); });
    return bytes;
  };
  std::vector<Index> ranks = share_out(bids, budget - fixed);
  // 8-bit states are padded, so that a dimension may cost a little more than on average
  for (std::size_t bytes = budget - fixed, excess; total(ranks) > budget; ranks = share_out(bids, bytes)) {
    excess = total(ranks) - budget;
    bytes = std::max(least, bytes - std::min(bytes, excess));
  }
  std::vector<Index> calm = ranks;
  for (std::size_t b = 0; b < bids.size(); ++b)
    if (std::abs(double(ranks[b] - bids[b].rank)) <= bids[b].hysteresis * double(bids[b].rank)) calm[b] = bids[b].rank;
  if (total(calm) <= budget) ranks = calm;

  Index changed = 0;
  each_adaptive(fleet, [&](const std::string&, auto& o, std::size_t b) {
    if (ranks[b] != bids[b].rank) o.set_rank(ranks[b]), ++changed;
  });
  return changed;
}

}  // namespace detail
}  // namespace lowrank
