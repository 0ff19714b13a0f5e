"""The mapper on a small generated room: repeatable, resumable, and unharmed by poor input."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS
from numpy.typing import NDArray
from scene import rooms

from lift_ros.camera import PosedCamera
from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.errors import FrameRejected, LiftError, MapFileError
from lift_ros.evaluation.metrics import Contingency, assigned_quality, matched_objects
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.frame import Frame
from lift_ros.lifting.methods import METHODS
from lift_ros.mapping import keyframes as keyframes_module
from lift_ros.mapping.keyframes import Keyframe, all_weights, staleness
from lift_ros.mapping.landmarks import FAR
from lift_ros.mapping.map_files import load_map, save_map
from lift_ros.mapping.mapper import NEW_GROUND, SETTLED, Mapper
from lift_ros.mapping.offline import frame_labels
from lift_ros.mapping.prepare import make_mapper_segmenter
from lift_ros.mapping.schedule import ANNEAL_TO
from lift_ros.mapping.selection import Clicks
from lift_ros.mapping.snapshot import FEW, MIN_SHARE
from lift_ros.masks.base import Masks, Prompts, Segmenter
from lift_ros.masks.graph import GraphSegmenter
from lift_ros.masks.recorded import CaptureMasks, RecordedSegmenter
from lift_ros.objects.description import MapObject, as_json
from lift_ros.options import with_values
from lift_ros.scene.alignment import moved
from lift_ros.scene.gaussians import Seeds

repeatable = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA adds in any order: maps differ in last digits")
QUICK = {"mapping.image_width": 96, "mapping.photometric_steps": 4, "mapping.lifting_steps": 12}


def configured(**values) -> Config:
    return with_values(Config(), QUICK | {name.replace("__", "."): value for name, value in values.items()})


class NoMasks:
    """A segmenter that finds nothing."""

    name = "nothing"
    promptable = False

    def segment(self, frame: Frame, prompts=None) -> Masks:
        return Masks.empty(*frame.image.shape[:2])


@pytest.fixture(scope="module")
def frames(demo_room) -> list[Frame]:
    with open_capture(demo_room.capture) as capture:
        return list(capture.frames)


@pytest.fixture(scope="module")
def truth(demo_room) -> Segmenter:
    """The true masks, numbered anew in every view."""
    with open_capture(demo_room.capture) as capture:
        return CaptureMasks(capture, "L0")


@pytest.fixture(scope="module")
def instances(demo_room, frames) -> list[NDArray]:
    """The true instances of the frames."""
    with open_capture(demo_room.capture) as capture:
        return [capture.recorded_labels("instances", frame) for frame in frames]


def feed(mapper: Mapper, frames: list[Frame]) -> int:
    """Map and train; returns the number of new keyframes."""
    count = 0
    for frame in frames:
        count += mapper.process(frame)
        while mapper.step():
            pass
    mapper.update_objects()
    return count


def mapped(frames: list[Frame], segmenter: Segmenter, **values) -> Mapper:
    mapper = Mapper(configured(**values), segmenter)
    feed(mapper, frames)
    return mapper


@pytest.fixture(scope="module")
def room(frames, truth) -> Mapper:
    """A finished map; read only."""
    return mapped(frames[:5], truth)


def state(mapper: Mapper) -> dict[str, torch.Tensor]:
    """All there is of a map."""
    rows = {name: torch.from_numpy(row) for name, row in mapper._registry.rows().items()}
    return {k: v.clone() for k, v in (mapper._scene.tensors() | mapper._method.state() | rows).items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def assert_finite(mapper: Mapper) -> None:
    for name, tensor in state(mapper).items():
        assert torch.isfinite(tensor).all(), name


# -- what a map is -----------------------------------------------------------------------------------------------------


def test_the_map_explains_the_frames(room, frames):
    assert room.stats.keyframes == 5
    assert room.stats.gaussians == len(room.snapshot.scene) > 500
    assert room.stats.frames == 5 and room.stats.stamp == frames[4].stamp
    assert math.isfinite(room.stats.photometric_loss)
    assert room.stats.steps == 5 * 4 and room.stats.skipped_steps == 0
    rendering = room.snapshot.render(frames[2].posed_camera())
    image = torch.from_numpy(frames[2].image).float() / 255
    assert 10 * torch.log10(1 / (rendering.image.cpu() - image).square().mean()) > 18
    known = torch.from_numpy(frames[2].depth) > 0
    error = (rendering.depth.cpu()[known] / torch.from_numpy(frames[2].depth)[known] - 1).abs()
    assert error.median() < 0.03


def test_labels_have_the_borders_of_the_frame(room, frames, instances):
    """Enlarged from 96 to 160 pixels, rendered labels are off by more than those that follow the frame's edges."""
    width = room.config.mapping.image_width
    rendered, followed = Contingency(), Contingency()
    for frame, truth in zip(frames[:5], instances, strict=False):
        small, share, _ = room.snapshot.label_image(
            PosedCamera(frame.camera.at_width(width), frame.posed_camera().viewmat)
        )
        labels = np.where(share >= MIN_SHARE, small, 0).astype(np.int32)
        rendered.add(cv2.resize(labels, frame.image.shape[1::-1], interpolation=cv2.INTER_NEAREST), truth)
        found, view = room.snapshot.labels_of(frame, width)
        assert found.dtype == np.uint32 and found.shape == frame.image.shape[:2] and view.width == width
        followed.add(found, truth)
    assert assigned_quality(followed).miou > assigned_quality(rendered).miou + 0.005


def test_borders_follow_the_depth_where_the_picture_shows_none(room, frames, instances):
    width, blank = room.config.mapping.image_width, np.full_like(frames[0].image, 128)
    with_depth, without = Contingency(), Contingency()
    for frame, truth in zip(frames[:5], instances, strict=False):
        with_depth.add(room.snapshot.labels_of(replace(frame, image=blank), width)[0], truth)
        without.add(room.snapshot.labels_of(replace(frame, image=blank, depth=None), width)[0], truth)
    assert assigned_quality(with_depth).miou > assigned_quality(without).miou + 0.005


def test_what_is_faint_is_no_point_of_an_object(room):
    """It fills in colour, and may hang anywhere."""
    scene = room.snapshot.scene.clone()
    id = room.objects[0].id
    own = torch.nonzero(room.snapshot.ids == id).flatten()
    scene.logit_opacities[own[::2]] = -2.0
    faint = replace(room.snapshot, scene=scene)
    solid = int((scene.opacities[own] > 0.5).sum())
    some = int((scene.opacities[own[1::2]] > 0.2).sum())
    (found,) = [item for item in faint.objects if item.id == id]
    assert 0 < solid <= len(found.points) <= some < len(own)
    _, _, ids = faint.cloud(10**9)
    assert (ids == id).sum() == len(found.points)


def test_an_object_of_faint_gaussians_alone_is_listed_as_it_is_labelled(room):
    scene = room.snapshot.scene.clone()
    id = room.objects[0].id
    own = torch.nonzero(room.snapshot.ids == id).flatten()
    assert len(own) > FEW
    scene.logit_opacities[own] = -1.2  # as guesses of stereo begin: 0.23
    scene.logit_opacities[own[:5]] = -0.9
    faint = replace(room.snapshot, scene=scene)
    (found,) = [item for item in faint.objects if item.id == id]
    assert len(found.points) == FEW
    assert {tuple(point) for point in found.points.tolist()} >= {tuple(p) for p in scene.means[own[:5]].tolist()}
    assert [item.id for item in faint.objects] == [item.id for item in room.objects]
    assert not (faint.cloud(10**9)[2] == id).any()


def test_haze_widens_no_object_and_is_none(room):
    scene = room.snapshot.scene.clone()
    id = room.objects[0].id
    own = torch.nonzero(room.snapshot.ids == id).flatten()
    scene.logit_opacities[own] = -3.5  # 0.03
    assert id not in [item.id for item in replace(room.snapshot, scene=scene).objects]
    scene.logit_opacities[own[:9]] = 2.0
    (found,) = [item for item in replace(room.snapshot, scene=scene).objects if item.id == id]
    assert len(found.points) == 9


def test_the_label_at_a_pixel_is_that_of_the_whole_image(room, frames):
    camera = frames[2].posed_camera()
    labels, share, _ = room.snapshot.label_image(camera)
    for row, column in np.random.default_rng(0).integers((0, 0), labels.shape, (60, 2)).tolist():
        label, part = room.snapshot.label_at(camera, column, row)
        assert part == pytest.approx(share[row, column], abs=1e-4)
        assert label == labels[row, column] or part < 0.51  # of two that share the pixel either may win


def stale(mapper: Mapper, max_moved: float = 1e6) -> list[float]:
    """The staleness of each keyframe."""
    cameras = [mapper._camera(keyframe) for keyframe in mapper._keyframes]
    return staleness(mapper._keyframes, mapper._scene.means.cpu().numpy(), cameras, max_moved).tolist()


