// What a step of the embedding methods spends its time on: blending, moving Gaussians, losses with their gradients.
#include "lift_steps.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "adam.h"
#include "memory.h"
#include "parallel.h"
#include "simd.h"

namespace {

using lift::broadcast;
using lift::guarded;
using lift::kLanes;
using lift::LaneMask;
using lift::Lanes;

constexpr int64_t kThreadWorth = 1 << 20;  // products; a thread for fewer costs more than it saves
constexpr float kLog2e = 1.442695041f, kLog2 = 0.6931471806f;

int64_t blocks(int64_t count) { return (count + kLanes - 1) / kLanes; }

float sum(Lanes x) {
  float total = 0;
  for (int l = 0; l < kLanes; ++l) total += x[l];
  return total;
}

float greatest(Lanes x) {
  float most = x[0];
  for (int l = 1; l < kLanes; ++l) most = std::max(most, x[l]);
  return most;
}

// e^x for x up to 88; what lies below -87 is as good as 0. NaN stays: of NaN and a number, max gives the second.
Lanes exp(Lanes x) { return lift::exp2(lift::max(broadcast(-126.0f), kLog2e * x)); }

int useful_threads(const LiftSparse* weights, int64_t d, int threads) {
  return static_cast<int>(std::min<int64_t>(threads, 1 + weights->crow[weights->rows] * d / kThreadWorth));
}

// A row of a product of sparse weights, columns [0, kWidth), summed in registers; row(n) is where its factor n begins.
template <int kWidth, class Row>
inline void product(const float* val, int64_t count, const Row& row, float* out) {
  float total[kWidth] = {};
  for (int64_t n = 0; n < count; ++n) {
    const float* factor = row(n);
    for (int c = 0; c < kWidth; ++c) total[c] += val[n] * factor[c];
  }
  std::copy_n(total, kWidth, out);
}

template <class Row>
inline void product(const float* val, int64_t count, int64_t d, const Row& row, float* out) {
  int64_t c = 0;
  const auto from = [&](int64_t n) { return row(n) + c; };
  for (; c + 16 <= d; c += 16) product<16>(val, count, from, out + c);
  for (; c + 8 <= d; c += 8) product<8>(val, count, from, out + c);
  for (; c + 4 <= d; c += 4) product<4>(val, count, from, out + c);
  for (; c < d; ++c) product<1>(val, count, from, out + c);
}

inline void add(float factor, const float* __restrict x, int64_t d, float* __restrict out) {
  for (int64_t c = 0; c < d; ++c) out[c] += factor * x[c];
}

inline float distance(const float* a, const float* b, int64_t d) {
  float squared = 0;
  for (int64_t c = 0; c < d; ++c) squared += (a[c] - b[c]) * (a[c] - b[c]);
  return std::sqrt(squared);
}

// -- distributions ----------------------------------------------------------------------------------------------------

// Numbers (count, N) column by column, padded to whole vectors with the last.
class Columns {
 public:
  Columns(const float* values, int64_t count, int64_t dimensions)
      : blocks_(blocks(count)), lanes_(blocks_ * dimensions) {
    for (int64_t d = 0; d < dimensions; ++d)
      for (int64_t k = 0; k < blocks_ * kLanes; ++k)
        lanes_[d * blocks_ + k / kLanes][k % kLanes] = values[std::min(k, count - 1) * dimensions + d];
  }

  Lanes& at(int64_t d, int64_t block) { return lanes_[d * blocks_ + block]; }
  const Lanes& at(int64_t d, int64_t block) const { return lanes_[d * blocks_ + block]; }

 private:
  int64_t blocks_;
  std::vector<Lanes> lanes_;
};

// Logarithm of the kernel of equation (1), of distribution `a` with those of a block.
inline Lanes log_kernel(const LiftNormals& a, int64_t row, const Columns& mean, const Columns& variance, int64_t block,
                        int64_t dimensions) {
  Lanes product = broadcast(1.0f), distance{}, logarithms{};
  for (int64_t d = 0; d < dimensions; ++d) {
    const Lanes v = broadcast(a.variance[row * dimensions + d]), w = variance.at(d, block);
    const Lanes apart = a.mean[row * dimensions + d] - mean.at(d, block);
    distance += apart * apart / (v + w);
    product *= (v * v + w * w) / (2.0f * v * w);
    if (d % 3 == 2 || d + 1 == dimensions) {  // of so many at a time the product stays in range
      logarithms += lift::log2(product);
      product = broadcast(1.0f);
    }
  }
  return -0.25f * distance - (0.5f * kLog2) * logarithms;
}

// Derivatives of that logarithm by mean and variance of a dimension of the first of two; by the mean of the second, it
// is minus that by the first.
template <class Number>
inline Number by_mean(Number apart, Number v, Number w) {
  return -0.5f * apart / (v + w);
}

template <class Number>
inline Number by_variance(Number apart, Number v, Number w) {
  const Number ratio = apart / (v + w);
  return 0.5f / v - v / (v * v + w * w) + 0.25f * ratio * ratio;
}

}  // namespace

