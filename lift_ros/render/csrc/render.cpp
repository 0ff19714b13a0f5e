// Forward pass: channels, alpha and expected depth.
#include "render.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "composite.h"
#include "parallel.h"

namespace lift {

void render(LiftView& view, float* image, float* alpha, float* depth, float* transmittance, int threads) {
  const int channels = view.channel_count, padded = view.padded_channels;
  const int64_t slots = view.tile_splats.size();
  view.slot_blocks = Buffer<uint64_t>(slots);
  std::fill(view.slot_blocks.begin(), view.slot_blocks.end(), 0);
  Buffer<Lanes> scratch(int64_t{threads} * kBlocks * padded);

  parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int worker) {
    const int tile_index = view.tile_order[position];
    Tile tile(view, tile_index);
    Lanes* sums = scratch.data() + int64_t{worker} * kBlocks * padded;  // (kBlocks, padded)
    std::memset(static_cast<void*>(sums), 0, sizeof(Lanes) * kBlocks * padded);
    const int64_t first_slot = view.tile_begin[tile_index];
    composite(view, tile_index, tile, [&](int block, const Run& run) {
      const float* features[Run::kCapacity];
      for (int i = 0; i < run.count; ++i) {
        const int64_t slot = first_slot + run.position[i];
        features[i] = view.features_of(view.tile_splats[slot]);
        view.slot_blocks[slot] |= uint64_t{1} << block;
      }
      for_each_channels(padded, [&](auto n, int first) {
        Lanes total[n];
        for (int c = 0; c < n; ++c) total[c] = sums[block * padded + first + c];
        for (int i = 0; i < run.count; ++i)
          for (int c = 0; c < n; ++c) total[c] += features[i][first + c] * run.weight[i];
        for (int c = 0; c < n; ++c) sums[block * padded + first + c] = total[c];
      });
    });

    tile.for_each_pixel([&](int row, int column, int block, int lane) {
      const int64_t pixel = int64_t{row} * view.camera.width + column;
      const Lanes* sum = sums + block * padded;
      for (int c = 0; c < channels; ++c) image[pixel * channels + c] = sum[c][lane];
      transmittance[pixel] = tile.remaining(block, lane);
      alpha[pixel] = 1.0f - transmittance[pixel];
      depth[pixel] = alpha[pixel] > 0.0f ? sum[channels][lane] / alpha[pixel] : 0.0f;
    });
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
