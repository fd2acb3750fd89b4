// The text the example trains on: what is held out, which windows a step sees, and what is refused. And the table that
// a killed program leaves behind.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "examples/pretrain/corpus.hpp"
#include "examples/pretrain/csv.hpp"
#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;
using pretrain::Byte;
using pretrain::Corpus;

/// A folder of its own that goes away again.
struct Folder {
  fs::path path;
  Folder() : path(fs::temp_directory_path() / ("lowrank_corpus_" + std::to_string(std::random_device{}()))) {
    fs::create_directories(path / "sub");
  }
  ~Folder() { fs::remove_all(path); }
  void file(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
  }
};

bool contains(const std::vector<Byte>& text, const std::string& part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end()) != text.end();
}

}  // namespace

TEST_CASE("a file is held out for its name alone, and every file is on one side") {
  const Folder folder;
  for (int i = 0; i < 200; ++i)
    folder.file((i % 2 ? "sub/" : "") + std::to_string(i) + ".txt", "<text of file " + std::to_string(i) + ">");
  folder.file("picture", std::string("\x89\0binary", 9));
  folder.file("empty", "");
  const Corpus all = Corpus::read(folder.path, 16);
  CHECK(all.training_files + all.held_out_files == 200);
  CHECK(all.held_out_files >= 3);
  CHECK(all.held_out_files <= 25);
  for (int i = 0; i < 200; ++i) {
    const std::string text = "<text of file " + std::to_string(i) + ">";
    CHECK(contains(all.training, text) != contains(all.held_out, text));
  }
  CHECK(Corpus::read(folder.path, 16).fingerprint == all.fingerprint);

  for (int i = 0; i < 100; ++i) fs::remove(folder.path / ((i % 2 ? "sub/" : "") + std::to_string(i) + ".txt"));
  const Corpus half = Corpus::read(folder.path, 16);
  CHECK(half.fingerprint != all.fingerprint);
  for (int i = 100; i < 200; ++i) {
    const std::string text = "<text of file " + std::to_string(i) + ">";
    if (contains(all.held_out, text)) CHECK(contains(half.held_out, text));
  }
}

TEST_CASE("of a single file the last twentieth is held out") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += char('a' + i % 26);
  folder.file("only", text);
  for (const fs::path& path : {folder.path, folder.path / "only"}) {
    const Corpus corpus = Corpus::read(path, 10);
    CHECK(corpus.training.size() == 950);
    CHECK(corpus.held_out.size() == 50);
    CHECK(std::equal(corpus.held_out.begin(), corpus.held_out.end(), text.begin() + 950));
  }
}

TEST_CASE("a step sees windows that depend on seed and step only; held-out windows are evenly spread") {
  Corpus corpus;
  for (int i = 0; i < 5000; ++i) corpus.training.push_back(Byte(i % 251));
  corpus.held_out.assign(corpus.training.begin(), corpus.training.begin() + 101);
  std::vector<Byte> a, b;
  corpus.training_batch(1, 7, 4, 20, a);
  corpus.training_batch(1, 7, 4, 20, b);
  CHECK(a.size() == 80);
  CHECK(a == b);
  for (std::size_t w = 0; w < 4; ++w)
    for (std::size_t i = 1; i < 20; ++i) CHECK(a[20 * w + i] == (a[20 * w + i - 1] + 1) % 251);
  corpus.training_batch(1, 8, 4, 20, b);
  CHECK(a != b);
  corpus.training_batch(2, 7, 4, 20, b);
  CHECK(a != b);

  corpus.held_out_batch(0, 11, 11, 1, a);
  for (std::size_t w = 0; w < 11; ++w) CHECK(a[w] == Byte(10 * w));  // first and last byte included
  corpus.held_out_batch(4, 3, 11, 1, b);
  CHECK(std::equal(b.begin(), b.end(), a.begin() + 4));
}

TEST_CASE("a corpus that is not there or too short is refused by name") {
  const Folder folder;
  CHECK_THROWS_WITH(Corpus::read(folder.path / "gone", 8), Catch::Matchers::ContainsSubstring("gone"));
  CHECK_THROWS_WITH(Corpus::read(folder.path, 8), Catch::Matchers::ContainsSubstring("no text file"));
  folder.file("short", "0123456789");
  CHECK_THROWS_WITH(Corpus::read(folder.path, 8), Catch::Matchers::ContainsSubstring("held-out"));
}

TEST_CASE("half a row of a table is taken away before the next one is written") {
  const Folder folder;
  const fs::path path = folder.path / "table.csv";
  folder.file("table.csv", "a,b\n1,2\n3,4");
  CHECK(pretrain::read_csv(path).size() == 1);
  pretrain::CsvWriter(path, {"a", "b"}, pretrain::CsvWriter::Open::Append).row({"5", pretrain::number(0.1)});
  CHECK(pretrain::read_csv(path) == std::vector<std::vector<std::string>>{{"1", "2"}, {"5", "0.1"}});
}
