// Front-to-back compositing of one tile, the inner loop of every operation here.
//
// A tile is cut into blocks of 4 x kBlockRows pixels, one vector each. For each splat of the tile, composite() finds
// the blocks it touches and hands their blend weights to a visitor.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd.h"
#include "view.h"

namespace lift {

constexpr int kBlockColumns = 4;
constexpr int kBlockRows = kLanes / kBlockColumns;
constexpr int kBlocks = kTile * kTile / kLanes;
constexpr int kBlocksAcross = kTile / kBlockColumns;
static_assert(kBlocks <= 64, "sets of blocks are kept in 64 bits");

// Column and row, within its tile, of a pixel given by block and lane.
inline int column_of(int block, int lane) { return block % kBlocksAcross * kBlockColumns + lane % kBlockColumns; }
inline int row_of(int block, int lane) { return block / kBlocksAcross * kBlockRows + lane / kBlockColumns; }
inline int block_of(int column, int row) { return row / kBlockRows * kBlocksAcross + column / kBlockColumns; }
inline int lane_of(int column, int row) { return row % kBlockRows * kBlockColumns + column % kBlockColumns; }

// Centres of the pixels of a tile, from its corner.
struct PixelCentres {
  Lanes x[kBlocks], y[kBlocks];

  PixelCentres() {
    for (int b = 0; b < kBlocks; ++b)
      for (int l = 0; l < kLanes; ++l) {
        x[b][l] = column_of(b, l) + 0.5f;
        y[b][l] = row_of(b, l) + 0.5f;
      }
  }
};
inline const PixelCentres kCentres;

// The blocks of a tile that one splat touches.
struct Hits {
  int count = 0;
  int block[kBlocks];
  Lanes alpha[kBlocks];          // 0 in lanes that the splat does not reach
  Lanes transmittance[kBlocks];  // in front of the splat
  Lanes weight[kBlocks];         // alpha * transmittance, 0 in lanes that have ended
};

struct Tile {
  int left, top;             // first pixel
  int columns, rows;         // pixels inside the image
  uint64_t open;             // blocks with a pixel that has not ended
  Lanes transmittance[kBlocks];  // of each pixel so far; negative once it has ended

  Tile(const LiftView& view, int tile)
      : left(tile % view.tile_columns * kTile),
        top(tile / view.tile_columns * kTile),
        columns(std::min(kTile, view.camera.width - left)),
        rows(std::min(kTile, view.camera.height - top)) {
    open_all();
  }

  void open_all() {
    open = ~uint64_t{0} >> (64 - kBlocks);
    const Lanes right = broadcast(columns), bottom = broadcast(rows);
    for (int b = 0; b < kBlocks; ++b)
      transmittance[b] =
          ((kCentres.x[b] < right) & (kCentres.y[b] < bottom)) ? broadcast(1.0f) : broadcast(-1.0f);
  }

  void close_all() {
    open = 0;
    for (Lanes& t : transmittance) t = broadcast(-1.0f);
  }

  void open_pixel(int column, int row) {
    open |= uint64_t{1} << block_of(column, row);
    transmittance[block_of(column, row)][lane_of(column, row)] = 1.0f;
  }

  // Call visit(row, column, block, lane) for the pixels inside the image.
  template <class Visit>
  void for_each_pixel(const Visit& visit) const {
    for (int b = 0; b < kBlocks; ++b)
      for (int l = 0; l < kLanes; ++l)
        if (column_of(b, l) < columns && row_of(b, l) < rows) visit(top + row_of(b, l), left + column_of(b, l), b, l);
  }

