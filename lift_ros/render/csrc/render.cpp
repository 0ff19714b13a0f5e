// Forward pass: channels, alpha and expected depth.
#include "render.h"

#include <cstring>

#include "composite.h"
#include "parallel.h"

namespace lift {

namespace {

// Blends features into the pixels of one tile. The contributions to a block are collected and added a few at a time:
// its sums then stay in registers meanwhile, instead of being loaded and stored for every splat.
class FeatureSums {
 public:
  FeatureSums(const LiftView& view, Lanes* sums) : view_(view), padded_(view.padded_channels), sums_(sums) {
    std::memset(static_cast<void*>(sums), 0, sizeof(Lanes) * kBlocks * padded_);
  }

  static size_t size(const LiftView& view) { return static_cast<size_t>(kBlocks) * view.padded_channels; }

  void add(int block, int32_t splat, Lanes weight) {
    Pending& p = pending_[block];
    p.features[p.count] = view_.features_of(splat);
    p.weight[p.count] = weight;
    if (++p.count == kCapacity) flush(block);
  }

  void flush() {
    for (int block = 0; block < kBlocks; ++block) flush(block);
  }

  // The sums of a block, by channel.
  const Lanes* operator[](int block) const { return sums_ + block * padded_; }

 private:
  static constexpr int kCapacity = 16;
  struct Pending {
    int count = 0;
    const float* features[kCapacity];
    Lanes weight[kCapacity];
  };

  void flush(int block) {
    Pending& p = pending_[block];
    int c = 0;
    for (; c + 8 <= padded_; c += 8) add_channels<8>(p, c, sums_ + block * padded_ + c);
    for (; c < padded_; c += 4) add_channels<4>(p, c, sums_ + block * padded_ + c);
    p.count = 0;
  }

  template <int kChannels>
  static void add_channels(const Pending& p, int first, Lanes* sums) {
    Lanes total[kChannels];
    for (int c = 0; c < kChannels; ++c) total[c] = sums[c];
    for (int i = 0; i < p.count; ++i) {
      const Lanes weight = p.weight[i];
      const float* features = p.features[i] + first;
      for (int c = 0; c < kChannels; ++c) total[c] += features[c] * weight;
    }
    for (int c = 0; c < kChannels; ++c) sums[c] = total[c];
  }

  const LiftView& view_;
  const int padded_;
  Lanes* sums_;  // (kBlocks, padded_)
  Pending pending_[kBlocks];
};

}  // namespace

void render(const LiftView& view, float* image, float* alpha, float* depth, float* transmittance, int threads) {
  const int channels = view.channel_count;
  Buffer<Lanes> scratch(threads * FeatureSums::size(view));

  parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int worker) {
    const int tile_index = view.tile_order[position];
    Tile tile(view, tile_index);
    FeatureSums sums(view, scratch.data() + worker * FeatureSums::size(view));
    composite(view, tile_index, tile, [&](int64_t, int32_t splat, const Splat&, const Hits& hits) {
      for (int i = 0; i < hits.count; ++i) sums.add(hits.block[i], splat, hits.weight[i]);
    });
    sums.flush();

    tile.for_each_pixel([&](int row, int column, int block, int lane) {
      const int64_t pixel = int64_t{row} * view.camera.width + column;
      const Lanes* sum = sums[block];
      for (int c = 0; c < channels; ++c) image[pixel * channels + c] = sum[c][lane];
      transmittance[pixel] = tile.remaining(block, lane);
      alpha[pixel] = 1.0f - transmittance[pixel];
      depth[pixel] = alpha[pixel] > 0.0f ? sum[channels][lane] / alpha[pixel] : 0.0f;
    });
  });
}

}  // namespace lift
