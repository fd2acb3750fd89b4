// Sides and dates of all projectors: the tables of the published codes, square matrices and ranks beyond them included.
#include <support/catch.hpp>
#include <support/placed.hpp>
#include <support/tilewise.hpp>

#include <lowrank/projector/projector.hpp>

using namespace support;

namespace {

/// The weight after some steps, and what is kept of its state.
struct Trained {
  std::vector<double> weight;
  std::map<std::string, Bytes> state;
  Index rank;
};

Trained train(const Policy<double>& policy, Index rows, Index cols, const Choice& choice) {
  Placed<double> w(random_matrix(rows, cols, 3), Order::Columns);
  const auto optimizer = policy.make(w.view(), choice);
  for (int t = 0; t < 4; ++t) {
    const Placed<double> g(training_gradient(rows, cols, t), Order::Rows);
    REQUIRE_FALSE(optimizer->step(w.view(), g.view(), {.lr = 0.01}).skipped);
  }
  return {w.elements(), optimizer->fields(), optimizer->rank()};
}

std::vector<std::uint64_t> due_steps(const auto& options, std::uint64_t steps) {
  std::vector<std::uint64_t> list;
  lowrank::detail::Freshness fresh;
  for (std::uint64_t s = 0; s < steps; ++s)
    if (fresh.due(options, s)) {
      list.push_back(s + 1);  // steps are counted from 1 in the papers
      fresh.observe(0.5, true, 0);
    }
  return list;
}

}  // namespace

TEST_CASE("Smaller and Larger are Left or Right by shape alone; squares go right", "[projector]") {
  struct Row {
    Index rows, cols;
    Side smaller, larger;
  };
  for (const auto& policy : tilewise_policies<double>()) {
    if (!policy.projected || policy.name == "two-sided svd") continue;
    for (const Row& row : {Row{30, 18, Side::Right, Side::Left}, Row{18, 30, Side::Left, Side::Right}, Row{20, 20, Side::Right, Side::Left}}) {
      INFO(policy.name << ", " << row.rows << " x " << row.cols);
      const auto run = [&](Side side) { return train(policy, row.rows, row.cols, {.rank = 5, .side = side, .refresh_every = 2}); };
      const auto smaller = run(Side::Smaller), larger = run(Side::Larger);
      CHECK(same_bits(smaller.weight, run(row.smaller).weight));
      CHECK(same_bits(larger.weight, run(row.larger).weight));
      CHECK_FALSE(same_bits(smaller.weight, larger.weight));
      // the projected side is as long as the basis
      const std::size_t d = std::size_t(std::min(row.rows, row.cols)), k = std::size_t(std::max(row.rows, row.cols));
      if (smaller.state.contains("basis")) {
        CHECK(smaller.state.at("basis").size() == d * 5 * sizeof(double));
        CHECK(larger.state.at("basis").size() == k * 5 * sizeof(double));
      }
      for (const char* moment : {"exp_avg", "momentum"})
        if (smaller.state.contains(moment)) {
          CHECK(smaller.state.at(moment).size() == k * 5 * sizeof(double));
          CHECK(larger.state.at(moment).size() == d * 5 * sizeof(double));
        }
    }
  }
}

TEST_CASE("GaLore, Fira, APOLLO renew at 1, T+1, 2T+1; DCT-AdamW at 1, T, 2T", "[projector]") {
  using Steps = std::vector<std::uint64_t>;
  for (const auto& policy : tilewise_policies<double>()) {
    if (!policy.projected) continue;
    INFO(policy.name);
    Placed<double> w(random_matrix(30, 40, 3), Order::Columns);
    const auto optimizer = policy.make(w.view(), {.rank = 5, .refresh_every = 5});
    Steps list;
    for (std::uint64_t t = 1; t <= 16; ++t) {
      const Placed<double> g(training_gradient(30, 40, int(t)), Order::Rows);
      if (optimizer->step(w.view(), g.view(), {.lr = 0.01}).refreshed) list.push_back(t);
    }
    if (policy.name.starts_with("dct")) CHECK(list == Steps{1, 5, 10, 15});
    else if (policy.name != "subspace, on drift") CHECK(list == Steps{1, 6, 11, 16});
    else CHECK(list.size() >= 4);
  }
}

