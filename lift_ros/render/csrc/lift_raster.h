// The C interface of the CPU rasterizer, called from Python through ctypes.
//
// All arrays are dense, row-major and owned by the caller; floats are 32 bit. Functions that return a pointer return
// NULL, and those that return an int64_t return -1, when memory runs out.
#pragma once

#include <cstdint>

#define LIFT_API extern "C" __attribute__((visibility("default")))

// Raised with every change of this file; a library left over from older sources is then refused instead of called.
constexpr int32_t LIFT_INTERFACE = 10;
LIFT_API int32_t lift_interface();

struct LiftGaussians {
  int64_t count;           // N
  const float* means;      // (N, 3) world frame
  const float* quats;      // (N, 4) wxyz, any norm
  const float* scales;     // (N, 3) standard deviations along the axes of quats
  const float* opacities;  // (N,)
  int64_t channel_count;   // C, 0 if only weights are wanted
  const float* channels;   // (N, C)
};

struct LiftCamera {
  float viewmat[16];     // (4, 4) world to camera
  float fx, fy, cx, cy;  // pixels; the first pixel's centre is at (0.5, 0.5)
  int32_t width, height;
};

// Where the backward pass writes; every array is overwritten.
struct LiftGradients {
  float* means;      // (N, 3)
  float* quats;      // (N, 4)
  float* scales;     // (N, 3)
  float* opacities;  // (N,)
  float* channels;   // (N, C)
  float* viewmat;    // (4, 4)
  float* means2d;    // (N, 2) with respect to the projected means, in 1 / pixel; NULL if not wanted
};

struct LiftView;     // Gaussians projected into one camera, sorted by depth and listed by tile
struct LiftWeights;  // blend weights of some pixels, before they are handed over
struct LiftMaskWeights;  // the same, summed over the pixels of masks

// Project, sort and bin. radii (N,), may be NULL: pixels, 0 for Gaussians that are not drawn.
LIFT_API LiftView* lift_view_new(const LiftGaussians*, const LiftCamera*, float* radii, int threads);
LIFT_API void lift_view_free(LiftView*);

// image (H, W, C); alpha (H, W); depth (H, W) expected z, 0 where nothing was drawn; transmittance (H, W) = 1 - alpha,
// to more digits. 0 or -1, when memory runs out.
LIFT_API int64_t lift_render(LiftView*, float* image, float* alpha, float* depth, float* transmittance,
                             int threads);

// Gradients of a loss from its gradients with respect to image, alpha and depth; each of the three may be NULL for
// zero. The Gaussians, image, depth and transmittance must be those of the forward pass. 0 or -1, when memory runs out.
LIFT_API int64_t lift_render_backward(const LiftView*, const LiftGaussians*, const float* image, const float* depth,
                                      const float* transmittance, const float* image_gradient,
                                      const float* alpha_gradient, const float* depth_gradient, const LiftGradients*,
                                      int threads);

// How many (splat, pixel) pairs lift_render and then lift_render_backward evaluate: whole blocks of pixels, more than
// those that contribute. 0 or -1, when memory runs out.
LIFT_API int64_t lift_count_pairs(const LiftView*, int64_t pairs[2], int threads);

// Blend weights of pixels (P, 2) int64 (column, row), all inside the image.
LIFT_API LiftWeights* lift_weights_new(const LiftView*, const int64_t* pixels, int64_t pixel_count, int threads);
LIFT_API int64_t lift_weights_nonzeros(const LiftWeights*);
// Copy as CSR: crow (P + 1,), col and val (nonzeros,). Within a row front to back. 0 or -1, when memory runs out.
LIFT_API int64_t lift_weights_copy(const LiftWeights*, int64_t* crow, int64_t* col, float* val, int threads);
LIFT_API void lift_weights_free(LiftWeights*);

// Blend weights summed over the pixels of each mask. labels (scale H, scale W): 1 .. mask_count, 0 for none; a pixel
// counts for each mask with the share of it that lies there. Sums up to min_weight are left out.
LIFT_API LiftMaskWeights* lift_mask_weights_new(const LiftView*, const int32_t* labels, int32_t scale,
                                                int32_t mask_count, float min_weight, int threads);
LIFT_API int64_t lift_mask_weights_nonzeros(const LiftMaskWeights*);
// Copy as CSR: begin (mask_count + 1,), gaussian and weight (nonzeros,). Within a row by Gaussian.
LIFT_API void lift_mask_weights_copy(const LiftMaskWeights*, int64_t* begin, int32_t* gaussian, float* weight);
LIFT_API void lift_mask_weights_free(LiftMaskWeights*);

