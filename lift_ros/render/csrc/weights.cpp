#include "weights.h"

#include <algorithm>
#include <numeric>

#include "composite.h"
#include "parallel.h"
#include "render.h"

using lift::kBlocks;
using lift::kLanes;
using lift::Lanes;
using lift::Run;
using lift::Tile;

LiftWeights::LiftWeights(const LiftView& view, const int64_t* pixels, int64_t pixel_count, int threads)
    : lists(threads), rows(pixel_count), row_begin(pixel_count + 1, 0) {
  // Rows by tile.
  const auto tile_of = [&](int64_t row) {
    return pixels[2 * row + 1] / lift::kTile * view.tile_columns + pixels[2 * row] / lift::kTile;
  };
  std::vector<int64_t> tile_rows_begin(view.tile_count() + 1, 0), by_tile(pixel_count);
  for (int64_t row = 0; row < pixel_count; ++row) ++tile_rows_begin[tile_of(row) + 1];
  std::partial_sum(tile_rows_begin.begin(), tile_rows_begin.end(), tile_rows_begin.begin());
  std::vector<int64_t> next(tile_rows_begin.begin(), tile_rows_begin.end() - 1);
  for (int64_t row = 0; row < pixel_count; ++row) by_tile[next[tile_of(row)]++] = row;

  lift::parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int worker) {
    const int tile = view.tile_order[position];
    if (tile_rows_begin[tile] < tile_rows_begin[tile + 1])
      composite_tile(view, pixels, tile, &by_tile[tile_rows_begin[tile]],
                     by_tile.data() + tile_rows_begin[tile + 1], worker);
  });
  std::partial_sum(row_begin.begin(), row_begin.end(), row_begin.begin());
}

void LiftWeights::composite_tile(const LiftView& view, const int64_t* pixels, int tile_index,
                                 const int64_t* rows_begin, const int64_t* rows_end, int worker) {
  // Only the wanted pixels are open.
  Tile tile(view, tile_index);
  tile.close_all();
  for (const int64_t* row = rows_begin; row < rows_end; ++row)
    tile.open_pixel(pixels[2 * *row] - tile.left, pixels[2 * *row + 1] - tile.top);

  struct Contribution {
    int32_t gaussian;
    float weight;
    int32_t next;  // in the chain of its pixel, -1 at the end
  };
  std::vector<Contribution> contributions;
  int32_t first[kBlocks][kLanes], last[kBlocks][kLanes], count[kBlocks][kLanes] = {};
  const int32_t* splats = view.splats_of(tile_index);
  lift::composite(view, tile_index, tile, [&](int b, const Run& run) {
    for (int i = 0; i < run.count; ++i)
      for (uint32_t lanes = lift::lane_bits(run.weight[i] > 0.0f); lanes; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes);
        const int32_t position = static_cast<int32_t>(contributions.size());
        contributions.push_back({view.gaussian[splats[run.position[i]]], run.weight[i][l], -1});
        if (count[b][l]++ == 0)
          first[b][l] = position;
        else
          contributions[last[b][l]].next = position;
        last[b][l] = position;
      }
  });

  std::vector<Entry>& list = lists[worker];
  for (const int64_t* row = rows_begin; row < rows_end; ++row) {
    const int column = pixels[2 * *row] - tile.left, line = pixels[2 * *row + 1] - tile.top;
    const int b = lift::block_of(column, line), l = lift::lane_of(column, line);
    rows[*row] = {worker, static_cast<int64_t>(list.size())};
    row_begin[*row + 1] = count[b][l];
    for (int32_t k = count[b][l] ? first[b][l] : -1; k >= 0; k = contributions[k].next)
      list.push_back({contributions[k].gaussian, contributions[k].weight});
  }
}

void LiftWeights::copy(int64_t* crow, int64_t* col, float* val, int threads) const {
  std::copy(row_begin.begin(), row_begin.end(), crow);
  lift::parallel_for(threads, rows.size(), 1024, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const Entry* entry = lists[rows[row].list].data() + rows[row].begin;
      for (int64_t k = row_begin[row]; k < row_begin[row + 1]; ++k, ++entry) {
        col[k] = entry->gaussian;
        val[k] = entry->weight;
      }
    }
  });
}

namespace lift {
namespace {

// Summed weight by label over the pixels of one block. Few labels meet in 4 x 4 pixels, so a list will do.
struct LabelSums {
  std::vector<int32_t> labels;
  Buffer<Lanes> sums = Buffer<Lanes>(16);  // room for at least labels.size()

  Lanes& operator[](int32_t label) {
    const auto found = std::find(labels.begin(), labels.end(), label);
    const size_t position = found - labels.begin();
    if (found == labels.end()) {
      if (position == sums.size()) {
        Buffer<Lanes> larger(2 * position);
        std::copy_n(sums.data(), position, larger.data());
        sums = std::move(larger);
      }
      labels.push_back(label);
      sums[position] = broadcast(0.0f);
    }
    return sums[position];
  }
};

}  // namespace

void label_image(const LiftView& view, const int32_t* labels, int32_t* label_image, float* share, float* alpha,
                 int threads) {
  std::vector<LabelSums> scratch(static_cast<size_t>(threads) * kBlocks);
  Buffer<int32_t> label_of(view.splats.size());  // in their order, since tiles read them at random
  for (size_t s = 0; s < label_of.size(); ++s) label_of[s] = labels[view.gaussian[s]];
  parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int worker) {
    const int tile_index = view.tile_order[position];
    LabelSums* blocks = &scratch[static_cast<size_t>(worker) * kBlocks];
    for (int b = 0; b < kBlocks; ++b) blocks[b].labels.clear();
    Tile tile(view, tile_index);
    const int32_t* splats = view.splats_of(tile_index);
    composite(view, tile_index, tile, [&](int block, const Run& run) {
      for (int i = 0; i < run.count; ++i) blocks[block][label_of[splats[run.position[i]]]] += run.weight[i];
    });
    tile.for_each_pixel([&](int row, int column, int block, int lane) {
      const LabelSums& sums = blocks[block];
      int32_t best_label = 0;
      float best = 0.0f;
      for (size_t k = 0; k < sums.labels.size(); ++k)
        if (sums.sums[k][lane] > best) {
          best = sums.sums[k][lane];
          best_label = sums.labels[k];
        }
      const int64_t pixel = int64_t{row} * view.camera.width + column;
      label_image[pixel] = best_label;
      share[pixel] = best;
      alpha[pixel] = 1.0f - tile.remaining(block)[lane];
    });
  });
}

}  // namespace lift
