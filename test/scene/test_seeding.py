from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scene import rooms

from lift_ros.frame import Frame
from lift_ros.render import Rendering
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.gaussians import GaussianScene, Seeds, rotation_matrices
from lift_ros.scene.seeder import Seeder
from lift_ros.scene.seeding import (
    half_width,
    near_jumps,
    random_seeds,
    seeds_from_cloud,
    seeds_from_depth,
    too_coarse,
    unexplained,
)
from lift_ros.scene.trainer import PhotometricTrainer

EVERYWHERE = np.ones((rooms.CAMERA.height, rooms.CAMERA.width), bool)


def distance_to_surface(points: torch.Tensor, unit: float = 1.0) -> np.ndarray:
    """Of world points to the wall or the front of the box of ``rooms``."""
    x, y, z = points.double().numpy().T / unit
    outside = np.maximum(np.maximum(np.abs(x), np.abs(y)) - rooms.BOX_HALF, 0)
    return np.minimum(np.abs(z - rooms.WALL), np.hypot(z - rooms.BOX, outside)) * unit


def test_depth_seeds_lie_on_the_surface_and_face_it():
    frame = rooms.view(0.3, yaw=-0.1)
    seeds = seeds_from_depth(frame, frame.depth, EVERYWHERE, spacing=3.0)
    assert len(seeds) > 200
    assert distance_to_surface(seeds.means).max() < 1e-4
    normal = rotation_matrices(seeds.quats)[:, :, 2]
    flat = seeds.scales[:, 2] < 0.5 * seeds.scales[:, 0]
    assert flat.float().mean() > 0.7  # all but those at the edges of the box
    assert normal[flat, 2].abs().min() > 0.99
    uv, _ = frame.camera.project((seeds.means.numpy() - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3])
    column, row = uv.astype(int).T
    assert np.abs(seeds.colors.numpy() * 255 - frame.image[row, column]).mean() < 2


@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_spacing_is_in_pixels_whatever_the_unit(unit):
    frame = rooms.view(0.0, unit=unit)
    few = seeds_from_depth(frame, frame.depth, EVERYWHERE, spacing=6.0)
    many = seeds_from_depth(frame, frame.depth, EVERYWHERE, spacing=3.0)
    assert 2.5 < len(many) / len(few) < 6
    assert 0.4 < len(many) / (EVERYWHERE.size / 9) < 2.5
    assert 0.5 < many.scales[:, 0].median() / (3 * rooms.WALL * unit / frame.camera.fx) < 1.0


