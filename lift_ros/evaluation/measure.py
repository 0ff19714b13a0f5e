"""One run of an evaluation: a capture through the mapper, and every figure of what came out.

As a program it reads a run from standard input and writes its figures, so that each run has a process of its own, whose
memory and time are those of this run alone:

    python -m lift_ros.evaluation.measure RESULT.json PICTURES < RUN.json
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.data.capture import Capture
from lift_ros.data.changed import WithoutDepth
from lift_ros.errors import FrameRejected, LiftError
from lift_ros.evaluation.boundaries import inner_bands, mean_boundary_iou, named_quality
from lift_ros.evaluation.hierarchy import click_ious
from lift_ros.evaluation.images import depth_l1, psnr, ssim
from lift_ros.evaluation.mask_sets import HierarchicalIou, mean_mask_set_quality
from lift_ros.evaluation.masks import PARTS, SparseMasks, make_masks
from lift_ros.evaluation.memory import peak_memory
from lift_ros.evaluation.metrics import (
    Contingency,
    IdSwitches,
    assigned_quality,
    background_id,
    background_iou,
    matched_objects,
    panoptic_quality,
    view_consistency,
)
from lift_ros.evaluation.study import Run, write_json
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import ALIGN_STEPS, frame_labels, map_capture
from lift_ros.mapping.prepare import training_device
from lift_ros.masks.base import Segmenter
from lift_ros.visualization import overlay, write_png

SCENE_VIEWS = 12  # views, evenly spread, whose colour and depth are compared
SHOWN_VIEWS = 4  # views that pictures are made of
PICTURE_WIDTH = 320  # pixels

Figures = dict[str, float | int | None]


def measure(run: Run, pictures: Path) -> Figures:
    """Map the capture of ``run`` and compare the result with the truth.

    Args:
        pictures: directory for ``<view>_<what>.png``: image, masks, truth (if there is one) and labels of some views,
            labels that found their object in its colour.

    Returns:
        what docs/evaluation.md lists, by name; None where the capture lacks what it takes.
    """
    with run.open() as capture:
        config = run.config(next(iter(capture.frames)).camera.width)
        seen = capture if run.use_depth else WithoutDepth(capture)
        segmenter = make_masks(run.masks, seen, config, run.seed, run.truth)
        sparse = SparseMasks(segmenter, run.mask_share)
        mapper = Mapper(config, sparse, capture.world_frame)
        truth = Truth(capture, run.truth)
        online = Online(seen, truth, mapper, sparse)
        load = os.getloadavg()[0]
        wall, cpu = time.perf_counter(), time.process_time()
        skipped = map_capture(seen, mapper, on_frame=online.watch, on_last=online.look_back)
        wall, cpu = time.perf_counter() - wall - online.wall, time.process_time() - cpu - online.cpu
        for reason, count in sorted(skipped.items()):
            print(f"{count} frames not used: {reason}", file=sys.stderr)
        figures: Figures = {
            "seconds": wall,
            "cpu_seconds": cpu,
            "memory_mib": peak_memory() / 2**20,
            "gpu_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_before": load,
            "frames": mapper.stats.frames,
            "frames_skipped": sum(skipped.values()),
            "keyframes": mapper.stats.keyframes,
            "mask_views": sparse.used,
            "gaussians": mapper.stats.gaussians,
            "map_objects": len(mapper.snapshot.tracks),
        }
        return figures | _score(seen, truth, mapper, segmenter, online, pictures)


@dataclass(frozen=True)
class Truth:
    """The true instances of a capture, if it holds any under that name.

    Attributes:
        unreadable: names of the frames whose labels were asked for and cannot be read.
    """

    capture: Capture
    name: str
    unreadable: set[str] = field(default_factory=set)

    @property
    def known(self) -> bool:
        return self.name in self.capture.recorded_names

    @property
    def void(self) -> int | None:
        """The id of pixels that nobody labelled; None where what is not labelled is background."""
        return 0 if self.name in self.capture.incomplete_names else None

    def labels(self, frame: Frame) -> NDArray[np.int32] | None:
        """(H, W) true instances of a frame, 0 where it is ignored; None where there are none, or none that can be
        read.
        """
        return self._read(self.name, frame) if self.known else None

    def overlapping(self, frame: Frame) -> list[NDArray[np.int32]]:
        """See ``Capture.overlapping_masks``, for a frame whose ``labels`` were read."""
        masks = self.capture.overlapping_masks(self.name, frame)
        return masks if frame.ignored is None else [np.where(frame.ignored, 0, mask) for mask in masks]

    def parts(self, frame: Frame) -> NDArray[np.int32] | None:
        """The same of their parts."""
        return self._read(PARTS, frame) if PARTS in self.capture.recorded_names else None

    def _read(self, name: str, frame: Frame) -> NDArray[np.int32] | None:
        try:
            labels = self.capture.recorded_labels(name, frame)
        except FrameRejected:
            self.unreadable.add(frame.name)
            return None
        return labels if labels is None or frame.ignored is None else np.where(frame.ignored, 0, labels)


@dataclass
class Online:
    """What a robot has: the labels of each frame when it came in, and those of the map after the last. And what it took
    to look at them.

    Attributes:
        table: labels by the map before the training at the end, against the truth.
        live: labels of each frame when it came in, against the truth.
    """

    capture: Capture
    truth: Truth
    mapper: Mapper
    masks: SparseMasks
    switches: IdSwitches = field(default_factory=IdSwitches)
    table: Contingency = field(default_factory=Contingency)
    live: Contingency = field(default_factory=Contingency)
    wall: float = 0.0
    cpu: float = 0.0
    _labels: dict[str, bytes] = field(default_factory=dict)

    def watch(self, frame: Frame) -> None:
        """Called by ``map_capture`` after each frame."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.masks.next_frame()
        labels = frame_labels(self.mapper, frame)
        # little memory is taken, as that of the mapper is measured
        self._labels[frame.name] = zlib.compress(np.ascontiguousarray(labels, np.uint32), 1)
        truth = self.truth.labels(frame)
        if truth is not None:
            self.switches.add(labels, truth, frame.stamp)
            self.live.add(labels, truth)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def look_back(self) -> None:
        """Called by ``map_capture`` after the last frame."""
        wall, cpu = time.perf_counter(), time.process_time()
        if self.truth.known:
            for frame in self.capture.frames:
                truth = self.truth.labels(frame)
                if truth is not None:
                    self.table.add(frame_labels(self.mapper, frame), truth)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def labels(self, frame: Frame) -> NDArray[np.uint32] | None:
        """(H, W) labels of a frame at its time; None if it was not taken in."""
        if frame.name not in self._labels:
            return None
        return np.frombuffer(zlib.decompress(self._labels[frame.name]), np.uint32).reshape(frame.image.shape[:2])


