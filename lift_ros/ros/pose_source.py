"""Where the pose of the camera at an image's stamp comes from."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from rclpy.time import Time

from lift_ros.data.transforms import TransformTree
from lift_ros.errors import FrameRejected
from lift_ros.ros.compat import Buffer, TransformException
from lift_ros.ros.conversions import frame_name, matrix_from_transform, nanoseconds
from lift_ros.ros.queues import DropCounter

HISTORY_NS = 10_000_000_000


class PoseSource(Protocol):
    """Poses of frames in the world, at given times."""

    def lookup(self, frame: str, stamp_ns: int) -> NDArray[np.float64]:
        """Pose (4, 4) of ``frame`` in the world at a time. Does not wait. Raises FrameRejected ``pose_missing``."""

    def clear(self) -> None:
        """Forget everything, as after a jump of the clock."""


class TfPoses:
    """Poses from TF, at exactly the stamp asked for: never the latest, never the identity."""

    def __init__(self, buffer: Buffer, world_frame: str) -> None:
        """Poses in ``world_frame``, from transforms someone feeds to ``buffer``."""
        self._buffer = buffer
        self._world_frame = world_frame

    def lookup(self, frame: str, stamp_ns: int) -> NDArray[np.float64]:
        """See PoseSource."""
        return lookup_tf(self._buffer, self._world_frame, frame, stamp_ns)

    def clear(self) -> None:
        """See PoseSource."""
        self._buffer.clear()


@dataclass
class _Track:
    """Poses of messages that belong together: of one time, and of one frame in another.

    Attributes:
        parent: frame that the poses are given in.
        body: frame whose poses they are, "" the camera.
        newest_ns: greatest stamp.
        trimmed_ns: what is older was forgotten.
    """

    parent: str
    body: str
    newest_ns: int
    trimmed_ns: int = 0
    tree: TransformTree = field(default_factory=TransformTree)

    def goes_on(self, parent: str, body: str, stamp_ns: int) -> bool:
        """Whether a message with these frames and this stamp belongs here."""
        return (parent, body) == (self.parent, self.body) and abs(stamp_ns - self.newest_ns) <= HISTORY_NS

    def trim(self) -> None:
        """Forget what is older than ``HISTORY_NS``, now and then."""
        if self.newest_ns - self.trimmed_ns > 1.1 * HISTORY_NS:
            self.trimmed_ns = self.newest_ns - HISTORY_NS
            self.tree.forget(self.trimmed_ns)


class TopicPoses:
    """Poses from Odometry or PoseStamped messages, interpolated; TF only for how the camera is mounted.

    Message poses that are not finite or not rigid are dropped and counted, and so is a message of another time or other
    frames than those before and after it. Two in a row that go on with each other are a new beginning. Odometry must
    say whose pose it gives: where neither it nor ``pose_frame`` does, it is dropped and counted, too.
    """

    def __init__(self, buffer: Buffer, world_frame: str, pose_frame: str, drops: DropCounter) -> None:
        """``pose_frame``: the frame whose pose the messages give; empty: child_frame_id, of PoseStamped the camera."""
        self._buffer = buffer
        self._world_frame = world_frame
        self._pose_frame = frame_name(pose_frame)
        self._drops = drops
        self._lock = threading.Lock()
        self._none = "no pose message has arrived"  # the reason, while there is no pose
        self._track: _Track | None = None
        self._before: _Track | None = None  # the one that may yet go on, while ``_track`` is but one message

    def add(self, message: Any) -> None:
        """Take a nav_msgs/Odometry or geometry_msgs/PoseStamped."""
        pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
        p, q = pose.position, pose.orientation
        stamp_ns = nanoseconds(message.header.stamp)
        parent = frame_name(message.header.frame_id) or self._world_frame
        of_camera = not hasattr(message, "child_frame_id")  # a PoseStamped
        body = self._pose_frame or ("" if of_camera else frame_name(message.child_frame_id))
        with self._lock:
            if not body and not of_camera:
                self._drops.add("pose_frame_missing")
                self._none = "odometry with an empty child_frame_id does not say whose pose it gives: set pose_frame"
                return
            track = self._track_of(parent, body, stamp_ns)
            track.tree.add(stamp_ns, "reference", "body", (p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
            for reason, count in track.tree.rejected.items():
                self._drops.add(reason, count)
            track.tree.rejected.clear()
            track.newest_ns = max(track.newest_ns, stamp_ns)
            track.trim()

    def _track_of(self, parent: str, body: str, stamp_ns: int) -> _Track:
        """Where a message belongs. One that stands alone between those of another track was astray."""
        if self._track and self._track.goes_on(parent, body, stamp_ns):
            self._before = None
        elif self._before and self._before.goes_on(parent, body, stamp_ns):
            self._drops.add("pose_astray")
            self._track, self._before = self._before, None
        else:
            self._before = self._before or self._track
            self._track = _Track(parent, body, stamp_ns)
        return self._track

    def lookup(self, frame: str, stamp_ns: int) -> NDArray[np.float64]:
        """See PoseSource."""
        with self._lock:
            track, T = self._pose_at(stamp_ns)
        if track.parent != self._world_frame:
            T = lookup_tf(self._buffer, self._world_frame, track.parent, stamp_ns) @ T
        if track.body not in ("", frame):
            T = T @ lookup_tf(self._buffer, track.body, frame, stamp_ns)
        return T

    def _pose_at(self, stamp_ns: int) -> tuple[_Track, NDArray[np.float64]]:
        if self._track is None:
            raise FrameRejected("pose_missing", self._none)
        if self._before:  # the latest message may yet turn out to be astray
            with contextlib.suppress(FrameRejected):
                return self._before, self._before.tree.lookup("reference", "body", stamp_ns)
        return self._track, self._track.tree.lookup("reference", "body", stamp_ns)

    def clear(self) -> None:
        """See PoseSource."""
        self._buffer.clear()
        with self._lock:
            self._track = self._before = None


def lookup_tf(buffer: Buffer, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
    """Pose (4, 4) of ``source`` in ``target`` from TF. Raises FrameRejected ``pose_missing``."""
    try:
        stamped = buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
    except (TransformException, ValueError) as error:  # the latter for a time before 1970
        raise FrameRejected("pose_missing", f"no pose of '{source}' in '{target}': {error}") from None
    transform: Transform = stamped.transform
    return matrix_from_transform(transform)
