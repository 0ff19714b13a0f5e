"""Which Gaussians of a full scene go, and what the rest looks like then."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lift_ros.camera import Camera, PosedCamera
from lift_ros.render import rasterize
from lift_ros.scene.gaussians import GaussianScene, Seeds
from lift_ros.scene.thinning import FINE, thinned

CAMERA = Camera(80, 60, 70.0, 70.0, 40.0, 30.0)
SIDE = 60


def wall(distance: float, spacing: float) -> Seeds:
    """A square of Gaussians in front of a camera at the origin, row by row."""
    x, y = np.meshgrid(np.arange(SIDE) - SIDE / 2, np.arange(SIDE) - SIDE / 2)
    n = SIDE * SIDE
    means = np.stack([x.ravel() * spacing, y.ravel() * spacing, np.full(n, distance)], 1)
    return Seeds(
        torch.from_numpy(means.astype(np.float32)),
        torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        torch.full((n, 3), 0.6 * spacing),
        torch.full((n,), 0.9),
        torch.full((n, 3), 0.7),
    )


@pytest.fixture
def scene() -> GaussianScene:
    """A near wall, whose Gaussians look 2 pixels large, and behind the camera a far one, where they look 0.4."""
    made = GaussianScene.empty()
    made.append(wall(2.0, 2 * 2.0 / 0.6 / CAMERA.fx))
    made.append(wall(-40.0, 0.4 * 40.0 / 0.6 / CAMERA.fx))
    return made


def here() -> PosedCamera:
    return PosedCamera.from_pose(CAMERA, np.eye(4))


def turned() -> PosedCamera:
    pose = np.diag([-1.0, 1.0, -1.0, 1.0])
    return PosedCamera.from_pose(CAMERA, pose)


def test_every_second_of_the_smallest_goes_and_its_neighbour_covers_for_it(scene):
    n = SIDE * SIDE
    before = scene.clone()
    gone, cover = thinned(scene, here(), 500, torch.zeros(2 * n, dtype=torch.int64), 20)
    assert int(gone.sum()) == int(cover.sum()) == 500 and not (gone & cover).any() and not gone[:n].any()
    origin = scene.thin(gone, cover)
    assert torch.equal(origin, (~gone).nonzero().squeeze(1))
    area = (2 * (scene.log_scales - before.log_scales[origin])).exp()
    assert torch.allclose(area, torch.where(cover[origin], 2.0, 1.0)[:, None].expand(-1, 3), rtol=1e-5)


def test_what_is_thinned_looks_the_same_from_here(scene):
    def alpha() -> torch.Tensor:
        return rasterize(scene.splats, torch.ones(len(scene), 1), turned()).alpha

    before = alpha()
    gone, cover = thinned(scene, here(), 10**6, torch.zeros(len(scene), dtype=torch.int64), 20)
    assert int(gone.sum()) == SIDE * SIDE // 2
    scene.thin(gone, cover)
    assert (before > 0.9).float().mean() > 0.05
    assert (alpha() - before)[before > 0.9].abs().mean() < 0.05


def test_no_object_falls_below_what_is_spared_and_nothing_near_goes(scene):
    n = SIDE * SIDE
    ids = torch.zeros(2 * n, dtype=torch.int64)
    ids[n : n + 39], ids[n + 39 : n + 100] = 7, 8
    for _ in range(4):
        gone, cover = thinned(scene, here(), 10**6, ids, 20)
        ids = ids[scene.thin(gone, cover)]
    assert torch.bincount(ids)[7:].tolist() == [39, 31]
    assert (scene.means[:, 2] > 0).sum() == n
    # what has grown to FINE stays
    far = (scene.means[:, 2] < 0) & (ids == 0)
    assert n / 8 < int(far.sum()) < n
    assert (CAMERA.fx * scene.scales[far].amax(1) / scene.means[far].norm(dim=1) >= FINE).all()
