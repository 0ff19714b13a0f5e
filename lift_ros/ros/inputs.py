"""The topics that the node listens to, as what they are published as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from lift_ros.errors import ConfigError

OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
OTHER = {Image: CompressedImage, CompressedImage: Image}


@dataclass
class _Input:
    """A topic that the node listens to, or should.

    Attributes:
        topic: its full name, remapped, once it was subscribed to.
        depth: messages that may wait in the middleware.
        subscription: None while there could be none.
    """

    kind: type
    topic: str
    callback: Callable[..., None]
    depth: int
    subscription: Subscription | None = None

    @property
    def type_name(self) -> str:
        return _type_name(self.kind)


class Inputs:
    """Subscriptions, whose callbacks run one at a time."""

    def __init__(self, node: Node) -> None:
        """None so far; ``node`` subscribes."""
        self._node = node
        self._group = MutuallyExclusiveCallbackGroup()
        self._inputs: list[_Input] = []

    def add(self, kind: type, topic: str, callback: Callable[..., None], depth: int) -> str:
        """Subscribe to a topic; returns its full name, as remapped.

        ``depth``: messages that may wait in the middleware. Images may be compressed: at first the name of their topic
        tells, then ``follow_types`` sees it.

        Raises:
            ConfigError: the name of the topic, or what its qos_overrides say, is wrong.
        """
        if kind is Image and topic.endswith(("/compressed", "/compressedDepth")):  # image_transport names them so
            kind = CompressedImage
        added = _Input(kind, topic, callback, depth)
        self._inputs.append(added)
        self._subscribe(added)
        return added.topic

    def follow_types(self) -> None:
        """Subscribe anew to images that are published compressed, or not, whatever the name of their topic says; and to
        what could not be subscribed to the last time.
        """
        for each in self._inputs:
            other = OTHER.get(each.kind)
            change = other and self._published(each.topic) == {_type_name(other)}
            if each.subscription and not change:
                continue
            if each.subscription:  # it goes first: one process may not have two types on a topic
                self._node.destroy_subscription(each.subscription)
            each.kind, each.subscription = other if change else each.kind, None
            try:
                self._subscribe(each)
            except ConfigError as error:  # the executor, and the node with it, must not end for that
                self._node.get_logger().error(str(error), throttle_duration_sec=10.0)
            else:
                self._node.get_logger().info(f"subscribed to {each.topic} as {each.type_name}")

    def missing(self) -> str:
        """Which topics nobody publishes, or not as what they are subscribed to; "" if all are well."""
        found = []
        for each in self._inputs:
            kinds = self._published(each.topic)
            if not kinds:
                found.append(f"nobody publishes {each.topic}")
            elif each.type_name not in kinds:
                found.append(f"{each.topic} is {', '.join(sorted(kinds))}, not {each.type_name}")
        return "; ".join(found)

    def lost(self) -> list[str]:
        """What could not be subscribed to anew, a sentence each."""
        return [
            f"cannot subscribe to {each.topic} as {each.type_name}" for each in self._inputs if not each.subscription
        ]

    def destroy(self) -> None:
        """Unsubscribe from all."""
        for each in self._inputs:
            if each.subscription:
                self._node.destroy_subscription(each.subscription)
        self._inputs.clear()

    def _subscribe(self, wanted: _Input) -> None:
        """Raises ConfigError."""
        qos = QoSProfile(depth=wanted.depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        try:
            wanted.subscription = self._node.create_subscription(
                wanted.kind, wanted.topic, wanted.callback, qos,
                callback_group=self._group, qos_overriding_options=QoSOverridingOptions(OVERRIDABLE),
            )  # fmt: skip
        except Exception as error:  # of rclpy, each wrong name or value is one of another kind, some without a text
            reason = f"see its name and qos_overrides: {type(error).__name__}: {error}"
            raise ConfigError(f"cannot subscribe to '{wanted.topic}', {reason}") from None
        wanted.topic = wanted.subscription.topic_name

    def _published(self, topic: str) -> set[str]:
        """The types that somebody publishes on a topic."""
        return {end.topic_type for end in self._node.get_publishers_info_by_topic(topic)}


def _type_name(kind: type) -> str:
    """As ROS has it: package/msg/Name."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
