"""Frames are checked once, so that nothing behind them has to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lift_ros.camera import Camera
from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame, check_near, check_rigid

CAMERA = Camera(8, 6, 7.0, 7.0, 4.0, 3.0)


def rigid() -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([0.2, -0.4, 1.0]).as_matrix()
    T[:3, 3] = 1.0, 2.0, 3.0
    return T


def frame(**changes) -> Frame:
    values = {
        "image": np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8),
        "camera": CAMERA,
        "T_world_camera": rigid(),
        "stamp": 12.5,
        "depth": np.full((6, 8), 2.0, np.float32),
        "name": "left_0001",
    }
    return Frame(**(values | changes))


def test_poses_of_limited_precision_pass():
    assert np.array_equal(check_rigid(rigid()), rigid())
    rounded = np.round(rigid(), 5).astype(np.float32)
    assert check_rigid(rounded).dtype == np.float64
    assert check_rigid(rigid().tolist()).shape == (4, 4)


def mirrored() -> np.ndarray:
    T = rigid()
    T[:3, 0] *= -1
    return T


def not_finite() -> np.ndarray:
    T = rigid()
    T[1, 3] = np.nan
    return T


def projective() -> np.ndarray:
    T = rigid()
    T[3, 2] = 0.1
    return T


@pytest.mark.parametrize(
    ("pose", "reason"),
    [
        (1.01 * rigid(), "pose_not_rigid"),
        (mirrored(), "pose_not_rigid"),
        (projective(), "pose_not_rigid"),
        (np.zeros((4, 4)), "pose_not_rigid"),
        (rigid()[:3], "pose_not_rigid"),
        (np.float64(3), "pose_not_rigid"),
        (not_finite(), "pose_not_finite"),
        (np.full((4, 4), np.inf), "pose_not_finite"),
    ],
)
def test_poses_that_move_no_rigid_body_are_rejected(pose, reason):
    with pytest.raises(FrameRejected, match="pose") as caught:
        frame(T_world_camera=pose)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"image": np.zeros((6, 8), np.uint8)}, "image_encoding", r"\(6, 8\) uint8"),
        ({"image": np.zeros((6, 8, 4), np.uint8)}, "image_encoding", r"\(6, 8, 4\)"),
        ({"image": np.zeros((6, 8, 3), np.float32)}, "image_encoding", "float32"),
        ({"image": np.zeros((8, 6, 3), np.uint8)}, "image_size", "image is 6x8 but the camera info says 8x6"),
        ({"depth": np.zeros((3, 4), np.float32)}, "depth_size", "depth is 4x3, the image 8x6"),
        ({"depth": np.zeros((6, 8, 1), np.float32)}, "depth_size", "depth"),
        ({"depth": np.zeros(48, np.float32)}, "depth_size", "depth"),
        ({"ignored": np.zeros((3, 4), bool)}, "mask_size", "ignored pixels are 4x3, the image 8x6"),
    ],
)
def test_images_that_do_not_fit_are_rejected(changes, reason, message):
    with pytest.raises(FrameRejected, match=message) as caught:
        frame(**changes)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("depth", "why"), [(None, "within 30000 m"), (2.0, "what is 2 away by [0-9.]+ pixels"), (0.0, "within 30000 m")]
)
def test_positions_that_single_precision_does_not_resolve(depth, why):
    far = rigid()
    far[:3, 3] = 5e5, 4.2e6, 0.0  # utm
    depth = None if depth is None else np.full((6, 8), depth, np.float32)
    camera = Camera(8, 6, 300.0, 300.0, 4.0, 3.0)
    with pytest.raises(FrameRejected, match=rf"\(500000, 4200000, 0\).*{why}.*such as map or odom") as rejected:
        check_near(frame(T_world_camera=far, camera=camera, depth=depth))
    assert rejected.value.reason == "pose_far"
    check_near(frame(camera=camera, depth=depth))


def test_from_high_up_coordinates_may_be_larger():
    far = rigid()
    far[:3, 3] = 1e5, 0.0, 0.0
    check_near(frame(T_world_camera=far, depth=np.full((6, 8), 1000.0, np.float32)))


def test_depth_that_is_no_distance_is_zero():
    depth = np.full((6, 8), 2.0)
    depth[0, :7] = np.nan, np.inf, -np.inf, -1.0, 0.0, 1e30, 0.005
    given = depth.copy()
    checked = frame(depth=depth).depth
    assert checked.dtype == np.float32
    assert checked[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 2] and (checked[1:] == 2).all()
    assert np.array_equal(depth, given, equal_nan=True)
    assert frame(depth=np.full((6, 8), 1500, np.uint16)).depth.max() == 1500


def test_resizing_averages_colour_and_does_not_mix_depth():
    image = np.zeros((6, 8, 3), np.uint8)
    image[:, ::2] = 200
    depth = np.ones((6, 8), np.float32)
    depth[:, 4:] = 9.0
    labels = np.arange(12).reshape(3, 4)
    small = frame(image=image, depth=depth, labels=labels).resized(4, 3)
    assert small.image.shape == (3, 4, 3) and (small.image == 100).all()
    assert set(np.unique(small.depth)) == {1.0, 9.0}
    assert small.camera == CAMERA.resized(4, 3) and small.labels is labels
    assert (small.stamp, small.name) == (12.5, "left_0001")
    assert np.array_equal(small.T_world_camera, rigid())


def test_resizing_to_the_same_size_is_free_and_depth_is_optional():
    same = frame()
    assert same.resized(8, 6) is same
    assert frame(depth=None).resized(4, 3).depth is None


def test_masks_are_added_without_copying_what_is_there():
    bare = frame()
    labels = np.ones((3, 4), np.uint8)
    masked = bare.with_labels(labels)
    assert masked.labels is labels and bare.labels is None
    assert masked.depth is bare.depth and masked.image is bare.image and masked.stamp == bare.stamp


def test_the_camera_of_a_frame_inverts_its_pose():
    assert np.allclose(frame().posed_camera().viewmat.numpy() @ rigid(), np.eye(4), atol=1e-5)


def test_what_is_ignored_has_no_depth_at_any_size():
    ignored = np.zeros((6, 8), bool)
    ignored[0, 0] = True
    whole = frame(ignored=ignored, depth=np.full((6, 8), 2.0, np.float32))
    assert whole.depth[0, 0] == 0 and (whole.depth > 0).sum() == 47
    half = whole.resized(4, 3)
    assert half.ignored.shape == half.depth.shape == (3, 4)
    assert half.ignored[0, 0] and half.depth[0, 0] == 0 and half.ignored.sum() == 1
