// Batching: a backend on which the steps of several matrices become one. Optimizers made on it record what they ask for; flush() asks
// the backend below for what they ask alike once: one kernel runs over the blocks of all, one product becomes a batched one.
//
//   Batching<B> together(backend);
//   for (auto& opt : of_one_shape) together.begin(slot_bytes, count), opt.set(step), opt.enqueue(w, g, refresh);
//   together.flush();
//
// Every matrix has its own slot of the workspace and its own Control, so each keeps its own decision, and every kernel does the
// arithmetic that it does alone. A call whose kernel, grid or shape is not the others' is made for each. So is, of the products,
// one whose factors are the device's and of one matrix only (Scale::common): cuBLAS has one alpha for a batch. Factorisations, copies and
// clears are made one by one as well. Without begin() everything goes straight to the backend below.
#pragma once

#include <cstring>  // std::memcpy
#include <vector>   // std::vector

#include <lowrank/cuda/backend.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// A kernel's view of its block when several kernels share a grid: the same, under another number.
template <class Block>
class Part {
 public:
  LOWRANK_DEVICE Part(Block& block, Index index) : block_(block), index_(index) {}

  LOWRANK_DEVICE Index index() const { return index_; }
  LOWRANK_DEVICE int threads() const { return block_.threads(); }
  template <class F>
  LOWRANK_DEVICE void each(const F& f) { block_.each(f); }
  template <class T>
  LOWRANK_DEVICE auto local() { return block_.template local<T>(); }
  template <class T>
  LOWRANK_DEVICE T* shared(int n) { return block_.template shared<T>(n); }

 private:
  Block& block_;
  Index index_;
};

/// Several kernels of one type and grid as one: `blocks` blocks of the first, then of the second, and so on.
template <Kernel K>
struct Batch {
  static constexpr int threads = K::threads, capacity = 16;
  static_assert(capacity * sizeof(K) < 32000, "the arguments of a kernel are bounded");
  alignas(K) unsigned char kernels[capacity * sizeof(K)];
  Index blocks;

  void set(int i, const K& kernel) { std::memcpy(kernels + std::size_t(i) * sizeof(K), &kernel, sizeof(K)); }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    Part<Block> part(block, block.index() % blocks);
    reinterpret_cast<const K*>(kernels)[block.index() / blocks](part);
  }
};

template <class B>
class Batching {
 public:
  /// Matrices that step together at most.
  static constexpr int capacity = 16;

  explicit Batching(B& backend) : backend_(&backend) {}
  Batching(const Batching&) = delete;

  B& backend() const { return *backend_; }

  /// What follows is recorded, as the next matrix of a batch of at most so many whose steps take this much workspace each.
  void begin(std::size_t slot_bytes, std::size_t matrices) {
    slot_bytes_ = rounded(slot_bytes);
    if (members_ == 0) workspace_ = static_cast<unsigned char*>(backend_->workspace(workspace_bytes(slot_bytes, matrices)));
    recording_ = &tapes_[members_++];
  }
  int members() const { return members_; }
  /// How many matrices of this workspace make a batch: what fills a device by itself is not helped by company.
  static std::size_t capacity_of(std::size_t slot_bytes) {
    constexpr std::size_t room = std::size_t(64) << 20;
    return most<std::size_t>(1, least<std::size_t>(std::size_t(capacity), room / most<std::size_t>(1, rounded(slot_bytes))));
  }
  static std::size_t workspace_bytes(std::size_t slot_bytes, std::size_t matrices) {
    return rounded(slot_bytes) * least(matrices, capacity_of(slot_bytes));
  }
  /// Asks for everything that was recorded since the last flush.
  void flush() {
    recording_ = nullptr;
    bool done[capacity] = {};
    for (int first = 0; first < members_; ++first) {
      if (done[first]) continue;
      const Tape* alike[capacity];
      int count = 0;
      for (int i = first; i < members_; ++i)
        if (!done[i] && tapes_[first].alike(tapes_[i])) alike[count++] = &tapes_[i], done[i] = true;
      issue(alike, count);
    }
    for (int i = 0; i < members_; ++i) tapes_[i].clear();
    members_ = 0;
  }

  // -- a Backend -----------------------------------------------------------------------------------------------------------------

