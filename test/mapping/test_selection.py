"""Clicks on two look-alikes and a third thing, in a row of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lift_ros.camera import Camera, PosedCamera
from lift_ros.errors import LiftError
from lift_ros.lifting.clicks import similarity
from lift_ros.mapping.selection import Clicks, select, similarity_image
from lift_ros.mapping.snapshot import MIN_SHARE, MapSnapshot
from lift_ros.render import BlendWeights
from lift_ros.scene.gaussians import GaussianScene, Seeds
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


def test_what_is_similar_to_a_pixel_is_told_for_each_pixel(scene, method):
    image = similarity_image(scene, method, CAMERA, (72, 15))
    assert image.shape == (30, 90)
    assert image[15, [18, 45, 72]] == pytest.approx([1, 0, 1], abs=0.05)  # the outer look alike
    assert image[0, 0] == -1  # nothing is there


@pytest.mark.parametrize("threshold", [np.nan, np.inf, -np.inf])
def test_a_threshold_that_is_no_number(scene, method, threshold):
    with pytest.raises(LiftError, match="finite"):
        groups(scene, method, points=[np.zeros(3)], threshold=threshold)


def test_pixels_below_the_image_are_outside_of_it(scene, method):
    with pytest.raises(LiftError, match="outside the 90x30"):
        groups(scene, method, pixels=[(72, 30)])


def test_a_mask_has_the_pixels_of_which_what_is_selected_has_its_share(scene, method):
    near = Neighbours.of(scene.means, k=4)
    mask = select(snapshot_of(scene), method, near, Clicks([], [(72, 15)], CAMERA, 0.8, True)).mask
    chosen = torch.arange(len(scene)) >= 2 * GROUP
    some = GaussianScene(**{name: tensor[chosen] for name, tensor in scene.tensors().items()})
    alpha = snapshot_of(some).render(CAMERA).alpha.numpy()
    assert (alpha[mask] > MIN_SHARE - 1e-3).all() and ((alpha > 0.01) & ~mask).sum() > 10


def test_of_what_a_pixel_shows_the_most_is_what_hangs_together_with_it(scene, method):
    """A veil of another kind lies before the right group: it shows, but less."""
    veil = Seeds(
        torch.tensor([[0.45, 0.0, 0.5]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.1), torch.tensor([0.05]),
        torch.rand(1, 3),
    )  # fmt: skip
    both = GaussianScene.empty(0)
    both.append(veil)
    both = GaussianScene(**{name: torch.cat([first, getattr(scene, name)]) for name, first in both.tensors().items()})

    class All:
        def similarity(self, clicked: BlendWeights) -> torch.Tensor:
            return torch.ones(len(both))

    near = Neighbours.of(both.means, k=4)
    chosen = select(snapshot_of(both), All(), near, Clicks([], [(72, 15)], CAMERA, 0.8, True)).gaussians
    assert chosen[1 + 2 * GROUP :].all() and not chosen[0]


def test_where_the_most_of_a_pixel_is_not_similar_enough_what_it_shows_besides_hangs_together_with_it(scene):
    """The pixel shows several Gaussians of the right group; the one it shows most of has gone astray."""

    class Astray:
        def similarity(self, clicked: BlendWeights) -> torch.Tensor:
            assert len(clicked.col) > 1
            self.astray = int(clicked.col[clicked.val.argmax()])
            features = Outer.FEATURES.clone()
            features[self.astray] = torch.tensor([0.6, 0.8])
            return similarity(features, clicked)

    near, method = Neighbours.of(scene.means, k=4), Astray()
    chosen = select(snapshot_of(scene), method, near, Clicks([], [(72, 15)], CAMERA, 0.9, True)).gaussians
    expected = torch.arange(len(scene)) >= 2 * GROUP
    expected[method.astray] = False
    assert torch.equal(chosen, expected) and expected.sum() == GROUP - 1