int32_t lift_steps_interface() { return LIFT_STEPS_INTERFACE; }

int64_t lift_blend(const LiftSparse* weights, const int64_t* gaussian, int64_t d, const float* state, float* blended,
                   int threads) {
  return guarded([=] {
    const int64_t* crow = weights->crow;
    const int64_t last = crow[weights->rows] - 1;
    lift::parallel_for(useful_threads(weights, d, threads), weights->rows, 256, [=](int64_t begin, int64_t end, int) {
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int64_t first = crow[pixel], count = crow[pixel + 1] - first;
        for (int64_t n = 0; n < count; ++n) {
          const float* later = state + gaussian[weights->col[std::min(first + n + count, last)]] * d;
          for (int64_t c = 0; c < d; c += 16) __builtin_prefetch(later + c);
        }
        const auto row = [=](int64_t n) { return state + gaussian[weights->col[first + n]] * d; };
        product(weights->val + first, count, d, row, blended + pixel * d);
      }
    });
  });
}

int64_t lift_move(const LiftSparse* transposed, const int64_t* gaussian, int64_t d, const float* gradient,
                  const LiftAdam* step, float* value, float* first, float* second, int threads) {
  return guarded([=] {
    const int64_t count = transposed->rows, *crow = transposed->crow;
    const LiftAdam s = *step;
    lift::parallel_for(useful_threads(transposed, 4 * d, threads), count, 512, [=](int64_t begin, int64_t end, int) {
      std::vector<float> own(d);
      float* g = own.data();
      for (int64_t k = begin; k < end; ++k) {
        const int64_t* pixel = transposed->col + crow[k];
        product(transposed->val + crow[k], crow[k + 1] - crow[k], d, [=](int64_t n) { return gradient + pixel[n] * d; },
                g);
        lift::adam_row(s, k, count, d, gaussian, g, value, first, second);
      }
    });
  });
}

int64_t lift_joined(int64_t scene, int64_t count, const int64_t* gaussian, int64_t other_count, const int64_t* other,
                    int64_t* all, int64_t* place) {
  thread_local std::vector<int32_t> places;  // of each Gaussian, -1 for none; kept, and left as it was found
  int64_t total = count;
  const int64_t failed = guarded([&] {
    if (static_cast<int64_t>(places.size()) < scene) places.resize(scene, -1);
    for (int64_t k = 0; k < count; ++k) places[all[k] = gaussian[k]] = static_cast<int32_t>(k);
    for (int64_t k = 0; k < other_count; ++k) {
      int32_t& found = places[other[k]];
      if (found < 0) all[found = static_cast<int32_t>(total++)] = other[k];
      place[k] = found;
    }
    for (int64_t k = 0; k < total; ++k) places[all[k]] = -1;
  });
  return failed ? -1 : total;
}

int64_t lift_add_rows(int64_t count, int64_t d, const int64_t* index, const float* values, float* sums) {
  for (int64_t k = 0; k < count; ++k) add(1.0f, values + k * d, d, sums + index[k] * d);
  return 0;
}

int64_t lift_smoothness(int64_t count, int64_t k, int64_t d, const float* features, const int64_t* rows,
                        const uint8_t* near, float* value, float* gradient) {
  double total = 0;
  for (int64_t s = 0; s < count; ++s) {
    const int64_t* listed = rows + s * (k + 1);
    const float* own = features + listed[0] * d;
    float* own_gradient = gradient + listed[0] * d;
    for (int64_t n = 0; n < k; ++n) {
      if (!near[s * k + n]) continue;
      const float* other = features + listed[1 + n] * d;
      float* other_gradient = gradient + listed[1 + n] * d;
      float squared = 0;
#pragma GCC ivdep
      for (int64_t c = 0; c < d; ++c) {
        const float apart = own[c] - other[c];
        squared += apart * apart;
        own_gradient[c] += 2 * apart;
        other_gradient[c] -= 2 * apart;
      }
      total += squared;
    }
  }
  *value = static_cast<float>(total);
  return 0;
}

