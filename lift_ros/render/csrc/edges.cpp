// Pixels near borders vote in windows; a row of them goes through its window together, one in each lane.
#include "edges.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "memory.h"
#include "parallel.h"
#include "simd.h"

namespace lift {
namespace {

constexpr int64_t kRows = 16;     // of the image per chunk of parallel work
constexpr int kCandidates = 32;   // labels that compete for the pixels of a vector; their windows hardly ever hold more
constexpr int32_t kOutside = std::numeric_limits<int32_t>::min();  // label of what lies around the image

// The picture as planes with a margin around them, so that no window leaves them.
struct Planes {
  int width, height, margin;
  size_t stride;
  Buffer<float> red, green, blue, depth;

  Planes(const LiftPicture& picture, int radius, int threads)
      : width(picture.width),
        height(picture.height),
        margin(radius),
        stride(width + 2 * radius + kLanes),  // vectors may begin in the last column
        red(size()),
        green(size()),
        blue(size()),
        depth(size()) {
    parallel_for(threads, height + 2 * margin, kRows, [&](int64_t begin, int64_t end, int) {
      for (Buffer<float>* plane : {&red, &green, &blue, &depth})
        std::fill(&(*plane)[begin * stride], plane->data() + end * stride, 0.0f);
      const int first = static_cast<int>(std::max<int64_t>(begin - margin, 0));
      for (int row = first; row < std::min<int64_t>(end - margin, height); ++row) {
        const size_t from = static_cast<size_t>(row) * width, to = at(row, 0);
        const uint8_t* color = picture.image + 3 * from;
        for (int x = 0; x < width; ++x) {
          red[to + x] = color[3 * x];
          green[to + x] = color[3 * x + 1];
          blue[to + x] = color[3 * x + 2];
        }
        if (picture.depth) std::copy_n(picture.depth + from, width, &depth[to]);
      }
    });
  }

  size_t size() const { return stride * (height + 2 * margin); }
  size_t at(int row, int column) const { return (row + margin) * stride + margin + column; }
};

void add_marks(const uint8_t* __restrict from, uint8_t* __restrict to, int count) {
  for (int i = 0; i < count; ++i) to[i] |= from[i];
}

// Whether a pixel has another label within `radius` rows and columns: (height, stride) without the margin above.
void near_border(const Planes& planes, const Buffer<int32_t>& labels, std::vector<uint8_t>& band, int threads) {
  const int width = planes.width, height = planes.height, radius = planes.margin;
  const size_t stride = planes.stride;
  std::vector<uint8_t> row_wise(stride * height, 0);
  parallel_for(threads, height, kRows, [&](int64_t begin, int64_t end, int) {
    for (int row = static_cast<int>(begin); row < end; ++row) {
      uint8_t* line = &row_wise[row * stride];
      const int32_t* here = &labels[planes.at(row, 0)];
      const int32_t* above = here - (row > 0 ? stride : 0);
      const int32_t* below = here + (row + 1 < height ? stride : 0);
      for (int x = 0; x < width; ++x) {
        const bool right = x + 1 < width && here[x + 1] != here[x];
        if (!right && above[x] == here[x] && below[x] == here[x]) continue;
        std::fill(line + std::max(x - radius + 1, 0), line + std::min(x + radius + right, width), 1);
      }
    }
  });
  std::fill(band.begin(), band.end(), 0);
  parallel_for(threads, height, kRows, [&](int64_t begin, int64_t end, int) {
    for (int row = static_cast<int>(begin); row < end; ++row)
      for (int other = std::max(row - radius + 1, 0); other < std::min(row + radius, height); ++other)
        add_marks(&row_wise[other * stride], &band[row * stride], width);
  });
}

// Labels that compete for the pixels of a vector, and their votes.
struct Votes {
  static_assert(kCandidates >= kLanes, "there is room for the label that each pixel has");
  int count = 0;
  int32_t candidate[kCandidates];
  Lanes votes[kCandidates];

  void add(LaneMask labels, Lanes weight) {
    LaneMask counted = labels == kOutside;
    for (int k = 0; k < count; ++k) {
      const LaneMask for_it = labels == candidate[k];
      votes[k] += zero_unless(for_it, weight);
      counted |= for_it;
    }
    while (count < kCandidates && any(~counted)) {
      const int32_t label = labels[__builtin_ctz(lane_bits(~counted))];
      const LaneMask for_it = labels == label;
      candidate[count] = label;
      votes[count++] = zero_unless(for_it, weight);
      counted |= for_it;
    }
  }

