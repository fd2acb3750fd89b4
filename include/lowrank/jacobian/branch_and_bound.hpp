// Branch and bound for local Lipschitz constants: from the bounds of lipschitz.hpp to the exact constant, given time.
//
// Piecewise-linear networks: a domain fixes the phase of some units, layer after layer, so that up to the first open
// layer z is affine in x and every phase is a linear inequality. Linear programs then drop domains without interior (no
// bound on slopes alone would) and tighten the open layer; when all phases are settled the row is constant and exact.
// Regions thinner than 1e-9 count as empty. Smooth networks: a domain is a box of inputs, halved.
//
// Phases are closed sets, z >= 0 or z <= 0: what is left out has no interior, and the constant is the essential
// supremum.
#pragma once

#include <chrono>
#include <cstdint>
#include <queue>

#include <lowrank/jacobian/lipschitz.hpp>
#include <lowrank/jacobian/polytope.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

struct BranchAndBound {
  double gap = 1e-9;  // stop when bound <= attained (1 + gap)
  std::int64_t max_splits = 100000;
  double seconds = 60;
  std::int64_t samples = 200;  // Jacobians sampled for a first lower bound
  std::uint64_t seed = 0;      // of those
};

enum class Stopped { GapClosed, Splits, Time };

struct LipschitzResult {
  double bound = 0;     // never below the constant
  double attained = 0;  // |w^T J|_1 at some x of the box
  std::int64_t splits = 0;
  Stopped reason = Stopped::GapClosed;

  double gap() const { return bound - attained; }
};

namespace detail {

/// The search, for both kinds of networks.
class LipschitzSearch {
 public:
  LipschitzSearch(const DenseNetwork& net, const Vector<double>& w, const Box& input, const BranchAndBound& options)
      : net_(net),
        w_(w),
        input_(input),
        options_(options),
        linear_(net.activation.piecewise_linear()),
        leak_(net.activation.kind == Nonlinearity::Identity ? 1
              : net.activation.kind == Nonlinearity::Relu   ? 0
                                                            : net.activation.leak) {}

  LipschitzResult run() {
    const auto start = std::chrono::steady_clock::now();
    result_.attained = sampled_lipschitz(net_, w_, input_, Index(options_.samples), options_.seed);
    meet(center(input_));
    Domain root;
    root.input = input_;
    root.bound = std::numeric_limits<double>::infinity();
    for (Index k = 0; k < net_.hidden(); ++k)
      root.phases.emplace_back(std::size_t(net_.weights[std::size_t(k)].rows()), std::int8_t(0));
    consider(std::move(root));
    while (true) {
      result_.bound = std::max(result_.attained, heap_.empty() ? 0.0 : heap_.top().bound);
      if (heap_.empty() || result_.bound <= closed()) return finish(Stopped::GapClosed);
      if (result_.splits >= options_.max_splits) return finish(Stopped::Splits);
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
      if (spent.count() > options_.seconds) return finish(Stopped::Time);
      const Domain parent = heap_.top();
      heap_.pop();
      ++result_.splits;
      for (const int side : {1, -1}) {
        Domain child = parent;
        if (linear_) {
          child.phases[std::size_t(parent.layer)][std::size_t(parent.unit)] = std::int8_t(side);
          Box& z = child.boxes[std::size_t(parent.layer)];
          (side > 0 ? z.lower : z.upper)[parent.unit] = 0;
        } else {
          const double middle = (parent.input.lower[parent.unit] + parent.input.upper[parent.unit]) / 2;
          (side > 0 ? child.input.lower : child.input.upper)[parent.unit] = middle;
        }
        consider(std::move(child));
      }
    }
  }

 private:
  struct Domain {
    double bound;
    Box input;
    std::vector<Box> boxes;                        // of pre-activations
    std::vector<std::vector<std::int8_t>> phases;  // +1: z >= 0 was chosen, -1: z <= 0, 0: not chosen
    Index layer = 0, unit = 0;                     // to be split next: a unit of a layer, or an input
    bool operator<(const Domain& other) const { return bound < other.bound; }
  };

  static Vector<double> center(const Box& b) { return (b.lower + b.upper) / 2; }
  double closed() const { return result_.attained * (1 + options_.gap); }
  void meet(const Vector<double>& x) {
    result_.attained = std::max(result_.attained, gradient_at(net_, w_, x).lpNorm<1>());
  }
  LipschitzResult finish(Stopped reason) {
    result_.reason = reason;
    return result_;
  }

  /// Bounds a domain and keeps it unless it is empty, settled, or below what is attained.
  void consider(Domain d) {
    d.boxes = preactivation_boxes(net_, d.input, BoxMethod::Intersection, d.boxes);
    if (d.boxes.size() < std::size_t(net_.hidden())) return;
    if (linear_) {
      if (!settle(d)) return;
    } else {
      meet(center(d.input));
    }
    const RowBounds b = row_bounds(net_, w_, slopes(d));
    d.bound = std::min(d.bound, b.norm);
    if (d.bound <= closed()) return;
    if (linear_) {
      if (d.layer >= net_.hidden()) {  // every phase is settled: the row is the same all over the domain
        result_.attained = std::max(result_.attained, d.bound / (1 + 1e-12));
        return;
      }
      d.unit = widest_unit(d, b);
    } else {
      (d.input.upper - d.input.lower)
          .cwiseProduct(b.entries.lower.cwiseAbs().cwiseMax(b.entries.upper.cwiseAbs()))
          .maxCoeff(&d.unit);
    }
    heap_.push(std::move(d));
  }

