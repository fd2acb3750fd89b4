// Question: how much of two threads' speed is left when somebody else keeps one of the two cores busy? A loop pinned to the
// first core runs beside the step, so one thread has half of a core. The report holds these rows against those of the same
// step on free cores (bench/step.cpp), the library's and Eigen's, whose products are cut into one static part a thread.
#include <atomic>
#include <thread>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

#include <bench/support/naive.hpp>

#include <lowrank/recipes.hpp>

namespace bench {
namespace {

/// A thread that never waits, on the first core where the system lets it be pinned.
class Neighbour {
 public:
  Neighbour() : thread_([this] { while (!stop_.load(std::memory_order_relaxed)) benchmark::DoNotOptimize(this); }) {
#if defined(__linux__)
    cpu_set_t allowed, first;
    CPU_ZERO(&first);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
      for (int core = 0; core < CPU_SETSIZE && CPU_COUNT(&first) == 0; ++core)
        if (CPU_ISSET(core, &allowed)) CPU_SET(core, &first);
    pthread_setaffinity_np(thread_.native_handle(), sizeof first, &first);
#endif
  }
  ~Neighbour() {
    stop_ = true;
    thread_.join();
  }

  /// The one that all Cases alive share.
  static std::shared_ptr<Neighbour> get() {
    static std::weak_ptr<Neighbour> alive;
    auto shared = alive.lock();
    if (shared == nullptr) alive = shared = std::make_shared<Neighbour>();
    return shared;
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

template <int Order>
void add_galore(Index n, Index r) {
  const std::string name = "busy_core/" + with_rank("galore", r) + "/" + shape(n, n) + (Order == Eigen::RowMajor ? "/rows/" : "/columns/");
  const int threads = thread_counts().back();
  add(name + "lowrank", threads, [=]() -> Case {
    struct State {
      Matrix<Order> W, G;
      decltype(lowrank::galore(lowrank::View<float>{}, {})) optimizer;
      std::shared_ptr<Neighbour> neighbour;
      void step() { optimizer.step(W, G, {.lr = double(naive_lr)}); }
    };
    Matrix<Order> W = random_matrix<Order>(n, n, 1);
    auto optimizer = lowrank::galore(lowrank::view(W), {.rank = r});
    const auto x = std::make_shared<State>(State{std::move(W), random_matrix<Order>(n, n, 2), std::move(optimizer), nullptr});
    x->step();
    x->neighbour = Neighbour::get();
    return {[x] { x->step(); }};
  });
  add(name + "eigen", threads, [=]() -> Case {
    struct State {
      NaiveLowRank<Order> optimizer;
      Matrix<Order> W, G;
      std::shared_ptr<Neighbour> neighbour;
    };
    const auto x = std::make_shared<State>(State{NaiveLowRank<Order>(n, n, r, random_matrix<Order>(n, r, 3) / std::sqrt(float(n))),
                                                 random_matrix<Order>(n, n, 1), random_matrix<Order>(n, n, 2), Neighbour::get()});
    return {[x] { x->optimizer.galore(x->W, x->G); }};
  });
}

void rows(bool) {
  if (thread_counts().size() < 2) return;
  for (const Index r : {32, 128}) {
    add_galore<Eigen::ColMajor>(4096, r);
    add_galore<Eigen::RowMajor>(4096, r);
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
