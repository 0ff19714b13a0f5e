"""Which frames become keyframes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from lift_ros.camera import Camera
from lift_ros.frame import Frame
from lift_ros.mapping.config import MappingConfig
from lift_ros.mapping.keyframing import is_keyframe, most_redundant, viewing_distance
from lift_ros.render import Rendering

CONFIG = MappingConfig(keyframe_parallax=3.0, keyframe_rotation=10.0, keyframe_new_area=0.2)
CAMERA = Camera(20, 10, 20.0, 20.0, 10.0, 5.0)


def pose(x: float = 0.0, yaw: float = 0.0, roll: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("YZ", [yaw, roll], degrees=True).as_matrix()
    T[0, 3] = x
    return T


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (10, 20, 3), np.uint8)


def frame(T: np.ndarray, depth: np.ndarray | None = None, seed: int = 0) -> Frame:
    return Frame(picture(seed), CAMERA, T, 0.0, depth)


def rendering(depth: float = 2.0, unknown: float = 0.0) -> Rendering:
    """A map that covers all but a share ``unknown`` of the view, at ``depth``."""
    alpha = torch.ones(10, 20)
    alpha.view(-1)[: round(unknown * 200)] = 0.1
    return Rendering(torch.zeros(10, 20, 3), alpha, torch.full((10, 20), depth))


def taken(T: np.ndarray, seed: int = 1, depth: np.ndarray | None = None) -> SimpleNamespace:
    """What is asked of a keyframe."""
    measured = None if depth is None else torch.from_numpy(depth)
    image = torch.from_numpy(picture(seed))
    view = SimpleNamespace(image=image, depth=measured, measured=depth is not None, ignored=None)
    return SimpleNamespace(T_world_camera=T, distance=2.0, view=view)


def decide(T: np.ndarray, known: list[np.ndarray], view: Rendering | None = None) -> bool:
    return is_keyframe(frame(T), [taken(other) for other in known], view or rendering(), CONFIG)


def test_the_first_frame_is_one():
    assert decide(pose(), [], rendering(unknown=1.0))
    assert decide(pose(), [])


def test_a_camera_at_rest_brings_none():
    assert not decide(pose(), [pose()])
    assert not decide(pose(x=0.01, yaw=1.0), [pose()])


@pytest.mark.parametrize(("yaw", "expected"), [(9.0, False), (11.0, True), (-11.0, True)])
def test_turning(yaw, expected):
    assert decide(pose(yaw=yaw), [pose()]) == expected


def test_rolling_about_the_axis_shows_nothing_new():
    assert not decide(pose(roll=40.0), [pose()])


@pytest.mark.parametrize("unit", [1.0, 1000.0])
@pytest.mark.parametrize(("parallax", "expected"), [(2.5, False), (3.5, True)])
def test_moving_counts_relative_to_the_depth(parallax, expected, unit):
    depth = 2.0 * unit
    moved = pose(x=depth * np.tan(np.radians(parallax)))
    assert decide(moved, [pose()], rendering(depth)) == expected


def test_the_depth_is_that_of_what_the_map_shows():
    view = rendering(2.0, unknown=0.15)
    view.depth.view(-1)[:30] = 1e4  # where the map is transparent, its depth means nothing
    assert decide(pose(x=0.2), [pose()], view)


def test_every_keyframe_so_far_counts():
    known = [pose(), pose(yaw=20.0), pose(x=1.0)]
    assert not decide(pose(x=1.02), known)
    assert not decide(pose(yaw=19.0), known)
    assert decide(pose(x=0.5), known)
    # turned like one and placed like another is still a new direction
    assert decide(pose(x=1.0, yaw=20.0), known)


@pytest.mark.parametrize(("unknown", "expected"), [(0.15, False), (0.25, True), (1.0, True)])
def test_what_the_map_does_not_explain(unknown, expected):
    assert decide(pose(), [pose()], rendering(unknown=unknown)) == expected


def test_what_has_no_depth_will_not_be_known_after_it_either():
    sky = np.full((10, 20), 2.0, np.float32)
    sky[:5] = 0
    here = [taken(pose())]
    assert not is_keyframe(frame(pose(), sky), here, rendering(unknown=0.5), CONFIG)
    assert is_keyframe(frame(pose(), sky), here, rendering(unknown=1.0), CONFIG)
    assert is_keyframe(frame(pose(yaw=11.0), sky), here, rendering(unknown=0.5), CONFIG)  # turned all the same


def test_without_depth_a_camera_at_rest_brings_none_however_its_pose_trembles():
    nothing = rendering(unknown=1.0)
    nearby = [taken(pose(x=50.0), seed=2), taken(pose(x=0.02))]
    assert not is_keyframe(frame(pose(), seed=1), nearby, nothing, CONFIG)
    noisy = frame(pose(), seed=1)
    noisy.image = (0.8 * noisy.image + np.random.default_rng(3).integers(0, 4, noisy.image.shape)).astype(np.uint8)
    assert not is_keyframe(noisy, nearby, nothing, CONFIG)
    assert is_keyframe(frame(pose(), seed=3), nearby, nothing, CONFIG)
    depth = np.full((10, 20), 2.0, np.float32)
    assert is_keyframe(frame(pose(), depth, seed=1), nearby, nothing, CONFIG)  # it has something to plant


def test_with_depth_a_camera_at_rest_brings_none_where_the_map_has_no_room_for_what_it_sees():
    depth, nothing = np.full((10, 20), 2.0, np.float32), rendering(unknown=1.0)
    here = [taken(pose(), depth=depth)]
    assert not is_keyframe(frame(pose(x=0.01), depth, seed=1), here, nothing, CONFIG)
    assert is_keyframe(frame(pose(x=0.01), depth, seed=2), here, nothing, CONFIG)  # a door has opened
    assert is_keyframe(frame(pose(yaw=11.0), depth, seed=1), here, nothing, CONFIG)
    part = depth.copy()
    part[:3] = 0
    assert is_keyframe(frame(pose(), depth, seed=1), [taken(pose(), depth=part)], nothing, CONFIG)  # it measures more
    holes = [np.where(np.random.default_rng(k).random((10, 20)) < 0.4, np.float32(0), depth) for k in (1, 2)]
    assert not is_keyframe(frame(pose(), holes[0], seed=1), [taken(pose(), depth=holes[1])], nothing, CONFIG)
    guessed = taken(pose(), depth=depth)
    guessed.view.measured = False
    assert is_keyframe(frame(pose(), depth, seed=1), [guessed], nothing, CONFIG)


def test_a_bright_sky_does_not_hide_that_the_camera_moves():
    """Over a faint wall that it moves along; and at rest, where noise is all that differs."""
    wall = cv2.resize(np.random.default_rng(0).integers(90, 150, (12, 60, 3), np.uint8), (480, 96))

    def seen(column: int, noise: int) -> np.ndarray:
        image = np.full((144, 192, 3), 250, np.uint8)
        image[48:] = wall[:, column : column + 192]
        shaken = image + np.random.default_rng(noise).normal(0, 4, image.shape)
        return np.clip(shaken, 0, 255).astype(np.uint8)

    camera = Camera(192, 144, 150.0, 150.0, 96.0, 72.0)
    view = Rendering(torch.zeros(144, 192, 3), torch.zeros(144, 192), torch.zeros(144, 192))
    first = SimpleNamespace(
        T_world_camera=pose(), view=SimpleNamespace(image=torch.from_numpy(seen(0, 1)), ignored=None)
    )
    assert not is_keyframe(Frame(seen(0, 2), camera, pose(x=0.01), 0.0), [first], view, CONFIG)
    assert is_keyframe(Frame(seen(24, 3), camera, pose(x=0.3), 0.0), [first], view, CONFIG)


def test_specks_of_depth_are_no_new_ground():
    specks = np.zeros((10, 20), np.float32)
    specks[3, 4] = 2.0
    assert not is_keyframe(frame(pose(), specks), [taken(pose())], rendering(unknown=1.0), CONFIG)


@pytest.mark.parametrize("first", ["dark", "textured"])
def test_a_picture_of_nothing_is_like_no_other(first):
    """As of a camera that starts up in the dark."""
    dark = np.random.default_rng(0).integers(0, 5, (10, 20, 3), np.uint8)
    a, b = (dark, picture()) if first == "dark" else (picture(), dark)
    here = SimpleNamespace(T_world_camera=pose(), view=SimpleNamespace(image=torch.from_numpy(a), ignored=None))
    assert is_keyframe(Frame(b, CAMERA, pose(), 0.0), [here], rendering(unknown=1.0), CONFIG)
    assert not is_keyframe(Frame(a, CAMERA, pose(), 0.0), [here], rendering(unknown=1.0), CONFIG)


def test_a_gripper_that_moves_before_a_camera_at_rest_brings_none():
    ignored = np.zeros((10, 20), bool)
    ignored[:, :6] = True
    here, moved = taken(pose()), frame(pose(), seed=1)
    moved.image[ignored] = 255 - moved.image[ignored]
    nothing = rendering(unknown=1.0)
    assert is_keyframe(moved, [here], nothing, CONFIG)
    assert not is_keyframe(replace(moved, ignored=ignored), [here], nothing, CONFIG)
    here.view.ignored = torch.from_numpy(ignored)
    assert not is_keyframe(moved, [here], nothing, CONFIG)


def test_depth_of_a_small_part_of_the_view_tells_what_is_new():
    """As of a sensor with a short range; and where the map has nothing at all in view, turning is still turning."""
    few = np.zeros((10, 20), np.float32)
    few[:1] = 2.0  # a twentieth
    here = [taken(pose())]
    assert is_keyframe(frame(pose(x=1.0), few), here, rendering(unknown=1.0), CONFIG)
    assert not is_keyframe(frame(pose(x=0.01), few), here, rendering(), CONFIG)
    nothing = np.zeros((10, 20), np.float32)
    full = replace(CONFIG, max_keyframes=1)
    assert not is_keyframe(frame(pose(), nothing), here, rendering(unknown=1.0), CONFIG)
    assert is_keyframe(
        frame(pose(yaw=50.0), nothing), [taken(pose()), taken(pose(yaw=11.0))], rendering(unknown=1.0), full
    )


def test_a_map_that_shows_nothing_decides_by_rotation():
    config = MappingConfig(keyframe_new_area=1.0)
    known = [taken(pose())]
    nothing = rendering(unknown=1.0)
    assert not is_keyframe(frame(pose(x=5.0)), known, nothing, config)
    assert is_keyframe(frame(pose(yaw=50.0, x=5.0)), known, nothing, config)


def test_the_most_redundant_is_the_one_that_another_is_closest_to():
    def chosen(poses: list[np.ndarray], distances: list[float]) -> int:
        keyframes = [SimpleNamespace(T_world_camera=T, distance=d) for T, d in zip(poses, distances, strict=True)]
        return most_redundant(keyframes, CONFIG)[0]

    assert chosen([pose(), pose(yaw=40), pose(yaw=52), pose(yaw=90)], [2.0] * 4) in (1, 2)
    assert chosen([pose(), pose(1.0), pose(2.0), pose(2.4), pose(3.5)], [2.0] * 5) in (2, 3)
    # a step of the same length shows another side of what is near, and the same of what is far
    assert chosen([pose(), pose(0.5), pose(yaw=90), pose(0.5, yaw=90)], [1.0, 1.0, 9.0, 9.0]) in (2, 3)
    # what nothing is known of is told by direction alone
    assert chosen([pose(), pose(yaw=30), pose(5.0, yaw=80), pose(yaw=80)], [2.0, 2.0, np.inf, np.inf]) in (2, 3)


def test_where_there_are_enough_a_new_one_must_be_farther_off_than_the_one_that_gives_way():
    known = [taken(pose(yaw=yaw)) for yaw in (0, 15, 30, 60)]
    assert most_redundant(known, CONFIG)[1] == pytest.approx(1.5)
    assert is_keyframe(frame(pose(yaw=46)), known, rendering(), CONFIG)
    full = replace(CONFIG, max_keyframes=4)
    assert not is_keyframe(frame(pose(yaw=46)), known, rendering(), full)  # 1.4 from the nearest
    assert is_keyframe(frame(pose(yaw=80)), known, rendering(), full)
    assert is_keyframe(frame(pose(yaw=46)), known, rendering(unknown=0.5), full)  # what is not known yet comes first


def test_the_viewing_distance_is_measured_where_it_can_be():
    seen = frame(pose())
    assert viewing_distance(seen, rendering(3.0, unknown=0.4)) == 3.0
    assert viewing_distance(seen, rendering(3.0, unknown=1.0)) == np.inf
    measured = Frame(seen.image, CAMERA, seen.T_world_camera, 0.0, np.full((10, 20), 5.0, np.float32))
    assert viewing_distance(measured, rendering(3.0)) == 5.0


@pytest.mark.parametrize("which", ["the nearest", "the one turned alike", "the latest"])
def test_a_camera_at_rest_is_known_by(which):
    """One of those keyframes that are asked; the others show other pictures."""
    near, alike, late = pose(x=0.02, yaw=5.0), pose(x=50.0), pose(x=9.0, yaw=60.0)
    same = {"the nearest": near, "the one turned alike": alike, "the latest": late}[which]
    known = [taken(T, seed=1 if T is same else 2) for T in (near, alike, late)]
    assert not is_keyframe(frame(pose(), seed=1), known, rendering(unknown=1.0), CONFIG)
    assert is_keyframe(frame(pose(), seed=3), known, rendering(unknown=1.0), CONFIG)


def test_the_viewing_distance_is_that_of_what_is_known():
    depth = np.full((10, 20), 5.0, np.float32)
    depth[:6] = 0  # of more than half nothing is measured
    assert viewing_distance(frame(pose(), depth), rendering(3.0)) == 5.0
    view = rendering(3.0, unknown=0.6)
    view.depth.view(-1)[:120] = 0.0  # where the map has nothing, its depth means nothing
    assert viewing_distance(frame(pose()), view) == 3.0
    assert viewing_distance(frame(pose(), np.zeros_like(depth)), view) == 3.0


def test_what_is_ignored_is_not_new():
    sky = np.full((10, 20), 2.0, np.float32)
    ignored = np.zeros((10, 20), bool)
    ignored[:5] = True
    unknown = rendering(unknown=0.5)  # the upper half
    for depth in (None, sky):
        assert is_keyframe(frame(pose(), depth), [taken(pose())], unknown, CONFIG)
        assert not is_keyframe(replace(frame(pose(), depth), ignored=ignored), [taken(pose())], unknown, CONFIG)
    assert is_keyframe(replace(frame(pose()), ignored=ignored), [taken(pose())], rendering(unknown=0.9), CONFIG)
