// SLTrain on a device: a weight that is low-rank plus sparse, W = s B A + S, with the options, equations and first values of
// lowrank::SlTrain. There is no m x n array anywhere.
//
//   lowrank::cuda::SlTrain<float, lowrank::cuda::Context<>> layer(context, m, n, places, {.rank = 128});   // places: i n + j, ascending
//   layer.forward(X, Y, trace);
//   layer.backward(X, dY, dX, trace);              // dX, and the gradients of A, B and v are added to
//
// Beside the trace and r x N numbers, a pass needs room for the activations whose tokens are not contiguous (sparse.cuh).
#pragma once

#include <lowrank/cuda/adapter.cuh>
#include <lowrank/cuda/sparse.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// Machine: a Backend.
template <class S, class Machine>
class SlTrain {
 public:
  using Scalar = S;

  /// A, v ~ U(+-1/sqrt(n)), B = 0, S at the given places: flat row-major indices i n + j, ascending; options.density is not read.
  /// The backend outlives the layer. Throws std::invalid_argument, naming the option.
  SlTrain(Machine& backend, Index m, Index n, const std::vector<std::int64_t>& places, const SlTrainOptions& options = {})
      : backend_(&backend), options_(checked(m, n, options)), support_(backend, m, n, places), A_("A", Index(options.rank), n),
        B_("B", m, Index(options.rank)), values_("values", support_.entries(), 1) {
    visit([&](auto& p) { p.value.allocate(backend); });
    const double bound = 1 / std::sqrt(double(n));
    launch(backend, FillUniform<S>{A_.value.data(), A_.value.size(), bound, options.seed, 0});
    launch(backend, FillUniform<S>{values_.value.data(), values_.value.size(), bound, options.seed, 1});
  }

  Index rows() const { return B_.value.rows(); }
  Index cols() const { return A_.value.cols(); }
  Index rank() const { return A_.value.rows(); }
  double scale() const { return options_.alpha / double(rank()); }
  const SlTrainOptions& options() const { return options_; }
  const Support<Machine>& support() const { return support_; }
  Trainable<S, Machine>& A() { return A_; }
  Trainable<S, Machine>& B() { return B_; }
  Trainable<S, Machine>& values() { return values_; }

  /// Y <- W X. X n x N, Y m x N. Throws std::invalid_argument (shapes, overlap).
  void forward(const View<const S>& X, const View<S>& Y, Trace<S, Machine>& trace) const {
    const Index N = X.cols;
    detail::check_shape(who, "X", X, cols(), N), detail::check_shape(who, "Y", Y, rows(), N);
    detail::check_apart(who, Y, X);
    const Branch<S, Machine> b = branch(N);
    trace.samples = N;
    trace.path = path;
    S* H = trace.reserve(*backend_, rank() * N);
    if (N == 0) return;
    const Room room = lay_out(b.work, X, nullptr);
    b.forward(path, {}, X, H, Y, room.factors);
    launch(*backend_, SparseTimes<S>{support_.by_rows(), values_.value.data(), turned(X, room.x), Y});
  }
  /// dX <- W^T dY (or no_gradient); adds to the gradients of A, B and v.
  void backward(const View<const S>& X, const View<const S>& dY, const View<S>& dX, const Trace<S, Machine>& trace) {
    const Index N = dY.cols;
    detail::check_trace(who, trace.samples, N);
    detail::check_shape(who, "X", X, cols(), N), detail::check_shape(who, "dY", dY, rows(), N);
    if (dX.data != nullptr) detail::check_shape(who, "dX", dX, cols(), N);
    detail::check_apart(who, dX, X), detail::check_apart(who, dX, dY);
    visit([&](auto& p) { p.gradient.allocate(*backend_); });
    if (N == 0) return;
    const Branch<S, Machine> b = branch(N);
    const Room room = lay_out(b.work, X, &dY);
    b.data_gradient(path, {}, dY, dX, room.factors);
    b.weight_gradients(path, X, dY, trace.memory.data(), A_.gradient.data(), B_.gradient.data(), room.factors);
    const View<const S> dy = turned(dY, room.y);
    if (dX.data != nullptr) launch(*backend_, SparseTimes<S>{support_.by_columns(), values_.value.data(), dy, dX});
    if (support_.entries() > 0) launch(*backend_, SparseSampled<S>{support_.by_rows(), turned(X, room.x), dy, values_.gradient.data()});
  }

  /// W <- s B A + S.
  void write_weight(const View<S>& W) const {
    detail::check_shape(who, "the weight", W, rows(), cols());
    branch(0).product(operand(W), 1, 0);
    launch(*backend_, SparseAdded<S>{support_.by_rows(), values_.value.data(), W});
  }

  void visit(auto&& f) { f(A_), f(B_), f(values_); }
  std::size_t bytes() const { return A_.value.bytes() + B_.value.bytes() + values_.value.bytes() + support_.bytes(); }

 private:
  static constexpr const char* who = "lowrank::cuda::SlTrain";
  static constexpr Path path{Order::Factored, Order::Factored, lowrank::Gradient::Factored};

  struct Room {
    typename Branch<S, Machine>::Room factors;
    S *x = nullptr, *y = nullptr;  // X and dY with their tokens contiguous, where they are not

    Room(Arena& arena, const Work& w, const View<const S>& X, const View<const S>* dY) : factors(arena, w, path) {
      if (!contiguous(X)) x = arena.take<S>(w.n * w.samples);
      if (dY != nullptr && !contiguous(*dY)) y = arena.take<S>(w.m * w.samples);
    }
  };
  Room lay_out(const Work& work, const View<const S>& X, const View<const S>* dY) const {
    Arena count;
    (void)Room(count, work, X, dY);
    Arena arena(backend_->workspace(count.used()));
    return Room(arena, work, X, dY);
  }

  static const SlTrainOptions& checked(Index m, Index n, const SlTrainOptions& options) {
    detail::check_adapter(who, m, n, options.rank, options.alpha);
    return options;
  }
  static bool contiguous(const View<const S>& x) { return x.col_stride == 1; }
  View<const S> turned(const View<const S>& x, S* room) const {
    if (contiguous(x)) return x;
    launch(*backend_, Turn<S>{x, room});
    return {room, x.rows, x.cols, x.cols, 1};
  }
  Branch<S, Machine> branch(Index samples) const {
    return {*backend_, {rows(), cols(), rank(), samples}, columns<const S>(A_.value.data(), rank()), columns<const S>(B_.value.data(), rows()), S(scale()), 0};
  }

  Machine* backend_;
  SlTrainOptions options_;
  Support<Machine> support_;
  Trainable<S, Machine> A_, B_, values_;
};

}  // namespace cuda
}  // namespace lowrank
