// c_order.npy, fortran.npy and vector.npy in tests/data were written by numpy.
#include <iterator>

#include <lowrank/io/npy.hpp>
#include <support/catch.hpp>
#include <support/folder.hpp>

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using lowrank::io::Npy;
using lowrank::io::write_npy;

namespace {

const std::filesystem::path data = std::filesystem::path(LOWRANK_TEST_DATA) / "data";

std::vector<char> bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
template <class T>
T element(const Npy& a, std::size_t i) {
  T x{};
  std::memcpy(&x, a.data.data() + i * sizeof(T), sizeof(T));
  return x;
}
Npy parse(std::vector<char> file) { return Npy::parse(std::as_bytes(std::span(file)), "test"); }

}  // namespace

TEST_CASE("what numpy wrote is read, and written again byte by byte") {
  const Npy c = Npy::read(data / "c_order.npy"), f = Npy::read(data / "fortran.npy"), v = Npy::read(data / "vector.npy");
  CHECK((c.dtype == "F32" && c.shape == std::vector<std::uint64_t>{3, 4} && c.order == Npy::Order::C));
  CHECK((f.dtype == "F64" && f.shape == std::vector<std::uint64_t>{2, 3} && f.order == Npy::Order::Fortran));
  CHECK((v.dtype == "I16" && v.shape == std::vector<std::uint64_t>{3}));
  for (std::size_t i = 0; i < 12; ++i) CHECK(element<float>(c, i) == float(i) / 8);
  for (std::size_t i = 0; i < 6; ++i) CHECK(element<double>(f, i) == double(i / 2 + i % 2 * 3));  // column by column
  CHECK((element<std::int16_t>(v, 0) == -1 && element<std::int16_t>(v, 2) == 300));
  const support::Folder folder("npy");
  for (const char* name : {"c_order.npy", "fortran.npy", "vector.npy"}) {
    write_npy(folder / name, Npy::read(data / name));
    CHECK(bytes(folder / name) == bytes(data / name));
  }
}

TEST_CASE("scalars, empty arrays and every type make the round trip") {
  const support::Folder folder("npy_round");
  for (const auto& type : lowrank::io::detail::npy_types)
    for (const auto& shape : {std::vector<std::uint64_t>{}, {0, 5}, {2, 3, 4}}) {
      Npy array{std::string(type.dtype), shape, Npy::Order::C, {}};
      std::uint64_t n = type.bytes;
      for (const std::uint64_t d : shape) n *= d;
      for (std::uint64_t i = 0; i < n; ++i) array.data.push_back(std::byte(i));
      write_npy(folder / "x.npy", array);
      const Npy again = Npy::read(folder / "x.npy");
      CHECK((again.dtype == array.dtype && again.shape == array.shape && again.data == array.data));
    }
  CHECK_THROWS_AS(write_npy(folder / "x.npy", {"F32", {2}, Npy::Order::C, {}}), std::invalid_argument);
  CHECK_THROWS_AS(write_npy(folder / "x.npy", {"F8", {0}, Npy::Order::C, {}}), std::invalid_argument);
}

TEST_CASE("damaged arrays end in an error that says what is wrong") {
  const auto good = bytes(data / "c_order.npy");
  for (std::size_t n = 0; n < good.size(); ++n) CHECK_THROWS_AS(parse({good.begin(), good.begin() + std::ptrdiff_t(n)}), std::runtime_error);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text(good.begin(), good.end());
    text.replace(text.find(from), from.size(), to);
    return std::vector<char>(text.begin(), text.end());
  };
  const auto refused = [&](const std::vector<char>& file, const char* what) {
    CHECK_THROWS_MATCHES(parse(file), std::runtime_error, MessageMatches(ContainsSubstring(what)));
  };
  refused(with("NUMPY", "NUMPI"), "does not begin");
  refused(with("<f4", "<c8"), "type '<c8' is not known");
  refused(with("<f4", ">f4"), "type '>f4' is not known");
  refused(with("(3, 4)", "(3, 5)"), "48 bytes of data where the shape needs 60");
  refused(with("(3, 4), }", "(3,-4), }"), "natural number");
  refused(with("False", "Maybe"), "fortran_order");
  refused(with("'shape': (3, 4), }", "'descr': '<f4', } "), "unknown or double");
  refused(with("'shape': (3, 4), }", "                 }"), "key is missing");
  refused(with("(3, 4), }  ", "(3, 4), } x"), "text after");
  refused(with("'shape': (3, 4), }                  ", "'shape': (4294967296,9999999999999)}"), "overflows");
  auto longer = good;
  longer.push_back('x');
  refused(longer, "49 bytes");
  CHECK_THROWS_AS(Npy::read(data / "nothing.npy"), std::runtime_error);
}
