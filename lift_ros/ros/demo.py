"""``lift demo``: a room with known objects, recorded to a bag, played through the mapping node, and what came out.

The node and the player are the installed executables, each a process of its own; this process is a third one, which
listens to the node and calls its services. They talk over the middleware, as on a robot.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from ament_index_python.packages import get_package_share_path
from std_srvs.srv import SetBool
from tqdm import tqdm

from lift_ros.data.bag_topics import BagOptions
from lift_ros.data.ply import write_points
from lift_ros.data.rosbag import BagCapture
from lift_ros.demo import report
from lift_ros.demo.generate import MASK_TOPIC, START, Demo, check_length, generate
from lift_ros.demo.report import Comparison, FoundObject
from lift_ros.demo.room import OBJECTS, Room
from lift_ros.errors import ConfigError, DatasetError, LiftError
from lift_ros.evaluation.report import markdown_table
from lift_ros.mapping.config import MappingConfig
from lift_ros.ros.bag_parameters import replay_parameters
from lift_ros.ros.processes import Processes, free_domain
from lift_ros.ros.recorder import Recorder
from lift_ros.visualization import write_png

RATE = 10.0  # Hz, of the camera
SIZE = (640, 480)
MARKER = "report.md"  # a directory that holds it is an earlier demo
STEPS = MappingConfig().photometric_steps  # of training that a keyframe brings; the default method needs no other
START_TIMEOUT = 120.0  # s, for the node; torch takes long to load on a busy machine
SETTLE_TIMEOUT = 120.0  # s, for the node to finish its training once the bag has ended
LIST_TIMEOUT = 6.0  # s, for the objects after the last step; they may have come before it was known to be the last
POLL = 0.1  # s


def run(out: Path, frames: int, seed: int, size: tuple[int, int] = SIZE, objects: int = OBJECTS) -> int:
    """Run the demo and write everything to ``out``, in place of an earlier demo there.

    Args:
        frames: length of the recording, ten a second.
        seed: another seed is another room.
        size: width and height of the images.
        objects: in the room.

    Returns:
        exit status, 0: the node ran and everything was written.

    Raises:
        LiftError: no frames, no room of this seed or for so many objects, ``out`` holds something else, the package is
            not built, or the node failed.
    """
    out = out.absolute()
    check_length(frames, RATE)
    try:
        room = Room(seed, objects)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _clear(out)
    # apart from other ROS systems, unless the user says where
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(free_domain())
    domain = os.environ["ROS_DOMAIN_ID"]
    print(f"1/4  A room from seed {seed}: {frames} images of {size[0]}x{size[1]} at {RATE:.0f} Hz, with exact truth")
    with _bar(frames, "rendering", "frame") as show:
        demo = generate(
            out, frames=frames, size=size, seed=seed, objects=objects, rate=RATE,
            progress=lambda done, _: show(done), room=room,
        )  # fmt: skip
    print(f"2/4  Its bag through the mapping node (watch it in RViz with ROS_DOMAIN_ID={domain})")
    growing, finished = out / "labels" / "growing", out / "labels" / "finished"
    for directory in (growing, finished):
        directory.mkdir(parents=True)
    with Processes(out) as processes, Recorder(growing) as recorder:
        _start(demo, processes, recorder)
        _play(demo, frames, processes, recorder, "live, as recorded")
        left = _settle(processes, recorder)
        if left:
            print(f"     {left}")
        recorder.call(SetBool, "pause", data=True)
        recorder.directory = finished
        _play(demo, frames, processes, recorder, "again, the map as it is" if left else "again, the map finished")
        print("3/4  What the node knows, by its services")
        found = recorder.objects()
        saved = recorder.save_map("map")
        asked = _ask_pixels(recorder)
    print("4/4  Held against the truth")
    published = {"labels out": growing, f"labels out, map {'not ' if left else ''}finished": finished}
    text = _report(out, demo, published, recorder, found, asked, left)
    print(f"\n{text}\n")
    for path, what in (
        (out / "over_time.png", "masks that disagree and labels that agree, over time"),
        (out / "overlay.png", "the overlay published last"),
        (out / "plan.png", "found and true objects from above"),
        (out / MARKER, "the figures above"),
        (out / "objects.ply", "points of all objects with their ids; one by one in objects/"),
        (out / "labels", "every label image published"),
        (saved, "the saved map, for: lift objects, lift render"),
        (demo.bag, "the bag; with a ROS distribution: ros2 launch lift_ros replay.launch.py bag:=..."),
        (out / "mapping_node.log", "what the node said"),
    ):
        print(f"{os.path.relpath(path):<28} {what}")
    return 0


def _clear(out: Path) -> None:
    """An empty directory ``out``, with the marker by which the next demo may clear it."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).is_file())):
        raise DatasetError(f"{out} holds something else than a demo; choose another directory")
    try:
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
        (out / MARKER).write_text("The demo did not come to its end.\n")
    except OSError as error:
        raise DatasetError(f"cannot write to {out}: {error}") from None


