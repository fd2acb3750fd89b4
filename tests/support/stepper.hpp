// Stepper: any optimizer behind one virtual face, for tests only. The library's step() is a template without erasure; the
// laws below hold for all policies, and instantiating each of them once for every test file would take half an hour.
// policies.hpp lists the optimizers; policies_*.cpp instantiate them, once.
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <lowrank/core/view.hpp>
#include <lowrank/optimizer/report.hpp>
#include <lowrank/options.hpp>

namespace support {

using lowrank::Index;
using lowrank::Report;
using lowrank::Side;
using lowrank::Step;
using lowrank::View;

using Bytes = std::vector<std::byte>;

template <class S>
class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual Report step(View<S> w, View<const S> g, const Step& step) = 0;
  /// Weight and gradient stored as bf16; for S = float.
  virtual Report step(View<Eigen::bfloat16> w, View<const Eigen::bfloat16> g, const Step& step) = 0;
  virtual std::unique_ptr<Stepper> clone() const = 0;
  virtual bool equals(const Stepper& other) const = 0;
  virtual void allocate() = 0;
  /// Every field of the state, by name.
  virtual std::map<std::string, Bytes> fields() const = 0;
  virtual void save(const std::filesystem::path& path) const = 0;
  virtual void load(const std::filesystem::path& path) = 0;
  virtual std::size_t state_bytes() const = 0;
  virtual std::size_t workspace_bytes(int threads) const = 0;
  virtual Index rank() const = 0;
  virtual std::uint64_t steps() const = 0;
};

/// What a test chooses per optimizer; each recipe fills in the rest.
struct Choice {
  Index rank = 4;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 3;
};

/// One optimizer of the list.
template <class S>
struct Policy {
  std::string name;
  std::function<std::unique_ptr<Stepper<S>>(View<const S> w, const Choice&)> make;
  /// State bytes after spec: r, d (projected), k (other), b = sizeof(S); m n for the whole gradient.
  std::function<std::size_t(std::size_t r, std::size_t d, std::size_t k, std::size_t b)> bytes;
  bool projected = true;  // has a rank and a side
  bool periodic = true;   // has a refresh period
  double rounding = 1e-5;  // by which the captured energy may exceed all there is
};

template <class S>
const std::vector<Policy<S>>& policies();

/// The scalars of the list. Under the sanitizers float alone: the same templates, and half of a long compilation.
#if defined(LOWRANK_TEST_FLOAT_ONLY)
#define LOWRANK_TEST_SCALARS float
#else
#define LOWRANK_TEST_SCALARS float, double
#endif

/// The one of this name.
template <class S>
const Policy<S>& named_policy(const std::string& name) {
  for (const auto& policy : policies<S>())
    if (policy.name == name) return policy;
  throw std::logic_error("no policy is called " + name);
}

/// A field of the state as numbers.
template <class T, class S>
std::vector<T> field(const Stepper<S>& optimizer, const std::string& name) {
  const Bytes bytes = optimizer.fields().at(name);
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace support
