"""Time the label image of a frame: rendered from the map, borders moved to those of the frame.

    python benchmarks/labels.py

The reference blends 16 channels and takes the greatest, which is what a system does that renders embeddings or
probabilities to label a pixel. All take turns within each round, so that a busy machine slows all; figures are medians.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rasterizer import camera, room

from lift_ros.frame import Frame
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.render import follow_edges, rasterize
from lift_ros.scene.gaussians import GaussianScene, Seeds

COUNTS = (20_000, 100_000, 200_000)
SIZES = ((320, 240), (640, 480))  # of the frame; maps are rendered 320 pixels wide
WIDTH = 320
OBJECTS = 50
CHANNELS = 16
ROUNDS = 15


def snapshot(count: int) -> MapSnapshot:
    """A room whose objects are cells of space."""
    made = room(count, 3)
    scene = GaussianScene.empty()
    scene.append(Seeds(made["means"], made["quats"], made["scales"], made["opacities"], made["channels"]))
    centres = made["means"][torch.randperm(count, generator=torch.Generator().manual_seed(1))[:OBJECTS]]
    ids = torch.cdist(made["means"], centres).argmin(1)
    return MapSnapshot(scene, ids, torch.zeros(count))


def frame(view: MapSnapshot, width: int, height: int) -> Frame:
    """What a camera in the room sees."""
    posed = camera(width, height)
    rendering = view.render(posed)
    pose = np.linalg.inv(posed.viewmat.double().numpy())
    image = (255 * rendering.image).byte().numpy()
    return Frame(image, posed.intrinsics, pose, 0.0, rendering.depth.numpy())


def milliseconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - begin)


def measure(view: MapSnapshot, width: int, height: int) -> str:
    """One row of the table."""
    scene, posed, seen = view.scene, camera(width, height), frame(view, width, height)
    labels = view.labels_of(seen, WIDTH)[0].astype(np.int32)
    channels = torch.rand(len(scene), CHANNELS)

    def blend() -> torch.Tensor:
        image = rasterize(scene.means, scene.quats, scene.scales, scene.opacities, channels, posed).image
        return image.argmax(2)

    runs = {
        "labels": lambda: view.labels_of(seen, WIDTH),
        "borders": lambda: follow_edges(labels, seen.image, seen.depth),
        "channels": blend,
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(milliseconds(run))
    all_of_it, borders, blended = (statistics.median(values) for values in times.values())
    ratio = statistics.median(c / a for c, a in zip(times["channels"], times["labels"], strict=True))
    cells = (f"{len(scene):,}", f"{width} x {height}", f"{all_of_it:.1f}", f"{1e3 / all_of_it:.0f}", f"{borders:.1f}")
    return "| " + " | ".join((*cells, f"{blended:.1f}", f"{ratio:.1f}")) + " |"


def main() -> None:
    torch.set_num_threads(2)
    print("| Gaussians | frame | labels [ms] | labels [Hz] | of which borders [ms] | 16 channels [ms] | times faster |")
    print("|---" * 7 + "|")
    for count in COUNTS:
        view = snapshot(count)
        for width, height in SIZES:
            print(measure(view, width, height), flush=True)


if __name__ == "__main__":
    main()
