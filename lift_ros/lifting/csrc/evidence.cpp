#include <algorithm>
#include <new>
#include <vector>

#include "lift_evidence.h"

namespace {

// Pixels of each part that each mask of a view shows, without the zeros: row m is [begin[m], begin[m + 1]).
class Table {
 public:
  explicit Table(const LiftParts& parts) : parts_(parts), row_(parts.count, 0.0), visible(parts.count, 0.0) {}

  void fill(const LiftMasks& view) {
    for (int32_t part : shown) visible[part] = 0;
    shown.clear();
    begin.assign(view.mask_count + 1, 0);
    part.clear();
    pixels.clear();
    int64_t entry = 0;
    for (int64_t m = 0; m < view.mask_count; ++m) {
      const size_t first = part.size();
      for (; entry < view.count && view.mask[entry] == m; ++entry) {
        const int64_t k = parts_.number[view.gaussian[entry]];
        if (k < 0 || !(view.weight[entry] > 0)) continue;
        if (row_[k] == 0) part.push_back(static_cast<int32_t>(k));
        row_[k] += view.weight[entry];
      }
      std::sort(part.begin() + first, part.end());
      for (size_t i = first; i < part.size(); ++i) {
        const int32_t k = part[i];
        pixels.push_back(row_[k]);
        if (visible[k] == 0) shown.push_back(k);
        visible[k] += row_[k];
        row_[k] = 0;
      }
      begin[m + 1] = static_cast<int64_t>(part.size());
    }
  }

 private:
  const LiftParts& parts_;
  std::vector<double> row_;