// Per pixel, the label with the greatest summed blend weight, that sum, and alpha. labels (N,); outputs (H, W).
// 0 or -1, when memory runs out.
LIFT_API int64_t lift_label_image(const LiftView*, const int32_t* labels, int32_t* label_image, float* share,
                                  float* alpha, int threads);

struct LiftPicture {
  int32_t width, height;
  const uint8_t* image;  // (H, W, 3) RGB
  const float* depth;    // (H, W) z, 0 where unknown; may be NULL
};

// Standard deviations of the weights; see lift_ros/render/edges.py.
struct LiftEdgeFilter {
  int32_t passes;
  int32_t radius;         // of the window, pixels
  float distance;         // pixels
  float color;            // of 255, where the depth of both pixels is known
  float color_alone;      // where it is not
  float depth;            // share of the depth
};

// Near borders of labels (H, W), the label that most of the pixels around have which look alike; so often as `passes`
// says. Labels are above INT32_MIN. out (H, W).
// 0 or -1, when memory runs out.
LIFT_API int64_t lift_follow_edges(const LiftPicture*, const LiftEdgeFilter*, const int32_t* labels, int32_t* out,
                                   int threads);

// What a rendering should show; see lift_ros/scene/losses.py.
struct LiftSupervision {
  int32_t width, height;           // at least 11 each
  const float* image;              // (H, W, 3) in [0, 1]
  const float* depth;              // (H, W) z, 0 or NaN where unknown; may be NULL
  float gain[3], bias[3];          // exposure of the view
  float ssim_weight, depth_weight;
};

// Where its losses are written.
struct LiftViewLosses {
  float* losses;          // (3,) of colours (L1), of structure (D-SSIM) and of depth, weighted
  float* image_gradient;  // (H, W, 3)
  float* alpha_gradient;  // (H, W)
  float* depth_gradient;  // (H, W); may be NULL where the depth to compare with is
};

// How far image (H, W, 3), alpha (H, W) and depth (H, W) are from the view. 0 or -1, when memory runs out.
LIFT_API int64_t lift_view_losses(const LiftSupervision*, const float* image, const float* alpha, const float* depth,
                                  const LiftViewLosses*, int threads);

// out (rows, d) = A x, A in CSR, x (columns, d). 0 or -1, when memory runs out.
LIFT_API int64_t lift_csr_matmul(int64_t rows, int64_t d, const int64_t* crow, const int64_t* col, const float* val,
                                 const float* x, float* out, int threads);
// The CSR form of the transpose: t_crow (columns + 1,), t_col and t_val (nonzeros,), rows ascending within a column.
LIFT_API void lift_csr_transpose(int64_t rows, int64_t columns, const int64_t* crow, const int64_t* col,
                                 const float* val, int64_t* t_crow, int64_t* t_col, float* t_val);

// Of the columns col (nonzeros,) those that there are, ascending, once each: how many, or -1 when memory runs out. They
// are written to shown (nonzeros,), and to number (nonzeros,) which of them each of col is.
LIFT_API int64_t lift_csr_compact(int64_t nonzeros, int64_t columns, const int64_t* col, int64_t* shown,
                                  int64_t* number);

struct LiftAdam {
  float rate;          // learning rate / (1 - beta1^steps)
  float beta1, beta2;
  float scale;         // 1 / sqrt(1 - beta2^steps)
  float eps;
};

// One step of Adam on the rows (count,), all different, of value, first and second moment (N, d), in place; gradient
// (count, d). 0 or -1, when memory runs out.
LIFT_API int64_t lift_adam_rows(const LiftAdam*, int64_t count, int64_t d, const int64_t* rows, const float* gradient,
                                float* value, float* first, float* second, int threads);

// Of each of the points (count, 3), finite, the k < count nearest others, nearest first: index and distance (count, k).
LIFT_API int64_t lift_nearest(int64_t count, const float* points, int32_t k, int64_t* index, float* distance,
                              int threads);

// Advise the kernel to back a freshly allocated array with huge pages.
LIFT_API void lift_advise_huge_pages(void* begin, int64_t bytes);

// The fastest variant of this library that the processor can run: "x86_64_v4", "x86_64_v3" or "baseline".
LIFT_API const char* lift_best_variant();