def refresh(mapper: Mapper, keyframe: Keyframe) -> None:
    mapper._keyframes.refresh(keyframe, mapper._scene, mapper._hidden)


def test_a_keyframe_is_looked_at_anew_where_another_planted(frames, truth):
    mapper = mapped(frames[:1], truth, mapping__refresh_moved=1e6)
    first, before = mapper._keyframes[0], len(mapper._scene)
    assert stale(mapper)[0] < 1
    camera = frames[0].posed_camera()
    points = frames[0].camera.unproject(frames[0].depth)[::4, ::4].reshape(-1, 3)
    pose = frames[0].T_world_camera
    hidden = (points + (0, 0, 100)) @ pose[:3, :3].T - 300 * pose[:3, 2]  # behind the camera
    first.planted(hidden.astype(np.float32), camera)
    assert stale(mapper)[0] < 1
    feed(mapper, frames[1:4])
    assert len(mapper._scene) > before and first.evidence.gaussian.max() >= before


def test_a_few_keyframes_are_looked_at_anew_at_a_time_the_stalest_first(frames, truth):
    mapper = mapped(frames[:5], truth, mapping__refresh_moved=1e6)
    camera = frames[0].posed_camera()
    seen = np.tile(mapper._scene.means.cpu().numpy(), (4, 1))
    for times, keyframe in enumerate(mapper._keyframes):
        keyframe._unknown = 0
        for _ in range(times):  # the latest changed most, the first not at all
            keyframe.planted(seen, camera)
    mapper._schedule.add_keyframe()
    mapper.step()
    assert [each >= 1 for each in stale(mapper)] == [False, True, False, False, False]


def test_a_keyframe_is_as_stale_as_what_it_shows_has_moved_in_it(frames, truth):
    mapper = mapped(frames[:5], truth)
    scene, shown = mapper._scene, mapper._keyframes[0]
    for keyframe in mapper._keyframes:
        refresh(mapper, keyframe)
    assert stale(mapper, 1.0) == pytest.approx([0.0] * 5, abs=1e-4)
    camera = mapper._camera(shown)
    centre = torch.linalg.inv(camera.viewmat)
    ray = scene.means - centre[:3, 3]
    unseen = torch.ones(len(scene), dtype=torch.bool)
    unseen[shown.evidence.gaussian] = False
    assert unseen.any()
    scene.means[unseen] += 1.0
    assert stale(mapper, 1.0)[0] < 1e-4 < 1 < max(stale(mapper, 1.0)[1:])
    depth = (ray @ camera.viewmat[2, :3]).clamp_min(0.1)
    scene.means += 2 * (depth / camera.intrinsics.fx)[:, None] * centre[:3, 0]  # two pixels to its right
    assert stale(mapper, 1.0)[0] == pytest.approx(2.0, abs=1e-3)
    assert stale(mapper, 4.0)[0] == pytest.approx(0.5, abs=1e-3)
    kept = torch.arange(len(scene)) % 2 == 0
    kept[torch.from_numpy(shown.landmarks.gaussian)] = True
    mapper._edit(lambda: scene.prune(kept))
    assert stale(mapper, 1.0)[0] == pytest.approx(2.0, abs=1e-3)
    refresh(mapper, shown)
    assert stale(mapper, 1.0)[0] < 1e-4


def test_a_keyframe_is_stale_where_its_pose_was_corrected(frames, truth):
    mapper = mapped(frames[:3], truth, scene__refine_poses=True)
    for keyframe in mapper._keyframes:
        refresh(mapper, keyframe)
    keyframe = mapper._keyframes[1]
    mapper._trainer.poses.update(
        keyframe.view.index, keyframe.view.camera, moved(mapper._camera(keyframe), np.full(6, 0.02))
    )
    assert stale(mapper, 0.2)[1] >= 1
    known = keyframe.evidence
    mapper._keyframes.refresh_stalest(mapper._scene, mapper._hidden)
    assert keyframe.evidence is not known and stale(mapper, 0.2)[1] < 0.1


@pytest.mark.parametrize("asked", [100, 2])
def test_training_looks_anew_at_keyframes_that_show_what_moved_and_at_no_others(frames, truth, monkeypatch, asked):
    """However few are asked at a time, all have their turn."""
    monkeypatch.setattr(keyframes_module, "ASKED", asked)
    mapper = mapped(frames[:5], truth, mapping__refresh_moved=2.0)
    for keyframe in mapper._keyframes:
        refresh(mapper, keyframe)
    known = [keyframe.evidence for keyframe in mapper._keyframes]
    mapper._keyframes.refresh_stalest(mapper._scene, mapper._hidden)
    assert all(keyframe.evidence is each for keyframe, each in zip(mapper._keyframes, known, strict=True))
    mapper._scene.means += 0.2
    assert min(stale(mapper, 2.0)) > 1
    for _ in range(8):
        mapper._schedule.add_keyframe()
        mapper.step()
    assert not any(keyframe.evidence is each for keyframe, each in zip(mapper._keyframes, known, strict=True))


def test_a_keyframe_that_shows_what_is_gone_is_stale(frames, truth):
    mapper = mapped(frames[:2], truth)
    first = mapper._keyframes[0]
    refresh(mapper, first)
    shown = torch.zeros(len(mapper._scene), dtype=torch.bool)
    shown[torch.from_numpy(first.landmarks.gaussian)] = True
    gone = shown & (torch.rand(len(shown), generator=torch.Generator().manual_seed(0)) < 0.5)
    mapper._edit(lambda: mapper._scene.prune(~gone))
    assert stale(mapper, 1.0)[0] == pytest.approx(FAR / 2, rel=0.4)
    left = torch.zeros(len(mapper._scene), dtype=torch.bool)
    left[torch.from_numpy(first.landmarks.gaussian)] = True
    mapper._edit(lambda: mapper._scene.prune(~left))
    assert stale(mapper, 1.0)[0] == FAR
    refresh(mapper, first)
    every = torch.ones(len(mapper._scene), dtype=torch.bool)
    mapper._edit(lambda: mapper._scene.split(every))
    assert 0 < stale(mapper, 1.0)[0] < FAR / 2  # halves lie beside where the whole was


def test_what_is_behind_the_camera_or_nowhere_has_moved_far(frames, truth):
    mapper = mapped(frames[:1], truth)
    refresh(mapper, mapper._keyframes[0])
    camera = mapper._camera(mapper._keyframes[0])
    axis, centre = camera.viewmat[2, :3], torch.linalg.inv(camera.viewmat)[:3, 3]
    kept = mapper._scene.means.clone()
    mapper._scene.means += 1e3 * torch.linalg.inv(camera.viewmat)[:3, 0]
    assert stale(mapper, 1.0) == [FAR]
    mapper._scene.means[:] = kept - 2 * ((kept - centre) @ axis)[:, None] * axis  # mirrored
    assert stale(mapper, 1.0) == [FAR]
    mapper._scene.means[:] = torch.nan
    assert stale(mapper, 1.0) == [FAR]


def test_a_keyframe_without_masks_is_never_looked_at_anew(frames):
    mapper = mapped(frames[:4], NoMasks(), mapping__refresh_moved=0.01)
    known = [keyframe.evidence for keyframe in mapper._keyframes]
    for keyframe in mapper._keyframes:
        keyframe.planted(mapper._scene.means.cpu().numpy(), mapper._camera(keyframe))
        assert keyframe.unknown > 1
    assert stale(mapper, 0.01) == [0.0] * len(mapper._keyframes)
    mapper._schedule.add_keyframe()
    mapper.step()
    assert all(keyframe.evidence is each for keyframe, each in zip(mapper._keyframes, known, strict=True))


def test_what_has_been_trained_comes_to_rest_while_the_map_grows(frames, truth, monkeypatch):
    mapper = Mapper(configured(mapping__photometric_steps=20), truth)
    step, rates = mapper._trainer.step, []

    def recorded(view, rate):
        rates.append((view.index, rate))
        return step(view, rate)

    monkeypatch.setattr(mapper._trainer, "step", recorded)
    feed(mapper, frames[:4])
    assert {rate for _, rate in rates} == {1.0}  # all of it is new
    rates.clear()
    feed(mapper, frames[4:6])
    assert {rate for _, rate in rates} == {1.0, SETTLED} and SETTLED < 1
    assert all(rate == SETTLED for index, rate in rates if index == 0)


