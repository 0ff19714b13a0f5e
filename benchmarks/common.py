"""What benchmarks share: clocks, taking turns, a capture frame by frame, and how good the labels of a map are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.data import Capture
from lift_ros.errors import FrameRejected
from lift_ros.evaluation.metrics import Contingency, panoptic_quality
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import UPDATE_EVERY

CPU = torch.device("cpu")
TRUTH = "instances"

Key = TypeVar("Key")


def now(device: torch.device = CPU) -> NDArray[np.float64]:
    """(2,) s of the clock and of the processor, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return np.array([time.perf_counter(), time.process_time()])


def by_turns(runs: Mapping[Key, Callable[[], object]], rounds: int, warm_up: int = 0) -> dict[Key, list[float]]:
    """Milliseconds that each took in each round, so that a busy machine slows all; ``warm_up`` rounds do not count."""
    times: dict[Key, list[float]] = {key: [] for key in runs}
    for _ in range(warm_up + rounds):
        for key, run in runs.items():
            begin = time.perf_counter()
            run()
            times[key].append(1e3 * (time.perf_counter() - begin))
    return {key: each[warm_up:] for key, each in times.items()}


def take(mapper: Mapper, frame: Frame) -> bool:
    """Take in a frame and do the training that it brings; whether it became a keyframe. A bad one does not."""
    try:
        new = mapper.process(frame)
    except FrameRejected as error:
        print(f"{frame.name}: {error}", file=sys.stderr)
        return False
    while new and mapper.step():
        pass
    return new


def is_due(mapper: Mapper) -> bool:
    """Whether ``lift map`` would update the objects after this keyframe."""
    return mapper.stats.taken % UPDATE_EVERY == 0


def recorded(capture: Capture, name: str, frame: Frame) -> NDArray[np.int32] | None:
    """Labels recorded with a frame, None where there are none that can be used."""
    try:
        return capture.recorded_labels(name, frame)
    except FrameRejected as error:
        print(f"{frame.name}: {error}", file=sys.stderr)
        return None


def labelled(capture: Capture, every: int) -> Iterator[tuple[Frame, NDArray[np.int32]]]:
    """Every so many frames of a capture with their true instances."""
    for number, frame in enumerate(capture.frames):
        if number % every == 0 and (truth := recorded(capture, TRUTH, frame)) is not None:
            yield frame, truth


def quality(
    mapper: Mapper,
    views: Iterable[tuple[Frame, NDArray]],
    ids: NDArray[np.int64] | None = None,
    borders: bool = True,
) -> float:
    """PQ_scene (things) of the map on frames with their truth.

    Args:
        ids: (N,), with other objects than it has found.
        borders: of labels whose borders follow the frame, else of those that the map alone has.
    """
    snapshot = mapper.snapshot
    if ids is not None:
        snapshot = replace(snapshot, ids=torch.from_numpy(ids).to(snapshot.ids.device))
    table = Contingency()
    for frame, truth in views:
        width = mapper.config.mapping.image_width
        labels = snapshot.labels_of(frame, width)[0] if borders else snapshot.labels_from(snapshot.locate(frame))
        table.add(labels, truth)
    return panoptic_quality(table).pq
