// Incarnation: the 16 random bytes by which the coordinator tells a worker that
// connects again from a second worker with the same rank.
//
// They are this process's own, so that a Group that is made again after a failure is
// known.  A membership (address, group, rank) that is already held in this
// process gets fresh ones, so that the second holder is refused like one of another process.
//
// Thread-safety: thread-safe.
#pragma once

#include <cstdint>
#include <string>

namespace syncnorm {

class Incarnation {
 public:
  // `membership` names address, group and rank.
  explicit Incarnation(std::string membership);
  ~Incarnation();
  Incarnation(const Incarnation&) = delete;
  Incarnation& operator=(const Incarnation&) = delete;

  const std::string& bytes() const { return bytes_; }

 private:
  const std::string membership_;
  bool holder_ = false;
  std::string bytes_;
};

// Join.ticket of one more membership that this process asks for.
uint64_t NewTicket();

}  // namespace syncnorm
