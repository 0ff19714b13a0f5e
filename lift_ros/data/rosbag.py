"""Captures recorded as rosbag2 (MCAP or SQLite): images, intrinsics, optional depth, poses at the images' stamps."""

from __future__ import annotations

import math
import os
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lift_ros.data.bag_file import BagFile
from lift_ros.data.bag_storage import COMPRESSED_SUFFIX
from lift_ros.data.bag_topics import BagOptions, base_topic, choose_pose_topic, choose_topics
from lift_ros.data.capture import Capture
from lift_ros.data.depth_message import depth_of_message
from lift_ros.data.files import camera_mask
from lift_ros.data.image_codec import message_labels, message_rgb
from lift_ros.data.transforms import TransformTree, same_place
from lift_ros.data.undistort import Undistorter, same_calibration
from lift_ros.errors import DatasetError, FrameRejected
from lift_ros.frame import Frame

WORLD_FRAMES = ("map", "odom", "world")  # REP-105: the most global one that is there


@dataclass(frozen=True)
class _Entry:
    """Where a message is: the stamp of its header and the time it was recorded under, ns."""

    stamp_ns: int
    time_ns: int


class BagCapture(Capture):
    """A rosbag2 directory or storage file. Recorded labels go by their topics, less ``/compressed``.

    The bag is scanned once for stamps and poses; images are read when asked for.
    """

    def __init__(self, path: str | Path, options: BagOptions | None = None, *, max_depth: float = math.inf) -> None:
        """Scan the bag. Raises DatasetError; see ``open_capture``."""
        super().__init__()
        path = Path(path)
        options = options or BagOptions()
        self.name = Path(os.path.abspath(path).removesuffix(COMPRESSED_SUFFIX)).stem  # not of what it may be a link to
        self._max_depth = max_depth
        self._bag = BagFile(path)
        try:
            self._scan(options)
        except BaseException:
            self._bag.close()
            raise

    def _scan(self, options: BagOptions) -> None:
        bag = self._bag
        self._mask = camera_mask(options.camera_mask)
        self._mask_files = [Path(options.camera_mask).expanduser()] if options.camera_mask else []
        self.topics = choose_topics(bag, options)
        self._poses = _Poses(bag, options, self.topics.camera_frame)
        self.world_frame = self._poses.world_frame
        self._label_topics = {base_topic(topic): topic for topic in self.topics.labels}
        self.recorded_names = tuple(self._label_topics)

        indexed = [self.topics.image, *self.topics.labels]
        if self.topics.depth and self._is_registered():
            indexed.append(self.topics.depth)
        index: dict[str, dict[int, _Entry]] = {topic: {} for topic in indexed}
        self._infos: list[tuple[int, Undistorter | FrameRejected]] = []
        self._last_info: Any = None
        repeated: Counter[str] = Counter()
        for topic, time_ns, message in bag.messages([*indexed, self.topics.camera_info]):
            stamp_ns = stamp_of(message)
            if topic == self.topics.camera_info:
                self._add_info(stamp_ns, message)
            elif stamp_ns in index[topic]:
                repeated[topic] += 1
            else:
                index[topic][stamp_ns] = _Entry(stamp_ns, time_ns)
        for topic, count in repeated.items():
            bag.problems.append(f"{count} messages of {topic} repeat the stamp of an earlier one and are not used")
        self._index = {topic: [entries[stamp] for stamp in sorted(entries)] for topic, entries in index.items()}
        self._images = self._index[self.topics.image]
        self._depths = self._index.get(self.topics.depth or "", [])
        self._depth_slop_ns = round(options.depth_slop * 1e9)
        without = [entry for entry in self._images if self._depth_of(entry) is None]
        self.has_depth = len(without) < len(self._images)
        within = f"within {options.depth_slop:g} s"
        if self._depths and without and not self.has_depth:
            bag.problems.append(f"no frame has depth: {self.topics.depth} has none {within} of an image")
        elif self._depths and without:
            bag.problems.append(
                f"{len(without)} of {len(self._images)} frames have no depth {within}: {_name(without[0])}"
                + (", ..." if len(without) > 1 else "")
            )
        self._infos.sort(key=lambda entry: entry[0])
        self.problems = bag.problems

    def __len__(self) -> int:
        return len(self._images)

    def labelled(self, name: str) -> int:
        """See ``Capture.labelled``."""
        images = {entry.stamp_ns for entry in self._images}
        return sum(entry.stamp_ns in images for entry in self._index[self._label_topics[name]])

    def first_labels(self, name: str) -> str:
        """See ``Capture.first_labels``."""
        return f"a message of {self._label_topics[name]} with the stamp of the image, {_name(self._images[0])}"

    @property
    def files(self) -> list[Path]:
        """See ``Capture.files``."""
        return self._bag.files + self._mask_files

    def load(self, index: int, depth: bool = True) -> Frame:
        """See ``Capture.load``."""
        entry = self._images[index]
        T_world_camera = self._poses.at(entry.stamp_ns)
        undistorter = self._undistorter_at(entry.stamp_ns)
        image = undistorter.image(message_rgb(self._read(self.topics.image, entry)))
        measured = None
        if depth and (nearest := self._depth_of(entry)):
            measured = depth_of_message(self._read(self.topics.depth, nearest), undistorter, self._max_depth)
        ignored = None if self._mask is None else undistorter.ignored(self._mask)
        return Frame(
            image, undistorter.camera, T_world_camera, entry.stamp_ns / 1e9, measured, _name(entry), ignored
        )  # fmt: skip

    def _depth_of(self, image: _Entry) -> _Entry | None:
        nearest = _nearest(self._depths, image.stamp_ns)
        return nearest if nearest and abs(nearest.stamp_ns - image.stamp_ns) <= self._depth_slop_ns else None

    def _load_labels(self, name: str, frame: Frame) -> NDArray | None:
        seconds, nanoseconds = frame.name.split("_")
        stamp_ns = int(seconds) * 1_000_000_000 + int(nanoseconds)
        topic = self._label_topics[name]
        nearest = _nearest(self._index[topic], stamp_ns)
        if nearest is None or nearest.stamp_ns != stamp_ns:
            return None
        return self._undistorter_at(stamp_ns).labels(message_labels(self._read(topic, nearest)))

    def close(self) -> None:
        """Close the bag's files."""
        self._bag.close()

    def _read(self, topic: str | None, entry: _Entry) -> Any:
        for _, _, message in self._bag.messages([topic or ""], entry.time_ns, entry.time_ns + 1):
            if stamp_of(message) == entry.stamp_ns:
                return message
        raise FrameRejected("bag_unreadable", f"the message of {topic} at {entry.time_ns} ns cannot be read any more")

    def _add_info(self, stamp_ns: int, info: Any) -> None:
        if self._infos and same_calibration(info, self._last_info):
            return
        self._last_info = info
        rectified = "image_rect" in self.topics.image  # the names image_proc gives
        try:
            self._infos.append((stamp_ns, Undistorter.from_camera_info(info, rectified)))
        except FrameRejected as error:
            self._infos.append((stamp_ns, error))

    def _undistorter_at(self, stamp_ns: int) -> Undistorter:
        """The calibration valid at a stamp: the latest before it, else the first."""
        if not self._infos:
            raise FrameRejected("camera_info_missing", f"no message of {self.topics.camera_info} can be read")
        position = bisect_right([stamp for stamp, _ in self._infos], stamp_ns)
        undistorter = self._infos[max(position - 1, 0)][1]
        if isinstance(undistorter, FrameRejected):
            raise undistorter
        return undistorter

    def _is_registered(self) -> bool:
        """Whether the depth is seen from the colour camera, as one without a frame is taken to be; a note in
        ``problems`` where it is not.
        """
        camera, depth = self.topics.camera_frame, self.topics.depth_frame
        if depth in ("", camera) or self._poses.coincide(camera, depth):
            return True
        self._bag.problems.append(
            f"depth of {self.topics.depth} is given in frame '{depth}', the images in '{camera}': it is not "
            "registered to them and is not used (record aligned depth, or register it with depth_image_proc)"
        )
        return False


