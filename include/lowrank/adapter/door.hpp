// The door of every adapter and layer: the matrices of a call are checked, lose their types, and go to Derived, which has a
// name (who) for errors. What is behind the door is compiled once for each scalar, not for each kind of matrix.
#pragma once

#include <lowrank/adapter/adapter.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// A matrix that was checked against its shape; data null: absent.
template <class Void>
struct Erased {
  linalg::Memory<Void> memory;
  bool present() const { return memory.data != nullptr; }
};
using Input = Erased<const void>;
using Output = Erased<void>;

/// Shapes of one call; every function of an adapter begins with these.
class Door {
 public:
  Door(const char* who, Index m, Index n) : who_(who), m_(m), n_(n) {}

  Input base(NoBase) const { return {}; }
  template <class M>
  Input base(const M& W) const {
    return checked(lowrank::view(W), m_, n_, "the weight");
  }
  template <class M>
  Input in(const M& x, Index rows, Index samples, const char* what) const {
    return checked(lowrank::view(x), rows, samples, what);
  }
  Output out(NoGradient, Index, Index, const char*) const { return {}; }
  template <class M>
  Output out(M&& y, Index rows, Index samples, const char* what) const {
    const auto v = lowrank::view(y);
    static_assert(!std::is_const_v<std::remove_pointer_t<decltype(v.data)>>, "the result is written to: pass a non-const matrix");
    check(v, rows, samples, what);
    return {linalg::memory(v)};
  }
  template <class X>
  Index samples(const X& x) const { return lowrank::view(x).cols; }
  /// What is written must not be what is read.
  template <class A, class B>
  void apart(const A& a, const B& b) const {
    if constexpr (!std::is_same_v<std::remove_cvref_t<A>, NoGradient> && !std::is_same_v<std::remove_cvref_t<B>, NoBase>)
      if (overlap(lowrank::view(a), lowrank::view(b))) bad_argument(who_, "a result that overlaps an operand", "separate memory");
  }

 private:
  template <class T>
  Input checked(const View<T>& v, Index rows, Index cols, const char* what) const {
    check(v, rows, cols, what);
    return {linalg::memory(View<const T>(v))};
  }
  template <class T>
  void check(const View<T>& v, Index rows, Index cols, const char* what) const {
    if (v.rows == rows && v.cols == cols) return;
    bad_argument(who_, std::string(what) + " " + shape_text(v.rows, v.cols), shape_text(rows, cols));
  }

  const char* who_;
  Index m_, n_;
};

/// Derived: run_forward(W, X, Y, samples, trace, workspace, pass) and run_backward(W, X, dY, dX, trace, workspace).
template <class Derived, class S>
class AdapterDoor {
 public:
  using Scalar = S;

  /// Y <- (W + change) X; without W, Y <- Y + change X. X n x N, Y m x N.
  template <class W, class X, class Y>
  void forward(const W& base, const X& x, Y&& y, Trace<S>& trace, Workspace& workspace, const Pass& pass = {}) const {
    const Door door(Derived::who, self().rows(), self().cols());
    const Index samples = door.samples(x);
    const auto in = door.in(x, self().cols(), samples, "X");
    const auto W0 = door.base(base);
    const auto out = door.out(y, self().rows(), samples, "Y");
    door.apart(y, x), door.apart(y, base);
    self().run_forward(W0, in.memory, out.memory, samples, trace, workspace, pass);
  }
  /// dX <- (W + change)^T dY, added to without W, left out with no_gradient. The gradients of everything trained are added
  /// to; zero_gradients(adapter) begins anew.
  template <class W, class X, class DY, class DX>
  void backward(const W& base, const X& x, const DY& dy, DX&& dx, const Trace<S>& trace, Workspace& workspace) {
    const Door door(Derived::who, self().rows(), self().cols());
    const Index samples = door.samples(dy);
    check_trace(Derived::who, trace, samples);
    const auto in = door.in(x, self().cols(), samples, "X");
    const auto W0 = door.base(base);
    const auto grad = door.in(dy, self().rows(), samples, "dY");
    const auto out = door.out(dx, self().cols(), samples, "dX");
    door.apart(dx, x), door.apart(dx, dy), door.apart(dx, base);
    self().run_backward(W0, in.memory, grad.memory, out, trace, workspace);
  }

 private:
  Derived& self() { return static_cast<Derived&>(*this); }
  const Derived& self() const { return static_cast<const Derived&>(*this); }
};

/// Derived: run_forward(X, Y, samples, trace, workspace, pass), run_backward(X, dY, dX, trace, workspace).
template <class Derived, class S>
class LayerDoor {
 public:
  using Scalar = S;

  /// Y <- W X. X n x N, Y m x N.
  template <class X, class Y>
  void forward(const X& x, Y&& y, Trace<S>& trace, Workspace& workspace, const Pass& pass = {}) const {
    const Door door(Derived::who, self().rows(), self().cols());
    const Index samples = door.samples(x);
    const auto in = door.in(x, self().cols(), samples, "X");
    const auto out = door.out(y, self().rows(), samples, "Y");
    door.apart(y, x);
    self().run_forward(in.memory, out.memory, samples, trace, workspace, pass);
  }
  /// dX <- W^T dY (or no_gradient), and the gradients of everything trained are added to.
  template <class X, class DY, class DX>
  void backward(const X& x, const DY& dy, DX&& dx, const Trace<S>& trace, Workspace& workspace) {
    const Door door(Derived::who, self().rows(), self().cols());
    const Index samples = door.samples(dy);
    check_trace(Derived::who, trace, samples);
    const auto in = door.in(x, self().cols(), samples, "X");
    const auto grad = door.in(dy, self().rows(), samples, "dY");
    const auto out = door.out(dx, self().cols(), samples, "dX");
    door.apart(dx, x), door.apart(dx, dy);
    self().run_backward(in.memory, grad.memory, out, trace, workspace);
  }

 private:
  Derived& self() { return static_cast<Derived&>(*this); }
  const Derived& self() const { return static_cast<const Derived&>(*this); }
};

}  // namespace detail
}  // namespace lowrank