 public:
  std::vector<int64_t> begin;
  std::vector<int32_t> part;    // ascending within a row
  std::vector<double> pixels;
  std::vector<double> visible;  // (K,) pixels of each part in the whole view
  std::vector<int32_t> shown;   // parts of which that is more than 0
};

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

template <class Function>
int64_t guarded(Function run) {
  try {
    run();
    return 0;
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

}  // namespace

int32_t lift_evidence_interface() { return LIFT_EVIDENCE_INTERFACE; }

int64_t lift_neighbour_agreement(const LiftViews* all, int64_t k, const int32_t* neighbour, float min_pixels,
                                 float clear_pixels, float* agreed, float* seen, float* masked) {
  return guarded([&] {
    struct Shown {
      float pixels;
      float most;
      int32_t strongest;  // mask that shows most, the first of equals
    };
    std::vector<Shown> shown(all->gaussian_count, Shown{0, 0, -1});
    Chosen chosen(all->gaussian_count);
    for (int64_t v = 0; v < all->count; ++v) {
      const LiftMasks& view = all->views[v];
      for (int64_t e = 0; e < view.count; ++e) {
        Shown& each = shown[view.gaussian[e]];
        chosen.add(view.gaussian[e]);
        each.pixels += view.weight[e];
        if (view.weight[e] > each.most) {
          each.most = view.weight[e];
          each.strongest = view.mask[e];
        }
      }
      // In the order of the Gaussians: neighbours were mostly planted together, and lie together in memory.
      chosen.for_each([&](int64_t i) {
        const Shown own = shown[i];
        masked[i] += own.pixels;
        if (!(own.pixels > min_pixels)) return;
        const float say = std::min(own.pixels, clear_pixels);
        for (int64_t n = i * k; n < (i + 1) * k; ++n) {
          if (neighbour[n] < 0) continue;
          const Shown& other = shown[neighbour[n]];
          if (!(other.pixels > min_pixels)) continue;
          const float both = std::min(say, other.pixels);
          seen[n] += both;
          agreed[n] += own.strongest == other.strongest ? both : 0.0f;
        }
      });
      chosen.for_each([&](int64_t i) { shown[i] = {0, 0, -1}; });
      chosen.clear();
    }
  });
}

int64_t lift_part_agreement(const LiftViews* all, const LiftParts* parts, double min_visible, double full_say,
                            double* agreed, double* seen) {
  return guarded([&] {
    const int64_t count = parts->count;
    Table table(*parts);
    std::vector<double> squares(count, 0.0), say(count, 0.0), share;
    std::vector<int32_t> clear;
    for (int64_t v = 0; v < all->count; ++v) {
      const LiftMasks& view = all->views[v];
      table.fill(view);
      clear.clear();
      for (int32_t a : table.shown) {
        squares[a] = 0;
        say[a] = table.visible[a] > min_visible ? std::min(table.visible[a], full_say) / full_say : 0.0;
        if (say[a] > 0) clear.push_back(a);
      }
      std::sort(clear.begin(), clear.end());
      for (size_t e = 0; e < table.part.size(); ++e) squares[table.part[e]] += table.pixels[e] * table.pixels[e];
      share.resize(table.part.size());
      for (size_t e = 0; e < share.size(); ++e) share[e] = table.pixels[e] * table.pixels[e] / squares[table.part[e]];
      for (int64_t m = 0; m < view.mask_count; ++m) {
        for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) {
          const int32_t a = table.part[e];
          for (int64_t f = e; f < table.begin[m + 1]; ++f) {
            const int32_t b = table.part[f];
            agreed[a * count + b] += std::min(say[a], say[b]) * share[e] * share[f];
          }
        }
      }
      for (size_t i = 0; i < clear.size(); ++i) {
        double* row = seen + clear[i] * count;
        const double own = say[clear[i]];
        for (size_t j = i; j < clear.size(); ++j) row[clear[j]] += std::min(own, say[clear[j]]);
      }
    }
    for (int64_t a = 0; a < count; ++a) {
      for (int64_t b = 0; b < a; ++b) {
        agreed[a * count + b] = agreed[b * count + a];
        seen[a * count + b] = seen[b * count + a];
      }
    }
  });
}

int64_t lift_held(const LiftViews* all, const LiftParts* parts, double* held, double* total) {
  return guarded([&] {
    Table table(*parts);
    std::vector<double> share(parts->count, 0.0);  // of each part, that the mask at hand shows
    for (int64_t v = 0; v < all->count; ++v) {
      const LiftMasks& view = all->views[v];
      table.fill(view);
      int64_t entry = 0;
      for (int64_t m = 0; m < view.mask_count; ++m) {
        for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) {
          share[table.part[e]] = table.pixels[e] / table.visible[table.part[e]];
        }
        for (; entry < view.count && view.mask[entry] == m; ++entry) {
          const int32_t i = view.gaussian[entry];
          total[i] += view.weight[entry];
          if (parts->number[i] >= 0) held[i] += view.weight[entry] * share[parts->number[i]];
        }
        for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) share[table.part[e]] = 0;
      }
    }
  });
}

int64_t lift_purity(const LiftViews* all, const LiftParts* parts, double min_visible, double full_say, double* purity,
                    double* say, double* most_divided, int64_t* divided_by) {
  return guarded([&] {
    Table table(*parts);
    std::vector<double> pure(parts->count, 0.0);
    for (int64_t v = 0; v < all->count; ++v) {
      table.fill(all->views[v]);
      for (int32_t a : table.shown) pure[a] = 0;
      for (size_t e = 0; e < table.part.size(); ++e) {
        const double share = table.pixels[e] / table.visible[table.part[e]];
        pure[table.part[e]] += share * share;
      }
      for (int32_t a : table.shown) {
        if (!(table.visible[a] > min_visible)) continue;
        const double weight = std::min(table.visible[a], full_say) / full_say;
        purity[a] += weight * pure[a];
        say[a] += weight;
        const double divided = table.visible[a] * (1 - pure[a]);
        if (divided > most_divided[a]) {
          most_divided[a] = divided;
          divided_by[a] = v;
        }
      }
    }
  });
}

