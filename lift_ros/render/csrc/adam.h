// Adam on some rows of a tensor; lift_raster.h describes the arguments.
#pragma once

#include <algorithm>
#include <cmath>

#include "lift_raster.h"

namespace lift {

// Row rows[k] of value and moments, (N, d), by its gradient. Rows are few among all, and the processor does not guess
// which: it is asked for those to come.
inline void adam_row(const LiftAdam& step, int64_t k, int64_t count, int64_t d, const int64_t* rows,
                     const float* gradient, float* value, float* first, float* second) {
  constexpr int64_t kAhead = 8;
  const int64_t later = rows[std::min(k + kAhead, count - 1)] * d;
  for (const float* row : {value + later, first + later, second + later})
    for (int64_t c = 0; c < d; c += 16) __builtin_prefetch(row + c, 1);
  float *x = value + rows[k] * d, *m = first + rows[k] * d, *v = second + rows[k] * d;
#pragma GCC ivdep
  for (int64_t c = 0; c < d; ++c) {
    m[c] = step.beta1 * m[c] + (1 - step.beta1) * gradient[c];
    v[c] = step.beta2 * v[c] + (1 - step.beta2) * gradient[c] * gradient[c];
    x[c] -= step.rate * m[c] / (step.scale * std::sqrt(v[c]) + step.eps);
  }
}

void adam_rows(const LiftAdam& step, int64_t count, int64_t d, const int64_t* rows, const float* gradient, float* value,
               float* first, float* second, int threads);

}  // namespace lift
