#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "lift_evidence.h"
#include "memory.h"
#include "parallel.h"

namespace {

using lift::guarded;

// Views are divided among this many, each with sums of its own that are added up at the end: as many with every number
// of threads, so that rounding is the same.
constexpr int64_t kShares = 2;

int64_t entry_count(const LiftMasks& view) { return view.begin[view.mask_count]; }
int64_t entry_count(const LiftClear& view) { return view.count; }

// Calls body(begin, end, share) with each share of the views, of about as many entries.
template <class View, class Body>
void share_out(const View* views, int64_t view_count, int threads, const Body& body) {
  int64_t total = 0, before = 0;
  for (int64_t v = 0; v < view_count; ++v) total += entry_count(views[v]);
  std::array<int64_t, kShares + 1> begin{};
  begin[kShares] = view_count;
  for (int64_t v = 0; v < view_count; ++v) {
    before += entry_count(views[v]);
    for (int64_t share = 1; share < kShares; ++share) begin[share] += before * kShares <= total * share;
  }
  lift::parallel_for(threads, kShares, 1, [&](int64_t share, int64_t, int) {
    body(begin[share], begin[share + 1], share);
  });
}

// Sums of each share of the views: those of the first are the result, in which the others end.
template <class Number>
class Sums {
 public:
  Sums(Number* result, int64_t size) : result_(result), others_((kShares - 1) * size, Number{0}), size_(size) {}

  Number* of(int64_t share) { return share == 0 ? result_ : others_.data() + (share - 1) * size_; }

  void add_up() {
    for (int64_t share = 1; share < kShares; ++share) {
      const Number* other = of(share);
      for (int64_t i = 0; i < size_; ++i) result_[i] += other[i];
    }
  }

 private:
  Number* result_;
  std::vector<Number> others_;
  int64_t size_;
};

// Pixels of each part that each mask of a view shows, without the zeros: row m is [begin[m], begin[m + 1]).
class Table {
 public:
  explicit Table(const LiftParts& parts)
      : parts_(parts),
        sums_(parts.count),
        in_row_(parts.count),
        is_in_row_(parts.count, false),
        visible(parts.count, 0.0) {}

  void fill(const LiftMasks& view) {
    for (int32_t part : shown) visible[part] = 0;
    shown.clear();
    begin.assign(view.mask_count + 1, 0);
    part.clear();
    pixels.clear();
    for (int64_t m = 0; m < view.mask_count; ++m) {
      const int32_t count = add(view, m);
      for (int32_t i = 0; i < count; ++i) {
        const int32_t k = in_row_[i];
        part.push_back(k);
        pixels.push_back((sums_[k].of[0] + sums_[k].of[1]) + (sums_[k].of[2] + sums_[k].of[3]));
        if (visible[k] == 0) shown.push_back(k);
        visible[k] += pixels.back();
        sums_[k] = {};
        is_in_row_[k] = false;
      }
      begin[m + 1] = static_cast<int64_t>(part.size());
    }
  }

 private:
  // Entries that follow each other are mostly of one part, and each sum has to wait for the one before: so there are
  // several, which take turns.
  static constexpr int kSums = 4;
  struct Turns {
    double of[kSums] = {};
  };

  // Sums up a mask; returns how many parts it shows. Apart, and with copies of the pointers: the compiler has registers
  // for all of it then, and does not load them anew after every store.
  __attribute__((noinline)) int32_t add(const LiftMasks& view, int64_t m) {
    const int32_t *gaussian = view.gaussian, *number = parts_.number;
    const float* weight = view.weight;
    Turns* sums = sums_.data();
    int32_t* in_row = in_row_.data();
    uint8_t* is_in_row = is_in_row_.data();
    int32_t count = 0;
    for (uint64_t e = view.begin[m], end = view.begin[m + 1]; e < end; ++e) {
      const int32_t k = number[gaussian[e]];
      const float pixel = weight[e];
      if (k < 0 || !(pixel > 0)) continue;
      if (!is_in_row[k]) {
        is_in_row[k] = true;
        in_row[count++] = k;
      }
      sums[k].of[e % kSums] += pixel;
    }
    return count;
  }

