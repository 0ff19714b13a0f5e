"""Writes posed frames as a rosbag2 recording, as a robot would have recorded them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from lift_ros.camera import Camera
from lift_ros.data.image_codec import depth_in_millimetres, encode_compressed_depth, encode_png
from lift_ros.errors import DatasetError
from lift_ros.frame import Frame

WORLD_FRAME = "map"
BODY_FRAME = "camera_link"
CAMERA_FRAME = "camera_color_optical_frame"
# camera_link looks along x with z up (REP-103), the optical frame along z with y down
T_BODY_CAMERA = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)  # fmt: skip

IMAGE_TOPIC = "/camera/color/image_raw"
INFO_TOPIC = "/camera/color/camera_info"
DEPTH_TOPIC = "/camera/aligned_depth_to_color/image_raw"


class BagWriter:
    """Colour, intrinsics, depth, label images and /tf of frames, in the order they are written. A context manager."""

    def __init__(
        self, path: str | Path, *, compressed: bool = True, storage: Literal["mcap", "sqlite3"] = "mcap"
    ) -> None:
        """Create the bag.

        Args:
            path: directory of the bag; must not exist.
            compressed: JPEG and compressedDepth (under ``<topic>/compressed`` and ``<topic>/compressedDepth``) instead
                of rgb8 and 16UC1 Images.
            storage: container format.

        Raises:
            DatasetError: the directory exists or cannot be created.
        """
        self._store = get_typestore(Stores.ROS2_HUMBLE)
        self._compressed = compressed
        self._connections: dict[str, Connection] = {}
        try:
            self._writer = Writer(Path(path), version=9, storage_plugin=StoragePlugin[storage.upper()])
            self._writer.open()
        except (WriterError, OSError) as error:
            raise DatasetError(f"cannot create the bag {path}: {error}") from None

    def write(self, frame: Frame, labels: Mapping[str, NDArray] | None = None) -> None:
        """Append a frame; ``labels``: (H, W) integer images by topic, written as 16-bit PNGs or mono16 Images."""
        stamp_ns = round(frame.stamp * 1e6) * 1000  # a float of today's date holds no nanoseconds
        if not self._connections:
            # static transforms come first and once, from a latched publisher
            self._write_transform("/tf_static", stamp_ns, BODY_FRAME, CAMERA_FRAME, T_BODY_CAMERA)
        # the pose comes before what it is for, so that a player delivers it in time
        T_world_body = frame.T_world_camera @ np.linalg.inv(T_BODY_CAMERA)
        self._write_transform("/tf", stamp_ns, WORLD_FRAME, BODY_FRAME, T_world_body)
        self._write_info(stamp_ns, frame.camera)
        if self._compressed:
            bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
            data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
            self._write_compressed(f"{IMAGE_TOPIC}/compressed", stamp_ns, "rgb8; jpeg compressed bgr8", data)
            if frame.depth is not None:
                data = encode_compressed_depth(frame.depth)
                self._write_compressed(f"{DEPTH_TOPIC}/compressedDepth", stamp_ns, "16UC1; compressedDepth png", data)
        else:
            self._write_image(IMAGE_TOPIC, stamp_ns, "rgb8", frame.image)
            if frame.depth is not None:
                self._write_image(DEPTH_TOPIC, stamp_ns, "16UC1", depth_in_millimetres(frame.depth))
        for topic, image in (labels or {}).items():
            if self._compressed:
                data = encode_png(image.astype(np.uint16))
                self._write_compressed(f"{topic}/compressed", stamp_ns, "mono16; png compressed mono16", data)
            else:
                self._write_image(topic, stamp_ns, "mono16", image.astype(np.uint16))

    def close(self) -> None:
        """Finish the bag."""
        self._writer.close()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_image(self, topic: str, stamp_ns: int, encoding: str, image: NDArray) -> None:
        height, width = image.shape[:2]
        rows = np.ascontiguousarray(image).view(np.uint8).reshape(height, -1)
        self._write(
            topic, stamp_ns, "sensor_msgs/msg/Image",
            header=self._header(stamp_ns, CAMERA_FRAME), height=height, width=width, encoding=encoding,
            is_bigendian=0, step=rows.shape[1], data=rows.ravel(),
        )  # fmt: skip

    def _write_compressed(self, topic: str, stamp_ns: int, format: str, data: bytes) -> None:
        self._write(
            topic, stamp_ns, "sensor_msgs/msg/CompressedImage",
            header=self._header(stamp_ns, CAMERA_FRAME), format=format, data=np.frombuffer(data, np.uint8),
        )  # fmt: skip

    def _write_info(self, stamp_ns: int, camera: Camera) -> None:
        K = camera.opencv_K
        self._write(
            INFO_TOPIC, stamp_ns, "sensor_msgs/msg/CameraInfo",
            header=self._header(stamp_ns, CAMERA_FRAME), height=camera.height, width=camera.width,
            distortion_model="plumb_bob", d=np.zeros(5), k=K.ravel(), r=np.eye(3).ravel(),
            p=np.hstack([K, np.zeros((3, 1))]).ravel(), binning_x=0, binning_y=0,
            roi=self._make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0,
                           do_rectify=False),
        )  # fmt: skip

    def _write_transform(self, topic: str, stamp_ns: int, parent: str, child: str, T: NDArray) -> None:
        x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat().tolist()
        tx, ty, tz = T[:3, 3].tolist()
        transform = self._make(
            "geometry_msgs/msg/Transform",
            translation=self._make("geometry_msgs/msg/Vector3", x=tx, y=ty, z=tz),
            rotation=self._make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
        )
        stamped = self._make(
            "geometry_msgs/msg/TransformStamped",
            header=self._header(stamp_ns, parent), child_frame_id=child, transform=transform,
        )  # fmt: skip
        self._write(topic, stamp_ns, "tf2_msgs/msg/TFMessage", transforms=[stamped])

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self._make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._store.types[kind](**fields)

    def _write(self, topic: str, stamp_ns: int, kind: str, **fields: Any) -> None:
        if topic not in self._connections:
            durability = QosDurability.TRANSIENT_LOCAL if topic == "/tf_static" else QosDurability.VOLATILE
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=[_qos(durability)]
            )
        data = self._store.serialize_cdr(self._make(kind, **fields), kind)
        self._writer.write(self._connections[topic], stamp_ns, data)


def _qos(durability: QosDurability) -> Qos:
    forever = QosTime(2147483647, 4294967295)
    return Qos(
        QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, durability, forever, forever,
        QosLiveliness.AUTOMATIC, forever, False,
    )  # fmt: skip
