// Moments that move with the basis, on a device: a rotation by products, or the gather of an index basis. core.cuh has the kernels.
#pragma once

#include <lowrank/cuda/core.cuh>
#include <lowrank/cuda/projector.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// Room for moments (r x k) that move.
template <class S>
struct Moving {
  S *moved = nullptr, *centred = nullptr, *product = nullptr;  // r x k
  S *rotation = nullptr, *squared = nullptr;                   // r x r

  Moving() = default;
  Moving(Arena& arena, Index r, Index k)
      : moved(arena.take<S>(r * k)), centred(arena.take<S>(r * k)), product(arena.take<S>(r * k)), rotation(arena.take<S>(r * r)),
        squared(arena.take<S>(r * r)) {}

  /// The rule's moments into the coordinates of work.candidate, where the device decided that they move.
  template <class B, class Projector, class Work, class Rule>
  void operator()(B& backend, const Projector& projector, const Work& work, Rule& rule, Index d, Index r, Index k, const Control<S>* c) const {
    const Index n = r * k;
    const Transport how = projector.options().transport;
    if (how == Transport::Keep) return;
    S* second = rule.second();
    if (how == Transport::Reset) return launch(backend, Transported<S>{nullptr, nullptr, rule.first(), second, n, c, true});
    if constexpr (requires { projector.moved_from(work); }) {
      for (S* x : {rule.first(), second}) {
        if (x == nullptr) continue;
        backend.copy(moved, x, std::size_t(n) * sizeof(S));
        launch(backend, GatherRows<S>{moved, x, r, k, projector.moved_from(work), c});
      }
    } else {
      backend.gemm(transposed<const S>(work.candidate, d), columns(projector.replaced(work), d), columns(rotation, r), r, r, d, Scale<S>{});
      backend.gemm(columns<const S>(rotation, r), columns<const S>(rule.first(), r), columns(moved, r), r, k, r, Scale<S>{});
      if (second != nullptr) {
        launch(backend, Square<S>{rotation, nullptr, squared, r * r, c});
        launch(backend, Square<S>{rule.first(), second, centred, n, c});
        backend.gemm(columns<const S>(squared, r), columns<const S>(centred, r), columns(product, r), r, k, r, Scale<S>{});
      }
      launch(backend, Transported<S>{moved, product, rule.first(), second, n, c, false});
    }
  }
};

}  // namespace cuda
}  // namespace lowrank
