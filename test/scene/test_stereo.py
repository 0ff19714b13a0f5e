from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scene import rooms

from lift_ros.camera import Camera
from lift_ros.frame import Frame
from lift_ros.render import Rendering
from lift_ros.scene.alignment import alignment_step
from lift_ros.scene.stereo import _semi_global, sweep_depth


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


@pytest.mark.parametrize("edge", [8, 10, 12])
def test_depth_jumps_where_the_image_has_an_edge(edge):
    """Between two surfaces lies a strip that could be of either; so the edge of the image in it decides."""
    cost = np.full((12, 20, 30), 0.5, np.float32)
    cost[:, :7, 5] = cost[:, 13:, 20] = 0
    image = np.zeros((12, 20), np.float32)
    image[:, edge:] = 1
    assert (_semi_global(cost, image).argmin(2) == np.where(np.arange(20) < edge, 5, 20)).all()


def test_single_wrong_depths_are_not_trusted():
    rng = np.random.default_rng(0)
    frames, truth = rooms.views(5, depth=False), rooms.views(5)[2].depth
    frames = [
        replace(f, image=np.clip(f.image + rng.normal(0, 25, f.image.shape), 0, 255).astype(np.uint8)) for f in frames
    ]
    found = sweep_depth(frames[2], [frames[i] for i in (0, 1, 3, 4)], 1.0, 6.0)
    wrong = np.abs(found.depth - truth) > 0.1 * truth
    right_around = np.abs(cv2.medianBlur(found.depth, 5) - truth) < 0.03 * truth
    assert (wrong & right_around).sum() > 100
    assert not found.trusted[wrong & right_around].any()
    assert found.trusted.mean() > 0.3


def test_what_stands_before_half_of_the_neighbours_spoils_no_depth():
    frames, truth = rooms.views(5, depth=False), rooms.views(5)[2].depth
    others = [frames[i] for i in (0, 1, 3, 4)]
    for i in (0, 3):
        image = others[i].image.copy()
        image[20:52, 30:66] = np.random.default_rng(i).integers(0, 256, (32, 36, 3))
        others[i] = replace(others[i], image=image)
    found = sweep_depth(frames[2], others, 1.0, 6.0)
    right = np.abs(found.depth - truth) < 0.1 * truth
    assert (right & found.trusted)[20:52, 25:71].mean() > 0.7


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


def test_an_image_far_wider_than_high():
    camera = Camera(3600, 11, 3000.0, 3000.0, 1800.0, 5.5)
    image = np.random.default_rng(0).integers(0, 256, (11, 3600, 3), np.uint8)
    frames = [Frame(image, camera, rooms.view(x).T_world_camera, 0.0) for x in (0.0, 0.1)]
    assert sweep_depth(frames[0], frames[1:], 1.0, 6.0).depth.shape == (11, 3600)
    seen, ones = torch.from_numpy(image).float() / 255, torch.ones(11, 3600)
    assert alignment_step(Rendering(seen, ones, ones), seen, frames[0].posed_camera()) is not None


def test_an_impossible_range_is_refused():
    frames = rooms.views(2, depth=False)
    with pytest.raises(ValueError, match="0 < near < far"):
        sweep_depth(frames[0], frames[1:], 3.0, 1.0)


def test_depth_of_what_is_ignored_is_not_trusted():
    frames = rooms.views(5, depth=False)
    ignored = np.zeros(frames[2].image.shape[:2], bool)
    ignored[20:50, 30:60] = True
    others = [frames[i] for i in (0, 1, 3, 4)]
    plain, found = (sweep_depth(frame, others, 1.0, 6.0) for frame in (frames[2], replace(frames[2], ignored=ignored)))
    assert plain.trusted[ignored].mean() > 0.5
    assert np.array_equal(found.trusted, plain.trusted & ~ignored)
