// Adam on some rows of a tensor; lift_raster.h describes the arguments.
#pragma once

#include "lift_raster.h"

namespace lift {

void adam_rows(const LiftAdam& step, int64_t count, int64_t d, const int64_t* rows, const float* gradient, float* value,
               float* first, float* second, int threads);

}  // namespace lift
