"""Pixels that show nothing of the scene, as the robot itself, and objects that are taken out of a map."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.errors import LiftError
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import frame_labels
from lift_ros.masks.base import Masks
from lift_ros.options import with_values

QUICK = {"mapping.image_width": 96, "mapping.photometric_steps": 4, "objects.min_views": 2}
GRIPPER = (slice(70, 120), slice(50, 110))  # rows and columns of 160 x 120
NEAR = 0.15  # m, how far from the camera it is


class TrueMasks:
    """The true masks of the frames by their names; one more of the gripper where a frame shows it."""

    name = "true"
    promptable = False

    def __init__(self, instances: dict[str, NDArray]) -> None:
        self.instances = instances

    def segment(self, frame: Frame, prompts=None) -> Masks:
        labels = self.instances[frame.name].copy()
        if (frame.image[GRIPPER] == (255, 0, 255)).all():
            labels[GRIPPER] = labels.max() + 1
        return Masks.from_label_image(labels)


@pytest.fixture(scope="module")
def frames(demo_room) -> list[Frame]:
    with open_capture(demo_room.capture) as capture:
        return list(capture.frames)


@pytest.fixture(scope="module")
def segmenter(demo_room, frames) -> TrueMasks:
    with open_capture(demo_room.capture) as capture:
        return TrueMasks({frame.name: capture.recorded_labels("instances", frame) for frame in frames})


def with_gripper(frame: Frame, ignored: bool) -> Frame:
    """The frame of a camera in whose view a magenta gripper is."""
    image, depth = frame.image.copy(), frame.depth.copy()
    image[GRIPPER], depth[GRIPPER] = (255, 0, 255), NEAR
    mask = np.zeros(depth.shape, bool)
    mask[GRIPPER] = True
    return replace(frame, image=image, depth=depth, ignored=mask if ignored else None)


def feed(mapper: Mapper, frames: list[Frame]) -> Mapper:
    for frame in frames:
        mapper.process(frame)
        while mapper.step():
            pass
    mapper.update_objects()
    return mapper


def mapped(frames: list[Frame], segmenter: TrueMasks, **values) -> Mapper:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return feed(Mapper(with_values(Config(), QUICK | named), segmenter), frames)


def near_cameras(mapper: Mapper, frames: list[Frame]) -> int:
    """Opaque Gaussians where the gripper is in one of the frames."""
    scene = mapper.snapshot.scene
    count = 0
    for frame in frames:
        uv, z = frame.camera.project((scene.means.numpy() - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3])
        count += int((frame.camera.inside(uv, z) & (z < 2 * NEAR) & (scene.opacities > 0.5).numpy()).sum())
    return count


def is_magenta(mapper: Mapper, frame: Frame) -> NDArray[np.bool_]:
    image = mapper.snapshot.render(frame.posed_camera()).image.cpu().numpy()
    return (image[..., 0] > 0.8) & (image[..., 1] < 0.3) & (image[..., 2] > 0.8)


@pytest.mark.parametrize("depth", [True, False])
def test_what_is_ignored_is_neither_mapped_nor_labelled(frames, segmenter, depth):
    maps = {}
    for ignored in (True, False):
        shown = [with_gripper(frame, ignored) for frame in frames]
        shown = shown if depth else [replace(frame, depth=None) for frame in shown]
        maps[ignored] = mapped(shown, segmenter), shown
    with_mask, shown = maps[True]
    assert with_mask.stats.keyframes == len(frames)
    labels = [frame_labels(with_mask, frame) for frame in shown]
    assert not any(image[GRIPPER].any() for image in labels)
    assert all((image > 0).mean() > 0.2 for image in labels)
    magenta = [sum(is_magenta(mapper, frame).sum() for frame in frames) for mapper, _ in maps.values()]
    assert magenta[0] == 0 < magenta[1]
    if depth:
        assert near_cameras(with_mask, frames) == 0 < near_cameras(maps[False][0], frames)


@pytest.mark.parametrize("refine_poses", [False, True])
def test_what_is_ignored_has_no_part_in_the_map(frames, segmenter, refine_poses):
    """Whatever it shows, to the last bit."""
    maps = []
    for color in ((0, 0, 0), (40, 200, 90)):
        shown = []
        for frame in frames[:5]:
            frame = with_gripper(frame, ignored=True)
            frame.image[GRIPPER] = color
            shown.append(frame)
        maps.append(mapped(shown, segmenter, scene__refine_poses=refine_poses).snapshot)
    for name, tensor in maps[0].scene.tensors().items():
        assert torch.equal(tensor, maps[1].scene.tensors()[name]), name
    assert torch.equal(maps[0].ids, maps[1].ids) and maps[0].ids.any()


def test_poses_are_corrected_by_what_is_not_ignored(frames, segmenter):
    """The gripper moves with the camera: taken for the scene it would hold every frame where it is."""

    def errors(ignored: bool) -> NDArray[np.float64]:
        rng = np.random.default_rng(0)
        shown = []
        for frame in frames:
            off = frame.T_world_camera.copy()
            off[:3, 3] += 0.02 * rng.normal(size=3)
            shown.append(replace(with_gripper(frame, ignored), T_world_camera=off))
        mapper = mapped(shown, segmenter, scene__refine_poses=True, mapping__photometric_steps=12)
        where = [mapper.snapshot.locate(frame, 3).viewmat.double().inverse()[:3, 3].numpy() for frame in shown]
        error = np.array(where) - [frame.T_world_camera[:3, 3] for frame in frames]
        return np.linalg.norm(error - error.mean(0), axis=1)

    assert errors(True).mean() < errors(False).mean()


def map_and_smallest(frames: list[Frame], segmenter: TrueMasks) -> tuple[Mapper, int]:
    """A map, and the id of its smallest object."""
    mapper = mapped(frames, segmenter)
    ids = mapper.snapshot.ids.numpy()
    smallest = min(mapper.snapshot.tracks, key=lambda track: np.count_nonzero(ids == track.id))
    return mapper, smallest.id


@pytest.fixture
def known(frames, segmenter) -> tuple[Mapper, int]:
    return map_and_smallest(frames, segmenter)


@pytest.mark.parametrize("depth", [True, False])
def test_an_object_that_is_taken_out_is_gone_and_does_not_come_back(frames, segmenter, depth):
    frames = frames if depth else [replace(frame, depth=None) for frame in frames]
    mapper, gone = map_and_smallest(frames, segmenter)
    before = {track.id for track in mapper.snapshot.tracks}
    count, shown = mapper.stats.gaussians, [frame_labels(mapper, frame) == gone for frame in frames]
    own = int((mapper.snapshot.ids == gone).sum())
    assert sum(pixels.sum() for pixels in shown) > 100
    events = mapper.remove(gone)
    assert [(event.type, event.id) for event in events] == [("retire", gone)]
    assert mapper.stats.gaussians == len(mapper.snapshot.scene) == count - own
    assert {track.id for track in mapper.snapshot.tracks} == before - {gone}
    colors = [frame.image[pixels].mean(0) for frame, pixels in zip(frames, shown, strict=True) if pixels.any()]
    mapper.finish(60, 0)  # keyframes show it as before
    mapper.update_objects()
    assert {track.id for track in mapper.snapshot.tracks} == before - {gone}
    rendered = [
        255 * mapper.snapshot.render(frame.posed_camera()).image.numpy()[pixels].mean(0)
        for frame, pixels in zip(frames, shown, strict=True)
        if pixels.any()
    ]
    assert np.abs(np.array(rendered) - colors).mean() > 10  # nothing paints it anew on what is behind
    ids = mapper.snapshot.ids.numpy()
    assert gone not in ids and not any((frame_labels(mapper, frame) == gone).any() for frame in frames)


def test_what_is_still_there_comes_back_under_another_id(frames, segmenter):
    first, later = frames[::2], frames[1::2]
    mapper = mapped(first, segmenter)
    before = {track.id for track in mapper.snapshot.tracks}
    where = [frame_labels(mapper, frame) for frame in later]
    shown = {i: sum(np.count_nonzero(labels == i) for labels in where) for i in before}
    gone = min((i for i in before if shown[i] > 300), key=shown.get)
    mapper.remove(gone)
    feed(mapper, later)
    now = [frame_labels(mapper, frame)[labels == gone] for frame, labels in zip(later, where, strict=True)]
    back, pixels = np.unique(np.concatenate(now), return_counts=True)
    assert back[pixels.argmax()] not in before | {0} and pixels.max() > 0.8 * shown[gone]


@pytest.mark.parametrize("method", ["unified_lift", "disco"])
def test_trained_methods_go_on_without_an_object(frames, segmenter, method):
    mapper = mapped(frames[:5], segmenter, lifting__method=method, mapping__lifting_steps=60)
    gone = max(mapper.snapshot.tracks, key=lambda track: np.count_nonzero(mapper.snapshot.ids == track.id)).id
    mapper.remove(gone)
    feed(mapper, frames[5:])
    assert mapper.snapshot.tracks and not (mapper.snapshot.ids == gone).any()
    assert torch.isfinite(mapper.snapshot.scene.means).all() and math.isfinite(mapper.stats.lifting_loss)


def test_an_object_that_there_is_not_is_told_so(known):
    mapper, _ = known
    before = mapper.snapshot
    with pytest.raises(LiftError, match="no object 4711"):
        mapper.remove(4711)
    assert mapper.snapshot is before and not mapper.damaged


def test_objects_that_are_left_keep_their_ids_and_gaussians(known):
    mapper, gone = known
    rest = mapper.snapshot.ids != gone
    means, ids = mapper.snapshot.scene.means[rest], mapper.snapshot.ids[rest]
    mapper.remove(gone)
    assert torch.equal(mapper.snapshot.scene.means, means) and torch.equal(mapper.snapshot.ids, ids)
    mapper.update_objects()
    kept = mapper.snapshot.ids[ids > 0] == ids[ids > 0]
    assert kept.float().mean() > 0.97


def test_keyframes_that_show_the_place_without_it_keep_what_they_show(frames, segmenter):
    """They measured what is behind the object: there is nothing of it to ignore."""
    mapper = mapped(frames, segmenter, mapping__image_width=160)
    table = max(mapper.snapshot.tracks, key=lambda track: np.count_nonzero(mapper.snapshot.ids == track.id)).id
    first, last = mapper._keyframes[0], mapper._keyframes[-1]
    shown, before = (frame_labels(mapper, frame) == table for frame in (frames[-1], frames[0]))
    last.view.depth[torch.from_numpy(shown)] *= 1.5  # as if it had been gone by then
    mapper._take_out([table], departed=True)
    assert shown.mean() > 0.1 and last.view.ignored.numpy()[shown].mean() < 0.2
    assert first.view.ignored.numpy()[before].mean() > 0.9


def test_depth_that_is_estimated_later_is_none_of_what_was_removed(frames, segmenter):
    mapper, gone = map_and_smallest([replace(frame, depth=None) for frame in frames], segmenter)
    mapper.remove(gone)
    ignored = [keyframe.view.ignored for keyframe in mapper._keyframes]
    assert any(pixels is not None and pixels.any() for pixels in ignored)
    mapper.finish(1, 0)
    for keyframe, pixels in zip(mapper._keyframes, ignored, strict=True):
        if pixels is not None and keyframe.view.depth is not None:
            assert not keyframe.view.depth[pixels].any()


def test_points_of_what_was_removed_are_not_planted_again(frames, segmenter):
    """Those of a sparse reconstruction, with which a scene of colour images begins anew in the end."""
    known, gone = map_and_smallest(frames, segmenter)
    own = known.snapshot.ids == gone
    middle = known.snapshot.scene.means[own].mean(0)
    reach = float((known.snapshot.scene.means[own] - middle).norm(dim=1).max())
    mapper = Mapper(with_values(Config(), QUICK), segmenter)
    mapper.add_sparse_cloud(known.snapshot.scene.means.numpy(), np.full((len(own), 3), 128, np.uint8))
    feed(mapper, [replace(frame, depth=None) for frame in frames])

    def there() -> int:
        return int(((mapper.snapshot.scene.means - middle).norm(dim=1) < reach / 2).sum())

    before = there()
    inside = np.linalg.norm(mapper.snapshot.scene.means.numpy() - middle.numpy(), axis=1) < reach / 2
    ids = mapper.snapshot.ids.numpy()[inside]
    mapper.remove(int(np.bincount(ids[ids > 0]).argmax()))
    mapper.finish(1, 0)
    assert before > 10 and there() < 0.3 * before


def test_what_went_is_told_also_after_an_error(known):
    """As where memory runs out in the midst of the edit that follows."""
    mapper, gone = known
    mapper._events = mapper.remove(gone)
    recovered = mapper.recovered()
    assert [(event.type, event.id) for event in recovered.update_objects()][0] == ("retire", gone)
    assert recovered.update_objects() == []


def test_several_go_at_once(known):
    mapper, one = known
    other = next(track.id for track in mapper.snapshot.tracks if track.id != one)
    count, own = mapper.stats.gaussians, int(torch.isin(mapper.snapshot.ids, torch.tensor([one, other])).sum())
    events = mapper._take_out([one, other])
    assert [(event.type, event.id) for event in events] == [("retire", one), ("retire", other)]
    assert mapper.stats.gaussians == count - own and mapper.stats.removed == 2
