// Question: what does each recipe keep between steps, and what does a step need besides, on one feed-forward matrix of a
// 7B LLaMA (4096 x 11008, rank 256, float)? In MB of 10^6 bytes:
//
//   state      what the optimizer says it keeps; formula: what it must keep by its equations, r rank, d = 4096, k = 11008
//   workspace  what it says a step needs and forgets; a Fleet shares one among all matrices
//   peak       how much the resident set grew at most over weight and gradient, during construction and three steps
//
// accumulate: the same of one step of four micro-batches, between refreshes, beyond state and workspace: what gathering the
// gradients takes when they are summed, and when only what GaLore projects of them is.
//
// The same for the equations in plain Eigen, which are handed their basis and never have to find one. The resident set is
// read where the system tells it (Linux); the time is that of one step.
#include <cstdio>
#include <cstring>
#include <optional>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <bench/support/naive.hpp>

#include <lowrank/recipes.hpp>

namespace bench {
namespace {

// -- the resident set -------------------------------------------------------------------------------------------------

/// "VmRSS" or "VmHWM" in bytes; 0 where the system does not say.
double status(const char* field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind(field, 0) == 0) return 1024 * std::strtod(line.c_str() + std::strlen(field) + 1, nullptr);
  return 0;
}

/// From here on VmHWM is the peak since here. False where that cannot be asked for.
bool reset_peak() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 1 << 16);  // what is freed goes back to the system, so what is needed next shows
  malloc_trim(0);
#endif
  std::FILE* file = std::fopen("/proc/self/clear_refs", "w");
  if (file == nullptr) return false;
  const bool written = std::fputs("5", file) >= 0;
  return std::fclose(file) == 0 && written;
}

/// How much more than now was resident at most while f ran, in bytes; negative: not known here.
template <class F>
double peak_growth(const F& f) {
  if (!reset_peak()) return -1;
  const double before = status("VmRSS");
  f();
  return status("VmHWM") - before;
}

// -- rows -------------------------------------------------------------------------------------------------------------

struct Shape {
  Index d, k, r;
};

/// Bytes that must be kept, in floats unless it says otherwise: moments, basis, error, indices (int32), one number.
struct Formula {
  double floats, other = 0;
  double bytes() const { return 4 * floats + other; }
};

/// One optimizer: what makes it (from a weight), what one step of it is, what it must keep.
template <class Make, class Step>
void add_optimizer(const std::string& what, const char* who, const Shape& s, const Formula& formula, Make make, Step step) {
  for (const int threads : thread_counts())
    add(what + "/" + shape(s.d, s.k) + "/" + who, threads, [=]() -> Case {
      struct State {
        Matrix<> W, G;
        std::shared_ptr<decltype(make(W))> optimizer;
      };
      const auto x = std::make_shared<State>();
      x->W = random_matrix(s.d, s.k, 1);
      x->G = random_matrix(s.d, s.k, 2);
      Case row;
      row.run = [x, step] { step(*x->optimizer, x->W, x->G); };
      const double peak = peak_growth([&] {
        x->optimizer = std::make_shared<decltype(make(x->W))>(make(x->W));
        for (int t = 0; t < 3; ++t) row.run();
      });
      if (peak >= 0) row.counters["peak_MB"] = 1e-6 * peak;
      row.counters["formula_MB"] = 1e-6 * formula.bytes();
      if constexpr (requires { x->optimizer->state_bytes(); }) {
        row.counters["state_MB"] = 1e-6 * double(x->optimizer->state_bytes());
        row.counters["workspace_MB"] = 1e-6 * double(x->optimizer->workspace_bytes());
        const double difference = double(x->optimizer->state_bytes()) - formula.bytes();
        if (difference < 0 || difference > 64) row.error = "the state is not what its formula says";
      }
      return row;
    })->Iterations(1);
}

/// The library's recipe, and the same equations in Eigen where they are there to compare with.
template <class Recipe>
void add_recipe(const std::string& what, const Shape& s, const Formula& formula, Recipe recipe) {
  const auto step = [](auto& optimizer, Matrix<>& W, const Matrix<>& G) { optimizer.step(W, G, {.lr = double(naive_lr)}); };
  add_optimizer(what, "lowrank", s, formula, recipe, step);
}
template <class Method>
void add_naive(const std::string& what, const Shape& s, const Formula& formula, Method method) {
  add_optimizer(what, "eigen", s, formula, [s](const Matrix<>&) {
    return NaiveLowRank<Eigen::ColMajor>(s.d, s.k, s.r, random_matrix(s.d, s.r, 3) / std::sqrt(float(s.d)));
  }, [method](auto& optimizer, Matrix<>& W, const Matrix<>& G) { (optimizer.*method)(W, G); });
}

enum class Gather { Gradients, Projections };