@dataclass(frozen=True)
class Compared:
    """Labels of one view against the truth, and their inner bands; ``known`` without pixels that nobody labelled."""

    all: Contingency
    all_bands: Contingency
    known: Contingency
    known_bands: Contingency

    @classmethod
    def of(cls, labels: NDArray, truth: NDArray, void: int | None) -> Compared:
        bands = inner_bands(labels), inner_bands(truth)
        whole = Contingency.of([labels], [truth]), Contingency.of([bands[0]], [bands[1]])
        if void is None:
            return cls(*whole, *whole)
        known = truth != void
        part = Contingency.of([labels[known]], [truth[known]]), Contingency.of([bands[0][known]], [bands[1][known]])
        return cls(*whole, *part)


def _score(
    seen: Capture, truth_of: Truth, mapper: Mapper, segmenter: Segmenter, online: Online, pictures: Path
) -> Figures:
    """Figures of the finished map; ``seen`` is the capture as the mapper had it, maybe without depth."""
    capture, void = truth_of.capture, truth_of.void
    table, rendered, agreement = Contingency(), Contingency(), Contingency()
    views: list[Compared] = []
    whole: list[Compared] = []  # with the true masks uncut, where they overlap
    scene: list[tuple[float, float, float]] = []
    clicks: list[HierarchicalIou] = []
    shown: list[tuple[Frame, NDArray, NDArray | None]] = []
    usable = seen.usable  # known, as all frames were mapped by now
    compared, pictured = (set(_spread(usable, n)) for n in (SCENE_VIEWS, SHOWN_VIEWS))
    for index in usable:
        try:
            frame = seen.load(index)
        except FrameRejected:
            continue
        labels, truth, before = frame_labels(mapper, frame), truth_of.labels(frame), online.labels(frame)
        if before is not None:
            agreement.add(before, labels)
        if truth is not None:
            views.append(Compared.of(labels, truth, void))
            table.update(views[-1].all)
            rendered.add(mapper.snapshot.labels_from(mapper.snapshot.locate(frame, ALIGN_STEPS)), truth)
            whole += [Compared.of(labels, mask, None) for mask in truth_of.overlapping(frame)] or views[-1:]
        if index in compared:
            scene.append(_scene_errors(mapper, frame if seen is capture else _measured(capture, index, frame)))
            parts = None if truth is None else truth_of.parts(frame)
            clicks += [] if parts is None else click_ious(mapper, frame, parts, truth, ALIGN_STEPS)
        if index in pictured:
            shown.append((frame, labels, truth))

    _draw(shown, segmenter, table if views else None, void, pictures)
    consistency = view_consistency(agreement)
    figures: Figures = {
        "consistency": consistency.published,
        "consistency_all": consistency.all,
        "psnr": _mean([view[0] for view in scene]),
        "ssim": _mean([view[1] for view in scene]),
        "depth_l1": _mean([view[2] for view in scene]),
        "part_iou": _mean([click.part for click in clicks]),
        "whole_iou": _mean([click.whole for click in clicks]),
        "hierarchical_iou": _mean([click.mean for click in clicks]),
        "truth_unreadable": len(truth_of.unreadable),
    }
    if not views:
        return figures | dict.fromkeys(ACCURACY)
    accuracy = _accuracy(table, rendered, views, whole, online, void)
    if not capture.timed:
        accuracy["id_switches_per_object_minute"] = None
    return figures | accuracy


