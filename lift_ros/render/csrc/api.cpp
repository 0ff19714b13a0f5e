// The C interface: no exception leaves it.
#include "lift_raster.h"

#include <algorithm>

#include "adam.h"
#include "edges.h"
#include "masks.h"
#include "memory.h"
#include "neighbours.h"
#include "photometric.h"
#include "render.h"
#include "sparse.h"
#include "view.h"
#include "weights.h"

namespace {

template <class Make>
auto or_null(const Make& make) -> decltype(make()) {
  decltype(make()) made = nullptr;
  lift::guarded([&] { made = make(); });
  return made;
}

}  // namespace

int32_t lift_interface() { return LIFT_INTERFACE; }

LiftView* lift_view_new(const LiftGaussians* gaussians, const LiftCamera* camera, float* radii, int threads) {
  return or_null([&] { return new LiftView(*gaussians, *camera, radii, threads); });
}

void lift_view_free(LiftView* view) { delete view; }

int64_t lift_render(LiftView* view, float* image, float* alpha, float* depth, float* transmittance,
                    int threads) {
  return lift::guarded([&] { lift::render(*view, image, alpha, depth, transmittance, threads); });
}

int64_t lift_render_backward(const LiftView* view, const LiftGaussians* gaussians, const float* image,
                             const float* depth, const float* transmittance, const float* image_gradient,
                             const float* alpha_gradient, const float* depth_gradient, const LiftGradients* gradients,
                             int threads) {
  return lift::guarded([&] {
    lift::render_backward(*view, *gaussians, image, depth, transmittance, image_gradient, alpha_gradient,
                          depth_gradient, *gradients, threads);
  });
}

int64_t lift_count_pairs(const LiftView* view, int64_t pairs[2], int threads) {
  return lift::guarded([&] { lift::count_pairs(*view, pairs, threads); });
}

LiftWeights* lift_weights_new(const LiftView* view, const int64_t* pixels, int64_t pixel_count, int threads) {
  return or_null([&] { return new LiftWeights(*view, pixels, pixel_count, threads); });
}

int64_t lift_weights_nonzeros(const LiftWeights* weights) { return weights->nonzeros(); }

int64_t lift_weights_copy(const LiftWeights* weights, int64_t* crow, int64_t* col, float* val, int threads) {
  return lift::guarded([&] { weights->copy(crow, col, val, threads); });
}

void lift_weights_free(LiftWeights* weights) { delete weights; }

LiftMaskWeights* lift_mask_weights_new(const LiftView* view, const int32_t* labels, int32_t scale, int32_t mask_count,
                                       float min_weight, int threads) {
  return or_null([&] { return new LiftMaskWeights(*view, labels, scale, mask_count, min_weight, threads); });
}

int64_t lift_mask_weights_nonzeros(const LiftMaskWeights* weights) { return weights->begin.back(); }

void lift_mask_weights_copy(const LiftMaskWeights* weights, int64_t* begin, int32_t* gaussian, float* weight) {
  std::copy(weights->begin.begin(), weights->begin.end(), begin);
  std::copy(weights->gaussian.begin(), weights->gaussian.end(), gaussian);
  std::copy(weights->weight.begin(), weights->weight.end(), weight);
}

void lift_mask_weights_free(LiftMaskWeights* weights) { delete weights; }

int64_t lift_label_image(const LiftView* view, const int32_t* labels, int32_t* label_image, float* share,
                         float* alpha, int threads) {
  return lift::guarded([&] { lift::label_image(*view, labels, label_image, share, alpha, threads); });
}

int64_t lift_follow_edges(const LiftPicture* picture, const LiftEdgeFilter* filter, const int32_t* labels,
                          int32_t* out, int threads) {
  return lift::guarded([&] { lift::follow_edges(*picture, *filter, labels, out, threads); });
}

int64_t lift_view_losses(const LiftSupervision* view, const float* image, const float* alpha, const float* depth,
                         const LiftViewLosses* out, int threads) {
  return lift::guarded([&] { lift::view_losses(*view, image, alpha, depth, *out, threads); });
}

int64_t lift_csr_matmul(int64_t rows, int64_t d, const int64_t* crow, const int64_t* col, const float* val,
                        const float* x, float* out, int threads) {
  return lift::guarded([&] { lift::csr_matmul(rows, d, crow, col, val, x, out, threads); });
}

void lift_csr_transpose(int64_t rows, int64_t columns, const int64_t* crow, const int64_t* col, const float* val,
                        int64_t* t_crow, int64_t* t_col, float* t_val) {
  lift::csr_transpose(rows, columns, crow, col, val, t_crow, t_col, t_val);
}

int64_t lift_csr_compact(int64_t nonzeros, int64_t columns, const int64_t* col, int64_t* shown, int64_t* number) {
  int64_t count = 0;
  return lift::guarded([&] { count = lift::csr_compact(nonzeros, columns, col, shown, number); }) == 0 ? count : -1;
}

int64_t lift_adam_rows(const LiftAdam* step, int64_t count, int64_t d, const int64_t* rows, const float* gradient,
                       float* value, float* first, float* second, int threads) {
  return lift::guarded([&] { lift::adam_rows(*step, count, d, rows, gradient, value, first, second, threads); });
}

int64_t lift_nearest(int64_t count, const float* points, int32_t k, int64_t* index, float* distance, int threads) {
  return lift::guarded([&] { lift::nearest(count, points, k, index, distance, threads); });
}

void lift_advise_huge_pages(void* begin, int64_t bytes) { lift::advise_huge_pages(begin, bytes); }

const char* lift_best_variant() {
#if defined(__x86_64__)
  // What x86-64-v4 and -v3 ask for beyond each other; __builtin_cpu_supports also checks that the system saves the
  // registers. The level names themselves are not known to GCC 11.
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v3) return v4 ? "x86_64_v4" : "x86_64_v3";
#endif
  return "baseline";
}
