"""ROS messages from arrays and objects, and the few fields of messages that are needed as arrays."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, Vector3
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header

from lift_ros.camera import Camera
from lift_ros.data.transforms import pose_matrix
from lift_ros.msg import LabelInfo, Object
from lift_ros.objects.description import MapObject

UNLABELLED = LabelInfo.UNLABELLED

_POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4"), ("id", "<u4")])
_FIELD_TYPES = {"<f4": PointField.FLOAT32, "<u4": PointField.UINT32}


def frame_name(frame_id: str) -> str:
    """A frame as tf2 knows it, which refuses names with a leading "/", as ROS 1 and what was recorded there have."""
    return frame_id.lstrip("/")


def nanoseconds(stamp: Time) -> int:
    """A stamp as one number."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_stamp(seconds: float) -> Time:
    """Seconds since the epoch, to the microsecond that a float holds. See ``outputs.Stamps`` for the nanoseconds."""
    microseconds = round(seconds * 1e6)
    return Time(sec=microseconds // 1_000_000, nanosec=microseconds % 1_000_000 * 1000)


def matrix_from_transform(transform: Transform) -> NDArray[np.float64]:
    """(4, 4). Raises FrameRejected, see ``pose_matrix``."""
    t, q = transform.translation, transform.rotation
    return pose_matrix(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))


def matrix_from_pose(pose: Pose) -> NDArray[np.float64]:
    """(4, 4). Raises FrameRejected, see ``pose_matrix``."""
    p, q = pose.position, pose.orientation
    return pose_matrix(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def to_point(p: ArrayLike) -> Point:
    """(3,) -> Point."""
    x, y, z = np.asarray(p, np.float64).tolist()
    return Point(x=x, y=y, z=z)


def to_vector(v: ArrayLike) -> Vector3:
    """(3,) -> Vector3."""
    x, y, z = np.asarray(v, np.float64).tolist()
    return Vector3(x=x, y=y, z=z)


def to_color(rgb: ArrayLike) -> ColorRGBA:
    """(3,) uint8 -> ColorRGBA, opaque."""
    r, g, b = (np.asarray(rgb, np.float64) / 255.0).tolist()
    return ColorRGBA(r=r, g=g, b=b, a=1.0)


def label_message(header: Header, labels: NDArray[np.integer]) -> Image:
    """(H, W) ids, 0 = unlabelled -> mono16. Ids that do not fit are unlabelled, too."""
    values = np.where((labels > 0) & (labels < UNLABELLED), labels, UNLABELLED).astype("<u2")
    return _image(header, "mono16", values.view(np.uint8), 2 * labels.shape[1])


def rgb_message(header: Header, image: NDArray[np.uint8]) -> Image:
    """(H, W, 3) -> rgb8."""
    return _image(header, "rgb8", image, 3 * image.shape[1])


def mask_message(header: Header, mask: NDArray[np.bool_]) -> Image:
    """(H, W) -> mono8, 255 inside."""
    return _image(header, "mono8", mask.astype(np.uint8) * 255, mask.shape[1])


def float_message(header: Header, image: NDArray[np.float32]) -> Image:
    """(H, W) -> 32FC1."""
    return _image(header, "32FC1", np.asarray(image, "<f4").view(np.uint8), 4 * image.shape[1])


def camera_info_message(header: Header, camera: Camera) -> CameraInfo:
    """The intrinsics of undistorted images, in ROS's pixel convention."""
    K = camera.opencv_K
    return CameraInfo(
        header=header, width=camera.width, height=camera.height, distortion_model="plumb_bob", d=[0.0] * 5,
        k=K.ravel(), r=np.eye(3).ravel(), p=np.hstack([K, np.zeros((3, 1))]).ravel(),
    )  # fmt: skip


def cloud_message(
    header: Header, points: NDArray[np.float32], colors: NDArray[np.uint8], ids: NDArray[np.integer] | int
) -> PointCloud2:
    """(N, 3) points, (N, 3) RGB, ids (N,) or one for all -> x, y, z, rgb, id."""
    data = np.empty(len(points), _POINT)
    data["x"], data["y"], data["z"] = np.asarray(points, np.float32).reshape(-1, 3).T
    r, g, b = np.asarray(colors, np.uint32).reshape(-1, 3).T
    data["rgb"] = r << 16 | g << 8 | b
    data["id"] = ids
    fields = [
        PointField(
            name=name, offset=_POINT.fields[name][1], count=1,
            # by convention the packed colour travels as a float
            datatype=PointField.FLOAT32 if name == "rgb" else _FIELD_TYPES[_POINT[name].str],
        )
        for name in _POINT.names
    ]  # fmt: skip
    cloud = PointCloud2(
        header=header, height=1, width=len(data), fields=fields, is_bigendian=False,
        point_step=_POINT.itemsize, row_step=_POINT.itemsize * len(data), is_dense=True,
    )  # fmt: skip
    cloud.data = _bytes(data)
    return cloud


def cloud_arrays(cloud: PointCloud2) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint32]]:
    """Points (N, 3), RGB (N, 3) and ids (N,) of a message made by ``cloud_message``."""
    data = np.frombuffer(cloud.data, _POINT)
    points = np.stack([data["x"], data["y"], data["z"]], -1)
    colors = np.stack([data["rgb"] >> 16 & 255, data["rgb"] >> 8 & 255, data["rgb"] & 255], -1).astype(np.uint8)
    return points, colors, data["id"].copy()


def object_message(item: MapObject, stamp: Callable[[float], Time] = to_stamp) -> Object:
    """One object of the map; ``stamp``: from seconds."""
    w, x, y, z = np.asarray(item.box.quaternion_wxyz, np.float64).tolist()
    return Object(
        id=item.id, parent=item.parent, confidence=float(item.confidence), uncertainty=float(item.uncertainty),
        first_seen=stamp(item.first_seen), last_seen=stamp(item.last_seen), views=int(item.views),
        centroid=to_point(item.centroid),
        box=Pose(position=to_point(item.box.center), orientation=Quaternion(w=w, x=x, y=y, z=z)),
        box_size=to_vector(item.box.size), color=to_color(item.color), points=len(item.points),
    )  # fmt: skip


def _image(header: Header, encoding: str, pixels: NDArray[Any], step: int) -> Image:
    image = Image(header=header, height=pixels.shape[0], encoding=encoding, is_bigendian=0, step=step)
    image.width = step // {"mono8": 1, "mono16": 2, "rgb8": 3, "32FC1": 4}[encoding]
    image.data = _bytes(pixels)
    return image


def _bytes(values: NDArray[Any]) -> array.array:
    # rclpy copies an array.array as a block, and any other sequence element by element while it holds the GIL
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values).tobytes())
    return data
