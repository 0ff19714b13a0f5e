// Front-to-back compositing of one tile, the inner loop of every operation here.
//
// A tile is cut into blocks of 4 x kBlockRows pixels, one vector each. For each splat of the tile, composite() finds
// the blocks it touches and hands their blend weights to a visitor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

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

// Call body(n, c) for c, c + n, ... up to `padded` channels, a multiple of 4, with n a constant: 8, or 4 for the last.
// So many sums stay in registers.
template <class Body>
inline void for_each_channels(int padded, const Body& body) {
  int c = 0;
  for (; c + 8 <= padded; c += 8) body(std::integral_constant<int, 8>(), c);
  if (c < padded) body(std::integral_constant<int, 4>(), c);
}

// Splats that touch one block, front to back, and their blend weights.
struct Run {
  static constexpr int kCapacity = 16;
  int count = 0;
  int32_t position[kCapacity];  // in the list of the tile
  Lanes weight[kCapacity];      // alpha while the run grows; 0 in lanes that have ended or are not reached
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

// A splat as the blocks of one tile see it.
class Footprint {
 public:
  Footprint(const Splat& s, const Tile& tile)
      : x_(broadcast(s.x - tile.left)),
        y_(broadcast(s.y - tile.top)),
        // log2(alpha) = log2(opacity) - sigma log2(e)
        peak_(broadcast(s.log2_opacity)),
        a_(broadcast(0.5f * kLog2e * s.a)),
        shear_(broadcast(s.shear)),
        d_(broadcast(0.5f * kLog2e * s.d)) {}

  Lanes dx(int block) const { return kCentres.x[block] - x_; }
  Lanes dy(int block) const { return kCentres.y[block] - y_; }

  Lanes log2_alpha(int block) const {
    const Lanes x = dx(block), y = dy(block), u = x + shear_ * y;
    return (peak_ - d_ * y * y) - a_ * u * u;
  }

 private:
  Lanes x_, y_, peak_, a_, shear_, d_;
};

// 0 where the splat does not reach.
inline Lanes alpha_of(Lanes log2_alpha) {
  return zero_unless(log2_alpha >= kLog2MinAlpha, min(exp2(log2_alpha), broadcast(kMaxAlpha)));
}

// Replace the alphas of a run by its weights and take it off the transmittance of its block.
inline void composite_run(Tile& tile, int block, Run& run) {
  Lanes before = tile.transmittance[block], reached = before;
  for (int i = 0; i < run.count; ++i) {
    const Lanes alpha = run.weight[i];
    const Lanes after = before * (1.0f - alpha);
    // A pixel ends in front of the splat that would take it below the limit, and as the product only falls it stays so.
    const LaneMask goes_on = after > kMinTransmittance;
    run.weight[i] = zero_unless(goes_on, alpha * before);
    reached = goes_on ? after : reached;
    before = after;
  }
  const LaneMask goes_on = before > kMinTransmittance;
  tile.transmittance[block] = goes_on ? reached : (Lanes)((LaneMask)reached | (LaneMask)broadcast(-0.0f));
  if (any(goes_on)) return;
  tile.open &= ~(uint64_t{1} << block);
  while (run.count > 0 && !any(run.weight[run.count - 1] > 0.0f)) --run.count;
}

// Composite the splats of a tile over the pixels left open in it, calling visit(block, run) for the splats near a
// block, a few at a time. No branch depends on an alpha, not even on whether a splat touches a block at all: such
// branches are often mispredicted, and the processor finds out late. Returns how many times a splat was evaluated over
// a block.
template <class Visit>
inline int64_t composite(const LiftView& view, int tile_index, Tile& tile, const Visit& visit) {
  static_assert(kBlocksAcross == 4, "blocks_in_reach repeats rows of four bits");
  constexpr int kAhead = 4;  // splats
  int64_t evaluated = 0;
  Run runs[kBlocks];
  const auto end_run = [&](int block) {
    composite_run(tile, block, runs[block]);
    visit(block, runs[block]);
    runs[block].count = 0;
  };

  const int32_t* splats = view.splats_of(tile_index);
  const int32_t count = static_cast<int32_t>(view.tile_begin[tile_index + 1] - view.tile_begin[tile_index]);
  for (int32_t position = 0; position < count && tile.open; ++position) {
    if (position + kAhead < count) prefetch(view, splats[position + kAhead]);
    const Splat& s = view.splats[splats[position]];
    const Footprint footprint(s, tile);
    uint64_t candidates = blocks_in_reach(s, tile) & tile.open;
    evaluated += __builtin_popcountll(candidates);
    for (; candidates; candidates &= candidates - 1) {
      const int block = __builtin_ctzll(candidates);
      Run& run = runs[block];
      const Lanes log2_alpha = footprint.log2_alpha(block);
      run.weight[run.count] = alpha_of(log2_alpha);
      run.position[run.count] = position;
      // No branch on whether the block is touched: it would often be mispredicted.
      run.count += any_at_least(log2_alpha, broadcast(kLog2MinAlpha));
      if (run.count == Run::kCapacity) end_run(block);
    }
  }
  for (int block = 0; block < kBlocks; ++block) end_run(block);
  return evaluated;
}

}  // namespace lift