  const LiftParts& parts_;
  std::vector<Turns> sums_;           // of the mask at hand
  std::vector<int32_t> in_row_;       // parts that it shows
  std::vector<uint8_t> is_in_row_;

 public:
  std::vector<int64_t> begin;
  std::vector<int32_t> part;    // in the order in which a row shows them
  std::vector<double> pixels;
  std::vector<double> visible;  // (K,) pixels of each part in the whole view
  std::vector<int32_t> shown;   // parts of which that is more than 0
};

struct Vote {
  int32_t gaussian, label;
  float weight;
};

// Votes for the labels of the Gaussians. Most are for the label that a Gaussian has. Few others are ever voted for:
// those have a place, the rest is in a list.
class Ballots {
 public:
  static constexpr int kSlots = 4;

  struct Own {
    float shown = 0, votes = 0;
  };

  struct alignas(32) Others {  // never across two cache lines
    int32_t label[kSlots] = {-1, -1, -1, -1};
    float weight[kSlots] = {};
  };

  explicit Ballots(int64_t count) : own_(count), others_(count) {}

  // What a mask shows, and its votes for a label, or none if that is below 0.
  void add(const LiftMasks& view, int64_t m, int32_t choice, const int32_t* label) {
    const int32_t* gaussian = view.gaussian;
    const float* weight = view.weight;
    Own* own = own_.data();
    Others* others = others_.data();
    for (int64_t e = view.begin[m], end = view.begin[m + 1]; e < end; ++e) {
      const int32_t i = gaussian[e];
      own[i].shown += weight[e];
      if (choice < 0) continue;
      if (choice == label[i]) {
        own[i].votes += weight[e];
      } else {
        add(others[i], i, choice, weight[e]);
      }
    }
  }

  // To be called once all votes are in: the list in the order of the Gaussians.
  void close() {
    std::stable_sort(more_.begin(), more_.end(),
                     [](const Vote& a, const Vote& b) { return a.gaussian < b.gaussian; });
  }

  const Own& own(int64_t gaussian) const { return own_[gaussian]; }
  const Others& others(int64_t gaussian) const { return others_[gaussian]; }

  // What of the list is for the Gaussians from this one on.
  const Vote* more(int64_t gaussian) const {
    return std::lower_bound(more_.data(), end(), gaussian,
                            [](const Vote& vote, int64_t i) { return vote.gaussian < i; });
  }
  const Vote* end() const { return more_.data() + more_.size(); }

 private:
  void add(Others& others, int32_t gaussian, int32_t label, float weight) {
    int slot = 0;
    while (slot < kSlots && others.label[slot] != label && others.label[slot] >= 0) ++slot;
    if (slot == kSlots) {
      more_.push_back({gaussian, label, weight});
    } else {
      others.label[slot] = label;
      others.weight[slot] += weight;
    }
  }

  std::vector<Own> own_;
  std::vector<Others> others_;
  std::vector<Vote> more_;
};

// The label with most votes, the smallest of equals, -1 where there are none; its votes, all votes, what was shown.
void elect(const std::vector<Ballots>& ballots, const int32_t* label, int64_t begin, int64_t end, int64_t* winner,
           float* most, float* votes, float* shown) {
  std::vector<Vote> sums;  // of one Gaussian, a label each
  const auto count = [&](int32_t voted, float weight) {
    const auto known = std::find_if(sums.begin(), sums.end(), [&](const Vote& sum) { return sum.label == voted; });
    if (known == sums.end()) {
      sums.push_back({0, voted, weight});
    } else {
      known->weight += weight;
    }
  };
  std::vector<const Vote*> next;
  for (const Ballots& share : ballots) next.push_back(share.more(begin));
  for (int64_t i = begin; i < end; ++i) {
    sums.clear();
    shown[i] = 0;
    for (const Ballots& share : ballots) {
      const Ballots::Own& own = share.own(i);
      const Ballots::Others& others = share.others(i);
      shown[i] += own.shown;
      if (own.votes > 0) count(label[i], own.votes);
      for (int slot = 0; slot < Ballots::kSlots && others.label[slot] >= 0; ++slot) {
        count(others.label[slot], others.weight[slot]);
      }
    }
    for (size_t share = 0; share < ballots.size(); ++share) {
      for (const Vote*& vote = next[share]; vote != ballots[share].end() && vote->gaussian == i; ++vote) {
        count(vote->label, vote->weight);
      }
    }
    winner[i] = -1;
    most[i] = votes[i] = 0;
    for (const Vote& sum : sums) {
      votes[i] += sum.weight;
      if (sum.weight > most[i] || (sum.weight == most[i] && sum.label < winner[i])) {
        most[i] = sum.weight;
        winner[i] = sum.label;
      }
    }
  }
}

// A few of many numbers, gone through in ascending order.
class Chosen {
 public:
  explicit Chosen(int64_t size) : words_((size + 63) / 64, 0) {}

