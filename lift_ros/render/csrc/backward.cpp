// Backward pass. It replays the compositing front to back: with R = sum_i w_i (f_i . g) the part of the gradient that
// lies behind a splat is R minus what has been passed, so no list of the forward pass need be kept.
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

void load(const LiftView& view, const Tile& tile, const Upstream& up, TileGradient& g) {
  const int channels = view.channel_count, padded = view.padded_channels;
  std::memset(static_cast<void*>(g.features), 0, sizeof(Lanes) * kBlocks * padded);
  std::memset(static_cast<void*>(g.remaining), 0, sizeof g.remaining);
  tile.for_each_pixel([&](int row, int column, int block, int lane) {
    const int64_t pixel = int64_t{row} * view.camera.width + column;
    Lanes* features = g.features + block * padded;
    float remaining = 0.0f;
    if (up.image_gradient)
      for (int c = 0; c < channels; ++c) {
        const float gradient = up.image_gradient[pixel * channels + c];
        features[c][lane] = gradient;
        remaining += gradient * up.image[pixel * channels + c];
      }
    float alpha_gradient = up.alpha_gradient ? up.alpha_gradient[pixel] : 0.0f;
    const float transmittance = up.transmittance[pixel];
    if (up.depth_gradient && transmittance < 1.0f) {
      // depth = (sum_i w_i z_i) / alpha.
      const float per_z = up.depth_gradient[pixel] / (1.0f - transmittance);
      features[channels][lane] = per_z;
      remaining += per_z * up.depth[pixel] * (1.0f - transmittance);
      alpha_gradient -= per_z * up.depth[pixel];
    }
    // d(alpha)/d(alpha_i) = T_end / (1 - alpha_i) for every splat: a constant in R, of which nothing is ever passed.
    g.remaining[block][lane] = remaining - alpha_gradient * transmittance;
  });
}

void backward_tile(const LiftView& view, int tile_index, const Upstream& up, Lanes* scratch, float* slots,
                   uint8_t* slot_used) {
  const int padded = view.padded_channels, stride = kMoments + padded;
  Tile tile(view, tile_index);
  TileGradient g;
  g.features = scratch;
  load(view, tile, up, g);

  composite(view, tile_index, tile, [&](int64_t slot, int32_t index, const Splat& s, const Hits& hits) {
    const float* features = view.features_of(index);
    Lanes value[kBlocks];  // f . g
    for (int i = 0; i < hits.count; ++i) value[i] = broadcast(0.0f);
    for (int c = 0; c < padded; c += 4) {
      const Lanes f0 = broadcast(features[c]), f1 = broadcast(features[c + 1]);
      const Lanes f2 = broadcast(features[c + 2]), f3 = broadcast(features[c + 3]);
      for (int i = 0; i < hits.count; ++i) {
        const Lanes* gradient = g.features + hits.block[i] * padded + c;
        value[i] += (f0 * gradient[0] + f1 * gradient[1]) + (f2 * gradient[2] + f3 * gradient[3]);
      }
    }

    Lanes moments[kMoments];
    for (Lanes& moment : moments) moment = broadcast(0.0f);
    const Lanes x = broadcast(s.x - tile.left), y = broadcast(s.y - tile.top);
    for (int i = 0; i < hits.count; ++i) {
      const int block = hits.block[i];
      const Lanes alpha = hits.alpha[i], weight = hits.weight[i];
      const Lanes behind = g.remaining[block] - weight * value[i];
      g.remaining[block] = behind;
      const Lanes alpha_gradient = hits.transmittance[i] * value[i] - behind / (1.0f - alpha);
      const LaneMask varies = (weight > 0.0f) & (alpha < kMaxAlpha);
      const Lanes v = zero_unless(varies, -alpha * alpha_gradient);
      const Lanes dx = kCentres.x[block] - x, dy = kCentres.y[block] - y;
      const Lanes vx = v * dx, vy = v * dy;
      moments[kV] += v;
      moments[kVx] += vx;
      moments[kVy] += vy;
      moments[kVxx] += vx * dx;
      moments[kVxy] += vx * dy;
      moments[kVyy] += vy * dy;
    }

    float* out = slots + slot * stride;
    slot_used[slot] = 1;
    sum_lanes(moments, out);
    sum_lanes(moments + 4, out + 4);
    for (int c = 0; c < padded; c += 4) {
      Lanes g0 = broadcast(0.0f), g1 = g0, g2 = g0, g3 = g0;
      for (int i = 0; i < hits.count; ++i) {
        const Lanes* gradient = g.features + hits.block[i] * padded + c;
        const Lanes weight = hits.weight[i];
        g0 += weight * gradient[0];
        g1 += weight * gradient[1];
        g2 += weight * gradient[2];
        g3 += weight * gradient[3];
      }
      const Lanes sums[4] = {g0, g1, g2, g3};
      sum_lanes(sums, out + kMoments + c);
    }
  });
}

}  // namespace

