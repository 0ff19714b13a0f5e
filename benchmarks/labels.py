"""How well masks that disagree from view to view become labels that agree: captures with true instances.

    python benchmarks/labels.py CAPTURE [CAPTURE ...] --masks L0 L1 L2 [--no-depth] [--scale 0.5] [--seed 0]

For each capture and each set of recorded masks: the panoptic quality over the whole scene (things) and the mIoU of the
labels of every frame, at the input's resolution, from the finished map; the same of the masks as they are; and, of the
labels as they were when each frame came in, the id switches and the share of pixels whose id is that of the final map.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.evaluation import Contingency, IdSwitches, assigned_quality, panoptic_quality, view_consistency
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import CaptureMasks, frame_labels, map_capture
from lift_ros.options import with_values

COLUMNS = (
    "capture", "masks", "PQ raw", "PQ", "SQ", "RQ", "matched", "spurious", "missed", "mIoU", "id switches",
    "consistency", "keyframes", "Gaussians", "seconds", "CPU s",
)  # fmt: skip


def measure(path: Path, masks: str, use_depth: bool, scale: float, seed: int) -> list[str]:
    """One row of the table."""
    with open_capture(path) as capture:
        first = next(iter(capture.frames))
        values = {"mapping.image_width": round(scale * first.camera.width), "mapping.seed": seed}
        mapper = Mapper(with_values(Config(), values), CaptureMasks(capture, masks), capture.world_frame)
        switches, online = IdSwitches(), {}

        def watch(frame: Frame) -> None:
            online[frame.name] = frame_labels(mapper, frame)
            switches.add(online[frame.name], capture.recorded_labels("instances", frame), frame.stamp)

        wall, cpu = time.perf_counter(), time.process_time()
        map_capture(capture, mapper, use_depth, on_frame=watch)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        labels, raw, agreement = Contingency(), Contingency(), Contingency()
        for number, frame in enumerate(capture.frames):
            truth = capture.recorded_labels("instances", frame)
            final = frame_labels(mapper, frame)
            labels.add(final, truth)
            agreement.add(online[frame.name], final)
            # ids of one view mean nothing in another: keep them apart
            view = capture.recorded_labels(masks, frame)
            raw.add(view + (view > 0) * 1000 * number, truth)
        quality = panoptic_quality(labels)
        return [
            path.name + ("" if use_depth else " (RGB)"), masks, f"{panoptic_quality(raw).pq:.3f}", f"{quality.pq:.3f}",
            f"{quality.sq:.3f}", f"{quality.rq:.3f}", str(quality.matched), str(quality.spurious), str(quality.missed),
            f"{assigned_quality(labels).miou:.3f}", str(switches.switches),
            f"{view_consistency(agreement).published:.3f}",
            str(mapper.stats.keyframes), str(mapper.stats.gaussians), f"{wall:.0f}", f"{cpu:.0f}",
        ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", nargs="+", type=Path)
    parser.add_argument("--masks", nargs="+", default=["L0", "L1", "L2"])
    parser.add_argument("--no-depth", action="store_true")
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), sep="\n")
    for path in args.captures:
        for masks in args.masks:
            print("| " + " | ".join(measure(path, masks, not args.no_depth, args.scale, args.seed)) + " |", flush=True)


if __name__ == "__main__":
    main()