class _Poses:
    """Pose of the camera in the world over the recording, from /tf or a pose topic."""

    def __init__(self, bag: BagFile, options: BagOptions, camera_frame: str) -> None:
        self._camera = camera_frame.lstrip("/")
        self._tf = read_tf(bag)
        self._tree, self._body = self._tf, self._camera
        topic, self.world_frame = choose_pose_source(bag, options, self._tf, self._camera)
        if topic:
            self._read_topic(bag, topic, options)
        rejected = self._tf.rejected if self._tree is self._tf else self._tf.rejected + self._tree.rejected
        for reason, count in rejected.items():
            bag.problems.append(f"{count} recorded poses were dropped: {reason}")

    def _read_topic(self, bag: BagFile, topic: str, options: BagOptions) -> None:
        self._tree = TransformTree()
        for _, _, message in bag.messages([topic]):
            pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
            p, q = pose.position, pose.orientation
            self._body = (options.pose_frame or getattr(message, "child_frame_id", "") or self._camera).lstrip("/")
            self._tree.add(
                stamp_of(message), self.world_frame, self._body, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w)
            )  # fmt: skip
        if options.world_frame.lstrip("/") not in ("", self.world_frame):
            raise DatasetError(f"{topic} gives poses in '{self.world_frame}', not in '{options.world_frame}' as asked")
        if self._body not in self._tf.ancestors(self._camera):
            raise DatasetError(
                f"{topic} gives the pose of '{self._body}', but /tf and /tf_static do not connect it to the camera's "
                f"frame '{self._camera}'"
            )

    def at(self, stamp_ns: int) -> NDArray[np.float64]:
        """T_world_camera (4, 4). Raises FrameRejected ``pose_missing``."""
        T = self._tree.lookup(self.world_frame, self._body, stamp_ns)
        return T if self._body == self._camera else T @ self._tf.lookup(self._body, self._camera, stamp_ns)

    def coincide(self, first: str, second: str) -> bool:
        """Whether two frames are the same but for their names."""
        try:
            return same_place(self._tf.lookup(first, second, 0))
        except FrameRejected:
            return False


