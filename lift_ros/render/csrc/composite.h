// Front-to-back compositing of one tile, the inner loop of every operation here.
//
// A tile is cut into blocks of 4 x kBlockRows pixels, one vector each. composite() goes through the splats of the tile
// in chunks; in each block it finds those that touch it and hands their blend weights to a visitor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "bits.h"
#include "simd.h"
#include "view.h"

// Neither inlined nor changed for its callers. noinline alone is not enough for GCC 12: at -O2 it then drops stores to
// what a visitor refers to.
#if defined(__clang__)
#define LIFT_ON_ITS_OWN [[gnu::noinline]]
#else
#define LIFT_ON_ITS_OWN [[gnu::noipa]]
#endif

namespace lift {

constexpr int kBlockColumns = 4;
constexpr int kBlockRows = kLanes / kBlockColumns;
constexpr int kBlocks = kTile * kTile / kLanes;
constexpr int kBlocksAcross = kTile / kBlockColumns;
constexpr int kBlocksDown = kTile / kBlockRows;
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
  static constexpr int kCapacity = 32;
  int count = 0;
  uint32_t position[kCapacity];  // in the list of the tile; all of one chunk
  Lanes weight[kCapacity];       // log2(alpha) until composite_run(); then 0 in lanes that ended or are not reached
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
    open = 0;
    const Lanes right = broadcast(columns), bottom = broadcast(rows);
    for (int b = 0; b < kBlocks; ++b) {
      const LaneMask inside = (kCentres.x[b] < right) & (kCentres.y[b] < bottom);
      transmittance[b] = inside ? broadcast(1.0f) : broadcast(-1.0f);
      open |= uint64_t{any(inside)} << b;
    }
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

  // Call visit(lane, pixel, columns) for the rows of a block inside the image: the first lane of the row, the index of
  // its pixel in an image of `width`, and how many follow each other.
  template <class Visit>
  void for_each_row(int block, int width, const Visit& visit) const {
    const int column = column_of(block, 0), inside = std::min(kBlockColumns, columns - column);
    if (inside <= 0) return;
    for (int lane = 0; lane < kLanes && row_of(block, lane) < rows; lane += kBlockColumns)
      visit(lane, int64_t{top + row_of(block, lane)} * width + left + column, inside);
  }

  // Transmittance of the pixels of a block after compositing.
  Lanes remaining(int block) const { return (Lanes)((LaneMask)transmittance[block] & 0x7fffffff); }
};

// Ask for what composite() will read of a splat. Tile lists run in depth order, through memory at random.
inline void prefetch(const LiftView& view, int32_t splat) {
  __builtin_prefetch(&view.splats[splat]);
  const float* features = view.features_of(splat);
  for (int c = 0; c < view.padded_channels; c += 16) __builtin_prefetch(features + c);
}

// A splat as the blocks of one tile see it.
struct Footprint {
  float x, y;  // centre, from the corner of the tile
  // log2(alpha) = log2(opacity) - sigma log2(e) = peak - a (dx + shear dy)^2 - d dy^2
  float peak, a, shear, d;

  Footprint() = default;
  Footprint(const Splat& s, const Tile& tile)
      : x(s.x - tile.left),
        y(s.y - tile.top),
        peak(s.log2_opacity),
        a(0.5f * kLog2e * s.a),
        shear(s.shear),
        d(0.5f * kLog2e * s.d) {}

  Lanes dx(int block) const { return kCentres.x[block] - x; }
  Lanes dy(int block) const { return kCentres.y[block] - y; }

  Lanes log2_alpha(int block) const {
    const Lanes v = dy(block), u = dx(block) + shear * v;
    return (peak - d * v * v) - a * u * u;
  }
};

// Splats of a tile, front to back.
class Chunk {
 public:
  Footprint footprint[kChunk];

