// Transport: the seam between the client and the network.  Carries one stream of
// messages to the coordinator and one back, as bytes.
//
//   Open -> Write, Read, ... -> kClosed -> Open again
//
// Nothing happens in the background: answers are taken from the network by the
// thread that calls Next, and a Write goes out on the thread that calls it.
//
// Rules for callers:
//   * The first operation after Open is a Write.
//   * One Write at a time, until its kWritten; one Read at a time, until its
//     kMessage; nothing but Cancel and Next after kClosed or a last Write.
//   * One thread at a time in Next.  Write and Read may be called meanwhile, each by
//     one thread at a time; Cancel by any.
//
// Callers may rely on:
//   * The end of the stream is told to whoever has a Read outstanding, after all
//     messages that came before it, and after the outstanding Write.  A Write that
//     failed is reported as written; the end of the stream tells why.
//   * Cancel makes an outstanding Read, and so Next, end with kClosed without delay.
//   * A Write that comes after the end of the stream has been told is lost; its end is told by
//     another kClosed.  Before Open no Write may be outstanding, and no other thread
//     be inside Write, Read or Cancel.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace syncnorm {

// An encoded message, which may be sent again.
using Bytes = std::shared_ptr<const std::string>;

class Transport {
 public:
  enum class Event : uint8_t { kNothing, kWritten, kMessage, kClosed };

  virtual ~Transport() = default;

  // Begins a stream.  Does not wait for the connection: the first kWritten tells of it.
  virtual void Open() = 0;

  // `last`: also closes this direction.
  virtual void Write(Bytes message, bool last) = 0;
  virtual void Read() = 0;
  virtual void Cancel() = 0;

  // Whether a Write is outstanding, whose end Next has not told.
  virtual bool writing() const = 0;

  // The next event; kNothing at `deadline` (monotonic, see proto/clock.h).  With
  // a deadline that has passed, looks once at the network and does not wait.
  virtual Event Next(absl::Time deadline) = 0;

  // After kMessage, until the next Read.
  virtual std::string_view message() const = 0;
  // After kClosed: how the stream ended.
  virtual const absl::Status& status() const = 0;

  // After kClosed: waits until Open is worth another try, at most until `deadline`.
  virtual void AwaitRetry(absl::Time deadline) = 0;
};

}  // namespace syncnorm
