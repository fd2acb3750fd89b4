// Question: what does an orthonormal DCT of 2048 signals cost, for the lengths weights have, against FFTW and against the
// product with the cosine matrix? Contiguous: a signal is a column of a column-major matrix. Strided: of a row-major one.
// All out of place, since a gradient is not ours to write to.
#include <cmath>

#include <bench/support/naive.hpp>

#include <lowrank/linalg/dct.hpp>
#if defined(LOWRANK_BENCH_HAS_FFTW)
#include <fftw3.h>
#endif

namespace bench {
namespace {

constexpr Index signals = 2048, lanes = K::lanes<float>;
static_assert(signals % lanes == 0);

enum class Kind { Dct2, Dct3 };

struct Problem {
  Kind kind;
  Index n;
  bool contiguous;

  Index element() const { return contiguous ? 1 : signals; }
  Index signal() const { return contiguous ? n : 1; }
  std::string name() const {
    return std::string(kind == Kind::Dct2 ? "dct2" : "dct3") + "/" + std::to_string(n) +
           (contiguous ? "/contiguous/" : "/strided/");
  }
  /// 2.5 n log2 n flops per signal, whatever an algorithm really needs.
  Work work() const {
    return {2.5 * double(n) * std::log2(double(n)) * signals, 4.0 * double(n) * signals, 4.0 * double(n) * signals};
  }
};

struct Data {
  Matrix<> in, out;  // the memory; which way round it is read is the problem's business

  explicit Data(const Problem& p) : in(random_matrix(p.n, signals, 1)), out(p.n, signals) {}
};

// -- the library: `lanes` signals at a time, interleaved, as a projector does it --------------------------------------

class Ours {
 public:
  explicit Ours(const Problem& p)
      : p_(p), plan_(p.n), threads_(lowrank::detail::available_threads()), work_(p.n * lanes + plan_.work_size(), threads_) {}

  void operator()(const float* in, float* out) {
    lowrank::detail::for_each(signals / lanes, threads_, [&](Index group, int slot) {
      float* x = work_.column(slot);
      const Index at = group * lanes * p_.signal();
      if (p_.contiguous)
        K::transpose(p_.n, lanes, in + at, p_.n, x, lanes);
      else
        for (Index i = 0; i < p_.n; ++i) std::memcpy(x + i * lanes, in + at + i * signals, lanes * sizeof(float));
      if (p_.kind == Kind::Dct2) plan_.dct2(x, x + p_.n * lanes);
      else plan_.dct3(x, x + p_.n * lanes);
      if (p_.contiguous)
        K::transpose(lanes, p_.n, x, lanes, out + at, p_.n);
      else
        for (Index i = 0; i < p_.n; ++i) std::memcpy(out + at + i * signals, x + i * lanes, lanes * sizeof(float));
    });
  }

 private:
  Problem p_;
  lowrank::linalg::Dct<float, K> plan_;
  int threads_;
  lowrank::Buffer<float> work_;
};

// -- FFTW: one plan for 64 signals, measured; our threads share the groups ----------------------------------------------

#if defined(LOWRANK_BENCH_HAS_FFTW)
class Fftw {
 public:
  static constexpr int group = 64;

  Fftw(const Problem& p, Data& data) : p_(p), threads_(lowrank::detail::available_threads()) {
    const int n = int(p.n);
    const fftwf_r2r_kind kind = p.kind == Kind::Dct2 ? FFTW_REDFT10 : FFTW_REDFT01;
    fftwf_set_timelimit(5);
    plan_ = fftwf_plan_many_r2r(1, &n, group, data.in.data(), nullptr, int(p.element()), int(p.signal()), data.out.data(),
                                nullptr, int(p.element()), int(p.signal()), &kind, FFTW_MEASURE | FFTW_PRESERVE_INPUT);
    data.in = random_matrix(p.n, signals, 1);  // planning wrote over it
  }
  Fftw(const Fftw&) = delete;
  ~Fftw() { fftwf_destroy_plan(plan_); }

