// One native vector of floats, through the vector extensions of GCC and Clang.
//
// Vectors wider than the machine's are lowered badly, so the width follows the instruction set of the build.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
// GCC 12 warns of its own undefined placeholders in the AVX-512 header (bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
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
typedef uint32_t LaneBits __attribute__((vector_size(kLanes * sizeof(uint32_t))));  // of numbers; sums may wrap

constexpr float kLog2e = 1.44269504f;  // for exp2() in place of exp()

// One number after the other from memory, at any address; of integers the bits.
template <class T>
inline Lanes load(const T* from) {
  static_assert(sizeof(T) == sizeof(float));
  Lanes x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

inline Lanes broadcast(float x) { return x - Lanes{}; }
inline Lanes zero_unless(LaneMask keep, Lanes x) { return (Lanes)(keep & (LaneMask)x); }

inline Lanes min(Lanes a, Lanes b) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_min_ps((__m512)a, (__m512)b);  // GCC makes two instructions of the line below
#elif defined(__AVX2__)
  return (Lanes)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

inline Lanes max(Lanes a, Lanes b) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Lanes)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

inline Lanes sqrt(Lanes x) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (Lanes)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
  return (Lanes)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
  return (Lanes)vsqrtq_f32((float32x4_t)x);
#else
  for (int l = 0; l < kLanes; ++l) x[l] = __builtin_sqrtf(x[l]);
  return x;
#endif
}

// 1 / x, relative error below 2e-7, for normal x with a normal reciprocal.
inline Lanes reciprocal(Lanes x) {
#if defined(__AVX512F__)
  const Lanes r = (Lanes)_mm512_rcp14_ps((__m512)x);  // and a step of Newton's: a quarter of the time of a division
  return r * (2.0f - x * r);
#else
  return 1.0f / x;
#endif
}

// base[offsets[l]] in each lane.
inline Lanes gather(const float* base, LaneMask offsets) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_i32gather_ps((__m512i)offsets, base, sizeof(float));
#elif defined(__AVX2__)
  return (Lanes)_mm256_i32gather_ps(base, (__m256i)offsets, sizeof(float));
#else
  Lanes values;
  for (int l = 0; l < kLanes; ++l) values[l] = base[offsets[l]];
  return values;
#endif
}

// Rows of an array, one in each lane: first + offset[l]. Apart, so that arrays may be longer than 2^31 numbers.
struct Rows {
  int64_t first;
  LaneMask offset;

  // begin, begin + 1, ... up to the end; past it the last is repeated.
  static Rows range(int64_t begin, int64_t end) {
    Rows rows{begin, {}};
    for (int l = 0; l < kLanes; ++l) rows.offset[l] = static_cast<int32_t>(std::min<int64_t>(l, end - begin - 1));
    return rows;
  }

  // The first of `count` rows of a list; past its end the last is repeated.
  static Rows listed(const int32_t* list, int64_t count) {
    Rows rows{list[0], {}};
    for (int l = 0; l < kLanes; ++l) rows.offset[l] = list[std::min<int64_t>(l, count - 1)] - list[0];
    return rows;
  }

  // One column of the rows of an array.
  Lanes column(const float* array, int64_t columns, int column) const {
    return gather(array + columns * first + column, offset * static_cast<int32_t>(columns));
  }
};

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

// The bits of lanes 0 .. count - 1, count > 0.
inline uint32_t first_lanes(int count) { return ~0u >> (32 - count); }

inline bool any(LaneMask m) {
#if defined(__aarch64__)
  return vmaxvq_u32((uint32x4_t)m) != 0;
#else
  return lane_bits(m) != 0;
#endif
}

// Whether a >= b in any lane.
inline bool any_at_least(Lanes a, Lanes b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OS) != 0;  // stays a mask, unlike any(a >= b)
#else
  return any(a >= b);
#endif
}

// The sums over the lanes of four vectors at once, which takes far fewer shuffles than four times one.
inline void sum_lanes(const Lanes v[4], float sums[4]) {
#if defined(__AVX512F__)
  const __m512 a = (__m512)v[0], b = (__m512)v[1], c = (__m512)v[2], d = (__m512)v[3];
  // Halves of a and b, of c and d; then quarters of all four; then within the quarters.
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
  __m512 q = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  q = _mm512_add_ps(q, _mm512_permute_ps(q, 0x4e));
  q = _mm512_add_ps(q, _mm512_permute_ps(q, 0xb1));
  _mm_storeu_ps(sums, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, q)));
#elif defined(__AVX2__)
  const __m256 ab = _mm256_hadd_ps((__m256)v[0], (__m256)v[1]), cd = _mm256_hadd_ps((__m256)v[2], (__m256)v[3]);
  const __m256 halves = _mm256_hadd_ps(ab, cd);
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
#elif defined(__x86_64__)
  __m128 r0 = (__m128)v[0], r1 = (__m128)v[1], r2 = (__m128)v[2], r3 = (__m128)v[3];
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  _mm_storeu_ps(sums, _mm_add_ps(_mm_add_ps(r0, r1), _mm_add_ps(r2, r3)));
#else
  for (int i = 0; i < 4; ++i) sums[i] = (v[i][0] + v[i][1]) + (v[i][2] + v[i][3]);
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
  return (Lanes)((LaneBits)p + ((LaneBits)shifted << 23));
}

// log2(x), absolute error below 2e-7 for x from 1/255 to 1, for positive, finite and normal x.
inline Lanes log2(Lanes x) {
  // x = 2^k m with m from sqrt(1/2) to sqrt(2), and log2(m) = 2 / log(2) atanh(s) with s = (m - 1) / (m + 1).
  constexpr int32_t kSqrtHalf = 0x3f3504f3;
  const LaneMask k = ((LaneMask)x - kSqrtHalf) >> 23;
  const Lanes m = (Lanes)((LaneMask)x - (k << 23));
  const Lanes s = (m - 1.0f) / (m + 1.0f), t = s * s;
  // Minimax polynomial of log2(m) / s, relative, in s^2 (error 7e-10).
  Lanes p = broadcast(4.317358786e-1f);
  p = p * t + 5.767143840e-1f;
  p = p * t + 9.617988476e-1f;
  p = p * t + 2.885390080f;
  return __builtin_convertvector(k, Lanes) + p * s;
}

}  // namespace lift
