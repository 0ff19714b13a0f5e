"""What the demo shows: what was published, held against the truth, in tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from lift_ros.data.rosbag import BagCapture
from lift_ros.demo.generate import MASK_TOPIC, TRUTH_TOPIC
from lift_ros.demo.room import PlacedObject
from lift_ros.errors import LiftError
from lift_ros.evaluation.metrics import Contingency, IdSwitches, assigned_quality, background_id, panoptic_quality
from lift_ros.visualization import contact_sheet, label_colors, overlay

COLUMNS = 7  # of the contact sheet
OPACITY = 0.65  # of the colours in it
MATCH_IOU = 0.5  # from which an object counts as found
MIN_AREA = 0.002  # of the image that a region must have for its number to be written on it
STRAY = 2.0  # per cent of an object's points, at either end of each axis, that its extents leave out
PLAN_SCALE, PLAN_HALF_WIDTH = 240, 1.6  # of the plan: pixels a metre, and metres for a room of size 1


@dataclass(frozen=True)
class FoundObject:
    """An object as the node describes it: ``center`` (3,) of its box, ``points`` (n, 3), ``colors`` (n, 3) uint8."""

    id: int
    views: int
    confidence: float
    center: NDArray[np.float64]
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]

    @property
    def extents(self) -> NDArray[np.float64]:
        """(3,) size along the world's axes, metres."""
        low, high = np.percentile(self.points, (STRAY, 100 - STRAY), axis=0)
        return high - low


@dataclass
class Score:
    """How well label images agree over the views."""

    table: Contingency = field(default_factory=Contingency)
    switches: IdSwitches = field(default_factory=IdSwitches)
    views: int = 0
    begun: float | None = None  # stamp of the first view that has labels

    def add(self, labels: NDArray, truth: NDArray, stamp: float) -> None:
        """Count one view."""
        self.views += 1
        if self.begun is None and labels.any():
            self.begun = stamp
        self.table.add(labels, truth)
        self.switches.add(labels, truth, stamp)

    def row(self, name: str) -> tuple[str, ...]:
        """Of the table that compares what goes in with what comes out."""
        pq, quality = panoptic_quality(self.table), assigned_quality(self.table)
        return (
            name,
            str(self.views),
            f"{pq.pq:.2f}",
            f"{quality.miou:.2f}",
            str(pq.matched),
            str(self.switches.switches),
        )