int64_t lift_clusters(int64_t pixels, int64_t d, int64_t clusters, const float* features, const int64_t* index,
                      const float* size, const float* weight, float scale, float least, float most, float* means,
                      float* temperatures) {
  std::fill_n(means, clusters * d, 0.0f);
  std::fill_n(temperatures, clusters, 0.0f);
  for (int64_t u = 0; u < pixels; ++u) add(1.0f, features + u * d, d, means + index[u] * d);
  for (int64_t j = 0; j < clusters; ++j)
    for (int64_t c = 0; c < d; ++c) means[j * d + c] /= size[j];
  for (int64_t u = 0; u < pixels; ++u) temperatures[index[u]] += distance(features + u * d, means + index[u] * d, d);
  for (int64_t j = 0; j < clusters; ++j)
    temperatures[j] = std::min(std::max(scale * (temperatures[j] / weight[j]), least), most);
  return 0;
}

int64_t lift_contrast(int64_t pixels, int64_t d, int64_t clusters, const float* features, const int64_t* index,
                      const float* size, const float* absent, const float* means, const float* temperatures,
                      const int16_t* depth, float decay, float* value, float* gradient) {
  return guarded([=] {
    const int64_t n = blocks(clusters), m = blocks(d);
    std::vector<Lanes> scaled(clusters * m);         // mean_l / phi_l, channels in lanes
    std::vector<Lanes> by_channel(d * n), there(n);  // the same, clusters in lanes; 1 where a cluster has pixels
    for (int64_t l = 0; l < clusters; ++l) {
      there[l / kLanes][l % kLanes] = absent[l] == 0;
      for (int64_t c = 0; c < d; ++c)
        scaled[l * m + c / kLanes][c % kLanes] = by_channel[l / kLanes * d + c][l % kLanes] =
            means[l * d + c] / temperatures[l];
    }
    const int levels = depth ? std::max<int>(*std::max_element(depth, depth + clusters * clusters), 1) : 1;
    std::vector<Lanes> similarity(n), share(n), by_scaled(clusters * m);
    std::vector<float> loss(clusters), outer(clusters);
    double total = 0;
    for (int64_t u = 0; u < pixels; ++u) {
      const float* feature = features + u * d;
      // the softmax over clusters, in `share`, and minus its logarithm
      Lanes most = broadcast(-INFINITY), exponentials{};
      for (int64_t b = 0; b < n; ++b) {
        Lanes product{};
        for (int64_t c = 0; c < d; ++c) product += feature[c] * by_channel[b * d + c];
        similarity[b] = product;
        most = lift::max(there[b] > 0.0f ? product : broadcast(-INFINITY), most);  // a number, beside NaN too
      }
      const float highest = greatest(most);
      for (int64_t b = 0; b < n; ++b) {
        share[b] = there[b] * exp(lift::min(similarity[b] - highest, Lanes{}));
        exponentials += share[b];
      }
      const float all = sum(exponentials), logarithm = std::log(all) + highest;
      for (int64_t b = 0; b < n; ++b) share[b] *= 1.0f / all;
      // the loss by the softmax's logarithms, minus: `outer`
      float outer_sum = 0;
      const int64_t own = index[u];
      std::fill(outer.begin(), outer.end(), 0.0f);
      if (!depth) {
        total += logarithm - similarity[own / kLanes][own % kLanes];
        outer[own] = outer_sum = 1.0f / pixels;
      } else {
        for (int64_t s = 0; s < clusters; ++s)
          loss[s] = absent[s] == 0 ? logarithm - similarity[s / kLanes][s % kLanes] : INFINITY;
        const int16_t* level_of = depth + own * clusters;
        float weight = 1.0f / (pixels * levels), bound = 0;
        int64_t bounding = -1;  // whose loss that is
        for (int level = 1; level <= levels; ++level, weight *= decay) {
          const int64_t here = std::count(level_of, level_of + clusters, level);
          float next = 0;
          int64_t next_bounding = -1;
          for (int64_t s = 0; s < clusters; ++s) {
            if (level_of[s] != level) continue;
            const int64_t counted = bounding >= 0 && bound > loss[s] ? bounding : s;
            total += static_cast<double>(weight) * pixels * std::max(loss[s], bound) / here;
            outer[counted] += weight / here;
            outer_sum += weight / here;
            if (loss[s] > next) next = loss[s], next_bounding = s;
          }
          bound = next, bounding = next_bounding;
        }
      }
      // the gradient by the feature itself, and by the means
      for (int64_t l = 0; l < clusters; ++l) outer[l] = outer_sum * share[l / kLanes][l % kLanes] - outer[l];
      for (int64_t b = 0; b < m; ++b) {
        const int64_t width = std::min<int64_t>(d - b * kLanes, kLanes);
        Lanes part{}, own_gradient{};
        std::memcpy(&part, feature + b * kLanes, width * sizeof(float));
        for (int64_t l = 0; l < clusters; ++l) {
          own_gradient += outer[l] * scaled[l * m + b];
          by_scaled[l * m + b] += outer[l] * part;
        }
        std::memcpy(gradient + u * d + b * kLanes, &own_gradient, width * sizeof(float));
      }
    }
    for (int64_t l = 0; l < clusters; ++l)
      for (int64_t b = 0; b < m; ++b) by_scaled[l * m + b] /= temperatures[l] * size[l];
    for (int64_t u = 0; u < pixels; ++u)
      add(1.0f, reinterpret_cast<const float*>(by_scaled.data() + index[u] * m), d, gradient + u * d);
    *value = static_cast<float>(total / pixels);
  });
}

