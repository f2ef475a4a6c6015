#include "server/ctl_terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "proto/clock.h"
#include "server/ctl_text.h"

namespace syncnorm::server {
namespace {

constexpr char kEnter[] = "\x1b[?1049h\x1b[?25l";  // the alternate screen, no cursor
constexpr char kLeave[] = "\x1b[?25h\x1b[?1049l";
constexpr char kHome[] = "\x1b[H";
constexpr char kClearLine[] = "\x1b[K";
constexpr char kClearBelow[] = "\x1b[J";

// For the signal handler, which gives the terminal back.
int terminal_fd = -1;
bool terminal_keys = false;
termios terminal_before;

void GiveBack() {
  if (terminal_keys) tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
  const ssize_t written = write(terminal_fd, kLeave, sizeof(kLeave) - 1);
  static_cast<void>(written);  // nobody is there to be told
}

void End(int signal) {
  GiveBack();
  if (signal == SIGINT) _exit(0);
  std::signal(signal, SIG_DFL);
  raise(signal);
}

void Nothing(int) {}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;  // without SA_RESTART: a wait ends
  sigaction(signal, &action, nullptr);
}

}  // namespace

CtlTerminal::CtlTerminal(std::FILE* out, bool screen)
    : out_(out), terminal_(screen && isatty(fileno(out)) == 1) {
  if (!terminal_) return;
  terminal_fd = fileno(out);
  if (isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &terminal_before) == 0) {
    termios keys = terminal_before;
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    keys_ = tcsetattr(STDIN_FILENO, TCSANOW, &keys) == 0;
  }
  terminal_keys = keys_;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) Handle(signal, &End);
  Handle(SIGWINCH, &Nothing);
  Handle(SIGTSTP, SIG_IGN);  // a stopped program would keep the screen
}

CtlTerminal::~CtlTerminal() {
  if (!terminal_) return;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP}) Handle(signal, SIG_DFL);
  GiveBack();
}

FrameSize CtlTerminal::size() const {
  winsize window = {};
  if (!terminal_ || ioctl(fileno(out_), TIOCGWINSZ, &window) != 0 || window.ws_row == 0) return {};
  return {window.ws_col, window.ws_row};
}

absl::StatusOr<int> CtlTerminal::Show(const std::string& frame) {
  const bool first = std::exchange(first_, false);
  if (!terminal_) return Print(absl::StrCat(first ? "" : "\n", frame), out_);
  // The last line has no newline, which would scroll; each clears what was right of it.
  absl::string_view lines = frame;
  if (!lines.empty() && lines.back() == '\n') lines.remove_suffix(1);
  return Print(absl::StrCat(first ? kEnter : "", kHome,
                            absl::StrReplaceAll(lines, {{"\n", absl::StrCat(kClearLine, "\r\n")}}),
                            kClearLine, kClearBelow),
               out_);
}

bool CtlTerminal::Wait(absl::Duration interval) const {
  const absl::Time end = MonotonicClock().Now() + interval;
  while (true) {
    const absl::Duration left = end - MonotonicClock().Now();
    if (left <= absl::ZeroDuration()) return true;
    pollfd keys = {STDIN_FILENO, POLLIN, 0};
    const auto milliseconds = static_cast<int>(
        absl::ToInt64Milliseconds(std::min(left, absl::Hours(1)) + absl::Milliseconds(1)));
    const int ready = poll(&keys, keys_ ? 1 : 0, milliseconds);
    if (ready < 0) return true;  // the window's size
    char key = 0;
    if (ready > 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q')) return false;
  }
}

}  // namespace syncnorm::server