  bool open(const Box& z, Index i) const { return leak_ != 1 && z.lower[i] < 0 && z.upper[i] > 0; }

  Slopes slopes(const Domain& d) const {
    if (!linear_) return slope_boxes(net_.activation, d.boxes);
    Slopes s = d.boxes;
    for (std::size_t k = 0; k < s.size(); ++k)
      for (Index i = 0; i < s[k].size(); ++i) {
        s[k].lower[i] = d.boxes[k].lower[i] >= 0 ? 1 : leak_;
        s[k].upper[i] = d.boxes[k].lower[i] >= 0 || open(d.boxes[k], i) ? 1 : leak_;
      }
    return s;
  }

  /// Follows the settled layers with z = A x + c, collects the chosen phases as inequalities and tightens the first
  /// open layer by linear programs; d.layer: that layer, or hidden(). False: no interior.
  bool settle(Domain& d) {
    Polytope region(d.input);
    Matrix<double> A = Matrix<double>::Identity(net_.inputs(), net_.inputs());
    Vector<double> c = Vector<double>::Zero(net_.inputs());
    for (d.layer = 0; d.layer < net_.hidden(); ++d.layer) {
      const auto k = std::size_t(d.layer);
      c = net_.weights[k].lazyProduct(c) + net_.biases[k];
      A = times(net_.weights[k], A);
      bool constrained = false;
      for (Index i = 0; i < A.rows(); ++i)
        if (const int side = d.phases[k][std::size_t(i)]; side != 0) {
          region.add(-double(side) * A.row(i).transpose(), double(side) * c[i]);
          constrained = true;
        }
      if (constrained) {
        const auto inside = region.deepest();
        if (inside && inside->depth <= 1e-9) return false;
        if (inside) meet(inside->x);
      }
      Box& z = d.boxes[k];
      bool any = false, tightened = false;
      for (Index i = 0; i < A.rows(); ++i) {
        if (!open(z, i)) continue;
        if (region.inequalities() > 0) {
          const Vector<double> a = A.row(i).transpose();
          // the simplex method stops within its tolerance of the optimum
          const double slack = 1e-10 * (1 + a.lpNorm<1>() + std::abs(c[i]));
          if (const auto top = region.maximum(a)) z.upper[i] = std::min(z.upper[i], *top + c[i] + slack);
          if (const auto bottom = region.maximum(-a)) z.lower[i] = std::max(z.lower[i], c[i] - *bottom - slack);
          tightened = true;
          // thinner than the tolerance beyond the kink: settled
          if (z.upper[i] <= 2 * slack) z.upper[i] = std::min(z.upper[i], 0.0);
          if (z.lower[i] >= -2 * slack) z.lower[i] = std::max(z.lower[i], 0.0);
        }
        any = any || open(z, i);
      }
      if (tightened) {
        d.boxes = preactivation_boxes(net_, d.input, BoxMethod::Intersection, d.boxes);
        if (d.boxes.size() < std::size_t(net_.hidden())) return false;
      }
      if (any) return true;
      for (Index i = 0; i < A.rows(); ++i)
        if (!(d.boxes[k].lower[i] >= 0)) {
          A.row(i) *= leak_;
          c[i] *= leak_;
        }
    }
    return true;
  }

  /// The open unit of the layer whose slope changes the row most.
  Index widest_unit(const Domain& d, const RowBounds& b) const {
    const Box &z = d.boxes[std::size_t(d.layer)], &p = b.cotangents[std::size_t(d.layer)];
    Index best = -1;
    double largest = -1;
    for (Index i = 0; i < z.size(); ++i) {
      if (!open(z, i)) continue;
      const double weight = net_.weights[std::size_t(d.layer)].row(i).lpNorm<1>();
      const double score = std::max(std::abs(p.lower[i]), std::abs(p.upper[i])) * weight;
      if (score > largest) {
        largest = score;
        best = i;
      }
    }
    return best;
  }

  const DenseNetwork& net_;
  Vector<double> w_;
  Box input_;
  BranchAndBound options_;
  bool linear_;
  double leak_;
  std::priority_queue<Domain> heap_;
  LipschitzResult result_;
};

}  // namespace detail

/// sup |w^T J|_1 over the box.
inline LipschitzResult local_lipschitz(const DenseNetwork& net, const Vector<double>& w, const Box& input,
                                       const BranchAndBound& options = {}) {
  const char* who = "lowrank::jacobian::local_lipschitz";
  detail::check_batch(who, w.size(), 1, net.outputs(), 1);
  detail::check_batch(who, input.lower.size(), input.upper.size(), net.inputs(), net.inputs());
  if (input.empty()) lowrank::detail::bad_argument(who, "an empty box", "lower <= upper");
  if (!(options.gap >= 0) || !(options.seconds >= 0))
    lowrank::detail::bad_argument(who, "a negative gap or time", "numbers >= 0");
  return detail::LipschitzSearch(net, w, input, options).run();
}

}  // namespace jacobian
}  // namespace lowrank