int64_t lift_probabilistic_contrast(const LiftNormals* normals, int64_t dimensions, const int64_t* mask, float* value) {
  return guarded([=] {
    const LiftNormals& f = *normals;
    const int64_t p = f.count, n = blocks(p);
    const Columns mean(f.mean, p, dimensions), variance(f.variance, p, dimensions);
    std::vector<LaneMask> masks(n, LaneMask{} - 1);
    for (int64_t u = 0; u < p; ++u) masks[u / kLanes][u % kLanes] = static_cast<int32_t>(mask[u]);
    // similarities summed over all pixels and over those of the own mask, and their derivatives by the kernels
    std::vector<Lanes> slopes(p * n), all(n), own(n);
    double contrast = 0;
    for (int64_t u = 0; u < p; ++u) {
      const LaneMask mine = LaneMask{} + static_cast<int32_t>(mask[u]);
      Lanes everyone{}, same{};
      for (int64_t b = 0; b < n; ++b) {
        const Lanes kernel = exp(log_kernel(f, u, mean, variance, b, dimensions));
        const Lanes similarity = lift::zero_unless(masks[b] >= 0, exp(kernel));
        everyone += similarity;
        same += lift::zero_unless(masks[b] == mine, similarity);
        slopes[u * n + b] = similarity * kernel;
      }
      const float total = sum(everyone), of_mask = sum(same);
      contrast += std::log(total / of_mask);
      all[u / kLanes][u % kLanes] = 1 / (p * total);
      own[u / kLanes][u % kLanes] = 1 / (p * of_mask);
    }
    // each pair counts for both of its pixels, and is met at both
    for (int64_t u = 0; u < p; ++u) {
      const LaneMask mine = LaneMask{} + static_cast<int32_t>(mask[u]);
      const float all_u = all[u / kLanes][u % kLanes], own_u = own[u / kLanes][u % kLanes];
      for (int64_t b = 0; b < n; ++b)
        slopes[u * n + b] *= all_u + all[b] - lift::zero_unless(masks[b] == mine, own_u + own[b]);
      for (int64_t d = 0; d < dimensions; ++d) {
        const int64_t at = u * dimensions + d;
        const Lanes v = broadcast(f.variance[at]);
        Lanes by_means{}, by_variances{};
        for (int64_t b = 0; b < n; ++b) {
          const Lanes apart = f.mean[at] - mean.at(d, b), w = variance.at(d, b);
          by_means += slopes[u * n + b] * by_mean(apart, v, w);
          by_variances += slopes[u * n + b] * by_variance(apart, v, w);
        }
        f.mean_gradient[at] = sum(by_means);
        f.variance_gradient[at] = sum(by_variances);
      }
    }
    *value = static_cast<float>(contrast / p);
  });
}

