#include "edges.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel.h"

namespace {

constexpr int64_t kRows = 16;        // of the image per chunk of parallel work
constexpr int kCandidates = 8;       // labels that compete for a pixel; windows hardly ever hold more
constexpr int kSteps = 1024;         // of the table of exp(-x)
constexpr float kEnd = 12.0f;        // where it is taken for zero

struct Decay {
  float value[kSteps + 1];

  Decay() {
    for (int i = 0; i <= kSteps; ++i) value[i] = std::exp(-kEnd * i / kSteps);
    value[kSteps] = 0.0f;
  }

  float operator()(float x) const {
    return value[static_cast<int>(std::min(x * (kSteps / kEnd), static_cast<float>(kSteps)))];
  }
};
const Decay kDecay;

// (H, W) whether a pixel has another label within `radius` rows and columns.
std::vector<uint8_t> near_border(const int32_t* labels, int width, int height, int radius) {
  std::vector<uint8_t> row_wise(static_cast<size_t>(width) * height, 0), band(row_wise.size(), 0);
  const auto mark = [&](int column, int row) {
    uint8_t* line = &row_wise[static_cast<size_t>(row) * width];
    std::fill(line + std::max(column - radius + 1, 0), line + std::min(column + radius, width), 1);
  };
  for (int row = 0; row < height; ++row)
    for (int column = 0; column < width; ++column) {
      const int32_t* here = &labels[static_cast<size_t>(row) * width + column];
      const bool right = column + 1 < width && here[1] != *here, below = row + 1 < height && here[width] != *here;
      if (right || below) mark(column, row);
      if (right) mark(column + 1, row);
      if (below) mark(column, row + 1);
    }
  for (int row = 0; row < height; ++row)
    for (int other = std::max(row - radius + 1, 0); other < std::min(row + radius, height); ++other) {
      const uint8_t* from = &row_wise[static_cast<size_t>(other) * width];
      uint8_t* to = &band[static_cast<size_t>(row) * width];
      for (int column = 0; column < width; ++column) to[column] |= from[column];
    }
  return band;
}

}  // namespace

void lift::follow_edges(const LiftPicture& picture, const LiftEdgeFilter& filter, const int32_t* labels, int32_t* out,
                        int threads) {
  const int width = picture.width, height = picture.height, radius = filter.radius;
  const std::vector<uint8_t> band = near_border(labels, width, height, radius);
  const float by_distance = 0.5f / (filter.distance * filter.distance);
  const float by_color = 0.5f / (filter.color * filter.color);
  const float by_color_alone = 0.5f / (filter.color_alone * filter.color_alone);
  const float by_depth = 0.5f / (filter.depth * filter.depth);
  const float* depth = picture.depth;
  lift::parallel_for(threads, height, kRows, [&](int64_t begin, int64_t end, int) {
    for (int row = static_cast<int>(begin); row < end; ++row)
      for (int column = 0; column < width; ++column) {
        const size_t here = static_cast<size_t>(row) * width + column;
        out[here] = labels[here];
        if (!band[here]) continue;
        const uint8_t* color = picture.image + 3 * here;
        const float scale = depth && depth[here] > 0 ? 1.0f / depth[here] : 0.0f;
        int32_t candidate[kCandidates] = {labels[here]};
        float votes[kCandidates] = {0.0f};
        int count = 1;
        for (int y = std::max(row - radius, 0); y <= std::min(row + radius, height - 1); ++y)
          for (int x = std::max(column - radius, 0); x <= std::min(column + radius, width - 1); ++x) {
            const size_t there = static_cast<size_t>(y) * width + x;
            float unlike = by_distance * ((x - column) * (x - column) + (y - row) * (y - row));
            const uint8_t* other = picture.image + 3 * there;
            const float red = other[0] - color[0], green = other[1] - color[1], blue = other[2] - color[2];
            const float colors = red * red + green * green + blue * blue;
            if (scale > 0 && depth[there] > 0) {
              const float step = depth[there] * scale - 1.0f;
              unlike += by_color * colors + by_depth * step * step;
            } else {
              unlike += by_color_alone * colors;
            }
            int k = 0;
            while (k < count && candidate[k] != labels[there]) ++k;
            if (k == count) {
              if (count == kCandidates) continue;
              candidate[count] = labels[there];
              votes[count++] = 0.0f;
            }
            votes[k] += kDecay(unlike);
          }
        out[here] = candidate[std::max_element(votes, votes + count) - votes];
      }
  });
}
