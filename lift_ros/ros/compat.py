"""tf2_ros, or what this package needs of it where no ROS distribution is installed (ROS 2 from PyPI has no tf2_ros).

Nothing else in the tree knows the difference.
"""

from __future__ import annotations

try:
    from tf2_ros import Buffer, TransformException, TransformListener
except ImportError:
    import threading
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

    class TransformException(Exception):
        """A transform cannot be given."""

    class Buffer:
        """The transforms of the latest ``cache_time``; safe to use from several threads."""

        def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
            """As tf2_ros.Buffer; the node is not needed."""
            self._cache_ns = (cache_time or Duration(seconds=10.0)).nanoseconds
            self._tree = TransformTree()
            self._lock = threading.Lock()
            self._newest_ns = self._trimmed_ns = 0

        def set_transform(self, transform: TransformStamped, authority: str) -> None:
            """Add one transform; one that is not finite or not rigid is left out, as in tf2."""
            self._add(transform, static=False)

        def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
            """Add a transform that holds at all times."""
            self._add(transform, static=True)

        def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
            """Pose of the source in the target frame at ``time``, 0: latest. At once, or raises TransformException."""
            with self._lock:
                try:
                    T = self._tree.lookup(target_frame, source_frame, time.nanoseconds or self._newest_ns)
                except FrameRejected as error:
                    raise TransformException(str(error)) from None
            result = TransformStamped()
            result.header.frame_id, result.child_frame_id = target_frame, source_frame
            result.header.stamp = time.to_msg()
            t, q = result.transform.translation, result.transform.rotation
            t.x, t.y, t.z = T[:3, 3].tolist()
            q.x, q.y, q.z, q.w = Rotation.from_matrix(T[:3, :3]).as_quat().tolist()
            return result

        def clear(self) -> None:
            """Forget everything but static transforms."""
            with self._lock:
                self._tree.forget()
                self._newest_ns = self._trimmed_ns = 0

        def _add(self, message: TransformStamped, static: bool) -> None:
            stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
            t, q = message.transform.translation, message.transform.rotation
            with self._lock:
                self._tree.add(
                    stamp_ns, message.header.frame_id, message.child_frame_id,
                    (t.x, t.y, t.z), (q.x, q.y, q.z, q.w), static=static,
                )  # fmt: skip
                self._newest_ns = max(self._newest_ns, 0 if static else stamp_ns)
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
                node.create_subscription(
                    TFMessage, "/tf", lambda m: [buffer.set_transform(t, "") for t in m.transforms],
                    QoSProfile(depth=100), callback_group=group,
                ),
                node.create_subscription(
                    TFMessage, "/tf_static", lambda m: [buffer.set_transform_static(t, "") for t in m.transforms],
                    latched, callback_group=group,
                ),
            ]  # fmt: skip

        def unregister(self) -> None:
            """Stop listening."""
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)


__all__ = ["Buffer", "TransformException", "TransformListener"]