  void add(int64_t i) { words_[i / 64] |= uint64_t{1} << (i % 64); }
  void clear() { std::fill(words_.begin(), words_.end(), 0); }

  template <class Visit>
  void for_each(const Visit& visit) const {
    for (size_t word = 0; word < words_.size(); ++word)
      for (uint64_t left = words_[word]; left; left &= left - 1)
        visit(static_cast<int64_t>(word) * 64 + __builtin_ctzll(left));
  }

 private:
  std::vector<uint64_t> words_;
};

// Copies what is above the diagonal of a square matrix below it, tile by tile.
void mirror(double* matrix, int64_t count, int threads) {
  constexpr int64_t kTile = 32;
  lift::parallel_for(threads, count, kTile, [&](int64_t row, int64_t last, int) {
    for (int64_t column = 0; column <= row; column += kTile) {
      for (int64_t a = row; a < last; ++a) {
        for (int64_t b = column; b < std::min(column + kTile, a); ++b) matrix[a * count + b] = matrix[b * count + a];
      }
    }
  });
}

// Adds the lesser of one number and each of several to sums.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
__attribute__((target_clones("avx2", "default")))
#endif
void add_minima(float one, const float* others, int64_t count, float* sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] += std::min(one, others[i]);
}

// Numbers the connected components of the neighbours n of i for which edge(i, n), from 0 in the order of their first
// member; returns how many there are.
template <class Edge>
int64_t connect(int64_t gaussian_count, int64_t k, const int32_t* neighbour, const Edge& edge, int64_t* part) {
  std::vector<int32_t> parent(gaussian_count);  // a root is the first member of its component
  for (int64_t i = 0; i < gaussian_count; ++i) parent[i] = static_cast<int32_t>(i);
  const auto root = [&](int32_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  for (int64_t i = 0; i < gaussian_count; ++i) {
    int32_t own = root(static_cast<int32_t>(i));
    for (int64_t n = i * k; n < (i + 1) * k; ++n) {
      if (neighbour[n] < 0 || parent[neighbour[n]] == own || !edge(i, n)) continue;
      const int32_t other = root(neighbour[n]);
      parent[std::max(own, other)] = std::min(own, other);
      own = std::min(own, other);
    }
  }
  int64_t count = 0;
  for (int64_t i = 0; i < gaussian_count; ++i) {
    const int32_t first = root(static_cast<int32_t>(i));
    part[i] = first == i ? count++ : part[first];
  }
  return count;
}

}  // namespace

int32_t lift_evidence_interface() { return LIFT_EVIDENCE_INTERFACE; }

