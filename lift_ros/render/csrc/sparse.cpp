// Sparse x dense products for BlendWeights.
#include "sparse.h"

#include <algorithm>
#include <vector>

#include "parallel.h"

namespace lift {
namespace {

constexpr int64_t kGrain = 256;  // rows per chunk
constexpr int64_t kThreadWorth = 1 << 20;  // products; a thread for fewer costs more than it saves

// One row of the product, columns [0, kWidth), accumulated in registers.
template <int kWidth>
inline void row_product(const int64_t* col, const float* val, int64_t nonzeros, const float* x, int64_t stride,
                        float* out) {
  float sum[kWidth] = {};
  for (int64_t k = 0; k < nonzeros; ++k) {
    const float* row = x + col[k] * stride;
    for (int c = 0; c < kWidth; ++c) sum[c] += val[k] * row[c];
  }
  std::copy_n(sum, kWidth, out);
}

}  // namespace

void csr_matmul(int64_t rows, int64_t d, const int64_t* crow, const int64_t* col, const float* val, const float* x,
                float* out, int threads) {
  threads = static_cast<int>(std::min<int64_t>(threads, 1 + (crow[rows] - crow[0]) * d / kThreadWorth));
  parallel_for(threads, rows, kGrain, [=](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = crow[row], nonzeros = crow[row + 1] - first;
      int64_t c = 0;
      for (; c + 32 <= d; c += 32) row_product<32>(col + first, val + first, nonzeros, x + c, d, out + row * d + c);
      for (; c + 16 <= d; c += 16) row_product<16>(col + first, val + first, nonzeros, x + c, d, out + row * d + c);
      for (; c + 8 <= d; c += 8) row_product<8>(col + first, val + first, nonzeros, x + c, d, out + row * d + c);
      for (; c + 4 <= d; c += 4) row_product<4>(col + first, val + first, nonzeros, x + c, d, out + row * d + c);
      for (; c < d; ++c) row_product<1>(col + first, val + first, nonzeros, x + c, d, out + row * d + c);
    }
  });
}

void csr_transpose(int64_t rows, int64_t columns, const int64_t* crow, const int64_t* col, const float* val,
                   int64_t* t_crow, int64_t* t_col, float* t_val) {
  // Counting sort by column; t_crow[c + 1] serves as the place of the next entry of column c.
  std::fill_n(t_crow, columns + 1, 0);
  const int64_t nonzeros = crow[rows];
  for (int64_t k = 0; k < nonzeros; ++k)
    if (col[k] + 2 <= columns) ++t_crow[col[k] + 2];
  for (int64_t c = 2; c <= columns; ++c) t_crow[c] += t_crow[c - 1];
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t k = crow[row]; k < crow[row + 1]; ++k) {
      const int64_t place = t_crow[col[k] + 1]++;
      t_col[place] = row;
      t_val[place] = val[k];
    }
}

int64_t csr_compact(int64_t nonzeros, int64_t columns, const int64_t* col, int64_t* shown, int64_t* number) {
  // A bit a column; a column's number is that of the bits before it.
  std::vector<uint64_t> bits((columns + 63) / 64);
  for (int64_t k = 0; k < nonzeros; ++k) bits[col[k] / 64] |= uint64_t{1} << (col[k] % 64);
  std::vector<int64_t> before(bits.size());
  int64_t count = 0;
  for (size_t word = 0; word < bits.size(); ++word) {
    before[word] = count;
    for (uint64_t left = bits[word]; left; left &= left - 1) shown[count++] = 64 * word + __builtin_ctzll(left);
  }
  for (int64_t k = 0; k < nonzeros; ++k) {
    const uint64_t lower = (uint64_t{1} << (col[k] % 64)) - 1;
    number[k] = before[col[k] / 64] + __builtin_popcountll(bits[col[k] / 64] & lower);
  }
  return count;
}

}  // namespace lift
