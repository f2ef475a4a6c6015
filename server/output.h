// What the coordinator's core answers an event with: replies for the shell to
// send, and notes for it to log.  The core itself sends and logs nothing.
//
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/report.h"
#include "server/subject.h"

namespace syncnorm::server {

// Names one stream of one worker for as long as the coordinator lives.  Issued by the shell, from
// 1; never used twice.
using StreamId = uint64_t;

// An encoded CoordinatorMessage.  Encoded once and shared by all that receive it.
using Bytes = std::shared_ptr<const std::string>;

struct Reply {
  StreamId stream = 0;
  Bytes bytes;          // null: nothing to send
  bool answer = false;  // answers the stream's last Join or Contribution
  bool close = false;   // the stream ends after the bytes; the core has forgotten it
};

struct Note {
  enum class Severity : uint8_t { kInfo, kWarning };
  // Of a group, about a stream that was turned away, or about a round that waits: a flood of one
  // kind must not hide the others.
  enum class Source : uint8_t { kGroup, kStranger, kWait };
  Severity severity = Severity::kInfo;
  Source source = Source::kGroup;
  std::string text;
  Subject subject = {};
};

// Appended to, in the order in which the replies are to be sent.
struct Output {
  std::vector<Reply> replies;
  std::vector<Note> notes;
  std::vector<Report> incidents;  // each of one group, as it was when something failed in it

  void Clear() {
    replies.clear();
    notes.clear();
    incidents.clear();
  }
};

}  // namespace syncnorm::server