def _start(demo: Demo, processes: Processes, recorder: Recorder) -> None:
    """Start the node and wait until it runs."""
    parameters = replay_parameters(demo.bag, BagOptions()) | {
        "masks_topic": f"{MASK_TOPIC}/compressed",
        "masks.segmenter": "topic",
        "mapping.max_backlog": "1000",  # what the computer cannot do in time is done once the bag has ended
        "map_directory": str(demo.bag.parent),
        "use_sim_time": "true",
    }
    preset = get_package_share_path("lift_ros") / "config" / "presets" / "cpu.yaml"
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    processes.start("mapping_node", "--ros-args", "--params-file", str(preset), *arguments)
    with _bar(None, "starting the node") as show:
        begin = time.monotonic()
        while recorder.status is None:
            processes.require("mapping_node")
            if time.monotonic() - begin > START_TIMEOUT:
                raise LiftError(f"the node published no status within {START_TIMEOUT:.0f} s")
            time.sleep(POLL)
            show(0)


def _play(demo: Demo, frames: int, processes: Processes, recorder: Recorder, how: str) -> None:
    """Play the bag to its end."""
    before = recorder.labelled
    processes.start("play_bag", str(demo.bag))
    with _bar(frames, f"playing the bag {how}", "frame") as show:
        while processes.is_running("play_bag"):
            processes.require("mapping_node")
            time.sleep(POLL)
            if recorder.labelled != before:
                show(round((recorder.stamp - START) * RATE) + 1, _figures(recorder))


def _settle(processes: Processes, recorder: Recorder) -> str:
    """Wait until the node has done all the training that its keyframes bring, and told what objects that made.

    Returns:
        that it had not when the time was over, as a sentence; empty if it had.
    """
    with _bar(None, "training to the end") as show:
        begin = time.monotonic()
        trained: tuple[float, int] | None = None  # when, and how many object lists had come by then
        while time.monotonic() - begin < SETTLE_TIMEOUT:
            processes.require("mapping_node")
            time.sleep(POLL)
            status = recorder.status
            owed = status.keyframes * STEPS - status.steps - status.skipped_steps
            show(0, {"steps to go": owed, **_figures(recorder)})
            if owed > 0 or status.keyframe_queue:
                trained = None
            elif trained is None:
                trained = time.monotonic(), recorder.lists
            elif recorder.lists > trained[1] or time.monotonic() - trained[0] > LIST_TIMEOUT:
                return ""
    if trained is not None:  # what is published may lag behind the map, but the map is finished
        return ""
    return (
        f"training was not over {SETTLE_TIMEOUT:.0f} s after the bag ({max(owed, 0)} steps to go, "
        f"{status.keyframe_queue} frames waiting): the map is not finished"
    )


def _figures(recorder: Recorder) -> dict[str, int]:
    status = recorder.status
    return {"keyframes": status.keyframes, "Gaussians": status.gaussians, "objects": recorder.listed}


