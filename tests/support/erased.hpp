// The template behind Stepper: wraps one Optimizer type. Included by policies_*.cpp only.
#pragma once

#include <lowrank/optimizer.hpp>
#include <support/stepper.hpp>

namespace support {

template <class S, class O>
class Erased final : public Stepper<S> {
 public:
  explicit Erased(O optimizer) : optimizer_(std::move(optimizer)) {}

  Report step(View<S> w, View<const S> g, const Step& step) override { return optimizer_.step(w, g, step); }
  Report step(View<Eigen::bfloat16> w, View<const Eigen::bfloat16> g, const Step& step) override {
    if constexpr (std::is_same_v<S, float>) return optimizer_.step(w, g, step);
    throw std::logic_error("bf16 steps with a float state");
  }
  std::unique_ptr<Stepper<S>> clone() const override { return std::make_unique<Erased>(*this); }
  bool equals(const Stepper<S>& other) const override {
    return optimizer_ == dynamic_cast<const Erased&>(other).optimizer_;
  }
  void allocate() override { optimizer_.allocate(); }
  std::map<std::string, Bytes> fields() const override {
    std::map<std::string, Bytes> out;
    optimizer_.visit([&](const char* name, const auto& field) {
      const void* from = &field;
      std::size_t n = sizeof(field);
      if constexpr (requires { field.bytes(); }) {
        from = field.data();
        n = from == nullptr ? 0 : field.bytes();
      }
      Bytes& bytes = out[name];
      bytes.resize(n);
      if (n > 0) std::memcpy(bytes.data(), from, n);
    });
    return out;
  }
  void save(const std::filesystem::path& path) const override { optimizer_.save(path); }
  void load(const std::filesystem::path& path) override { optimizer_.load(path); }
  std::size_t state_bytes() const override { return optimizer_.state_bytes(); }
  std::size_t workspace_bytes(int threads) const override { return optimizer_.workspace_bytes(threads); }
  Index rank() const override { return optimizer_.rank(); }
  std::uint64_t steps() const override { return optimizer_.steps(); }

 private:
  O optimizer_;
};

template <class S, class P, class R, class L>
std::unique_ptr<Stepper<S>> erase(View<const S> w, P projector, R rule, L lift) {
  using O = lowrank::Optimizer<S, P, R, L>;
  return std::make_unique<Erased<S, O>>(O(w, projector, rule, lift));
}

/// P with the test's rank, side and period.
template <class P>
P chosen(P projector, const Choice& c) {
  projector.rank = c.rank;
  if constexpr (requires { projector.refresh_every; }) projector.refresh_every = c.refresh_every;
  if constexpr (requires { projector.side; }) projector.side = c.side;
  return projector;
}

template <class S, class P, class R, class L = lowrank::BackProject>
Policy<S> policy(std::string name, P projector, R rule, L lift,
                 std::function<std::size_t(std::size_t, std::size_t, std::size_t, std::size_t)> bytes) {
  return {std::move(name),
          [=](View<const S> w, const Choice& c) {
            if constexpr (requires { projector.rank; }) return erase<S>(w, chosen(projector, c), rule, lift);
            else return erase<S>(w, projector, rule, lift);
          },
          std::move(bytes), requires { projector.rank; }, requires { projector.refresh_every; }};
}

/// One whose R is that of rounded numbers.
template <class S>
Policy<S> rounded(Policy<S> policy, double rounding) {
  policy.rounding = rounding;
  return policy;
}

}  // namespace support