ACCURACY = (
    "objects", "pq", "pq_rendered", "pq_online", "pq_live", "sq", "rq", "matched", "spurious", "missed",
    "background_iou", "pq_with_background", "miou", "f_score", "boundary_iou", "named_miou", "named_mbiou",
    "weighted_iou", "best_dice", "symmetric_best_dice", "id_switches", "id_switches_per_object_minute",
)  # fmt: skip


def _accuracy(
    table: Contingency,
    rendered: Contingency,
    views: list[Compared],
    whole: list[Compared],
    online: Online,
    void: int | None,
) -> Figures:
    all_bands = Contingency()
    for view in views:
        all_bands.update(view.known_bands)
    quality, assigned = panoptic_quality(table, void), assigned_quality(table, void)
    named = named_quality([view.all for view in whole], [view.all_bands for view in whole])
    sets = mean_mask_set_quality([view.known for view in views], background_id(table, void))
    background = with_background = None
    if void is None and (background := background_iou(table)) is not None:
        # the mean of two categories, one of which is the background (Bhalgat et al., Contrastive Lift)
        with_background = (quality.pq + (background if background > 0.5 else 0)) / 2
    values = (
        quality.matched + quality.missed, quality.pq, panoptic_quality(rendered, void).pq,
        panoptic_quality(online.table, void).pq, panoptic_quality(online.live, void).pq, quality.sq, quality.rq,
        quality.matched, quality.spurious, quality.missed, background, with_background, assigned.miou,
        assigned.f_score, mean_boundary_iou(all_bands, matched_objects(table, void)), named.miou, named.mbiou,
        sets.iou, sets.best_dice, sets.symmetric_best_dice,
        None if online.switches.per_object_minute is None else online.switches.switches,
        online.switches.per_object_minute,
    )  # fmt: skip
    return dict(zip(ACCURACY, values, strict=True))


