// Reference vectors of GaLore, Fira and APOLLO: to 1e-9 in double with the exact SVD, and in float on the double bases.
#include <filesystem>
#include <map>

#include <support/catch.hpp>
#include <support/golden.hpp>
#include <support/injected.hpp>
#include <support/placed.hpp>

#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/svd.hpp>
#include <lowrank/projector/two_sided_svd.hpp>
#include <lowrank/rule/adamw.hpp>

using namespace support;
using namespace lowrank;

namespace {

/// Names of the reference vectors that begin so.
std::vector<std::string> cases(const std::string& prefix, std::size_t expected) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(LOWRANK_TEST_DATA) + "/golden"))
    if (const auto name = entry.path().stem().string(); name.starts_with(prefix)) names.push_back(name);
  REQUIRE(names.size() == expected);
  return names;
}

AdamW rule_of(const Golden& g) {
  return {.beta1 = g.number("b1"), .beta2 = g.number("b2"), .eps = g.number("eps"), .weight_decay = g.number("wd"),
          .epsilon = Epsilon::BeforeCorrection, .decay_order = DecayOrder::AfterUpdate};
}

Side side_of(const Golden& g) {
  const std::string type = g.text("proj_type");
  if (type == "std") return Side::Smaller;
  if (type == "reverse_std") return Side::Larger;
  if (type == "left") return Side::Left;
  REQUIRE(type == "right");
  return Side::Right;
}

template <class P>
P projector_of(const Golden& g) {
  P p;
  p.rank = std::int64_t(g.number("rank"));
  p.refresh_every = std::int64_t(g.number("gap"));
  if constexpr (requires { p.side; }) p.side = side_of(g);
  return p;
}

/// A moment as the reference keeps it: for a right-hand projection the transpose of the canonical one.
template <class O>
Eigen::MatrixXd moment(const O& optimizer, std::string_view name) {
  Eigen::MatrixXd m;
  optimizer.visit([&](const char* field, const auto& value) {
    if constexpr (requires { value.column(0); }) {
      if (name != field) return;
      m.resize(value.rows(), value.cols());
      for (Index j = 0; j < value.cols(); ++j)
        for (Index i = 0; i < value.rows(); ++i) m(i, j) = double(value(i, j));
    }
  });
  if (optimizer.transposed()) return m.transpose();
  return m;
}

/// The whole trajectory, and the moments at its end. Returns the basis after every refresh.
template <class S, class P, class L>
std::vector<Eigen::MatrixXd> check(const Golden& g, P projector, L lift, Order order, double tolerance) {
  Placed<S> w(g.matrix("W0"), order);
  Optimizer optimizer(w.view(), projector, rule_of(g), lift);
  std::vector<Eigen::MatrixXd> bases;
  const double lr = g.number("lr");
  for (Index t = 0; t < Index(g.number("steps")); ++t) {
    const Placed<S> gradient(g.matrix("G", t), order);
    const Report report = optimizer.step(w.view(), gradient.view(), {.lr = lr});
    CHECK_FALSE(report.skipped);
    CHECK(report.refreshed == (t % Index(g.number("gap")) == 0));
    INFO("step " << t);
    CHECK(relative_error(w.values(), g.matrix("W", t)) < tolerance);
    if constexpr (requires { optimizer.projection().basis(); })
      if (report.refreshed) {
        const auto& b = optimizer.projection().basis();
        Eigen::MatrixXd basis(b.rows(), b.cols());
        for (Index i = 0; i < basis.size(); ++i) basis.data()[i] = double(b.data()[i]);
        bases.push_back(basis);
      }
  }
  CHECK(relative_error(moment(optimizer, "exp_avg"), g.matrix("exp_avg")) < tolerance);
  CHECK(relative_error(moment(optimizer, "exp_avg_sq"), g.matrix("exp_avg_sq")) < tolerance);
  return bases;
}

constexpr double exact = 1e-9, in_float = 2e-6;

}  // namespace

TEST_CASE("GaLore", "[golden]") {
  for (const auto& name : cases("galore_adamw.", 15))
    for (const Order order : {Order::Rows, Order::Columns}) {
      INFO(name);
      const Golden g(name);
      const BackProject lift{.scale = g.number("scale")};
      if (g.text("proj_type") == "full") {
        check<double>(g, projector_of<TwoSidedSvd>(g), lift, order, exact);
        continue;
      }
      const auto bases = check<double>(g, projector_of<Svd>(g), lift, order, exact);
      auto injected = projector_of<Injected>(g);
      injected.bases = &bases;
      check<float>(g, injected, lift, order, in_float);
    }
}

TEST_CASE("Fira", "[golden]") {
  for (const auto& name : cases("fira_adamw.", 12))
    for (const Order order : {Order::Rows, Order::Columns}) {
      INFO(name);
      const Golden g(name);
      const Residual lift{.scale = g.number("scale")};
      const auto bases = check<double>(g, projector_of<Svd>(g), lift, order, exact);
      auto injected = projector_of<Injected>(g);
      injected.bases = &bases;
      check<float>(g, injected, lift, order, in_float);
    }
}

TEST_CASE("APOLLO and APOLLO-Mini", "[golden]") {
  for (const auto& name : cases("apollo_adamw.", 6))
    for (const Order order : {Order::Rows, Order::Columns}) {
      INFO(name);
      const Golden g(name);
      const ChannelScale lift{.scale = g.number("scale"),
                              .granularity = g.text("scale_type") == "tensor" ? Granularity::Tensor : Granularity::Channel};
      auto injected = projector_of<Injected>(g);
      std::vector<Eigen::MatrixXd> bases;
      for (Index i = 0; i < g.shape("P")[0]; ++i) {
        const Eigen::MatrixXd P = g.matrix("P", i);
        bases.push_back(P.rows() == injected.rank ? P.transpose() : P);
      }
      injected.bases = &bases;
      check<double>(g, injected, lift, order, exact);
      check<float>(g, injected, lift, order, in_float);
    }
}

TEST_CASE("Every reference vector of these methods is read by a test", "[golden]") {
  // the tests above, DCT-AdamW's (48: three shapes, two bases, eight variants) and the transform's (ten lengths) each
  // demand their number of files; there must not be more
  const std::map<std::string, std::size_t> families{{"galore_adamw", 15}, {"fira_adamw", 12}, {"apollo_adamw", 6}, {"dct_adamw", 48}, {"dct", 10}};
  std::map<std::string, std::size_t> found;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(LOWRANK_TEST_DATA) + "/golden")) {
    const std::string name = entry.path().filename().string();
    ++found[name.substr(0, name.find('.'))];
  }
  for (const auto& [family, files] : families) {
    INFO(family);
    CHECK(found[family] == files);
  }
}
