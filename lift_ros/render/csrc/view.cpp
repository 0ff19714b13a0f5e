#include "view.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "parallel.h"

namespace {

using lift::Buffer;
using lift::Splat;

constexpr int64_t kGrain = 4096;  // Gaussians per chunk of parallel work

// The tiles a splat touches, inclusive: small, since binning reads them in depth order, which is random in memory.
struct TileRectangle {
  uint16_t left, right, top, bottom;

  explicit TileRectangle(const Splat& s)
      : left(s.left / lift::kTile),
        right(s.right / lift::kTile),
        top(s.top / lift::kTile),
        bottom(s.bottom / lift::kTile) {}

  int64_t area() const { return int64_t{right - left + 1} * (bottom - top + 1); }

  template <class Visit>
  void for_each(int tile_columns, const Visit& visit) const {
    // One loop, not two: the end of each inner one would be mispredicted.
    const int columns = right - left + 1;
    int tile = top * tile_columns + left, column = 0;
    for (int64_t rest = area(); rest > 0; --rest) {
      visit(tile);
      const bool row_ends = ++column == columns;
      tile += row_ends ? tile_columns - columns + 1 : 1;
      column = row_ends ? 0 : column;
    }
  }
};

// Indices of the splats by depth, front to back; equal depths keep their order. LSD radix sort on the bits of z, which
// sort like z because z is positive.
Buffer<int32_t> depth_order(const Buffer<Splat>& splats) {
  constexpr int kBits = 11, kBuckets = 1 << kBits;
  struct Entry {
    uint32_t key;
    int32_t splat;
  };
  const size_t n = splats.size();
  Buffer<Entry> entries(n), scratch(n);
  for (size_t i = 0; i < n; ++i) {
    std::memcpy(&entries[i].key, &splats[i].z, sizeof(float));
    entries[i].splat = static_cast<int32_t>(i);
  }
  for (int shift = 0; shift < 32; shift += kBits) {
    uint32_t begin[kBuckets + 1] = {};
    for (const Entry& e : entries) ++begin[(e.key >> shift) % kBuckets + 1];
    std::partial_sum(begin, begin + kBuckets, begin);
    for (const Entry& e : entries) scratch[begin[(e.key >> shift) % kBuckets]++] = e;
    std::swap(entries, scratch);
  }
  Buffer<int32_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = entries[i].splat;
  return order;
}

}  // namespace

LiftView::LiftView(const LiftGaussians& gaussians, const LiftCamera& camera, float* radii, int threads)
    : camera(camera),
      projector(camera),
      gaussian_count(gaussians.count),
      channel_count(static_cast<int>(gaussians.channel_count)),
      feature_count(channel_count > 0 ? channel_count + 1 : 0),
      padded_channels((feature_count + 3) / 4 * 4),
      tile_columns((camera.width + lift::kTile - 1) / lift::kTile),
      tile_rows((camera.height + lift::kTile - 1) / lift::kTile) {
  project(gaussians, radii, threads);
  bin(threads);
}

void LiftView::project(const LiftGaussians& g, float* radii, int threads) {
  // Each chunk packs its visible splats at its own start; then the chunks close up.
  const int64_t chunks = (g.count + kGrain - 1) / kGrain;
  Buffer<Splat> sparse(g.count);
  Buffer<int32_t> sparse_gaussian(g.count);
  std::vector<int64_t> first(chunks + 1, 0);
  lift::parallel_for(threads, g.count, kGrain, [&](int64_t begin, int64_t end, int) {
    first[begin / kGrain + 1] = projector.project(g, begin, end, &sparse[begin], &sparse_gaussian[begin], radii);
  });
  std::partial_sum(first.begin(), first.end(), first.begin());

  splats = Buffer<Splat>(first[chunks]);
  gaussian = Buffer<int32_t>(first[chunks]);
  features = Buffer<float>(first[chunks] * padded_channels);
  lift::parallel_for(threads, chunks, 1, [&](int64_t chunk, int64_t, int) {
    for (int64_t s = first[chunk], from = chunk * kGrain; s < first[chunk + 1]; ++s, ++from) {
      splats[s] = sparse[from];
      gaussian[s] = sparse_gaussian[from];
      if (feature_count == 0) continue;
      float* feature = &features[s * padded_channels];
      std::copy_n(g.channels + int64_t{gaussian[s]} * channel_count, channel_count, feature);
      feature[channel_count] = splats[s].z;
      std::fill(feature + feature_count, feature + padded_channels, 0.0f);
    }
  });
}

void LiftView::bin(int threads) {
  const int64_t n = splats.size();
  const int tiles = tile_count();
  const Buffer<int32_t> order = depth_order(splats);

  Buffer<TileRectangle> rectangles(n);
  splat_begin = Buffer<int64_t>(n + 1);
  splat_begin[0] = 0;
  for (int64_t i = 0; i < n; ++i) {
    rectangles[i] = TileRectangle(splats[i]);
    splat_begin[i + 1] = splat_begin[i] + rectangles[i].area();
  }

  // A stable counting sort by tile of the splats in depth order, over contiguous parts of that order: part p starts
  // in each tile where part p - 1 ends.
  const int parts = static_cast<int>(std::clamp<int64_t>(n / kGrain, 1, threads));
  const auto for_each_of_part = [&](int64_t part, const auto& visit) {
    const int64_t end = n * (part + 1) / parts;
    for (int64_t i = n * part / parts; i < end; ++i) visit(order[i]);
  };
  std::vector<int64_t> next(static_cast<size_t>(parts) * tiles, 0);
  lift::parallel_for(threads, parts, 1, [&](int64_t part, int64_t, int) {
    int64_t* count = &next[part * tiles];
    for_each_of_part(part, [&](int32_t splat) {
      rectangles[splat].for_each(tile_columns, [&](int tile) { ++count[tile]; });
    });
  });

  tile_begin = Buffer<int64_t>(tiles + 1);
  int64_t total = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    tile_begin[tile] = total;
    for (int part = 0; part < parts; ++part) {
      const int64_t count = std::exchange(next[static_cast<size_t>(part) * tiles + tile], total);
      total += count;
    }
  }
  tile_begin[tiles] = total;

  tile_splats = Buffer<int32_t>(total);
  slot_place = Buffer<int64_t>(total);
  lift::parallel_for(threads, parts, 1, [&](int64_t part, int64_t, int) {
    int64_t* slot = &next[part * tiles];
    for_each_of_part(part, [&](int32_t splat) {
      int64_t place = splat_begin[splat];
      rectangles[splat].for_each(tile_columns, [&](int tile) {
        slot_place[slot[tile]] = place++;
        tile_splats[slot[tile]++] = splat;
      });
    });
  });

  tile_order = Buffer<int32_t>(tiles);
  std::iota(tile_order.begin(), tile_order.end(), 0);
  std::stable_sort(tile_order.begin(), tile_order.end(), [this](int32_t a, int32_t b) {
    return tile_begin[a + 1] - tile_begin[a] > tile_begin[b + 1] - tile_begin[b];
  });
}