@dataclass
class Comparison:
    """Masks that went in and label images that came out, against the truth of the bag.

    Attributes:
        scores: by what they score: "masks in", and the names of the label images.
        columns: of the contact sheet.
    """

    scores: dict[str, Score]
    columns: list[list[tuple[str, NDArray[np.uint8]]]]

    @classmethod
    def of(cls, bag: BagCapture, published: dict[str, Path]) -> Comparison:
        """``published``: directories of label images ``<frame>.png``, by what they are called.

        Raises:
            LiftError: one of them is empty.
        """
        files = {name: {path.stem: path for path in directory.iterdir()} for name, directory in published.items()}
        if not all(files.values()):
            raise LiftError("the node published no label images")
        labelled = sorted(set().union(*files.values()))
        place = {frame: k for k, frame in enumerate(labelled)}
        columns = [labelled[k] for k in np.linspace(0, len(labelled) - 1, COLUMNS).round().astype(int)]
        shown = {}  # (column, row): frame; two passes need not have labelled the same
        for k, at in enumerate(dict.fromkeys(columns)):
            shown |= {(k, row): at for row in ("camera", "masks in")}
            shown |= {
                (k, name): min(sorted(own), key=lambda f: abs(place[f] - place[at])) for name, own in files.items()
            }
        result = cls({name: Score() for name in ("masks in", *files)}, [])
        pictures = {}
        start: float | None = None
        for frame in bag.frames:
            start = frame.stamp if start is None else start
            images = {"masks in": bag.recorded_labels(MASK_TOPIC, frame)}
            for name, paths in files.items():
                if frame.name in paths:
                    images[name] = cv2.imread(str(paths[frame.name]), cv2.IMREAD_UNCHANGED)
            truth = bag.recorded_labels(TRUTH_TOPIC, frame)
            for name, labels in images.items():
                result.scores[name].add(labels, truth, frame.stamp)
            for k, row in (cell for cell, of in shown.items() if of == frame.name):
                ids = images.get(row)
                picture = frame.image if ids is None else numbered(overlay(frame.image, ids, OPACITY), ids)
                pictures[k, row] = f"{row}, {frame.stamp - start:.1f} s", picture
        rows = ("camera", *result.scores)
        result.columns = [[pictures[k, row] for row in rows] for k in range(len(shown) // len(rows))]
        return result

    def contact_sheet(self) -> NDArray[np.uint8]:
        """Images, masks and labels, from left to right over time."""
        return contact_sheet(list(zip(*self.columns, strict=True)))


def numbered(picture: NDArray[np.uint8], labels: NDArray) -> NDArray[np.uint8]:
    """The picture with the label of each large region written where it is widest."""
    picture = picture.copy()
    scale = picture.shape[1] / 800
    for label in np.unique(labels[labels != 0]).tolist():
        inside = np.pad((labels == label).astype(np.uint8), 1)
        if inside.sum() < MIN_AREA * labels.size:
            continue
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
        row, column = np.unravel_index(distance.argmax(), distance.shape)
        (width, height), _ = cv2.getTextSize(str(label), cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        at = (int(column) - width // 2, int(row) + height // 2)
        for color, thickness in (((0, 0, 0), 5 * scale), ((255, 255, 255), 2 * scale)):
            cv2.putText(
                picture, str(label), at, cv2.FONT_HERSHEY_SIMPLEX, scale, color, max(1, round(thickness)), cv2.LINE_AA
            )
    return picture


SCORE_HEADER = ("", "views", "PQ_scene", "mIoU", "objects at IoU > 0.5", "id switches")


@dataclass(frozen=True)
class Match:
    """A true object and what was found of it, None if nothing; ``iou`` over all label images."""

    truth: PlacedObject
    found: FoundObject | None
    iou: float

    @property
    def good(self) -> bool:
        """By the measure of PQ."""
        return self.iou > MATCH_IOU

    def row(self) -> tuple[str, ...]:
        """Of the table of objects; errors of centre and size are distances of (3,) vectors."""
        if self.found is None:
            return (self.truth.name, "not found", "", "", "", "", "")
        center = np.linalg.norm(self.found.center - self.truth.center)
        size = np.linalg.norm(self.found.extents - self.truth.size)
        return (
            self.truth.name, str(self.found.id), f"{self.iou:.2f}", f"{100 * center:.1f}", f"{100 * size:.1f}",
            str(self.found.views), f"{self.found.confidence:.2f}",
        )  # fmt: skip


MATCH_HEADER = ("true object", "published id", "IoU", "centre off [cm]", "size off [cm]", "keyframes", "confidence")


def match(table: Contingency, truth: Sequence[PlacedObject], found: Sequence[FoundObject]) -> list[Match]:
    """Pair true with found objects, at most one to one, so that the IoUs over all views sum to the most.

    What was found of the room itself takes no part.
    """
    p, g, count = table.pairs
    room = background_id(table)
    found = [f for f in found if f.id != room]
    iou = np.zeros((len(truth), len(found)))
    for i, t in enumerate(truth):
        for j, f in enumerate(found):
            both = count[(g == t.id) & (p == f.id)].sum()
            iou[i, j] = both / max(count[(g == t.id) | (p == f.id)].sum(), 1)
    partner = {i: j for i, j in zip(*linear_sum_assignment(iou, maximize=True), strict=True) if iou[i, j] > 0}
    return [
        Match(t, found[partner[i]], float(iou[i, partner[i]])) if i in partner else Match(t, None, 0.0)
        for i, t in enumerate(truth)
    ]


def unmatched(table: Contingency, matches: Sequence[Match], found: Sequence[FoundObject]) -> list[str]:
    """A line for each found object that is no true one."""
    taken = {m.found.id for m in matches if m.found}
    room = background_id(table)
    kind = {room: "walls and floor, which have a mask as everything else"}
    return [
        f"id {f.id}: {kind.get(f.id, 'no true object')}, {len(f.points)} points" for f in found if f.id not in taken
    ]


def plan(matches: Sequence[Match], size: float) -> NDArray[np.uint8]:
    """The room from above: points of the found objects in label colours, boxes and names of the true ones in black.

    ``size``: see ``Room.size``.
    """
    half_width = PLAN_HALF_WIDTH * size
    side = round(2 * half_width * PLAN_SCALE)
    picture = np.full((side, side, 3), 255, np.uint8)

    def pixel(xy: NDArray) -> NDArray[np.int64]:
        return np.round((np.asarray(xy) * (1, -1) + half_width) * PLAN_SCALE).astype(np.int64)

    by_height = sorted(matches, key=lambda m: m.truth.center[2] + m.truth.size[2] / 2)
    for m in by_height:
        if m.found is None:
            continue
        at = pixel(m.found.points[:, :2])
        at = at[((at >= 1) & (at < side - 1)).all(1)]
        color = label_colors(np.array(m.found.id))
        for offset in ((0, 0), (0, 1), (1, 0), (1, 1)):
            picture[at[:, 1] + offset[1], at[:, 0] + offset[0]] = color
    for m in by_height:
        low, high = (pixel(m.truth.center[:2] + sign * m.truth.size[:2] / 2) for sign in (-1, 1))
        cv2.rectangle(picture, low.tolist(), high.tolist(), (0, 0, 0), 1, cv2.LINE_AA)
        text = f"{m.truth.name}: {m.found.id if m.found else '-'}"
        at = (int(low[0]), int(high[1]) - 4)
        for color, thickness in (((255, 255, 255), 4), ((0, 0, 0), 1)):
            cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, thickness, cv2.LINE_AA)
    return picture
