// Nearest neighbours of points; lift_raster.h describes the arguments.
#pragma once

#include <cstdint>

namespace lift {

void nearest(int64_t count, const float* points, int32_t k, int64_t* index, float* distance, int threads);

}  // namespace lift