def test_embeddings_come_to_rest_in_the_training_at_the_end(frames, truth, monkeypatch):
    mapper = mapped(frames[:2], truth, lifting__method="hdbscan")
    step, rates = mapper._method.step, []

    def recorded(views, neighbours, rate):
        rates.append(rate)
        return step(views, neighbours, rate)

    monkeypatch.setattr(mapper._method, "step", recorded)
    mapper.finish(0, 60)
    assert len(rates) == 60 and rates == sorted(rates, reverse=True)
    assert set(rates[:30]) == {1.0} and rates[30] < 1 and rates[-1] == pytest.approx(ANNEAL_TO)
    rates.clear()
    feed(mapper, frames[2:6])
    assert set(rates) == {1.0}  # the map grows on


def test_new_ground_has_its_objects_before_they_are_updated(frames, truth):
    mapper = mapped(frames[:4], truth)
    objects, before = set(mapper.snapshot.ids.tolist()), len(mapper._scene)
    assert mapper.process(frames[4])
    ids = mapper.snapshot.ids
    assert len(ids) == len(mapper._scene) > before
    assert (ids[before:] > 0).float().mean() > 0.5
    assert set(ids.tolist()) <= objects
    assert (mapper.snapshot.uncertainty[before:] == 1).all()  # no method was asked about it yet
    assert (mapper.snapshot.uncertainty[:before] < 1).any()


def test_what_was_thinned_is_told_by_masks_again_where_a_keyframe_shows_it_large_enough(frames, truth):
    mapper = mapped(frames[:4], truth)
    before = len(mapper._scene)
    mapper._coarse[:] = True
    assert mapper.process(frames[4])
    again = ~mapper._coarse[:before].numpy()
    assert 0 < again.sum() < before
    camera = mapper._camera(mapper._keyframes[-1])
    uv, z = camera.intrinsics.project(
        mapper._scene.means[:before].numpy() @ camera.viewmat[:3, :3].numpy().T + camera.viewmat[:3, 3].numpy()
    )
    shown = (z > 0) & (uv > -5).all(1) & (uv < (camera.width + 5, camera.height + 5)).all(1)
    assert shown[again].all() and not shown.all()


class Prompted:
    """A segmenter that is told what the map explains, and finds the true masks all the same."""

    name = "prompted"
    promptable = True

    def __init__(self, truth: Segmenter) -> None:
        self._truth = truth
        self.prompts: list[Prompts | None] = []

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        self.prompts.append(prompts)
        masks = self._truth.segment(frame)
        masks.prompts_used = 7
        return masks


def test_a_segmenter_is_prompted_with_what_the_map_knows_and_its_prompts_are_counted(frames, truth):
    segmenter = Prompted(truth)
    mapper = Mapper(configured(), segmenter)
    for frame in frames[:3]:
        feed(mapper, [frame])
    first, second, third = segmenter.prompts
    assert first is None or (not len(first.points) and not first.explained.any())
    assert not second.explained.any() or len(second.points)  # one view alone makes no objects yet
    assert third.explained.shape == frames[2].image.shape[:2] and third.explained.mean() > 0.3
    labels = frame_labels(mapper, frames[2])
    column, row = third.points.astype(int).T
    assert len(third.points) >= 2 and (labels[row, column] > 0).mean() > 0.7
    assert (mapper.stats.prompts, mapper.stats.all_prompts) == (7, 21)


def test_prompts_for_a_large_image_are_in_its_pixels(frames, truth):
    """They are found at the resolution of the masks that are kept."""

    def enlarged(frame: Frame) -> Frame:
        size = 6 * frame.camera.width, 6 * frame.camera.height
        return replace(frame, image=cv2.resize(frame.image, size), camera=frame.camera.resized(*size), depth=None)

    class Small:
        """The true masks of the frame as it was."""

        name, promptable = "small", False

        def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
            return truth.segment(next(small for small in frames if small.name == frame.name))

    mapper = mapped(frames[:3], truth)
    mapper.segmenter = segmenter = Prompted(Small())
    large = enlarged(frames[4])
    assert mapper.process(large)
    (prompts,) = segmenter.prompts
    assert prompts.explained.shape == large.image.shape[:2] and prompts.explained.mean() > 0.3
    column, row = prompts.points.astype(int).T
    assert len(prompts.points) >= 2 and column.max() > frames[4].camera.width
    assert (frame_labels(mapper, large)[row, column] > 0).mean() > 0.7


@pytest.mark.parametrize("method", ["lift", "pcf_lift", "disco"])
def test_uncertainty_is_that_of_the_method_and_total_where_there_is_nothing(method, room, frames, truth):
    mapper = room if method == "lift" else mapped(frames[:4], truth, lifting__method=method)
    snapshot, camera = mapper.snapshot, frames[2].posed_camera()
    views = [keyframe.lifting for keyframe in mapper._keyframes if keyframe.lifting is not None]
    evidence = [keyframe.evidence for keyframe in mapper._keyframes]
    confidence = copy.deepcopy(mapper._method).decode(views, evidence, mapper._near()).confidence
    shown = torch.zeros(len(snapshot.scene), dtype=torch.bool)
    for each in evidence:
        shown[torch.from_numpy(each.gaussian).long()] = True
    unsure = torch.where(shown, 1 - confidence, 1.0)
    torch.testing.assert_close(snapshot.uncertainty, unsure)
    assert not shown.all() and unsure[shown].min() < 0.2 and unsure[shown].max() > 0.5

    seen = snapshot.uncertainty_image(camera)
    assert seen.shape == frames[2].image.shape[:2] and seen.min() >= 0 and seen.max() <= 1
    weights = all_weights(snapshot.scene, camera)
    blended = weights.matmul(unsure[:, None])[:, 0] + 1 - weights.alpha()
    torch.testing.assert_close(torch.from_numpy(seen).reshape(-1), blended, rtol=0, atol=1e-3)
    away = frames[2].T_world_camera.copy()
    away[:3, 3] += 1000 * away[:3, 2]
    assert (snapshot.uncertainty_image(replace(frames[2], T_world_camera=away).posed_camera()) == 1).all()

    points = {item.id: (snapshot.ids == item.id) & snapshot.solid for item in mapper.objects}
    large = [item for item in mapper.objects if points[item.id].sum() >= FEW]
    assert len(large) >= 3
    for item in large:
        assert item.uncertainty == pytest.approx(float(unsure[points[item.id]].mean()), abs=1e-5)


def test_doubt_about_what_no_keyframe_shows_any_more_stays_as_it_was(frames, truth):
    mapper = mapped(frames[:4], truth)
    before, ids = mapper.snapshot.uncertainty, mapper.snapshot.ids
    hidden = ids == ids.max()
    assert hidden.any() and before[hidden].mean() < 0.5
    for keyframe in mapper._keyframes:
        keyframe.forget(hidden.numpy())
    mapper.update_objects()
    assert torch.equal(mapper.snapshot.ids == ids.max(), hidden)
    assert torch.equal(mapper.snapshot.uncertainty[hidden], before[hidden])


def test_objects_are_those_of_the_room(room, frames, instances, demo_room):
    """The largest object of the room, a table, has one id in all views, and its points lie on it."""
    table = demo_room.room.objects[0]
    seen = []
    for frame, true in zip(frames[:5], instances[:5], strict=True):
        labels = frame_labels(room, frame)
        assert labels.shape == frame.image.shape[:2] and labels.dtype == np.uint32
        value = np.bincount(labels[true == table.id]).argmax()
        overlap, union = ((labels == value) & (true == table.id)).sum(), ((labels == value) | (true == table.id)).sum()
        assert overlap / union > 0.65  # its legs are thinner than the map's pixels
        seen.append(value)
    assert len(set(seen)) == 1 and seen[0] > 0
    (found,) = [item for item in room.objects if item.id == seen[0]]
    assert np.abs(found.centroid - table.center).max() < 0.25
    inside = (np.abs(found.points - table.center) < table.size / 2 + 0.1).all(1)
    assert inside.mean() > 0.9
    assert found.views == 5 and (found.first_seen, found.last_seen) == (frames[0].stamp, frames[4].stamp)


@repeatable
def test_the_same_input_and_seed_give_the_same_map(room, frames, truth):
    again = mapped(frames[:5], truth)
    assert_same(state(again), state(room))
    assert [(o.id, o.centroid.tolist(), o.confidence) for o in again.objects] == [
        (o.id, o.centroid.tolist(), o.confidence) for o in room.objects
    ]


def test_another_seed_gives_another_map(frames, truth):
    other, same = (mapped(frames[:2], truth, mapping__seed=seed, lifting__method="unic_lift") for seed in (1, 0))
    assert not torch.equal(state(other)["gaussian.unic_lift.embeddings"], state(same)["gaussian.unic_lift.embeddings"])


def test_per_gaussian_state_stays_aligned_through_densification(room, frames, truth):
    changes = {"mapping__densify_every": 5, "scene__densify_gradient": 1e-5, "lifting__method": "unic_lift"}
    mapper = mapped(frames[:3], truth, **changes)
    n = len(mapper._scene)
    assert n > room.stats.gaussians  # it did split
    assert {len(t) for name, t in state(mapper).items() if name.startswith("gaussian.") or name == "ids"} == {n}
    for keyframe in mapper._keyframes:
        assert keyframe.lifting.weights.shape[1] == n
        assert keyframe.evidence.gaussian.max() < n
    assert len(mapper.objects) > 0