int64_t lift_clear(const LiftMasks* view, int64_t gaussian_count, float min_pixels, float clear_pixels,
                   int32_t* gaussian, int16_t* mask, int16_t* say) {
  int64_t found = 0;
  const int64_t failed = guarded([&] {
    struct InView {
      float all = 0;
      float most = 0;
      int32_t strongest = -1;  // mask that shows most, the first of equals
    };
    std::vector<InView> pixels(gaussian_count);
    Chosen in_view(gaussian_count);
    for (int64_t m = 0; m < view->mask_count; ++m) {
      for (int64_t e = view->begin[m]; e < view->begin[m + 1]; ++e) {
        const float weight = view->weight[e];
        InView& own = pixels[view->gaussian[e]];
        in_view.add(view->gaussian[e]);
        own.all += weight;
        if (weight > own.most) own = {own.all, weight, static_cast<int32_t>(m)};
      }
    }
    in_view.for_each([&](int64_t i) {
      const InView& own = pixels[i];
      if (!(own.all > min_pixels)) return;
      gaussian[found] = static_cast<int32_t>(i);
      mask[found] = static_cast<int16_t>(own.strongest);
      say[found++] = static_cast<int16_t>(std::min(own.all / clear_pixels, 1.0f) * LIFT_FULL_SAY + 0.5f);
    });
  });
  return failed ? -1 : found;
}

int64_t lift_neighbour_agreement(int64_t view_count, const LiftClear* views, int64_t gaussian_count, int64_t k,
                                 const int32_t* neighbour, float* agreed, float* seen, int threads) {
  return guarded([&] {
    constexpr int64_t kLanes = 8;  // views at a time: what is known of a Gaussian in all of them lies together
    using Lanes = int16_t __attribute__((vector_size(2 * kLanes)));
    using Words = uint64_t __attribute__((vector_size(2 * kLanes)));
    static_assert(kLanes * LIFT_FULL_SAY <= INT16_MAX, "they are added up in 16 bits");
    const auto total = [](Lanes lanes) {
      const Words words = reinterpret_cast<Words>(lanes);
      return static_cast<int32_t>(((words[0] + words[1]) * 0x0001000100010001u) >> 48);
    };
    struct Shown {
      Lanes say{};
      Lanes mask{};
    };
    struct Edge {
      int32_t agreed = 0, seen = 0;
    };
    std::vector<std::vector<Edge>> edges(kShares);
    share_out(views, view_count, threads, [&](int64_t begin, int64_t end, int64_t share) {
      edges[share].resize(gaussian_count * k);
      Edge* own_edges = edges[share].data();
      std::vector<Shown> shown(gaussian_count + 1);
      Chosen chosen(gaussian_count);
      for (int64_t first = begin; first < end; first += kLanes) {
        for (int64_t v = first; v < std::min(first + kLanes, end); ++v) {
          const LiftClear& view = views[v];
          for (int64_t e = 0; e < view.count; ++e) {
            Shown& own = shown[view.gaussian[e]];
            own.say[v - first] = view.say[e];
            own.mask[v - first] = view.mask[e];
            chosen.add(view.gaussian[e]);
          }
        }
        // In the order of the Gaussians: neighbours were mostly planted together, and lie together in memory.
        chosen.for_each([&](int64_t i) {
          const Shown own = shown[i];
          for (int64_t n = i * k; n < (i + 1) * k; ++n) {
            const Shown& other = shown[neighbour[n] < 0 ? gaussian_count : neighbour[n]];  // the last: no view shows it
            const Lanes both = own.say < other.say ? own.say : other.say;
            own_edges[n].seen += total(both);
            own_edges[n].agreed += total(own.mask == other.mask ? both : Lanes{});
          }
        });
        chosen.for_each([&](int64_t i) { shown[i] = {}; });
        chosen.clear();
      }
    });
    lift::parallel_for(threads, gaussian_count * k, 1 << 15, [&](int64_t begin, int64_t end, int) {
      for (int64_t n = begin; n < end; ++n) {
        for (const std::vector<Edge>& own : edges) {
          agreed[n] += own[n].agreed / static_cast<float>(LIFT_FULL_SAY);
          seen[n] += own[n].seen / static_cast<float>(LIFT_FULL_SAY);
        }
      }
    });
  });
}

