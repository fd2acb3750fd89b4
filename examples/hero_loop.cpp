#include <cstdio>
#include <lowrank/lowrank.hpp>

int main() {
  Eigen::MatrixXf W = Eigen::MatrixXf::Zero(512, 256), X(256, 512), A(512, 16), B(16, 256);
  for (auto* m : {&X, &A, &B}) lowrank::fill_normal(m->data(), m->size(), 0, std::uint64_t(m->rows()), 0);

  lowrank::Optimizer opt(W, lowrank::Subspace{.rank = 32, .refresh_every = 10},  // where the gradient lives
                         lowrank::AdamW{.beta2 = 0.99},                          // what happens there
                         lowrank::BackProject{.scale = 1});                      // how it comes back
  for (int t = 0; t <= 200; ++t) {
    const Eigen::MatrixXf error = W * X - A * (B * X), G = error * X.transpose();
    const auto report = opt.step(W, G, {.lr = lowrank::cosine(t, 200)});
    if (t % 50 == 0) std::printf("step %3d  loss %9.3f  in the subspace %5.1f %%\n", t, error.squaredNorm() / float(error.size()), 100 * report.captured);
  }
  std::printf("optimizer state: %zu KiB; AdamW's: %zu KiB\n", opt.state_bytes() >> 10, sizeof(float) * 2 * 512 * 256 >> 10);
}
