"""Where the pose of the camera at an image's stamp comes from."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import Transform
from numpy.typing import NDArray
from rclpy.time import Time

from lift_ros.data.transforms import TransformTree
from lift_ros.errors import FrameRejected
from lift_ros.ros.compat import Buffer, TransformException
from lift_ros.ros.conversions import matrix_from_transform, nanoseconds
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


class TopicPoses:
    """Poses from Odometry or PoseStamped messages, interpolated; TF only for how the camera is mounted.

    Message poses that are not finite or not rigid are dropped and counted.
    """

    def __init__(self, buffer: Buffer, world_frame: str, pose_frame: str, drops: DropCounter) -> None:
        """``pose_frame``: the frame whose pose the messages give; empty: child_frame_id, else the camera itself."""
        self._buffer = buffer
        self._world_frame = world_frame
        self._pose_frame = pose_frame
        self._drops = drops
        self._lock = threading.Lock()
        self._tree = TransformTree()
        self._parent = self._body = ""
        self._newest_ns = self._trimmed_ns = 0

    def add(self, message: Any) -> None:
        """Take a nav_msgs/Odometry or geometry_msgs/PoseStamped."""
        pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
        p, q = pose.position, pose.orientation
        stamp_ns = nanoseconds(message.header.stamp)
        with self._lock:
            self._parent = message.header.frame_id or self._world_frame
            self._body = self._pose_frame or getattr(message, "child_frame_id", "")
            self._tree.add(stamp_ns, "reference", "body", (p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
            for reason, count in self._tree.rejected.items():
                self._drops.add(reason, count)
            self._tree.rejected.clear()
            self._newest_ns = max(self._newest_ns, stamp_ns)
            if self._newest_ns - self._trimmed_ns > 1.1 * HISTORY_NS:
                self._trimmed_ns = self._newest_ns - HISTORY_NS
                self._tree.forget(self._trimmed_ns)

    def lookup(self, frame: str, stamp_ns: int) -> NDArray[np.float64]:
        """See PoseSource."""
        with self._lock:
            T = self._tree.lookup("reference", "body", stamp_ns)
            parent, body = self._parent, self._body
        if parent != self._world_frame:
            T = lookup_tf(self._buffer, self._world_frame, parent, stamp_ns) @ T
        if body not in ("", frame):
            T = T @ lookup_tf(self._buffer, body, frame, stamp_ns)
        return T

    def clear(self) -> None:
        """See PoseSource."""
        self._buffer.clear()
        with self._lock:
            self._tree.forget()
            self._newest_ns = self._trimmed_ns = 0


def lookup_tf(buffer: Buffer, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
    """Pose (4, 4) of ``source`` in ``target`` from TF. Raises FrameRejected ``pose_missing``."""
    try:
        stamped = buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
    except TransformException as error:
        raise FrameRejected("pose_missing", f"no pose of '{source}' in '{target}': {error}") from None
    transform: Transform = stamped.transform
    return matrix_from_transform(transform)