def test_in_the_last_half_of_the_training_at_the_end_no_gaussian_is_split(frames, truth):
    """What has just been split has no time left to settle."""
    mapper = mapped(frames[:3], truth, mapping__densify_every=5, scene__densify_gradient=1e-4)
    counts = {}
    mapper.finish(40, 0, lambda done, _: counts.update({done: len(mapper._scene)}))
    assert max(counts) == 40 and counts[5] < counts[20]
    assert {count for done, count in counts.items() if done >= 20} == {counts[40]}


@pytest.mark.parametrize(("method", "steps", "owed"), [("unic_lift", 13, 8 + 24), ("lift", 6, 8)])
def test_finish_trains_as_much_as_asked(frames, truth, method, steps, owed):
    mapper = Mapper(configured(lifting__method=method), truth)
    for frame in frames[:2]:
        mapper.process(frame)
    assert mapper.stats.keyframes == 2
    told = []
    mapper.finish(6, 7, lambda done, total: told.append((done, total)))
    assert told[-1] == (steps, steps) and told == sorted(told)
    assert mapper.stats.steps == steps + owed  # what the keyframes brought as well
    assert not mapper.step()


# -- every lifting method ----------------------------------------------------------------------------------------------

SHARP = {"mapping__image_width": 160, "mapping__lifting_steps": 25}  # narrower, the smaller objects are a few pixels
OTHER_STEPS = {"panoptic_lifting": 10, "hdbscan": 40}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_objects_and_goes_on_with_them_from_a_file(method, frames, truth, instances, tmp_path):
    values = SHARP | {"lifting__method": method, "mapping__lifting_steps": OTHER_STEPS.get(method, 25)}
    mapper = mapped(frames[:5], truth, **values)
    before = [frame_labels(mapper, frame) for frame in frames[:5]]
    agreement = Contingency.of(before, instances[:5])
    assert assigned_quality(agreement).miou > 0.5 and len(matched_objects(agreement)) >= 3  # of four
    assert mapper.objects and not any(item.parent for item in mapper.objects)  # the masks do not overlap

    mapper.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(**values), truth)
    assert_same(state(loaded), state(mapper))
    assert [as_json(item) for item in loaded.objects] == [as_json(item) for item in mapper.objects]
    assert feed(loaded, frames[5:6]) == 1
    assert_finite(loaded)
    for frame, was in zip(frames[:5], before, strict=True):
        assert (frame_labels(loaded, frame) == was)[was > 0].mean() > 0.75

    # the first keyframe of another run may show hardly anything of the map
    frame, shown = frames[5], instances[5]
    again = Mapper.load(tmp_path / "map", configured(**values), Fixed(shown == np.bincount(shown[shown > 0]).argmax()))
    assert feed(again, [frame]) == 1
    assert {item.id for item in again.objects} == {item.id for item in mapper.objects}


class ByFrame:
    """A segmenter that finds the masks that are given for each frame."""

    name = "given"
    promptable = False

    def __init__(self, labels: dict[str, NDArray]) -> None:
        self.labels = labels

    def segment(self, frame: Frame, prompts=None) -> Masks:
        return Masks.from_label_image(self.labels[frame.name].astype(np.int32))


def test_a_loaded_map_is_no_surer_than_it_was(frames, instances, tmp_path):
    """Masks are full of holes. One more view, of one object, says nothing about the others."""
    rng = np.random.default_rng(0)
    worn = [np.where(rng.random(labels.shape) < 0.25, 0, labels) for labels in instances[:5]]
    some = np.bincount(worn[4][worn[4] > 0]).argmax()
    worn[4] = np.where(worn[4] == some, some, 0)
    segmenter = ByFrame({frame.name: labels for frame, labels in zip(frames, worn, strict=False)})
    mapper = mapped(frames[:4], segmenter, **SHARP)
    mapper.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(**SHARP), segmenter)
    assert feed(loaded, [frames[4]]) == 1
    before, after = ({item.id: item for item in each.objects} for each in (mapper, loaded))
    assert before.keys() == after.keys() and min(item.confidence for item in before.values()) < 0.9
    assert max(item.uncertainty for item in before.values()) > 0.02
    apart = [abs(after[i].confidence - before[i].confidence) for i in before]
    assert sum(each > 1e-6 for each in apart) <= 2 < len(before) and max(apart) < 0.1  # and what borders on it
    for i in before:
        assert after[i].uncertainty == pytest.approx(before[i].uncertainty, abs=0.06)


class Fixed:
    """A segmenter that finds the same masks in every image."""

    name = "fixed"
    promptable = False

    def __init__(self, labels: NDArray) -> None:
        self._masks = Masks.from_label_image(labels.astype(np.int32))

    def segment(self, frame: Frame, prompts=None) -> Masks:
        return self._masks


class Halves:
    """The true instances, the room itself too, and where an object is the table, its halves to either side of x = 0."""

    name = "halves"
    promptable = False

    def __init__(self, instances: dict[str, NDArray], table: int) -> None:
        self._instances, self._table = instances, table

    def segment(self, frame: Frame, prompts=None) -> Masks:
        labels, camera = self._instances[frame.name], frame.camera
        row, column = np.indices(labels.shape) + 0.5
        rays = np.stack([(column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, np.ones_like(row)], -1)
        right = (rays * frame.depth[..., None]) @ frame.T_world_camera[0, :3] + frame.T_world_camera[0, 3] > 0
        table = labels == self._table
        masks = np.stack([*(labels == i for i in np.unique(labels)), table & right, table & ~right])
        masks = masks[masks.any((1, 2))]
        return Masks(masks)


@pytest.mark.parametrize(
    ("method", "option"), [("lift", {}), ("omniseg3d", {}), ("unified_lift", {"lifting__unified_lift__levels": 2})]
)
def test_parts_are_published_with_their_parent(method, option, frames, instances, demo_room, tmp_path):
    table = demo_room.room.objects[0]
    segmenter = Halves({frame.name: labels for frame, labels in zip(frames, instances, strict=True)}, table.id)
    values = SHARP | option | {"lifting__method": method}
    mapper = mapped(frames[:5], segmenter, **values)

    def on_table(item: MapObject) -> float:
        return float((np.abs(item.points - table.center) < table.size / 2 + 0.1).all(1).mean())

    parts = [item for item in mapper.objects if item.parent and on_table(item) > 0.9]
    (whole,) = [item for item in mapper.objects if item.id in {part.parent for part in parts}]
    side = [part.points[:, 0].mean() for part in parts]
    assert min(side) < -0.1 and max(side) > 0.1
    members = [item for item in mapper.objects if item.parent == whole.id]
    assert len(whole.points) == sum(len(item.points) for item in members) and whole.parent == 0
    assert on_table(whole) > 0.8

    mapper.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(**values), segmenter)
    assert {item.id: item.parent for item in loaded.objects} == {item.id: item.parent for item in mapper.objects}
    loaded.update_objects()
    assert {item.id: item.parent for item in loaded.objects} == {item.id: item.parent for item in mapper.objects}


def test_a_method_that_cannot_tell_what_is_similar_says_which_can(frames, instances):
    mapper = mapped(frames[:1], Fixed(instances[0]), **SHARP | {"lifting__method": "disco"})
    with pytest.raises(LiftError, match="'disco' cannot tell .* one of lift, "):
        mapper.select(Clicks([np.zeros(3)], [], None, 0.5, False))


# -- poses that are off ------------------------------------------------------------------------------------------------


class OneMask:
    """A segmenter for which the whole image is one object."""

    name = "one"
    promptable = False

    def segment(self, frame: Frame, prompts=None) -> Masks:
        return Masks.from_label_image(np.ones(frame.image.shape[:2], np.int32))


def test_poses_are_corrected_where_asked():
    """Everything that looks through a frame's camera looks through the corrected one."""
    rng = np.random.default_rng(1)
    true = rooms.views(6)
    off = 0.03 * rng.normal(size=(6, 2))
    frames = [replace(frame, T_world_camera=frame.T_world_camera.copy()) for frame in true]
    for frame, d in zip(frames, off, strict=True):
        frame.T_world_camera[:2, 3] += d
    mapper = mapped(frames, OneMask(), scene__refine_poses=True, mapping__keyframe_parallax=1.0)
    assert mapper.stats.keyframes == 6
    mapper.finish(120, 5)
    mapper.update_objects()

    def error(cameras):
        centres = np.stack([np.linalg.inv(camera.viewmat.double().cpu().numpy())[:2, 3] for camera in cameras])
        wrong = centres - [frame.T_world_camera[:2, 3] for frame in true]
        return np.linalg.norm(wrong - wrong.mean(axis=0), axis=1).mean()  # a shift of all is a shift of the world

    given = error([frame.posed_camera() for frame in frames])
    located = [mapper.snapshot.locate(frame) for frame in frames]
    assert error(located) < 0.6 * given
    assert error([mapper.snapshot.locate(frame, 3) for frame in frames]) < 0.6 * given
    for keyframe, camera in zip(mapper._keyframes, located, strict=True):
        seen = MaskEvidence.of(all_weights(mapper._scene, camera), keyframe.patches.label_image())
        assert np.array_equal(seen.gaussian, keyframe.evidence.gaussian)
        assert np.allclose(seen.weight, keyframe.evidence.weight, atol=1e-3)