void add_accumulation(const Shape& s, Gather gather) {
  const bool projections = gather == Gather::Projections;
  for (const int threads : thread_counts())
    add(with_rank("accumulate", s.r) + "/" + shape(s.d, s.k) + (projections ? "/projections" : "/gradients"), threads, [=]() -> Case {
      struct State {
        Matrix<> W, G, sum;
        std::optional<lowrank::Optimizer<float, lowrank::Subspace, lowrank::AdamW>> optimizer;
      };
      const auto x = std::make_shared<State>();
      x->W = random_matrix(s.d, s.k, 1);
      x->G = random_matrix(s.d, s.k, 2);
      x->optimizer.emplace(lowrank::galore(x->W, {.rank = s.r, .refresh_every = 1000}));
      x->optimizer->step(x->W, x->G, {.lr = double(naive_lr)});
      Case row;
      row.run = [=] {
        if (!projections) x->sum.setZero(s.d, s.k);
        for (int i = 0; i < 4; ++i) {
          if (projections) x->optimizer->accumulate(x->G, 0.25);
          else x->sum += 0.25f * x->G;
        }
        if (projections) x->optimizer->step(x->W, {.lr = double(naive_lr)});
        else x->optimizer->step(x->W, x->sum, {.lr = double(naive_lr)});
      };
      const double peak = peak_growth(row.run);
      if (peak >= 0) row.counters["peak_MB"] = 1e-6 * peak;
      row.counters["formula_MB"] = 4e-6 * double(projections ? s.r * s.k : s.d * s.k);
      return row;
    })->Iterations(1);
}

void add_shape(const Shape& s) {
  using Naive = NaiveLowRank<Eigen::ColMajor>;
  const double d = double(s.d), k = double(s.k), r = double(s.r);
  const std::int64_t rank = s.r;

  const Formula dense{2 * d * k};
  add_recipe("adamw", s, dense, [](const Matrix<>& W) { return lowrank::adamw(W, {}); });
  add_optimizer("adamw", "eigen", s, dense, [s](const Matrix<>&) { return NaiveAdamW<Eigen::ColMajor>(s.d, s.k); },
                [](auto& optimizer, Matrix<>& W, const Matrix<>& G) { optimizer.step(W, G); });

  const Formula galore{(d + 2 * k) * r};
  add_recipe(with_rank("galore", s.r), s, galore, [=](const Matrix<>& W) { return lowrank::galore(W, {.rank = rank}); });
  add_naive(with_rank("galore", s.r), s, galore, &Naive::galore);

  const Formula fira{(d + 2 * k) * r, 4};
  add_recipe(with_rank("fira", s.r), s, fira, [=](const Matrix<>& W) { return lowrank::fira(W, {.rank = rank}); });
  add_naive(with_rank("fira", s.r), s, fira, &Naive::fira);

  const Formula apollo{2 * k * r, 4};
  add_recipe(with_rank("apollo", s.r), s, apollo, [=](const Matrix<>& W) { return lowrank::apollo(W, {.rank = rank}); });
  add_naive(with_rank("apollo", s.r), s, galore, &Naive::apollo);

  add_recipe("apollo_mini", s, {2 * k, 4}, [](const Matrix<>& W) { return lowrank::apollo_mini(W); });

  const Formula dct{2 * k * r, 4 * r};
  add_recipe(with_rank("dct_adamw", s.r), s, dct, [=](const Matrix<>& W) { return lowrank::dct_adamw(W, {.rank = rank}); });
  add_optimizer(with_rank("dct_adamw", s.r), "eigen", s, {2 * k * r + d * d, 4 * r},
                [s](const Matrix<>&) { return NaiveDctAdamW<Eigen::ColMajor>(s.d, s.k, s.r); },
                [](auto& optimizer, Matrix<>& W, const Matrix<>& G) { optimizer.step(W, G); });
  add_recipe(with_rank("dct_adamw_error_feedback", s.r), s, {2 * k * r + d * k, 4 * r}, [=](const Matrix<>& W) {
    return lowrank::dct_adamw<lowrank::ErrorFeedback>(W, {.rank = rank});
  });
  const double groups = std::ceil(d / 256) * k;
  add_recipe(with_rank("dct_adamw_error_feedback_8bit", s.r), s, {2 * k * r + 2 * groups, 4 * r + d * k}, [=](const Matrix<>& W) {
    return lowrank::dct_adamw(W, {.rank = rank}, lowrank::ErrorFeedback{.storage = lowrank::Storage::Int8});
  });
  add_recipe(with_rank("dct_adamw_error_feedback_4bit", s.r), s, {2 * k * r + 2 * groups, 4 * r + d * k / 2}, [=](const Matrix<>& W) {
    return lowrank::dct_adamw(W, {.rank = rank}, lowrank::ErrorFeedback{.storage = lowrank::Storage::Int4});
  });
  const double tiles = std::ceil(k / 64), scales = 2 * std::ceil(r * 64 / 256) * tiles;
  add_recipe(with_rank("galore_8bit", s.r), s, {d * r + scales, 2 * k * r}, [=](const Matrix<>& W) { return lowrank::galore_8bit(W, {.rank = rank}); });
  add_recipe(with_rank("q_galore", s.r), s, {2 * std::ceil(d / 256) * r + scales, d * r / 2 + 2 * k * r + 40},
             [=](const Matrix<>& W) { return lowrank::q_galore(W, {.rank = rank}); });

  add_accumulation(s, Gather::Gradients);
  add_accumulation(s, Gather::Projections);
}

void rows(bool) {
  add_shape({128, 344, 8});  // the same 32 times smaller, for a quick look
  add_shape({4096, 11008, 256});
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
