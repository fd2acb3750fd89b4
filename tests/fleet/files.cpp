// A fleet's state on disk: one file, bit-exact from every step, refused as a whole when it is another model's or damaged.
#include <fstream>
#include <iterator>

#include <support/catch.hpp>
#include <support/folder.hpp>

#include "model.hpp"

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("Saved at every step, loaded and continued to the same bits, in both storage orders", "[fleet]") {
  const Folder folder("fleet");
  const int steps = 7;  // two refresh periods of 3 and one
  for (const Order order : {Order::Columns, Order::Rows}) {
    SmallModel model(order);
    auto whole = small_fleet(model.parameters());
    std::vector<std::vector<std::vector<float>>> weights;
    std::vector<decltype(whole)> copies;
    for (int t = 0; t < steps; ++t) {
      whole.save(folder / std::to_string(t));
      weights.push_back(model.elements());
      copies.push_back(whole);
      model.at_step(t);
      whole.step(model.parameters(), {.lr = 0.01});
    }
    for (int from = 0; from < steps; ++from)
      for (const bool from_copy : {false, true}) {
        INFO("from step " << from << (from_copy ? ", from a copy" : ", from a file"));
        SmallModel again(order);
        for (std::size_t i = 0; i < again.weights.size(); ++i) {
          std::size_t at = 0;
          for (Index c = 0; c < again.weights[i].values().cols(); ++c)
            for (Index r = 0; r < again.weights[i].values().rows(); ++r) again.weights[i].at(r, c) = weights[std::size_t(from)][i][at++];
        }
        auto resumed = from_copy ? copies[std::size_t(from)] : small_fleet(again.parameters());
        if (!from_copy) resumed.load(folder / std::to_string(from));
        for (int t = from; t < steps; ++t) {
          again.at_step(t);
          resumed.step(again.parameters(), {.lr = 0.01});
        }
        CHECK(again.elements() == model.elements());
        CHECK(resumed == whole);
      }
  }
}

TEST_CASE("The file of another model, or half a file, changes nothing", "[fleet]") {
  const Folder folder("fleet_damage");
  SmallModel model;
  auto fleet = small_fleet(model.parameters());
  fleet.step(model.parameters(), {.lr = 0.01});
  fleet.save(folder / "good");
  fleet.step(model.parameters(), {.lr = 0.01});
  const auto before = fleet;
  const auto refuses = [&](auto& target, const std::string& file, const char* why) {
    INFO(why);
    const auto copy = target;
    CHECK_THROWS_WITH(target.load(folder / file), ContainsSubstring(why));
    CHECK(target == copy);
  };
  const auto params = model.parameters();
  Fleet options(params, Group{named("*.attn.*"), galore({.rank = 6, .refresh_every = 9, .transport = Transport::Rotate})},
                Group{named("*.mlp.*"), dct_adamw({.rank = 5})}, Group{anything(), adamw({.weight_decay = 0.1})});
  refuses(options, "good", "layers.0.attn.q/projector.refresh_every: 3 in the file, 9 here");
  Fleet fewer(std::vector(params.begin(), params.begin() + 3), Group{named("*.attn.*"), galore({.rank = 6, .refresh_every = 3, .transport = Transport::Rotate})},
              Group{anything(), adamw({.weight_decay = 0.1})});
  refuses(fewer, "good", "which belongs to nothing here");
  SmallModel larger;
  larger.add("head", 20, 30, Order::Rows);
  auto more = small_fleet(larger.parameters());
  refuses(more, "good", "holds no parameter 'head'");
  refuses(fleet, "absent", "cannot be read");

  std::ifstream in(folder / "good", std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(in), {}};
  for (std::size_t n = 0; n < good.size(); n += 997) {
    std::ofstream(folder / "cut", std::ios::binary).write(good.data(), std::streamsize(n));
    refuses(fleet, "cut", "cut");
  }
  CHECK(fleet == before);
  fleet.load(folder / "good");
  CHECK_FALSE(fleet == before);
}

TEST_CASE("A file may carry other ranks", "[fleet]") {
  const Folder folder("fleet_rank");
  SmallModel model;
  const auto params = model.parameters();
  Fleet low(params, Group{anything(), galore({.rank = 3})}), high(params, Group{anything(), galore({.rank = 8})});
  high.step(params, {.lr = 0.01});
  high.save(folder / "s");
  low.load(folder / "s");
  CHECK(low == high);
  CHECK(low.plan().rows[0].rank == 8);
}
