// Forward pass: channels, alpha and expected depth.
#include "render.h"

#include <cstring>

#include "composite.h"
#include "parallel.h"

namespace lift {

void render(const LiftView& view, float* image, float* alpha, float* depth, float* transmittance, int threads) {
  const int channels = view.channel_count, padded = view.padded_channels;
  const int width = view.camera.width;
  Buffer<Lanes> scratch(int64_t{threads} * kBlocks * padded);

  parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int worker) {
    const int tile_index = view.tile_order[position];
    Tile tile(view, tile_index);
    Lanes* sums = scratch.data() + int64_t{worker} * kBlocks * padded;  // (kBlocks, padded)
    std::memset(static_cast<void*>(sums), 0, sizeof(Lanes) * kBlocks * padded);

    composite(view, tile_index, tile, [&](int64_t, int32_t index, const Splat&, const Hits& hits) {
      const float* features = view.features_of(index);
      for (int c = 0; c < padded; c += 4) {
        const Lanes f0 = broadcast(features[c]), f1 = broadcast(features[c + 1]);
        const Lanes f2 = broadcast(features[c + 2]), f3 = broadcast(features[c + 3]);
        for (int i = 0; i < hits.count; ++i) {
          Lanes* sum = sums + hits.block[i] * padded + c;
          const Lanes weight = hits.weight[i];
          sum[0] += f0 * weight;
          sum[1] += f1 * weight;
          sum[2] += f2 * weight;
          sum[3] += f3 * weight;
        }
      }
    });

    tile.for_each_pixel([&](int row, int column, int block, int lane) {
      const int64_t pixel = int64_t{row} * width + column;
      const Lanes* sum = sums + block * padded;
      for (int c = 0; c < channels; ++c) image[pixel * channels + c] = sum[c][lane];
      transmittance[pixel] = tile.remaining(block, lane);
      alpha[pixel] = 1.0f - transmittance[pixel];
      depth[pixel] = alpha[pixel] > 0.0f ? sum[channels][lane] / alpha[pixel] : 0.0f;
    });
  });
}

}  // namespace lift
