"""Captures whose colour was taken by another camera than the depth, and never registered.

RGB-D recordings of the Kinect often list the intrinsics of the depth camera for both: conversions of 7-Scenes say 585
pixels, and its colour images were taken with about 525. The data set itself needs none of this: its reader knows both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lift_ros.data.capture import Capture
from lift_ros.data.changed import ChangedCapture
from lift_ros.data.registration import resample_depth
from lift_ros.errors import ConfigError
from lift_ros.frame import Frame

MAX_RATIO = 2.0  # between the two focal lengths: beyond, the number is given in other pixels, or is a slip


class ColorFocalCapture(ChangedCapture):
    """``capture`` with another focal length of its colour images, and the depth resampled to be seen as they are."""

    def __init__(self, capture: Capture, focal: float) -> None:
        """Args:
            focal: focal length of the colour camera, in pixels of the (undistorted) images.

        Raises:
            ConfigError: that is no focal length, or cannot be that of the first image.
            DatasetError: there is no image.
        """
        if not (np.isfinite(focal) and focal > 0):
            raise ConfigError(f"the focal length of the colour camera must be positive, in pixels; got {focal}")
        with_color_focal(next(iter(capture.frames)), focal)  # an error now, not in the middle of the work
        super().__init__(capture, lambda frame: with_color_focal(frame, focal))


def with_color_focal(frame: Frame, focal: float) -> Frame:
    """``frame`` with its image taken as one of focal length ``focal`` (pixels), and its depth resampled to fit.

    The depth keeps the intrinsics that were listed; both cameras are taken to share centre and axis, which is off by
    their baseline, a few centimetres.

    Raises:
        ConfigError: ``focal`` is far from what is listed.
    """
    listed = frame.camera
    zoom = listed.fx / focal
    if not 1 / MAX_RATIO <= zoom <= MAX_RATIO:
        raise ConfigError(
            f"the colour camera's focal length is given as {focal:g} pixels, but {listed.fx:g} is listed for images of "
            f"{listed.width}x{listed.height}: give it in pixels of these images"
        )
    camera = replace(listed, fx=focal, fy=listed.fy / zoom)
    depth = None if frame.depth is None else resample_depth(frame.depth, listed, camera)
    return replace(frame, camera=camera, depth=depth)
