// Replaced: the four products of a layer, each matrix of which is something else than its weight (lowrank/adapter/).
#pragma once

#include <vector>

#include <lowrank/adapter/adapter.hpp>

#include "examples/pretrain/linear.hpp"

namespace pretrain {

/// In the place of one matrix. dense: where it lies in the arena, for what is put on a weight; others leave it alone.
class Part {
 public:
  Part() = default;
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
  virtual ~Part() = default;

  /// y <- W x
  virtual void forward(const float* dense, const Block<float>& x, Block<float> y, const lowrank::Pass& pass,
                       lowrank::Workspace& workspace) = 0;
  /// dx <- W^T dy, and what is trained gets its gradient
  virtual void backward(const float* dense, const Block<float>& x, const Block<float>& dy, Block<float> dx,
                        lowrank::Workspace& workspace) = 0;
};

class Replaced {
 public:
  static constexpr Reach reach = Reach::Batch;
  static constexpr Trained trained = Trained::Others;

  explicit Replaced(const Layout& layout) : matrices_(layout.matrices()), parts_(matrices_.size(), nullptr) {}

  /// By position in the layout; they must stay until others are put in their place, or nothing is computed any more.
  void install(std::size_t matrix, Part* part) { parts_[matrix] = part; }
  lowrank::Workspace& workspace() { return workspace_; }
  lowrank::Pass pass;  // of the next forward

  void forward(const float* w, const Layout::Linear& at, const Block<float>& x, Block<float> y) {
    Index row = 0;
    for (std::size_t i = at.first; i < at.first + at.count; row += matrices_[i++].rows)
      parts_[i]->forward(w + matrices_[i].offset, x, rows(y, row, matrices_[i].rows), pass, workspace_);
  }
  void add(const float* w, const Layout::Linear& at, const Block<float>& x, Block<float> y) {
    const Block<float> product = scratch(y.rows(), y.cols());
    forward(w, at, x, product);
    y += product;
  }
  void backward(const float* w, const Layout::Linear& at, const Block<float>& x, const Block<float>& dy, Block<float> dx) {
    Index row = 0;
    for (std::size_t i = at.first; i < at.first + at.count; row += matrices_[i++].rows) {
      const Block<float> mine = i == at.first ? dx : scratch(dx.rows(), dx.cols());
      parts_[i]->backward(w + matrices_[i].offset, x, rows(dy, row, matrices_[i].rows), mine, workspace_);
      if (i != at.first) dx += mine;
    }
  }

 private:
  /// Grows to the largest batch.
  Block<float> scratch(Index rows, Index cols) {
    if (scratch_.size() < rows * cols) scratch_.resize(rows, cols);
    return {scratch_.data(), rows, cols, Eigen::OuterStride<>(rows)};
  }

  std::vector<MatrixInfo> matrices_;
  std::vector<Part*> parts_;
  lowrank::Workspace workspace_;
  Matrix<float> scratch_;
};

}  // namespace pretrain
