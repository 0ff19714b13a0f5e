from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scene import rooms

from lift_ros.evaluation.images import psnr
from lift_ros.render import ScreenStatistics, Splats, rasterize
from lift_ros.scene import trainer as training
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.gaussians import GaussianScene, Seeds
from lift_ros.scene.seeder import Seeder
from lift_ros.scene.trainer import PhotometricTrainer, TrainingView, in_view


def seeded(frames, config) -> tuple[PhotometricTrainer, list[TrainingView]]:
    trainer, seeder = PhotometricTrainer(GaussianScene.empty(config.sh_degree), config), Seeder(config)
    indices = [seeder.add(frame) for frame in frames]
    views = []
    for index, frame in zip(indices, frames, strict=True):
        rendering = trainer.render(frame.posed_camera())
        trainer.edit(trainer.scene.append(seeder.seeds(index, rendering, len(trainer.scene))))
        stereo = seeder.depth(index)
        views.append(TrainingView.from_frame(frame, index, stereo.trusted_depth if stereo else None))
    return trainer, views


def train(trainer, views, steps, densify_every=0):
    for k in range(steps):
        trainer.step(views[k % len(views)])
        if densify_every and k % densify_every == densify_every - 1:
            trainer.densify()


def held_out(trainer) -> float:
    frame = rooms.view(0.05, yaw=0.02)
    rendering = trainer.render(frame.posed_camera())
    return psnr(rendering.image.clamp(0, 1).numpy(), frame.image.astype(np.float32) / 255)


def finite(scene) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in scene.tensors().values())


def changed_places(trainer) -> torch.Tensor:
    """Permute the Gaussians of a trainer; returns where each of them was before."""
    origin = torch.randperm(len(trainer.scene), generator=torch.Generator().manual_seed(0))
    trainer.scene = replace(trainer.scene, **{name: each[origin] for name, each in trainer.scene.tensors().items()})
    trainer.edit(origin)
    return origin


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("degree", [0, 2])
def test_training_improves_a_view_it_never_saw(depth, degree):
    trainer, views = seeded(rooms.views(6, depth=depth), SceneConfig(max_gaussians=4000, sh_degree=degree))
    before = held_out(trainer)
    train(trainer, views, 80, densify_every=40)
    after = held_out(trainer)
    assert after > before + 3
    assert after > 24
    error = (trainer.render(rooms.view(0.05).posed_camera()).depth - torch.from_numpy(rooms.view(0.05).depth)).abs()
    assert error.median() < 0.1


def test_exposure_of_frames_is_recovered():
    gains = [0.75, 1.0, 1.25, 1.0]
    frames = [rooms.view(x, gain=gain) for x, gain in zip((-0.3, -0.1, 0.1, 0.3), gains, strict=True)]
    trainer, views = seeded(frames, SceneConfig(max_gaussians=4000))
    train(trainer, views, 80)
    found = torch.stack([trainer.exposures[i][0].mean() for i in range(4)])
    assert torch.allclose(found / found[1], torch.tensor(gains), rtol=0.08)


def test_wrong_poses_are_corrected_where_asked():
    frames = rooms.views(6)
    rng = np.random.default_rng(1)
    off = [rng.normal(size=2) * 0.03 for _ in frames]
    for frame, d in zip(frames, off, strict=True):
        frame.T_world_camera[:2, 3] += d
    mean = np.mean(off, axis=0)  # no one can tell a shift of all cameras from a shift of the world
    config = SceneConfig(max_gaussians=4000, refine_poses=True)
    trainer, views = seeded(frames, config)
    train(trainer, views, 150)
    left = [
        trainer.poses.apply(i, view.camera).viewmat.inverse()[:2, 3].numpy() - (frames[i].T_world_camera[:2, 3] - d)
        for i, (view, d) in enumerate(zip(views, off, strict=True))
    ]
    assert np.linalg.norm(np.array(left) - mean, axis=1).mean() < 0.5 * np.linalg.norm(off - mean, axis=1).mean()


