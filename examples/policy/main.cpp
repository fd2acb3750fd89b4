// policy: a Linear Policy Net learns by imitation to keep a point mass on a figure of eight, with and without the
// action Jacobian penalty. The teacher is a stiff controller that saturates; the policy sees noisy states. What the
// penalty buys is smoothness, what it costs is tracking: both are measured in closed loop.
//
//   state s: position and velocity minus the reference (4), action a: force (2), context phi: the phase as two
//   harmonics
//   a = K(phi) s + k_ff(phi) + a_ref,   L = mean |a - a_teacher|^2 + w mean |K|_F^2
#include <cstdio>
#include <exception>
#include <filesystem>
#include <numbers>

#include <CLI/CLI.hpp>

#include <lowrank/jacobian/linear_policy.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/rule/adamw.hpp>

#include "examples/pretrain/csv.hpp"
#include "examples/pretrain/svg.hpp"

namespace {

using lowrank::Index;
using namespace lowrank::jacobian;

struct Settings {
  std::vector<double> weights = {0, 0.003, 0.01, 0.03, 0.1};
  Index rank = 0, steps = 1500, batch = 128, hidden = 32;
  double sensor_noise = 0.02;
  std::uint64_t seed = 0;
  std::string out = "policy-out";
};

constexpr double period = 6, dt = 0.02, limit = 12;  // seconds, seconds, force on a mass of one

struct Reference {
  Eigen::Vector2d position, velocity, force;
};
/// (sin t, sin 2t / 2) at angular speed 2 pi / period.
Reference reference(double time) {
  const double w = 2 * std::numbers::pi / period, t = w * time;
  return {{std::sin(t), 0.5 * std::sin(2 * t)},
          {w * std::cos(t), w * std::cos(2 * t)},
          {-w * w * std::sin(t), -2 * w * w * std::sin(2 * t)}};
}
Vector<double> context(double time) {
  const double t = 2 * std::numbers::pi * time / period;
  return (Vector<double>(4) << std::sin(t), std::cos(t), std::sin(2 * t), std::cos(2 * t)).finished();
}
/// What the teacher adds to the reference force.
Eigen::Vector2d teacher(const Eigen::Vector4d& s) {
  const Eigen::Vector2d a = -60 * s.head<2>() - 11 * s.tail<2>();
  return a.cwiseMax(-limit).cwiseMin(limit);
}

LinearPolicyNet<double> learn(const Settings& s, double weight) {
  const LinearPolicy layer{.actions = 2, .states = 4, .rank = s.rank};
  Mlp<double> generator({4, s.hidden, layer.outputs()}, {Nonlinearity::Tanh});
  generator.randomize(s.seed, 1);
  LinearPolicyNet<double> net(std::move(generator), layer, 4);
  auto cache = net.cache(s.batch);
  auto grads = net.grads();
  using Step = lowrank::Optimizer<double, lowrank::Identity, lowrank::AdamW>;
  std::vector<Step> optimizers;
  const auto visit = [&](const auto& f) {
    for (std::size_t l = 0; l < grads.size(); ++l) {
      f(net.generator().layers()[l].weight, grads[l].weight);
      f(net.generator().layers()[l].bias, grads[l].bias);
    }
  };
  visit([&](auto& w, auto&) { optimizers.emplace_back(w, lowrank::Identity{}, lowrank::AdamW{}); });
  Matrix<double> Z(8, s.batch), A(2, s.batch), noise(4, s.batch);
  for (Index step = 0; step < s.steps; ++step) {
    lowrank::fill_normal(noise.data(), noise.size(), s.seed, 600, std::uint64_t(step * noise.size()));
    for (Index b = 0; b < s.batch; ++b) {
      const double u = double(lowrank::uniform_bits(s.seed, 601, std::uint64_t(step * s.batch + b))) * 0x1p-32;
      Z.col(b).head(4) = context(period * u);
      Z.col(b).tail(4) << 0.1 * noise.col(b).head(2), 0.4 * noise.col(b).tail(2);
    }
    net.forward(batch(std::as_const(Z)), cache, batch(A));
    for (Index b = 0; b < s.batch; ++b) A.col(b).head<2>() = (A.col(b).head<2>() - teacher(Z.col(b).tail<4>())) * (2 / double(s.batch));
    Mlp<double>::set_zero(grads);
    net.add_gradient(cache, batch(std::as_const(A)), weight, grads);
    std::size_t i = 0;
    const double lr = 0.01 * (1 - 0.9 * double(step) / double(s.steps));
    visit([&](auto& w, auto& g) { optimizers[i++].step(w, g, {.lr = lr}); });
  }
  return net;
}

struct Outcome {
  double gain = 0;            // mean |K|_F
  double tracking = 0;        // root mean square distance to the reference
  double smoothness = 0;      // mean |a_t - a_{t-1}|
  double fast = 0;            // share of the action's power above 10 Hz
  double jerk = 0;            // mean |third difference of the position| / dt^3
  std::vector<double> force;  // first component over time
};

/// Two periods in closed loop; the first is left out of the measures.
Outcome drive(const LinearPolicyNet<double>& net, const Settings& s) {
  auto cache = net.cache(1);
  const Index steps = Index(std::lround(2 * period / dt)), begin = steps / 2;
  Eigen::Vector2d position(0.2, -0.1), velocity = reference(0).velocity;
  Matrix<double> z(8, 1), a(2, 1), noise(4, steps);
  lowrank::fill_normal(noise.data(), noise.size(), s.seed, 602, 0);
  Outcome o;
  std::vector<Eigen::Vector2d> actions, path;
  for (Index t = 0; t < steps; ++t) {
    const Reference r = reference(double(t) * dt);
    Eigen::Vector4d state;
    state << position - r.position, velocity - r.velocity;
    z.col(0).head(4) = context(double(t) * dt);
    z.col(0).tail<4>() = state + s.sensor_noise * noise.col(t).head<4>();
    net.forward(batch(std::as_const(z)), cache, batch(a));
    const Eigen::Vector2d force = (a.col(0) + r.force).cwiseMax(-2 * limit).cwiseMin(2 * limit);
    velocity += dt * force;
    position += dt * velocity;
    if (t < begin) continue;
    o.gain += net.gain(cache, 0).norm() / double(steps - begin);
    o.tracking += state.head<2>().squaredNorm() / double(steps - begin);
    actions.push_back(force);
    path.push_back(position);
    o.force.push_back(force[0]);
  }
  o.tracking = std::sqrt(o.tracking);
  for (std::size_t t = 1; t < actions.size(); ++t)
    o.smoothness += (actions[t] - actions[t - 1]).norm() / double(actions.size() - 1);
  for (std::size_t t = 3; t < path.size(); ++t)
    o.jerk +=
        (path[t] - 3 * path[t - 1] + 3 * path[t - 2] - path[t - 3]).norm() / (dt * dt * dt) / double(path.size() - 3);
  // power of frequency k / period for both components, without the mean
  const auto n = Index(actions.size());
  double all = 0, above = 0;
  for (Index k = 1; k <= n / 2; ++k)
    for (int i = 0; i < 2; ++i) {
      double re = 0, im = 0;
      for (Index t = 0; t < n; ++t) {
        const double angle = 2 * std::numbers::pi * double(k * t % n) / double(n);
        re += actions[std::size_t(t)][i] * std::cos(angle);
        im += actions[std::size_t(t)][i] * std::sin(angle);
      }
      all += re * re + im * im;
      if (double(k) / (double(n) * dt) > 10) above += re * re + im * im;
    }
  o.fast = above / all;
  return o;
}

int run(const Settings& s) {
  std::filesystem::create_directories(s.out);
  pretrain::CsvWriter csv(s.out + "/policy.csv", {"weight", "gain", "tracking", "smoothness", "fast", "jerk"},
                          pretrain::CsvWriter::Open::Fresh);
  pretrain::Chart chart("Force along x over one period", {.title = "seconds"}, {.title = "force"});
  std::printf("%-10s %8s %10s %12s %12s %10s\n", "weight", "|K|", "tracking", "|a - a'|", "above 10 Hz", "jerk");
  for (const double weight : s.weights) {
    const Outcome o = drive(learn(s, weight), s);
    std::printf("%-10g %8.2f %10.4f %12.4f %11.1f%% %10.2f\n", weight, o.gain, o.tracking, o.smoothness, 100 * o.fast,
                o.jerk);
    std::fflush(stdout);
    csv.row({pretrain::number(weight), pretrain::number(o.gain), pretrain::number(o.tracking),
             pretrain::number(o.smoothness), pretrain::number(o.fast), pretrain::number(o.jerk)});
    pretrain::Series series{.label = "w = " + pretrain::number(weight), .points = {}};
    for (std::size_t t = 0; t < o.force.size(); ++t) series.points.push_back({double(t) * dt, o.force[t]});
    chart.add(std::move(series));
  }
  chart.write(s.out + "/policy.svg");
  std::printf("\ntable and curves: %s\n", s.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  CLI::App app("A Linear Policy Net with and without the action Jacobian penalty on a point mass.");
  app.add_option("-w,--weight", s.weights, "Weights of the penalty, one policy each")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  app.add_option("--rank", s.rank, "Of the gain; 0: full")->check(CLI::Range(0, 4))->capture_default_str();
  app.add_option("--steps", s.steps, "Training steps")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--sensor-noise", s.sensor_noise, "Deviation of the noise on the states the policy sees")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", s.seed, "Of weights, states and noise")->capture_default_str();
  app.add_option("-o,--out", s.out, "Folder for the table (CSV) and the curves (SVG)")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return run(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "policy: %s\n", e.what());
    return 1;
  }
}
