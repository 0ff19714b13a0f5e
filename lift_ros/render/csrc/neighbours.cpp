// All nearest neighbours by a k-d tree (Friedman, Bentley and Finkel 1977). The points of a leaf are asked for
// together: they go down the tree once, and have mostly the same leaves to visit.
#include "neighbours.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "memory.h"
#include "parallel.h"
#include "simd.h"

namespace lift {
namespace {

constexpr int kLeaf = std::max(8, kLanes);  // points of a leaf at most
constexpr int64_t kGrain = 64;              // leaves per chunk
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The points of a leaf, with others at infinity to fill it up, and the box around them.
struct alignas(64) Leaf {
  float at[3][kLeaf];
  int32_t number[kLeaf];
  float low[3], high[3];
  int32_t count;
};

// A box of points is cut in halves of equal size across its longest edge, and so on, to the same depth everywhere:
// node i has the halves 2 i + 1 and 2 i + 2.
class Tree {
 public:
  Tree(int64_t count, const float* points, int threads) {
    std::vector<Point> order(count);
    for (int64_t i = 0; i < count; ++i) {
      order[i] = {{points[3 * i], points[3 * i + 1], points[3 * i + 2]}, static_cast<int32_t>(i)};
    }
    while ((count + (int64_t{1} << levels_) - 1) >> levels_ > kLeaf) ++levels_;
    cuts_.resize((int64_t{1} << levels_) - 1);
    leaves_ = Buffer<Leaf>(int64_t{1} << levels_);
    const int shared = std::min(levels_, kShared);  // levels, below which threads work apart
    build(order.data(), 0, 0, 0, count, shared);
    parallel_for(threads, int64_t{1} << shared, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        int64_t begin = 0, end = count;
        for (int level = shared - 1; level >= 0; --level) {
          ((i >> level) & 1 ? begin : end) = middle(begin, end);
        }
        build(order.data(), (int64_t{1} << shared) - 1 + i, shared, begin, end, levels_);
      }
    });
  }

  int64_t leaf_count() const { return static_cast<int64_t>(leaves_.size()); }
  const Leaf& leaf(int64_t i) const { return leaves_[i]; }

  // Of each point of a leaf, the nearest of the others, sorted by their squared distance.
  class Search {
   public:
    Search(const Tree& tree, int32_t k) : tree_(tree), k_(k), squared_(kLeaf * k), number_(kLeaf * k) {}

    void around(const Leaf& leaf) {
      own_ = &leaf;
      std::fill(squared_.begin(), squared_.end(), kInfinity);
      farthest_ = kInfinity;
      const float away[3] = {};
      visit(0, 0, away, 0.0f);
    }

    const float* squared(int32_t point) const { return squared_.data() + point * k_; }
    const int32_t* number(int32_t point) const { return number_.data() + point * k_; }

   private:
    // `away` from the box of the node along each axis, which makes `squared_away`.
    void visit(int64_t node, int level, const float* away, float squared_away) {
      if (level == tree_.levels_) return scan(tree_.leaves_[node - tree_.leaf_count() + 1]);
      const Cut& cut = tree_.cuts_[node];
      const float low = own_->low[cut.axis], high = own_->high[cut.axis];
      const bool upper_first = low + high >= 2 * cut.at;
      for (const bool upper : {upper_first, !upper_first}) {
        const float gap = std::max(away[cut.axis], upper ? cut.at - high : low - cut.at);
        const float squared = squared_away + gap * gap - away[cut.axis] * away[cut.axis];
        if (!(squared < farthest_)) continue;
        float further[3] = {away[0], away[1], away[2]};
        further[cut.axis] = gap;
        visit(2 * node + 1 + upper, level + 1, further, squared);
      }
    }

    void scan(const Leaf& leaf) {
      float apart = 0;
      for (int axis = 0; axis < 3; ++axis) {
        const float gap = std::max({0.0f, leaf.low[axis] - own_->high[axis], own_->low[axis] - leaf.high[axis]});
        apart += gap * gap;
      }
      if (!(apart < farthest_)) return;
      farthest_ = 0;
      for (int32_t point = 0; point < own_->count; ++point) {
        float* squared = squared_.data() + point * k_;
        int32_t* number = number_.data() + point * k_;
        for (int first = 0; first < kLeaf; first += kLanes) {
          Lanes sum{};
          for (int axis = 0; axis < 3; ++axis) {
            const Lanes along = *reinterpret_cast<const Lanes*>(leaf.at[axis] + first) - own_->at[axis][point];
            sum += along * along;
          }
          for (uint32_t nearer = lane_bits(sum < squared[k_ - 1]); nearer; nearer &= nearer - 1) {
            const int lane = __builtin_ctz(nearer);
            if (&leaf == own_ && first + lane == point) continue;
            insert(sum[lane], leaf.number[first + lane], squared, number);
          }
        }
        farthest_ = std::max(farthest_, squared[k_ - 1]);
      }
    }

