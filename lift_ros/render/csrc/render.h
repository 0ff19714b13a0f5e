// The operations behind the C interface; lift_raster.h describes their arguments.
#pragma once

#include "view.h"

namespace lift {

void render(LiftView& view, float* image, float* alpha, float* depth, float* transmittance, int threads);

void render_backward(const LiftView& view, const LiftGaussians& gaussians, const float* image,
                     const float* depth, const float* transmittance, const float* image_gradient,
                     const float* alpha_gradient, const float* depth_gradient, const LiftGradients& gradients,
                     int threads);

void count_pairs(const LiftView& view, int64_t pairs[2], int threads);

void label_image(const LiftView& view, const int32_t* labels, int32_t* label_image, float* share, float* alpha,
                 int threads);

}  // namespace lift
