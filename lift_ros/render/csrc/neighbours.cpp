// All nearest neighbours by a k-d tree (Friedman, Bentley and Finkel 1977) whose leaves lie together in memory. Points
// are asked for in the order of the leaves: what one has to visit, the one before has brought into the cache.
#include "neighbours.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "parallel.h"

namespace lift {
namespace {

constexpr int64_t kLeaf = 12;    // points of a leaf at most
constexpr int64_t kGrain = 512;  // points per chunk

struct Point {
  float at[3];
  int32_t number;
};

// A box of points is cut in halves of equal size across its longest edge, and so on, to the same depth everywhere:
// node i has the halves 2 i + 1 and 2 i + 2.
class Tree {
 public:
  Tree(int64_t count, const float* points, int threads) : points_(count) {
    for (int64_t i = 0; i < count; ++i) {
      points_[i] = {{points[3 * i], points[3 * i + 1], points[3 * i + 2]}, static_cast<int32_t>(i)};
    }
    while ((count >> levels_) > kLeaf) ++levels_;
    cuts_.resize((int64_t{1} << levels_) - 1);
    const int shared = std::min(levels_, kShared);  // levels, below which threads work apart
    build(0, 0, 0, count, shared);
    parallel_for(threads, int64_t{1} << shared, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        int64_t begin = 0, end = count;
        for (int level = shared - 1; level >= 0; --level) {
          ((i >> level) & 1 ? begin : end) = middle(begin, end);
        }
        build((int64_t{1} << shared) - 1 + i, shared, begin, end, levels_);
      }
    });
  }

  const Point& operator[](int64_t place) const { return points_[place]; }

  // The nearest of the others, sorted by their squared distance.
  class Search {
   public:
    Search(const Tree& tree, int32_t k) : tree_(tree), k_(k), squared(k), number(k) {}

    void around(const Point& point) {
      point_ = point;
      std::fill(squared.begin(), squared.end(), std::numeric_limits<float>::infinity());
      std::fill(number.begin(), number.end(), point.number);
      float away[3] = {};
      visit(0, 0, 0, static_cast<int64_t>(tree_.points_.size()), away, 0.0f);
    }

   private:
    // `away` from the box of the node along each axis, which makes `squared_away`.
    void visit(int64_t node, int level, int64_t begin, int64_t end, float* away, float squared_away) {
      if (level == tree_.levels_) return scan(begin, end);
      const Cut& cut = tree_.cuts_[node];
      const int64_t middle = Tree::middle(begin, end);
      const float beyond = point_.at[cut.axis] - cut.at;
      const auto half = [&](bool upper) {
        upper ? visit(2 * node + 2, level + 1, middle, end, away, squared_away)
              : visit(2 * node + 1, level + 1, begin, middle, away, squared_away);
      };
      half(beyond >= 0);
      const float before = away[cut.axis];
      squared_away += beyond * beyond - before * before;
      if (!(squared_away < squared[k_ - 1])) return;
      away[cut.axis] = beyond;
      half(!(beyond >= 0));
      away[cut.axis] = before;
    }

    void scan(int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Point& other = tree_.points_[i];
        const float x = other.at[0] - point_.at[0], y = other.at[1] - point_.at[1], z = other.at[2] - point_.at[2];
        const float found = x * x + y * y + z * z;
        if (!(found < squared[k_ - 1]) || other.number == point_.number) continue;
        int32_t slot = k_ - 1;
        for (; slot > 0 && squared[slot - 1] > found; --slot) {
          squared[slot] = squared[slot - 1];
          number[slot] = number[slot - 1];
        }
        squared[slot] = found;
        number[slot] = other.number;
      }
    }

    const Tree& tree_;
    const int32_t k_;
    Point point_{};

   public:
    std::vector<float> squared;
    std::vector<int32_t> number;
  };

 private:
  static constexpr int kShared = 4;

  struct Cut {
    float at;
    int32_t axis;
  };

  static int64_t middle(int64_t begin, int64_t end) { return begin + (end - begin) / 2; }

  void build(int64_t node, int level, int64_t begin, int64_t end, int last) {
    if (level == last) return;
    float low[3], high[3];
    for (int axis = 0; axis < 3; ++axis) low[axis] = high[axis] = points_[begin].at[axis];
    for (int64_t i = begin + 1; i < end; ++i) {
      for (int axis = 0; axis < 3; ++axis) {
        low[axis] = std::min(low[axis], points_[i].at[axis]);
        high[axis] = std::max(high[axis], points_[i].at[axis]);
      }
    }
    int longest = 0;
    for (int axis = 1; axis < 3; ++axis) {
      if (high[axis] - low[axis] > high[longest] - low[longest]) longest = axis;
    }
    const int64_t half = middle(begin, end);
    std::nth_element(points_.begin() + begin, points_.begin() + half, points_.begin() + end,
                     [longest](const Point& a, const Point& b) { return a.at[longest] < b.at[longest]; });
    cuts_[node] = {points_[half].at[longest], longest};
    build(2 * node + 1, level + 1, begin, half, last);
    build(2 * node + 2, level + 1, half, end, last);
  }

  std::vector<Point> points_;
  std::vector<Cut> cuts_;
  int levels_ = 0;
};

}  // namespace

void nearest(int64_t count, const float* points, int32_t k, int64_t* index, float* distance, int threads) {
  const Tree tree(count, points, threads);
  parallel_for(threads, count, kGrain, [&](int64_t begin, int64_t end, int) {
    Tree::Search search(tree, k);
    for (int64_t place = begin; place < end; ++place) {
      search.around(tree[place]);
      const int64_t row = int64_t{tree[place].number} * k;
      for (int32_t n = 0; n < k; ++n) {
        index[row + n] = search.number[n];
        distance[row + n] = std::sqrt(search.squared[n]);
      }
    }
  });
}

}  // namespace lift