void render_backward(const LiftView& view, const LiftGaussians& gaussians, const float* image,
                     const float* depth, const float* transmittance, const float* image_gradient,
                     const float* alpha_gradient, const float* depth_gradient, const LiftGradients& out, int threads) {
  const int channels = view.channel_count, padded = view.padded_channels, stride = kMoments + padded;
  const Upstream up = {image, depth, transmittance, image_gradient, alpha_gradient, depth_gradient};
  const int64_t slot_count = view.tile_splats.size();
  Buffer<float> slots(slot_count * stride);
  Buffer<uint8_t> slot_used(slot_count);
  std::memset(slot_used.data(), 0, slot_count);
  Buffer<Lanes> scratch(int64_t{threads} * kBlocks * padded);
  parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int worker) {
    backward_tile(view, view.tile_order[position], up, scratch.data() + int64_t{worker} * kBlocks * padded,
                  slots.data(), slot_used.data());
  });

  const int64_t n = gaussians.count;
  std::memset(out.means, 0, sizeof(float) * 3 * n);
  std::memset(out.quats, 0, sizeof(float) * 4 * n);
  std::memset(out.scales, 0, sizeof(float) * 3 * n);
  std::memset(out.opacities, 0, sizeof(float) * n);
  std::memset(out.channels, 0, sizeof(float) * channels * n);
  if (out.means2d) std::memset(out.means2d, 0, sizeof(float) * 2 * n);

  const int64_t splat_count = view.splats.size();
  std::vector<double> viewmat((splat_count + kGrain - 1) / kGrain * 16, 0.0);  // one per chunk, for a fixed order
  Buffer<float> sums(int64_t{threads} * stride);
  parallel_for(threads, splat_count, kGrain, [&](int64_t begin, int64_t end, int worker) {
    float* sum = sums.data() + int64_t{worker} * stride;
    for (int64_t k = begin; k < end; ++k) {
      std::memset(sum, 0, sizeof(float) * stride);
      for (int64_t j = view.splat_begin[k]; j < view.splat_begin[k + 1]; ++j) {
        if (!slot_used[view.splat_slots[j]]) continue;
        const float* slot = slots.data() + view.splat_slots[j] * stride;
        for (int c = 0; c < stride; ++c) sum[c] += slot[c];
      }
      const Splat& s = view.splats[k];
      const int64_t i = view.gaussian[k];
      const SplatGradient g = {-(s.a * sum[kVx] + s.b * sum[kVy]), -(s.b * sum[kVx] + s.c * sum[kVy]),
                               0.5f * sum[kVxx],                   sum[kVxy],
                               0.5f * sum[kVyy],                   sum[kMoments + channels]};
      out.opacities[i] = -sum[kV] / s.opacity;
      std::memcpy(out.channels + i * channels, sum + kMoments, sizeof(float) * channels);
      if (out.means2d) {
        out.means2d[2 * i] = g.x;
        out.means2d[2 * i + 1] = g.y;
      }
      view.projector.backward(gaussians.means + 3 * i, gaussians.quats + 4 * i, gaussians.scales + 3 * i, s, g,
                              out.means + 3 * i, out.quats + 4 * i, out.scales + 3 * i,
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
