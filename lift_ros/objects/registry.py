"""From labels that change with every training step to objects that persist.

parts     Gaussians of one label that touch, or that masks hold together: the legs of a chair; fragments join what
          surrounds them
tracking  the parts are matched to the objects known so far by shared Gaussians: birth, merge, split, retire
adoption  in between, new Gaussians join the object that the rest of their mask belongs to
wholes    objects that a hierarchical method puts into one whole get it as their parent, an object that persists as well
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from lift_ros.errors import LiftError, MapFileError
from lift_ros.evidence.counts import masked, part_agreement, strongest_masks, visibility
from lift_ros.evidence.linkage import merge_parts
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.evidence.parts import connected_parts, most, overlap, present
from lift_ros.objects.config import ObjectsConfig
from lift_ros.scene.neighbours import Neighbours

MIN_SHARED = 0.25  # of the smaller of a cluster and an object: sharing less is a frayed border, no identity
ONE_MASK = 0.5  # of the views that show both, in which masks hold things together that have one label and do not touch
STEADY = 0.1  # of these views, more for what was one before and less for what was two: objects do not flicker
MAX_ASKED = 1000  # such things; more are noise
ADOPT_KNOWN = 0.2  # of what a mask shows must be known to tell what the rest of it is
ADOPT_PURITY = 0.8  # of what is known in it must be one object
CONFIRMED = 2  # views
KEPT = 0.6  # of the confidence that an object must have, which a published one must keep: it does not flicker


@dataclass(frozen=True)
class ObjectEvent:
    """A change in the set of objects.

    Attributes:
        type: "birth"; "merge": ``others`` turned out to be ``id``; "split": ``others`` came out of ``id``; "retire".
        id: the object concerned.
        others: the other objects concerned.
    """

    type: str
    id: int
    others: tuple[int, ...] = ()


@dataclass
class Track:
    """What is remembered of an object besides its Gaussians. Stamps in seconds; ``parent`` is 0 for none.

    The Gaussians of a whole are those of the objects it is the parent of.
    """

    id: int
    first_seen: float
    last_seen: float
    views: int
    confidence: float
    parent: int = 0


@dataclass(frozen=True)
class _Clusters:
    """Gaussians that are one thing, as far as the labels of the moment tell.

    Attributes:
        of: (N,) cluster of each Gaussian, -1 for none.
        size: (K,) Gaussians of each.
        seen: (V, K) bool, the views that show each.
        confidence: (K,) how well the masks agree on it, see ``visibility``.
    """

    of: NDArray[np.int64]
    size: NDArray[np.int64]
    seen: NDArray[np.bool_]
    confidence: NDArray[np.float64]

    def only(self, kept: NDArray[np.int64]) -> _Clusters:
        """The clusters of these numbers, numbered anew."""
        number = np.full(len(self.size) + 1, -1)
        number[kept] = np.arange(len(kept))
        return _Clusters(number[self.of], self.size[kept], self.seen[:, kept], self.confidence[kept])


class ObjectRegistry:
    """Persistent ids of the Gaussians, and the objects they make up.

    Attributes:
        ids: (N,) int64 object of each Gaussian, 0 for none.
        tracks: the published objects by id.

    What no keyframe shows any more stays what it was.
    An object that comes back after it was lost, or that a merger had swallowed, gets the id back that it had. A whole
    that falls apart does not: it is retired for good.
    """

    def __init__(self, config: ObjectsConfig) -> None:
        self.config = config
        self.ids = np.zeros(0, np.int64)
        self._former = np.zeros(0, np.int64)  # what each Gaussian belonged to before that object was lost, 0 for none
        self._unborn = np.zeros(0, np.int64)  # 1 for Gaussians of what was found, but is no object (yet)
        self.tracks: dict[int, Track] = {}
        self._loaded: dict[int, Track] = {}
        self._next_id = 1

    @property
    def wholes(self) -> NDArray[np.int64]:
        """(N,) the whole that each Gaussian's object belongs to, or the object itself where there is none."""
        parents = self._parents(self.ids)
        return np.where(parents > 0, parents, self.ids)

    def edit(self, origin: NDArray[np.int64]) -> None:
        """Follow an edit of the scene (see ``GaussianScene``); new Gaussians belong to no object yet."""
        self.ids, self._former = _follow(self.ids, origin), _follow(self._former, origin)
        self._unborn = _follow(self._unborn, origin)

    def update(
        self,
        labels: NDArray[np.integer],
        neighbours: Neighbours,
        views: Sequence[MaskEvidence],
        stamps: Sequence[float],
        loaded: int = 0,
        wholes: NDArray[np.integer] | None = None,
    ) -> list[ObjectEvent]:
        """Find the objects in the labels of the moment and match them to those known.

        Args:
            labels: (N,) transient labels of a lifting method, below 0 for none.
            wholes: (N,) the same, coarser; None where the method has no hierarchy.
            views: evidence of the keyframes, in the order of ``stamps`` (seconds).
            loaded: how many views at the beginning stand for those of a loaded map, which its tracks count already.

        Returns:
            what changed, in ascending order of the ids.

        Where it fails, as when memory runs out, nothing has changed.
        """
        if not len(views) or not len(labels):
            return []
        before = self.ids, self._former.copy(), self._unborn, dict(self.tracks), self._next_id
        try:
            return self._update(labels, neighbours, views, np.asarray(stamps), loaded, wholes)
        except BaseException:
            self.ids, self._former, self._unborn, self.tracks, self._next_id = before
            raise

    def _update(
        self,
        labels: NDArray[np.integer],
        neighbours: Neighbours,
        views: Sequence[MaskEvidence],
        stamps: NDArray[np.float64],
        loaded: int,
        wholes: NDArray[np.integer] | None,
    ) -> list[ObjectEvent]:
        every = self._clusters(labels, neighbours, views)
        clusters = every.only(self._worth_publishing(every))
        previous = self.ids
        ids, events = self._identify(clusters)
        parents, of_wholes = self._identify_wholes(clusters, wholes, neighbours, views)
        self.ids = self._with_unseen(np.append(ids, 0)[clusters.of], ids, views)
        self._unborn = ((every.of >= 0) & (self.ids == 0)).astype(np.int64)
        self._former[np.isin(self._former, ids) & (self.ids > 0)] = 0  # these are back, or another's by now
        parents, hidden = self._with_hidden(parents, ids)
        events += of_wholes + self._retire(previous, hidden | set(parents.tolist()))
        self._describe(clusters, ids, parents, views, stamps, loaded)
        return sorted(events, key=lambda event: (event.id, event.type))

    def _clusters(
        self, labels: NDArray[np.integer], neighbours: Neighbours, views: Sequence[MaskEvidence]
    ) -> _Clusters:
        """What could be objects."""
        parts = connected_parts(neighbours, labels, self.config.min_gaussians)
        of, count = _held_together(parts, labels, self.ids, views)
        seen, confidence = visibility(of, count, views)
        return _Clusters(of, np.bincount(of[of >= 0], minlength=count), seen, confidence)

    def _worth_publishing(self, clusters: _Clusters) -> NDArray[np.int64]:
        """Numbers of the clusters that are large, sure and seen enough; what is published stays, with less."""
        known = _known_as(clusters.of, len(clusters.size), self.ids)
        sure = clusters.confidence >= np.where(known > 0, KEPT, 1.0) * self.config.min_confidence
        enough = clusters.size >= self.config.min_gaussians
        # at the beginning all views that there are must do, but for one, which nothing confirms
        views = len(clusters.seen)
        min_views = np.minimum(self.config.min_views, np.where(known > 0, CONFIRMED, max(views, CONFIRMED)))
        # what enough keyframes showed is known, even where some of them were let go of since
        counts = zip(clusters.seen.sum(0), known.tolist(), strict=True)
        shown_by = np.array([max(n, self.tracks[i].views) if i else n for n, i in counts], int)
        return np.flatnonzero(enough & sure & clusters.seen.any(0) & (shown_by >= min_views))

    def _identify(self, clusters: _Clusters) -> tuple[NDArray[np.int64], list[ObjectEvent]]:
        """(K,) ids of the clusters, and what is new."""
        count = len(clusters.size)
        known = np.where(self._missing(clusters.of, count), self._former, self.ids)
        return self._match(clusters.of, count, known, self._former)

    def _identify_wholes(
        self,
        clusters: _Clusters,
        wholes: NDArray[np.integer] | None,
        neighbours: Neighbours,
        views: Sequence[MaskEvidence],
    ) -> tuple[NDArray[np.int64], list[ObjectEvent]]:
        """(K,) ids of the wholes that the clusters are parts of, by the coarser labels ``wholes`` (N,), 0 for none, and
        what is new.
        """
        count = len(clusters.size)
        if wholes is None or not count:
            return np.zeros(count, np.int64), []
        # far-apart things may share a code, as with labels
        labels, before = np.where(clusters.of >= 0, wholes, -1), self._parents(self.ids)
        largest = [view.wholes or view for view in views]
        together, _ = _held_together(connected_parts(neighbours, labels), labels, before, largest)
        whole_of = _wholes(clusters.of, count, together)
        member = np.append(whole_of, -1)[clusters.of]
        ids, events = self._match(member, int(whole_of.max(initial=-1)) + 1, before, np.zeros_like(before))
        return np.append(ids, 0)[whole_of], events

    def _with_hidden(self, parents: NDArray[np.int64], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], set[int]]:
        """(K,) ``parents`` of the objects ``ids`` found: a part whose siblings no keyframe shows any more stays with
        them. And the wholes of what is not found, but there.
        """
        unseen = set(present(self.ids)[0].tolist()) - {0, *ids.tolist()}
        hidden = {self.tracks[i].parent for i in unseen} - {0}
        before = [self.tracks[i].parent if i in self.tracks else 0 for i in ids.tolist()]
        return np.where((parents == 0) & np.isin(before, list(hidden)), before, parents), hidden

    def _describe(
        self,
        clusters: _Clusters,
        ids: NDArray[np.int64],
        parents: NDArray[np.int64],
        views: Sequence[MaskEvidence],
        stamps: NDArray[np.float64],
        loaded: int,
    ) -> None:
        """Renew the tracks of what was found and of the wholes that it is part of."""
        seen, confidence = clusters.seen, clusters.confidence
        if loaded:
            confidence = self._confidence(clusters.of, ids, views[loaded:], confidence)
        for k, i in enumerate(ids.tolist()):
            self.tracks[i] = self._track(i, stamps, seen[:, k], float(confidence[k]), loaded, int(parents[k]))
        for i in set(parents.tolist()) - {0}:
            own = parents == i
            mean = float(np.average(confidence[own], weights=clusters.size[own]))
            self.tracks[i] = self._track(i, stamps, seen[:, own].any(1), mean, loaded)

    def _confidence(
        self,
        found: NDArray[np.int64],
        ids: NDArray[np.int64],
        views: Sequence[MaskEvidence],
        of_all: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(K,) of the clusters ``found`` (N,), the objects ``ids``: by what the ``views`` since the map was loaded show
        of them, and by what was known of them, as many views. What stands for the earlier ones agrees with any mask.
        """
        seen, since = visibility(found, len(ids), views)
        size = np.bincount(found[found >= 0], minlength=len(ids))
        share = np.zeros(len(ids))  # views that show all of each, or several that show as much in all
        for view, counts in zip(views, seen, strict=True):
            shown = found[(masked(len(found), [view]) > 0) & (found >= 0)]
            share += counts * np.bincount(shown, minlength=len(ids)) / size
        result = of_all.copy()
        for k, i in enumerate(ids.tolist()):
            loaded = self._loaded.get(i)
            if share[k]:
                before, was = (loaded.views, loaded.confidence) if loaded else (0, 0.0)
                result[k] = (share[k] * since[k] + before * was) / (share[k] + before)
            elif track := self.tracks.get(i, loaded):
                result[k] = track.confidence
        return result

    def _missing(self, found: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """(N,) Gaussians that an object did not bring along when it came back, where the clusters ``found`` (N,) put
        them together with it, not just with what frayed from it.
        """
        table, ids = overlap(found, count, self.ids)
        together = (table > 0) & (table >= MIN_SHARED * np.bincount(self.ids)[ids])
        lost = np.flatnonzero((found >= 0) & (self.ids == 0) & (self._former > 0) & np.isin(self._former, ids))
        missing = np.zeros(len(found), bool)
        missing[lost] = together[found[lost], np.searchsorted(ids, self._former[lost])]
        return missing

    def adopt(self, view: MaskEvidence) -> None:
        """Give Gaussians that belong to no object that of their mask, where most of what the mask shows is one.

        Not those of what is yet to become one, and none where the mask shows mostly these. So new ground has its labels
        at once, from one view; the next ``update`` asks all of them.
        """
        if not self.tracks or not len(view.gaussian):
            return
        ids = np.where(self._unborn > 0, self._next_id, self.ids)
        values, column = present(ids[view.gaussian])
        cell = view.mask.astype(np.int64) * len(values) + column
        pixels = np.bincount(cell, view.weight, len(view.area) * len(values)).reshape(-1, len(values))
        known = np.where(values > 0, pixels, 0)
        highest = known.max(1)
        sure = (highest >= ADOPT_PURITY * known.sum(1)) & (known.sum(1) >= ADOPT_KNOWN * pixels.sum(1))
        best = values[known.argmax(1)]
        object_of = np.where(sure & (highest > 0) & (best < self._next_id), best, 0)
        strongest = strongest_masks(np.where(ids == 0, 0, -1), 1, [view], np.zeros(1, np.int64))
        new = strongest >= 0
        self.ids[new] = object_of[strongest[new]]

    def gaussians_of(self, object_id: int) -> NDArray[np.bool_]:
        """(N,) bool, the Gaussians of an object, or of the parts of a whole. Raises LiftError: there is none such."""
        if object_id not in self.tracks:
            raise LiftError(f"the map has no object {object_id}")
        return (self.ids == object_id) | (self._parents(self.ids) == object_id)

    def remove(self, object_id: int) -> list[ObjectEvent]:
        """Forget an object, or a whole with its parts, whose Gaussians are gone, and the whole it was the last part of.
        None of their ids is ever given again.
        """
        gone = {object_id} | {track.id for track in self.tracks.values() if track.parent == object_id}
        whole = self.tracks[object_id].parent
        if whole and all(track.parent != whole or track.id in gone for track in self.tracks.values()):
            gone.add(whole)
        for i in gone:
            del self.tracks[i]
        self._former[np.isin(self._former, list(gone))] = 0
        return [ObjectEvent("retire", i) for i in sorted(gone)]

    def _with_unseen(
        self, ids: NDArray[np.int64], found: NDArray[np.int64], views: Sequence[MaskEvidence]
    ) -> NDArray[np.int64]:
        """The new ``ids`` (N,), and what the keyframes that are left say nothing about as it was: the Gaussians they do
        not show of the objects ``found``, and objects most of which they do not show. Of objects that others took over,
        the Gaussians they do not show go to the one that took most.
        """
        lost = (ids == 0) & (self.ids > 0)
        if not lost.any():
            return ids
        unseen = lost & (masked(len(ids), views) == 0)
        values, index = present(self.ids)
        hidden = np.bincount(index, unseen) > 0.5 * np.bincount(index)
        again = np.isin(values, found)
        table, new = overlap(index, len(values), ids)
        taken = np.where(new > 0, table, 0)
        heir = np.where(taken.any(1), new[taken.argmax(1)], 0)
        kept = lost & np.where(again[index], unseen, hidden[index])
        left = lost & unseen & ~again[index] & ~hidden[index]
        return np.where(kept, self.ids, np.where(left, heir[index], ids))

    def _parents(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) the whole that each Gaussian's object belongs to, 0 for none."""
        values, index = present(ids)
        return np.array([self.tracks[i].parent if i else 0 for i in values.tolist()], np.int64)[index]

    def _track(
        self,
        i: int,
        stamps: NDArray[np.float64],
        seen: NDArray[np.bool_],
        confidence: float,
        loaded: int,
        parent: int = 0,
    ) -> Track:
        """What is known of object ``i`` now that the views ``seen`` (V,) show it."""
        before = self.tracks.get(i, self._loaded.get(i))  # knows of keyframes that were let go of since, too
        when = stamps[loaded:][seen[loaded:]]
        views = len(when) + (self._loaded[i].views if i in self._loaded else 0)
        if not views:
            when = stamps[seen]
            views = len(when)
        # in the order of the keyframes: their time may have gone back, as where a bag is played again
        first, last = (when[0], when[-1]) if len(when) else (before.first_seen, before.last_seen)
        if before:
            first, views = before.first_seen, max(before.views, views)
            if last < before.last_seen <= stamps[-1]:  # the keyframe that showed it then was let go of
                last = before.last_seen
        return Track(i, float(first), float(last), views, confidence, parent)

    def _match(
        self, found: NDArray[np.int64], count: int, known: NDArray[np.int64], lost: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[ObjectEvent]]:
        """Ids of the clusters: of ``known`` ones (N,) where they share Gaussians, most in all (area-aware), of ``lost``
        ones (N,) where they consist of these, else new.
        """
        events: list[ObjectEvent] = []
        table, ids = overlap(found, count, known)
        objects = np.flatnonzero(ids > 0)
        shared = table[:, objects]
        whole = np.bincount(known)[ids[objects]]  # what the keyframes that are left do not show of it, too
        smaller = np.minimum(table.sum(1)[:, None], whole[None, :])
        shared = np.where(shared >= MIN_SHARED * smaller, shared, 0)
        rows, columns = linear_sum_assignment(-shared)
        result = np.zeros(count, np.int64)
        for row, column in zip(rows, columns, strict=True):
            if shared[row, column] > 0:
                result[row] = ids[objects[column]]
        former_table, former_ids = overlap(found, count, lost)
        for k in sorted(np.flatnonzero(result == 0).tolist(), key=lambda k: -former_table[k].max(initial=0)):
            size = table[k].sum()
            former = former_ids[former_table[k].argmax()]
            if former > 0 and former not in self.tracks and former not in result and former_table[k].max() > 0.5 * size:
                result[k] = former
            else:
                result[k] = self._next_id
                self._next_id += 1
            came_from = ids[table[k].argmax()] if size else 0
            if came_from > 0 and came_from in result and table[k].max() > 0.5 * size:
                events.append(ObjectEvent("split", int(came_from), (int(result[k]),)))
            else:
                events.append(ObjectEvent("birth", int(result[k])))
        return result, events

    def _retire(self, previous: NDArray[np.int64], wholes: set[int]) -> list[ObjectEvent]:
        """Drop the tracks without Gaussians that are none of the ``wholes``; ``previous`` (N,) ids say what became of
        them.
        """
        found: list[ObjectEvent] = []
        for i in sorted(set(self.tracks) - set(present(self.ids)[0].tolist()) - wholes):
            del self.tracks[i]
            self._former[previous == i] = i
            heirs, size = np.unique(self.ids[previous == i], return_counts=True)
            if len(heirs) and heirs[size.argmax()] > 0:
                found.append(ObjectEvent("merge", int(heirs[size.argmax()]), (i,)))
            else:
                found.append(ObjectEvent("retire", i))
        return found

    def rows(self) -> dict[str, NDArray[np.int64]]:
        """(N,) each: all that is known of the Gaussians, by the names of map files."""
        return {
            "gaussian.object_id": self.ids,
            "gaussian.former_object_id": self._former,
            "gaussian.unborn": self._unborn,
        }

    def set_rows(self, rows: Mapping[str, NDArray[np.int64]]) -> None:
        """The inverse of ``rows``, for a scene of as many Gaussians.

        Raises:
            KeyError: one of them is missing.
        """
        self.ids = rows["gaussian.object_id"].astype(np.int64)
        self._former = rows["gaussian.former_object_id"].astype(np.int64)
        self._unborn = rows["gaussian.unborn"].astype(np.int64)

    def state(self) -> dict[str, Any]:
        """JSON-ready: the tracks and the next id. ``rows`` are saved apart."""
        return {"next_id": self._next_id, "tracks": [vars(track) for track in self.tracks.values()]}

    def load_state(self, rows: Mapping[str, NDArray[np.int64]], state: dict[str, Any]) -> None:
        """The inverse of ``rows`` and ``state``.

        Raises:
            MapFileError: the state is not one, lacks the track of some Gaussian's object, or would give an id again.
            KeyError: as ``set_rows``.
        """
        try:
            tracks = {int(entry["id"]): Track(**entry) for entry in state["tracks"]}
            next_id = int(state["next_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise MapFileError(f"what is known of the objects cannot be read: {error!r}") from error
        given = rows["gaussian.object_id"], rows["gaussian.former_object_id"]
        unknown = set(np.unique(rows["gaussian.object_id"]).tolist()) - set(tracks) - {0}
        if unknown:
            raise MapFileError(f"Gaussians belong to objects that the map does not list: {sorted(unknown)[:5]}")
        latest = max(max(tracks, default=0), *(int(ids.max(initial=0)) for ids in given))
        if next_id <= latest:
            raise MapFileError(f"the next object would have the id {next_id}, but there are ids up to {latest}")
        self.set_rows(rows)
        self.tracks, self._next_id = tracks, next_id
        self._loaded = dict(tracks)


def _follow(ids: NDArray[np.int64], origin: NDArray[np.int64]) -> NDArray[np.int64]:
    """Per-Gaussian ids after an edit of the scene, 0 for new Gaussians."""
    moved = np.zeros(len(origin), np.int64)
    moved[origin >= 0] = ids[origin[origin >= 0]]
    return moved


def _held_together(
    parts: NDArray[np.int64], labels: NDArray[np.integer], ids: NDArray[np.int64], views: Sequence[MaskEvidence]
) -> tuple[NDArray[np.int64], int]:
    """Connected ``parts`` (N,), -1 for none, and their number, after those of one label were joined that masks hold
    together in most of the views that show both. Others of one label are look-alikes with one code.

    Those that were one before, by their ``ids`` (N,), 0 for none, need somewhat less for that, those that were two
    somewhat more.
    """
    count = int(parts.max(initial=-1)) + 1
    label = most(parts, count, np.maximum(labels, -1).astype(np.int64) + 1)
    asked = np.flatnonzero(np.bincount(label)[label] > 1)
    if not len(asked):
        return parts, count
    size = np.bincount(parts[parts >= 0], minlength=count)
    asked = np.sort(asked[np.argsort(-size[asked], kind="stable")[:MAX_ASKED]])
    number = np.full(count + 1, -1)
    number[asked] = np.arange(len(asked))
    agreed, seen = part_agreement(number[parts], len(asked), views)
    label, known = label[asked], most(parts, count, ids)[asked]
    one = label[:, None] == label[None, :]
    before = (known[:, None] == known[None, :]) * 2.0 - 1
    before *= (known[:, None] > 0) & (known[None, :] > 0)
    joined = merge_parts((agreed + STEADY * before * seen) * one, seen * one).clusters(ONE_MASK)
    root = np.arange(count + 1)
    root[-1] = -1
    root[asked] = asked[joined]
    left, number = np.unique(root[:-1], return_inverse=True)
    return np.append(number, -1)[parts], len(left)


def _known_as(clusters: NDArray[np.int64], count: int, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K,) the object that a cluster is, 0 for none: it has most of its Gaussians, and they are most of the cluster."""
    table, values = overlap(clusters, count, ids)
    size = np.bincount(ids)[values]
    same = (table > 0.5 * table.sum(1, keepdims=True)) & (table > 0.5 * size) & (values > 0)
    return np.where(same.any(1), values[same.argmax(1)], 0)


def _wholes(found: NDArray[np.int64], count: int, wholes: NDArray[np.integer]) -> NDArray[np.int64]:
    """(K,) whole of each cluster, by most of its Gaussians: 0, 1, ...; -1 where it would be the only part."""
    table, labels = overlap(found, count, wholes.astype(np.int64) + 1)
    best = labels[table.argmax(1)] - 1
    values, index, size = np.unique(best, return_inverse=True, return_counts=True)
    several = (size > 1) & (values >= 0)
    number = np.where(several, several.cumsum() - 1, -1)
    return number[index]
