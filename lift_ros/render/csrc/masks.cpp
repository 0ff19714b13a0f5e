#include "masks.h"

#include <algorithm>
#include <utility>

#include "composite.h"
#include "parallel.h"

using lift::kBlocks;
using lift::kLanes;
using lift::Lanes;
using lift::Run;
using lift::Tile;

namespace {

struct Entry {
  int32_t mask, gaussian;
  float weight;
};

// The masks that meet in a tile, and the share of each pixel that lies in them, block by block. Few meet in a block.
struct TileMasks {
  std::vector<int32_t> masks;  // of the tile
  struct Share {
    int slot;  // in masks
    Lanes share;
  };
  std::vector<Share> blocks[kBlocks];

  TileMasks(const LiftView& view, const Tile& tile, const int32_t* labels, int scale) {
    const int64_t stride = int64_t{view.camera.width} * scale;
    const float part = 1.0f / (scale * scale);
    tile.for_each_pixel([&](int row, int column, int block, int lane) {
      for (int y = row * scale; y < (row + 1) * scale; ++y)
        for (int x = column * scale; x < (column + 1) * scale; ++x) {
          const int32_t label = labels[y * stride + x];
          if (label > 0) share_of(block, label - 1)[lane] += part;
        }
    });
  }

 private:
  Lanes& share_of(int block, int32_t mask) {
    const int slot = static_cast<int>(std::find(masks.begin(), masks.end(), mask) - masks.begin());
    if (slot == static_cast<int>(masks.size())) masks.push_back(mask);
    for (Share& known : blocks[block])
      if (known.slot == slot) return known.share;
    blocks[block].push_back({slot, lift::broadcast(0.0f)});
    return blocks[block].back().share;
  }
};

}  // namespace

LiftMaskWeights::LiftMaskWeights(const LiftView& view, const int32_t* labels, int scale, int32_t mask_count,
                                 float min_weight, int threads)
    : begin(int64_t{mask_count} + 1, 0) {
  std::vector<std::vector<Entry>> tiles(view.tile_count());
  lift::parallel_for(threads, view.tile_count(), 1, [&](int64_t position, int64_t, int) {
    const int tile_index = view.tile_order[position];
    Tile tile(view, tile_index);
    const TileMasks present(view, tile, labels, scale);
    const int32_t* splats = view.splats_of(tile_index);
    const size_t masks = present.masks.size();
    std::vector<float> sums((view.tile_begin[tile_index + 1] - view.tile_begin[tile_index]) * masks, 0.0f);
    lift::composite(view, tile_index, tile, [&](int block, const Run& run) {
      for (int i = 0; i < run.count; ++i)
        for (const TileMasks::Share& each : present.blocks[block]) {
          const Lanes product = run.weight[i] * each.share;
          float sum = 0;
          for (int lane = 0; lane < kLanes; ++lane) sum += product[lane];
          sums[run.position[i] * masks + each.slot] += sum;
        }
    });
    for (size_t k = 0; k < sums.size(); ++k)
      if (sums[k] > 0)
        tiles[tile_index].push_back({present.masks[k % masks], view.gaussian[splats[k / masks]], sums[k]});
  });

  // What several tiles show of a Gaussian is added in the order of the tiles, whatever thread had them.
  std::vector<int64_t> first(int64_t{mask_count} + 1, 0);
  for (const auto& tile : tiles)
    for (const Entry& entry : tile) ++first[entry.mask + 1];
  for (int32_t m = 0; m < mask_count; ++m) first[m + 1] += first[m];
  std::vector<std::pair<int32_t, float>> by_mask(first.back());
  std::vector<int64_t> next(first.begin(), first.end() - 1);
  for (const auto& tile : tiles)
    for (const Entry& entry : tile) by_mask[next[entry.mask]++] = {entry.gaussian, entry.weight};
  lift::Buffer<float> total(view.gaussian_count);
  std::fill(total.begin(), total.end(), 0.0f);
  std::vector<int32_t> shown;
  for (int32_t m = 0; m < mask_count; ++m) {
    shown.clear();
    for (int64_t e = first[m]; e < first[m + 1]; ++e) {
      if (total[by_mask[e].first] == 0.0f) shown.push_back(by_mask[e].first);
      total[by_mask[e].first] += by_mask[e].second;
    }
    std::sort(shown.begin(), shown.end());
    for (int32_t i : shown) {
      if (total[i] > min_weight) {
        gaussian.push_back(i);
        weight.push_back(total[i]);
      }
      total[i] = 0.0f;
    }
    begin[m + 1] = static_cast<int64_t>(gaussian.size());
  }
}