int64_t lift_votes(const LiftViews* all, const LiftParts* parts, double purity, int64_t* winner, float* most,
                   float* votes, float* shown) {
  return guarded([&] {
    constexpr int kSlots = 4;
    struct Ballot {  // votes of one Gaussian: few objects are ever voted for
      int32_t label[kSlots];
      float weight[kSlots];
    };
    struct Vote {
      int32_t gaussian, label;
      float weight;
    };
    Table table(*parts);
    std::vector<Ballot> ballots(all->gaussian_count, Ballot{{-1, -1, -1, -1}, {0, 0, 0, 0}});
    std::vector<Vote> more;        // what found no slot
    std::vector<int32_t> choice;  // of each mask, -1 where it is too mixed to vote
    for (int64_t v = 0; v < all->count; ++v) {
      const LiftMasks& view = all->views[v];
      table.fill(view);
      choice.assign(view.mask_count, -1);
      for (int64_t m = 0; m < view.mask_count; ++m) {
        double total = 0, best = 0;
        int32_t label = -1;
        for (int64_t e = table.begin[m]; e < table.begin[m + 1]; ++e) {
          total += table.pixels[e];
          if (table.pixels[e] > best) {
            best = table.pixels[e];
            label = table.part[e];
          }
        }
        if (best > purity * total) choice[m] = label;
      }
      for (int64_t e = 0; e < view.count; ++e) {
        const int32_t i = view.gaussian[e], label = choice[view.mask[e]];
        shown[i] += view.weight[e];
        if (label < 0) continue;
        votes[i] += view.weight[e];
        Ballot& ballot = ballots[i];
        int slot = 0;
        while (slot < kSlots && ballot.label[slot] != label && ballot.label[slot] >= 0) ++slot;
        if (slot == kSlots) {
          more.push_back({i, label, view.weight[e]});
        } else {
          ballot.label[slot] = label;
          ballot.weight[slot] += view.weight[e];
        }
      }
    }
    const auto elect = [&](int64_t i, int32_t label, float weight) {
      if (weight > most[i] || (weight == most[i] && label < winner[i])) {
        most[i] = weight;
        winner[i] = label;
      }
    };
    for (int64_t i = 0; i < all->gaussian_count; ++i) {
      winner[i] = -1;
      for (int slot = 0; slot < kSlots && ballots[i].label[slot] >= 0; ++slot) {
        elect(i, ballots[i].label[slot], ballots[i].weight[slot]);
      }
    }
    std::stable_sort(more.begin(), more.end(), [](const Vote& a, const Vote& b) {
      return a.gaussian != b.gaussian ? a.gaussian < b.gaussian : a.label < b.label;
    });
    for (size_t first = 0; first < more.size();) {
      float weight = 0;
      size_t last = first;
      for (; last < more.size() && more[last].gaussian == more[first].gaussian && more[last].label == more[first].label;
           ++last) {
        weight += more[last].weight;
      }
      elect(more[first].gaussian, more[first].label, weight);
      first = last;
    }
  });
}

int64_t lift_visibility(const LiftViews* all, const LiftParts* parts, double min_visible, uint8_t* seen, double* agreed,
                        double* visible) {
  return guarded([&] {
    const int64_t count = parts->count;
    Table table(*parts);
    std::vector<double> best(count, 0.0);
    for (int64_t v = 0; v < all->count; ++v) {
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
        agreed[a] += table.visible[a] * best[a];
        visible[a] += table.visible[a];
      }
    }
  });
}

int64_t lift_components(int64_t gaussian_count, int64_t k, const int32_t* neighbour, const uint8_t* edge,
                        int64_t* part) {
  return guarded([&] {
    std::vector<int32_t> parent(gaussian_count);  // a root is the first member of its component
    for (int64_t i = 0; i < gaussian_count; ++i) parent[i] = static_cast<int32_t>(i);
    const auto root = [&](int32_t i) {
      while (parent[i] != i) i = parent[i] = parent[parent[i]];
      return i;
    };
    for (int64_t i = 0; i < gaussian_count; ++i) {
      for (int64_t n = i * k; n < (i + 1) * k; ++n) {
        if (!edge[n] || neighbour[n] < 0) continue;
        const int32_t a = root(static_cast<int32_t>(i)), b = root(neighbour[n]);
        parent[std::max(a, b)] = std::min(a, b);
      }
    }
    int64_t count = 0;
    for (int64_t i = 0; i < gaussian_count; ++i) {
      const int32_t first = root(static_cast<int32_t>(i));
      part[i] = first == i ? count++ : part[first];
    }
  });
}
