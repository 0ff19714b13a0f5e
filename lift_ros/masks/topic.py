"""Masks made by another node, which come with the frame. Knows nothing of ROS: see ``ros/mask_sync.py``."""

from __future__ import annotations

from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame
from lift_ros.masks.base import Masks, Prompts
from lift_ros.masks.recorded import masks_at


class TopicSegmenter:
    """Answers with the label image that the frame carries."""

    name = "topic"
    promptable = False

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """The masks of ``frame.labels``; ``prompts`` change nothing.

        Raises:
            FrameRejected: ``masks_missing`` where it carries none; as ``masks_at``.
        """
        if frame.labels is None:
            raise FrameRejected("masks_missing", f"no masks for the image of {frame.stamp:.6f} s are there")
        return masks_at(frame.labels, frame)