int64_t lift_part_agreement(const LiftViews* all, const LiftParts* parts, double min_visible, double full_say,
                            double* agreed, double* seen, int threads) {
  return guarded([&] {
    struct Member {
      int32_t part;
      double say, share;  // of the part in the view; of the part that the mask holds, squared, of all masks
    };
    const int64_t count = parts->count;
    std::vector<float> say(all->count * count, 0.0f);
    std::vector<std::vector<Member>> members(all->count);  // mask by mask, in ascending order within
    std::vector<std::vector<int64_t>> mask_end(all->count);
    share_out(all->views, all->count, threads, [&](int64_t begin, int64_t end, int64_t) {
      Table table(*parts);
      std::vector<double> squares(count, 0.0);
      for (int64_t v = begin; v < end; ++v) {
        table.fill(all->views[v]);
        float* own_say = say.data() + v * count;
        for (int32_t a : table.shown) {
          squares[a] = 0;
          if (!(table.visible[a] > min_visible)) continue;
          own_say[a] = static_cast<float>(std::min(table.visible[a], full_say) / full_say);
        }
        for (size_t e = 0; e < table.part.size(); ++e) squares[table.part[e]] += table.pixels[e] * table.pixels[e];
        for (size_t m = 0; m + 1 < table.begin.size(); ++m) {
          const size_t first = members[v].size();
          for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) {
            const int32_t a = table.part[e];
            const double share = table.pixels[e] * table.pixels[e] / squares[a];
            if (own_say[a] > 0) members[v].push_back({a, own_say[a], share});
          }
          std::sort(members[v].begin() + first, members[v].end(),
                    [](const Member& one, const Member& other) { return one.part < other.part; });
          mask_end[v].push_back(static_cast<int64_t>(members[v].size()));
        }
      }
    });
    // Row by row of the result, which stays in the cache: where each part is to be found.
    std::vector<std::vector<std::pair<const Member*, const Member*>>> places(count);
    for (int64_t v = 0; v < all->count; ++v) {
      const Member* member = members[v].data();
      for (int64_t end : mask_end[v]) {
        const Member* last = members[v].data() + end;
        for (; member < last; ++member) places[member->part].push_back({member, last});
      }
    }
    lift::parallel_for(threads, count, 16, [&](int64_t begin, int64_t end, int) {
      std::vector<float> both(count);
      for (int64_t a = begin; a < end; ++a) {
        double *own_agreed = agreed + a * count, *own_seen = seen + a * count;
        for (const auto& [own, last] : places[a]) {
          for (const Member* other = own; other < last; ++other) {
            own_agreed[other->part] += std::min(own->say, other->say) * own->share * other->share;
          }
        }
        std::fill(both.begin() + a, both.end(), 0.0f);
        for (int64_t v = 0; v < all->count; ++v) {
          const float* others = say.data() + v * count;
          const float own = others[a];
          if (own > 0) add_minima(own, others + a, count - a, both.data() + a);
        }
        for (int64_t b = a; b < count; ++b) own_seen[b] += both[b];
      }
    });
    mirror(agreed, count, threads);
    mirror(seen, count, threads);
  });
}

int64_t lift_held(const LiftViews* all, const LiftParts* parts, double* held, double* total, int threads) {
  return guarded([&] {
    struct Sum {
      float held = 0, total = 0;
    };
    std::vector<Sum> sums(kShares * all->gaussian_count);
    share_out(all->views, all->count, threads, [&](int64_t begin, int64_t end, int64_t share_number) {
      Sum* own = sums.data() + share_number * all->gaussian_count;
      Table table(*parts);
      std::vector<float> share(parts->count, 0.0f);  // of each part, that the mask at hand shows
      for (int64_t v = begin; v < end; ++v) {
        const LiftMasks& view = all->views[v];
        table.fill(view);
        for (int64_t m = 0; m < view.mask_count; ++m) {
          for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) {
            const int32_t k = table.part[e];
            share[k] = static_cast<float>(table.pixels[e] / table.visible[k]);
          }
          const int32_t *gaussian = view.gaussian, *number = parts->number;
          const float *weight = view.weight, *part_share = share.data();
          for (int64_t e = view.begin[m], last = view.begin[m + 1]; e < last; ++e) {
            const int32_t i = gaussian[e], k = number[i];
            own[i].total += weight[e];
            if (k >= 0) own[i].held += weight[e] * part_share[k];
          }
          for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) share[table.part[e]] = 0;
        }
      }
    });
    const Sum* own = sums.data();
    for (int64_t share = 0; share < kShares; ++share) {
      for (int64_t i = 0; i < all->gaussian_count; ++i, ++own) held[i] += own->held, total[i] += own->total;
    }
  });
}

