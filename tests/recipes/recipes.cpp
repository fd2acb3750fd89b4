// Recipes: each is the three parts, with the options, that its paper and its reference name.
#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/projector/svd.hpp>
#include <lowrank/projector/two_sided_svd.hpp>
#include <lowrank/recipes.hpp>
#include <lowrank/rule/lion.hpp>

using namespace lowrank;

namespace {

template <class A, class B>
constexpr bool same = std::is_same_v<std::remove_cvref_t<A>, B>;

/// Form H: eps on raw moments, decay last.
void check_galore_adam(const AdamW& o) {
  CHECK((o.beta1 == 0.9 && o.beta2 == 0.999 && o.eps == 1e-6 && o.weight_decay == 0));
  CHECK((o.epsilon == Epsilon::BeforeCorrection && o.decay_order == DecayOrder::AfterUpdate && o.bias_correction == BiasCorrection::On));
}

}  // namespace

TEST_CASE("adamw is torch's AdamW without a projection", "[recipes]") {
  const auto r = adamw({.weight_decay = 0.1});
  static_assert(same<decltype(r.projector), Identity> && same<decltype(r.rule), AdamW> && same<decltype(r.lift), BackProject>);
  CHECK((r.rule.beta1 == 0.9 && r.rule.beta2 == 0.999 && r.rule.eps == 1e-8 && r.rule.weight_decay == 0.1));
  CHECK((r.rule.epsilon == Epsilon::AfterCorrection && r.rule.decay_order == DecayOrder::BeforeUpdate));
  CHECK(r.lift.scale == 1);
}

TEST_CASE("galore: GaLoreAdamW's numbers, moments kept, scale 1/4; its exact and two-sided forms", "[recipes]") {
  const auto r = galore();
  static_assert(same<decltype(r.projector), Subspace> && same<decltype(r.lift), BackProject>);
  check_galore_adam(r.rule);
  CHECK((r.projector.rank == 128 && r.projector.refresh_every == 200 && r.projector.side == Side::Smaller));
  CHECK(r.projector.transport == Transport::Keep);
  CHECK(r.lift.scale == 0.25);
  const auto exact = galore<Svd>({.rank = 7, .refresh_every = 9, .scale = 2, .side = Side::Larger, .transport = Transport::Rotate, .weight_decay = 0.1});
  static_assert(same<decltype(exact.projector), Svd>);
  CHECK((exact.projector.rank == 7 && exact.projector.refresh_every == 9 && exact.projector.side == Side::Larger));
  CHECK((exact.projector.transport == Transport::Rotate && exact.lift.scale == 2 && exact.rule.weight_decay == 0.1));
  const auto full = galore<TwoSidedSvd>({.rank = 7, .refresh_every = 9});
  static_assert(same<decltype(full.projector), TwoSidedSvd>);
  CHECK((full.projector.rank == 7 && full.projector.refresh_every == 9));
}

TEST_CASE("q_galore: 4-bit lazy basis, 8-bit moments, the command line's numbers; error feedback in few bits; ranks that adapt", "[recipes]") {
  const auto r = q_galore();
  static_assert(same<decltype(r.projector), LazySubspace> && same<decltype(r.rule), Adam8bit> && same<decltype(r.lift), BackProject>);
  CHECK((r.projector.storage == Storage::Int4 && r.projector.similar == 0.4 && r.projector.stretch == 2 && r.projector.refresh_every == 200));
  CHECK((r.projector.transport == Transport::Keep && r.rule.eps == 1e-8 && r.rule.weight_decay == 0.01 && r.lift.scale == 0.25));
  CHECK((r.rule.epsilon == Epsilon::AfterCorrection && r.rule.decay_order == DecayOrder::AfterUpdate));
  const auto other = q_galore({.rank = 7, .storage = Storage::Int8, .similar = 0.3, .stretch = 3, .seed = 5});
  CHECK((other.projector.rank == 7 && other.projector.storage == Storage::Int8 && other.projector.similar == 0.3));
  CHECK((other.projector.stretch == 3 && other.projector.seed == 5 && other.rule.seed == 5));
  CHECK(dct_adamw({}, ErrorFeedback{.storage = Storage::Int4}).lift.storage == Storage::Int4);
  CHECK(dct_adamw<ErrorFeedback>().lift.storage == Storage::Full);
  CHECK(galore({.adapt = {.energy = 0.9}}).projector.adapt.energy == 0.9);
  CHECK(fira({.adapt = {.energy = 0.9}}).projector.adapt.energy == 0.9);
  CHECK(dct_adamw({.adapt = {.energy = 0.9}}).projector.adapt.energy == 0.9);
}

