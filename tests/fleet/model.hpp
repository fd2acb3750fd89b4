// A small model for tests of Fleet: two layers of different storage orders, a vector and an embedding, in memory of its own.
#pragma once

#include <deque>

#include <support/placed.hpp>

#include <lowrank/fleet.hpp>

namespace support {

template <class T = float, class G = T>
struct SmallModel {
  std::deque<Placed<T>> weights;
  std::deque<Placed<G>> gradients;
  std::vector<std::string> names;
  std::vector<double> lr_scales;

  explicit SmallModel(Order order = Order::Rows) {
    add("layers.0.attn.q", 40, 70, order);
    add("layers.0.norm", 1, 70, order);
    add("layers.1.attn.q", 66, 35, order);
    add("layers.1.mlp.up", 50, 50, order);
    add("embed", 30, 20, order);
  }
  void add(const std::string& name, Index rows, Index cols, Order order) {
    const auto seed = unsigned(names.size());
    weights.emplace_back(random_matrix(rows, cols, 100 + seed), order);
    gradients.emplace_back(training_gradient(rows, cols, 0, 200 + seed), order);
    names.push_back(name);
    lr_scales.push_back(1);
  }
  std::vector<lowrank::Parameter<T, G>> parameters() {
    std::vector<lowrank::Parameter<T, G>> list;
    for (std::size_t i = 0; i < names.size(); ++i)
      list.push_back({names[i], weights[i].view(), std::as_const(gradients[i]).view(), lr_scales[i]});
    return list;
  }
  /// The gradients of step t.
  void at_step(int t) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto g = training_gradient(gradients[i].values().rows(), gradients[i].values().cols(), t, 200 + unsigned(i));
      for (Index c = 0; c < g.cols(); ++c)
        for (Index r = 0; r < g.rows(); ++r) gradients[i].at(r, c) = G(g(r, c));
    }
  }
  std::vector<std::vector<T>> elements() const {
    std::vector<std::vector<T>> all;
    for (const auto& w : weights) all.push_back(w.elements());
    return all;
  }
};

/// GaLore on attention, DCT-AdamW on MLPs, AdamW on the rest.
template <class M>
auto small_fleet(const M& params) {
  using namespace lowrank;
  return Fleet(params, Group{named("*.attn.*"), galore({.rank = 6, .refresh_every = 3, .transport = Transport::Rotate})},
               Group{named("*.mlp.*"), dct_adamw({.rank = 5})}, Group{anything(), adamw({.weight_decay = 0.1})});
}

}  // namespace support