int64_t lift_purity(const LiftViews* all, const LiftParts* parts, double min_visible, double full_say, double* purity,
                    double* say, double* most_divided, int64_t* divided_by, int threads) {
  return guarded([&] {
    const int64_t count = parts->count;
    struct Divided {
      double most = 0;
      int64_t by = -1;
    };
    Sums<double> all_purity(purity, count), all_say(say, count);
    std::vector<Divided> divided(kShares * count);
    share_out(all->views, all->count, threads, [&](int64_t begin, int64_t end, int64_t share_number) {
      double *own_purity = all_purity.of(share_number), *own_say = all_say.of(share_number);
      Divided* own_divided = divided.data() + share_number * count;
      Table table(*parts);
      std::vector<double> pure(count, 0.0);
      for (int64_t v = begin; v < end; ++v) {
        table.fill(all->views[v]);
        for (int32_t a : table.shown) pure[a] = 0;
        for (size_t e = 0; e < table.part.size(); ++e) {
          const double share = table.pixels[e] / table.visible[table.part[e]];
          pure[table.part[e]] += share * share;
        }
        for (int32_t a : table.shown) {
          if (!(table.visible[a] > min_visible)) continue;
          const double weight = std::min(table.visible[a], full_say) / full_say;
          own_purity[a] += weight * pure[a];
          own_say[a] += weight;
          const double most = table.visible[a] * (1 - pure[a]);
          if (most > own_divided[a].most) own_divided[a] = {most, v};
        }
      }
    });
    all_purity.add_up();
    all_say.add_up();
    for (size_t i = 0; i < divided.size(); ++i) {
      const int64_t a = static_cast<int64_t>(i) % count;
      if (divided[i].most > most_divided[a]) {
        most_divided[a] = divided[i].most;
        divided_by[a] = divided[i].by;
      }
    }
  });
}

int64_t lift_strongest_masks(const LiftViews* all, const LiftParts* parts, const int64_t* view_of, int32_t* strongest,
                             int threads) {
  return guarded([&] {
    std::vector<float> most(all->gaussian_count, 0.0f);
    std::fill_n(strongest, all->gaussian_count, -1);
    // No two views write of one Gaussian: each is of one part, which one view is named for.
    lift::parallel_for(threads, all->count, 1, [&](int64_t v, int64_t, int) {
      if (std::find(view_of, view_of + parts->count, v) == view_of + parts->count) return;
      const LiftMasks& view = all->views[v];
      for (int64_t m = 0; m < view.mask_count; ++m) {
        for (int64_t e = view.begin[m]; e < view.begin[m + 1]; ++e) {
          const int32_t i = view.gaussian[e], k = parts->number[i];
          if (k < 0 || view_of[k] != v || !(view.weight[e] > most[i])) continue;
          most[i] = view.weight[e];
          strongest[i] = static_cast<int32_t>(m);
        }
      }
    });
  });
}

int64_t lift_masked(const LiftViews* all, float* masked, int threads) {
  return guarded([&] {
    Sums<float> all_masked(masked, all->gaussian_count);
    share_out(all->views, all->count, threads, [&](int64_t begin, int64_t end, int64_t share) {
      float* own = all_masked.of(share);
      for (int64_t v = begin; v < end; ++v) {
        const LiftMasks& view = all->views[v];
        for (int64_t e = 0; e < entry_count(view); ++e) own[view.gaussian[e]] += view.weight[e];
      }
    });
    all_masked.add_up();
  });
}

