// How far a rendering is from the view it should show, with the gradient; lift_raster.h describes the arguments.
#pragma once

#include <cstdint>

#include "lift_raster.h"

namespace lift {

void view_losses(const LiftSupervision& view, const float* image, const float* alpha, const float* depth,
                 const LiftViewLosses& out, int threads);

}  // namespace lift