def test_training_goes_on_alike_after_gaussians_changed_places():
    """An edit that only permutes, and one that adds what no camera sees, change nothing but the order."""
    frames = rooms.views(4)
    (still, views), (edited, _) = (seeded(frames, SceneConfig(max_gaussians=4000)) for _ in range(2))
    for trainer in (still, edited):
        train(trainer, views, 6)
    before = still.scene.clone()
    origin = changed_places(edited)
    behind_all_cameras = Seeds(
        torch.tensor([[0.0, 0.0, -5.0]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.1), torch.tensor([0.5]),
        torch.rand(1, 3),
    )  # fmt: skip
    edited.edit(edited.scene.append(behind_all_cameras))
    for trainer in (still, edited):
        train(trainer, views, 6)
    for name, tensor in still.scene.tensors().items():
        difference = (edited.scene.tensors()[name][:-1] - tensor[origin]).abs()
        change = (tensor - getattr(before, name)).abs()
        assert difference.mean() < 0.01 * change.mean(), name  # sums in another order, and Adam's small gradients


def test_what_was_measured_goes_along_with_gaussians_that_change_places():
    """Of two trainers that took the same steps, the same Gaussians are split, also where faint ones go first."""
    frames = [rooms.view(0.0, yaw=yaw) for yaw in (-0.4, 0.4)]  # most are seen in one of them only
    (still, views), (edited, _) = (seeded(frames, SceneConfig(max_gaussians=4000)) for _ in range(2))
    for trainer in (still, edited):
        train(trainer, views, 6)
    origin = changed_places(edited)
    faint = torch.rand(len(origin), generator=torch.Generator().manual_seed(1)) < 0.5
    still.scene.logit_opacities[faint] = edited.scene.logit_opacities[faint[origin]] = -10.0
    # every second of the rest, as measured by the trainer whose Gaussians kept their places
    measured = (still._gradient / still._seen.clamp_min(1))[~faint]
    still.config = edited.config = replace(still.config, densify_gradient=float(measured.median()))
    expected, found = (torch.bincount(of, minlength=len(origin)) for of in (still.densify(), origin[edited.densify()]))
    assert torch.equal(found, expected)
    assert not expected[faint].any() and 0.3 < (expected == 2).sum() / (~faint).sum() < 0.6


def test_same_input_same_scene():
    frames = rooms.views(4, depth=False)
    scenes = []
    for _ in range(2):
        trainer, views = seeded(frames, SceneConfig(max_gaussians=3000))
        train(trainer, views, 20, densify_every=10)
        scenes.append(trainer.scene)
    assert torch.equal(scenes[0].means, scenes[1].means)
    assert torch.equal(scenes[0].sh, scenes[1].sh)


def test_the_budget_is_kept():
    config = SceneConfig(max_gaussians=600, densify_gradient=0.0)
    trainer, views = seeded(rooms.views(6), config)
    for _ in range(3):
        train(trainer, views, 10)
        origin = trainer.densify()
        assert len(trainer.scene) == len(origin) <= 600
    assert len(trainer.scene) > 500  # it was used

    crowd = trainer.scene.clone()
    for _ in range(2):
        trainer.edit(
            trainer.scene.append(
                Seeds(
                    crowd.means, crowd.quats, crowd.scales, crowd.opacities.clamp(0.01, 0.99),
                    crowd.colors(torch.zeros(3)).clamp(0, 1),
                )
            )
        )  # fmt: skip
    trainer.densify()
    assert len(trainer.scene) <= 600


def test_black_images_and_missing_depth_leave_the_scene_finite():
    trainer, views = seeded(rooms.views(4), SceneConfig(max_gaussians=3000, refine_poses=True))
    black = views[0]._replace(image=torch.zeros_like(views[0].image), index=17)
    holes = views[1]._replace(depth=torch.zeros_like(views[1].depth))
    for _ in range(5):
        for view in (black, holes):
            trainer.step(view)
    trainer.densify()
    assert finite(trainer.scene)
    train(trainer, views, 40)
    assert held_out(trainer) > 20


def test_a_step_that_would_poison_the_scene_changes_nothing():
    trainer, views = seeded(rooms.views(3), SceneConfig(max_gaussians=3000))
    before = trainer.scene.clone()
    assert trainer.step(views[0]._replace(depth=torch.full_like(views[0].depth, torch.inf), measured=True)) == {}
    assert torch.equal(trainer.scene.means, before.means)


def test_an_empty_scene_takes_a_step_and_gives_a_rendering():
    trainer = PhotometricTrainer(GaussianScene.empty(), SceneConfig())
    view = TrainingView.from_frame(rooms.view(0.0), 0)
    assert trainer.step(view) == {}
    assert len(trainer.densify()) == 0
    assert trainer.render(view.camera).alpha.max() == 0


def test_a_view_that_shows_nothing_of_a_large_map_trains_nothing(monkeypatch):
    trainer, views = seeded(rooms.views(2), SceneConfig(max_gaussians=3000))
    monkeypatch.setattr(training, "MANY", 0)
    before = trainer.scene.clone()
    behind = TrainingView.from_frame(rooms.view(0.0, yaw=np.pi), 7)
    assert trainer.step(behind) == {}
    assert trainer._optimizer._steps == 0 and torch.equal(trainer.scene.means, before.means)
    assert trainer.step(views[0])


def test_gaussians_of_infinite_size_go():
    trainer, _ = seeded(rooms.views(2), SceneConfig())
    count = len(trainer.scene)
    trainer.scene.log_scales[3] = 89.0  # finite, but exp of it is not
    trainer.densify()
    assert len(trainer.scene) == count - 1 and trainer.scene.means.isfinite().all()


def test_what_is_out_of_view_has_no_part_in_the_picture():
    """Gaussians all around a camera, small and large."""
    generator = torch.Generator().manual_seed(0)
    means = 6 * torch.rand(4000, 3, generator=generator) - 3
    scales = 0.002 + 0.3 * torch.rand(4000, 1, generator=generator) ** 4 * torch.ones(1, 3)
    camera = rooms.view(0.05, yaw=0.4).posed_camera()
    quats, opaque = torch.tensor([[1.0, 0, 0, 0]]).expand(4000, 4), torch.full((4000,), 0.99)
    screen = ScreenStatistics()
    rasterize(Splats(means, quats.contiguous(), scales, opaque), means, camera, screen)
    seen = in_view(camera, means, training.REACH * scales[:, 0])
    assert not (screen.radii[~seen] > 0).any()
    assert 0.05 < seen.float().mean() < 0.4  # and most are out of view
    assert (screen.radii[seen] > 0).float().mean() > 0.7


def test_a_step_trains_what_is_in_view_and_leaves_the_rest(monkeypatch):
    """The same step, told to look for what is in view or not: a large map behind the camera."""
    config = SceneConfig(scale_weight=0.0, max_gaussians=10**6)
    frame = rooms.view(0.0)
    results = []
    for many in (10**9, 0):
        monkeypatch.setattr(training, "MANY", many)
        trainer, views = seeded([frame], config)
        n = len(trainer.scene)
        behind = trainer.scene.means - 100 * torch.as_tensor(frame.T_world_camera[:3, 2], dtype=torch.float32)
        colors = torch.full((n, 3), 0.5)
        copies = Seeds(behind, trainer.scene.quats, trainer.scene.scales, trainer.scene.opacities, colors)
        for _ in range(2):
            trainer.edit(trainer.scene.append(copies))
        before = trainer.scene.clone()
        losses = [trainer.step(views[0]) for _ in range(3)]
        for name, tensor in trainer.scene.tensors().items():
            assert torch.equal(tensor[n:], getattr(before, name)[n:]), name
        assert not torch.equal(trainer.scene.means[:n], before.means[:n])
        results.append((losses, trainer.scene.means[:n].clone(), trainer.densify()))
        split = results[-1][2][torch.bincount(results[-1][2])[results[-1][2]] == 2]
        assert len(split) and split.max() < n
    (losses, means, origin), (same_losses, same_means, same_origin) = results
    assert [pytest.approx(loss) for loss in losses] == same_losses
    # Adam on some rows is another kernel, and makes a whole step of a gradient that is rounding alone
    torch.testing.assert_close(means, same_means, rtol=0, atol=1e-4)
    assert torch.equal(origin, same_origin)


def test_a_step_is_as_long_as_its_rate_says():
    """So at the end of the training everything comes to rest."""
    frames = rooms.views(3)
    moved = {}
    for rate in (0.0, 0.1, 1.0):
        trainer, views = seeded(frames, SceneConfig(max_gaussians=3000))
        before = trainer.scene.clone()
        assert trainer.step(views[0], rate)
        moved[rate] = {
            name: float((tensor - getattr(before, name)).abs().mean())
            for name, tensor in trainer.scene.tensors().items()
        }
    for name in moved[1.0]:
        assert moved[0.0][name] == 0 < moved[1.0][name]
        assert moved[0.1][name] == pytest.approx(0.1 * moved[1.0][name], rel=0.02)


def test_training_does_not_depend_on_the_unit_of_length():
    scenes = {}
    for unit in (1.0, 128.0):  # a power of two, in whose steps the density of seeds goes
        trainer, views = seeded(rooms.views(4, unit=unit), SceneConfig(max_gaussians=3000))
        before = trainer.scene.means.clone()
        train(trainer, views, 12)
        scenes[unit] = (before / unit, trainer.scene.means / unit)
    (before, after), (same, other) = scenes.values()
    assert torch.allclose(before, same, atol=1e-4)
    moved = (after - before).norm(dim=1)
    assert moved.median() > 1e-3
    assert (other - after).norm(dim=1).median() < 0.1 * moved.median()


def test_where_a_scene_is_too_large_the_faintest_go():
    trainer, _ = seeded(rooms.views(3), SceneConfig(max_gaussians=4000))
    count = len(trainer.scene)
    trainer.scene.logit_opacities[:] = torch.linspace(-1, 3, count)[torch.randperm(count)]
    before = trainer.scene.opacities.clone()
    trainer.config = replace(trainer.config, max_gaussians=count - 50)
    origin = trainer.densify()
    gone = torch.ones(count, dtype=torch.bool)
    gone[origin] = False
    assert gone.sum() == 50 and before[gone].max() < before[~gone].min()


def splits(trainer) -> set[int]:
    """Which Gaussians the next round of densification splits."""
    origin = trainer.densify()
    return set(torch.nonzero(torch.bincount(origin) == 2).flatten().tolist())


def test_what_is_split_is_where_the_gradient_was_highest_since_the_last_time():
    """On average over the steps, however many. They have no length: only the gradient is measured."""
    never = SceneConfig(max_gaussians=4000, densify_gradient=1e9)
    (trainer, views), (fresh, _) = (seeded(rooms.views(4), never) for _ in range(2))
    count = len(trainer.scene)
    for _ in range(20):
        trainer.step(views[0], 0.0)
    assert not splits(trainer) and len(trainer.scene) == count
    for each, steps in ((trainer, 4), (fresh, 1)):
        for _ in range(steps):
            each.step(views[3], 0.0)
    measured = (fresh._gradient / fresh._seen.clamp_min(1)).clone()
    often = replace(never, densify_gradient=float(measured[measured > 0].median()))
    trainer.config = fresh.config = often
    wanted = set(torch.nonzero(measured > often.densify_gradient).flatten().tolist())
    assert len(wanted) > 50 and len(splits(trainer) ^ wanted) < 0.1 * len(wanted)  # exposures are not quite the same
    some = replace(often, max_gaussians=count + 20)
    fresh.config = some
    assert splits(fresh) == set(measured.topk(20).indices.tolist())
    trainer.config = replace(often, densify_gradient=0.0)
    assert not splits(trainer)  # nothing was measured since


def test_a_depth_that_was_estimated_is_not_taken_for_a_measured_one():
    frame, blind = rooms.view(0.0), rooms.view(0.0, depth=False)
    guess = np.full_like(frame.depth, 2.5)
    measured, estimated = TrainingView.from_frame(frame, 0, guess), TrainingView.from_frame(blind, 0, guess)
    assert measured.measured and np.array_equal(measured.depth.numpy(), frame.depth)
    assert not estimated.measured and np.array_equal(estimated.depth.numpy(), guess)
    assert not TrainingView.from_frame(blind, 0).measured


def test_needles_get_shorter_where_they_are_weighed():
    trainer, views = seeded(rooms.views(3), SceneConfig(max_gaussians=3000, scale_weight=10.0))
    trainer.scene.log_scales[:, 0] += 4
    spread = trainer.scene.log_scales.amax(1) - trainer.scene.log_scales.mean(1)
    train(trainer, views, 5)
    now = trainer.scene.log_scales.amax(1) - trainer.scene.log_scales.mean(1)
    assert spread.min() > 1.5 and (now < spread).float().mean() > 0.9


def test_what_the_scene_does_not_show_says_nothing_of_the_exposure():
    trainer, views = seeded(rooms.views(3), SceneConfig(max_gaussians=4000))
    train(trainer, views, 30)
    gain, bias = (value.clone() for value in trainer.exposures[0])
    trainer.edit(trainer.scene.prune(trainer.scene.means[:, 0] < 0))  # half of the picture is black now
    for _ in range(10):
        trainer.step(views[0], 0.0)
    now_gain, now_bias = trainer.exposures[0]
    assert (now_gain - gain).abs().max() < 0.1 and (now_bias - bias).abs().max() < 0.05


def test_the_length_of_a_step_follows_what_is_seen():
    """A robot that comes from a closet into a hall: things are 64 times as far off as those that it saw first."""
    (trainer, (near, *_)), (fresh, _) = (seeded(rooms.views(2), SceneConfig(max_gaussians=3000)) for _ in range(2))
    trainer.step(near, 0.0)
    far = TrainingView.from_frame(rooms.views(2, unit=64.0)[0], 5)
    moved = []
    for each in (trainer, fresh):
        each.scene.means *= 64
        each.scene.log_scales += np.log(64)
        for _ in range(100):
            each.step(far, 0.0)
        before = each.scene.means.clone()
        each.step(far)
        moved.append(float((each.scene.means - before).norm(dim=1).mean()))
    assert moved[0] > 0.05 * moved[1]  # not 64 times shorter, whatever is left of the gradients before
