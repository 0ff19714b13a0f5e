"""Seconds that MobileSAM takes on this processor, in ONNX Runtime and in torch: an image, and each prompt point.

    python benchmarks/sam.py [--prompts 22 256]

The weights are random: the time of a network does not depend on them. What a keyframe costs is the encoder once and
the decoder once a point; `benchmarks/prompts.py` counts the points that a map saves, and the masks that are found with
them. Both take turns within each round, so that a busy machine slows both. Figures are medians.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from common import by_turns

from lift_ros.masks.mobile_sam import build_mobile_sam
from lift_ros.masks.onnx import OnnxSam, export_sam
from lift_ros.masks.sam import TorchSam

SIZE = (480, 640)
BATCHES = (1, 16, 64)  # points decoded at once
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=(22, 256), help="points of a keyframe")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    sam = build_mobile_sam().eval()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as directory:
        export_sam(sam, directory)
        models = {"ONNX Runtime": OnnxSam(directory), "torch": TorchSam(sam, "cpu")}
        points = {count: rng.uniform(0, 640, (count, 2)).astype(np.float32) for count in BATCHES}
        runs: dict[tuple[str, int], Callable[[], object]] = {}  # by model and points, 0 for the encoder
        for name, model in models.items():
            runs[name, 0] = partial(model.embed, image)
            embedding = model.embed(image)
            runs |= {(name, count): partial(model.decode, embedding, points[count]) for count in BATCHES}
        times = by_turns(runs, ROUNDS)
    heads = ["encoder [ms]", *(f"point, {count} at once [ms]" for count in BATCHES)]
    heads += [f"keyframe of {count} points [s]" for count in args.prompts]
    print("| | " + " | ".join(heads) + " |\n" + "|---" * (1 + len(heads)) + "|")
    for name in models:
        encoder = statistics.median(times[name, 0])
        decoder = [statistics.median(times[name, count]) / count for count in BATCHES]
        cells = [f"{value:.0f}" for value in (encoder, *decoder)]
        cells += [f"{(encoder + count * min(decoder)) / 1e3:.1f}" for count in args.prompts]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
