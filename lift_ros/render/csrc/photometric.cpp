// SSIM takes the time: eleven taps along both axes, of four images forward and of three backward. Colours stay
// interleaved, so that taps along a row are three numbers apart and whole vectors slide along it.
#include "photometric.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "memory.h"
#include "parallel.h"
#include "simd.h"

namespace {

using lift::Lanes;
using lift::load;
using lift::kLanes;

constexpr int kColors = 3;
constexpr int kTaps = 11, kMargin = kTaps - 1;
constexpr double kSigma = 1.5;
constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;  // Wang et al. 2004, for colours in [0, 1]
constexpr float kSeen = 0.5f;                              // alpha, from which the depth of a pixel counts
constexpr float kWorst = 0.5f;                             // relative error of a depth, above which it pulls no more
constexpr int64_t kRows = 16;                              // of the image per chunk of parallel work

struct Window {
  float tap[kTaps];

  Window() {
    double weight[kTaps], sum = 0.0;
    for (int k = 0; k < kTaps; ++k) {
      const double x = (k - kMargin / 2) / kSigma;
      sum += weight[k] = std::exp(-0.5 * x * x);
    }
    for (int k = 0; k < kTaps; ++k) tap[k] = static_cast<float>(weight[k] / sum);
  }
};
const Window kWindow;

void store(Lanes x, float* to) { std::memcpy(to, &x, sizeof x); }

int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

float sum(const float* from, int64_t n) {
  Lanes total{};
  for (int64_t i = 0; i < n; i += kLanes) total += load(from + i);
  float all = 0.0f;
  for (int l = 0; l < kLanes; ++l) all += total[l];
  return all;
}

// Images with rows of `stride` numbers, whole vectors.
struct Plane {
  float* data;
  int64_t stride;
  float* row(int64_t y) const { return data + y * stride; }
};

// Numbers of one row, zero at first.
struct Scratch {
  std::vector<float> data;
  explicit Scratch(int64_t size) : data(size, 0.0f) {}
  float* operator+(int64_t i) { return data.data() + i; }
  float& operator[](int64_t i) { return data[i]; }
};

struct Sizes {
  int64_t width, height;
  int64_t row = kColors * width;                // numbers in a row of the image
  int64_t inner = kColors * (width - kMargin);  // and in a row of scores, one for each window that lies inside
  int64_t inner_rows = height - kMargin;
  int64_t stride = padded(row);
  int64_t reach = kColors * kMargin;            // from the first to the last tap of a row
};

}  // namespace

