"""One posed image, undistorted and checked: what every later stage may rely on."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera, PosedCamera
from lift_ros.errors import FrameRejected
from lift_ros.resampling import any_of, median_depth

ROTATION_TOLERANCE = 1e-3  # poses are published as float32 quaternions or 6-digit text
MAX_COORDINATE = 3e4  # metres; beyond, single precision resolves no millimetres
MAX_ROUNDING = 1.0  # pixels; objects blur from here on, and fail at five
NEAR = 100.0  # of whatever the unit is; from here it is rather the depth that is wrong
MIN_DEPTH = 0.01  # the near plane of the rasterizers: what is nearer would be planted and never drawn
MAX_DEPTH = 1e6  # beyond, it is a mark of the driver's for what it could not measure


def check_rigid(T: NDArray) -> NDArray[np.float64]:
    """Return ``T`` (4, 4) as float64 if it is a finite rigid transform.

    Raises:
        FrameRejected: ``pose_not_finite`` or ``pose_not_rigid``.
    """
    T = np.asarray(T, np.float64)
    if T.shape != (4, 4):
        raise FrameRejected("pose_not_rigid", f"pose must be a 4x4 matrix, got shape {T.shape}")
    if not np.isfinite(T).all():
        raise FrameRejected("pose_not_finite", "pose holds NaN or infinity")
    R = T[:3, :3]
    off = float(np.abs(R @ R.T - np.eye(3)).max())
    if off > ROTATION_TOLERANCE or np.linalg.det(R) < 0 or not np.allclose(T[3], (0, 0, 0, 1), atol=1e-6):
        raise FrameRejected(
            "pose_not_rigid",
            f"pose is not a rotation and a translation (R R^T is off the identity by {off:.2g}, "
            f"det R = {np.linalg.det(R):.3g})",
        )
    return T


@dataclass
class Frame:
    """A posed RGB image and, where there is one, its registered depth.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        camera: intrinsics of ``image`` (undistorted).
        T_world_camera: (4, 4) float64, camera-to-world, optical convention.
        stamp: seconds since the epoch of the capture's clock.
        depth: (H, W) float32, z-depth in metres (or the unit of the poses), 0 where unknown; None without a sensor.
        ignored: (H, W) bool, pixels that show nothing of the scene, such as the robot itself: they train and plant
            nothing, lie in no mask and have no label. None: none.
        labels: (h, w) integers, the masks that came with the image, 0 = no mask. Their resolution may be another; that
            they fit is checked where they are used (``masks_at``). None: none came.
        name: stem of the file or ``<seconds>_<nanoseconds>`` of the message, used to name outputs.
    """

    image: NDArray[np.uint8]
    camera: Camera
    T_world_camera: NDArray[np.float64]
    stamp: float
    depth: NDArray[np.float32] | None = None
    name: str = ""
    ignored: NDArray[np.bool_] | None = None
    labels: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        """Check shapes and pose, and zero depth that is no distance, too near to be drawn, or ``ignored``.

        Raises:
            FrameRejected: ``image_encoding``, ``image_size``, ``depth_size``, ``mask_size``, ``pose_not_finite``,
                ``pose_not_rigid``.
        """
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise FrameRejected(
                "image_encoding", f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}"
            )
        h, w = self.image.shape[:2]
        if (w, h) != (self.camera.width, self.camera.height):
            raise FrameRejected(
                "image_size", f"image is {w}x{h} but the camera info says {self.camera.width}x{self.camera.height}"
            )
        if self.ignored is not None and self.ignored.shape != (h, w):
            size = "x".join(str(n) for n in reversed(self.ignored.shape))
            raise FrameRejected("mask_size", f"ignored pixels are {size}, the image {w}x{h}")
        if self.depth is not None:
            if self.depth.shape != (h, w):
                size = "x".join(str(n) for n in reversed(self.depth.shape))
                raise FrameRejected("depth_size", f"depth is {size}, the image {w}x{h}")
            depth = self.depth.astype(np.float32, copy=False)
            usable = (depth > MIN_DEPTH) & (depth < MAX_DEPTH)
            self.depth = np.where(usable if self.ignored is None else usable & ~self.ignored, depth, np.float32(0))
        self.T_world_camera = check_rigid(self.T_world_camera)

    def with_labels(self, labels: NDArray[np.integer]) -> Frame:
        """The same frame with these masks; nothing is checked again, nothing of it copied."""
        frame = copy.copy(self)
        frame.labels = labels
        return frame

    def resized(self, width: int, height: int) -> Frame:
        """The frame at another resolution: colour by area, depth by the median (no mixing over edges), same labels."""
        if (width, height) == (self.camera.width, self.camera.height):
            return self
        depth = None if self.depth is None else median_depth(self.depth, height, width)
        return Frame(
            cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA),
            self.camera.resized(width, height),
            self.T_world_camera,
            self.stamp,
            depth,
            self.name,
            None if self.ignored is None else any_of(self.ignored, height, width),
            self.labels,
        )

    def at_width(self, width: int) -> Frame:
        """The frame at ``width`` pixels, or as it is where it has no more."""
        camera = self.camera.at_width(width)
        return self.resized(camera.width, camera.height)

    def posed_camera(self, device: str = "cpu") -> PosedCamera:
        """The camera with its world-to-camera matrix on ``device``."""
        return PosedCamera.from_pose(self.camera, self.T_world_camera, device)


def check_near(frame: Frame) -> None:
    """Check that a map in single precision can tell the pixels of ``frame`` apart where it was taken.

    Without depth nothing is known of the unit of its pose, which is taken for metres.

    Raises:
        FrameRejected: ``pose_far``.
    """
    position = np.abs(frame.T_world_camera[:3, 3]).max()
    if position <= NEAR:
        return
    if frame.depth is None or not (frame.depth > 0).any():
        far = position > MAX_COORDINATE
        why = f"the map resolves millimetres within {MAX_COORDINATE:.0f} m of the origin"
    else:
        distance = float(np.median(frame.depth[frame.depth > 0]))
        pixels = position * np.finfo(np.float32).eps / 2 * frame.camera.fx / distance
        far = pixels > MAX_ROUNDING
        why = f"there the map rounds what is {distance:.3g} away by {pixels:.1f} pixels"
    if far:
        where = ", ".join(f"{x:.0f}" for x in frame.T_world_camera[:3, 3])
        raise FrameRejected(
            "pose_far",
            f"the camera is at ({where}); {why}: give poses in a frame that starts nearby, such as map or odom, not in "
            "utm or earth",
        )
