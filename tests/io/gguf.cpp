#include <iterator>

#include <lowrank/io/gguf.hpp>
#include <support/catch.hpp>
#include <support/folder.hpp>

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using lowrank::io::Gguf;
using lowrank::io::GgufTensor;
using lowrank::io::GgufValue;
using lowrank::io::write_gguf;

namespace {

std::vector<std::byte> bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> text(std::istreambuf_iterator<char>(file), {});
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

/// A file of our own, small enough to be cut everywhere.
std::vector<std::byte> example(const support::Folder& folder) {
  const float a[] = {1, 2, 3, 4, 5, 6};
  const std::uint16_t b[] = {7, 8};
  write_gguf(folder / "x.gguf",
             {{"general.type", GgufValue::string("adapter")},
              {"x.alpha", GgufValue::f32(1.5f)},
              {"x.list", {GgufValue::Type::Array, GgufValue::Type::U16, {std::byte(1), std::byte(0), std::byte(2), std::byte(0)}, {}}},
              {"x.names", {GgufValue::Type::Array, GgufValue::Type::String, {}, {"one", "two"}}}},
             {{"first", "F32", {3, 2}, std::as_bytes(std::span(a))}, {"second", "BF16", {2}, std::as_bytes(std::span(b))}});
  return bytes(folder / "x.gguf");
}

}  // namespace

TEST_CASE("GGUF: the round trip, and the layout") {
  const support::Folder folder("gguf");
  const auto file = example(folder);
  const Gguf read = Gguf::parse(file, "test");
  CHECK(read.text("general.type") == "adapter");
  CHECK(read.text("x.alpha").empty());
  CHECK(read.metadata().at("x.list").bytes.size() == 4);
  CHECK(read.metadata().at("x.names").texts == std::vector<std::string>{"one", "two"});
  REQUIRE(read.tensors().size() == 2);
  CHECK(read.find("first")->dims == std::vector<std::uint64_t>{3, 2});
  CHECK((read.find("second")->dtype == "BF16" && read.find("third") == nullptr));
  float x = 0;
  std::memcpy(&x, read.find("first")->data.data() + 20, 4);
  CHECK(x == 6);
  // magic, version 3, two tensors, four values; data and each tensor at multiples of 32, the file padded too
  const unsigned char head[] = {'G', 'G', 'U', 'F', 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0};
  CHECK(std::memcmp(file.data(), head, sizeof(head)) == 0);
  CHECK(file.size() % 32 == 0);
  CHECK((reinterpret_cast<const std::byte*>(read.find("second")->data.data()) - read.find("first")->data.data()) == 32);
}

TEST_CASE("GGUF: damaged files end in an error that says what is wrong") {
  const support::Folder folder("gguf_bad");
  const auto good = example(folder);
  // the padding after the last tensor may be missing, nothing else
  const std::size_t needed = good.size() - 28;
  for (std::size_t n = 0; n < needed; ++n) {
    CAPTURE(n);
    CHECK_THROWS_AS(Gguf::parse({good.begin(), good.begin() + std::ptrdiff_t(n)}, "test"), std::runtime_error);
  }
  CHECK_NOTHROW(Gguf::parse({good.begin(), good.begin() + std::ptrdiff_t(needed)}, "test"));
  const auto refused = [&](std::size_t at, std::uint64_t value, std::size_t width, const char* what) {
    auto file = good;
    std::memcpy(file.data() + at, &value, width);
    CHECK_THROWS_MATCHES(Gguf::parse(file, "test"), std::runtime_error, MessageMatches(ContainsSubstring(what)));
  };
  refused(0, 'x', 1, "does not begin with GGUF");
  refused(4, 1, 4, "version 1");
  refused(8, ~0ull, 8, "more tensors or values");
  refused(16, 1ull << 60, 8, "more tensors or values");
  refused(24, 1ull << 40, 8, "ends in a key");
  const auto find = [&](const char* text) {
    const auto* begin = reinterpret_cast<const char*>(good.data());
    return std::size_t(std::search(begin, begin + good.size(), text, text + std::strlen(text)) - begin);
  };
  const std::size_t first = find("first"), second = find("second");
  refused(find("x.alpha") + 7, 13, 4, "unknown type 13");
  refused(find("x.list") + 6 + 4, 9, 4, "array of arrays");
  refused(find("x.list") + 6 + 8, 1ull << 62, 8, "ends in the value of 'x.list'");
  refused(first + 5, 5, 4, "has 5 dimensions");
  refused(first + 9, 1ull << 63, 8, "overflows");
  refused(first + 9, 1ull << 30, 8, "larger than the file");
  refused(first + 25, 2, 4, "type 2, which is not read");
  refused(first + 29, 32, 8, "begins at 32, expected 0");
  refused(second + 22 - 4, 0, 8, "begins at 0, expected 32");
  auto longer = good;
  longer.resize(good.size() + 64);
  CHECK_THROWS_MATCHES(Gguf::parse(longer, "test"), std::runtime_error, MessageMatches(ContainsSubstring("after the last tensor")));
  auto twice = good;
  std::memcpy(twice.data() + find("x.names"), "x.alpha", 7);
  CHECK_THROWS_MATCHES(Gguf::parse(twice, "test"), std::runtime_error, MessageMatches(ContainsSubstring("two values for 'x.alpha'")));
}

TEST_CASE("GGUF: what contradicts itself is not written") {
  const support::Folder folder("gguf_write");
  const float a[] = {1, 2};
  const auto data = std::as_bytes(std::span(a));
  const auto path = folder / "x.gguf";
  CHECK_THROWS_AS(write_gguf(path, {}, {{"a", "F32", {3}, data}}), std::invalid_argument);
  CHECK_THROWS_AS(write_gguf(path, {}, {{"a", "Q4", {2}, data}}), std::invalid_argument);
  CHECK_THROWS_AS(write_gguf(path, {}, {{"a", "F32", {2}, data}, {"a", "F32", {2}, data}}), std::invalid_argument);
  CHECK_THROWS_AS(write_gguf(path, {}, {{std::string(65, 'a'), "F32", {2}, data}}), std::invalid_argument);
  CHECK_THROWS_AS(write_gguf(path, {{"k", GgufValue::f32(1)}, {"k", GgufValue::f32(1)}}, {}), std::invalid_argument);
  CHECK_THROWS_AS(write_gguf(path, {{"k", {GgufValue::Type::U32, GgufValue::Type::U8, {}, {}}}}, {}), std::invalid_argument);
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK_THROWS_AS(write_gguf(folder / "no" / "x.gguf", {}, {{"a", "F32", {2}, data}}), std::runtime_error);
}