def test_given_poses_are_kept_where_not_asked(room, frames):
    for steps in (0, 3):
        camera = room.snapshot.locate(frames[1], steps)
        assert torch.equal(camera.viewmat.cpu(), frames[1].posed_camera().viewmat)


def test_a_frame_is_aligned_with_a_loaded_map(room, frames, truth, tmp_path):
    room.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(scene__refine_poses=True), truth)
    pose = frames[2].T_world_camera.copy()
    pose[:3, 3] += pose[:3, 0] * 0.08
    off = replace(frames[2], T_world_camera=pose)
    found = np.linalg.inv(loaded.snapshot.locate(off, 8).viewmat.double().cpu().numpy())
    assert np.linalg.norm(found[:3, 3] - frames[2].T_world_camera[:3, 3]) < 0.04
    assert torch.equal(loaded.snapshot.locate(off).viewmat.cpu(), off.posed_camera().viewmat)


# -- save and load -----------------------------------------------------------------------------------------------------


def test_a_loaded_map_goes_on_with_its_ids(room, frames, truth, tmp_path):
    room.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(), truth)
    assert_same(state(loaded), state(room))
    assert [(o.id, o.views, o.centroid.tolist()) for o in loaded.objects] == [
        (o.id, o.views, o.centroid.tolist()) for o in room.objects
    ]
    assert loaded.stats.gaussians == room.stats.gaussians and loaded.stats.stamp == room.stats.stamp
    before = {frame.name: frame_labels(loaded, frame) for frame in frames[:5]}

    assert feed(loaded, frames[5:7]) == 2
    for frame in frames[:5]:
        was, now = before[frame.name], frame_labels(loaded, frame)
        assert (was == now)[was > 0].mean() > 0.85
    known = {track.id for track in room.snapshot.tracks}
    new = {track.id for track in loaded.snapshot.tracks} - known
    assert not new or min(new) > max(known)
    assert {track.id for track in loaded.snapshot.tracks} & known


@pytest.mark.parametrize("how", ["a file", "a scene planted anew"])
def test_what_was_lost_is_known_again_after(how, frames, truth, tmp_path):
    if how == "a scene planted anew":
        frames = [replace(frame, depth=None) for frame in frames]
    mapper = mapped(frames[:5], truth)
    before, usual = {track.id for track in mapper.snapshot.tracks}, mapper._registry.config
    mapper._registry.config = replace(usual, min_confidence=10.0)
    mapper.update_objects()
    assert before and not mapper.snapshot.tracks
    mapper._registry.config = usual
    if how == "a file":
        mapper.save(tmp_path / "map")
        loaded = Mapper.load(tmp_path / "map", configured(), truth)
        assert_same(state(loaded), state(mapper))
        mapper = loaded
        feed(mapper, frames[5:8])
    else:
        mapper.finish(4, 0)
    mapper.update_objects()
    after = {track.id for track in mapper.snapshot.tracks}
    assert after & before and len(after - before) < len(after & before)


def test_keyframes_that_were_counted_before_saving_still_count(room, frames, truth, tmp_path):
    room.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(), truth)
    feed(loaded, frames[5:7])
    views = {track.id: track.views for track in room.snapshot.tracks}
    for track in loaded.snapshot.tracks:
        assert track.views >= views.get(track.id, 0)


def test_objects_that_new_keyframes_do_not_show_stay(room, frames, tmp_path):
    """The first keyframe after loading sees a corner of the floor, in one mask."""

    room.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(), OneMask())
    before = frame_labels(loaded, frames[2])
    floor = np.bincount(before.ravel()).argmax()
    top, left = next((y, x) for y in (0, 80) for x in (0, 112) if (before[y : y + 40, x : x + 48] == floor).all())
    whole = frames[2].camera
    camera = replace(whole, width=48, height=40, cx=whole.cx - left, cy=whole.cy - top)
    crop = (slice(top, top + 40), slice(left, left + 48))
    frame = frames[2]
    corner = Frame(frame.image[crop], camera, frame.T_world_camera, frame.stamp + 10, frame.depth[crop])
    assert feed(loaded, [corner]) == 1

    assert {track.id for track in loaded.snapshot.tracks} == {track.id for track in room.snapshot.tracks}
    assert (frame_labels(loaded, frames[2]) == before).mean() > 0.97
    for track in loaded.snapshot.tracks:
        assert track.last_seen == (corner.stamp if track.id == floor else frames[4].stamp)


def test_what_a_map_of_colour_images_held_outlasts_another_run_and_its_end(frames, truth, tmp_path):
    """The keyframes that made it are not there any more to plant it anew."""
    blind = [replace(frame, depth=None) for frame in frames]
    mapper = mapped(blind[:4], truth)
    mapper.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(), truth)
    counts = np.bincount(loaded._registry.ids)
    known = {i for i in np.flatnonzero(counts).tolist() if i and counts[i] >= 40}  # what is hardly an object may go
    before = loaded.snapshot.scene.means.clone()
    shift = np.eye(4)
    shift[0, 3] = 50.0  # in another room
    later = [replace(f, T_world_camera=shift @ f.T_world_camera, stamp=f.stamp + 100) for f in blind[4:8]]
    assert feed(loaded, later) >= 3
    loaded.finish(4, 0)
    loaded.update_objects()
    assert (loaded.snapshot.scene.means[:, 0] < 25).sum() > 0.8 * len(before)
    assert len(known) >= 3 and known <= {track.id for track in loaded.snapshot.tracks}


def test_a_map_without_anything_is_saved_and_loaded(truth, tmp_path):
    mapper = Mapper(configured(), truth)
    mapper.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(), truth)
    assert len(loaded.snapshot.scene) == 0 and loaded.objects == []
    assert loaded.map_id == mapper.map_id != Mapper(configured(), truth).map_id


@pytest.mark.parametrize(
    ("change", "world_frame", "message"),
    [
        ({}, "odom", "was made with world_frame 'map', but 'odom' is configured"),
        ({"lifting__method": "unic_lift"}, "map", "was made with method 'lift', but 'unic_lift' is configured"),
    ],
)
def test_maps_that_do_not_fit_are_refused(room, truth, tmp_path, change, world_frame, message):
    room.save(tmp_path / "map")
    with pytest.raises(MapFileError, match=message):
        Mapper.load(tmp_path / "map", configured(**change), truth, world_frame)


def test_a_map_that_is_not_there(truth, tmp_path):
    with pytest.raises(MapFileError, match="there is no map"):
        Mapper.load(tmp_path / "none", configured(), truth)


# -- snapshots ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_stays_as_it_was_while_training_goes_on(frames, truth):
    mapper = mapped(frames[:2], truth, mapping__densify_every=5)
    snapshot = mapper.snapshot
    kept = {name: tensor.clone() for name, tensor in snapshot.scene.tensors().items()} | {"ids": snapshot.ids.clone()}
    tracks = [replace(track) for track in snapshot.tracks]
    picture = snapshot.render(frames[0].posed_camera()).image
    feed(mapper, frames[2:4])
    assert mapper.snapshot is not snapshot
    assert_same(snapshot.scene.tensors() | {"ids": snapshot.ids}, kept)
    assert list(snapshot.tracks) == tracks
    assert torch.equal(snapshot.render(frames[0].posed_camera()).image, picture)


