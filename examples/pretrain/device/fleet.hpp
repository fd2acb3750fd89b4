// DeviceFleet: a lowrank::Fleet whose states are another machine's. Weights and gradients go there, steps are taken there, weights
// come back; names, options and files are the fleet's own, so that a run saved on one machine goes on upon the other.
#pragma once

#include <lowrank/exchange/device.hpp>
#include <lowrank/fleet.hpp>

#include "examples/pretrain/device/machine.hpp"

namespace pretrain {

/// An optimizer there, with the face that lowrank/exchange/device.hpp asks for. Cpu: its twin here, which has its options.
template <class Cpu>
class Remote {
 public:
  using Twin = Cpu;
  using Scalar = typename Cpu::Scalar;
  static constexpr bool projected = Cpu::projected;

  Remote(const Cpu& twin, RemoteMatrix& there, Machine& machine) : twin_(twin), there_(there), machine_(machine) {}
  lowrank::Index rows() const { return twin_.rows(); }
  lowrank::Index cols() const { return twin_.cols(); }
  bool transposed() const { return there_.transposed(); }
  lowrank::Index rank() const { return there_.rank(); }
  const auto& projector() const { return twin_.projector(); }
  const auto& rule() const { return twin_.rule(); }
  const auto& lift() const { return twin_.lift(); }
  Machine& backend() const { return machine_; }
  template <class F>
  void visit(const F& f) const {
    Calls<F> calls(f);
    there_.visit(calls);
  }
  template <class F>
  void visit_numbers(const F& f) const {
    Calls<F> calls(f);
    there_.visit_numbers(calls);
  }

 private:
  template <class F>
  class Calls final : public FieldVisitor {
   public:
    explicit Calls(const F& f) : f_(f) {}
    void visit(const char* name, const RemoteArray& x) override { f_(name, x); }
    void visit(const char* name, std::uint64_t& x) override { f_(name, x); }
    void visit(const char* name, double& x) override { f_(name, x); }
    void visit(const char* name, float& x) override { f_(name, x); }

   private:
    const F& f_;
  };

  const Cpu& twin_;
  RemoteMatrix& there_;
  Machine& machine_;
};

template <class Fleet>
class DeviceFleet {
  using Params = std::vector<lowrank::Parameter<float>>;

 public:
  /// The machine must outlive it. Throws std::invalid_argument for options that the machine does not have.
  template <class... Groups>
  DeviceFleet(Machine& machine, const Params& params, const Groups&... groups) : machine_(machine), twin_(params, groups...), reports_(params.size()) {
    twin_.each([&](const std::string& name, const auto& o) {
      try {
        there_.push_back(machine_.make(o.rows(), o.cols(), lowrank::Recipe{o.projector(), o.rule(), o.lift()}));
      } catch (const std::invalid_argument& e) {
        throw std::invalid_argument("'" + name + "' on a device: " + e.what());
      }
    });
  }

  /// The parameters must be the constructor's.
  lowrank::FleetReport step(const Params& params, const lowrank::Step& step) {
    for (std::size_t i = 0; i < there_.size(); ++i) {
      lowrank::Step mine = step;
      mine.lr *= params[i].lr_scale;
      there_[i]->begin(params[i].weight.data, params[i].gradient.data, mine);
    }
    lowrank::FleetReport all;
    for (std::size_t i = 0; i < there_.size(); ++i) {
      const RemoteMatrix::Report r = there_[i]->end(params[i].weight.data);
      reports_[i] = {.skipped = r.skipped, .refreshed = r.refreshed, .captured = r.captured, .drift = r.drift, .grad_norm = r.grad_norm};
      if (r.skipped && all.skipped++ == 0) all.first_skipped = twin_.name(i);
      all.refreshed += r.refreshed;
    }
    return all;
  }

  const std::vector<lowrank::Report>& reports() const { return reports_; }
  void allocate() {}
  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    for (const auto& m : there_) bytes += m->state_bytes();
    return bytes;
  }
  std::size_t workspace_bytes() const {
    std::size_t bytes = 0;
    for (const auto& m : there_) bytes = std::max(bytes, m->workspace_bytes());
    return bytes;
  }
  lowrank::Plan plan() const {
    lowrank::Plan plan = twin_.plan();
    plan.workspace_bytes = workspace_bytes();
    return plan;
  }
  /// f(name, Remote) for every parameter in the model's order.
  template <class F>
  void each(const F& f) const {
    std::size_t i = 0;
    twin_.each([&]<class O>(const std::string& name, const O& o) { f(name, Remote<O>(o, *there_[i++], machine_)); });
  }

  /// The file that the Fleet would write.
  void save(const std::filesystem::path& path) const {
    Fleet here(twin_);
    here.allocate();
    std::size_t i = 0;
    here.each([&]<class O>(const std::string&, O& o) {
      Remote<O> remote(o, *there_[i++], machine_);
      o = lowrank::exchange::to_cpu(remote);
    });
    here.save(path);
  }
  void load(const std::filesystem::path& path) {
    Fleet here(twin_);
    here.load(path);
    std::size_t i = 0;
    here.each([&]<class O>(const std::string&, const O& o) {
      Remote<O> remote(o, *there_[i++], machine_);
      lowrank::exchange::to_device(o, remote);
    });
  }

 private:
  Machine& machine_;
  Fleet twin_;  // without states
  std::vector<std::unique_ptr<RemoteMatrix>> there_;
  std::vector<lowrank::Report> reports_;
};

}  // namespace pretrain
