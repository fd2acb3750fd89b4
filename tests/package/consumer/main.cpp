#include <lowrank/version.hpp>
#if __has_include(<lowrank/lowrank.hpp>)
#include <lowrank/lowrank.hpp>
#endif
#include <Eigen/Core>

int main() {
  const Eigen::Matrix2f identity = Eigen::Matrix2f::Identity();
  return LOWRANK_VERSION_MAJOR + int(identity.trace()) - 2;
}
