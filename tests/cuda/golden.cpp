// Reference vectors of GaLore, Fira and APOLLO through the device's path, in double and in float. Bases are given: APOLLO's
// are part of the vectors, the others come from the CPU library's exact SVD, which is held against the same vectors.
#include <filesystem>

#include <cuda/both.hpp>
#include <support/golden.hpp>
#include <support/injected.hpp>

#include <lowrank/projector/svd.hpp>

// A projector of the tests' own is one specialisation, as on the CPU.
namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class S, class B>
class ProjectorState<support::Injected, S, B> : public DenseProjector<support::Injected, S, B> {
  using Base = DenseProjector<support::Injected, S, B>;

 public:
  static constexpr bool declines = false, compares = false;

  ProjectorState() = default;
  ProjectorState(const support::Injected& options, Index d, Index) : Base("Injected", options, d, d) {}

  struct Work {
    S *candidate = nullptr, *previous = nullptr;
    Work() = default;
    Work(Arena& arena, const ProjectorState& p) : candidate(arena.take<S>(p.basis_.size())) {}
  };
  template <class Intake>
  void refresh(B&, const Intake&, Work& work, Control<S>*, bool) {
    const Eigen::MatrixXd& basis = this->options_.bases->at(refreshes_++);
    for (Index i = 0; i < basis.size(); ++i) work.candidate[i] = S(basis.data()[i]);
  }

 private:
  std::size_t refreshes_ = 0;
};

}  // namespace cuda
}  // namespace lowrank

using namespace support;

namespace {

std::vector<std::string> names(const std::string& prefix, std::size_t expected) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(LOWRANK_TEST_DATA) + "/golden"))
    if (const auto name = entry.path().stem().string(); name.starts_with(prefix)) found.push_back(name);
  REQUIRE(found.size() == expected);
  return found;
}
lowrank::AdamW rule_of(const Golden& g) {
  return {.beta1 = g.number("b1"), .beta2 = g.number("b2"), .eps = g.number("eps"), .weight_decay = g.number("wd"),
          .epsilon = lowrank::Epsilon::BeforeCorrection, .decay_order = lowrank::DecayOrder::AfterUpdate};
}
template <class P>
P projector_of(const Golden& g) {
  P p;
  p.rank = std::int64_t(g.number("rank"));
  p.refresh_every = std::int64_t(g.number("gap"));
  const std::string type = g.text("proj_type");
  p.side = type == "std" ? lowrank::Side::Smaller : type == "reverse_std" ? lowrank::Side::Larger : type == "left" ? lowrank::Side::Left : lowrank::Side::Right;
  return p;
}

/// The exact bases of the reference's trajectory.
template <class L>
std::vector<Eigen::MatrixXd> exact_bases(const Golden& g, const L& lift) {
  Eigen::MatrixXd W = g.matrix("W0");
  lowrank::Optimizer opt(W, projector_of<lowrank::Svd>(g), rule_of(g), lift);
  std::vector<Eigen::MatrixXd> bases;
  for (lowrank::Index t = 0; t < lowrank::Index(g.number("steps")); ++t)
    if (opt.step(W, g.matrix("G", t), {.lr = g.number("lr")}).refreshed) {
      const auto& b = opt.projection().basis();
      bases.push_back(Eigen::Map<const Eigen::MatrixXd>(b.data(), b.rows(), b.cols()));
    }
  return bases;
}

template <class S, class L>
void check(const Golden& g, const std::vector<Eigen::MatrixXd>& bases, const L& lift, bool by_rows, double tolerance) {
  HostDevice machine;
  Injected projector = projector_of<Injected>(g);
  projector.bases = &bases;
  Padded<S> w(g.matrix("W0").rows(), g.matrix("W0").cols(), by_rows, 3), gradient(w.rows, w.cols, !by_rows, 1);
  w.set(g.matrix("W0"));
  lc::Optimizer opt(machine, w.device(), projector, rule_of(g), lift);
  for (lowrank::Index t = 0; t < lowrank::Index(g.number("steps")); ++t) {
    INFO("step " << t);
    gradient.set(g.matrix("G", t));
    CHECK(opt.step(w.device(), gradient.device(), {.lr = g.number("lr")}).refreshed == (t % lowrank::Index(g.number("gap")) == 0));
    CHECK(relative_error(w.values(), g.matrix("W", t)) < tolerance);
  }
  opt.visit([&](const char* name, const auto& x) {
    if (std::string(name) == "basis") return;
    Eigen::MatrixXd m(x.rows(), x.cols());
    for (lowrank::Index i = 0; i < m.size(); ++i) m.data()[i] = double(x.data()[i]);
    if (opt.transposed()) m.transposeInPlace();
    CHECK(relative_error(m, g.matrix(name)) < tolerance);
  });
}

template <class L>
void check_all(const Golden& g, const std::vector<Eigen::MatrixXd>& bases, const L& lift) {
  for (const bool by_rows : {false, true}) {
    check<double>(g, bases, lift, by_rows, 1e-9);
    check<float>(g, bases, lift, by_rows, 2e-6);
  }
}

}  // namespace

TEST_CASE("GaLore's and Fira's reference vectors on the device's path", "[cuda][golden]") {
  for (const auto& name : names("galore_adamw.", 15)) {
    INFO(name);
    const Golden g(name);
    if (g.text("proj_type") == "full") continue;  // two-sided: on the CPU only
    const lowrank::BackProject lift{.scale = g.number("scale")};
    check_all(g, exact_bases(g, lift), lift);
  }
  for (const auto& name : names("fira_adamw.", 12)) {
    INFO(name);
    const Golden g(name);
    const lowrank::Residual lift{.scale = g.number("scale")};
    check_all(g, exact_bases(g, lift), lift);
  }
}

TEST_CASE("APOLLO's reference vectors on the device's path", "[cuda][golden]") {
  for (const auto& name : names("apollo_adamw.", 6)) {
    INFO(name);
    const Golden g(name);
    std::vector<Eigen::MatrixXd> bases;
    for (lowrank::Index i = 0; i < g.shape("P")[0]; ++i) {
      const Eigen::MatrixXd P = g.matrix("P", i);
      bases.push_back(P.rows() == lowrank::Index(g.number("rank")) ? P.transpose() : P);
    }
    check_all(g, bases, lowrank::ChannelScale{.scale = g.number("scale"),
                                              .granularity = g.text("scale_type") == "tensor" ? lowrank::Granularity::Tensor : lowrank::Granularity::Channel});
  }
}