int64_t lift_concentration(const LiftNormals* normals, int64_t dimensions, const int64_t* mask, int64_t mask_count,
                           float* value) {
  return guarded([=] {
    const LiftNormals& f = *normals;
    const int64_t p = f.count, size = p * dimensions;
    std::vector<float> sums(4 * mask_count * dimensions), count(mask_count);
    float *centers = sums.data(), *spreads = centers + mask_count * dimensions;
    float *by_center = spreads + mask_count * dimensions, *by_spread = by_center + mask_count * dimensions;
    for (int64_t u = 0; u < p; ++u) {
      ++count[mask[u]];
      add(1.0f, f.mean + u * dimensions, dimensions, centers + mask[u] * dimensions);
      add(1.0f, f.variance + u * dimensions, dimensions, spreads + mask[u] * dimensions);
    }
    for (int64_t j = 0; j < mask_count * dimensions; ++j) {
      centers[j] /= count[j / dimensions];
      spreads[j] /= count[j / dimensions];
    }
    double concentration = 0;
    for (int64_t at = 0; at < size; ++at) {
      const int64_t j = mask[at / dimensions] * dimensions + at % dimensions;
      const float v = f.variance[at], w = spreads[j], apart = f.mean[at] - centers[j];
      concentration += 0.25f * apart * apart / (v + w) + 0.5f * std::log((v * v + w * w) / (2 * v * w));
      const float slope = by_mean(apart, v, w) / p;
      f.mean_gradient[at] = -slope;
      by_center[j] += slope;
      f.variance_gradient[at] = -by_variance(apart, v, w) / p;
      by_spread[j] -= by_variance(apart, w, v) / p;
    }
    for (int64_t at = 0; at < size; ++at) {  // and through the averages
      const int64_t j = mask[at / dimensions], to = j * dimensions + at % dimensions;
      f.mean_gradient[at] += by_center[to] / count[j];
      f.variance_gradient[at] += by_spread[to] / count[j];
    }
    *value = static_cast<float>(concentration / p);
  });
}

int64_t lift_cross_view(const LiftNormals* first, const LiftNormals* second, int64_t dimensions, float least,
                        float* value) {
  return guarded([=] {
    const LiftNormals &f = *first, &s = *second;
    const int64_t p = f.count, q = s.count, n = blocks(q);
    const Columns mean(s.mean, q, dimensions), variance(s.variance, q, dimensions);
    std::vector<Lanes> by_means(n * dimensions), by_variances(n * dimensions);
    std::fill_n(f.mean_gradient, p * dimensions, 0.0f);
    std::fill_n(f.variance_gradient, p * dimensions, 0.0f);
    LaneMask lanes;
    for (int l = 0; l < kLanes; ++l) lanes[l] = l;
    int64_t pairs = 0;
    double total = 0;
    for (int64_t u = 0; u < p; ++u) {
      for (int64_t b = 0; b < n; ++b) {
        const Lanes similarity = log_kernel(f, u, mean, variance, b, dimensions);
        // NaN counts as alike: what is wrong must show, and not move anything
        const LaneMask alike = ~(similarity <= least) & (lanes < static_cast<int32_t>(q - b * kLanes));
        if (!lift::any(alike)) continue;
        pairs += __builtin_popcount(lift::lane_bits(alike) & lift::first_lanes(kLanes));
        total -= sum(lift::zero_unless(alike, similarity));
        for (int64_t d = 0; d < dimensions; ++d) {
          const int64_t at = u * dimensions + d;
          const Lanes apart = f.mean[at] - mean.at(d, b), v = broadcast(f.variance[at]), w = variance.at(d, b);
          const Lanes slope = lift::zero_unless(alike, by_mean(apart, v, w));
          f.mean_gradient[at] -= sum(slope);
          by_means[d * n + b] += slope;
          f.variance_gradient[at] -= sum(lift::zero_unless(alike, by_variance(apart, v, w)));
          by_variances[d * n + b] -= lift::zero_unless(alike, by_variance(apart, w, v));
        }
      }
    }
    const float share = 1.0f / std::max<int64_t>(pairs, 1);
    for (int64_t at = 0; at < p * dimensions; ++at) {
      f.mean_gradient[at] *= share;
      f.variance_gradient[at] *= share;
    }
    for (int64_t k = 0; k < q; ++k)
      for (int64_t d = 0; d < dimensions; ++d) {
        s.mean_gradient[k * dimensions + d] = share * by_means[d * n + k / kLanes][k % kLanes];
        s.variance_gradient[k * dimensions + d] = share * by_variances[d * n + k / kLanes][k % kLanes];
      }
    *value = static_cast<float>(total * share);
  });
}