  template <class K>
  void launch(const K& kernel, Grid grid) {
    if (recording_ == nullptr) return backend_->launch(kernel, grid);
    recording_->add(Launch<K>{kernel, grid});
  }
  template <class S, class SA, class SB>
  void gemm(Operand<SA> A, Operand<SB> B_, Operand<S> C, Index m, Index n, Index depth, Scale<S> scale) {
    if (recording_ == nullptr) return backend_->gemm(A, B_, C, m, n, depth, scale);
    recording_->add(Product<S>{A, B_, C, m, n, depth, scale});
  }
  template <class S>
  void gemm_batch(Operand<const S* const> A, Operand<const S* const> B_, Operand<S* const> C, Index count, Index m, Index n, Index depth, Scale<S> scale) {
    backend_->gemm_batch(A, B_, C, count, m, n, depth, scale);
  }
  void cholesky(Index n, double* A, Index ld, int* info) {
    one_by_one([=](B& b) { b.cholesky(n, A, ld, info); });
  }
  void divide(Index m, Index n, const double* L, Index ldl, double* Y, Index ldy) {
    one_by_one([=](B& b) { b.divide(m, n, L, ldl, Y, ldy); });
  }
  void eigh(Index n, double* A, double* w) {
    one_by_one([=](B& b) { b.eigh(n, A, w); });
  }
  void copy(void* to, const void* from, std::size_t bytes) {
    one_by_one([=](B& b) { b.copy(to, from, bytes); });
  }
  void clear(void* to, std::size_t bytes) {
    one_by_one([=](B& b) { b.clear(to, bytes); });
  }
  void* workspace(std::size_t bytes) {
    if (recording_ == nullptr) return backend_->workspace(bytes);
    return workspace_ + slot_bytes_ * std::size_t(members_ - 1);
  }
  // no part of a step
  void upload(void* to, const void* from, std::size_t bytes) { backend_->upload(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) { backend_->download(to, from, bytes); }
  void* allocate(std::size_t bytes) { return backend_->allocate(bytes); }
  void release(void* p) { backend_->release(p); }

 private:
  /// The same call of several matrices.
  template <class C>
  struct Calls {
    const void* const* at;
    int count;
    const C& operator[](int i) const { return *static_cast<const C*>(at[i]); }
  };
  template <class K>
  struct Launch {
    K kernel;
    Grid grid;

    bool alike(const Launch& o) const { return grid.blocks == o.grid.blocks && grid.shared == o.grid.shared; }
    static void issue(Batching& to, const Calls<Launch>& calls) {
      if (calls.count == 1) return to.backend_->launch(calls[0].kernel, calls[0].grid);
      Batch<K> batch;
      for (int i = 0; i < calls.count; ++i) batch.set(i, calls[i].kernel);
      batch.blocks = calls[0].grid.blocks;
      to.backend_->launch(batch, Grid{batch.blocks * calls.count, calls[0].grid.shared});
    }
  };
  template <class S>
  struct Product {
    Operand<const S> A, B_;
    Operand<S> C;
    Index m, n, depth;
    Scale<S> scale;

    bool alike(const Product& o) const {
      const auto same = [](const auto& x, const auto& y) { return x.ld == y.ld && x.transposed == y.transposed; };
      return m == o.m && n == o.n && depth == o.depth && same(A, o.A) && same(B_, o.B_) && same(C, o.C);
    }
    static bool together(const Calls<Product>& calls) {
      const Scale<S>& s = calls[0].scale;
      for (int i = 0; i < calls.count; ++i) {
        const Scale<S>& other = calls[i].scale;
        const bool numbers = s.device == nullptr && other.device == nullptr && s.alpha == other.alpha && s.beta == other.beta;
        if (!numbers && !(s.common && other.common)) return false;
      }
      return calls.count > 1;
    }
    static void collect(std::vector<void*>& pointers, const Calls<Product>& calls) {
      if (!together(calls)) return;
      for (int i = 0; i < calls.count; ++i) pointers.push_back(const_cast<S*>(calls[i].A.data));
      for (int i = 0; i < calls.count; ++i) pointers.push_back(const_cast<S*>(calls[i].B_.data));
      for (int i = 0; i < calls.count; ++i) pointers.push_back(calls[i].C.data);
    }
    static void issue(Batching& to, const Calls<Product>& calls) {
      const Product& p = calls[0];
      if (!together(calls)) {
        for (int i = 0; i < calls.count; ++i) to.backend_->gemm(calls[i].A, calls[i].B_, calls[i].C, p.m, p.n, p.depth, calls[i].scale);
        return;
      }
      void** at = to.next_pointer_;
      to.next_pointer_ += 3 * calls.count;
      const auto inputs = [&](const Operand<const S>& x, int i) {
        return Operand<const S* const>{reinterpret_cast<const S* const*>(at + i * calls.count), x.ld, x.transposed};
      };
      const Operand<S* const> outputs{reinterpret_cast<S* const*>(at + 2 * calls.count), p.C.ld, p.C.transposed};
      to.backend_->gemm_batch(inputs(p.A, 0), inputs(p.B_, 1), outputs, Index(calls.count), p.m, p.n, p.depth, p.scale);
    }
  };
  template <class F>
  struct OneByOne {
    F call;

    bool alike(const OneByOne&) const { return true; }
    static void issue(Batching& to, const Calls<OneByOne>& calls) {
      for (int i = 0; i < calls.count; ++i) calls[i].call(*to.backend_);
    }
  };
  template <class F>
  void one_by_one(const F& call) {
    if (recording_ == nullptr) call(*backend_);
    else recording_->add(OneByOne<F>{call});
  }

  /// What is known of a recorded call once its type is forgotten.
  struct Kind {
    bool (*alike)(const void*, const void*);
    void (*collect)(std::vector<void*>&, const void* const*, int);  // addresses that a batched product reads on the device
    void (*issue)(Batching&, const void* const*, int);
  };
  template <class C>
  static const Kind* kind() {
    static constexpr Kind of{[](const void* a, const void* b) { return static_cast<const C*>(a)->alike(*static_cast<const C*>(b)); },
                             [](std::vector<void*>& pointers, const void* const* calls, int count) {
                               if constexpr (requires(Calls<C> c) { C::collect(pointers, c); }) C::collect(pointers, Calls<C>{calls, count});
                             },
                             [](Batching& to, const void* const* calls, int count) { C::issue(to, Calls<C>{calls, count}); }};
    return &of;
  }

  /// The calls of one matrix, in order.
  class Tape {
   public:
    template <class C>
    void add(const C& call) {
      static_assert(std::is_trivially_copyable_v<C> && alignof(C) <= sizeof(Unit));
      calls_.push_back({kind<C>(), memory_.size()});
      memory_.resize(memory_.size() + (sizeof(C) + sizeof(Unit) - 1) / sizeof(Unit));
      std::memcpy(static_cast<void*>(memory_.data() + calls_.back().at), &call, sizeof(C));
    }
    std::size_t size() const { return calls_.size(); }
    const Kind& kind_of(std::size_t i) const { return *calls_[i].kind; }
    const void* operator[](std::size_t i) const { return memory_.data() + calls_[i].at; }
    bool alike(const Tape& o) const {
      if (size() != o.size()) return false;
      for (std::size_t i = 0; i < size(); ++i)
        if (calls_[i].kind != o.calls_[i].kind || !calls_[i].kind->alike((*this)[i], o[i])) return false;
      return true;
    }
    void clear() { calls_.clear(), memory_.clear(); }

   private:
    struct Unit {
      alignas(16) unsigned char bytes[16];
    };
    struct Call {
      const Kind* kind;
      std::size_t at;
    };
    std::vector<Call> calls_;
    std::vector<Unit> memory_;
  };

  void issue(const Tape* const* tapes, int count) {
    const void* calls[capacity];
    const auto of = [&](std::size_t i) {
      for (int q = 0; q < count; ++q) calls[q] = (*tapes[q])[i];
      return calls;
    };
    pointers_.clear();
    for (std::size_t i = 0; i < tapes[0]->size(); ++i) tapes[0]->kind_of(i).collect(pointers_, of(i), count);
    if (const Index n = Index(pointers_.size()); n > 0) {
      if (device_pointers_.size() < n) {
        device_pointers_ = Array<void*, B>();
        device_pointers_ = Array<void*, B>(n, 1);
        device_pointers_.allocate(*backend_);
      }
      backend_->upload(device_pointers_.data(), pointers_.data(), pointers_.size() * sizeof(void*));
      next_pointer_ = device_pointers_.data();
    }
    for (std::size_t i = 0; i < tapes[0]->size(); ++i) tapes[0]->kind_of(i).issue(*this, of(i), count);
  }
  static std::size_t rounded(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

  B* backend_;
  Tape tapes_[capacity];
  Tape* recording_ = nullptr;
  int members_ = 0;
  unsigned char* workspace_ = nullptr;
  std::size_t slot_bytes_ = 0;
  std::vector<void*> pointers_;
  Array<void*, B> device_pointers_;
  void** next_pointer_ = nullptr;
};

}  // namespace cuda
}  // namespace lowrank
