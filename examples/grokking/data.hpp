// The tasks: what to learn, and the half that is held back. Inputs are features x samples; a sample has a label, or for
// one output a target of +-1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <lowrank/jacobian/model.hpp>
#include <lowrank/core/rng.hpp>

namespace grokking {

using lowrank::Index;
using lowrank::jacobian::Matrix;

template <class S>
struct Split {
  Matrix<S> X;                // features x samples
  std::vector<Index> labels;  // of a class, or 0 and 1 for targets -1 and +1

  Index size() const { return Index(labels.size()); }
};

template <class S>
struct Task {
  Split<S> train, test;
  Index outputs;
};

/// u in [0, 1).
inline double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
  return double(lowrank::uniform_bits(seed, stream, i)) * 0x1p-32;
}
/// 0 .. n-1 in random order.
inline std::vector<Index> shuffled(Index n, std::uint64_t seed) {
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index(0));
  for (Index i = n - 1; i > 0; --i)
    std::swap(order[std::size_t(i)], order[std::size_t(double(i + 1) * uniform(seed, 77, std::uint64_t(i)))]);
  return order;
}

struct XorSize {
  Index features, samples, hidden;
  double eps;
};
/// GrokAlign's set-up.
inline constexpr XorSize full_xor{40000, 400, 2048, 0.05};
/// The same in seconds: eps^2 features / samples, the noise a sample brings against what all of them agree on, is 1/4 in
/// both.
inline constexpr XorSize small_xor{500, 100, 128, 0.2236};

/// XOR clusters: x_1, x_2 = +-1, the other features +-eps, the label x_1 x_2 (Xu, Wang, Frei, Vardi, Hu: arXiv
/// 2310.02541).
template <class S>
Task<S> xor_clusters(const XorSize& size, std::uint64_t seed) {
  const auto [features, samples, hidden, eps] = size;
  Task<S> task;
  task.outputs = 1;
  std::uint64_t stream = 100;
  for (Split<S>* split : {&task.train, &task.test}) {
    split->X.resize(features, samples);
    for (Index j = 0; j < samples; ++j) {
      for (Index i = 0; i < features; ++i) {
        const bool plus = lowrank::uniform_bits(seed, stream, std::uint64_t(i + j * features)) & 1;
        split->X(i, j) = S((plus ? 1 : -1) * (i < 2 ? 1.0 : eps));
      }
      split->labels.push_back(split->X(0, j) * split->X(1, j) > 0 ? 1 : 0);
    }
    ++stream;
  }
  return task;
}

/// a + b mod p for all pairs, some of them for training. A sample is the pair of numbers, as two features.
template <class S>
Task<S> modular_addition(Index p, double train_share, std::uint64_t seed) {
  const std::vector<Index> order = shuffled(p * p, seed);
  const auto count = std::size_t(train_share * double(p * p));
  Task<S> task;
  task.outputs = p;
  for (Split<S>* split : {&task.train, &task.test}) {
    const std::size_t begin = split == &task.train ? 0 : count, end = split == &task.train ? count : order.size();
    split->X.resize(2, Index(end - begin));
    for (std::size_t i = begin; i < end; ++i) {
      const Index a = order[i] / p, b = order[i] % p;
      split->X.col(Index(i - begin)) << S(a), S(b);
      split->labels.push_back((a + b) % p);
    }
  }
  return task;
}

/// Two one-hot vectors, one below the other, for pairs of numbers.
template <class S>
Split<S> one_hot(const Split<S>& pairs, Index p) {
  Split<S> out{Matrix<S>::Zero(2 * p, pairs.X.cols()), pairs.labels};
  for (Index j = 0; j < pairs.X.cols(); ++j) out.X(Index(pairs.X(0, j)), j) = out.X(p + Index(pairs.X(1, j)), j) = 1;
  return out;
}

/// An IDX file of bytes: big-endian dimensions after 0, 0, 8, number of dimensions.
inline std::vector<unsigned char> read_idx(const std::string& path, std::vector<Index>& dims) {
  std::ifstream file(path, std::ios::binary);
  unsigned char head[4];
  if (!file.read(reinterpret_cast<char*>(head), 4) || head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] < 1 ||
      head[3] > 4)
    throw std::runtime_error(path + " is not an IDX file of bytes");
  Index size = 1;
  for (int i = 0; i < head[3]; ++i) {
    unsigned char n[4];
    if (!file.read(reinterpret_cast<char*>(n), 4)) throw std::runtime_error(path + " ends in its header");
    dims.push_back(Index(n[0]) << 24 | Index(n[1]) << 16 | Index(n[2]) << 8 | Index(n[3]));
    size *= dims.back();
    if (size > Index(1) << 31) throw std::runtime_error(path + " claims to be larger than 2 GB");
  }
  if (size == 0) throw std::runtime_error(path + " is empty");
  // nothing is allocated for what a header only claims
  const auto begin = file.tellg();
  if (file.seekg(0, std::ios::end).tellg() - begin < size)
    throw std::runtime_error(path + " is shorter than its header says");
  file.seekg(begin);
  std::vector<unsigned char> data(static_cast<std::size_t>(size));
  if (!file.read(reinterpret_cast<char*>(data.data()), std::streamsize(size)))
    throw std::runtime_error(path + " cannot be read");
  return data;
}

/// The first `count` images for training and the next `count` for testing, in random order of the seed, pixels in [0,
/// 1].
template <class S>
Task<S> digits(const std::string& images, const std::string& labels, Index count, std::uint64_t seed) {
  std::vector<Index> image_dims, label_dims;
  const auto pixels = read_idx(images, image_dims), classes = read_idx(labels, label_dims);
  if (image_dims.size() != 3 || label_dims.size() != 1 || image_dims[0] != label_dims[0])
    throw std::runtime_error("the IDX files do not hold images and as many labels");
  if (image_dims[0] < 2 * count)
    throw std::runtime_error("the IDX files hold fewer than " + std::to_string(2 * count) + " images");
  const Index size = image_dims[1] * image_dims[2];
  const std::vector<Index> order = shuffled(image_dims[0], seed);
  Task<S> task;
  task.outputs = 10;
  for (Split<S>* split : {&task.train, &task.test}) {
    split->X.resize(size, count);
    for (Index j = 0; j < count; ++j) {
      const Index from = order[std::size_t(j + (split == &task.test ? count : 0))];
      for (Index i = 0; i < size; ++i) split->X(i, j) = S(pixels[std::size_t(from * size + i)]) / 255;
      split->labels.push_back(classes[std::size_t(from)]);
      if (split->labels.back() > 9) throw std::runtime_error("a label is not a digit");
    }
  }
  return task;
}

}  // namespace grokking