void lift::view_losses(const LiftSupervision& view, const float* image, const float* alpha, const float* depth,
                       const LiftViewLosses& out, int threads) {
  const Sizes size{view.width, view.height};
  const int64_t pixels = size.width * size.height;
  const int64_t plane = size.height * size.stride;
  lift::Buffer<float> memory(5 * plane);  // in one piece: large enough for huge pages, and few page faults
  const auto image_at = [&](int k) { return Plane{memory.data() + k * plane, size.stride}; };
  const Plane exposed = image_at(0), wanted = image_at(1);
  const Plane by_mean = image_at(2), by_square = image_at(3), by_product = image_at(4);
  std::vector<double> l1(size.height), similar(size.inner_rows), off(size.height, 0.0);

  const float l1_weight = (1.0f - view.ssim_weight) / (kColors * pixels);
  const float ssim_weight = view.ssim_weight / (size.inner * size.inner_rows);
  const float depth_weight = view.depth_weight / pixels;

  lift::parallel_for(threads, size.height, kRows, [&](int64_t begin, int64_t end, int) {
    Scratch difference(size.stride);
    for (int64_t y = begin; y < end; ++y) {
      float *x = exposed.row(y), *t = wanted.row(y);
      const float *from = image + y * size.row, *truth = view.image + y * size.row, *a = alpha + y * size.width;
      for (int64_t p = 0; p < size.width; ++p)
        for (int c = 0; c < kColors; ++c) {
          const int64_t i = kColors * p + c;
          x[i] = from[i] * view.gain[c] + view.bias[c] * a[p];
          t[i] = truth[i];
          difference[i] = std::fabs(x[i] - t[i]);
        }
      std::fill(x + size.row, x + size.stride, 0.0f);
      std::fill(t + size.row, t + size.stride, 0.0f);
      l1[y] = sum(difference + 0, size.stride);
      if (view.depth == nullptr) continue;
      const float *d = depth + y * size.width, *true_depth = view.depth + y * size.width;
      float* gradient = out.depth_gradient + y * size.width;
      for (int64_t p = 0; p < size.width; ++p) {
        const bool known = true_depth[p] > 0.0f && a[p] > kSeen;
        const float unit = std::max(true_depth[p], 1e-6f), step = (d[p] - true_depth[p]) / unit;
        const bool far = std::fabs(step) > kWorst;
        off[y] += known ? (far ? kWorst : std::fabs(step)) : 0.0f;
        gradient[p] = known && !far ? depth_weight / unit * ((step > 0.0f) - (step < 0.0f)) : 0.0f;
      }
    }
  });

  lift::parallel_for(threads, size.inner_rows, kRows, [&](int64_t begin, int64_t end, int) {
    const int64_t room = size.stride + size.reach;  // for what the last taps reach
    Scratch mean_x(room), mean_t(room), squares(room), product(room), score(size.stride);
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t i = 0; i < size.row; i += kLanes) {
        Lanes sx{}, st{}, ss{}, sp{};
        for (int k = 0; k < kTaps; ++k) {
          const Lanes x = load(exposed.row(y + k) + i), t = load(wanted.row(y + k) + i);
          const Lanes wx = kWindow.tap[k] * x, wt = kWindow.tap[k] * t;
          sx += wx, st += wt, ss += wx * x + wt * t, sp += wx * t;
        }
        store(sx, mean_x + i), store(st, mean_t + i), store(ss, squares + i), store(sp, product + i);
      }
      for (int64_t i = 0; i < size.inner; i += kLanes) {
        Lanes mx{}, mt{}, ms{}, mp{};
        for (int k = 0; k < kTaps; ++k) {
          const int64_t at = i + kColors * k;
          mx += kWindow.tap[k] * load(mean_x + at), mt += kWindow.tap[k] * load(mean_t + at);
          ms += kWindow.tap[k] * load(squares + at), mp += kWindow.tap[k] * load(product + at);
        }
        const Lanes both = mx * mt, means = mx * mx + mt * mt;
        const Lanes a1 = 2.0f * both + kC1, b1 = means + kC1;
        const Lanes a2 = 2.0f * (mp - both) + kC2, b2 = ms - means + kC2;
        const Lanes r1 = lift::reciprocal(b1), r2 = lift::reciprocal(b2), s = a1 * a2 * r1 * r2;
        store(s, score + i);
        // partial derivatives by the means of x, x^2 and x t, which are linear in the image
        store(2.0f * (mt * (a2 - a1) * r1 * r2 + s * mx * (r2 - r1)), by_mean.row(y) + i);
        store(-s * r2, by_square.row(y) + i);
        store(2.0f * a1 * r1 * r2, by_product.row(y) + i);
      }
      for (float* row : {score + 0, by_mean.row(y), by_square.row(y), by_product.row(y)})
        std::fill(row + size.inner, row + padded(size.inner), 0.0f);
      similar[y] = sum(score + 0, padded(size.inner));
    }
  });

  lift::parallel_for(threads, size.height, kRows, [&](int64_t begin, int64_t end, int) {
    // between zeros: the transpose of filtering without borders is filtering with all of them
    const int64_t room = size.stride + size.reach;
    Scratch mean(room), square(room), product(room), gradient(size.stride);
    for (int64_t y = begin; y < end; ++y) {
      const int64_t first = std::max<int64_t>(y - kMargin, 0), last = std::min<int64_t>(y, size.inner_rows - 1);
      for (int64_t i = 0; i < size.inner; i += kLanes) {
        Lanes sm{}, ss{}, sp{};
        for (int64_t from = first; from <= last; ++from) {
          const float tap = kWindow.tap[y - from];
          sm += tap * load(by_mean.row(from) + i), ss += tap * load(by_square.row(from) + i);
          sp += tap * load(by_product.row(from) + i);
        }
        store(sm, mean + size.reach + i), store(ss, square + size.reach + i), store(sp, product + size.reach + i);
      }
      for (int64_t i = 0; i < size.row; i += kLanes) {
        Lanes sm{}, ss{}, sp{};
        for (int k = 0; k < kTaps; ++k) {
          const int64_t at = i + kColors * k;
          sm += kWindow.tap[k] * load(mean + at), ss += kWindow.tap[k] * load(square + at);
          sp += kWindow.tap[k] * load(product + at);
        }
        const Lanes x = load(exposed.row(y) + i), t = load(wanted.row(y) + i);
        const lift::LaneMask above = x > t, below = x < t;  // -1 where true
        const Lanes sign = __builtin_convertvector(below - above, Lanes);
        store(l1_weight * sign - ssim_weight * (sm + 2.0f * x * ss + t * sp), gradient + i);
      }
      float *by_image = out.image_gradient + y * size.row, *by_alpha = out.alpha_gradient + y * size.width;
      for (int64_t p = 0; p < size.width; ++p) {
        float total = 0.0f;
        for (int c = 0; c < kColors; ++c) {
          const int64_t i = kColors * p + c;
          by_image[i] = gradient[i] * view.gain[c];
          total += gradient[i] * view.bias[c];
        }
        by_alpha[p] = total;
      }
    }
  });

  const auto all = [](const std::vector<double>& rows) {
    double total = 0.0;
    for (const double row : rows) total += row;
    return total;
  };
  out.losses[0] = static_cast<float>(l1_weight * all(l1));
  out.losses[1] = static_cast<float>(view.ssim_weight * (1.0 - all(similar) / (size.inner * size.inner_rows)));
  out.losses[2] = static_cast<float>(depth_weight * all(off));
}
