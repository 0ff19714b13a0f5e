// Label images that follow the edges of the picture they belong to.
#pragma once

#include <cstdint>

#include "lift_raster.h"

namespace lift {

void follow_edges(const LiftPicture& picture, const LiftEdgeFilter& filter, const int32_t* labels, int32_t* out,
                  int threads);

}  // namespace lift