  // Transmittance of a pixel after compositing.
  float remaining(int block, int lane) const { return std::abs(transmittance[block][lane]); }
};

// The blocks in the rectangle of pixels that the splat can reach, one bit each.
inline uint64_t blocks_in_reach(const Splat& s, const Tile& tile) {
  const int first_column = std::max(s.left - tile.left, 0) / kBlockColumns;
  const int last_column = std::min(s.right - tile.left, kTile - 1) / kBlockColumns;
  const int first_row = std::max(s.top - tile.top, 0) / kBlockRows;
  const int last_row = std::min(s.bottom - tile.top, kTile - 1) / kBlockRows;
  const uint64_t columns = (uint64_t{2} << last_column) - (uint64_t{1} << first_column);
  const uint64_t every_row = columns * 0x1111111111111111u;
  const uint64_t up_to_last_row = ~uint64_t{0} >> (63 - (last_row * kBlocksAcross + kBlocksAcross - 1));
  return every_row & up_to_last_row & (~uint64_t{0} << (first_row * kBlocksAcross));
}

// Ask for what composite() will read of a splat. Tile lists run in depth order, through memory at random.
inline void prefetch(const LiftView& view, int32_t splat) {
  __builtin_prefetch(&view.splats[splat]);
  const float* features = view.features_of(splat);
  for (int c = 0; c < view.padded_channels; c += 16) __builtin_prefetch(features + c);
}

// Composite the splats of a tile over the pixels left open in it, calling visit(slot, splat index, splat, hits) for
// each splat that touches one.
template <class Visit>
inline void composite(const LiftView& view, int tile_index, Tile& tile, const Visit& visit) {
  static_assert(kBlocksAcross == 4, "blocks_in_reach repeats rows of four bits");
  constexpr int kAhead = 4;  // splats
  Hits hits;
  const int64_t end = view.tile_begin[tile_index + 1];
  for (int64_t slot = view.tile_begin[tile_index]; slot < end && tile.open; ++slot) {
    if (slot + kAhead < end) prefetch(view, view.tile_splats[slot + kAhead]);
    const int32_t index = view.tile_splats[slot];
    const Splat& s = view.splats[index];
    const Lanes x = broadcast(s.x - tile.left), y = broadcast(s.y - tile.top);
    // log2(alpha) = log2(opacity) - sigma log2(e)
    const Lanes peak = broadcast(s.log2_opacity);
    const Lanes a = broadcast(0.5f * kLog2e * s.a), b = broadcast(kLog2e * s.b), c = broadcast(0.5f * kLog2e * s.c);

    // No branch on whether a block is touched: it would often be mispredicted.
    hits.count = 0;
    for (uint64_t candidates = blocks_in_reach(s, tile) & tile.open; candidates; candidates &= candidates - 1) {
      const int block = __builtin_ctzll(candidates);
      const Lanes dx = kCentres.x[block] - x, dy = kCentres.y[block] - y;
      const Lanes log2_alpha = (peak - c * dy * dy) - dx * (a * dx + b * dy);
      const Lanes alpha = min(exp2(log2_alpha), broadcast(kMaxAlpha));
      // Above the peak sigma is negative: the rounding of a degenerate splat.
      const LaneMask touched =
          (log2_alpha >= kLog2MinAlpha) & (log2_alpha <= peak) & (tile.transmittance[block] > 0.0f);
      hits.block[hits.count] = block;
      hits.alpha[hits.count] = zero_unless(touched, alpha);
      hits.count += any(touched);
    }
    if (hits.count == 0) continue;

    for (int i = 0; i < hits.count; ++i) {
      const int block = hits.block[i];
      const Lanes before = tile.transmittance[block];
      const Lanes after = before * (1.0f - hits.alpha[i]);
      const LaneMask goes_on = after > kMinTransmittance;
      hits.transmittance[i] = before;
      hits.weight[i] = zero_unless(goes_on, hits.alpha[i] * before);
      // A pixel ends in front of the splat that would take it below the limit: negative, that splat left out.
      const Lanes ended = (Lanes)((LaneMask)before | (LaneMask)broadcast(-0.0f));
      tile.transmittance[block] = goes_on ? after : ended;
      if (!any(goes_on)) tile.open &= ~(uint64_t{1} << block);
    }
    visit(slot, index, s, hits);
  }
}

}  // namespace lift
