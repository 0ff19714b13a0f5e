"""Readers of recorded captures."""

from lift_ros.data.capture import Capture, SparseCloud, open_capture

__all__ = ["Capture", "SparseCloud", "open_capture"]
