// State between a device and the CPU, and so into the same file: an optimizer in GPU memory (lowrank/cuda/optimizer.cuh) has the
// fields of its twin here, the same options, the same canonical layout. What was saved on one is resumed on the other.
//
//   lowrank::exchange::save(opt, "run.safetensors");          // opt: lowrank::cuda::Optimizer
//   auto twin = lowrank::exchange::to_cpu(opt);               // lowrank::Optimizer with its state
//   lowrank::exchange::to_device(twin, opt);
//
// Knows no CUDA: any type with the face of cuda::Optimizer will do. Compile it with the host's compiler; nvcc and Eigen disagree.
#pragma once

#include <lowrank/recipes.hpp>
#include <lowrank/rule/adam_bf16.hpp>
#include <lowrank/rule/lion.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace exchange {
namespace detail {

/// An array, not a number.
template <class X>
concept HasMemory = requires(X& x) { x.data(); };

/// The CPU's optimizer for the same matrix and options, without state.
template <class Device>
auto twin(const Device& device) {
  using S = typename Device::Scalar;
  S shape_only{};
  const Index rows = device.rows(), cols = device.cols();
  const View<S> w{&shape_only, rows, cols, device.transposed() ? cols : 1, device.transposed() ? 1 : rows};
  return Optimizer(w, device.projector(), device.rule(), device.lift());
}

inline constexpr const char* who = "lowrank::exchange";

/// f(here, there) of two fields of one name, which must be of one kind and shape.
template <class Here, class There, class F>
void both(const char* name, Here& here, There& there, const F& f) {
  constexpr bool arrays = HasMemory<Here> && HasMemory<There>;
  constexpr bool numbers = !HasMemory<Here> && std::is_same_v<std::remove_const_t<Here>, std::remove_const_t<There>>;
  if constexpr (arrays) {
    if (here.rows() != there.rows() || here.cols() != there.cols() || here.bytes() != there.bytes())
      lowrank::detail::bad_argument(who, std::string(name) + " of " + lowrank::detail::shape_text(there.rows(), there.cols()),
                                    lowrank::detail::shape_text(here.rows(), here.cols()));
    f(here, there);
  } else if constexpr (numbers) {
    f(here, there);
  } else {
    lowrank::detail::bad_argument(who, std::string("the field ") + name + " of two types", "one");
  }
}

/// f(the CPU's field, the device's array or number) for every field; both must have the same.
template <class Cpu, class Device, class F>
void each_field(Cpu& cpu, Device& device, const F& f) {
  std::size_t found = 0, expected = 0;
  const auto with = [&](const char* name, auto& there) {
    ++expected;
    cpu.visit([&](const char* mine, auto& here) {
      if (std::string(mine) == name) both(name, here, there, f), ++found;
    });
  };
  device.visit(with);
  device.visit_numbers(with);
  std::size_t fields = 0;
  cpu.visit([&](const char*, const auto&) { ++fields; });
  if (found != expected || found != fields)
    lowrank::detail::bad_argument(who, std::to_string(expected) + " fields on the device, " + std::to_string(fields) + " here", "the same fields");
}

}  // namespace detail

/// The CPU library's optimizer with this state. Waits for the device.
template <class Device>
auto to_cpu(Device& device) {
  auto cpu = detail::twin(device);
  cpu.allocate();
  detail::each_field(cpu, device, [&](auto& here, auto& there) {
    if constexpr (detail::HasMemory<std::remove_reference_t<decltype(here)>>) device.backend().download(here.data(), there.data(), here.bytes());
    else here = there;
  });
  return cpu;
}

/// The device takes over the state. Shape, scalar, side and rank must be the same; throws std::invalid_argument otherwise.
template <class Cpu, class Device>
void to_device(const Cpu& from, Device& device) {
  Cpu cpu(from);
  cpu.allocate();
  if (cpu.rows() != device.rows() || cpu.cols() != device.cols() || cpu.transposed() != device.transposed())
    lowrank::detail::bad_shape("lowrank::exchange::to_device", cpu.rows(), cpu.cols(), device.rows(), device.cols());
  detail::each_field(cpu, device, [](auto&, auto&) {});  // all or nothing
  detail::each_field(cpu, device, [&](auto& here, auto& there) {
    if constexpr (detail::HasMemory<std::remove_reference_t<decltype(here)>>) device.backend().upload(there.data(), here.data(), here.bytes());
    else there = here;
  });
}

/// The file that the CPU's optimizer would write, and the state of one.
template <class Device>
void save(Device& device, const std::filesystem::path& path, const std::string& name = "weight") { to_cpu(device).save(path, name); }
template <class Device>
void load(Device& device, const std::filesystem::path& path, const std::string& name = "weight") {
  auto cpu = detail::twin(device);
  cpu.load(path, name);
  if (Device::projected && cpu.rank() != device.rank())
    throw std::runtime_error(path.string() + ": '" + name + "' has rank " + std::to_string(cpu.rank()) + ", expected " + std::to_string(device.rank()));
  to_device(cpu, device);
}

}  // namespace exchange
}  // namespace lowrank
