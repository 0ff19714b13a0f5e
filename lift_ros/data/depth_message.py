"""The depth of a message as a frame has it, for recorded bags and for the node alike; no ROS import."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lift_ros.data.capture import clip_depth
from lift_ros.data.image_codec import message_depth
from lift_ros.data.listed import depth_at
from lift_ros.data.undistort import Undistorter


def depth_of_message(message: Any, undistorter: Undistorter, max_depth: float) -> NDArray[np.float32]:
    """Registered depth of an Image or CompressedImage at the pixels of the colour image, which ``undistorter`` is for.

    That of a coarser sensor is enlarged without mixing depths.

    Returns:
        (H, W) metres, 0 where unknown or beyond ``max_depth``.

    Raises:
        FrameRejected: as ``message_depth``; ``depth_size`` for one that is larger than the image or of another shape.
    """
    depth = clip_depth(message_depth(message), max_depth)
    camera = undistorter.camera  # of the size that the distorted image has
    if depth.shape[1] < camera.width:
        depth = depth_at(depth, camera.height, camera.width)
    return undistorter.depth(depth)
