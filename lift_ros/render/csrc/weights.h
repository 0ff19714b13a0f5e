// Blend weights of chosen pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

struct LiftWeights {
  LiftWeights(const LiftView& view, const int64_t* pixels, int64_t pixel_count, int threads);

  int64_t nonzeros() const { return row_begin.back(); }
  void copy(int64_t* crow, int64_t* col, float* val, int threads) const;

 private:
  struct Entry {
    int32_t gaussian;
    float weight;
  };
  // The entries of a row lie in one piece in the list of the thread that made it.
  struct Row {
    int32_t list;
    int64_t begin;
  };

  void composite_tile(const LiftView& view, const int64_t* pixels, int tile_index, const int64_t* rows_begin,
                      const int64_t* rows_end, int worker);

  std::vector<std::vector<Entry>> lists;
  std::vector<Row> rows;
  std::vector<int64_t> row_begin;  // (P + 1,), CSR
};
