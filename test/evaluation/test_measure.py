"""One run, in this process."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from lift_ros.data import open_capture
from lift_ros.data.nerfstudio import NerfstudioCapture
from lift_ros.evaluation import measure
from lift_ros.evaluation.metrics import Contingency, IdSwitches
from lift_ros.evaluation.study import Run
from lift_ros.lifting.config import METHOD_NAMES

SETTINGS = {"mapping.photometric_steps": 4, "mapping.lifting_steps": 4, "lifting.pixels": 256}


def test_a_capture_without_truth_with_masks_on_half_of_its_frames(demo_room, tmp_path):
    path = tmp_path / "room"
    shutil.copytree(demo_room.capture, path)
    listing = json.loads((path / "transforms.json").read_text())
    listing["frames"] = [{k: v for k, v in frame.items() if k != "instance_file_path"} for frame in listing["frames"]]
    (path / "transforms.json").write_text(json.dumps(listing))
    shutil.rmtree(path / "inst")
    run = Run(str(path), "recorded:L0", 0.5, METHOD_NAMES[0], scale=0.4, settings=SETTINGS)
    figures = measure.measure(run, tmp_path / "pictures")
    assert all(figures[name] is None for name in measure.ACCURACY)
    assert figures["frames"] == figures["keyframes"] == 8 and figures["mask_views"] == 4
    assert figures["psnr"] > 15 and figures["depth_l1"] < 0.5 and figures["seconds"] > 0
    documented = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    assert not {name for name in figures if f"`{name}`" not in documented}
    names = sorted(picture.name for picture in (tmp_path / "pictures").iterdir())
    assert names == [f"{view}_{what}.png" for view in range(4) for what in ("image", "labels", "masks")]


def test_the_growing_map_the_finished_one_and_pixels_that_nobody_labelled(demo_room, tmp_path, monkeypatch):
    run = Run(str(demo_room.capture), "L0", 1.0, "lift", settings=SETTINGS)
    seen: list[int] = []
    look_back = measure.Online.look_back
    monkeypatch.setattr(
        measure.Online, "look_back", lambda self: (seen.append(self.mapper.stats.steps), look_back(self))
    )
    complete = measure.measure(run, tmp_path / "complete")
    keyframes = complete["keyframes"]
    assert seen == [4 * keyframes]  # before the training at the end
    assert 0.5 < complete["pq_online"] <= 1 and complete["pq_live"] < complete["pq_online"]  # objects come late
    assert 0.5 < complete["pq_rendered"] < complete["pq"]  # borders follow the frame
    assert complete["pq_with_background"] == (complete["pq"] + complete["background_iou"]) / 2

    monkeypatch.setattr(NerfstudioCapture, "incomplete_names", ("instances",))
    partly = measure.measure(run, tmp_path / "partly")
    assert partly["background_iou"] is partly["pq_with_background"] is None
    assert (
        partly["spurious"] == 0 and partly["pq"] >= complete["pq"]
    )  # what is on the background is not held against it


def test_truth_that_cannot_be_read_costs_its_frame_alone(demo_room, tmp_path):
    path = tmp_path / "room"
    shutil.copytree(demo_room.capture, path)
    broken = sorted((path / "inst").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:100])
    run = Run(str(path), "recorded:L0", 1.0, "lift", settings=SETTINGS)
    figures = measure.measure(run, tmp_path / "pictures")
    assert figures["truth_unreadable"] == 1 and figures["frames"] == 8
    assert figures["pq"] > 0.5 and figures["id_switches_per_object_minute"] is not None


def test_frames_that_cannot_be_used_are_counted_and_others_compared(demo_room, tmp_path, monkeypatch, capsys):
    path = tmp_path / "room"
    shutil.copytree(demo_room.capture, path)
    for name in ("0000", "0007"):  # those that would be compared if all could be used
        (path / "rgb" / f"{name}.jpg").write_bytes(b"not a picture")
    monkeypatch.setattr(measure, "SCENE_VIEWS", 2)
    run = Run(str(path), "recorded:L0", 1.0, "lift", settings=SETTINGS)
    figures = measure.measure(run, tmp_path / "pictures")
    assert (figures["frames"], figures["frames_skipped"]) == (6, 2) and figures["psnr"] > 15
    assert "2 frames not used: image_unreadable" in capsys.readouterr().err
    assert len(list((tmp_path / "pictures").glob("*_image.png"))) == 4


def test_means_of_what_is_known():
    assert measure._mean([]) is measure._mean([np.nan, np.nan]) is None
    assert measure._mean([1.0, np.nan, 2.0]) == 1.5


def test_depth_that_the_mapper_is_not_given_is_compared_all_the_same(demo_room, tmp_path):
    run = Run(str(demo_room.capture), "recorded:L0", 1.0, "lift", use_depth=False, settings=SETTINGS)
    assert measure.measure(run, tmp_path / "pictures")["depth_l1"] is not None


def test_pixels_that_nobody_labelled_are_not_compared():
    labels, truth = np.array([[5, 5, 6, 6]]), np.array([[0, 1, 1, 2]])
    compared = measure.Compared.of(labels, truth, 0)
    assert compared.all.pairs[2].sum() == compared.all_bands.pairs[2].sum() == 4
    assert compared.known.pairs[2].sum() == compared.known_bands.pairs[2].sum() == 3
    assert 0 not in compared.known.pairs[1]
    whole = measure.Compared.of(labels, truth, None)
    assert whole.known is whole.all and whole.known_bands is whole.all_bands


def test_named_objects_are_compared_by_their_whole_masks(demo_room, tmp_path, monkeypatch):
    run = Run(str(demo_room.capture), "L0", 1.0, "lift", settings=SETTINGS)
    cut = measure.measure(run, tmp_path / "cut")

    def overlapping(self, name, frame):
        """One object that covers the image, and another of a half."""
        whole = np.full(frame.image.shape[:2], 1, np.int32)
        return [whole, np.where(np.arange(whole.shape[1]) < whole.shape[1] // 2, 2, 0) * whole]

    monkeypatch.setattr(NerfstudioCapture, "overlapping_masks", overlapping)
    whole = measure.measure(run, tmp_path / "whole")
    assert {name for name in measure.ACCURACY if whole[name] != cut[name]} == {"named_miou", "named_mbiou"}


def test_a_map_that_labels_nothing_has_no_switches_to_count():
    truth = np.pad(np.full((10, 10), 1), 5)
    online = SimpleNamespace(table=Contingency(), live=Contingency(), switches=IdSwitches())

    def figures(labels: np.ndarray) -> list[float | None]:
        for stamp in (0.0, 30.0, 60.0):
            online.switches.add(labels, truth, stamp)
        views = [measure.Compared.of(labels, truth, None)]
        accuracy = measure._accuracy(views[0].all, views[0].all, views, views, online, None)
        return [accuracy[name] for name in ("id_switches", "id_switches_per_object_minute", "objects")]

    assert figures(np.zeros_like(truth)) == [None, None, 1]
    assert figures(5 * truth) == [0, 0, 1]


def accuracy(labels: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    online = SimpleNamespace(table=Contingency(), live=Contingency(), switches=IdSwitches())
    views = [measure.Compared.of(labels, truth, None)]
    return measure._accuracy(views[0].all, views[0].all, views, views, online, None)


PERFECT = ("pq", "rq", "miou", "f_score", "boundary_iou", "weighted_iou", "best_dice", "symmetric_best_dice")


def test_perfect_labels_have_all_where_walls_and_floor_are_instances_too():
    """As simulators label every pixel; with one pixel of background; and in a close-up of one object."""
    room = np.ones((48, 64), int)  # floor, wall, table, box
    room[:, 32:], room[30:, :20], room[35:45, 40:50] = 2, 3, 4
    stray = room.copy()
    stray[0, 0] = 0
    close = np.zeros((48, 64), int)
    close[2:46, 10:60], close[:2, :5] = 1, 2
    for truth, objects, background in ((room, 4, None), (stray, 4, 1), (close, 2, 1)):
        figures = accuracy(truth, truth)
        assert {name: figures[name] for name in PERFECT} == dict.fromkeys(PERFECT, 1)
        assert (figures["objects"], figures["spurious"], figures["missed"]) == (objects, 0, 0)
        assert figures["background_iou"] == figures["pq_with_background"] == background


def test_labels_that_found_their_object_take_its_color():
    # 7 found object 2, 9 stands for the background, 4 is on the background, 0 is unlabelled
    labels = np.array([[7, 7, 7, 9, 9, 9, 9, 4, 0, 0]])
    truth = np.array([[2, 2, 2, 0, 0, 0, 0, 0, 0, 0]])
    shown = measure._in_true_colors(labels, Contingency.of([labels], [truth]), None)
    assert shown.tolist() == [[2, 2, 2, 0, 0, 0, 0, 3 + 4, 0, 0]]


def test_pixels_that_are_ignored_are_not_compared(demo_room):
    with open_capture(demo_room.capture) as capture:
        frame = capture.load(0)
        ignored = np.zeros(frame.image.shape[:2], bool)
        ignored[:60] = True
        truth = measure.Truth(capture, "instances")
        whole, part = truth.labels(frame), truth.labels(replace(frame, ignored=ignored))
    assert whole[:60].any() and not part[:60].any() and np.array_equal(whole[60:], part[60:])
