from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scene import rooms

from lift_ros.scene.stereo import sweep_depth


def test_depth_and_edges_are_found():
    frames = rooms.views(5, depth=False)
    truth = rooms.views(5)[2].depth
    found = sweep_depth(frames[2], [frames[i] for i in (0, 1, 3, 4)], 1.0, 6.0)
    error = np.abs(found.depth - truth) / truth
    assert found.depth.shape == truth.shape
    assert np.median(error) < 0.02
    assert (error < 0.1).mean() > 0.85
    assert (error[found.trusted] < 0.1).mean() > (error < 0.1).mean()
    assert (found.trusted_depth[~found.trusted] == 0).all()


def test_a_black_image_is_not_trusted():
    frames = rooms.views(3, depth=False)
    black = replace(frames[1], image=np.zeros_like(frames[1].image))
    found = sweep_depth(black, [frames[0], frames[2]], 1.0, 6.0)
    assert np.isfinite(found.depth).all()
    assert found.trusted.mean() < 0.01


def test_a_neighbour_that_looks_elsewhere_gives_nothing():
    frame, behind = rooms.view(0.0, depth=False), rooms.view(0.1, yaw=np.pi, depth=False)
    found = sweep_depth(frame, [behind], 1.0, 6.0)
    assert (found.depth == 0).all()
    assert not found.trusted.any()


def test_an_impossible_range_is_refused():
    frames = rooms.views(2, depth=False)
    with pytest.raises(ValueError, match="0 < near < far"):
        sweep_depth(frames[0], frames[1:], 3.0, 1.0)
