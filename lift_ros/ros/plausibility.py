"""Mistakes in what the node is told of its camera that raise no error, but spoil the map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from sensor_msgs.msg import CameraInfo

from lift_ros.errors import FrameRejected
from lift_ros.ros.compat import Buffer
from lift_ros.ros.conversions import nanoseconds
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.pose_source import lookup_tf
from lift_ros.ros.queues import DropCounter

FIRST = 30  # frames by which a camera that looks straight up is told
ALONG = 0.95  # cosine of the angle, up to which two axes count as one
SOON = 1.0  # s, between images that can be compared
FAR = 2.0  # m, or what the unit of the poses is, from one such image to the next
SUDDEN = 5.0  # times what the speed before would have made of it: a vehicle may be fast
TURN = 90.0  # degrees from one such image to the next
SPIN = 300.0  # degrees/s, faster than a camera is turned by hand


class Plausibility:
    """What is odd is used all the same: it may be right.

    Attributes:
        warnings: what is most likely wrong, for the diagnostics; each is logged once, too.
    """

    def __init__(self, rectified: bool, up: str, buffer: Buffer, drops: DropCounter, logger: RcutilsLogger) -> None:
        """``rectified``: as the parameter says. ``up``: as in ``ObjectsConfig``."""
        self.warnings: list[str] = []
        self._rectified = rectified
        self._up = up
        self._buffer = buffer
        self._drops = drops
        self._log = logger
        self._is_body = False  # told once
        self._upward = 0  # frames so far, all of which looked up; negative once one did not, or it was told
        self._before: tuple[float, NDArray[np.float64]] | None = None  # stamp, s, and pose of the latest frame
        self._speed: float | None = None  # m/s

    def check_info(self, info: CameraInfo, image_topic: str) -> None:
        """Whether rectified images would be undistorted once more. ``image_topic``: in full, as remapped."""
        if not self._rectified and "image_rect" in image_topic and any(info.d):  # the names image_proc gives
            self._warn(
                f"{image_topic} is rectified, by its name, and camera_info has a distortion, which is taken out again: "
                "set rectified to true"
            )

    def check_frame(self, live: LiveFrame) -> None:
        """Whether it is seen along the axes of a camera, and from where it can be after the one before."""
        self._check_axes(live)
        self._check_step(live.frame.stamp, live.frame.T_world_camera)

    def _check_axes(self, live: LiveFrame) -> None:
        frame, T = live.header.frame_id, live.frame.T_world_camera
        for child in () if self._is_body else self._buffer.children(frame):
            if child.endswith("_optical_frame") and self._is_optical(child, frame, live):
                self._is_body = True
                self._warn(
                    f"the images are said to be of '{frame}', which is a body's, as its child '{child}' is the optical "
                    "frame: set camera_frame to it, or the map lies on its side"
                )
        if self._up == "none" or self._upward < 0:
            return
        # a body frame has z up; a camera that looks down, as a drone's, has it down
        self._upward = self._upward + 1 if T["xyz".index(self._up), 2] > ALONG else -1
        if self._upward == FIRST:
            self._upward = -1
            self._log.warning(
                f"the first {FIRST} images look straight up, along {self._up} of the world: if the camera does not, "
                f"'{frame}' is no optical frame; set camera_frame, or the map lies on its side"
            )

    def _is_optical(self, child: str, frame: str, live: LiveFrame) -> bool:
        """Whether ``child`` lies in ``frame`` as the optical frame of a camera in its body: z ahead, y down."""
        try:
            T = lookup_tf(self._buffer, frame, child, nanoseconds(live.header.stamp))
        except FrameRejected:
            return False
        return T[0, 2] > ALONG and T[2, 1] < -ALONG

    def _check_step(self, stamp: float, T: NDArray[np.float64]) -> None:
        """A jump is that of the localisation, which may have been wrong before and be right from now on."""
        stamp_before, T_before = self._before or (stamp, T)
        self._before = stamp, T
        seconds = stamp - stamp_before
        if not 0.0 < seconds < SOON:
            self._speed = None
            return
        moved = float(np.linalg.norm(T[:3, 3] - T_before[:3, 3]))
        far = self._speed is not None and moved > max(FAR, SUDDEN * self._speed * seconds)
        turned = _angle(T_before, T)
        self._speed = moved / seconds
        if far or turned > max(TURN, SPIN * seconds):
            self._drops.add("pose_jump")
            self._log.warning(
                f"within {seconds:.2f} s the camera moved by {moved:.1f} and turned by {turned:.0f} degrees: if the "
                "localisation jumped, what was mapped before lies elsewhere now",
                throttle_duration_sec=5.0,
            )

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            self._log.warning(text)


def _angle(T: NDArray[np.float64], T_other: NDArray[np.float64]) -> float:
    """Between two poses (4, 4), degrees."""
    cosine = (np.sum(T[:3, :3] * T_other[:3, :3]) - 1.0) / 2.0
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
