// Sets of up to 8 elements, a byte each, and for each element the sets that it is in: a matrix of bits and its
// transpose. Bytes of a number are in memory from the lowest up.
#pragma once

#include <cstdint>
#include <cstring>

namespace lift {

constexpr int kSets = 64;
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

// Byte i, bit j becomes byte j, bit i (Hacker's Delight, 7-3).
inline uint64_t transpose8(uint64_t x) {
  uint64_t swapped = (x ^ (x >> 7)) & 0x00aa00aa00aa00aau;
  x ^= swapped ^ (swapped << 7);
  swapped = (x ^ (x >> 14)) & 0x0000cccc0000ccccu;
  x ^= swapped ^ (swapped << 14);
  swapped = (x ^ (x >> 28)) & 0x00000000f0f0f0f0u;
  return x ^ swapped ^ (swapped << 28);
}

// Bit i of in[j]: whether j is in set i.
inline void sets_with(const uint8_t sets[kSets], uint64_t in[8]) {
  uint8_t eighths[8][kSets / 8];
  for (int k = 0; k < kSets / 8; ++k) {
    uint64_t eight;
    std::memcpy(&eight, sets + 8 * k, sizeof eight);
    eight = transpose8(eight);
    for (int j = 0; j < 8; ++j) eighths[j][k] = eight >> (8 * j);
  }
  std::memcpy(in, eighths, sizeof eighths);
}

// The inverse of sets_with().
inline void sets_of(const uint64_t in[8], uint8_t sets[kSets]) {
  for (int k = 0; k < kSets / 8; ++k) {
    uint64_t eight = 0;
    for (int j = 0; j < 8; ++j) eight |= (in[j] >> (8 * k) & 0xff) << (8 * j);
    eight = transpose8(eight);
    std::memcpy(sets + 8 * k, &eight, sizeof eight);
  }
}

}  // namespace lift
