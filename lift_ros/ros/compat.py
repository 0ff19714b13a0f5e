"""tf2_ros, or what this package needs of it where no ROS distribution is installed (ROS 2 from PyPI has no tf2_ros).

Nothing else in the tree knows the difference; ``TRANSFORMS_BY`` is for the log.
"""

from __future__ import annotations

try:
    from tf2_ros import Buffer, TransformException, TransformListener

    TRANSFORMS_BY = "tf2_ros"
except ModuleNotFoundError as missing:
    if missing.name != "tf2_ros":  # it is installed and broken, which nothing here is to hide
        raise
    import math
    import re
    import threading
    from collections.abc import Callable
    from functools import partial
    from typing import Any

    from geometry_msgs.msg import TransformStamped
    from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
    from rclpy.duration import Duration
    from rclpy.node import Node
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from rclpy.time import Time
    from scipy.spatial.transform import Rotation
    from tf2_msgs.msg import TFMessage

    from lift_ros.data.transforms import TransformTree
    from lift_ros.errors import FrameRejected
    from lift_ros.ros.conversions import nanoseconds

    TRANSFORMS_BY = "lift_ros (no tf2_ros is installed)"

    class TransformException(Exception):
        """A transform cannot be given."""

    class Buffer:
        """The transforms of the latest ``cache_time``; safe to use from several threads."""

        def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
            """As tf2_ros.Buffer; the node is not needed."""
            self._cache_ns = (cache_time or Duration(seconds=10.0)).nanoseconds
            self._tree = TransformTree()
            self._lock = threading.Lock()
            self._latest: dict[str, float] = {}  # stamp of the latest transform of each child frame, static ones' inf
            self._newest_ns = self._trimmed_ns = 0

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
                self._newest_ns = self._trimmed_ns = 0

        def _latest_common(self, target: str, source: str) -> int:
            up, down = self._tree.ancestors(source), self._tree.ancestors(target)
            between = set(up) ^ set(down)  # frames whose transforms lead to the first ancestor that both have
            latest = min((self._latest[child] for child in between if child in self._latest), default=math.inf)
            return 0 if latest == math.inf else int(latest)

        def _add(self, message: TransformStamped, static: bool) -> None:
            stamp_ns, child = 0 if static else nanoseconds(message.header.stamp), message.child_frame_id
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
                latest = max(math.inf if static else stamp_ns, self._latest.get(child.lstrip("/"), 0))
                self._latest[child.lstrip("/")] = latest
                self._newest_ns = max(self._newest_ns, stamp_ns)
                if self._newest_ns - self._trimmed_ns > 1.1 * self._cache_ns:
                    self._trimmed_ns = self._newest_ns - self._cache_ns
                    self._tree.forget(self._trimmed_ns)

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


__all__ = ["TRANSFORMS_BY", "Buffer", "TransformException", "TransformListener"]
