// How much of each Gaussian each mask of an image shows.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

struct LiftMaskWeights {
  LiftMaskWeights(const LiftView& view, const int32_t* labels, int scale, int32_t mask_count, float min_weight,
                  int threads);

  std::vector<int64_t> begin;  // (M + 1,), CSR
  std::vector<int32_t> gaussian;
  std::vector<float> weight;
};