def test_scene_cloud_is_thinned_to_its_limit(room):
    points, colors, ids = room.snapshot.cloud(10**9)
    assert points.shape == colors.shape == (len(ids), 3) and len(ids) > 500
    assert (points.dtype, colors.dtype, ids.dtype) == (np.float32, np.uint8, np.uint32)
    few, few_colors, few_ids = room.snapshot.cloud(100)
    assert 50 <= len(few) <= 100 and len(few_colors) == len(few_ids) == len(few)
    step = -(-len(points) // 100)
    assert np.array_equal(few, points[::step]) and np.array_equal(few_ids, ids[::step])
    assert {o.id: len(o.points) for o in room.objects} == {o.id: int((ids == o.id).sum()) for o in room.objects}


# -- how much is trained -----------------------------------------------------------------------------------------------


def test_what_cannot_be_kept_up_with_is_skipped_and_counted(frames, truth):
    mapper = Mapper(configured(mapping__max_backlog=2, lifting__method="unic_lift"), truth)
    keyframes = sum(mapper.process(frame) for frame in frames[:5])
    assert keyframes == 5
    assert mapper.stats.skipped_steps == 3 * (4 + 12)
    done = 0
    while mapper.step():
        done += 1
    assert mapper.stats.steps == 2 * (4 + 12) and done < 2 * (4 + 12)


@pytest.mark.parametrize("depth", [True, False])
def test_keyframes_beyond_those_that_may_be_kept_give_way(frames, truth, depth):
    """What they showed stays: their Gaussians, and the objects with their views and times."""
    some = [frame if depth else replace(frame, depth=None) for frame in frames]
    mapper = mapped(some[:6], truth, scene__refine_poses=True)
    before, gaussians = {track.id: track for track in mapper.snapshot.tracks}, mapper.stats.gaussians
    mapper.config = replace(mapper.config, mapping=replace(mapper.config.mapping, max_keyframes=5))
    mapper._keyframes._config = mapper.config.mapping
    taken = feed(mapper, some[6:8])
    assert mapper.stats.keyframes == 5 == len(mapper._keyframes) and mapper.stats.evicted_keyframes == 1 + taken > 1
    kept = [keyframe.view.index for keyframe in mapper._keyframes]
    for remembered in (mapper._seeder._frames, mapper._trainer.poses._twists, mapper._trainer.exposures._frames):
        assert sorted(remembered) == kept
    stamps = [keyframe.stamp for keyframe in mapper._keyframes]
    assert stamps == sorted(stamps) and stamps[-1] >= frames[6].stamp and stamps[-2] >= frames[4].stamp
    assert mapper.stats.gaussians >= gaussians
    after = {track.id: track for track in mapper.snapshot.tracks}
    sure = {i for i, track in before.items() if track.confidence > 0.5}  # others are a few Gaussians, and may go
    assert len(sure) >= 2 and sure <= after.keys()
    for i in before.keys() & after.keys():
        assert after[i].views >= before[i].views and after[i].first_seen == before[i].first_seen
        assert after[i].last_seen >= before[i].last_seen
    mapper.finish(4, 0)
    assert_finite(mapper)
    lost = [frames[k] for k in range(4) if frames[k].stamp not in [k.stamp for k in mapper._keyframes]]
    for frame in lost:
        assert (frame_labels(mapper, frame) > 0).mean() > 0.5


def test_a_full_scene_thins_what_is_far_off_for_new_ground(frames, truth, tmp_path):
    """Five rooms in a row, and Gaussians for little more than one: the last is mapped, and the first not forgotten."""
    budget, apart = 4000, 20.0
    mapper = Mapper(configured(scene__max_gaussians=budget, objects__min_gaussians=6), truth)
    rooms = 5
    for room in range(rooms):
        shift = np.eye(4)
        shift[0, 3] = apart * room
        moved = [replace(frame, T_world_camera=shift @ frame.T_world_camera) for frame in frames[:4]]
        feed(mapper, moved)
        if room == 0:
            known = {track.id for track in mapper.snapshot.tracks if track.confidence > 0.5}
        seen = mapper.snapshot.render(moved[1].at_width(96).posed_camera())
        assert (seen.alpha > 0.5).float().mean() > 0.7, room
    assert mapper.stats.gaussians <= budget and not mapper.stats.full
    x = mapper.snapshot.scene.means[:, 0]
    held = [int(((x - apart * room).abs() < apart / 2).sum()) for room in range(rooms)]
    assert held == sorted(held) and 10 < held[0] < held[-1] / 3
    assert len(known) >= 3 and len(known - {track.id for track in mapper.snapshot.tracks}) <= 1  # of eight Gaussians
    assert len(mapper.snapshot.tracks) > 2 * len(known)  # the objects of more rooms than the last

    assert 10 < int(mapper._coarse.sum()) <= sum(held[:-1])
    found = []  # of each object by a click on it
    for track in mapper.snapshot.tracks:
        own = mapper.snapshot.ids == track.id
        click = Clicks([mapper.snapshot.scene.means[own][0].numpy()], [], None, 0.3, False)
        found.append(float((mapper.select(click).gaussians & own).sum() / own.sum()))
    assert min(found) > 0 and np.median(found) > 0.9 and np.mean(found) > 0.7

    mapper.save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", mapper.config, truth)
    loaded.update_objects()
    assert torch.equal(loaded._coarse, mapper._coarse)
    assert torch.equal(loaded.snapshot.ids[loaded._coarse], mapper.snapshot.ids[mapper._coarse])

    feed(mapper, frames[4:7])  # the first room again: what shows there is mapped anew
    first = mapper.snapshot.scene.means[:, 0].abs() < apart / 2
    assert first.sum() > 2 * held[0] and not mapper._coarse[first].all()
    assert len(known - {track.id for track in mapper.snapshot.tracks}) <= 1


def test_more_objects_than_a_scene_has_room_for_shrink_further(frames, truth):
    mapper = mapped(frames[:4], truth, scene__max_gaussians=4000, objects__min_gaussians=6)
    # as if all there is were objects of the size below which none is thinned at first
    mapper._registry.ids = np.arange(len(mapper._registry.ids)) // 30 + 1
    shift = np.eye(4)
    shift[0, 3] = 40.0
    for frame in frames[:4]:
        assert mapper.process(replace(frame, T_world_camera=shift @ frame.T_world_camera, stamp=frame.stamp + 100))
        assert not mapper.stats.full
    left = np.bincount(mapper._registry.ids)[1:]
    assert 3 <= left[left > 0].min() < 18


def test_a_full_scene_keeps_what_it_has_where_there_is_no_new_ground(frames, truth):
    mapper = mapped(frames[:4], truth)
    before = len(mapper._scene)
    mapper._seeder._config = replace(mapper._seeder._config, max_gaussians=before)  # four fifths of it for seeds
    assert mapper._seeder.excess(before) > 0
    known = replace(frames[1], stamp=frames[1].stamp + 100)
    seen = mapper.snapshot.render(known.at_width(96).posed_camera())
    index = mapper._seeder.add(known.at_width(96))
    assert mapper._seeder.new_ground(index, seen).mean() < NEW_GROUND
    mapper._plant(index, seen, mapper._keyframes[1].patches)
    assert len(mapper._scene) >= before and not mapper._coarse.any()


def test_a_scene_that_is_full_of_what_is_near_says_so(frames, truth):
    mapper = mapped(frames[:3], truth, scene__max_gaussians=300)
    behind = frames[1].T_world_camera @ np.diag([-1, 1, -1, 1])
    mapper.process(replace(frames[1], stamp=frames[2].stamp + 1, T_world_camera=behind))
    assert mapper.stats.full


def test_steps_before_the_first_frame_do_nothing(truth):
    mapper = Mapper(configured(), truth)
    assert not mapper.step()
    assert mapper.update_objects() == []
    mapper.finish(10, 10)
    assert mapper.stats.steps == 0


def test_a_frame_that_shows_nothing_new_is_no_keyframe(room, frames, truth):
    mapper = mapped(frames[:2], truth)
    before = state(mapper)
    assert not mapper.process(frames[1])
    assert mapper.stats.frames == 3 and mapper.stats.keyframes == 2
    assert_same(state(mapper), before)


# -- poor input --------------------------------------------------------------------------------------------------------


def test_colour_alone_makes_a_map(frames, truth):
    mapper = mapped([replace(frame, depth=None) for frame in frames[:4]], truth)
    mapper.finish(8, 40)
    mapper.update_objects()
    assert_finite(mapper)
    assert len(mapper.snapshot.scene) > 300 and mapper.objects
    assert float(mapper.snapshot.render(frames[1].posed_camera()).alpha.mean()) > 0.5


def test_a_keyframe_of_colour_alone_gets_the_depth_that_later_ones_give_it(frames, truth):
    mapper = mapped([replace(frame, depth=None) for frame in frames[:5]], truth)
    first = mapper._keyframes[0].view
    assert first.depth is not None and not first.measured
    true = frames[0].at_width(first.camera.width).depth
    known = (first.depth.cpu().numpy() > 0) & (true > 0)
    assert known.mean() > 0.1
    assert np.median(np.abs(first.depth.cpu().numpy()[known] / true[known] - 1)) < 0.05


@pytest.mark.parametrize(
    ("depth", "refine", "stays"), [(True, False, True), (False, False, False), (False, True, True)]
)
def test_a_scene_of_colour_images_is_planted_anew_at_the_end(frames, truth, depth, refine, stays):
    """A haze before the cameras, from when nothing was known of their distance. Where poses are refined, the depth of a
    keyframe is of where the others were thought to be when it was taken."""
    some = [frame if depth else replace(frame, depth=None) for frame in frames[:4]]
    mapper = mapped(some, truth, scene__refine_poses=refine)
    haze = torch.from_numpy(frames[0].T_world_camera[:3, 3] + 0.3 * frames[0].T_world_camera[:3, 2]).float()[None]
    some = mapper._scene
    quats, scales = some.quats[:1].cpu(), some.scales[:1].cpu()
    seed = Seeds(haze, quats, scales, torch.tensor([0.5]), torch.full((1, 3), 0.5))
    mapper._edit(lambda: some.append(seed))
    before = {track.id for track in mapper.snapshot.tracks}
    mapper.finish(1, 0)
    mapper.update_objects()
    assert before & {track.id for track in mapper.snapshot.tracks}  # objects keep their ids
    near = (mapper.snapshot.scene.means.cpu() - haze).norm(dim=1).min() < 1e-4
    assert bool(near) == stays
    assert len(mapper._scene) > 300 and mapper.objects


def test_a_sparse_cloud_seeds_the_scene(truth):
    mapper = Mapper(configured(), truth)
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    points[3] = np.nan
    mapper.add_sparse_cloud(points, np.full((50, 3), 90, np.uint8))
    assert 0 < len(mapper._scene) <= 50
    assert_finite(mapper)
    assert len(mapper._method.decode([], [], NO_NEIGHBOURS).labels) == len(mapper._scene)


def test_two_views_with_masks_are_enough_for_objects_or_as_few_as_asked(frames, truth, room, tmp_path):
    def enough(views: list[tuple[Frame, Segmenter]], **values) -> bool:
        mapper = Mapper(configured(**values), truth)
        for frame, segmenter in views:
            mapper.segmenter = segmenter
            assert mapper.process(frame)
        return mapper.enough_views

    blind = NoMasks()
    assert [enough([(frame, truth) for frame in frames[:n]]) for n in (0, 1, 2)] == [False, False, True]
    assert not enough([(frames[0], blind), (frames[1], truth)])
    assert enough([(frames[0], blind), (frames[1], truth), (frames[2], truth)])
    assert enough([(frames[0], truth)], objects__min_views=1)
    room.save(tmp_path / "map")
    assert Mapper.load(tmp_path / "map", room.config, truth).enough_views


def test_without_masks_there_are_no_objects(frames):
    mapper = mapped(frames[:2], NoMasks())
    assert_finite(mapper)
    assert mapper.objects == [] and len(mapper.snapshot.scene) > 500
    assert (frame_labels(mapper, frames[0]) == 0).all()
    mapper.finish(2, 5)
    assert mapper.update_objects() == []


def test_masks_that_come_and_go(frames, truth):
    mapper = mapped(frames[:4], truth, objects__min_gaussians=40)
    before = {track.id for track in mapper.snapshot.tracks}
    mapper.segmenter = NoMasks()
    feed(mapper, frames[4:6])
    assert before and before <= {track.id for track in mapper.snapshot.tracks}
    assert_finite(mapper)


@pytest.mark.parametrize("method", ["lift", "omniseg3d"])
@pytest.mark.parametrize("where", ["scene", "optimiser", "registry"])
def test_a_map_outlasts_an_edit_that_fails_halfway(where, method, frames, truth, monkeypatch, tmp_path):
    """As where memory runs out: the map is as it was published last, and goes on from there."""
    mapper = mapped(frames[:4], truth, lifting__method=method)
    known, map_id = mapper.snapshot, mapper.map_id

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    with monkeypatch.context() as failing:
        if where == "scene":
            failing.setattr(mapper._scene, "append", full)
        else:
            failing.setattr(mapper._trainer if where == "optimiser" else mapper._registry, "edit", full)
        assert not mapper.damaged
        with pytest.raises(torch.OutOfMemoryError):
            feed(mapper, frames[4:])
        assert mapper.damaged
        with pytest.raises(MapFileError, match="damaged"):
            mapper.save(tmp_path / "map")
    mapper = mapper.recovered()
    assert not mapper.damaged and mapper.stats.frames >= 4 and mapper.map_id == map_id
    assert torch.equal(mapper.snapshot.ids, known.ids) and torch.equal(mapper.snapshot.scene.means, known.scene.means)
    assert {o.id for o in mapper.objects} == {o.id for o in known.objects} != set()
    mapper.save(tmp_path / "map")
    assert feed(mapper, frames[4:])
    assert_finite(mapper)
    before = {o.id for o in known.objects}
    assert len({o.id for o in mapper.objects} & before) >= 0.75 * len(before)


@pytest.mark.parametrize("method", ["lift", "omniseg3d", "unic_lift"])
def test_one_keyframe_after_a_map_was_recovered_its_objects_are_what_they_were(method, frames, truth):
    mapper = mapped(frames[:5], truth, lifting__method=method)
    mapper = mapper.recovered()
    before = mapper.snapshot.ids.clone()
    assert feed(mapper, [replace(frames[7], stamp=100.0)])
    now = mapper.snapshot.ids[: len(before)]
    assert len(now) == len(before) and (now == before)[before > 0].float().mean() > 0.85


def test_a_map_is_recovered_though_its_tracks_went_on(frames, truth):
    """As where memory ran out after an update, before it was published."""
    mapper = mapped(frames[:4], truth)
    gone = max(mapper._registry.tracks)
    del mapper._registry.tracks[gone]
    assert gone in {track.id for track in mapper.recovered().snapshot.tracks}


@pytest.mark.parametrize("depth", ["measured", "zero", "none"])
def test_a_black_image(frames, truth, depth):
    values = {"measured": frames[0].depth, "zero": np.zeros_like(frames[0].depth), "none": None}
    black = [replace(frame, image=np.zeros_like(frame.image), depth=values[depth]) for frame in frames[:2]]
    mapper = mapped(black, truth)
    mapper.finish(4, 4)
    mapper.update_objects()
    assert_finite(mapper)
    feed(mapper, frames[2:4])
    assert_finite(mapper)
    assert len(mapper.snapshot.scene) > 300


@pytest.mark.parametrize("value", [0.0, 1e9, 1e-9])
def test_depth_that_says_nothing_or_nonsense(frames, truth, value):
    mapper = mapped([replace(frame, depth=np.full_like(frame.depth, value)) for frame in frames[:3]], truth)
    mapper.finish(4, 4)
    mapper.update_objects()
    assert_finite(mapper)
    mapper.snapshot.render(frames[0].posed_camera())


@repeatable
def test_a_frame_without_masks_on_disk_leaves_the_map_as_it_was(frames, truth, demo_room, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for frame in (frames[0], frames[2]):
        (masks / f"{frame.name}.png").write_bytes((demo_room.capture / "masks_L0" / f"{frame.name}.png").read_bytes())
    mapper = mapped(frames[:1], RecordedSegmenter(masks))
    before, stats = state(mapper), mapper.stats
    with pytest.raises(FrameRejected) as caught:
        mapper.process(frames[1])
    assert caught.value.reason == "masks_missing"
    assert_same(state(mapper), before)
    assert mapper.stats == stats
    assert not mapper.step()

    assert feed(mapper, frames[2:3]) == 1
    without = mapped(frames[:1], truth)
    feed(without, frames[2:3])
    assert_same(state(mapper), state(without))


def test_other_image_sizes_in_one_map(frames, truth):
    larger = frames[1].resized(320, 240)
    mapper = mapped([frames[0], larger], truth)
    assert mapper._keyframes[1].view.image.shape == (72, 96, 3)
    assert frame_labels(mapper, larger).shape == (240, 320)
    tiny = frames[2].resized(40, 30)  # smaller than what is asked for: never enlarged
    mapper.process(tiny)
    assert mapper._keyframes[2].view.image.shape == (30, 40, 3)
    feed(mapper, [])
    assert_finite(mapper)


def test_segmenters_are_made_as_configured(tmp_path):
    assert isinstance(make_mapper_segmenter(configured(masks__segmenter="graph")), GraphSegmenter)
    (tmp_path / "0.png").touch()
    made = make_mapper_segmenter(configured(masks__segmenter="recorded", masks__directory=str(tmp_path)))
    assert isinstance(made, RecordedSegmenter) and made.directory == tmp_path


def test_images_too_small_to_train_on_are_rejected_not_the_map_broken(frames, truth):
    mapper = mapped(frames[:1], truth)
    before = state(mapper)
    with pytest.raises(FrameRejected, match="40x10 pixels.*11 along each side are needed") as caught:
        mapper.process(frames[1].resized(40, 10))
    assert caught.value.reason == "image_size"
    assert_same(state(mapper), before)


# -- cameras without depth, or with too little of it -------------------------------------------------------------------


def test_what_keyframes_showed_that_were_let_go_of_outlasts_the_training_at_the_end():
    mapper = Mapper(configured(mapping__max_keyframes=10, mapping__photometric_steps=6), NoMasks())
    drive = [replace(rooms.view(0.4 * k, depth=False), stamp=float(k)) for k in range(40)]
    feed(mapper, drive)
    assert mapper.stats.evicted_keyframes > 5

    def cover() -> list[float]:
        return [float(mapper._trainer.render(frame.posed_camera()).alpha.mean()) for frame in drive[::4]]

    before = cover()
    assert min(before) > 0.8
    mapper.finish(10, 0)
    assert min(np.array(cover()) / before) > 0.9
    assert mapper.stats.gaussians == len(mapper._scene)


def test_without_depth_the_first_keyframes_are_no_more_redundant_than_others():
    """Nothing is known of their distance when they come."""
    mapper = Mapper(configured(mapping__max_keyframes=10), NoMasks())
    places = [0.6 * k for k in range(5)] + [2.4 + 0.2 * k for k in range(1, 10)]
    feed(mapper, [replace(rooms.view(x, depth=False), stamp=x) for x in places])
    assert mapper.stats.evicted_keyframes > 1
    kept = [keyframe.stamp for keyframe in mapper._keyframes]
    assert kept[:4] == places[:4]  # what comes later lies closer together


def test_a_camera_at_rest_brings_neither_keyframes_nor_debts():
    rng = np.random.default_rng(0)
    mapper = Mapper(configured(), NoMasks())
    for k in range(12):
        frame = replace(rooms.view(0.0, depth=False), stamp=float(k))
        frame.T_world_camera[:3, 3] += 0.002 * rng.normal(size=3)
        mapper.process(frame)
    assert mapper.stats.keyframes == 1 and mapper.stats.gaussians == 0
    assert mapper.stats.skipped_steps == 0  # there is nothing to train
    feed(mapper, [replace(rooms.view(x, depth=False), stamp=20 + x) for x in (0.2, 0.4, 0.6)])
    assert mapper.stats.keyframes > 2 and mapper.stats.gaussians > 100


def test_a_hole_in_the_depth_is_no_new_ground():
    holed = rooms.view(0.0)
    holed.depth[:40] = 0  # more than half
    mapper = Mapper(configured(), NoMasks())
    assert feed(mapper, [replace(holed, stamp=float(k)) for k in range(5)]) == 1


def test_depth_images_that_know_nothing_count_as_none():
    blind = [replace(frame, depth=np.zeros_like(frame.depth)) for frame in rooms.views(6)]
    mapper, without = (Mapper(configured(mapping__device="cpu"), NoMasks()) for _ in range(2))  # CUDA adds in any order
    feed(mapper, blind)
    feed(without, rooms.views(6, depth=False))
    assert mapper.stats.gaussians > 100
    assert_same(state(mapper), state(without))


def test_depth_that_fails_for_a_while_plants_nothing():
    mapper = Mapper(configured(), NoMasks())
    feed(mapper, rooms.views(6))
    count = mapper.stats.gaussians
    blind = [replace(frame, depth=np.zeros_like(frame.depth), stamp=10.0 + k) for k, frame in enumerate(rooms.views(5))]
    feed(mapper, [replace(frame, T_world_camera=rooms.view(3.0 + k).T_world_camera) for k, frame in enumerate(blind)])
    assert mapper.stats.gaussians <= count


def test_colour_images_of_several_sizes(frames, truth):
    blind = [replace(frame, depth=None) for frame in frames[:4]]
    cropped = replace(
        blind[1], image=blind[1].image[:-20], camera=replace(blind[1].camera, height=blind[1].camera.height - 20)
    )
    mapper = Mapper(configured(), NoMasks())
    feed(mapper, [blind[0], cropped, *blind[2:]])
    assert mapper.stats.frames == 4 and mapper.stats.keyframes >= 3


def test_a_loaded_map_larger_than_the_budget_loses_nothing(frames, truth, tmp_path, caplog):
    mapper = mapped(frames[:3], truth)
    mapper.save(tmp_path / "map")
    count = mapper.stats.gaussians
    loaded = Mapper.load(tmp_path / "map", configured(scene__max_gaussians=count // 3), truth)
    assert f"holds {count} Gaussians, more than scene.max_gaussians = {count // 3}" in caplog.text
    loaded._edit(loaded._trainer.densify, trainer_knows=True)
    assert len(loaded._scene) > 0.95 * count  # faint ones go


def test_a_loaded_map_keeps_its_spherical_harmonics(frames, truth, tmp_path, caplog):
    mapped(frames[:2], truth, scene__sh_degree=1).save(tmp_path / "map")
    loaded = Mapper.load(tmp_path / "map", configured(), truth)
    assert "of degree 1, and keeps them: scene.sh_degree = 0 is for new maps" in caplog.text
    assert loaded.config.scene.sh_degree == loaded._scene.sh_degree == 1
    feed(loaded, frames[2:4])
    assert_finite(loaded)


@pytest.mark.parametrize("fails", ["_plant", "_reseed"])
def test_a_frame_that_fails_to_become_a_keyframe_is_forgotten(frames, truth, monkeypatch, fails):
    some = [replace(frame, depth=None) for frame in frames]  # a keyframe without depth is seeded again
    mapper = mapped(some[:4], truth, scene__refine_poses=True)

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(mapper, fails, out_of_memory)
        mapper.process(some[4])
    kept = [keyframe.view.index for keyframe in mapper._keyframes]
    for remembered in (mapper._seeder._frames, mapper._trainer.poses._twists):
        assert sorted(remembered) == kept
    assert feed(mapper, some[4:6]) and mapper.stats.keyframes == len(mapper._keyframes) > len(kept)
    assert_finite(mapper)


def test_a_refresh_that_fails_is_done_again(frames, truth, monkeypatch):
    mapper = Mapper(configured(), truth)
    assert mapper.process(frames[0])

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr("lift_ros.mapping.keyframes.Landmarks.of", out_of_memory)
        mapper.update_objects()
    feed(mapper, frames[:3])
    assert mapper.snapshot.tracks


def test_a_camera_at_rest_with_depth_brings_one_keyframe_where_the_scene_is_full():
    mapper = Mapper(configured(scene__max_gaussians=1000), NoMasks())
    feed(mapper, rooms.views(3))
    mapper._edit(lambda: mapper._scene.append(Seeds.cat([crowd(mapper)] * 2)))
    there = rooms.view(3.0, yaw=0.8)  # looks at what is not known, with nothing in view that could be thinned
    assert feed(mapper, [replace(there, stamp=10.0 + k) for k in range(4)]) == 1


def crowd(mapper: Mapper) -> Seeds:
    """The Gaussians of a map once more."""
    scene = mapper._scene
    return Seeds(*scene.splats, torch.rand(len(scene), 3))


@pytest.mark.parametrize("unit", [1.0, 0.1, 1e3])
@pytest.mark.parametrize("depth", [True, False])
def test_a_camera_too_far_off_for_single_precision_is_rejected(depth, unit):
    mapper = Mapper(configured(), NoMasks())
    utm = rooms.view(0.0, depth=depth, unit=unit)
    utm.T_world_camera[:3, 3] = np.array([5e5, 4.2e6, 0.0]) * (unit if depth else 1.0)
    with pytest.raises(FrameRejected, match="such as map or odom") as rejected:
        mapper.process(utm)
    assert rejected.value.reason == "pose_far" and mapper.stats.frames == 0
    near = rooms.view(0.0, depth=depth, unit=unit)
    near.T_world_camera[0, 3] = 2e4 * (unit if depth else 1.0)
    assert mapper.process(near)


def test_from_high_above_single_precision_resolves_more():
    """A flight over a map in UTM, whose pixels are metres."""
    mapper = Mapper(configured(), NoMasks())
    frame = rooms.view(0.0, unit=1000.0)
    frame.T_world_camera[:3, 3] = 2e5, 1e5, 0.0
    assert mapper.process(frame)


def test_a_header_without_a_stamp_is_refused(room, truth, tmp_path):
    room.save(tmp_path / "map")
    contents = load_map(tmp_path / "map")
    del contents.meta["stamp"]
    save_map(contents, tmp_path / "map")
    with pytest.raises(MapFileError, match="holds no 'stamp'"):
        Mapper.load(tmp_path / "map", configured(), truth)


@pytest.mark.parametrize("name", ["gaussian.coarse", "gaussian.unborn", "gaussian.former_object_id"])
def test_a_map_that_lacks_what_is_saved_of_every_gaussian_is_refused(room, truth, tmp_path, name):
    room.save(tmp_path / "map")
    contents = load_map(tmp_path / "map")
    del contents.tensors[name]
    save_map(contents, tmp_path / "map")
    with pytest.raises(MapFileError, match=f"holds no '{name}'"):
        Mapper.load(tmp_path / "map", configured(), truth)
