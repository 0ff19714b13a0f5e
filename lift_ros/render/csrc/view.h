// Gaussians as seen from one camera: the visible splats, and for each tile of the image those that touch it.
#pragma once

#include <cstdint>

#include "lift_raster.h"
#include "memory.h"
#include "project.h"

namespace lift {

constexpr int kTile = 16;   // tiles are kTile x kTile pixels
constexpr int kChunk = 64;  // splats of a tile are taken in chunks of so many

}  // namespace lift

struct LiftView {
  LiftView(const LiftGaussians& gaussians, const LiftCamera& camera, float* radii, int threads);

  int tile_count() const { return tile_columns * tile_rows; }
  const float* features_of(int32_t splat) const { return features.data() + int64_t{splat} * padded_channels; }
  const int32_t* splats_of(int tile) const { return tile_splats.data() + tile_begin[tile]; }  // front to back
  // Where the chunks of a tile begin among those of all tiles, each of which may end with one that is not full.
  int64_t first_chunk(int tile) const { return tile_begin[tile] / lift::kChunk + tile; }

  LiftCamera camera;
  lift::Projector projector;
  int64_t gaussian_count;
  int channel_count;
  int feature_count;    // channels and depth, or 0 without channels
  int padded_channels;  // feature_count rounded up to a multiple of 4; the rest is zero
  int tile_columns, tile_rows;

  // Visible splats, in the order of the Gaussians.
  lift::Buffer<lift::Splat> splats;
  lift::Buffer<int32_t> gaussian;  // index of the Gaussian of each splat
  lift::Buffer<float> features;    // (splats, padded_channels): the channels, then z

  // The splats of tile t, front to back, are tile_splats[tile_begin[t] .. tile_begin[t + 1]). A position in this list
  // is called a slot.
  lift::Buffer<int64_t> tile_begin;
  lift::Buffer<int32_t> tile_splats;
  // The slots by splat: those of splat s are places splat_begin[s] .. splat_begin[s + 1], slot_place the way there.
  lift::Buffer<int64_t> splat_begin;
  lift::Buffer<int64_t> slot_place;

  // What the backward pass replays, filled by render(): for each chunk of a tile and each block of it (composite.h) the
  // splats of the chunk that may contribute, one bit each.
  lift::Buffer<uint64_t> touched;

  // Tiles in the order of decreasing work, so that threads end together.
  lift::Buffer<int32_t> tile_order;

 private:
  void project(const LiftGaussians& gaussians, float* radii, int threads);
  void bin(int threads);
};
