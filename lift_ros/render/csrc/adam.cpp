// Adam on some rows of a tensor, in place: gathering and scattering value and moments would take longer than the step.
#include "adam.h"

#include <cmath>

#include "parallel.h"

namespace lift {

void adam_rows(const LiftAdam& step, int64_t count, int64_t d, const int64_t* rows, const float* gradient, float* value,
               float* first, float* second, int threads) {
  constexpr int64_t kGrain = 1 << 16;  // numbers per chunk
  constexpr int64_t kAhead = 8;        // rows; they are few among all, and the processor does not guess which
  const int64_t grain = std::max<int64_t>(kGrain / std::max<int64_t>(d, 1), 1);
  parallel_for(threads, count, grain, [=](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t later = rows[std::min(k + kAhead, count - 1)] * d;
      for (const float* row : {value + later, first + later, second + later})
        for (int64_t c = 0; c < d; c += 16) __builtin_prefetch(row + c, 1);
      const float* g = gradient + k * d;
      float *x = value + rows[k] * d, *m = first + rows[k] * d, *v = second + rows[k] * d;
#pragma GCC ivdep
      for (int64_t c = 0; c < d; ++c) {
        m[c] = step.beta1 * m[c] + (1 - step.beta1) * g[c];
        v[c] = step.beta2 * v[c] + (1 - step.beta2) * g[c] * g[c];
        x[c] -= step.rate * m[c] / (step.scale * std::sqrt(v[c]) + step.eps);
      }
    }
  });
}

}  // namespace lift
