// The built program as its user meets it: a command line, two streams, an exit code, files in a folder.
#pragma once

#if defined(PRETRAIN_PROGRAM)  // else nobody built it, and its tests skip

#include <algorithm>  // std::find_if
#include <cstdlib>    // setenv
#include <filesystem>
#include <fstream>
#include <iterator>  // std::istreambuf_iterator
#include <random>    // std::random_device
#include <string>
#include <vector>

#include <csignal>
#include <fcntl.h>     // open
#include <sys/wait.h>  // waitpid
#include <unistd.h>    // fork, execv, usleep

namespace program {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

inline std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline Words split(const std::string& line, char at) {
  Words words;
  std::string word;
  for (const char c : line + at) {
    if (c == at) words.push_back(std::move(word)), word.clear();
    else word += c;
  }
  return words;
}

/// A folder with a small corpus, and what the program writes. Gone with the object.
class Place {
 public:
  Place() : root_(fs::temp_directory_path() / ("lowrank_pretrain_" + std::to_string(std::random_device{}()))) {
    fs::create_directories(root_ / "text");
    for (int i = 0; i < 40; ++i) {
      std::ofstream file(root_ / "text" / std::to_string(i));
      for (int line = 0; line < 20; ++line) file << "line " << (i * line) % 17 << " of text " << i << " says " << line * line << '\n';
    }
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { fs::remove_all(root_); }

  fs::path operator/(const std::string& name) const { return root_ / name; }

  /// A model and a text so small that a step takes less than a millisecond.
  Words small(const std::string& out) const {
    return {"--corpus", (root_ / "text").string(), "--out", (root_ / out).string(), "--d-model", "12", "--d-ff", "20",
            "--layers", "2", "--heads", "2", "--context", "10", "--batch", "3", "--eval-windows", "7",
            "--curve-windows", "4", "--eval-every", "4", "--rank", "3"};
  }

  struct Ended {
    int code;          // -1: by a signal
    std::string text;  // both streams
  };
  Ended run(const Words& words, const std::string& program = PRETRAIN_PROGRAM) const { return wait(start(words, program)); }

  pid_t start(const Words& words, const std::string& program = PRETRAIN_PROGRAM) const {
    const std::string log = (root_ / "log").string();
    Words all{program};
    all.insert(all.end(), words.begin(), words.end());
    std::vector<char*> arguments;
    for (std::string& word : all) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      dup2(file, 1), dup2(file, 2);
      setenv("OMP_NUM_THREADS", "1", 1);  // several tests share the cores
      setenv("OMP_WAIT_POLICY", "passive", 1);
      execv(arguments[0], arguments.data());
      _exit(127);
    }
    return child;
  }
  Ended wait(pid_t child) const {
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text_of(root_ / "log")};
  }

 private:
  fs::path root_;
};

inline Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// A table's rows with these columns only, header included.
inline std::vector<Words> columns(const fs::path& csv, const Words& names) {
  std::vector<Words> rows;
  std::vector<std::size_t> places;
  for (const std::string& line : split(text_of(csv), '\n')) {
    if (line.empty()) continue;
    const Words cells = split(line, ',');
    if (places.empty())
      for (const std::string& name : names)
        places.push_back(std::size_t(std::find(cells.begin(), cells.end(), name) - cells.begin()));
    Words& row = rows.emplace_back();
    for (const std::size_t place : places) row.push_back(cells.at(place));
  }
  return rows;
}

}  // namespace program

#endif
