// The C interface to what a step of the embedding methods spends its time on, called from Python
// (lift_ros/lifting/steps.py, which says what the numbers mean) through ctypes.
//
// All arrays are dense, row-major and owned by the caller. Every function returns 0, if nothing else is said, or -1
// when memory runs out.
// Nothing depends on the number of threads.
#pragma once

#include <cstdint>

#include "lift_raster.h"  // LIFT_API, LiftAdam

// Raised with every change of this file or of LiftAdam; a library left over from older sources is then refused instead
// of called.
constexpr int32_t LIFT_STEPS_INTERFACE = 2;
LIFT_API int32_t lift_steps_interface();

// Blend weights of P pixels and G Gaussians as CSR, or of G Gaussians and P pixels, their transpose.
struct LiftSparse {
  int64_t rows;
  const int64_t* crow;  // (rows + 1,)
  const int64_t* col;   // (nnz,)
  const float* val;     // (nnz,)
};

// blended (P, d) of state (N, d), where column g of the weights is row gaussian[g] of the state.
LIFT_API int64_t lift_blend(const LiftSparse*, const int64_t* gaussian, int64_t d, const float* state, float* blended,
                            int threads);

// Adam's step on the rows gaussian (G,), all different, of value, first and second (N, d), whose gradient is the
// product of the transposed weights and gradient (P, d).
LIFT_API int64_t lift_move(const LiftSparse* transposed, const int64_t* gaussian, int64_t d, const float* gradient,
                           const LiftAdam*, float* value, float* first, float* second, int threads);

// all (G + n,): `gaussian` (G,), all different, and then those of `other` (n,) that are not among them, each once;
// place (n,): where in there each of the others is. All are below `scene`. Returns how many there are, or -1.
LIFT_API int64_t lift_joined(int64_t scene, int64_t count, const int64_t* gaussian, int64_t other_count,
                             const int64_t* other, int64_t* all, int64_t* place);

// Adds values (n, d) to the rows index (n,) of sums.
LIFT_API int64_t lift_add_rows(int64_t count, int64_t d, const int64_t* index, const float* values, float* sums);

// Value (1,) of the sum of squared distances between row rows[s, 0] of the features and rows[s, 1 + n], where near
// (S, k); its gradient is added to that of the features. A neighbour is another row.
LIFT_API int64_t lift_smoothness(int64_t count, int64_t k, int64_t d, const float* features, const int64_t* rows,
                                 const uint8_t* near, float* value, float* gradient);

// Pixels (P, d) in clusters of `size` (K,) pixels, `weight` (K,): means (K, d) and temperatures (K,).
LIFT_API int64_t lift_clusters(int64_t pixels, int64_t d, int64_t clusters, const float* features, const int64_t* index,
                               const float* size, const float* weight, float scale, float least, float most,
                               float* means, float* temperatures);

// Value of the hierarchical loss (1,) and its gradient (P, d), also through the means. `absent` (K,) is 0, or minus
// infinity for clusters without pixels; `depth` (K, K), or null: only the own cluster of a pixel counts.
LIFT_API int64_t lift_contrast(int64_t pixels, int64_t d, int64_t clusters, const float* features, const int64_t* index,
                               const float* size, const float* absent, const float* means, const float* temperatures,
                               const int16_t* depth, float decay, float* value, float* gradient);

// Normal distributions: mean and variance (P, N), and room for gradients by both.
struct LiftNormals {
  int64_t count;
  const float *mean, *variance;
  float *mean_gradient, *variance_gradient;
};

// Value (1,) of the contrastive loss of distributions in masks (P,), and its gradients.
LIFT_API int64_t lift_probabilistic_contrast(const LiftNormals*, int64_t dimensions, const int64_t* mask, float* value);

// Value (1,) of the mean of -log k of distributions and the average of their mask, below `mask_count`; its gradients.
LIFT_API int64_t lift_concentration(const LiftNormals*, int64_t dimensions, const int64_t* mask, int64_t mask_count,
                                    float* value);

// Value (1,) of the mean of -log k over the pairs with log k above `least`, and its gradients.
LIFT_API int64_t lift_cross_view(const LiftNormals* first, const LiftNormals* second, int64_t dimensions, float least,
                                 float* value);