    void insert(float found, int32_t other, float* squared, int32_t* number) const {
      if (!(found < squared[k_ - 1])) return;
      int32_t slot = k_ - 1;
      for (; slot > 0 && squared[slot - 1] > found; --slot) {
        squared[slot] = squared[slot - 1];
        number[slot] = number[slot - 1];
      }
      squared[slot] = found;
      number[slot] = other;
    }

    const Tree& tree_;
    const int32_t k_;
    const Leaf* own_ = nullptr;
    float farthest_ = 0;           // the k-th nearest of any of its points, squared
    std::vector<float> squared_;   // (kLeaf, k)
    std::vector<int32_t> number_;  // (kLeaf, k)
  };

 private:
  static constexpr int kShared = 4;

  struct Point {
    float at[3];
    int32_t number;
  };

  struct Cut {
    float at;
    int32_t axis;
  };

  static int64_t middle(int64_t begin, int64_t end) { return begin + (end - begin) / 2; }

  static void bounds(const Point* points, int64_t count, float* low, float* high) {
    for (int axis = 0; axis < 3; ++axis) low[axis] = high[axis] = points[0].at[axis];
    for (int64_t i = 1; i < count; ++i) {
      for (int axis = 0; axis < 3; ++axis) {
        low[axis] = std::min(low[axis], points[i].at[axis]);
        high[axis] = std::max(high[axis], points[i].at[axis]);
      }
    }
  }

  // The levels from this one on until `last`; the leaves below the lowest.
  void build(Point* points, int64_t node, int level, int64_t begin, int64_t end, int last) {
    if (level == last) {
      if (last == levels_) fill(leaves_[node - leaf_count() + 1], points + begin, end - begin);
      return;
    }
    float low[3], high[3];
    bounds(points + begin, end - begin, low, high);
    int longest = 0;
    for (int axis = 1; axis < 3; ++axis) {
      if (high[axis] - low[axis] > high[longest] - low[longest]) longest = axis;
    }
    const int64_t half = middle(begin, end);
    std::nth_element(points + begin, points + half, points + end,
                     [longest](const Point& a, const Point& b) { return a.at[longest] < b.at[longest]; });
    cuts_[node] = {points[half].at[longest], longest};
    build(points, 2 * node + 1, level + 1, begin, half, last);
    build(points, 2 * node + 2, level + 1, half, end, last);
  }

  static void fill(Leaf& leaf, const Point* points, int64_t count) {
    bounds(points, count, leaf.low, leaf.high);
    leaf.count = static_cast<int32_t>(count);
    for (int64_t i = 0; i < kLeaf; ++i) {
      for (int axis = 0; axis < 3; ++axis) leaf.at[axis][i] = i < count ? points[i].at[axis] : kInfinity;
      leaf.number[i] = i < count ? points[i].number : -1;
    }
  }

  std::vector<Cut> cuts_;
  Buffer<Leaf> leaves_;
  int levels_ = 0;
};

}  // namespace

void nearest(int64_t count, const float* points, int32_t k, int64_t* index, float* distance, int threads) {
  const Tree tree(count, points, threads);
  parallel_for(threads, tree.leaf_count(), kGrain, [&](int64_t begin, int64_t end, int) {
    Tree::Search search(tree, k);
    for (int64_t i = begin; i < end; ++i) {
      const Leaf& leaf = tree.leaf(i);
      search.around(leaf);
      for (int32_t point = 0; point < leaf.count; ++point) {
        const int64_t row = int64_t{leaf.number[point]} * k;
        for (int32_t n = 0; n < k; ++n) {
          index[row + n] = search.number(point)[n];
          distance[row + n] = std::sqrt(search.squared(point)[n]);
        }
      }
    }
  });
}

}  // namespace lift
