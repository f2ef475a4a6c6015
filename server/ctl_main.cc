// syncnormctl: asks a coordinator who waited for whom, and how it is; ends it; makes its
// certificates.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "server/ctl_command.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // of a pager that was left: an error of the write
  const auto environment = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  return syncnorm::server::RunCtl(std::vector<std::string>(argv + 1, argv + argc), environment,
                                  stdout, stderr);
}
