"""tf2_ros, or what this package needs of it where no ROS distribution is installed (ROS 2 from PyPI has no tf2_ros).

Nothing else in the tree knows the difference; ``TRANSFORMS_BY`` is for the log. ``Buffer`` is the same over either.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from lift_ros.data.transforms import MAX_GAP_NS, QUATERNION_TOLERANCE
from lift_ros.ros.conversions import frame_name, nanoseconds

try:
    from tf2_ros import Buffer as PlainBuffer
    from tf2_ros import TransformException, TransformListener

    TRANSFORMS_BY = "tf2_ros"
except ModuleNotFoundError as missing:
    if missing.name != "tf2_ros":  # it is installed and broken, which nothing here is to hide
        raise
    import re
    from collections.abc import Callable
    from functools import partial
    from typing import Any

    from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from scipy.spatial.transform import Rotation
    from tf2_msgs.msg import TFMessage

    from lift_ros.data.transforms import TransformTree
    from lift_ros.errors import FrameRejected

    TRANSFORMS_BY = "lift_ros (no tf2_ros is installed)"

    class TransformException(Exception):
        """A transform cannot be given."""

    class PlainBuffer:
        """The transforms of the latest ``cache_time`` of each frame; safe to use from several threads."""

        def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
            """As tf2_ros.Buffer; the node is not needed."""
            self._cache_ns = (cache_time or CACHE_TIME).nanoseconds
            self._tree = TransformTree()
            self._lock = threading.Lock()
            self._latest: dict[str, float] = {}  # stamp of the latest transform of each child frame, static ones' inf
            self._trimmed: dict[str, int] = {}  # what is older was forgotten, by child frame

        def set_transform(self, transform: TransformStamped, authority: str) -> None:
            """Add one transform; one that is not finite or not rigid, or of before 1970, is left out."""
            self._add(transform, static=False)

        def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
            """Add a transform that holds at all times."""
            self._add(transform, static=True)

        def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
            """Pose of the source in the target frame at ``time``, 0: the latest that all transforms in between know.

            At once, or raises TransformException.
            """
            with self._lock:
                stamp_ns = time.nanoseconds or self._latest_common(target_frame, source_frame)
                try:
                    T = self._tree.lookup(target_frame, source_frame, stamp_ns)
                except FrameRejected as error:
                    # the tree serves images; here the time may be anybody's
                    raise TransformException(re.sub("^image ", "the time asked for ", str(error))) from None
            result = TransformStamped()
            result.header.frame_id, result.child_frame_id = target_frame, source_frame
            result.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
            t, q = result.transform.translation, result.transform.rotation
            t.x, t.y, t.z = T[:3, 3].tolist()
            q.x, q.y, q.z, q.w = Rotation.from_matrix(T[:3, :3]).as_quat().tolist()
            return result

        def clear(self) -> None:
            """Forget everything but static transforms."""
            with self._lock:
                self._tree.forget()
                self._latest = {child: latest for child, latest in self._latest.items() if latest == math.inf}
                self._trimmed.clear()

        def _latest_common(self, target: str, source: str) -> int:
            up, down = self._tree.ancestors(source), self._tree.ancestors(target)
            between = set(up) ^ set(down)  # frames whose transforms lead to the first ancestor that both have
            latest = min((self._latest[child] for child in between if child in self._latest), default=math.inf)
            return 0 if latest == math.inf else int(latest)

        def _add(self, message: TransformStamped, static: bool) -> None:
            stamp_ns, child = 0 if static else nanoseconds(message.header.stamp), frame_name(message.child_frame_id)
            if stamp_ns < 0:
                return
            t, q = message.transform.translation, message.transform.rotation
            with self._lock:
                self._tree.add(
                    stamp_ns, message.header.frame_id, child, (t.x, t.y, t.z), (q.x, q.y, q.z, q.w), static=static
                )
                if self._tree.rejected:
                    self._tree.rejected.clear()
                    return
                if not static:
                    self._tree.forget_static(child)  # it moves after all
                before = self._latest.get(child, 0)
                before = 0 if before == math.inf else before
                latest = self._latest[child] = math.inf if static else max(stamp_ns, before)
                if not static and latest - self._trimmed.get(child, 0) > 1.1 * self._cache_ns:
                    self._trimmed[child] = int(latest) - self._cache_ns
                    self._tree.forget(self._trimmed[child], child)

    class TransformListener:
        """Feeds a buffer from /tf and /tf_static."""

        def __init__(self, buffer: Buffer, node: Node, **_: Any) -> None:
            """Subscribe on ``node``, in a callback group of its own."""
            group: CallbackGroup = MutuallyExclusiveCallbackGroup()
            latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._node = node
            self._subscriptions = [
                node.create_subscription(TFMessage, topic, partial(self._take, add), qos, callback_group=group)
                for topic, add, qos in (
                    ("/tf", buffer.set_transform, QoSProfile(depth=100)),
                    ("/tf_static", buffer.set_transform_static, latched),
                )
            ]

        def unregister(self) -> None:
            """Stop listening."""
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)

        def _take(self, add: Callable[[TransformStamped, str], None], message: TFMessage) -> None:
            for transform in message.transforms:
                try:
                    add(transform, "")
                except Exception as error:  # whatever anybody sends, the node must not end for it
                    self._node.get_logger().error(
                        f"transform of '{transform.child_frame_id}' left out: {type(error).__name__}: {error}",
                        throttle_duration_sec=5.0,
                    )


CACHE_TIME = Duration(seconds=10.0)  # as tf2 has it
TIME_JUMP_NS = 1_000_000_000  # stamps further back than this are a new start of the clock, nearer ones came late


class Buffer(PlainBuffer):
    """As tf2_ros.Buffer, where a pose is kept in a map for good.

    tf2 interpolates over any gap: a longer one than ``MAX_GAP_NS`` is refused here. And a transform of before a jump of
    time, that comes when the buffer was cleared, has tf2 refuse all that are older than it by more than the cache: here
    two transforms of a frame in a row that are back in time clear the buffer again.
    """

    def __init__(self, cache_time: Duration = CACHE_TIME, node: Node | None = None) -> None:
        """As tf2_ros.Buffer."""
        super().__init__(cache_time, node)
        self._kept_ns = 2 * cache_time.nanoseconds  # none that the buffer still has must be missing
        self._guard = threading.RLock()  # of what follows, by child frame
        self._parents: dict[str, str] = {}
        self._stamps: dict[str, list[int]] = {}  # ascending, ns
        self._back: dict[str, TransformStamped] = {}  # the latest, where it is far older than one before

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """See tf2_ros.Buffer."""
        child, stamp_ns = frame_name(transform.child_frame_id), nanoseconds(transform.header.stamp)
        if stamp_ns < 0 or not _is_usable(transform):  # tf2 takes infinite ones, and any quaternion but 0
            return
        with self._guard:
            if self._starts_over(transform, child, stamp_ns):
                first = list(self._back.values())
                self.clear()
                for each in first:
                    self.set_transform(each, authority)
            stamps = self._stamps.setdefault(child, [])
            place = bisect_left(stamps, stamp_ns)
            if stamps[place : place + 1] != [stamp_ns]:
                stamps.insert(place, stamp_ns)
            del stamps[: bisect_left(stamps, stamps[-1] - self._kept_ns)]
            self._parents[child] = frame_name(transform.header.frame_id)
            super().set_transform(transform, authority)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """See tf2_ros.Buffer."""
        child = frame_name(transform.child_frame_id)
        if not _is_usable(transform):
            return
        with self._guard:
            self._parents[child] = frame_name(transform.header.frame_id)
            self._stamps.pop(child, None)
            super().set_transform_static(transform, authority)

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
        """See tf2_ros.Buffer; at once. Raises TransformException, also in a gap of more than ``MAX_GAP_NS``."""
        found = super().lookup_transform(target_frame, source_frame, time)
        stamp_ns = nanoseconds(found.header.stamp)
        with self._guard:
            for child in set(self._ancestors(source_frame)) ^ set(self._ancestors(target_frame)):
                stamps = self._stamps.get(child, [])
                after = bisect_left(stamps, stamp_ns)
                if after in (0, len(stamps)) or stamps[after] == stamp_ns:
                    continue
                gap_ns = stamps[after] - stamps[after - 1]
                if gap_ns > MAX_GAP_NS:
                    raise TransformException(
                        f"the time asked for lies in a gap of {gap_ns / 1e9:.1f} s between transforms of '{child}'"
                    )
        return found

    def clear(self) -> None:
        """See tf2_ros.Buffer."""
        with self._guard:
            super().clear()
            self._stamps.clear()
            self._back.clear()

    def children(self, frame: str) -> list[str]:
        """Frames that are given in ``frame``."""
        with self._guard:
            return [child for child, parent in self._parents.items() if parent == frame]

    def _starts_over(self, transform: TransformStamped, child: str, stamp_ns: int) -> bool:
        """Whether it is the second in a row that is back in time; one alone may be astray, or the one before was."""
        stamps = self._stamps.get(child)
        if not stamps or stamp_ns >= stamps[-1] - TIME_JUMP_NS:
            self._back.pop(child, None)
            return False
        before = self._back.get(child)
        if before is not None and nanoseconds(before.header.stamp) < stamp_ns:
            return True
        self._back[child] = transform
        return False

    def _ancestors(self, frame: str) -> list[str]:
        chain = [frame_name(frame)]
        while (parent := self._parents.get(chain[-1])) is not None and parent not in chain:
            chain.append(parent)
        return chain


def _is_usable(stamped: TransformStamped) -> bool:
    """Whether it is between two frames, finite and rigid."""
    parent, child = frame_name(stamped.header.frame_id), frame_name(stamped.child_frame_id)
    if not parent or not child or parent == child:
        return False
    t, q = stamped.transform.translation, stamped.transform.rotation
    norm = math.hypot(q.x, q.y, q.z, q.w)
    return all(map(math.isfinite, (t.x, t.y, t.z))) and abs(norm - 1.0) <= QUATERNION_TOLERANCE


__all__ = ["TRANSFORMS_BY", "Buffer", "TransformException", "TransformListener"]
