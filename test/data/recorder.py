"""Writes small rosbag2 recordings, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from lift_ros.data.bag_writer import BagWriter
from lift_ros.frame import Frame

W, H = 40, 30
START = 1_700_000_000
STORE = get_typestore(Stores.ROS2_HUMBLE)


def nanoseconds(seconds: float) -> int:
    return START * 10**9 + round(seconds * 1e9)


def pose(index: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", (0.3, 0.1 * index, -0.2)).as_matrix()
    T[:3, 3] = 0.1 * index, 1.0, -0.5
    return T


def write_bag(path: Path, frames: Iterable[Frame], **options: Any) -> None:
    """Write frames without labels as a new bag; ``options`` as for ``BagWriter``."""
    with BagWriter(path, **options) as writer:
        for frame in frames:
            writer.write(frame)


class Recorder:
    """Writes any message at any stamp, to make the bags that BagWriter does not.

    Attributes:
        delay: from the stamp of a message to the time it is recorded under, seconds.
    """

    def __init__(self, path: Path, storage: str = "mcap", compression: str = "none") -> None:
        self.delay = 0.0
        self.writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
        self.writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
        self.writer.open()
        self.connections: dict[str, Any] = {}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def write(self, topic: str, kind: str, seconds: float, **fields: Any) -> None:
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=STORE)
        message = STORE.types[kind](**fields)
        data = STORE.serialize_cdr(message, kind)
        self.writer.write(self.connections[topic], nanoseconds(seconds + self.delay), data)

    def header(self, seconds: float, frame_id: str) -> Any:
        stamp_ns = nanoseconds(seconds)
        stamp = STORE.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)

    def image(self, seconds: float, topic="/cam/image_raw", encoding="rgb8", frame="optical", size=(W, H), value=50):
        width, height = size
        channel = {"rgb8": 3, "16UC1": 2, "32FC1": 4, "mono16": 2, "hsv8": 3}[encoding]
        self.write(
            topic, "sensor_msgs/msg/Image", seconds, header=self.header(seconds, frame), height=height, width=width,
            encoding=encoding, is_bigendian=0, step=width * channel,
            data=np.full(height * width * channel, value, np.uint8),
        )  # fmt: skip

    def info(self, seconds: float, topic="/cam/camera_info", frame="optical", size=(W, H), f=35.0, d=()):
        roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        K = np.array([f, 0, 20, 0, f, 14, 0, 0, 1.0])
        self.write(
            topic, "sensor_msgs/msg/CameraInfo", seconds, header=self.header(seconds, frame), width=size[0],
            height=size[1], distortion_model="plumb_bob", d=np.array(d, float), k=K, r=np.eye(3).ravel(),
            p=np.zeros(12), binning_x=0, binning_y=0, roi=roi,
        )  # fmt: skip

    def pose(self, T: np.ndarray) -> Any:
        q = Rotation.from_matrix(T[:3, :3]).as_quat().tolist()
        return STORE.types["geometry_msgs/msg/Pose"](
            position=STORE.types["geometry_msgs/msg/Point"](*T[:3, 3].tolist()),
            orientation=STORE.types["geometry_msgs/msg/Quaternion"](*q),
        )

    def tf(self, seconds: float, parent: str, child: str, T: np.ndarray, topic: str = "/tf") -> None:
        p = self.pose(T)
        transform = STORE.types["geometry_msgs/msg/Transform"](
            translation=STORE.types["geometry_msgs/msg/Vector3"](p.position.x, p.position.y, p.position.z),
            rotation=p.orientation,
        )
        stamped = STORE.types["geometry_msgs/msg/TransformStamped"](self.header(seconds, parent), child, transform)
        self.write(topic, "tf2_msgs/msg/TFMessage", seconds, transforms=[stamped])

    def posed_images(self, count: int = 3) -> None:
        for index in range(count):
            self.tf(0.1 * index, "map", "optical", pose(index))
            self.info(0.1 * index)
            self.image(0.1 * index)
