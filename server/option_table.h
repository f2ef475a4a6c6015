// OptionTable: every option of the coordinator's program: its name, what it is
// for, what it may be, and its place in Options.  One row each; command line,
// environment, configuration file, --help and --print_config all go by it.
//
// Values are read and written as Abseil's flags are ("1m30s", "true", "4096").
//
// Thread-safety: immutable.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/options.h"

namespace syncnorm::server {

// Where an option may be given, beside the command line.
enum class Given : uint8_t { kAnywhere, kInEnvironment, kNowhereElse };

struct Option {
  std::string name;  // as after --
  std::string help;
  Given given = Given::kAnywhere;
  bool is_switch = false;  // --name and --noname do without a value
  // kInvalidArgument says what is wrong with the value, and what is expected; not whose it is.
  std::function<absl::Status(const std::string& value, Options* options)> set;
  std::function<std::string(const Options& options)> get;
};

// By name.
const std::vector<Option>& OptionTable();
// Null: there is none.
const Option* FindOption(absl::string_view name);
// The option that was probably meant; null: none is like it.
const Option* NearestOption(absl::string_view name);

}  // namespace syncnorm::server
