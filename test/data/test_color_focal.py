"""Colour images with a focal length of their own."""

from __future__ import annotations

import numpy as np
import pytest

from lift_ros.camera import Camera
from lift_ros.data import open_capture
from lift_ros.data.color_focal import ColorFocalCapture, with_color_focal
from lift_ros.errors import ConfigError
from lift_ros.frame import Frame

LISTED = Camera(64, 48, 60.0, 63.0, 33.0, 22.0)


def frame(depth: np.ndarray | None) -> Frame:
    return Frame(np.zeros((48, 64, 3), np.uint8), LISTED, np.eye(4), 0.0, depth, "a")


def test_depth_is_seen_as_by_the_colour_camera():
    """A slanted plane stays that plane under the new intrinsics."""
    rays = LISTED.unproject(np.ones((48, 64), np.float32))
    depth = 2.0 / (1 + 0.3 * rays[..., 0] - 0.2 * rays[..., 1])
    seen = with_color_focal(frame(depth), 48.0)
    assert (seen.camera.fx, seen.camera.fy) == (48.0, pytest.approx(63.0 * 48 / 60))
    points = seen.camera.unproject(seen.depth)[seen.depth > 0]
    assert 0.5 < len(points) / depth.size < 0.75  # it sees more than the depth camera
    assert np.abs(points @ (0.3, -0.2, 1.0) - 2).max() < 0.03  # within half a pixel
    assert not seen.depth[0].any() and seen.depth[22, 33] == depth[22, 33]


def test_colour_alone_takes_the_focal_length():
    seen = with_color_focal(frame(None), 70.0)
    assert seen.depth is None and seen.camera.fx == 70.0


@pytest.mark.parametrize("focal", [0.0, -525.0, float("nan"), float("inf")])
def test_what_is_no_focal_length(demo_room, focal):
    with open_capture(demo_room.capture) as capture, pytest.raises(ConfigError, match="must be positive"):
        ColorFocalCapture(capture, focal)


def test_a_focal_length_in_other_pixels():
    with pytest.raises(ConfigError, match="given as 525 pixels, but 60 is listed for images of 64x48"):
        with_color_focal(frame(None), 525.0)


def test_everything_else_is_that_of_the_capture(demo_room):
    with open_capture(demo_room.capture) as capture:
        listed = next(iter(capture.frames))
        other = ColorFocalCapture(capture, 0.9 * listed.camera.fx)
        assert (len(other), other.name, other.world_frame) == (len(capture), capture.name, capture.world_frame)
        assert other.has_depth and other.recorded_names == capture.recorded_names
        first = next(iter(other.frames))
        assert np.array_equal(first.image, listed.image) and first.name == listed.name
        assert not np.array_equal(first.depth, listed.depth)
        assert np.array_equal(other.recorded_labels("L0", first), capture.recorded_labels("L0", listed))
