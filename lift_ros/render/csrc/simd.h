// One native vector of floats, through the vector extensions of GCC and Clang.
//
// Vectors wider than the machine's are lowered badly, so the width follows the instruction set of the build.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace lift {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t LaneMask __attribute__((vector_size(kLanes * sizeof(int32_t))));  // 0 or -1 in each lane

inline Lanes broadcast(float x) { return x - Lanes{}; }
inline Lanes zero_unless(LaneMask keep, Lanes x) { return (Lanes)(keep & (LaneMask)x); }
inline Lanes min(Lanes a, Lanes b) { return a < b ? a : b; }

// One bit per lane, set where the mask is.
inline uint32_t lane_bits(LaneMask m) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)m, (__m512i)m);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)m));
#elif defined(__x86_64__)
  return static_cast<uint32_t>(_mm_movemask_ps((__m128)m));
#else
  uint32_t bits = 0;
  for (int l = 0; l < kLanes; ++l) bits |= (m[l] & 1u) << l;
  return bits;
#endif
}

inline bool any(LaneMask m) {
#if defined(__aarch64__)
  return vmaxvq_u32((uint32x4_t)m) != 0;
#else
  return lane_bits(m) != 0;
#endif
}

// The sums over the lanes of four vectors at once: one transpose instead of four reductions.
inline void sum_lanes(const Lanes v[4], float sums[4]) {
  typedef float Quad __attribute__((vector_size(16)));
  Quad q[4];
  for (int i = 0; i < 4; ++i) {
    Quad part[kLanes / 4];
    std::memcpy(part, &v[i], sizeof part);
    q[i] = part[0];
    for (int j = 1; j < kLanes / 4; ++j) q[i] += part[j];
  }
#if defined(__x86_64__)
  __m128 r0 = (__m128)q[0], r1 = (__m128)q[1], r2 = (__m128)q[2], r3 = (__m128)q[3];
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  _mm_storeu_ps(sums, _mm_add_ps(_mm_add_ps(r0, r1), _mm_add_ps(r2, r3)));
#else
  for (int i = 0; i < 4; ++i) sums[i] = (q[i][0] + q[i][1]) + (q[i][2] + q[i][3]);
#endif
}

// 2^x, relative error below 2e-7, for -126 <= x <= 127. What comes out for other x means nothing.
inline Lanes exp2(Lanes x) {
  // 2^x = 2^k 2^f with k = round(x). Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
  constexpr float kRound = 12582912.0f;
  const Lanes shifted = x + kRound;
  const Lanes f = x - (shifted - kRound);
  // Minimax polynomial of 2^f, relative, on [-1/2, 1/2] (Remez; error 7.5e-8).
  Lanes p = broadcast(1.327647198e-3f);
  p = p * f + 9.675541334e-3f;
  p = p * f + 5.550713274e-2f;
  p = p * f + 2.402211972e-1f;
  p = p * f + 6.931469671e-1f;
  p = p * f + 1.000000072f;
  return (Lanes)((LaneMask)p + ((LaneMask)shifted << 23));
}

}  // namespace lift
