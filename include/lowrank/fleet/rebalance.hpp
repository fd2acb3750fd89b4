// Rebalance: how many dimensions each matrix of a model gets out of one budget of bytes. With e_i the share of its gradient
// that the i-th coordinate holds, and a matrix counting by its elements m n,
//   maximise  sum over matrices  m n (e_1 + ... + e_r)   subject to   sum of bytes(r) <= budget,
// greedily by m n e_{r+1} / bytes of one more dimension: best but for the last dimension that fits, since shares fall.
// Every matrix keeps at least one.
#pragma once

#include <queue>
#include <vector>

#include <lowrank/projector/energies.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// A matrix whose rank may change.
struct RankBid {
  Index rank, largest;           // as it is, and the most it can be
  double elements, hysteresis;
  std::size_t bytes_of_one;      // one more dimension
  Energies::Curve shares;
};

/// The ranks, in the order of the bids, that cost at most `bytes`; bytes pays for one dimension of each.
inline std::vector<Index> share_out(const std::vector<RankBid>& bids, std::size_t bytes) {
  std::vector<Index> ranks(bids.size(), 1);
  std::size_t left = bytes;
  for (const RankBid& bid : bids) left -= bid.bytes_of_one;
  const auto gain = [&](std::size_t i) { return bids[i].elements * bids[i].shares[ranks[i]] / double(bids[i].bytes_of_one); };
  std::priority_queue<std::pair<double, std::size_t>> offers;
  const auto offer = [&](std::size_t i) {
    if (ranks[i] < bids[i].largest) offers.emplace(gain(i), bids.size() - i);  // ties to the earlier matrix
  };
  for (std::size_t i = 0; i < bids.size(); ++i) offer(i);
  while (!offers.empty()) {
    const std::size_t i = bids.size() - offers.top().second;
    offers.pop();
    if (bids[i].bytes_of_one > left) continue;
    left -= bids[i].bytes_of_one;
    ++ranks[i];
    offer(i);
  }
  return ranks;
}

}  // namespace detail
}  // namespace lowrank
