from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scene import rooms

from lift_ros.camera import PosedCamera
from lift_ros.render import Rendering
from lift_ros.scene.alignment import PoseCorrections, alignment_step, rigid_exp, rigid_log


def perfect_rendering(frame) -> Rendering:
    image = torch.from_numpy(frame.image).float() / 255
    return Rendering(image, torch.ones(image.shape[:2]), torch.from_numpy(frame.depth))


@pytest.mark.parametrize("gain", [1.0, 0.7])
def test_a_shift_of_the_camera_is_found(gain):
    at, seen = rooms.view(0.0), rooms.view(0.03, yaw=0.01, gain=gain)
    step = alignment_step(perfect_rendering(at), torch.from_numpy(seen.image).float() / 255, at.posed_camera())
    points = at.camera.unproject(at.depth).reshape(-1, 3)

    def pixels(T):
        return at.camera.project(points @ T[:3, :3].T + T[:3, 3])[0]

    true = pixels(np.linalg.inv(seen.T_world_camera) @ at.T_world_camera)
    before = np.linalg.norm(true - pixels(np.eye(4)), axis=1).mean()
    after = np.linalg.norm(true - pixels(rigid_exp(step)), axis=1).mean()
    assert before > 1
    assert after < 0.4 * before


def test_nothing_moves_where_nothing_is_off():
    frame = rooms.view(0.1)
    step = alignment_step(perfect_rendering(frame), torch.from_numpy(frame.image).float() / 255, frame.posed_camera())
    assert np.abs(step).max() < 1e-6


def test_images_that_tell_nothing_give_no_step():
    frame = rooms.view(0.0)
    rendering = perfect_rendering(frame)
    black = rendering._replace(image=torch.zeros_like(rendering.image))
    assert alignment_step(black, torch.zeros_like(rendering.image), frame.posed_camera()) is None
    empty = rendering._replace(alpha=torch.zeros_like(rendering.alpha))
    assert alignment_step(empty, rendering.image, frame.posed_camera()) is None


def test_corrections_compose_and_keep_their_mean_at_none():
    poses = PoseCorrections()
    rng = np.random.default_rng(0)
    cameras = {i: rooms.view(0.1 * i, yaw=0.2 * i).posed_camera() for i in range(4)}
    for index, camera in cameras.items():
        poses.update(index, camera, np.zeros(6))
    for index, camera in cameras.items():
        step = 0.01 * rng.normal(size=6)
        corrected = poses.apply(index, camera)
        poses.update(index, corrected, step)
        others = [poses.twist(i) for i in cameras]
        assert np.allclose(np.sum(others, axis=0), 0, atol=1e-9)
        wanted = rigid_exp(step) @ corrected.viewmat.numpy()
        # the gauge takes a quarter of the step back, from all frames alike
        moved = np.abs(poses.apply(index, camera).viewmat.numpy() - wanted).max()
        assert moved < 0.5 * np.abs(step).max()


def test_rigid_log_inverts_exp():
    twist = np.array([0.1, -0.2, 0.3, 0.4, 0.1, -0.2])
    assert np.allclose(rigid_log(rigid_exp(twist)), twist)
    camera = PosedCamera(rooms.CAMERA, torch.eye(4))
    assert torch.equal(PoseCorrections().apply(3, camera).viewmat, replace(camera).viewmat)
