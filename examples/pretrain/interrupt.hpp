// Interrupt: Ctrl-C and a polite kill ask the program to stop; it finishes the step it is in, writes a checkpoint and
// says how to go on. A second request ends it at once, which the last complete checkpoint survives.
#pragma once

#include <csignal>

namespace pretrain {

class Interrupt {
 public:
  static void watch() {
    std::signal(SIGINT, &Interrupt::ask);
    std::signal(SIGTERM, &Interrupt::ask);
  }
  static bool asked() { return asked_ != 0; }

 private:
  static void ask(int signal) {
    asked_ = 1;
    std::signal(signal, SIG_DFL);
  }
  static inline volatile std::sig_atomic_t asked_ = 0;
};

}  // namespace pretrain
