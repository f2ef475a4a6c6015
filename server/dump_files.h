// DumpFiles: the files of --dump_dir, one a report.  A file appears whole or not
// at all (written beside, then renamed), and never in the place of another
// one: names are numbered, and a number that a former process used is skipped.
//
// Bounded: of the files that this process wrote the latest kFiles stay.
//
// A disk that becomes full, or a directory that goes, costs the file and nothing
// else: it is counted and said in the log, once until a file can be written again.  A directory
// that cannot be right from the start is found by Check.
//
// Thread-safety: Write by one thread at a time; the counters by any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace syncnorm::server {

class DumpFiles {
 public:
  // A file is 1 MB for a group of 8 with 310 layers and 2,048 rounds: 100 MB.
  static constexpr size_t kFiles = 100;

  // Empty: no files, Write writes to stderr.
  explicit DumpFiles(std::string directory, size_t files = kFiles)
      : directory_(std::move(directory)), max_files_(files) {}

  // Whether files may be made in the directory, as far as can be told without making one.
  // kFailedPrecondition: the directory, and why not.
  static absl::Status Check(const std::string& directory);

  bool on() const { return !directory_.empty(); }
  // As DIRECTORY/NAME-n.json.  kUnavailable: the file and why it could not be written.
  absl::Status Write(absl::string_view name, absl::string_view text);

  uint64_t written() const { return written_; }
  uint64_t failed() const { return failed_; }

  // "syncnorm-GROUP-EPOCH", with '_' for every byte of the group's name that is not of
  // [A-Za-z0-9._-].
  static std::string Name(absl::string_view group, uint64_t epoch);

 private:
  absl::Status Put(const std::string& path, absl::string_view text) const;

  const std::string directory_;
  const size_t max_files_;
  uint64_t number_ = 0;            // of the last file
  std::deque<std::string> files_;  // written and not removed, the oldest first
  bool failing_ = false;
  std::atomic<uint64_t> written_ = 0;
  std::atomic<uint64_t> failed_ = 0;
};

}  // namespace syncnorm::server
