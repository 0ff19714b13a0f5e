"""Clicks on two look-alikes and a third thing, in a row of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lift_ros.camera import Camera, PosedCamera
from lift_ros.errors import LiftError
from lift_ros.lifting.clicks import similarity
from lift_ros.mapping.selection import Clicks, select
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.render import BlendWeights
from lift_ros.scene.gaussians import GaussianScene
from lift_ros.scene.neighbours import Neighbours

CAMERA = PosedCamera.from_pose(Camera(90, 30, 30.0, 30.0, 45.0, 15.0), np.eye(4))
GROUP = 9  # Gaussians, at x of about -1.8, 0 and 1.8; the outer two look alike


@pytest.fixture(scope="module")
def scene() -> GaussianScene:
    x = torch.cat([torch.linspace(-0.3, 0.3, GROUP) + middle for middle in (-1.8, 0.0, 1.8)])
    count = len(x)
    return GaussianScene(
        means=torch.stack([x, torch.zeros(count), torch.full((count,), 2.0)], 1),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        log_scales=torch.full((count, 3), -2.5),
        logit_opacities=torch.full((count,), 4.0),
        sh=torch.zeros(count, 1, 3),
    )


class Outer:
    """A method that knows the outer groups from the middle one."""

    FEATURES = torch.eye(2)[[0, 1, 0]].repeat_interleave(GROUP, 0)

    def similarity(self, clicked: BlendWeights) -> torch.Tensor:
        return similarity(self.FEATURES, clicked)


@pytest.fixture(scope="module")
def method() -> Outer:
    return Outer()


def snapshot_of(scene: GaussianScene) -> MapSnapshot:
    return MapSnapshot(scene, torch.arange(len(scene)), torch.zeros(len(scene)))


def groups(scene, method, **what) -> list[bool]:
    """Which groups are selected; each must be as a whole or not at all."""
    clicks = Clicks(**{"points": [], "pixels": [], "camera": CAMERA, "threshold": 0.8, "connected": True, **what})
    near = Neighbours.of(scene.means, k=4)
    chosen = select(snapshot_of(scene), method, near, clicks).gaussians.reshape(3, GROUP)
    assert (chosen == chosen[:, :1]).all()
    return chosen[:, 0].tolist()


def test_a_point_selects_what_hangs_together_with_it(scene, method):
    left = [np.array([-1.8, 0.1, 2.0])]
    assert groups(scene, method, points=left) == [True, False, False]
    assert groups(scene, method, points=left, connected=False) == [True, False, True]
    assert groups(scene, method, points=left, connected=False, threshold=-0.1) == [True, True, True]


def test_a_pixel_selects_what_it_shows(scene, method):
    right, middle = (72, 15), (45, 15)
    assert groups(scene, method, pixels=[right]) == [False, False, True]
    assert groups(scene, method, pixels=[middle]) == [False, True, False]
    assert groups(scene, method, pixels=[right, middle]) == [False, True, True]
    assert groups(scene, method, pixels=[middle], points=[np.array([-1.8, 0, 2.0])]) == [True, True, False]


def test_a_selection_is_told_as_points_and_as_a_mask(scene, method):
    near = Neighbours.of(scene.means, k=4)
    found = select(snapshot_of(scene), method, near, Clicks([], [(72, 15)], CAMERA, 0.8, True))
    assert np.allclose(found.points, scene.means[2 * GROUP :])
    assert found.ids.tolist() == list(range(2 * GROUP, 3 * GROUP)) and found.colors.shape == (GROUP, 3)
    assert found.mask.shape == (30, 90) and found.mask[15, 72] and not found.mask[:, :60].any()
    unseen = select(snapshot_of(scene), method, near, Clicks([np.array([1.8, 0, 2.0])], [], None, 0.8, True))
    assert unseen.mask is None and torch.equal(unseen.gaussians, found.gaussians)


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ({}, "nothing was clicked on"),
        ({"pixels": [(90, 3)]}, "outside the 90x30"),
        ({"pixels": [(3, -1)]}, "outside the 90x30"),
        ({"pixels": [(0, 0)]}, r"nothing at pixel \(0, 0\)"),
        ({"pixels": [(3, 3)], "camera": None}, "no view"),
    ],
)
def test_clicks_that_meet_nothing(scene, method, what, complaint):
    with pytest.raises(LiftError, match=complaint):
        groups(scene, method, **what)


def test_an_empty_map():
    empty = GaussianScene.empty(0, torch.device("cpu"))
    clicks = Clicks([np.zeros(3)], [], None, 0.5, True)
    with pytest.raises(LiftError, match="empty"):
        select(snapshot_of(empty), Outer(), Neighbours.of(empty.means), clicks)
