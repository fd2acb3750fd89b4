// read_file: the bytes of a whole file, for the readers of this room, which check before they believe.
#pragma once

#include <cstddef>     // std::byte
#include <cstdint>     // std::uint64_t
#include <filesystem>
#include <fstream>
#include <stdexcept>   // std::runtime_error
#include <vector>

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace io {
namespace detail {

/// Throws std::runtime_error with the path when it is a folder, cannot be opened or ends early.
inline std::vector<std::byte> read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (!file || error || std::filesystem::is_directory(path, error)) throw std::runtime_error(path.string() + ": cannot be read");
  std::vector<std::byte> bytes(size);
  file.read(reinterpret_cast<char*>(bytes.data()), std::streamsize(size));
  if (std::uint64_t(file.gcount()) != size) throw std::runtime_error(path.string() + ": cannot be read to its end");
  return bytes;
}

}  // namespace detail
}  // namespace io
}  // namespace lowrank
