// Sparse x dense products; lift_raster.h describes the arguments.
#pragma once

#include <cstdint>

namespace lift {

void csr_matmul(int64_t rows, int64_t d, const int64_t* crow, const int64_t* col, const float* val, const float* x,
                float* out, int threads);

void csr_transpose(int64_t rows, int64_t columns, const int64_t* crow, const int64_t* col, const float* val,
                   int64_t* t_crow, int64_t* t_col, float* t_val);

int64_t csr_compact(int64_t nonzeros, int64_t columns, const int64_t* col, int64_t* shown, int64_t* number);

}  // namespace lift
