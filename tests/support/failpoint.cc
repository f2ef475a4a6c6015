#include "proto/failpoint.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace syncnorm {
namespace {

constexpr char kVariable[] = "SYNCNORM_FAILPOINT";

// Where this process is to die, and at which pass.
struct Order {
  std::string name;
  uint64_t pass = 0;
};

Order ReadOrder() {
  Order order;
  const char* const text = std::getenv(kVariable);
  if (text == nullptr || *text == '\0') return order;
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  order.name = parts.first;
  if (!absl::SimpleAtoi(parts.second, &order.pass) || order.pass == 0) {
    std::fprintf(stderr, "%s=%s: expected NAME:PASS, the first pass being 1\n", kVariable, text);
    std::exit(2);
  }
  return order;
}

}  // namespace

void PassFailpoint(const char* name) {
  static const Order order = ReadOrder();
  static std::atomic<uint64_t> passes{0};
  if (order.name == name && ++passes == order.pass) kill(getpid(), SIGKILL);
}

}  // namespace syncnorm