  void operator()(const float* in, float* out) {
    lowrank::detail::for_each(signals / group, threads_, [&](Index g, int) {
      const Index at = g * group * p_.signal();
      fftwf_execute_r2r(plan_, const_cast<float*>(in) + at, out + at);
    });
  }

 private:
  Problem p_;
  int threads_;
  fftwf_plan plan_;
};
#endif

// -- rows ---------------------------------------------------------------------------------------------------------------

/// Whether `out` is the transform of some of the signals; `scaled`: with FFTW's factors, which cost it nothing.
std::string check(const Problem& p, const Data& data, bool scaled) {
  const Index n = p.n;
  double worst = 0;
  for (const Index l : {Index(0), signals - 1})
    for (const Index k : {Index(0), Index(1), n / 2, n - 1}) {
      double sum = 0, norm = 0;
      for (Index j = 0; j < n; ++j) {
        const Index frequency = p.kind == Kind::Dct2 ? k : j, time = p.kind == Kind::Dct2 ? j : k;
        const double angle = std::acos(-1.0) * double(frequency * (2 * time + 1) % (4 * n)) / double(2 * n);
        const double scale = frequency == 0 ? std::sqrt(1 / double(n)) : std::sqrt(2 / double(n));
        const double x = double(data.in.data()[j * p.element() + l * p.signal()]);
        const double fftw = p.kind == Kind::Dct2 ? 2 : frequency == 0 ? 1 : 2;
        sum += (scaled ? fftw : scale) * std::cos(angle) * x;
        norm += x * x;
      }
      const double error = std::abs(double(data.out.data()[k * p.element() + l * p.signal()]) - sum) / std::sqrt(norm);
      worst = std::max(worst, scaled ? error / std::sqrt(2 * double(n)) : error);
    }
  return worst < 4e-7 ? "" : "the transform is off by " + std::to_string(worst);
}

/// What a row keeps: the matrices and the transform.
template <class Transform>
struct Kept {
  Data data;
  Transform transform;

  template <class Make>
  Kept(const Problem& p, const Make& make) : data(p), transform(make(p, data)) {}
};

template <class Make>
void add_transform(const Problem& p, const char* who, int threads, bool scaled, Make make) {
  add(p.name() + who, threads, [=]() -> Case {
    const auto x = std::make_shared<Kept<decltype(make(p, std::declval<Data&>()))>>(p, make);
    x->transform(x->data.in.data(), x->data.out.data());
    const std::string error = check(p, x->data, scaled);
    if (!error.empty()) return {.run = {}, .error = error};
    return {[x] { x->transform(x->data.in.data(), x->data.out.data()); }, p.work()};
  });
}

void add_problem(const Problem& p) {
  for (const int threads : thread_counts()) {
    add_transform(p, "lowrank", threads, false, [](const Problem& q, Data&) { return Ours(q); });
#if defined(LOWRANK_BENCH_HAS_FFTW)
    add_transform(p, "fftw", threads, true, [](const Problem& q, Data& data) { return Fftw(q, data); });
#endif
    if (!p.contiguous || p.kind != Kind::Dct2 || p.n > 4096) continue;  // the same product in every case
    const auto product = [](const Problem& q, Data&) {
      return [C = cosine_matrix<Eigen::ColMajor>(q.n), n = q.n](const float* in, float* out) {
        Eigen::Map<Matrix<>>(out, n, signals).noalias() = C * Eigen::Map<const Matrix<>>(in, n, signals);
      };
    };
    add_transform(p, "eigen", threads, false, product);
#if defined(LOWRANK_BENCH_HAS_OPENBLAS)
    add_transform(p, "openblas", threads, false, [](const Problem& q, Data&) {
      return [C = cosine_matrix<Eigen::ColMajor>(q.n), n = int(q.n)](const float* in, float* out) {
        cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, n, signals, n, 1, C.data(), n, in, n, 0, out, n);
      };
    });
#endif
  }
}

void rows(bool) {
  for (const Index n : {512, 768, 1024, 1365, 1376, 2048, 2736, 4096, 5461, 11008})
    for (const bool contiguous : {true, false})
      for (const Kind kind : {Kind::Dct2, Kind::Dct3}) add_problem({kind, n, contiguous});
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
