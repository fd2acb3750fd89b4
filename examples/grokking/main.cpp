// grokking: does a penalty on the Jacobian make a network generalise earlier? Weight decay alone, GrokAlign, Grokfast
// and a Jacobian held at a level, on tasks where the test accuracy comes long after the training accuracy.
//
//   grokking                                      XOR clusters at a size that takes seconds
//   grokking --task xor --full                    the paper's size (40000 features; hours, and it says how many are left)
//   grokking --task addition                      a + b mod p by a multilayer perceptron
//   grokking --task addition --transformer        the same by a transformer block
//   grokking --task digits --images F --labels F  1024 images of local IDX files, and as many to test with
//
// Set-ups: Walker, Humayun, Balestriero, Baraniuk: GrokAlign, arXiv 2506.12284.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>

#include <CLI/CLI.hpp>

#include "examples/grokking/progress.hpp"
#include "examples/grokking/training.hpp"
#include "examples/pretrain/csv.hpp"
#include "examples/pretrain/interrupt.hpp"
#include "examples/pretrain/svg.hpp"

namespace {

using namespace grokking;

enum class TaskKind { Xor, Addition, Digits };

struct Settings {
  TaskKind task = TaskKind::Xor;
  bool full = false, transformer = false;
  std::string images, labels, out = "grokking-out";
  Index seeds = 3, modulus = 23, hidden = -1, samples = 1024;
  double train_share = 0.7, weight_decay = -1;
  Index steps = -1;
  double lambda = -1, lr = -1;
};

/// A finished run.
struct Result {
  Method method;
  std::uint64_t seed;
  Run run;
};

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x.empty() ? 0 : (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
}

void write_tables(const Settings& s, const std::vector<Result>& results) {
  pretrain::CsvWriter csv(s.out + "/runs.csv",
                          {"method", "seed", "step", "loss", "train_accuracy", "test_accuracy", "jacobian_alignment",
                           "centroid_alignment", "jacobian_norm"},
                          pretrain::CsvWriter::Open::Fresh);
  for (const Result& r : results)
    for (const Row& row : r.run.rows)
      csv.row({name(r.method), std::to_string(r.seed), std::to_string(row.step), pretrain::number(row.loss),
               pretrain::number(row.train_accuracy), pretrain::number(row.test_accuracy),
               pretrain::number(row.alignment), pretrain::number(row.centroid), pretrain::number(row.jacobian_norm)});
  struct Curve {
    const char *file, *title;
    double Row::*value;
  };
  for (const Curve& c : {Curve{"test_accuracy", "Test accuracy", &Row::test_accuracy},
                         {"train_accuracy", "Training accuracy", &Row::train_accuracy},
                         {"alignment", "Jacobian alignment |Jx| / (|J| |x|)", &Row::alignment},
                         {"jacobian_norm", "Norm of the Jacobian", &Row::jacobian_norm}}) {
    pretrain::Chart chart(std::string(c.title) + ", mean over seeds", {.title = "step"}, {.title = c.title});
    for (const Method m : {Method::WeightDecay, Method::GrokAlign, Method::Grokfast, Method::Hold}) {
      std::map<Index, std::pair<double, int>> sums;
      for (const Result& r : results)
        if (r.method == m)
          for (const Row& row : r.run.rows) sums[row.step].first += row.*c.value, ++sums[row.step].second;
      pretrain::Series series{.label = name(m), .points = {}};
      for (const auto& [step, sum] : sums) series.points.push_back({double(step), sum.first / sum.second});
      if (!series.points.empty()) chart.add(std::move(series));
    }
    chart.write(s.out + "/" + c.file + ".svg");
  }
}

/// Steps to an accuracy on the test samples per seed, and what GrokAlign and the others gain over weight decay.
void print_table(const Settings& s, const Plan& plan, double accuracy, const std::vector<Result>& results) {
  std::printf("\nsteps to %.0f %% test accuracy (- not within %ld)\n%-10s", 100 * accuracy, long(plan.steps), "");
  for (Index seed = 0; seed < s.seeds; ++seed) std::printf("  seed %-3ld", long(seed));
  std::printf("    median    against decay\n");
  double plain = 0;
  bool plain_learned = true;
  for (const Method m : {Method::WeightDecay, Method::GrokAlign, Method::Grokfast, Method::Hold}) {
    std::vector<double> steps;
    bool all = true;
    if (std::none_of(results.begin(), results.end(), [&](const Result& r) { return r.method == m; })) continue;
    std::printf("%-10s", name(m));
    for (const Result& r : results) {
      if (r.method != m) continue;
      const auto learned = r.run.learned(accuracy);
      all = all && learned;
      steps.push_back(double(learned.value_or(plan.steps)));
      if (learned) std::printf("  %-8ld", long(*learned));
      else std::printf("  %-8s", "-");
    }
    const double middle = median(steps);
    if (m == Method::WeightDecay) plain = middle, plain_learned = all;
    const double gain = middle > 0 ? plain / middle : 0;
    std::printf(
        "%s%8.0f    %s\n", all ? "  " : " >", middle,
        m == Method::WeightDecay
            ? ""
            : (gain > 1.05   ? (plain_learned ? "" : "at least ") + std::to_string(gain).substr(0, 4) + "x fewer steps"
               : gain < 0.95 ? "does not help: " + std::to_string(1 / gain).substr(0, 4) + "x more steps"
                             : std::string("does not help: the same"))
                  .c_str());
  }
}

template <class S, class MakeTask, class MakeLearner, class Rule>
int compare(const Settings& s, Plan plan, const Rule& rule, const MakeTask& make_task,
            const MakeLearner& make_learner) {
  if (s.steps > 0) plan.steps = s.steps;
  if (s.lambda >= 0) plan.lambda = s.lambda;
  if (s.lr > 0) plan.lr = s.lr;
  std::filesystem::create_directories(s.out);
  Progress progress(4 * s.seeds, plan.steps);
  std::vector<Result> results;
  for (Index seed = 0; seed < s.seeds && !pretrain::Interrupt::asked(); ++seed) {
    const Task<S> task = make_task(std::uint64_t(seed));
    for (const Method m : {Method::WeightDecay, Method::GrokAlign, Method::Grokfast, Method::Hold}) {
      progress.begin(name(m), seed);
      auto learner = make_learner(std::uint64_t(seed), task);
      results.push_back(
          {m, std::uint64_t(seed), train(learner, task, m, rule, plan, std::uint64_t(seed), [&](const Row& row) {
             progress.show(row);
             return !pretrain::Interrupt::asked();
           })});
      progress.finish(results.back().run.rows.back());
      if (pretrain::Interrupt::asked()) break;
    }
  }
  write_tables(s, results);
  for (const double accuracy : {0.95, 0.99}) print_table(s, plan, accuracy, results);
  std::printf("\ncurves and table: %s\n", s.out.c_str());
  return 0;
}

jac::Mlp<float> mlp(const std::vector<Index>& dims, double gain, std::uint64_t seed) {
  jac::Mlp<float> net(dims, {jac::Nonlinearity::Relu}, jac::Mlp<float>::Bias::Without);
  net.randomize(seed, gain);
  return net;
}

int run(const Settings& s) {
  const double decay = s.weight_decay;
  if (s.task == TaskKind::Xor) {
    XorSize size = s.full ? full_xor : small_xor;
    if (s.hidden > 0) size.hidden = s.hidden;
    return compare<double>(
        s, {.steps = s.full ? 1000 : 300, .lambda = s.full ? 1 : 0.3, .level = 0.5, .hold = 0.3},
        lowrank::Sgd{.weight_decay = decay >= 0 ? decay : 0.1},
        [&](std::uint64_t seed) { return xor_clusters<double>(size, seed); },
        [&](std::uint64_t seed, const auto&) { return xor_learner(size, seed); });
  }
  if (s.task == TaskKind::Digits) {
    if (s.images.empty() || s.labels.empty())
      throw std::runtime_error("--task digits needs --images and --labels, two local IDX files");
    return compare<float>(
        s, {.steps = 2000, .batch = 256, .eval_every = 20, .lr = 1e-3, .lambda = 1e-3, .level = 5},
        lowrank::AdamW{.weight_decay = decay >= 0 ? decay : 0.01},
        [&](std::uint64_t seed) { return digits<float>(s.images, s.labels, s.samples, seed); },
        // eight times PyTorch's U(+-1/sqrt(fan-in)), whose deviation is 1 / sqrt(3 fan-in)
        [&](std::uint64_t seed, const auto& task) {
          return MlpLearner<float>(mlp({task.train.X.rows(), 196, 196, 196, 10}, 8 / std::sqrt(3.0), seed), 256);
        });
  }
  const Index p = s.modulus;
  const Plan plan{.steps = 3000, .eval_every = 25, .lr = 3e-3, .lambda = 1e-3, .level = 5};
  const lowrank::AdamW rule{.beta2 = 0.98, .weight_decay = decay >= 0 ? decay : 1.0};
  const auto task = [&](std::uint64_t seed) { return modular_addition<float>(p, s.train_share, seed); };
  if (s.transformer)
    return compare<float>(s, plan, rule, task, [&](std::uint64_t seed, const auto& t) {
      jac::Transformer<float> net({.tokens = 3, .width = 32, .heads = 4, .hidden = 128, .outputs = p},
                                  {jac::Nonlinearity::Relu});
      net.randomize(seed, 1);
      return TransformerLearner<float>(std::move(net), p, seed, t.train.size());
    });
  return compare<float>(s, plan, rule, task, [&](std::uint64_t seed, const auto& t) {
    return MlpLearner<float>(mlp({2 * p, 128, p}, 1, seed), t.train.size());
  });
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  CLI::App app("Weight decay alone, GrokAlign, Grokfast and a held Jacobian norm on tasks that are learned late.");
  const std::map<std::string, TaskKind> tasks{
      {"xor", TaskKind::Xor}, {"addition", TaskKind::Addition}, {"digits", TaskKind::Digits}};
  app.add_option("-t,--task", s.task, "xor, addition or digits")->transform(CLI::CheckedTransformer(tasks));
  app.add_flag("--full", s.full, "XOR at the paper's size");
  app.add_flag("--transformer", s.transformer, "Addition by a transformer block instead of a multilayer perceptron");
  app.add_option("--images", s.images, "IDX file of images")->check(CLI::ExistingFile);
  app.add_option("--labels", s.labels, "IDX file of their labels")->check(CLI::ExistingFile);
  app.add_option("--samples", s.samples, "Images to train with, and as many others to test with")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  app.add_option("-o,--out", s.out, "Folder for curves (SVG) and the table (CSV)")->capture_default_str();
  app.add_option("--seeds", s.seeds, "Runs per method")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--steps", s.steps, "Steps; default: of the task")->check(CLI::PositiveNumber);
  app.add_option("--lambda", s.lambda, "Weight of GrokAlign; default: of the task")->check(CLI::NonNegativeNumber);
  app.add_option("--lr", s.lr, "Learning rate; default: of the task")->check(CLI::PositiveNumber);
  app.add_option("--weight-decay", s.weight_decay, "Default: of the task")->check(CLI::NonNegativeNumber);
  app.add_option("--modulus", s.modulus, "Of the addition")->check(CLI::Range(2, 1000))->capture_default_str();
  app.add_option("--train-share", s.train_share, "Of all pairs of the addition")
      ->check(CLI::Range(0.05, 0.95))
      ->capture_default_str();
  app.add_option("--hidden", s.hidden, "Hidden units for XOR clusters; default: 128, --full 2048")
      ->check(CLI::Range(1, 100000));
  CLI11_PARSE(app, argc, argv);
  pretrain::Interrupt::watch();
  try {
    return run(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "grokking: %s\n", e.what());
    return 1;
  }
}