  // Of equal votes those for the label that a pixel has win.
  LaneMask winners(LaneMask labels) const {
    Lanes most = broadcast(0.0f);
    for (int k = 0; k < count; ++k) most += zero_unless(labels == candidate[k], votes[k]);
    for (int k = 0; k < count; ++k) {
      const LaneMask more = votes[k] > most;
      most = max(most, votes[k]);
      labels = more ? LaneMask{} + candidate[k] : labels;
    }
    return labels;
  }
};

// log2 of the weight of another pixel, per squared difference.
struct Falloff {
  int radius;
  float distance, color, color_alone, depth;

  explicit Falloff(const LiftEdgeFilter& filter)
      : radius(filter.radius),
        distance(of(filter.distance)),
        color(of(filter.color)),
        color_alone(of(filter.color_alone)),
        depth(of(filter.depth)) {}

  static float of(float deviation) { return -0.5f * kLog2e / (deviation * deviation); }
};

// The labels of the pixels from `here` on.
LaneMask vote(const Planes& planes, const Falloff& by, const int32_t* labels, size_t here) {
  const Lanes red = load(&planes.red[here]), green = load(&planes.green[here]), blue = load(&planes.blue[here]);
  const Lanes depth = load(&planes.depth[here]), scale = 1.0f / depth;
  const LaneMask known_here = (depth > 0.0f) & (scale > 0.0f);
  const LaneMask own = (LaneMask)load(labels + here);
  Votes votes;
  votes.add(own, broadcast(0.0f));  // first, so that whatever is around it a pixel can keep its label
  for (int y = -by.radius; y <= by.radius; ++y)
    for (int x = -by.radius; x <= by.radius; ++x) {
      const size_t there = here + y * static_cast<ptrdiff_t>(planes.stride) + x;
      const Lanes r = load(&planes.red[there]) - red, g = load(&planes.green[there]) - green;
      const Lanes b = load(&planes.blue[there]) - blue, colors = r * r + g * g + b * b;
      const Lanes other = load(&planes.depth[there]), step = other * scale - 1.0f;
      const LaneMask known = known_here & (other > 0.0f);
      const Lanes alike = known ? by.color * colors + by.depth * step * step : by.color_alone * colors;
      const Lanes weight = exp2(max(alike + by.distance * (x * x + y * y), broadcast(-126.0f)));
      votes.add((LaneMask)load(labels + there), weight);
    }
  return votes.winners(own);
}

}  // namespace

void follow_edges(const LiftPicture& picture, const LiftEdgeFilter& filter, const int32_t* labels, int32_t* out,
                  int threads) {
  const int width = picture.width, height = picture.height;
  const Planes planes(picture, filter.radius, threads);
  const Falloff by(filter);
  Buffer<int32_t> before(planes.size()), after(planes.size());
  std::fill(after.begin(), after.end(), kOutside);
  for (int row = 0; row < height; ++row)
    std::copy_n(labels + static_cast<size_t>(row) * width, width, &after[planes.at(row, 0)]);
  std::vector<uint8_t> band(planes.stride * height);
  for (int pass = 0; pass < filter.passes; ++pass) {
    std::copy_n(after.data(), planes.size(), before.data());
    near_border(planes, before, band, threads);
    parallel_for(threads, height, kRows, [&](int64_t begin, int64_t end, int) {
      for (int row = static_cast<int>(begin); row < end; ++row) {
        const uint8_t* wanted = &band[row * planes.stride];
        for (int x = 0; x < width;) {
          if (!wanted[x]) {
            ++x;
            continue;
          }
          const LaneMask winners = vote(planes, by, before.data(), planes.at(row, x));
          for (int lane = 0; lane < kLanes && x < width; ++lane, ++x)
            if (wanted[x]) after[planes.at(row, x)] = winners[lane];
        }
      }
    });
  }
  for (int row = 0; row < height; ++row)
    std::copy_n(&after[planes.at(row, 0)], width, out + static_cast<size_t>(row) * width);
}

}  // namespace lift
