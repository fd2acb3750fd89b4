// safetensors files: byte for byte the reference writer's, and nothing that is not one is read. The files in tests/data
// were written by the safetensors package for Python.
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include <support/catch.hpp>

#include <lowrank/io/safetensors.hpp>

using namespace lowrank::io;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

const fs::path data = fs::path(LOWRANK_TEST_DATA) / "data";

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
Safetensors parse(const std::string& s) {
  const auto* begin = reinterpret_cast<const std::byte*>(s.data());
  return Safetensors::parse({begin, begin + s.size()}, "test");
}
/// A file with this header and so many bytes of data.
std::string file(const std::string& header, std::size_t bytes) {
  std::string s(8, '\0');
  const std::uint64_t n = header.size();
  std::memcpy(s.data(), &n, 8);
  return s + header + std::string(bytes, '\x01');
}

struct Folder {
  fs::path path;
  explicit Folder(const char* name) : path(fs::temp_directory_path() / (std::string("lowrank_") + name + std::to_string(getpid()))) {
    fs::create_directories(path);
  }
  ~Folder() {
    fs::permissions(path, fs::perms::owner_all);
    fs::remove_all(path);
  }
};

}  // namespace

TEST_CASE("The writer's bytes are the reference implementation's", "[io]") {
  const Folder folder("safetensors");
  for (const char* name : {"reference.safetensors", "plain.safetensors"}) {
    const Safetensors read = Safetensors::read(data / name);
    auto tensors = read.tensors();
    std::reverse(tensors.begin(), tensors.end());
    write_safetensors(folder.path / name, tensors, read.metadata());
    CHECK(contents(folder.path / name) == contents(data / name));
  }
}

TEST_CASE("Tensors and metadata of a reference file", "[io]") {
  const Safetensors read = Safetensors::read(data / "reference.safetensors");
  CHECK(read.tensors().size() == 10);
  CHECK(read.metadata().at("lowrank") == "{\"version\":1,\"text\":\"a \\\"quoted\\\" word\\n\"}");
  const Tensor* m = read.find("b/exp_avg");
  REQUIRE(m != nullptr);
  CHECK(m->dtype == "F32");
  CHECK(m->shape == std::vector<std::uint64_t>{2, 3});
  float last = 0;
  std::memcpy(&last, m->data.data() + 20, 4);
  CHECK(last == 5);
  CHECK(read.find("a/steps")->shape.empty());
  CHECK(read.find("empty")->data.empty());
  CHECK(read.find("é\"q\\")->dtype == "I8");
  CHECK(read.find("nothing") == nullptr);
}

TEST_CASE("Files that are not safetensors are refused with the reason", "[io]") {
  const auto refused = [](const std::string& bytes, const char* why) {
    INFO(bytes.substr(0, 200));
    CHECK_THROWS_WITH(parse(bytes), ContainsSubstring(why) && ContainsSubstring("test"));
  };
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";
  CHECK(parse(file(good, 11)).tensors().size() == 2);
  CHECK(parse(file("{}", 0)).tensors().empty());
  refused("", "shorter");
  refused("1234567", "shorter");
  refused(file(good, 12), "after the last tensor");
  refused(file(good, 10), "outside the file");
  std::string huge = file("{}", 0);
  huge[4] = 1;
  refused(huge, "a header of");
  std::string longer = file("{}", 0);
  longer[0] = 3;
  refused(longer, "ends after the file");
  const auto one = [](const std::string& fields) { return R"({"a":{)" + fields + "}}"; };
  refused(file(" {}", 0), "does not begin");
  refused(file("[]", 0), "does not begin");
  refused(file("{", 0), "JSON");
  refused(file(one(R"("dtype":"F32","shape":[2])"), 8), "is not {dtype");
  refused(file(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1)"), 8), "is not {dtype");
  refused(file(R"({"a":[]})", 0), "is not {dtype");
  refused(file(one(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), 8), "unknown dtype");
  refused(file(one(R"("dtype":4,"shape":[2],"data_offsets":[0,8])"), 8), "unknown dtype");
  refused(file(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8), "natural numbers");
  refused(file(one(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), 8), "not a list");
  refused(file(one(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), 8), "natural numbers");
  refused(file(one(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), 8), "two natural numbers");
  refused(file(one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8), "outside the file");
  refused(file(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8), "needs 12");
  refused(file(one(R"("dtype":"F64","shape":[4294967296,4294967296,2],"data_offsets":[0,0])"), 0), "overflows");
  refused(file(one(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"), 0), "overflows");
  refused(file(one(R"("dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8])"), 8), "natural numbers");
  refused(file(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})", 3), "duplicate key");
  refused(file(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3), "overlaps");
  refused(file(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})", 5), "a hole");
  refused(file(R"({"__metadata__":{"a":1}})", 0), "not text");
  refused(file(R"({"__metadata__":[]})", 0), "not an object");
}

TEST_CASE("Unaligned data is read", "[io]") {
  const Safetensors read = parse(file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]} })", 4));
  CHECK(read.find("a")->data.size() == 4);
}

TEST_CASE("A file that cannot be written leaves the old one", "[io]") {
  const Folder folder("unwritable");
  const fs::path path = folder.path / "state.safetensors";
  const std::vector<std::byte> bytes(4);
  write_safetensors(path, {{"a", "F32", {1}, bytes}});
  const std::string before = contents(path);
  CHECK_THROWS_AS(write_safetensors(path, {{"a", "F32", {2}, bytes}}), std::invalid_argument);
  CHECK_THROWS_AS(write_safetensors(path, {{"a", "F31", {1}, bytes}}), std::invalid_argument);
  CHECK_THROWS_AS(write_safetensors(path, {{"a", "F32", {1}, bytes}, {"a", "F32", {1}, bytes}}), std::invalid_argument);
  CHECK_THROWS_AS(write_safetensors(path, {{"\xff", "F32", {1}, bytes}}), std::runtime_error);
  CHECK_THROWS_WITH(write_safetensors(folder.path / "no" / "x", {{"a", "F32", {1}, bytes}}), ContainsSubstring("cannot be written"));
  // a folder in the way: the rename fails, the temporary is cleared away
  fs::create_directories(folder.path / "taken" / "inside");
  CHECK_THROWS_WITH(write_safetensors(folder.path / "taken", {{"a", "F32", {1}, bytes}}), ContainsSubstring("cannot be replaced"));
  CHECK(contents(path) == before);
  CHECK(std::distance(fs::directory_iterator(folder.path), fs::directory_iterator()) == 2);
  CHECK_THROWS_WITH(Safetensors::read(folder.path / "absent"), ContainsSubstring("cannot be read"));
  CHECK_THROWS_WITH(Safetensors::read(folder.path), ContainsSubstring("cannot be read"));
  // a full disk, as far as a test may make one: the process may not write so much
  const std::vector<std::byte> many(100000);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  CHECK_THROWS_WITH(write_safetensors(path, {{"a", "U8", {many.size()}, many}}), ContainsSubstring("to its end"));
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK(contents(path) == before);
  CHECK(std::distance(fs::directory_iterator(folder.path), fs::directory_iterator()) == 2);
}
