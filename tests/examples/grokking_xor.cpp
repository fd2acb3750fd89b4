// The effect the example is about, small enough to be tested: on XOR clusters GrokAlign learns the rule in fewer steps
// than weight decay alone. And the file reader of the digits.
#include <cstdio>

#include "examples/grokking/training.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace grokking;

// Single seeds differ (1.33 and more at 95 %, 1.5 and more at 99 %), hence the median of nine.
TEST_CASE("on XOR clusters GrokAlign takes fewer steps to the rule than weight decay alone") {
  const Plan plan{.steps = 250};
  std::vector<double> at_95, at_99;
  for (std::uint64_t seed = 0; seed < 9; ++seed) {
    const auto task = xor_clusters<double>(small_xor, seed);
    const auto run = [&](Method m) {
      auto learner = xor_learner(small_xor, seed);
      Run r = train(learner, task, m, lowrank::Sgd{.weight_decay = 0.1}, plan, seed,
                    [](const Row& row) { return row.test_accuracy < 0.99; });
      REQUIRE(r.learned(0.99));
      CHECK(r.rows.back().train_accuracy == 1);
      return r;
    };
    const Run plain = run(Method::WeightDecay), aligned = run(Method::GrokAlign);
    at_95.push_back(double(*plain.learned(0.95)) / double(*aligned.learned(0.95)));
    at_99.push_back(double(*plain.learned(0.99)) / double(*aligned.learned(0.99)));
  }
  std::sort(at_95.begin(), at_95.end());
  std::sort(at_99.begin(), at_99.end());
  CHECK(at_95[4] > 1.3);
  CHECK(at_95[0] > 1);
  CHECK(at_99[4] > 1.5);
  CHECK(at_99[0] > 1.2);
}

TEST_CASE("IDX files are read, and damaged ones refused") {
  const support::Folder folder("grokking");
  const auto write = [&](const char* name, const std::string& bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
    return (folder / name).string();
  };
  using namespace std::string_literals;
  const std::string images = write("images", "\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x02"s + "\x00\xff\x33\x66"s);
  const std::string labels = write("labels", "\0\0\x08\x01\0\0\0\x02"s + "\x03\x07"s);
  const auto task = digits<double>(images, labels, 1, 5);
  CHECK(task.train.X.rows() == 2);
  CHECK(task.train.X.sum() + task.test.X.sum() == Catch::Approx((0xff + 0x33 + 0x66) / 255.0));
  CHECK(task.train.labels[0] + task.test.labels[0] == 10);
  CHECK_THROWS_AS(digits<double>(images, labels, 2, 5), std::runtime_error);
  CHECK_THROWS_AS(digits<double>(labels, labels, 1, 5), std::runtime_error);
  const auto refused = [&](const std::string& bytes) {
    CHECK_THROWS_AS(digits<double>(write("damaged", bytes), labels, 1, 5), std::runtime_error);
    CHECK_THROWS_AS(digits<double>(images, write("damaged", bytes), 1, 5), std::runtime_error);
  };
  refused(""s);
  refused("\0\0\x08"s);                                             // no number of dimensions
  refused("\0\0\x08\x03\0\0\0\x02\0\0"s);                          // ends in its dimensions
  refused("\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x02\x00\xff\x33"s);  // one pixel short
  refused("\0\0\x08\x01\0\0\0\x02\x03"s);                          // one label short
  refused("\0\0\x0d\x01\0\0\0\x02\x03\x07"s);                      // of floats
  refused("\0\0\x08\x00"s);                                         // without dimensions
  refused("\0\0\x08\x05\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\1"s);     // too many
  refused("\0\0\x08\x03\0\0\0\x02\0\0\0\0\0\0\0\x02"s);          // images of no rows
  refused("\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"s);  // a product beyond 64 bits
  refused("\0\0\x08\x03\0\0\0\x02\0\0\x80\0\0\0\x40\0"s);        // claims 2 GB
  CHECK_THROWS_AS(digits<double>(images, write("eleven", "\0\0\x08\x01\0\0\0\x02\x03\x0b"s), 1, 5), std::runtime_error);
  CHECK_THROWS_AS(digits<double>(images, write("other", "hello, world"), 1, 5), std::runtime_error);
  CHECK_THROWS_AS(digits<double>((folder / "none").string(), labels, 1, 5), std::runtime_error);
}