def test_seeds_are_small_beside_jumps_of_the_depth():
    frame = rooms.view(0.0)
    jumps = near_jumps(frame.depth)
    box = frame.depth < (rooms.WALL + rooms.BOX) / 2
    inner, outer = (cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for mask in (~box, box))
    assert (jumps >= (inner & outer)).all()  # both sides of the box's outline
    assert not jumps[cv2.dilate((inner & outer).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0].any()
    assert not near_jumps(np.where(box, 0, frame.depth).astype(np.float32)).any()  # unknown is no jump
    slope = np.repeat(np.linspace(1, 2, 96, dtype=np.float32)[:, None], 50, axis=1)
    assert not near_jumps(slope).any()

    seeder, empty = Seeder(SceneConfig(seed_spacing=6.0)), PhotometricTrainer(GaussianScene.empty(), SceneConfig())
    seeds = seeder.seeds(seeder.add(frame), empty.render(frame.posed_camera()), 0)
    radius, (row, column) = radii(seeds, frame)
    assert np.median(radius[jumps[row, column]]) < 0.6 * np.median(radius[~jumps[row, column]])


def radii(seeds: Seeds, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Of seeds (n,) in pixels of the frame, and their rows and columns (2, n)."""
    uv, z = frame.camera.project((seeds.means.numpy() - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3])
    return seeds.scales[:, 0].numpy() / z * frame.camera.fx, uv.astype(int).T[::-1]


def test_seeds_in_a_scene_that_is_nearly_full_are_no_wider_than_what_they_explain():
    frame = rooms.view(0.0)
    seeder = Seeder(SceneConfig(max_gaussians=10_000))
    alpha = np.ones((frame.camera.height, frame.camera.width), np.float32)
    alpha[20, 10:20] = alpha[15:17, 40] = 0  # cracks of one pixel
    alpha[30:, 50:] = 0  # new ground
    rendering = Rendering(torch.zeros(*alpha.shape, 3), torch.from_numpy(alpha), torch.from_numpy(frame.depth))
    radius, (row, column) = radii(seeder.seeds(seeder.add(frame), rendering, 7000), frame)
    wide = (row >= 32) & (column >= 52)
    assert wide.any() and np.median(radius[wide]) > 4
    cracks = row < 28
    assert cracks.any() and radius[cracks].max() < 2


def test_half_the_width_of_patches():
    where = np.zeros((30, 40), bool)
    where[3, 4] = where[10, 2:20] = True
    where[15:26, 20:35] = True
    width = half_width(where)
    assert width[3, 4] == width[10, 10] == 1
    assert width[20, 27] == pytest.approx(6) and width[15, 20] == pytest.approx(3)
    assert half_width(np.ones((4, 5), bool)).min() > 4  # no end is in sight


def test_small_masks_get_the_gaussians_they_need_once():
    """A mask of 6 x 6 pixels lies within one or two Gaussians of a scene seeded every 5 pixels."""
    config = SceneConfig(max_gaussians=10_000, seed_spacing=5.0)
    scene, frame = GaussianScene.empty(), rooms.view(0.0)
    trainer, seeder = PhotometricTrainer(scene, config), Seeder(config)
    labels = np.ones(EVERYWHERE.shape, np.int32)
    labels[10:16, 10:16] = 2
    index = seeder.add(frame)

    def plant(with_masks: bool) -> tuple[int, int]:
        """How many seeds there are, and how many of them in the mask."""
        rendering = trainer.render(frame.posed_camera())
        finer = too_coarse(frame, rendering, scene.means.numpy(), labels, 16) if with_masks else None
        seeds = seeder.seeds(index, rendering, len(scene), finer)
        trainer.edit(scene.append(seeds))
        uv, _ = frame.camera.project(seeds.means.numpy() - frame.T_world_camera[:3, 3])
        return len(seeds), int(((uv >= 10) & (uv < 16)).all(1).sum())

    everywhere, inside = plant(with_masks=False)
    assert everywhere > 100 and inside <= 4
    assert plant(with_masks=True)[1] >= 12
    assert plant(with_masks=True)[1] == 0
    rendering = trainer.render(frame.posed_camera())
    none = too_coarse(frame, rendering, np.zeros((0, 3), np.float32), np.zeros_like(labels), 16)
    assert not none.any()


def test_what_the_scene_explains_is_not_seeded_again():
    config = SceneConfig(max_gaussians=10_000)
    scene = GaussianScene.empty()
    trainer, seeder = PhotometricTrainer(scene, config), Seeder(config)
    counts = []
    for frame in rooms.views(4):
        index = seeder.add(frame)
        seeds = seeder.seeds(index, trainer.render(frame.posed_camera()), len(scene))
        trainer.edit(scene.append(seeds))
        counts.append(len(seeds))
    assert counts[0] > 300
    assert max(counts[1:]) < 0.5 * counts[0]

    moved = rooms.view(0.5, 0.1)
    moved.depth[:, :40] = 1.0  # something new stands in front
    seeds = seeder.seeds(seeder.add(moved), trainer.render(moved.posed_camera()), len(scene))
    in_front = (seeds.means[:, 2] - 1.0).abs() < 1e-3
    assert in_front.float().mean() > 0.8


def test_seeds_thin_out_as_the_budget_fills():
    config = SceneConfig(max_gaussians=1000)
    seeder = Seeder(config)
    frame = rooms.view(0.0)
    index = seeder.add(frame)
    empty = PhotometricTrainer(GaussianScene.empty(), config).render(frame.posed_camera())
    counts = [len(seeder.seeds(index, empty, taken)) for taken in (0, 400, 700, 1000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[2] < 0.5 * counts[0]
    assert counts[3] == 0


@pytest.mark.parametrize("source", ["depth", "stereo", "features"])
def test_the_seeds_of_a_view_do_not_exceed_the_budget(source):
    """As an image of 1280 x 960 pixels in a scene of 200,000 Gaussians."""
    config = SceneConfig(max_gaussians=100, stereo=source == "stereo")
    seeder = Seeder(config)
    for frame in rooms.views(4, depth=source == "depth"):
        index = seeder.add(frame)
    empty = PhotometricTrainer(GaussianScene.empty(), config).render(frame.posed_camera())
    for count, most in ((0, 100), (60, 40), (79, 21), (80, 0)):
        seeds = seeder.seeds(index, empty, count)
        assert 0.5 * most <= len(seeds) <= most
    if source == "depth":
        seeds = seeder.seeds(index, empty, 0)
        radius, (row, column) = radii(seeds, frame)
        assert np.median(radius) > 0.35 * (EVERYWHERE.size / 100) ** 0.5  # they cover the view all the same
        assert row.max() > 50 and row.min() < 22 and column.max() > 66 and column.min() < 30


@pytest.mark.parametrize("unit", [1.0, 37.0])
def test_without_depth_neighbours_give_it(unit):
    frames = rooms.views(5, depth=False, unit=unit)
    truth = rooms.views(5, unit=unit)
    config = SceneConfig()
    seeder = Seeder(config)
    for frame in frames:
        seeder.add(frame)
    stereo = seeder.depth(2)
    error = np.abs(stereo.depth - truth[2].depth) / truth[2].depth
    assert stereo.trusted.mean() > 0.5
    assert np.median(error[stereo.trusted]) < 0.02
    box = truth[2].depth < 0.9 * rooms.WALL * unit
    assert np.median(error[box]) < 0.05
    empty = PhotometricTrainer(GaussianScene.empty(), config).render(frames[2].posed_camera())
    seeds = seeder.seeds(2, empty, 0)
    assert np.median(distance_to_surface(seeds.means, unit)) < 0.05 * rooms.WALL * unit


def test_depth_is_estimated_from_where_frames_are_known_to_be_by_now():
    frames = rooms.views(5, depth=False)
    astray = [frame.T_world_camera.copy() for frame in frames]
    for k, pose in enumerate(astray):
        pose[0, 3] *= 1.2  # a fifth too far apart, so that all seems a fifth farther off
        pose[1, 3] += 0.01 * (-1) ** k
    corrected = Seeder(SceneConfig())
    for frame, pose in zip(frames, astray, strict=True):
        corrected.add(replace(frame, T_world_camera=pose))
    before = corrected.depth(2)
    for index, frame in enumerate(frames):
        corrected.move(index, frame.T_world_camera)
    truth = rooms.views(5)[2].depth
    after = corrected.depth(2)
    wrong, right = (np.median((np.abs(each.depth - truth) / truth)[each.trusted]) for each in (before, after))
    assert wrong > 0.1 and right < 0.03


def test_the_first_frame_without_depth_waits_for_a_second():
    frame = rooms.view(0.0, depth=False)
    seeder = Seeder(SceneConfig())
    index = seeder.add(frame)
    assert seeder.depth(index) is None
    empty = PhotometricTrainer(GaussianScene.empty(), SceneConfig()).render(frame.posed_camera())
    assert len(seeder.seeds(index, empty, 0)) == 0


def test_without_stereo_features_are_planted():
    config = SceneConfig(stereo=False)
    seeder, empty = Seeder(config), PhotometricTrainer(GaussianScene.empty(), config)
    for frame in rooms.views(4, depth=False):
        seeds = seeder.seeds(seeder.add(frame), empty.render(frame.posed_camera()), 0)
    sure = seeds[seeds.opacities > 0.5]
    assert seeder.depth(3) is None
    assert len(sure) > 20
    assert np.median(distance_to_surface(sure.means)) < 0.1
    assert len(seeds) > len(sure)  # the rest is chance


def test_blank_frames_get_random_seeds_after_a_while():
    frames = rooms.views(6, depth=False)
    for frame in frames:
        frame.image = np.full_like(frame.image, 90)
    config = SceneConfig()
    seeder, empty = Seeder(config), PhotometricTrainer(GaussianScene.empty(), config)
    counts = [len(seeder.seeds(seeder.add(f), empty.render(f.posed_camera()), 0)) for f in frames]
    assert counts[0] == 0
    assert counts[-1] > 500


def test_a_camera_at_rest_gets_no_seeds_by_the_noise_of_its_poses():
    config, rng = SceneConfig(), np.random.default_rng(0)
    seeder, empty = Seeder(config), PhotometricTrainer(GaussianScene.empty(), config)
    for k in range(12):
        frame = rooms.view(0.0, yaw=0.02 * k, depth=False)  # it may look around
        frame.T_world_camera[:3, 3] += 0.005 * rng.normal(size=3)
        seeds = seeder.seeds(seeder.add(frame), empty.render(frame.posed_camera()), 0)
        assert not (seeds.opacities < 0.5).any()  # none at random


def test_a_large_cloud_leaves_room_for_frames():
    seeder = Seeder(SceneConfig(max_gaussians=1000))
    points = np.random.default_rng(0).normal(size=(5000, 3))
    assert 300 < len(seeder.add_cloud(points, np.zeros((5000, 3), np.uint8))) <= 400


def test_random_seeds_fill_the_frustum():
    frame = rooms.view(0.2, yaw=0.3)
    where = EVERYWHERE.copy()
    where[:, 48:] = False
    seeds = random_seeds(frame, where, 1.0, 4.0, 500, np.random.default_rng(0))
    local = (seeds.means.numpy() - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3]
    uv, z = frame.camera.project(local)
    assert len(seeds) == 500
    assert z.min() > 0.99
    assert z.max() < 4.01
    assert (uv[:, 0] < 48).all()


def test_cloud_seeds_take_their_size_from_their_neighbours():
    grid = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0), [0.0]), axis=-1).reshape(-1, 3)
    points = np.concatenate([grid, [[500.0, 0, 0], [np.nan, 0, 0]], grid[:3]])
    seeds = seeds_from_cloud(points, np.full((len(points), 3), 128, np.uint8))
    assert len(seeds) == 101
    assert torch.allclose(seeds.scales[:50], torch.tensor(0.5), atol=0.2)
    assert seeds.scales.max() < 4


def test_no_depth_at_all_gives_no_seeds():
    frame = rooms.view(0.0)
    for depth in (np.zeros_like(frame.depth), np.full_like(frame.depth, np.nan)):
        assert len(seeds_from_depth(frame, depth, EVERYWHERE, 3.0)) == 0


def seen_as(depth: np.ndarray, alpha: float | np.ndarray = 1.0) -> Rendering:
    """A scene at this depth."""
    covered = torch.from_numpy(np.broadcast_to(np.float32(alpha), depth.shape).copy())
    return Rendering(torch.zeros(*depth.shape, 3), covered, torch.from_numpy(depth.astype(np.float32)))


def test_a_scene_explains_what_it_covers_at_the_depth_that_is_measured():
    frame = rooms.view(0.0)
    frame.depth[:10] = 0  # unknown

    def share(factor: float, alpha: float = 1.0) -> float:
        where = unexplained(frame, seen_as(frame.depth * factor + (frame.depth == 0), alpha), 0.5, 0.05)
        assert where[:10].all() if alpha < 0.5 else not where[:10].any()  # where nothing is measured, nothing is off
        return where[10:].mean()

    assert share(1.0) == 0 and share(1.0, alpha=0.4) == 1
    assert share(1.04) == 0 and share(1.06) == 1
    assert share(0.9) == 0 and share(0.79) == 1  # fringes in front are left to training


def test_what_is_hidden_in_a_mask_does_not_count_as_its_gaussians():
    frame = rooms.view(0.0)
    labels = np.zeros(EVERYWHERE.shape, np.int32)
    labels[10:14, 10:14] = 1
    pixels = np.stack(np.meshgrid(np.arange(10, 14), np.arange(10, 14)), -1).reshape(-1, 2) + 0.5
    rays = np.concatenate([(pixels - (frame.camera.cx, frame.camera.cy)) / frame.camera.fx, np.ones((16, 1))], 1)
    depth = frame.depth[10:14, 10:14].reshape(-1, 1)
    for times, missing in ((1.0, False), (1.2, True), (0.8, True)):
        points = (frame.T_world_camera[:3, 3] + times * depth * rays).astype(np.float32)
        assert too_coarse(frame, seen_as(frame.depth), points, labels, 16).any() == missing
    points = (frame.T_world_camera[:3, 3] + depth * rays).astype(np.float32)
    assert too_coarse(frame, seen_as(frame.depth), points[:12], labels, 12).max() == 0
    # a mask of 16 pixels cannot hold more Gaussians than that
    assert too_coarse(frame, seen_as(frame.depth), points, labels, 100).max() == 0
    assert too_coarse(frame, seen_as(frame.depth), points[1:], labels, 100).max() > 0


def slope(degrees: float) -> Frame:
    """A wall that is turned about the vertical by so much."""
    frame = rooms.view(0.0)
    ray = (np.arange(frame.camera.width) + 0.5 - frame.camera.cx) / frame.camera.fx
    depth = rooms.WALL / (1 - np.tan(np.radians(degrees)) * ray)
    frame.depth = np.repeat(depth[None].astype(np.float32), frame.camera.height, axis=0)
    return frame


def test_seeds_on_a_surface_that_is_seen_at_a_grazing_angle_are_larger():
    middle = np.zeros(EVERYWHERE.shape, bool)
    middle[30:42, 44:52] = True
    width = {}
    for degrees in (0, 40):
        frame = slope(degrees)
        radius, _ = radii(seeds_from_depth(frame, frame.depth, middle, 3.0), frame)
        width[degrees] = np.median(radius)
    assert width[40] / width[0] == pytest.approx(np.cos(np.radians(40)) ** -0.5, rel=0.04)


@pytest.mark.parametrize("unit", [1.0, 1000.0, 0.01])
def test_seeds_at_a_jump_of_the_depth_have_no_normal_and_the_others_do(unit):
    frame = rooms.view(0.0, unit=unit)
    jumps = near_jumps(frame.depth)
    assert 0.02 < jumps.mean() < 0.3
    across = np.zeros(jumps.shape, bool)
    for axis in (0, 1):
        across |= np.abs(np.roll(frame.depth, 2, axis) - np.roll(frame.depth, -2, axis)) > 0.1 * frame.depth
    seeds = seeds_from_depth(frame, frame.depth, EVERYWHERE, spacing=1.0)
    _, (row, column) = radii(seeds, frame)
    flat = (seeds.scales[:, 2] < 0.5 * seeds.scales[:, 0]).numpy()
    inner = (row > 4) & (column > 4) & (row < 67) & (column < 91)
    assert not flat[inner & across[row, column]].any() and flat[inner & ~jumps[row, column]].mean() > 0.95


def test_random_seeds_are_denser_where_they_are_near():
    """As many between 1 m and 1.8 m as between that and 9 m: a pixel tells a step in inverse depth."""
    frame = rooms.view(0.0)
    z = random_seeds(frame, EVERYWHERE, 1.0, 9.0, 4000, np.random.default_rng(0)).means[:, 2]
    assert float(z.median()) == pytest.approx(1.8, rel=0.1)