int64_t lift_votes(const LiftViews* all, const LiftParts* parts, double purity, int64_t* winner, float* most,
                   float* votes, float* shown, int threads) {
  return guarded([&] {
    const int64_t count = all->gaussian_count;
    std::vector<Ballots> ballots(kShares, Ballots(count));
    share_out(all->views, all->count, threads, [&](int64_t begin, int64_t end, int64_t share) {
      Table table(*parts);
      for (int64_t v = begin; v < end; ++v) {
        const LiftMasks& view = all->views[v];
        table.fill(view);
        for (int64_t m = 0; m < view.mask_count; ++m) {
          double total = 0, best = 0;
          int32_t label = -1;
          for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) {
            total += table.pixels[e];
            if (table.pixels[e] > best || (table.pixels[e] == best && table.part[e] < label)) {
              best = table.pixels[e];
              label = table.part[e];
            }
          }
          const int32_t choice = best > purity * total ? label : -1;  // none where it is too mixed to vote
          ballots[share].add(view, m, choice, parts->number);
        }
      }
      ballots[share].close();
    });
    lift::parallel_for(threads, count, 4096, [&](int64_t begin, int64_t end, int) {
      elect(ballots, parts->number, begin, end, winner, most, votes, shown);
    });
  });
}

int64_t lift_visibility(const LiftViews* all, const LiftParts* parts, double min_visible, uint8_t* seen, double* agreed,
                        double* visible, int threads) {
  return guarded([&] {
    const int64_t count = parts->count;
    Sums<double> all_agreed(agreed, count), all_visible(visible, count);
    share_out(all->views, all->count, threads, [&](int64_t begin, int64_t end, int64_t share_number) {
      double *own_agreed = all_agreed.of(share_number), *own_visible = all_visible.of(share_number);
      Table table(*parts);
      std::vector<double> best(count, 0.0);
      for (int64_t v = begin; v < end; ++v) {
        const LiftMasks& view = all->views[v];
        table.fill(view);
        for (int32_t a : table.shown) best[a] = 0;
        for (int64_t m = 0; m < view.mask_count; ++m) {
          for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) {
            const int32_t a = table.part[e];
            const double iou = table.pixels[e] / std::max(table.visible[a] + view.area[m] - table.pixels[e], 1e-6);
            best[a] = std::max(best[a], iou);
          }
        }
        for (int32_t a : table.shown) {
          seen[v * count + a] = table.visible[a] > min_visible;
          own_agreed[a] += table.visible[a] * best[a];
          own_visible[a] += table.visible[a];
        }
      }
    });
    all_agreed.add_up();
    all_visible.add_up();
  });
}

int64_t lift_components(int64_t gaussian_count, int64_t k, const int32_t* neighbour, const float* agreed,
                        const float* seen, float rate, const uint8_t* chosen, int64_t* part) {
  return guarded([&] {
    const auto agree = [&](int64_t i, int64_t n) {
      return chosen[i] && chosen[neighbour[n]] && seen[n] > 0 && agreed[n] >= rate * seen[n];
    };
    connect(gaussian_count, k, neighbour, agree, part);
  });
}

int64_t lift_connected_parts(int64_t gaussian_count, int64_t k, const int32_t* neighbour, const int64_t* label,
                             int64_t min_size, int64_t* part) {
  return guarded([&] {
    const auto alike = [&](int64_t i, int64_t n) { return label[i] == label[neighbour[n]]; };
    const int64_t count = connect(gaussian_count, k, neighbour, alike, part);
    std::vector<int64_t> size(count, 0), open, left, found;
    for (int64_t i = 0; i < gaussian_count; ++i) ++size[part[i]];
    for (int64_t i = 0; i < gaussian_count; ++i) {
      const bool small = size[part[i]] < min_size;
      if (label[i] >= 0 && small) open.push_back(i);
      if (label[i] < 0 || small) part[i] = -1;
    }
    // Rounds in which each Gaussian of a fragment takes the part that most of its neighbours have, the first of equals.
    do {
      left.clear();
      found.clear();
      for (int64_t i : open) {
        int64_t best = -1, most = 0;
        for (int64_t n = i * k; n < (i + 1) * k; ++n) {
          if (neighbour[n] < 0 || part[neighbour[n]] < 0) continue;
          const auto same = [&](int32_t other) { return other >= 0 && part[other] == part[neighbour[n]]; };
          const int64_t votes = std::count_if(neighbour + i * k, neighbour + (i + 1) * k, same);
          if (votes > most) {
            most = votes;
            best = part[neighbour[n]];
          }
        }
        found.push_back(best);
      }
      for (size_t o = 0; o < open.size(); ++o) {
        part[open[o]] = found[o];
        if (found[o] < 0) left.push_back(open[o]);
      }
      open.swap(left);
    } while (open.size() < left.size());
    std::vector<int64_t> number(count, -1);
    for (int64_t i = 0; i < gaussian_count; ++i) {
      if (part[i] >= 0) number[part[i]] = 0;
    }
    int64_t used = 0;
    for (int64_t& own : number) {
      if (own == 0) own = used++;
    }
    for (int64_t i = 0; i < gaussian_count; ++i) {
      if (part[i] >= 0) part[i] = number[part[i]];
    }
  });
}