def read_tf(bag: BagFile) -> TransformTree:
    """What the bag holds on /tf and /tf_static."""
    tree = TransformTree()
    for topic, _, message in bag.messages(["/tf", "/tf_static"]):
        for stamped in message.transforms:
            t, q = stamped.transform.translation, stamped.transform.rotation
            tree.add(
                stamp_of(stamped), stamped.header.frame_id, stamped.child_frame_id,
                (t.x, t.y, t.z), (q.x, q.y, q.z, q.w), static=topic == "/tf_static",
            )  # fmt: skip
    return tree


def choose_pose_source(bag: BagFile, options: BagOptions, tf: TransformTree, camera_frame: str) -> tuple[str, str]:
    """Where the pose of ``camera_frame`` comes from, given what the bag holds on /tf.

    Returns:
        a topic of poses, "" for /tf itself; and the frame that they are given in, the one that was asked for on /tf.

    Raises:
        DatasetError: neither tells, several topics could, or nobody knows whose pose the topic gives.
    """
    ancestors, world = tf.ancestors(camera_frame), options.world_frame.lstrip("/")
    if not options.pose_topic and len(ancestors) > 1 and (not world or world in ancestors):
        return "", world or next((name for name in WORLD_FRAMES if name in ancestors), ancestors[-1])
    known = ", ".join(sorted(tf.frames)) or "none"
    why = f"/tf does not connect '{ancestors[0]}' to '{world or 'a world frame'}' (its frames: {known})"
    topic = choose_pose_topic(bag, options, why)
    first = next((message for _, _, message in bag.messages([topic])), None)
    if first is None:
        raise DatasetError(f"no message of {topic} can be read")
    if getattr(first, "child_frame_id", None) == "" and not options.pose_frame:
        raise DatasetError(
            f"{topic} is odometry with an empty child_frame_id, which does not say whose pose it gives; name that "
            "frame with pose_frame"
        )
    return topic, first.header.frame_id.lstrip("/") or "world"


def stamp_of(message: Any) -> int:
    """The stamp of a message's header, ns."""
    return _nanoseconds(message.header.stamp)


def _nanoseconds(time: Any) -> int:
    return time.sec * 1_000_000_000 + time.nanosec


def _name(entry: _Entry) -> str:
    return f"{entry.stamp_ns // 1_000_000_000}_{entry.stamp_ns % 1_000_000_000:09d}"


def _nearest(entries: list[_Entry], stamp_ns: int) -> _Entry | None:
    after = bisect_left(entries, stamp_ns, key=lambda entry: entry.stamp_ns)
    around = entries[max(after - 1, 0) : after + 1]
    return min(around, key=lambda entry: abs(entry.stamp_ns - stamp_ns), default=None)
