// robustness: what can be proved about a network, and does a Jacobian penalty help? Two half moons, a ReLU network
// trained with and without GrokAlign's penalty; then for every test sample, in the l_inf ball of a radius around it:
//
//   clean         right without any change
//   attacked      still right after projected gradient descent on the margin (an upper bound of the truth)
//   certified     proved right: margin > radius * (bound of the margin's local Lipschitz constant); by linear bounds,
//   and by
//                 branch and bound until the constant is exact or time is out (lower bounds of the truth)
//
// The constant is that of f_y - f_other in the l_inf norm over the ball, so nothing in the ball can change the answer.
#include <cstdio>
#include <exception>
#include <filesystem>

#include <CLI/CLI.hpp>

#include <lowrank/jacobian/branch_and_bound.hpp>

#include "examples/grokking/training.hpp"
#include "examples/pretrain/csv.hpp"
#include "examples/pretrain/svg.hpp"

namespace {

using namespace grokking;

struct Settings {
  Index hidden = 16, samples = 200, steps = 400, tested = 100;
  std::uint64_t seed = 0;
  double noise = 0.1, radius = 0.15, seconds = 2;
  std::vector<double> lambdas = {0, 0.01, 0.03, 0.1};
  std::string out = "robustness-out";
};

/// Two interleaved half circles with Gaussian noise.
Task<double> half_moons(const Settings& s) {
  Task<double> task;
  task.outputs = 2;
  std::uint64_t stream = 300;
  for (Split<double>* split : {&task.train, &task.test}) {
    split->X.resize(2, s.samples);
    Matrix<double> noise(2, s.samples);
    lowrank::fill_normal(noise.data(), noise.size(), s.seed, stream, 0);
    for (Index j = 0; j < s.samples; ++j) {
      const double angle = std::numbers::pi * uniform(s.seed, stream + 10, std::uint64_t(j));
      const bool upper = j % 2 == 0;
      split->X(0, j) = upper ? std::cos(angle) : 1 - std::cos(angle);
      split->X(1, j) = upper ? std::sin(angle) : 0.5 - std::sin(angle);
      split->labels.push_back(upper ? 0 : 1);
    }
    split->X += s.noise * noise;
    ++stream;
  }
  return task;
}

double margin(const jac::Mlp<double>& net, jac::Mlp<double>::Cache& cache, const jac::Vector<double>& x, Index label) {
  Matrix<double> y(2, 1);
  net.forward(jac::batch(x), cache, jac::batch(y));
  return y(label, 0) - y(1 - label, 0);
}

/// The smallest margin that signed gradient steps within the ball find, from the sample and from random starts.
double attacked_margin(const jac::Mlp<double>& net, jac::Mlp<double>::Cache& cache, const jac::Vector<double>& x0,
                       Index label, double radius, std::uint64_t seed) {
  Matrix<double> v(2, 1), q(2, 1);
  v(label, 0) = 1, v(1 - label, 0) = -1;
  double worst = margin(net, cache, x0, label);
  for (std::uint64_t start = 0; start < 5; ++start) {
    jac::Vector<double> x = x0;
    if (start > 0)
      for (Index i = 0; i < 2; ++i) x[i] += radius * (2 * uniform(seed, 400 + start, std::uint64_t(i)) - 1);
    for (int step = 0; step < 40; ++step) {
      worst = std::min(worst, margin(net, cache, x, label));
      net.vjp(cache, jac::batch(std::as_const(v)), jac::batch(q));
      for (Index i = 0; i < 2; ++i) {
        const double move = q(i, 0) > 0 ? -1 : q(i, 0) < 0 ? 1 : 0;
        x[i] = std::clamp(x[i] + 0.1 * radius * move, x0[i] - radius, x0[i] + radius);
      }
    }
    worst = std::min(worst, margin(net, cache, x, label));
  }
  return worst;
}

struct Outcome {
  double lambda, clean = 0, attacked = 0, certified_linear = 0, certified_exact = 0, constant = 0, bound = 0,
                 jacobian_norm = 0;
  Index unfinished = 0;  // samples whose constant was not exact in time
};

Outcome evaluate(const Settings& s, double lambda) {
  const Task<double> task = half_moons(s);
  jac::Mlp<double> start({2, s.hidden, s.hidden, 2}, {jac::Nonlinearity::Relu});
  start.randomize(s.seed, std::sqrt(2.0));
  MlpLearner<double> learner(start, s.samples);
  const Plan plan{.steps = s.steps, .eval_every = s.steps, .lr = 0.01, .lambda = lambda};
  const Run run = train(learner, task, lambda > 0 ? Method::GrokAlign : Method::WeightDecay, lowrank::AdamW{}, plan,
                        s.seed, [](const Row&) { return true; });

  Outcome o{.lambda = lambda};
  o.jacobian_norm = run.rows.back().jacobian_norm;
  const jac::DenseNetwork net(learner.net());
  auto cache = learner.net().cache(1, 1);
  const double share = 1 / double(s.tested);
  for (Index j = 0; j < s.tested; ++j) {
    const jac::Vector<double> x = task.test.X.col(j);
    const Index label = task.test.labels[std::size_t(j)];
    const double clean = margin(learner.net(), cache, x, label),
                 attacked = attacked_margin(learner.net(), cache, x, label, s.radius, s.seed + std::uint64_t(j));
    jac::Vector<double> w(2);
    w[label] = 1, w[1 - label] = -1;
    const jac::Box ball = jac::Box::around(x, s.radius);
    const double linear = jac::row_bounds(net, w, ball).norm;
    const jac::LipschitzResult exact = jac::local_lipschitz(net, w, ball, {.gap = 1e-6, .seconds = s.seconds});
    o.clean += share * (clean > 0);
    o.attacked += share * (attacked > 0);
    o.certified_linear += share * (clean > s.radius * linear);
    o.certified_exact += share * (clean > s.radius * exact.bound);
    o.constant += share * exact.bound;
    o.bound += share * linear;
    o.unfinished += exact.reason != jac::Stopped::GapClosed;
    if (clean > s.radius * exact.bound && attacked <= 0)
      throw std::logic_error("an attack succeeded where a proof said that none can");
  }
  return o;
}

int run(const Settings& s) {
  std::filesystem::create_directories(s.out);
  pretrain::CsvWriter csv(s.out + "/robustness.csv",
                          {"lambda", "clean", "attacked", "certified_linear", "certified_exact", "local_constant",
                           "linear_bound", "jacobian_norm"},
                          pretrain::CsvWriter::Open::Fresh);
  pretrain::Chart chart("Half moons, l_inf radius " + std::to_string(s.radius).substr(0, 4),
                        {.title = "weight of the penalty"}, {.title = "share of test samples"});
  pretrain::Series clean{.label = "clean", .points = {}, .mark = pretrain::Series::Mark::Dots},
      attacked = clean, linear = clean, exact = clean;
  attacked.label = "attacked", linear.label = "certified, linear", exact.label = "certified, exact";
  std::printf("%-8s %8s %9s %18s %18s %15s %13s %6s\n", "lambda", "clean", "attacked", "certified linear",
              "certified exact", "local constant", "linear bound", "|J|");
  for (const double lambda : s.lambdas) {
    const Outcome o = evaluate(s, lambda);
    std::printf(
        "%-8g %7.1f%% %8.1f%% %17.1f%% %17.1f%% %15.3f %13.3f %6.2f%s\n", o.lambda, 100 * o.clean, 100 * o.attacked,
        100 * o.certified_linear, 100 * o.certified_exact, o.constant, o.bound, o.jacobian_norm,
        o.unfinished > 0 ? ("  (" + std::to_string(o.unfinished) + " constants not exact in time)").c_str() : "");
    std::fflush(stdout);
    csv.row({pretrain::number(o.lambda), pretrain::number(o.clean), pretrain::number(o.attacked),
             pretrain::number(o.certified_linear), pretrain::number(o.certified_exact), pretrain::number(o.constant),
             pretrain::number(o.bound), pretrain::number(o.jacobian_norm)});
    clean.points.push_back({lambda, o.clean}), attacked.points.push_back({lambda, o.attacked});
    linear.points.push_back({lambda, o.certified_linear}), exact.points.push_back({lambda, o.certified_exact});
  }
  for (auto* series : {&clean, &attacked, &exact, &linear}) chart.add(*series);
  chart.write(s.out + "/robustness.svg");
  std::printf("\ntable and curves: %s\n", s.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  CLI::App app("Attacked and certified accuracy of networks trained with and without a Jacobian penalty.");
  app.add_option("--lambda", s.lambdas, "Weights of the penalty, one network each")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  app.add_option("--radius", s.radius, "Of the l_inf ball around each sample")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--hidden", s.hidden, "Units in each of two hidden layers")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--samples", s.samples, "Training samples, and as many for testing")
      ->check(CLI::Range(2, 100000))
      ->capture_default_str();
  app.add_option("--tested", s.tested, "Test samples that are attacked and certified")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--steps", s.steps, "Training steps")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--noise", s.noise, "Deviation of the noise on the moons")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seconds", s.seconds, "Limit of branch and bound for a sample")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", s.seed, "Of data, weights and projections")->capture_default_str();
  app.add_option("-o,--out", s.out, "Folder for the table (CSV) and the curves (SVG)")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  s.tested = std::min(s.tested, s.samples);
  try {
    return run(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "robustness: %s\n", e.what());
    return 1;
  }
}
