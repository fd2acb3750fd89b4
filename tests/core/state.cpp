#include "adapter/surgery.hpp"

#include <support/catch.hpp>

using namespace support;
using lowrank::Axis;

TEST_CASE("slots are zeroed and gathered along rows or columns") {
  const Moments before(4, 3, 1);
  const std::vector<Index> rows = {2, 0}, list = {3, -1, 0, 0};
  Moments m = before;
  MomentsEditor(m).zero(Axis::Rows, rows);
  for (Index i = 0; i < 4; ++i) CHECK(m.first.row(i) == (i == 2 || i == 0 ? Eigen::MatrixXd(Eigen::MatrixXd::Zero(1, 3)) : Eigen::MatrixXd(before.first.row(i))));
  m = before;
  MomentsEditor(m).gather(Axis::Rows, list);
  CHECK((m.second.row(0) == before.second.row(3) && m.second.row(2) == before.second.row(0) && m.second.row(3) == before.second.row(0)));
  CHECK(m.second.row(1).norm() == 0);
  m = before;
  const std::vector<Index> permutation = {1, 2, 0}, prefix = {0};
  MomentsEditor(m).gather(Axis::Cols, permutation);
  CHECK((m.first.col(0) == before.first.col(1) && m.first.col(1) == before.first.col(2) && m.first.col(2) == before.first.col(0)));
  MomentsEditor(m).gather(Axis::Cols, prefix);  // what is beyond the list is fresh
  CHECK((m.first.col(0) == before.first.col(1) && m.first.rightCols(2).norm() == 0));
  MomentsEditor(m).reset();
  CHECK((m.first.norm() == 0 && m.second.norm() == 0 && m.steps == 0));
}

TEST_CASE("slots that do not exist are refused and nothing is changed") {
  const Moments before(4, 3, 1);
  Moments m = before;
  const std::vector<Index> beyond = {0, 4}, negative = {0, -1}, below = {0, -2}, many = {0, 1, 2, 0};
  CHECK_THROWS_AS(MomentsEditor(m).zero(Axis::Rows, beyond), std::invalid_argument);
  CHECK_THROWS_AS(MomentsEditor(m).zero(Axis::Rows, negative), std::invalid_argument);
  CHECK_THROWS_AS(MomentsEditor(m).gather(Axis::Rows, below), std::invalid_argument);
  CHECK_THROWS_AS(MomentsEditor(m).gather(Axis::Cols, many), std::invalid_argument);
  CHECK((m.first == before.first && m.second == before.second));
}