  // Reads the first `count` of a list of splats; `rest` are left of the list.
  void load(const LiftView& view, const Tile& tile, const int32_t* splats, int count, int rest) {
    constexpr int kAhead = 8;
    uint8_t columns[kChunk] = {}, rows[kRowBytes][kChunk] = {};  // of blocks that each reaches into
    for (int i = 0; i < count; ++i) {
      if (i + kAhead < rest) prefetch(view, splats[i + kAhead]);
      const Splat& s = view.splats[splats[i]];
      footprint[i] = Footprint(s, tile);
      columns[i] = bits_between(std::max(s.left - tile.left, 0) / kBlockColumns,
                                std::min(s.right - tile.left, kTile - 1) / kBlockColumns);
      const unsigned down = bits_between(std::max(s.top - tile.top, 0) / kBlockRows,
                                         std::min(s.bottom - tile.top, kTile - 1) / kBlockRows);
      for (int k = 0; k < kRowBytes; ++k) rows[k][i] = down >> (8 * k);
    }
    sets_with(columns, in_column_);
    for (int k = 0; k < kRowBytes; ++k) sets_with(rows[k], in_row_ + 8 * k);
  }

  // Those that may touch a block, one bit each: all whose rectangle of pixels it meets.
  uint64_t near(int block) const { return in_column_[block % kBlocksAcross] & in_row_[block / kBlocksAcross]; }

 private:
  static constexpr int kRowBytes = (kBlocksDown + 7) / 8;
  static_assert(kChunk == kSets && kBlocksAcross <= 8);

  static unsigned bits_between(int first, int last) { return (2u << last) - (1u << first); }

  uint64_t in_column_[8], in_row_[8 * kRowBytes];
};

// 0 where the splat does not reach.
inline Lanes alpha_of(Lanes log2_alpha) {
  return zero_unless(log2_alpha >= kLog2MinAlpha, min(exp2(log2_alpha), broadcast(kMaxAlpha)));
}

// Replace the log2(alpha) of a run by its weights and take it off the transmittance of its block.
inline void composite_run(Tile& tile, int block, Run& run) {
  Lanes before = tile.transmittance[block], reached = before;
  for (int i = 0; i < run.count; ++i) {
    const Lanes alpha = alpha_of(run.weight[i]);
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

// Composite the splats of a tile over the pixels left open in it, calling visit(block, run) for the splats that touch a
// block, front to back, a few at a time; between calls for one block come those for others. Returns how many times a
// splat was evaluated over a block.
//
// Which splats of a chunk reach a block is looked up for all at once, and no branch depends on whether one touches it:
// such branches are often mispredicted. Only of those that do is the exponential taken. It stays a function of its own,
// since the variables of the inner loop would not be kept in registers among those of the caller.
template <class Visit>
LIFT_ON_ITS_OWN int64_t composite(const LiftView& view, int tile_index, Tile& tile, const Visit& visit) {
  int64_t evaluated = 0;
  Chunk chunk;
  Run run;
  const int32_t* splats = view.splats_of(tile_index);
  const int32_t count = static_cast<int32_t>(view.tile_begin[tile_index + 1] - view.tile_begin[tile_index]);
  for (int32_t first = 0; first < count && tile.open; first += kChunk) {
    chunk.load(view, tile, splats + first, std::min(count - first, kChunk), count - first);
    for (uint64_t blocks = tile.open; blocks; blocks &= blocks - 1) {
      const int block = __builtin_ctzll(blocks);
      for (uint64_t near = chunk.near(block); near && tile.open >> block & 1;) {
        int touching = 0;
        for (; near && touching < Run::kCapacity; near &= near - 1, ++evaluated) {
          const int i = __builtin_ctzll(near);
          const Lanes log2_alpha = chunk.footprint[i].log2_alpha(block);
          run.weight[touching] = log2_alpha;
          run.position[touching] = first + i;
          touching += any_at_least(log2_alpha, broadcast(kLog2MinAlpha));
        }
        run.count = touching;
        composite_run(tile, block, run);
        visit(block, run);
      }
    }
  }
  return evaluated;
}

}  // namespace lift
