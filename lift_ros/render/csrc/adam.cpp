// Adam on some rows of a tensor, in place: gathering and scattering value and moments would take longer than the step.
#include "adam.h"

#include "parallel.h"

namespace lift {

void adam_rows(const LiftAdam& step, int64_t count, int64_t d, const int64_t* rows, const float* gradient, float* value,
               float* first, float* second, int threads) {
  constexpr int64_t kGrain = 1 << 16;  // numbers per chunk
  const int64_t grain = std::max<int64_t>(kGrain / std::max<int64_t>(d, 1), 1);
  parallel_for(threads, count, grain, [=](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k)
      adam_row(step, k, count, d, rows, gradient + k * d, value, first, second);
  });
}

}  // namespace lift