@contextmanager
def _bar(total: int | None, description: str, unit: str = "") -> Iterator[Callable[..., None]]:
    """A progress bar, or just the time where the total is not known; call what it gives with the amount done so far."""
    style = None if total else "{desc}: {elapsed}{postfix}"
    with tqdm(total=total, desc=f"     {description}", unit=unit, mininterval=1.0, bar_format=style) as bar:

        def show(done: int, figures: dict[str, int] | None = None) -> None:
            bar.set_postfix(figures, refresh=False)
            bar.update(done - bar.n if total else 1)

        yield show


def _ask_pixels(recorder: Recorder) -> tuple[int, int]:
    """Ask for the object at a pixel of each region of the last label image: right answers, questions."""
    if recorder.labelled is None:
        return 0, 0
    labels = cv2.imread(str(recorder.labelled), cv2.IMREAD_UNCHANGED)
    ids = np.unique(labels[labels != 0]).tolist()
    pixels = [np.argwhere(labels == label)[0].tolist() for label in ids]
    return sum(recorder.object_at(x, y) == i for i, (y, x) in zip(ids, pixels, strict=True)), len(ids)


def _report(
    out: Path,
    demo: Demo,
    published: dict[str, Path],
    recorder: Recorder,
    found: list[FoundObject],
    asked: tuple[int, int],
    left: str = "",
) -> str:
    """Write pictures, clouds and the report; returns its text. ``left``: what the node had not done in time."""
    with BagCapture(demo.bag) as bag:
        comparison = Comparison.of(bag, published)
    table = list(comparison.scores.values())[-1].table
    matches = report.match(table, demo.room.objects, found)

    write_png(out / "over_time.png", comparison.contact_sheet())
    write_png(out / "plan.png", report.plan(matches, demo.room.size))
    if recorder.overlay is not None:
        write_png(out / "overlay.png", recorder.overlay)
    (out / "objects").mkdir()
    for item in found:
        ids = np.full(len(item.points), item.id)
        write_points(out / "objects" / f"{item.id}.ply", item.points, item.colors, ids)
    everything = [np.concatenate([getattr(f, name) for f in found]) for name in ("points", "colors")] if found else []
    if everything:
        write_points(out / "objects.ply", *everything, np.repeat([f.id for f in found], [len(f.points) for f in found]))

    growing = comparison.scores[next(iter(published))]
    begun = "never" if growing.begun is None else f"{growing.begun - START:.1f} s after the first image"
    status = recorder.status
    drops = ", ".join(f"{n} {reason}" for reason, n in zip(status.drop_reasons, status.drop_counts, strict=True))
    events = ", ".join(f"{n} {kind}" for kind, n in sorted(recorder.events.items()))
    good = sum(match.good for match in matches)
    scores = [score.row(name) for name, score in comparison.scores.items()]
    text = "\n".join(
        [
            "## Labels over time", "",
            "From the first frame on, against the exact truth: an id must mean the same object in every view.", "",
            markdown_table(report.SCORE_HEADER, scores), "",
            f"## Objects: {good} of {len(matches)} found with an IoU above {report.MATCH_IOU}", "",
            markdown_table(report.MATCH_HEADER, [m.row() for m in matches]), "",
            *(f"- {line}" for line in report.unmatched(table, matches, found)), "",
            "## The node", "",
            f"- {status.frames} frames, {status.keyframes} keyframes, {status.gaussians} Gaussians, "
            f"{status.steps} steps of training ({status.skipped_steps} skipped)",
            *([f"- {left}"] if left else []),
            f"- first labels {begun}",
            f"- image callback {1000 * status.image_latency_p99:.1f} ms (99th percentile), labels "
            f"{1000 * status.label_latency:.0f} ms after their image (median)",
            f"- dropped: {drops or 'nothing'}",
            f"- events: {events or 'none'}",
            f"- find_object at {asked[1]} pixels of the last label image: {asked[0]} answers agree with it",
        ]
    )  # fmt: skip
    (out / MARKER).write_text(f"# Demo room through lift_ros\n\n![over time](over_time.png)\n\n{text}\n")
    return text
