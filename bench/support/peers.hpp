// Products of two matrices by libraries that bench/composed.cpp puts a step together from. Each is
// C <- alpha op(A) op(B) + beta C in either storage order, on the number of threads that is set.
#pragma once

#include <cstdlib>
#include <string>

#include <bench/support/roofline.hpp>

#if defined(LOWRANK_BENCH_HAS_ONEDNN)
#include <dnnl.h>
#endif
#if defined(LOWRANK_BENCH_HAS_BLIS)
#include <blis.h>
#endif

namespace bench {

#if defined(LOWRANK_BENCH_HAS_ONEDNN)
/// dnnl_sgemm is row-major: in the other order C^T = op(B)^T op(A)^T.
struct OneDnn {
  static constexpr const char* name = "onednn";
  static std::string version() {
    const dnnl_version_t* v = dnnl_version();
    return "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  }

  template <int Order>
  static void product(bool ta, bool tb, float alpha, const Matrix<Order>& A, const Matrix<Order>& B, float beta, Matrix<Order>& C) {
    const Index inner = ta ? A.rows() : A.cols();
    const char a = ta ? 'T' : 'N', b = tb ? 'T' : 'N';
    if constexpr (Order == Eigen::RowMajor)
      dnnl_sgemm(a, b, C.rows(), C.cols(), inner, alpha, A.data(), A.outerStride(), B.data(), B.outerStride(), beta, C.data(), C.outerStride());
    else
      dnnl_sgemm(b, a, C.cols(), C.rows(), inner, alpha, B.data(), B.outerStride(), A.data(), A.outerStride(), beta, C.data(), C.outerStride());
  }
};
#endif

#if defined(LOWRANK_BENCH_HAS_BLIS)
/// BLIS by its own interface, since its BLAS one has the names of OpenBLAS's.
struct Blis {
  static constexpr const char* name = "blis";
  static std::string version() {
    choose_kernels();
    bli_init();
    return std::string("BLIS ") + bli_info_get_version_str() + ", its kernels " + bli_arch_string(bli_arch_query_id());
  }
  /// Debian 12's BLIS does not know newer processors and would take its portable kernels there, at an eighth of the speed.
  static void choose_kernels() {
#if defined(__AVX512F__)
    setenv("BLIS_ARCH_TYPE", std::to_string(BLIS_ARCH_SKX).c_str(), 0);
#elif defined(__AVX2__)
    setenv("BLIS_ARCH_TYPE", std::to_string(BLIS_ARCH_HASWELL).c_str(), 0);
#endif
  }

  template <int Order>
  static void product(bool ta, bool tb, float alpha, const Matrix<Order>& A, const Matrix<Order>& B, float beta, Matrix<Order>& C) {
    bli_thread_set_num_threads(lowrank::detail::available_threads());
    const auto data = [](const Matrix<Order>& X) { return const_cast<float*>(X.data()); };
    bli_sgemm(ta ? BLIS_TRANSPOSE : BLIS_NO_TRANSPOSE, tb ? BLIS_TRANSPOSE : BLIS_NO_TRANSPOSE, C.rows(), C.cols(),
              ta ? A.rows() : A.cols(), &alpha, data(A), A.rowStride(), A.colStride(), data(B), B.rowStride(), B.colStride(),
              &beta, C.data(), C.rowStride(), C.colStride());
  }
};
#endif

/// Names and versions, for the head of a report.
inline std::string product_libraries() {
  std::string text;
#if defined(LOWRANK_BENCH_HAS_ONEDNN)
  text += OneDnn::version();
#endif
#if defined(LOWRANK_BENCH_HAS_BLIS)
  text += (text.empty() ? "" : ", ") + Blis::version();
#endif
  return text;
}

}  // namespace bench
