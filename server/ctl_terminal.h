// CtlTerminal: the screen of a program that redraws it, and the keys that end
// it.  When the output is no terminal, it writes what it is given, plain.
//
// While it lives, a terminal shows the alternate screen without a cursor, and keys are read one by
// one.  Its end, SIGINT, SIGTERM and SIGHUP give the terminal back as it was; SIGINT ends the
// program with status 0, the others as usual.
//
// Thread-safety: one at a time in a process, as it takes its signals.
#pragma once

#include <cstdio>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/ctl_top_frame.h"

namespace syncnorm::server {

class CtlTerminal {
 public:
  // `screen` false: as if `out` were no terminal.
  CtlTerminal(std::FILE* out, bool screen);
  ~CtlTerminal();
  CtlTerminal(const CtlTerminal&) = delete;
  CtlTerminal& operator=(const CtlTerminal&) = delete;

  // Now; without bounds if it is no terminal.
  FrameSize size() const;
  // In place of what is shown, or after it if it is no terminal.
  absl::StatusOr<int> Show(const std::string& frame);
  // Until the next frame is due, or the window's size has changed.  False: q was pressed.
  bool Wait(absl::Duration interval) const;

 private:
  std::FILE* const out_;
  const bool terminal_;
  bool keys_ = false;  // that are read one by one
  bool first_ = true;
};

}  // namespace syncnorm::server