TEST_CASE("fira: GaLore's Adam, residual in the code's form, growth limited to 1.01", "[recipes]") {
  const auto r = fira();
  static_assert(same<decltype(r.projector), Subspace> && same<decltype(r.lift), Residual>);
  check_galore_adam(r.rule);
  CHECK((r.lift.scale == 0.25 && r.lift.form == FiraForm::Code && r.lift.limiter.gamma == 1.01 && r.lift.limiter.floor == 0));
  CHECK((r.projector.rank == 128 && r.projector.transport == Transport::Keep));
  const auto paper = fira<Svd>({.scale = 1, .form = FiraForm::Paper, .limiter = {.gamma = 1.1, .floor = 1e-3}, .eps = 1e-8});
  static_assert(same<decltype(paper.projector), Svd>);
  CHECK((paper.lift.scale == 1 && paper.lift.form == FiraForm::Paper && paper.rule.eps == 1e-8));
  CHECK((paper.lift.limiter.gamma == 1.1 && paper.lift.limiter.floor == 1e-3));
}

TEST_CASE("apollo: a random basis per channel; apollo_mini: rank 1, one factor, scale 128", "[recipes]") {
  const auto r = apollo({.seed = 5});
  static_assert(same<decltype(r.projector), Gaussian> && same<decltype(r.lift), ChannelScale>);
  check_galore_adam(r.rule);
  CHECK((r.projector.rank == 128 && r.projector.refresh_every == 200 && r.projector.seed == 5));
  CHECK(r.projector.transport == Transport::Keep);
  CHECK((r.lift.scale == 1 && r.lift.granularity == Granularity::Channel && r.lift.scale_order == ScaleOrder::AfterLimiter));
  CHECK(r.lift.limiter.gamma == 1.01);
  const auto mini = apollo_mini();
  check_galore_adam(mini.rule);
  CHECK((mini.projector.rank == 1 && mini.lift.scale == 128 && mini.lift.granularity == Granularity::Tensor));
  const auto other = apollo<Dct>({.rank = 3, .scale_order = ScaleOrder::BeforeLimiter});
  static_assert(same<decltype(other.projector), Dct>);
  CHECK((other.projector.rank == 3 && other.lift.scale_order == ScaleOrder::BeforeLimiter));
}

TEST_CASE("dct_adamw: torch's Adam on l1-chosen cosines, every step, moments gathered; error feedback on request", "[recipes]") {
  const auto r = dct_adamw();
  static_assert(same<decltype(r.projector), Dct> && same<decltype(r.lift), BackProject>);
  CHECK((r.rule.eps == 1e-8 && r.rule.epsilon == Epsilon::AfterCorrection && r.rule.decay_order == DecayOrder::BeforeUpdate));
  CHECK((r.projector.rank == 128 && r.projector.refresh_every == 1 && r.projector.phase == 1));
  CHECK((r.projector.basis == DctBasis::Cosines && r.projector.score == Score::L1 && r.projector.transport == Transport::Rotate));
  CHECK(r.lift.scale == 1);
  const auto published = dct_adamw<ErrorFeedback>({.rank = 3, .refresh_every = 4, .basis = DctBasis::Transposed, .score = Score::L2, .transport = Transport::Keep});
  static_assert(same<decltype(published.lift), ErrorFeedback>);
  CHECK((published.projector.rank == 3 && published.projector.refresh_every == 4 && published.projector.basis == DctBasis::Transposed));
  CHECK((published.projector.score == Score::L2 && published.projector.transport == Transport::Keep));
}

TEST_CASE("With a weight a recipe is an optimizer for it, without one it waits for a weight", "[recipes]") {
  const Eigen::MatrixXf W = support::random_matrix(30, 20, 1).cast<float>();
  static_assert(same<decltype(galore(W, {})), Optimizer<float, Subspace, AdamW, BackProject>>);
  static_assert(same<decltype(fira(W, {})), Optimizer<float, Subspace, AdamW, Residual>>);
  static_assert(same<decltype(apollo(W, {})), Optimizer<float, Gaussian, AdamW, ChannelScale>>);
  static_assert(same<decltype(apollo_mini(W)), Optimizer<float, Gaussian, AdamW, ChannelScale>>);
  static_assert(same<decltype(dct_adamw<ErrorFeedback>(W, {})), Optimizer<float, Dct, AdamW, ErrorFeedback>>);
  static_assert(same<decltype(adamw(W, {})), Optimizer<float, Identity, AdamW, BackProject>>);
  Eigen::MatrixXf a = W, b = W, c = W;
  const Eigen::MatrixXf G = support::random_matrix(30, 20, 2).cast<float>();
  auto made = galore(a, {.rank = 4});
  auto recipe = galore({.rank = 4})(b);
  Optimizer parts(c, Subspace{.rank = 4, .transport = Transport::Keep},
                  AdamW{.eps = 1e-6, .epsilon = Epsilon::BeforeCorrection, .decay_order = DecayOrder::AfterUpdate}, BackProject{.scale = 0.25});
  for (int t = 0; t < 2; ++t) {
    made.step(a, G, {.lr = 0.01});
    recipe.step(b, G, {.lr = 0.01});
    parts.step(c, G, {.lr = 0.01});
  }
  CHECK((a == b && a == c));
  CHECK((made == recipe && made == parts));
}

TEST_CASE("A combination nobody has published is written the same way", "[recipes]") {
  const Recipe r{Dct{.rank = 3}, Lion{}, Residual{}};
  const Recipe plain{Identity{}, Lion{}};
  static_assert(same<decltype(plain.lift), BackProject>);
  CHECK(r.projector.rank == 3);
}
