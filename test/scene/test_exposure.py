from __future__ import annotations

import pytest
import torch

from lift_ros.scene.exposure import Exposures


@pytest.fixture
def rendered():
    return torch.rand(20, 20, 3, generator=torch.Generator().manual_seed(0))


def test_gains_between_frames_are_recovered(rendered):
    exposures = Exposures(ridge=1e-4)
    valid = torch.ones(20, 20, dtype=torch.bool)
    gains = [torch.tensor([0.8, 1.0, 1.1]), torch.tensor([1.2, 0.9, 1.0])]
    for _ in range(20):
        for index, gain in enumerate(gains):
            exposures.update(index, rendered, rendered * gain + 0.02 * index, valid)
    (gain_a, bias_a), (gain_b, bias_b) = exposures[0], exposures[1]
    assert torch.allclose(gain_a / gain_b, gains[0] / gains[1], rtol=0.01)
    assert torch.allclose(gain_a * gain_b, torch.ones(3), atol=1e-5)  # the gauge
    assert torch.allclose(bias_b - bias_a, torch.full((3,), 0.02), atol=2e-3)


def test_one_bad_rendering_moves_an_exposure_only_part_of_the_way(rendered):
    exposures = Exposures(ridge=1e-4)
    valid = torch.ones(20, 20, dtype=torch.bool)
    for index in (0, 1):
        exposures.update(index, rendered, rendered, valid)
    exposures.update(0, 0.5 * rendered, rendered, valid)  # alone it would mean a gain of two
    assert ((exposures[0][0] / exposures[1][0] - 1.25).abs() < 0.15).all()
    for _ in range(20):
        exposures.update(0, 0.5 * rendered, rendered, valid)
    assert torch.allclose(exposures[0][0] / exposures[1][0], torch.full((3,), 2.0), atol=0.02)  # where it stays so


def test_an_unseen_frame_lies_between_its_neighbours(rendered):
    exposures = Exposures(ridge=1e-4)
    valid = torch.ones(20, 20, dtype=torch.bool)
    assert torch.equal(exposures[3][0], torch.ones(3))
    for index, gain in ((0, 0.8), (4, 1.25)):
        exposures.update(index, rendered, rendered * gain, valid)
    assert torch.allclose(exposures[2][0], torch.ones(3), atol=0.01)
    assert torch.allclose(exposures[9][0], exposures[4][0])


def test_exposures_stay_when_other_frames_are_forgotten(rendered):
    exposures = Exposures(ridge=1e-4)
    valid = torch.ones(20, 20, dtype=torch.bool)
    for index, gain in enumerate((0.7, 1.0, 1.6)):
        exposures.update(index, rendered, rendered * gain, valid)
    before = [exposures[index][0] for index in range(3)]
    exposures.forget(0)
    exposures.forget(0)
    assert all(torch.equal(exposures[index][0], before[index]) for index in (1, 2))
    assert torch.equal(exposures[0][0], before[1])  # as one that was never seen
    exposures.update(1, rendered, rendered, valid)
    assert all(torch.allclose(exposures[index][0], before[index], atol=1e-5) for index in (1, 2))


def test_frames_are_as_bright_as_the_scene_that_was_there_before_them(rendered):
    exposures = Exposures(ridge=1e-4, anchored=True)
    for index in range(5):
        exposures.update(index, rendered, 0.5 * rendered, torch.ones(20, 20, dtype=torch.bool))
    assert torch.allclose(exposures[2][0], torch.full((3,), 0.5), atol=0.01)


def test_a_scene_that_was_there_before_keeps_its_colours_though_images_are_noisy(rendered):
    """Regression on noise gives gains below 1; if the scene made up for these, again and again, it would drift."""
    exposures, scene = Exposures(ridge=1e-4, anchored=True), rendered.clone()
    generator = torch.Generator().manual_seed(1)
    for step in range(300):
        noisy = rendered + 0.1 * torch.randn(rendered.shape, generator=generator)
        exposures.update(
            step % 6,
            scene + 0.1 * torch.randn(rendered.shape, generator=generator),
            noisy,
            torch.ones(20, 20, dtype=torch.bool),
        )
        gain, bias = exposures[step % 6]
        scene = scene + 0.2 * (rendered - (gain * scene + bias))
    spread = scene.std() / rendered.std()
    assert 0.8 < spread < 1.3


def test_black_frames_and_empty_renderings_stay_finite(rendered):
    exposures = Exposures(ridge=1e-3)
    valid = torch.ones(20, 20, dtype=torch.bool)
    exposures.update(0, rendered, torch.zeros_like(rendered), valid)
    exposures.update(1, torch.zeros_like(rendered), rendered, valid)
    exposures.update(2, rendered, rendered, torch.zeros_like(valid))
    assert exposures._frames.keys() == {1}
    for index in (0, 1, 2):
        gain, bias = exposures[index]
        assert torch.isfinite(gain).all()
        assert torch.isfinite(bias).all()
        assert (gain > 0).all()
