// Forward pass: channels, alpha and expected depth.
#include "render.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "composite.h"
#include "parallel.h"

namespace lift {

namespace {

struct Outputs {
  float *image, *alpha, *depth, *transmittance;
};

void store_row(const Lanes& x, int lane, int columns, float* to) {
  const float* from = reinterpret_cast<const float*>(&x) + lane;
  if (columns == kBlockColumns)
    std::memcpy(to, from, sizeof(float) * kBlockColumns);
  else
    std::copy_n(from, columns, to);
}

// `sums` (kBlocks, padded): of the features of each block.
void write(const LiftView& view, const Tile& tile, const Lanes* sums, const Outputs& out) {
  const int channels = view.channel_count;
  for (int block = 0; block < kBlocks; ++block) {
    const Lanes* sum = sums + block * view.padded_channels;
    const Lanes transmittance = tile.remaining(block), alpha = 1.0f - transmittance;
    const Lanes depth = zero_unless(alpha > 0.0f, sum[channels] / alpha);
    tile.for_each_row(block, view.camera.width, [&](int lane, int64_t pixel, int columns) {
      store_row(transmittance, lane, columns, out.transmittance + pixel);
      store_row(alpha, lane, columns, out.alpha + pixel);
      store_row(depth, lane, columns, out.depth + pixel);
      const float* from = reinterpret_cast<const float*>(sum) + lane;
      float* to = out.image + pixel * channels;
      for (int i = 0; i < columns; ++i, to += channels)
        for (int c = 0; c < channels; ++c) to[c] = from[c * kLanes + i];
    });
  }
}

}  // namespace

void render(LiftView& view, float* image, float* alpha, float* depth, float* transmittance, int threads) {
  const int padded = view.padded_channels;
  view.touched = Buffer<uint64_t>(view.first_chunk(view.tile_count()) * kBlocks);
  std::fill(view.touched.begin(), view.touched.end(), 0);
  Buffer<Lanes> scratch(int64_t{threads} * kBlocks * padded);

  parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int worker) {
    const int tile_index = view.tile_order[position];
    Tile tile(view, tile_index);
    Lanes* sums = scratch.data() + int64_t{worker} * kBlocks * padded;  // (kBlocks, padded)
    std::memset(static_cast<void*>(sums), 0, sizeof(Lanes) * kBlocks * padded);
    const int32_t* splats = view.splats_of(tile_index);
    uint64_t* touched = &view.touched[view.first_chunk(tile_index) * kBlocks];
    composite(view, tile_index, tile, [&](int block, const Run& run) {
      const float* features[Run::kCapacity];
      uint64_t of_run = 0;
      for (int i = 0; i < run.count; ++i) {
        features[i] = view.features_of(splats[run.position[i]]);
        of_run |= uint64_t{1} << run.position[i] % kChunk;
      }
      if (run.count > 0) touched[run.position[0] / kChunk * kBlocks + block] |= of_run;
      for_each_channels(padded, [&](auto n, int first) {
        Lanes total[n];
        for (int c = 0; c < n; ++c) total[c] = sums[block * padded + first + c];
        for (int i = 0; i < run.count; ++i)
          for (int c = 0; c < n; ++c) total[c] += features[i][first + c] * run.weight[i];
        for (int c = 0; c < n; ++c) sums[block * padded + first + c] = total[c];
      });
    });
    write(view, tile, sums, {image, alpha, depth, transmittance});
  });
}

void count_pairs(const LiftView& view, int64_t pairs[2], int threads) {
  std::atomic<int64_t> forward{0}, backward{0};
  parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int) {
    const int tile_index = view.tile_order[position];
    Tile tile(view, tile_index);
    int64_t touched = 0;
    forward += composite(view, tile_index, tile, [&](int, const Run& run) { touched += run.count; });
    backward += touched;
  });
  pairs[0] = kLanes * forward;
  pairs[1] = kLanes * backward;
}

}  // namespace lift