int64_t lift_merge_parts(int64_t count, const double* agreed, const double* seen, const int64_t* known,
                         double hysteresis, double doubt, double rate, int64_t* joined, double* joined_at,
                         int threads) {
  int64_t steps = 0;
  const int64_t failed = guarded([&] {
    struct Pair {
      double agreed, of;  // the views, and the doubt for parts that some view shows together; of clusters, the means

      double rate() const { return of > 0 ? agreed / of : -1.0; }
    };
    lift::Buffer<Pair> pairs(count * count);
    std::vector<int64_t> alive(count), partner(count, 0);
    std::vector<double> best(count);            // an upper bound where a partner has changed since
    std::vector<uint8_t> outdated(count, false);
    std::vector<double> mass(count);
    lift::parallel_for(threads, count, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t a = begin; a < end; ++a) {
        alive[a] = a;
        best[a] = -1.0;
        mass[a] = std::sqrt(seen[a * count + a]);
        for (int64_t b = 0; b < count; ++b) {
          const double both = a != b ? seen[a * count + b] : 0.0;
          double more = 0;
          if (known && known[a] > 0 && known[b] > 0) more = known[a] == known[b] ? hysteresis : -hysteresis;
          const Pair pair{agreed[a * count + b] + more * both, both > 0 ? both + doubt : 0.0};
          pairs[a * count + b] = pair;
          const double found = pair.rate();
          if (found > best[a]) best[a] = found, partner[a] = b;
        }
      }
    });
    while (!alive.empty()) {
      const int64_t a =
          *std::max_element(alive.begin(), alive.end(), [&](int64_t i, int64_t j) { return best[i] < best[j]; });
      if (best[a] < rate || best[a] < 0) return;
      if (outdated[a]) {
        best[a] = -1.0;
        outdated[a] = false;
        for (int64_t b : alive) {
          const double found = pairs[a * count + b].rate();
          if (found > best[a]) best[a] = found, partner[a] = b;
        }
        continue;
      }
      const int64_t b = partner[a];
      joined[2 * steps] = a;
      joined[2 * steps + 1] = b;
      joined_at[steps++] = best[a];
      alive.erase(std::lower_bound(alive.begin(), alive.end(), b));
      const double both = mass[a] + mass[b], own = both > 0 ? mass[a] / both : 0.5;
      mass[a] = both;
      best[a] = -1.0;
      for (int64_t c : alive) {
        if (c == a) continue;
        const Pair one = pairs[a * count + c], other = pairs[b * count + c];
        const Pair mean{own * one.agreed + (1 - own) * other.agreed, own * one.of + (1 - own) * other.of};
        pairs[a * count + c] = pairs[c * count + a] = mean;
        const double now = mean.rate();
        if (now > best[a]) best[a] = now, partner[a] = c;
        if (now > best[c] || (now == best[c] && a < partner[c] && !outdated[c])) {
          best[c] = now;
          partner[c] = a;
          outdated[c] = false;
        } else if (partner[c] == a || partner[c] == b) {
          outdated[c] = true;  // most of these are never asked before they change again
        }
      }
    }
  });
  return failed ? -1 : steps;
}