def _measured(capture: Capture, index: int, frame: Frame) -> Frame:
    """``frame`` with the depth that the mapper was not given, if there is any that can be read."""
    try:
        return capture.load(index)
    except FrameRejected:
        return frame


def _scene_errors(mapper: Mapper, frame: Frame) -> tuple[float, float, float]:
    """PSNR, SSIM and depth L1 (NaN where there is no depth) of one view at the resolution of mapping."""
    small = frame.at_width(mapper.config.mapping.image_width)
    rendering = mapper.snapshot.render(mapper.snapshot.locate(small, ALIGN_STEPS))
    image = (255 * rendering.image).round().byte().cpu().numpy()
    if small.ignored is not None:  # as if it showed what it should
        image = np.where(small.ignored[..., None], small.image, image)
    depth = float("nan")
    if small.depth is not None:
        depth = depth_l1(rendering.depth.cpu().numpy(), small.depth)
    return psnr(image, small.image), ssim(image, small.image), depth


def _draw(
    shown: list[tuple[Frame, NDArray, NDArray | None]],
    segmenter: Segmenter,
    table: Contingency | None,
    void: int | None,
    out: Path,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for number, (frame, labels, truth) in enumerate(shown):
        height = max(1, round(frame.camera.height * PICTURE_WIDTH / frame.camera.width))
        image = cv2.resize(frame.image, (PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
        try:
            masks = segmenter.segment(frame).label_image()
        except FrameRejected:
            masks = np.zeros(frame.image.shape[:2], np.int32)
        pictures = {"masks": masks, "labels": labels if table is None else _in_true_colors(labels, table, void)}
        if truth is not None:
            pictures["truth"] = truth
        write_png(out / f"{number}_image.png", image)
        for name, ids in pictures.items():
            small = cv2.resize(ids.astype(np.float32), (PICTURE_WIDTH, height), interpolation=cv2.INTER_NEAREST)
            write_png(out / f"{number}_{name}.png", overlay(image, small.astype(np.int64), alpha=0.65))


def _in_true_colors(labels: NDArray, table: Contingency, void: int | None) -> NDArray[np.int64]:
    """Labels that found their object get its id, the background 0, and the rest ids above all true ones."""
    above = int(table.pairs[1].max()) + 1
    ids, index = np.unique(labels, return_inverse=True)
    objects = {p: g for g, p in matched_objects(table, void).items()}
    background = background_id(table, void)
    new = [0 if i in (0, background) else objects.get(i, above + i) for i in ids.tolist()]
    return np.array(new, np.int64)[index.reshape(labels.shape)]


def _spread(indices: list[int], wanted: int) -> list[int]:
    """That many of ``indices``, evenly spread; all if there are fewer."""
    count = len(indices)
    return [indices[k] for k in np.linspace(0, count - 1, min(wanted, count)).round().astype(int)]


def _mean(values: list[float]) -> float | None:
    """Of those that are not NaN; None where there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None


def device_name(device: torch.device) -> str:
    """For people: CPU, or GPU with its name."""
    return "CPU" if device.type == "cpu" else f"GPU ({torch.cuda.get_device_name(device)})"


def main() -> None:
    """Read a run and what is to define it, measure it, and write its figures; whoever started this reports errors."""
    result, pictures = Path(sys.argv[1]), Path(sys.argv[2])
    wanted = json.load(sys.stdin)
    run = Run(**wanted["run"])
    if run.definition() != wanted["defined_by"]:
        raise LiftError(
            "the package has changed since the evaluation began, and its parameters with it; start it again"
        )
    figures, device = measure(run, pictures), device_name(training_device(run.config()))
    write_json(result, {"defined_by": wanted["defined_by"], "figures": figures, "device": device})


if __name__ == "__main__":
    main()
