// Reference vectors of DCT-AdamW: both bases and scores, with and without error feedback and rotation, to 1e-9.
#include <support/catch.hpp>
#include <support/golden.hpp>
#include <support/placed.hpp>

#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/rule/adamw.hpp>

using namespace support;
using namespace lowrank;
using Eigen::MatrixXd;

namespace {

/// The orthonormal matrix whose columns are the basis vectors.
MatrixXd basis(Index d, DctBasis kind) {
  MatrixXd b(d, d);
  for (Index q = 0; q < d; ++q)
    for (Index j = 0; j < d; ++j)
      b(j, q) = std::sqrt((q == 0 ? 1 : 2) / double(d)) *
                std::cos(std::acos(-1.0) * double(q * (2 * j + 1)) / double(2 * d));
  return kind == DctBasis::Cosines ? b : MatrixXd(b.transpose());
}

/// A field of the state as the reference keeps it, rows by columns of the user.
template <class O>
MatrixXd field(const O& optimizer, std::string_view wanted) {
  MatrixXd m;
  optimizer.visit([&](const char* name, const auto& value) {
    if constexpr (requires { value.column(0); })
      if (wanted == name) {
        m.resize(value.rows(), value.cols());
        for (Index i = 0; i < m.size(); ++i) m.data()[i] = double(value.data()[i]);
      }
  });
  return m;
}

template <class S, class L>
void check(const Golden& g, L lift, DctRoute route, Order order, double tolerance) {
  const DctBasis kind = g.text("basis") == "dct2" ? DctBasis::Cosines : DctBasis::Transposed;
  const Dct projector{.rank = std::int64_t(g.number("rank")),
                      .refresh_every = std::int64_t(g.number("gap")),
                      .transport = g.number("rotate") == 1 ? Transport::Rotate : Transport::Keep,
                      .basis = kind,
                      .score = g.number("ell") == 1 ? Score::L1 : Score::L2,
                      .route = route};
  const AdamW rule{.beta1 = g.number("b1"), .beta2 = g.number("b2"), .eps = g.number("eps"), .weight_decay = g.number("wd")};
  Placed<S> w(g.matrix("W0"), order);
  Optimizer optimizer(w.view(), projector, rule, lift);
  for (Index t = 0; t < Index(g.number("steps")); ++t) {
    INFO("step " << t + 1);
    const Placed<S> gradient(g.matrix("G", t), order);
    const Report report = optimizer.step(w.view(), gradient.view(), {.lr = g.number("lr")});
    CHECK(report.refreshed == (t == 0 || (t + 1) % Index(g.number("gap")) == 0));
    const MatrixXd indices = g.matrix("indices", t);
    for (Index i = 0; i < indices.size(); ++i) REQUIRE(optimizer.projection().indices()[i] == std::int32_t(indices(i)));
    CHECK(relative_error(w.values(), g.matrix("W", t)) < tolerance);
  }
  const auto user = [&](const MatrixXd& m) { return optimizer.transposed() ? MatrixXd(m.transpose()) : m; };
  CHECK(relative_error(user(field(optimizer, "exp_avg")), g.matrix("exp_avg")) < tolerance);
  CHECK(relative_error(user(field(optimizer, "exp_avg_sq")), g.matrix("exp_avg_sq")) < tolerance);
  if constexpr (std::is_same_v<L, ErrorFeedback>) {
    const MatrixXd error = field(optimizer, "error");  // coefficients
    CHECK(relative_error(user(basis(error.rows(), kind) * error), g.matrix("error")) < tolerance);
  }
}

}  // namespace

TEST_CASE("DCT-AdamW", "[golden]") {
  for (const std::string shape : {"square", "tall", "wide"})
    for (const std::string kind : {"dct2", "dct3"})
      for (const std::string rest : {"rotate0.ef0.l1", "rotate0.ef0.l2", "rotate0.ef1.l1", "rotate0.ef1.l2", "rotate1.ef0.l1",
                                     "rotate1.ef0.l2", "rotate1.ef1.l1", "rotate1.ef1.l2"})
        for (const Order order : {Order::Rows, Order::Columns}) {
          const std::string name = "dct_adamw." + shape + "." + kind + "." + rest;
          INFO(name);
          const Golden g(name);
          if (g.number("error_feedback") == 1) {
            check<double>(g, ErrorFeedback{}, DctRoute::Auto, order, 1e-9);
            check<float>(g, ErrorFeedback{}, DctRoute::Fast, order, 1e-5);
          } else {
            check<double>(g, BackProject{}, DctRoute::Fast, order, 1e-9);
            check<double>(g, BackProject{}, DctRoute::Selected, order, 1e-9);
            check<float>(g, BackProject{}, DctRoute::Auto, order, 1e-5);
          }
        }
}
