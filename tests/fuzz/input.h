// Input: the bytes of a fuzzer, taken as choices from the front.  Once they are
// used up every choice is 0, so that each prefix of an input means the beginning of the same story.
//
// Thread-safety: thread-compatible.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace syncnorm::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }

  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  // In [0, n), n at most 256.
  uint32_t Below(uint32_t n) { return Byte() % n; }
  bool Flag() { return (Byte() & 1) != 0; }
  // Two bytes of length, and as many of these bytes as there are.
  std::string Bytes() {
    const size_t low = Byte();
    const size_t told = low | size_t{Byte()} << 8;
    const size_t length = std::min(rest_.size(), told);
    std::string bytes(rest_.substr(0, length));
    rest_.remove_prefix(length);
    return bytes;
  }

 private:
  std::string_view rest_;
};

}  // namespace syncnorm::fuzz
