// Corpus: text as bytes, split into what is trained on and what is held out.
//
// A folder is read recursively in the order of its paths; files with a zero byte are not text and are passed over.
// About one file in twenty is held out, chosen by a hash of its path inside the folder: the same files are held out on
// every machine, and adding a file moves none of the others. Of a single file the last twentieth is held out. Files are
// joined by one zero byte, which is how the model learns that a text has ended.
#pragma once

#include <algorithm>  // std::find, std::sort, std::min_element
#include <filesystem>
#include <fstream>
#include <iterator>   // std::istreambuf_iterator
#include <span>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <utility>    // std::move
#include <vector>

#include "examples/pretrain/layout.hpp"
#include "examples/pretrain/random.hpp"

namespace pretrain {

/// 64-bit FNV-1a.
inline std::uint64_t hash_bytes(std::span<const Byte> bytes, std::uint64_t hash = 0xcbf29ce484222325u) {
  for (const Byte b : bytes) hash = (hash ^ b) * 0x100000001b3u;
  return hash;
}
inline std::uint64_t hash_text(const std::string& text) {
  return hash_bytes({reinterpret_cast<const Byte*>(text.data()), text.size()});
}

inline std::vector<Byte> read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<Byte> bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return bytes;
}

struct Corpus {
  std::vector<Byte> training, held_out;
  std::size_t training_files = 0, held_out_files = 0;
  std::uint64_t fingerprint = 0;  // of every byte and of the split

  /// Reads a file or a folder. Throws std::runtime_error when it is not there, or when a part is shorter than the
  /// window of bytes that training needs.
  static Corpus read(const std::filesystem::path& path, Index window) {
    if (!std::filesystem::exists(path)) throw std::runtime_error("no such file or folder: " + path.string());
    Corpus corpus;
    if (std::filesystem::is_directory(path))
      corpus.read_folder(path);
    else
      corpus.split(read_file(path));
    for (const auto& [bytes, name] : {std::pair(&corpus.training, "training"), std::pair(&corpus.held_out, "held-out")})
      if (Index(bytes->size()) < window)
        throw std::runtime_error(path.string() + " has " + std::to_string(bytes->size()) + " " + name +
                                 " bytes, fewer than one window of " + std::to_string(window));
    corpus.fingerprint = hash_bytes(corpus.held_out, hash_bytes(corpus.training) + 1);
    return corpus;
  }

  /// The batch of a step: `windows` windows at random places of the training text. It depends on nothing but (seed,
  /// step), so that a run that goes on at a step sees what it would have seen.
  void training_batch(std::uint64_t seed, Index step, Index windows, Index window, std::vector<Byte>& batch) const {
    const Random random(seed, std::uint64_t(step) + 0x7261696e00000000u);  // far from the streams of the weights
    batch.clear();
    for (Index w = 0; w < windows; ++w) {
      const auto places = training.size() - std::size_t(window) + 1;
      const auto at = training.begin() + std::ptrdiff_t(random.below(places, std::uint64_t(w)));
      batch.insert(batch.end(), at, at + window);
    }
  }

  /// Windows [first, first + count) of `total` that are evenly spread over the held-out text.
  void held_out_batch(Index first, Index count, Index total, Index window, std::vector<Byte>& batch) const {
    batch.clear();
    const double spacing = double(Index(held_out.size()) - window) / double(std::max<Index>(1, total - 1));
    for (Index w = first; w < first + count; ++w) {
      const auto at = held_out.begin() + std::ptrdiff_t(spacing * double(w));
      batch.insert(batch.end(), at, at + window);
    }
  }

 private:
  struct File {
    std::string name;
    std::uint64_t hash;
  };

  void read_folder(const std::filesystem::path& folder) {
    std::vector<File> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) {
        std::string name = entry.path().lexically_relative(folder).generic_string();
        const std::uint64_t hash = Random(hash_text(name), 0).bits(0);
        files.push_back({std::move(name), hash});
      }
    std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.name < b.name; });
    std::vector<std::vector<Byte>> texts;
    std::vector<std::uint64_t> hashes;
    for (const File& file : files) {
      std::vector<Byte> text = read_file(folder / file.name);
      if (text.empty() || std::find(text.begin(), text.end(), Byte(0)) != text.end()) continue;
      texts.push_back(std::move(text));
      hashes.push_back(file.hash);
    }
    if (texts.empty()) throw std::runtime_error("no text file in " + folder.string());
    if (texts.size() == 1) return split(texts[0]);
    const std::uint64_t lowest = *std::min_element(hashes.begin(), hashes.end());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const bool hold = hashes[i] == lowest || hashes[i] < ~std::uint64_t(0) / 20;
      std::vector<Byte>& part = hold ? held_out : training;
      ++(hold ? held_out_files : training_files);
      part.insert(part.end(), texts[i].begin(), texts[i].end());
      part.push_back(0);
    }
  }

  void split(const std::vector<Byte>& text) {
    const auto border = text.end() - std::ptrdiff_t(text.size() / 20);
    training.assign(text.begin(), border);
    held_out.assign(border, text.end());
    training_files = held_out_files = 1;
  }
};

}  // namespace pretrain
