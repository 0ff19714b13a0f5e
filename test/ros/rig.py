"""A robot for tests: publishes what a camera and a localisation would, and listens to the node."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros import wall
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from lift_ros.lifting.config import LiftingConfig
from lift_ros.lifting.methods import METHODS
from lift_ros.msg import LabelInfo, ObjectArray, ObjectEvent, Status
from lift_ros.ros.conversions import camera_info_message, to_stamp
from lift_ros.ros.mapping_node import MappingNode

PERIOD = 0.1  # s, between frames
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OUTPUTS = {
    "labels": (Image, QoSProfile(depth=100)),
    "overlay": (Image, QoSProfile(depth=100)),
    "camera_info": (CameraInfo, QoSProfile(depth=100)),
    "status": (Status, QoSProfile(depth=100)),
    "events": (ObjectEvent, QoSProfile(depth=100)),
    "label_info": (LabelInfo, LATCHED),
    "objects": (ObjectArray, LATCHED),
    "object_cloud": (PointCloud2, LATCHED),
    "scene_cloud": (PointCloud2, LATCHED),
    "markers": (MarkerArray, LATCHED),
}
# small and quick: what is tested here is the node, not the map
PARAMETERS = {
    "depth_topic": "depth",
    "masks_topic": "masks",
    "masks.segmenter": "topic",
    "mapping.image_width": 160,
    "mapping.photometric_steps": 5,
    "mapping.lifting_steps": 20,
    "mapping.device": "cpu",
    "scene.max_gaussians": 20_000,
    "map_period": 0.1,
    "mapper_queue": 20,
}


class Rig:
    """The node under test, and a node that plays the rest of the robot, in an executor and a namespace of their own."""

    _made = 0

    def __init__(self, activate: bool = True, **given: Any) -> None:
        parameters = {**PARAMETERS, **given}
        method = METHODS[parameters.get("lifting.method", LiftingConfig().method)]
        self._steps = parameters["mapping.photometric_steps"] + method.trained * parameters["mapping.lifting_steps"]
        Rig._made += 1
        namespace = f"rig{Rig._made}"  # several may be alive, and must not hear each other
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.mapping = MappingNode(parameter_overrides=overrides, namespace=namespace)
        self.node = rclpy.create_node("robot", namespace=namespace)
        create = self.node.create_publisher
        self.images, self.infos = create(Image, "image", 10), create(CameraInfo, "camera_info", 10)
        self.depths, self.masks = create(Image, "depth", 10), create(Image, "masks", 10)
        self.tf, self.tf_static = create(TFMessage, "/tf", 100), create(TFMessage, "/tf_static", LATCHED)
        self.pose_sources = {
            "odometry": create(Odometry, "odometry", 10),
            "pose": create(PoseStamped, "pose", 10),
            "pose_with_covariance": create(PoseWithCovarianceStamped, "pose_with_covariance", 10),
        }
        self.received: dict[str, list] = defaultdict(list)
        for name, (kind, qos) in OUTPUTS.items():
            self.node.create_subscription(kind, f"lift_ros/{name}", self.received[name].append, qos)
        if activate:
            self.mapping.trigger_configure()
            self.mapping.trigger_activate()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.mapping)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        if activate:
            self.wait_until(lambda: self.images.get_subscription_count() and self.received["status"], "the node")

    def _spin(self) -> None:
        """What a test destroys while the executor is about to wait for it ends rclpy's spin."""
        while self._executor.context.ok():
            try:
                return self._executor.spin()
            except InvalidHandle:
                continue

    def close(self) -> None:
        """Take both nodes down."""
        self._executor.shutdown()
        self._thread.join(10)
        self.mapping.destroy_node()
        self.node.destroy_node()

    def wait_until(self, condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
        """Wait for ``condition`` and return what it gives."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            result = condition()
            if result:
                return result
            time.sleep(0.02)
        drops = self.drops if self.received["status"] else "no status"
        raise AssertionError(f"waited {timeout} s for {what}; dropped: {drops}")

    @property
    def status(self) -> Status:
        """The latest."""
        return self.received["status"][-1]

    @property
    def drops(self) -> dict[str, int]:
        """Counts by reason."""
        return dict(zip(self.status.drop_reasons, self.status.drop_counts, strict=True))

    @property
    def objects(self) -> list:
        """Of the latest list."""
        arrays = self.received["objects"]
        return list(arrays[-1].objects) if arrays else []

    def wait_for_drop(self, reason: str) -> int:
        """Wait until something is dropped for this reason; returns how often."""
        return self.wait_until(lambda: self.drops.get(reason, 0), f"a drop '{reason}'")

    def wait_for_frames(self, count: int) -> None:
        """Wait until the node has taken this many frames."""
        self.wait_until(lambda: self.status.frames >= count, f"{count} frames")

    def header(self, index: int, start: float = 1000.0) -> Header:
        """Of the messages of frame ``index``."""
        return Header(stamp=to_stamp(start + PERIOD * index), frame_id="camera")

    def send(self, index: int, start: float = 1000.0, **what: Any) -> None:
        """Send frame ``index``: pose, info, depth, masks and image, each replaced or, by None, left out on demand."""
        header = self.header(index, start)
        if what.get("pose", True) is not None:
            self.tf.publish(TFMessage(transforms=[what.get("pose") or transform(header, wall.position(index))]))
        if what.get("info", True) is not None:
            self.infos.publish(what.get("info") or camera_info_message(header, wall.CAMERA))
            if "info" in what:
                time.sleep(0.2)  # topics have no order among each other, and images take the latest info
        for name, publisher, default in (
            ("depth", self.depths, lambda: image_message(header, "32FC1", wall.depth())),
            ("masks", self.masks, lambda: image_message(header, "mono16", wall.labels(index))),
            ("image", self.images, lambda: image_message(header, "rgb8", wall.image(index))),
        ):
            if what.get(name, True) is not None:
                publisher.publish(what.get(name) or default())

    def map_the_wall(
        self, frames: int = 12, start: float = 1000.0, masks: Callable[[int], np.ndarray] = wall.labels
    ) -> None:
        """Send the first frames of the wall; wait until the objects on it are known and training is done."""
        for index in range(frames):
            self.send(index, start, masks=image_message(self.header(index, start), "mono16", masks(index)))
            time.sleep(PERIOD / 2)
        self.wait_until(lambda: len(self.objects) >= 3, "three objects")
        self.wait_until(self._is_idle, "the mapper to rest", timeout=120.0)

    def _is_idle(self) -> bool:
        if len(self.received["status"]) < 2:
            return False
        before, now = self.received["status"][-2:]
        trained = now.steps + now.skipped_steps >= now.keyframes * self._steps > 0
        return trained and (before.steps, before.frames) == (now.steps, now.frames) and not now.keyframe_queue

    def call(self, kind: type, service: str, /, **fields: Any) -> Any:
        """Call a service of the node."""
        client = self.node.create_client(kind, f"lift_ros/{service}")
        try:
            assert client.wait_for_service(10.0)
            future = client.call_async(kind.Request(**fields))
            return self.wait_until(lambda: future.done() and future.result(), f"the answer of {service}")
        finally:
            self.node.destroy_client(client)


def transform(
    header: Header,
    position: tuple[float, float, float],
    quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0),
    parent: str = "map",
    child: str = "camera",
) -> TransformStamped:
    """Pose of ``child`` in ``parent`` at the header's time."""
    result = TransformStamped(header=Header(stamp=header.stamp, frame_id=parent), child_frame_id=child)
    t, q = result.transform.translation, result.transform.rotation
    t.x, t.y, t.z = position
    q.x, q.y, q.z, q.w = quaternion
    return result


def image_message(header: Header, encoding: str, pixels: np.ndarray) -> Image:
    """Any encoding, taken at its word."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=rows.shape[1])
    message.data = rows.tobytes()
    return message


def pixels(message: Image) -> np.ndarray:
    """A mono16 image as (H, W) uint16."""
    return np.frombuffer(bytes(message.data), np.uint16).reshape(message.height, message.width)
