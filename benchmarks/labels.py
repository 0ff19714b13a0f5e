"""Time the label image of a frame: rendered from the map, borders moved to those of the frame.

    python benchmarks/labels.py

The reference blends 16 channels and takes the greatest, which is what a system does that renders embeddings or
probabilities to label a pixel. All take turns within each round, so that a busy machine slows all; figures are medians.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import statistics

import numpy as np
import torch
from common import by_turns
from rooms import camera, frame, house

from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.render import follow_edges, rasterize

COUNTS = (20_000, 100_000, 200_000)
SIZES = ((320, 240), (640, 480))  # of the frame; maps are rendered 320 pixels wide
WIDTH = 320
CHANNELS = 16
ROUNDS = 15


def measure(view: MapSnapshot, width: int, height: int) -> str:
    """One row of the table."""
    scene, posed = view.scene, camera(width, height)
    seen = frame(view, posed)
    labels = view.labels_of(seen, WIDTH)[0].astype(np.int32)
    channels = torch.rand(len(scene), CHANNELS)

    def blend() -> torch.Tensor:
        image = rasterize(scene.splats, channels, posed).image
        return image.argmax(2)

    runs = {
        "labels": lambda: view.labels_of(seen, WIDTH),
        "borders": lambda: follow_edges(labels, seen.image, seen.depth),
        "channels": blend,
    }
    times = by_turns(runs, ROUNDS)
    all_of_it, borders, blended = (statistics.median(values) for values in times.values())
    ratio = statistics.median(c / a for c, a in zip(times["channels"], times["labels"], strict=True))
    cells = (f"{len(scene):,}", f"{width} x {height}", f"{all_of_it:.1f}", f"{1e3 / all_of_it:.0f}", f"{borders:.1f}")
    return "| " + " | ".join((*cells, f"{blended:.1f}", f"{ratio:.1f}")) + " |"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(2)
    print("| Gaussians | frame | labels [ms] | labels [Hz] | of which borders [ms] | 16 channels [ms] | times faster |")
    print("|---" * 7 + "|")
    for count in COUNTS:
        view = house(count)
        for width, height in SIZES:
            print(measure(view, width, height), flush=True)


if __name__ == "__main__":
    main()
