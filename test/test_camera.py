"""Pinhole cameras: pixel centres at +0.5, and projection as the inverse of unprojection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from lift_ros.camera import Camera, PosedCamera

CAMERA = Camera(40, 30, 35.0, 33.0, 21.0, 14.0)


def test_unprojected_points_project_back_to_pixel_centres():
    depth = np.random.default_rng(0).uniform(0.5, 4, (30, 40)).astype(np.float32)
    points = CAMERA.unproject(depth)
    assert points.shape == (30, 40, 3) and points.dtype == np.float32
    assert np.array_equal(points[..., 2], depth)
    uv, z = CAMERA.project(points.reshape(-1, 3))
    v, u = np.mgrid[:30, :40] + 0.5
    assert np.allclose(uv, np.stack([u, v], -1).reshape(-1, 2), atol=1e-4)
    assert np.array_equal(z, depth.reshape(-1))


def test_a_point_on_the_axis_hits_the_principal_point():
    uv, z = CAMERA.project(np.array([[0.0, 0, 2], [1.0, 1, 2]]))
    assert uv.tolist() == [[21.0, 14.0], [21 + 35 / 2, 14 + 33 / 2]] and z.tolist() == [2, 2]


def test_points_in_the_plane_of_the_camera_warn_nobody():
    with np.errstate(all="raise"):
        uv, z = CAMERA.project(np.array([[1.0, 1, 0], [0.0, 0, -1]]))
    assert not np.isfinite(uv[0]).any() and z[1] == -1


def test_intrinsic_matrix_round_trip():
    assert Camera.from_K(CAMERA.K, 40, 30) == CAMERA
    assert CAMERA.K.tolist() == [[35, 0, 21], [0, 33, 14], [0, 0, 1]]
    assert Camera.from_opencv_K(CAMERA.opencv_K, 40, 30) == CAMERA
    assert CAMERA.opencv_K.tolist() == [[35, 0, 20.5], [0, 33, 13.5], [0, 0, 1]]


def test_a_resized_camera_sees_the_same_directions():
    half = CAMERA.resized(20, 15)
    assert half == Camera(20, 15, 17.5, 16.5, 10.5, 7.0)
    points = np.random.default_rng(0).uniform(-1, 1, (10, 3)) + (0, 0, 3)
    assert np.allclose(half.project(points)[0], CAMERA.project(points)[0] / 2)
    stretched = CAMERA.resized(80, 30)
    assert np.allclose(stretched.project(points)[0], CAMERA.project(points)[0] * (2, 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 30, 35.0, 33.0, 21.0, 14.0), "image size must be positive, got 0x30"),
        ((40, -1, 35.0, 33.0, 21.0, 14.0), "image size"),
        ((40, 30, 0.0, 33.0, 21.0, 14.0), "focal lengths must be positive and finite"),
        ((40, 30, 35.0, float("nan"), 21.0, 14.0), "focal lengths"),
        ((40, 30, 35.0, 33.0, float("inf"), 14.0), "finite"),
    ],
)
def test_impossible_cameras_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Camera(*values)


def test_depth_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"depth is \(40, 30\), the camera 30x40"):
        CAMERA.unproject(np.ones((40, 30)))


def test_a_posed_camera_maps_world_to_camera():
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", [0.3, -1.0, 2.0]).as_matrix()
    T[:3, 3] = 1e4, -2e4, 30.0  # map coordinates, where single precision loses centimetres
    camera = PosedCamera.from_pose(CAMERA, T)
    assert camera.viewmat.dtype == torch.float32 and (camera.width, camera.height) == (40, 30)
    assert np.allclose(camera.viewmat.numpy(), np.linalg.inv(T), rtol=1e-6, atol=1e-3)
    in_camera = np.array([0.1, 0.2, 3.0, 1.0])
    in_world = T @ in_camera
    assert np.allclose(camera.viewmat.double().numpy() @ in_world, in_camera, atol=1e-2)


def test_what_is_in_the_image():
    camera = Camera(4, 2, 1.0, 1.0, 2.0, 1.0)
    points = np.array([[0.0, 0, 1], [1.9, 0.9, 1], [2.1, 0, 1], [0, -1.1, 1], [0, 0, -1], [0, 0, 0], [np.nan, 0, 1]])
    assert camera.inside(*camera.project(points)).tolist() == [True, True, False, False, False, False, False]


def test_the_centre_of_a_camera_is_where_its_pose_has_it():
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    pose[:3, 3] = (1.0, -2.0, 3.0)
    centre = PosedCamera.from_pose(Camera(4, 2, 1.0, 1.0, 2.0, 1.0), pose).center
    assert centre.tolist() == pytest.approx([1.0, -2.0, 3.0], abs=1e-5)
