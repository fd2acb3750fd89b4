// Kept: arrays and numbers by name, to a safetensors file and back, for what trains without being a Fleet's.
#pragma once

#include <cstdint>
#include <cstring>  // std::memcpy
#include <filesystem>
#include <span>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <type_traits>
#include <vector>

#include <lowrank/io/safetensors.hpp>

namespace pretrain {
namespace kept {

template <class T>
constexpr const char* dtype() {
  if constexpr (std::is_same_v<T, float>) return "F32";
  else if constexpr (std::is_same_v<T, double>) return "F64";
  else if constexpr (std::is_same_v<T, std::int32_t>) return "I32";
  else return std::is_signed_v<T> ? "I64" : "U64";
}

/// The memory of a Buffer, or of a number: rows before columns, as it lies there.
template <class X>
lowrank::io::Tensor tensor(const std::string& name, const X& x) {
  if constexpr (requires { x.bytes(); }) {
    using T = std::remove_cvref_t<decltype(*x.data())>;
    return {name, dtype<T>(), {std::uint64_t(x.cols()), std::uint64_t(x.rows())},
            std::as_bytes(std::span(x.data(), std::size_t(x.size())))};
  } else {
    return {name, dtype<X>(), {}, std::as_bytes(std::span(&x, 1))};
  }
}

/// Throws std::runtime_error unless the file has it in this shape.
template <class X>
void read(const lowrank::io::Safetensors& file, const std::string& name, X& x) {
  const lowrank::io::Tensor expected = tensor(name, std::as_const(x));
  const lowrank::io::Tensor* t = file.find(name);
  if (t == nullptr || t->dtype != expected.dtype || t->shape != expected.shape)
    throw std::runtime_error("the checkpoint holds no tensor '" + name + "' of the right shape");
  if constexpr (requires { x.bytes(); }) std::memcpy(static_cast<void*>(x.data()), t->data.data(), t->data.size());
  else std::memcpy(&x, t->data.data(), sizeof x);
}

}  // namespace kept
}  // namespace pretrain
