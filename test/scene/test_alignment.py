from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scene import rooms

from lift_ros.camera import PosedCamera
from lift_ros.render import Rendering
from lift_ros.scene.alignment import (
    CorrectionTrack,
    PoseCorrections,
    align,
    alignment_step,
    corrected,
    moved,
    rigid_exp,
    rigid_log,
)


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


def test_an_object_that_has_moved_hardly_moves_the_camera():
    frame = rooms.view(0.0)
    points = frame.camera.unproject(frame.depth).reshape(-1, 3)
    errors = []
    for seed in range(2, 10):
        image = frame.image.copy()
        image[10:34, 50:82] = 255 * rooms.texture(seed)[40:64, 40:72]
        step = alignment_step(perfect_rendering(frame), torch.from_numpy(image).float() / 255, frame.posed_camera())
        T = rigid_exp(step)
        pixels = frame.camera.project(points @ T[:3, :3].T + T[:3, 3])[0] - frame.camera.project(points)[0]
        errors.append(np.linalg.norm(pixels, axis=1).mean())
    assert np.mean(errors) < 0.04


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
        poses.update(index, camera, camera)
    for index, camera in cameras.items():
        step = 0.01 * rng.normal(size=6)
        found = moved(poses.apply(index, camera), step)
        poses.update(index, camera, found)
        others = [poses.twist(i) for i in cameras]
        assert np.allclose(np.sum(others, axis=0), 0, atol=1e-9)
        # the gauge takes a quarter of the step back, from all frames alike
        left = float((poses.apply(index, camera).viewmat - found.viewmat).abs().max())
        assert left < 0.5 * np.abs(step).max()


def test_corrections_stay_when_other_frames_are_forgotten():
    poses = PoseCorrections()
    camera = rooms.view(0.1).posed_camera()
    for index in range(4):
        poses.update(index, camera, corrected(camera, np.full(6, 0.01 * index**2)))
    before = [poses.twist(index) for index in range(4)]
    poses.forget(1)
    poses.forget(1)
    assert all(np.array_equal(poses.twist(index), before[index]) for index in (0, 2, 3))
    assert np.allclose(poses.twist(1), (before[0] + before[2]) / 2)  # as one that was never aligned
    found = poses.apply(3, camera)
    poses.update(3, camera, found)
    assert all(np.allclose(poses.twist(index), before[index], atol=1e-6) for index in (0, 2, 3))


def test_a_scene_that_was_there_before_takes_nothing_back():
    poses = PoseCorrections(anchored=True)
    camera = rooms.view(0.1).posed_camera()
    found = moved(camera, np.array([0.02, 0, 0.01, 0, 0.01, 0]))
    poses.update(0, camera, found)
    assert torch.allclose(poses.apply(0, camera).viewmat, found.viewmat, atol=1e-6)


def test_align_repeats_the_step_until_the_image_fits():
    seen = rooms.view(0.05, yaw=0.01)

    def render(camera):
        T = np.linalg.inv(camera.viewmat.double().numpy())
        return perfect_rendering(rooms.view(T[0, 3], T[1, 3], yaw=np.arctan2(T[0, 2], T[2, 2])))

    image = torch.from_numpy(seen.image).float() / 255
    found = align(render, image, rooms.view(0.0).posed_camera(), 8)
    assert np.abs(found.viewmat.numpy() - seen.posed_camera().viewmat.numpy()).max() < 0.006
    black = torch.zeros_like(image)
    assert align(lambda camera: perfect_rendering(seen)._replace(image=black), black, found, 3) is found


def test_a_correction_moves_the_pose_and_the_camera_alike():
    frame, twist = rooms.view(0.2, yaw=0.3), np.array([0.1, -0.2, 0.05, 0.02, 0.3, -0.1])
    poses = PoseCorrections(anchored=True)
    poses.update(4, frame.posed_camera(), corrected(frame.posed_camera(), twist))
    assert np.allclose(poses.twist(4), twist, atol=1e-5)
    pose = poses.pose(4, frame.T_world_camera)
    assert np.allclose(pose, rigid_exp(twist) @ frame.T_world_camera, atol=1e-5)
    viewmat = poses.apply(4, frame.posed_camera()).viewmat.double().numpy()
    assert np.allclose(viewmat @ pose, np.eye(4), atol=1e-5)


def test_frames_between_keyframes_are_corrected_as_those():
    track = CorrectionTrack.of([2.0, 1.0, 4.0], [np.full(6, 0.2), np.full(6, 0.1), np.full(6, 0.8)])
    for stamp, value in ((0.0, 0.1), (1.0, 0.1), (1.5, 0.15), (3.5, 0.65), (9.0, 0.8)):
        assert np.allclose(track.at(stamp), value)
    assert not CorrectionTrack.of([], []).at(1.0).any()


def test_rigid_log_inverts_exp():
    twist = np.array([0.1, -0.2, 0.3, 0.4, 0.1, -0.2])
    assert np.allclose(rigid_log(rigid_exp(twist)), twist)
    camera = PosedCamera(rooms.CAMERA, torch.eye(4))
    assert torch.equal(PoseCorrections().apply(3, camera).viewmat, replace(camera).viewmat)
