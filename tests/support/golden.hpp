// Reference vectors: float64 (and int64) tensors and text hyper-parameters from tests/golden. Read with nlohmann-json and
// not with the library's own reader, so that a fault there cannot hide here.
//
//   const Golden golden("galore_adamw.tall.std");
//   golden.number("lr");  golden.matrix("W0");  golden.matrix("G", 3);   // the fourth matrix of a stack
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <Eigen/Core>
#include <nlohmann/json.hpp>

namespace support {

class Golden {
 public:
  explicit Golden(const std::string& name) {
    std::ifstream file(std::string(LOWRANK_TEST_DATA) + "/golden/" + name + ".safetensors", std::ios::binary);
    if (!file) throw std::runtime_error("no reference vector " + name);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    std::uint64_t n = 0;
    std::memcpy(&n, bytes_.data(), 8);
    header_ = nlohmann::json::parse(bytes_.begin() + 8, bytes_.begin() + 8 + std::ptrdiff_t(n));
    data_ = 8 + n;
  }

  std::string text(const std::string& key) const { return header_.at("__metadata__").at(key).get<std::string>(); }
  double number(const std::string& key) const { return std::stod(text(key)); }
  bool has(const std::string& name) const { return header_.contains(name); }
  std::vector<Eigen::Index> shape(const std::string& name) const { return header_.at(name).at("shape"); }

  /// A tensor of one or two dimensions, or the i-th of a stack of them, row by row.
  Eigen::MatrixXd matrix(const std::string& name, Eigen::Index i = -1) const {
    auto dims = shape(name);
    if (i >= 0) dims.erase(dims.begin());
    const Eigen::Index rows = dims.size() > 1 ? dims[0] : 1, cols = dims.empty() ? 1 : dims.back();
    Eigen::MatrixXd m(rows, cols);
    const std::size_t begin =
        data_ + header_.at(name).at("data_offsets").at(0).get<std::size_t>() + std::size_t(std::max<Eigen::Index>(i, 0) * rows * cols) * 8;
    const bool integers = header_.at(name).at("dtype") == "I64";
    for (Eigen::Index q = 0; q < rows * cols; ++q) {
      double real = 0;
      std::int64_t integer = 0;
      std::memcpy(&real, &bytes_.at(begin + std::size_t(q) * 8), 8);
      std::memcpy(&integer, &real, 8);
      m(q / cols, q % cols) = integers ? double(integer) : real;
    }
    return m;
  }

 private:
  std::vector<char> bytes_;
  nlohmann::json header_;
  std::size_t data_ = 0;
};

/// Largest difference over the largest value.
inline double relative_error(const Eigen::MatrixXd& got, const Eigen::MatrixXd& expected) {
  return (got - expected).cwiseAbs().maxCoeff() / std::max(expected.cwiseAbs().maxCoeff(), 1e-300);
}

}  // namespace support