TEST_CASE("A phase staggers, a period of 0 renews once, of 1 always", "[projector]") {
  using Steps = std::vector<std::uint64_t>;
  using lowrank::Subspace, lowrank::Dct;
  CHECK(due_steps(Subspace{.refresh_every = 4}, 12) == Steps{1, 5, 9});
  CHECK(due_steps(Subspace{.refresh_every = 4, .phase = 1}, 12) == Steps{1, 4, 8, 12});
  CHECK(due_steps(Subspace{.refresh_every = 4, .phase = 3}, 12) == Steps{1, 2, 6, 10});
  CHECK(due_steps(Subspace{.refresh_every = 4, .phase = 8}, 12) == Steps{1, 5, 9});
  CHECK(due_steps(Subspace{.refresh_every = 0}, 12) == Steps{1});
  CHECK(due_steps(Subspace{.refresh_every = 1}, 3) == Steps{1, 2, 3});
  CHECK(due_steps(Dct{.refresh_every = 4}, 12) == Steps{1, 4, 8, 12});
  CHECK(due_steps(Dct{}, 3) == Steps{1, 2, 3});
  // staggered layers take turns: of T layers with phases 0 .. T-1 each later step renews exactly one
  std::vector<int> at(17, 0);
  for (std::int64_t phase = 0; phase < 8; ++phase)
    for (const auto t : due_steps(Subspace{.refresh_every = 8, .phase = phase}, 16)) ++at[t];
  CHECK(at[1] == 8);
  for (std::size_t t = 2; t <= 16; ++t) CHECK(at[t] == 1);
}

TEST_CASE("Drift calls for a refresh until one happens", "[projector]") {
  lowrank::detail::Freshness fresh;
  const lowrank::Subspace o{.refresh_every = 0};
  CHECK(fresh.due(o, 0));
  fresh.observe(0.8, true, 0.25);
  fresh.observe(0.61, false, 0.25);
  CHECK_FALSE(fresh.due(o, 5));
  fresh.observe(0.59, false, 0.25);  // below 0.75 * 0.8
  CHECK(fresh.due(o, 6));
  fresh.observe(0.7, false, 0.25);   // the refresh did not come about: still owed
  CHECK(fresh.due(o, 7));
  fresh.observe(0.7, true, 0.25);
  CHECK_FALSE(fresh.due(o, 8));
  fresh.observe(0, false, 0);        // not asked for
  CHECK_FALSE(fresh.due(o, 9));
}

TEST_CASE("A rank beyond the dimension is the dimension, openly and whatever side", "[projector]") {
  for (const auto& policy : tilewise_policies<double>()) {
    if (!policy.projected) continue;
    const bool index = policy.name.starts_with("dct"), both = policy.name == "two-sided svd";
    for (const auto& [rows, cols] : {std::pair<Index, Index>{9, 14}, {14, 9}, {9, 9}})
      for (const Side side : {Side::Smaller, Side::Larger, Side::Left, Side::Right})
        for (const Index rank : {9, 10, 1000}) {
          INFO(policy.name << ", " << rows << " x " << cols << ", side " << int(side) << ", rank " << rank);
          const bool right = side == Side::Right || (side == Side::Smaller && rows >= cols) || (side == Side::Larger && rows < cols);
          const Index d = both ? std::min(rows, cols) : right ? cols : rows;
          // a dense basis has no more directions than the gradient; an index basis has one per coordinate
          const Index expected = std::min(rank, index ? d : std::min(rows, cols));
          const auto asked = train(policy, rows, cols, {.rank = rank, .side = side, .refresh_every = 2});
          CHECK(asked.rank == expected);
          CHECK(same_bits(asked.weight, train(policy, rows, cols, {.rank = expected, .side = side, .refresh_every = 2}).weight));
        }
  }
}
