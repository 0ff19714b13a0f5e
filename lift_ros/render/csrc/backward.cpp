// Backward pass. It replays the compositing front to back: with R = sum_i w_i (f_i . g) the part of the gradient that
// lies behind a splat is R minus what has been passed, so no list of the forward pass need be kept.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "composite.h"
#include "parallel.h"
#include "render.h"

namespace lift {
namespace {

// Sums over the pixels of one slot (a splat in a tile): moments of v = dL/dsigma, then the gradients of the features.
// They are linear in the pixels, so a splat's are the sum over its slots, taken in a fixed order: the result does not
// depend on the number of threads.
enum Moment { kV, kVx, kVy, kVxx, kVxy, kVyy, kMoments = 8 };  // padded for sum_lanes

constexpr int64_t kGrain = 1024;  // splats per chunk of the reduction

struct Upstream {
  const float *image, *depth, *transmittance;
  const float *image_gradient, *alpha_gradient, *depth_gradient;
};

// The gradients of the outputs at one tile, transposed for the blocks.
struct TileGradient {
  Lanes* features;       // (kBlocks, padded): d/d(sum_i w_i f_i)
  Lanes remaining[kBlocks];  // R, less what has been passed
};

// One row of a block, of an image of one channel; without an image nothing changes.
void load_row(const float* image, int64_t pixel, int columns, Lanes& x, int lane) {
  if (image == nullptr) return;
  float* to = reinterpret_cast<float*>(&x) + lane;
  if (columns == kBlockColumns)
    std::memcpy(to, image + pixel, sizeof(float) * kBlockColumns);
  else
    std::copy_n(image + pixel, columns, to);
}

void load(const LiftView& view, const Tile& tile, const Upstream& up, TileGradient& g) {
  const int channels = view.channel_count, padded = view.padded_channels;
  std::memset(static_cast<void*>(g.features), 0, sizeof(Lanes) * kBlocks * padded);
  for (int block = 0; block < kBlocks; ++block) {
    Lanes* features = g.features + block * padded;
    Lanes remaining = broadcast(0.0f), alpha_gradient = remaining, depth_gradient = remaining, depth = remaining;
    Lanes transmittance = broadcast(1.0f);
    // What is outside the image stays 0; nothing of it is used.
    tile.for_each_row(block, view.camera.width, [&](int lane, int64_t pixel, int columns) {
      load_row(up.transmittance, pixel, columns, transmittance, lane);
      load_row(up.alpha_gradient, pixel, columns, alpha_gradient, lane);
      load_row(up.depth_gradient, pixel, columns, depth_gradient, lane);
      load_row(up.depth, pixel, columns, depth, lane);
      if (up.image_gradient == nullptr) return;
      const float *gradient = up.image_gradient + pixel * channels, *image = up.image + pixel * channels;
      float* to = reinterpret_cast<float*>(features) + lane;
      for (int i = 0; i < columns; ++i, gradient += channels, image += channels) {
        float passed = 0.0f;
        for (int c = 0; c < channels; ++c) {
          to[c * kLanes + i] = gradient[c];
          passed += gradient[c] * image[c];
        }
        reinterpret_cast<float*>(&remaining)[lane + i] = passed;
      }
    });
    // depth = (sum_i w_i z_i) / alpha.
    const Lanes alpha = 1.0f - transmittance, per_z = zero_unless(alpha > 0.0f, depth_gradient / alpha);
    features[channels] = per_z;
    remaining += per_z * depth * alpha;
    alpha_gradient -= per_z * depth;
    // d(alpha)/d(alpha_i) = T_end / (1 - alpha_i) for every splat: a constant in R, of which nothing is ever passed.
    g.remaining[block] = remaining - alpha_gradient * transmittance;
  }
}

// From the splats of a chunk that touch each block, `by_block`, to the blocks that each splat touches.
void blocks_by_splat(const uint64_t by_block[kBlocks], uint64_t by_splat[kChunk]) {
  std::fill_n(by_splat, kChunk, 0);
  uint8_t sets[kChunk];
  for (int first = 0; first < kBlocks; first += 8) {
    sets_of(by_block + first, sets);
    for (int i = 0; i < kChunk; ++i) by_splat[i] |= uint64_t{sets[i]} << first;
  }
}

// The blocks of a tile that one splat contributes to.
struct Hits {
  int count = 0;
  int block[kBlocks];
  Lanes weight[kBlocks];  // 0 in lanes that have ended or are not reached
};

void backward_tile(const LiftView& view, int tile_index, const Upstream& up, Lanes* scratch, float* sums,
                   uint8_t* used) {
  const int padded = view.padded_channels, stride = kMoments + padded;
  Tile tile(view, tile_index);
  TileGradient g;
  g.features = scratch;
  load(view, tile, up, g);

  constexpr int kAhead = 4;  // splats
  Hits hits;
  uint64_t touched[kChunk];  // blocks, by splats of the chunk
  const int64_t begin = view.tile_begin[tile_index], end = view.tile_begin[tile_index + 1];
  for (int64_t slot = begin; slot < end; ++slot) {
    const int64_t chunk = (slot - begin) / kChunk, in_chunk = (slot - begin) % kChunk;
    if (in_chunk == 0) blocks_by_splat(&view.touched[(view.first_chunk(tile_index) + chunk) * kBlocks], touched);
    if (slot + kAhead < end) prefetch(view, view.tile_splats[slot + kAhead]);
    if (touched[in_chunk] == 0) continue;
    const int32_t index = view.tile_splats[slot];
    const Footprint footprint(view.splats[index], tile);
    const float* features = view.features_of(index);
    Lanes moments[kMoments];
    for (Lanes& moment : moments) moment = broadcast(0.0f);
    hits.count = 0;
    for (uint64_t blocks = touched[in_chunk]; blocks; blocks &= blocks - 1) {
      const int block = __builtin_ctzll(blocks);
      const Lanes before = tile.transmittance[block];
      const Lanes alpha = alpha_of(footprint.log2_alpha(block));
      const Lanes after = before * (1.0f - alpha);
      const LaneMask goes_on = after > kMinTransmittance;
      tile.transmittance[block] = goes_on ? after : broadcast(-1.0f);
      const Lanes weight = zero_unless(goes_on, alpha * before);
      hits.block[hits.count] = block;
      hits.weight[hits.count++] = weight;

      const Lanes* gradient = g.features + block * padded;
      Lanes even = broadcast(0.0f), odd = even;
      for (int c = 0; c < padded; c += 2) {
        even += features[c] * gradient[c];
        odd += features[c + 1] * gradient[c + 1];
      }
      const Lanes value = even + odd;  // f . g
      const Lanes behind = g.remaining[block] - weight * value;
      g.remaining[block] = behind;
      const Lanes alpha_gradient = before * value - behind * reciprocal(1.0f - alpha);
      const LaneMask varies = (weight > 0.0f) & (alpha < kMaxAlpha);
      const Lanes v = zero_unless(varies, -alpha * alpha_gradient);
      const Lanes dx = footprint.dx(block), dy = footprint.dy(block);
      const Lanes vx = v * dx, vy = v * dy;
      moments[kV] += v;
      moments[kVx] += vx;
      moments[kVy] += vy;
      moments[kVxx] += vx * dx;
      moments[kVxy] += vx * dy;
      moments[kVyy] += vy * dy;
    }

    float* out = sums + view.slot_place[slot] * stride;
    used[view.slot_place[slot]] = 1;
    sum_lanes(moments, out);
    sum_lanes(moments + 4, out + 4);
    for_each_channels(padded, [&](auto n, int first) {
      Lanes total[n];
      for (Lanes& sum : total) sum = broadcast(0.0f);
      for (int i = 0; i < hits.count; ++i) {
        const Lanes* gradient = g.features + hits.block[i] * padded + first;
        for (int c = 0; c < n; ++c) total[c] += hits.weight[i] * gradient[c];
      }
      for (int c = 0; c < n; c += 4) sum_lanes(total + c, out + kMoments + first + c);
    });
  }
}

}  // namespace

void render_backward(const LiftView& view, const LiftGaussians& gaussians, const float* image,
                     const float* depth, const float* transmittance, const float* image_gradient,
                     const float* alpha_gradient, const float* depth_gradient, const LiftGradients& out, int threads) {
  const int channels = view.channel_count, padded = view.padded_channels, stride = kMoments + padded;
  const Upstream up = {image, depth, transmittance, image_gradient, alpha_gradient, depth_gradient};
  const int64_t slot_count = view.tile_splats.size();
  Buffer<float> sums(slot_count * stride);  // by splat, so that adding them up reads memory in order
  Buffer<uint8_t> used(slot_count);
  std::fill(used.begin(), used.end(), uint8_t{0});
  Buffer<Lanes> scratch(int64_t{threads} * kBlocks * padded);
  parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int worker) {
    backward_tile(view, view.tile_order[position], up, scratch.data() + int64_t{worker} * kBlocks * padded,
                  sums.data(), used.data());
  });

  const int64_t n = gaussians.count;
  std::fill_n(out.means, 3 * n, 0.0f);
  std::fill_n(out.quats, 4 * n, 0.0f);
  std::fill_n(out.scales, 3 * n, 0.0f);
  std::fill_n(out.opacities, n, 0.0f);
  std::fill_n(out.channels, channels * n, 0.0f);
  if (out.means2d) std::fill_n(out.means2d, 2 * n, 0.0f);

  const int64_t splat_count = view.splats.size();
  std::vector<double> viewmat((splat_count + kGrain - 1) / kGrain * 16, 0.0);  // one per chunk, for a fixed order
  Buffer<float> totals(int64_t{threads} * kLanes * stride);
  parallel_for(threads, splat_count, kGrain, [&](int64_t begin, int64_t end, int worker) {
    float* totals_of_lanes = totals.data() + int64_t{worker} * kLanes * stride;
    for (int64_t first = begin; first < end; first += kLanes) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, end - first));
      const int32_t* gaussian = &view.gaussian[first];
      std::memset(totals_of_lanes, 0, sizeof(float) * kLanes * stride);
      for (int lane = 0; lane < count; ++lane) {
        float* total = totals_of_lanes + lane * stride;
        for (int64_t place = view.splat_begin[first + lane]; place < view.splat_begin[first + lane + 1]; ++place)
          if (used[place])
            for (int c = 0; c < stride; ++c) total[c] += sums[place * stride + c];
        const int64_t i = gaussian[lane];
        out.opacities[i] = -total[kV] / gaussians.opacities[i];
        std::memcpy(out.channels + i * channels, total + kMoments, sizeof(float) * channels);
      }

      const Rows rows = Rows::range(0, kLanes);
      const auto total = [&](int c) { return rows.column(totals_of_lanes, stride, c); };
      const Conics conics(&view.splats[first], count);
      const Lanes vx = total(kVx), vy = total(kVy);
      const SplatGradients g = {-(conics.a * vx + conics.b * vy), -(conics.b * vx + conics.c * vy),
                                0.5f * total(kVxx),               total(kVxy),
                                0.5f * total(kVyy),               total(kMoments + channels)};
      if (out.means2d)
        for (int lane = 0; lane < count; ++lane) {
          out.means2d[2 * int64_t{gaussian[lane]}] = g.x[lane];
          out.means2d[2 * int64_t{gaussian[lane]} + 1] = g.y[lane];
        }
      view.projector.backward(gaussians, Rows::listed(gaussian, count), count, conics, g, out,
                              &viewmat[begin / kGrain * 16]);
    }
  });
  for (int j = 0; j < 16; ++j) {
    double total = 0.0;
    for (size_t chunk = 0; chunk < viewmat.size(); chunk += 16) total += viewmat[chunk + j];
    out.viewmat[j] = static_cast<float>(total);
  }
}

}  // namespace lift
