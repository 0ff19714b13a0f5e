// The C interface to what the masks of many views say together, called from Python (lift_ros/evidence/library.py)
// through ctypes; the Python that calls each says what the numbers mean.
//
// All arrays are dense, row-major and owned by the caller; outputs of sums must be zero at first. Every function
// returns 0 if nothing else is said, or -1 when memory runs out. Nothing depends on the number of threads: sums run in
// the order of the views, or over two shares of them.
#pragma once

#include <cstdint>

#define LIFT_API extern "C" __attribute__((visibility("default")))

// Raised with every change of this file; a library left over from older sources is then refused instead of called.
constexpr int32_t LIFT_EVIDENCE_INTERFACE = 9;
LIFT_API int32_t lift_evidence_interface();

// The masks of one view: triplets, sorted by mask.
struct LiftMasks {
  int64_t mask_count;       // M
  const int64_t* begin;     // (M + 1,) where the triplets of each mask begin, and at last their number n
  const int32_t* gaussian;  // (n,)
  const float* weight;      // (n,) pixels
  const float* area;        // (M,) pixels
};

struct LiftViews {
  int64_t count;            // V
  const LiftMasks* views;   // (V,)
  int64_t gaussian_count;   // N
};

// What the Gaussians are divided into: numbers below `count`, or below 0 for none.
struct LiftParts {
  int64_t count;          // K
  const int32_t* number;  // (N,)
};

// What a view shows clearly, in ascending order of the Gaussians.
struct LiftClear {
  int64_t count;            // c
  const int32_t* gaussian;  // (c,)
  const int16_t* mask;      // (c,) that shows most of it, modulo 2^16
  const int16_t* say;       // (c,) of 1 to LIFT_FULL_SAY
};
constexpr int16_t LIFT_FULL_SAY = 4095;

// Finds them: the Gaussians that the view shows more than min_pixels of; from clear_pixels on they have full say. There
// is room for n. Returns how many there are, below 0 if out of memory.
LIFT_API int64_t lift_clear(const LiftMasks*, int64_t gaussian_count, float min_pixels, float clear_pixels,
                            int32_t* gaussian, int16_t* mask, int16_t* say);

// views (V,); neighbour (N, k), -1 where there is none; agreed, seen (N, k).
LIFT_API int64_t lift_neighbour_agreement(int64_t view_count, const LiftClear* views, int64_t gaussian_count, int64_t k,
                                          const int32_t* neighbour, float* agreed, float* seen, int threads);

// agreed, seen (K, K).
LIFT_API int64_t lift_part_agreement(const LiftViews*, const LiftParts*, double min_visible, double full_say,
                                     double* agreed, double* seen, int threads);

// held, total (N,).
LIFT_API int64_t lift_held(const LiftViews*, const LiftParts*, double* held, double* total, int threads);

// purity, say, most_divided (K,); divided_by (K,), -1 at first.
LIFT_API int64_t lift_purity(const LiftViews*, const LiftParts*, double min_visible, double full_say, double* purity,
                             double* say, double* most_divided, int64_t* divided_by, int threads);

// strongest (N,): of each Gaussian, the mask that shows most of it in the view that view_of (K,) names for its part, the
// first of equals, -1 where there is none; view_of is below 0 for parts that do not matter.
LIFT_API int64_t lift_strongest_masks(const LiftViews*, const LiftParts*, const int64_t* view_of, int32_t* strongest,
                                      int threads);

// masked (N,): pixels of each Gaussian in masks.
LIFT_API int64_t lift_masked(const LiftViews*, float* masked, int threads);

// winner (N,), -1 for none; most, votes, shown (N,).
LIFT_API int64_t lift_votes(const LiftViews*, const LiftParts*, double purity, int64_t* winner, float* most,
                            float* votes, float* shown, int threads);

// seen (V, K); agreed, visible (K,).
LIFT_API int64_t lift_visibility(const LiftViews*, const LiftParts*, double min_visible, uint8_t* seen, double* agreed,
                                 double* visible, int threads);

// part (N,): connected components, numbered from 0 in the order of their first member, of the graph of the pairs
// (i, neighbour[i, n]) of chosen Gaussians (N,) with agreed[i, n] >= rate * seen[i, n] > 0. neighbour (N, k), -1 where
// there is none; agreed, seen (N, k).
LIFT_API int64_t lift_components(int64_t gaussian_count, int64_t k, const int32_t* neighbour, const float* agreed,
                                 const float* seen, float rate, const uint8_t* chosen, int64_t* part);

// part (N,): connected components of neighbours with one label (N,), below 0 for none. Those of less than min_size join
// what most of their neighbours are in; -1 where there is no label and for what touches nothing larger. Numbered from 0.
LIFT_API int64_t lift_connected_parts(int64_t gaussian_count, int64_t k, const int32_t* neighbour, const int64_t* label,
                                      int64_t min_size, int64_t* part);

// joined (S, 2), joined_at (S,): average-linkage clustering of K parts, of which each pair has agreed in `agreed` of
// `seen` (K, K) views, symmetric, and disagreed in `doubt` of one, until none reach `rate`. Of parts whose numbers
// `known` (K,) are above 0, those of one number agree in the share `hysteresis` of the views more, those of two in as
// many less; known may be null. In the order in which it is done, the part that two clusters go by from then on, the one
// that the second went by until then, and the rate at which they agreed. Returns S, at most K - 1, for which there is
// room; below 0 if out of memory.
LIFT_API int64_t lift_merge_parts(int64_t count, const double* agreed, const double* seen, const int64_t* known,
                                  double hysteresis, double doubt, double rate, int64_t* joined, double* joined_at,
                                  int threads);
