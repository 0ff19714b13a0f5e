"""What the demo reports, on objects and label images made by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("embreex", reason="needs embreex (the demo extra)")

from lift_ros.demo import report
from lift_ros.demo.report import FoundObject
from lift_ros.demo.room import PlacedObject
from lift_ros.evaluation.metrics import Contingency


def placed(number: int, name: str, center: tuple[float, float, float]) -> PlacedObject:
    return PlacedObject(number, name, np.array(center), np.full(3, 0.2))


def found(number: int, center: tuple[float, float, float]) -> FoundObject:
    points = np.array(center) + np.random.default_rng(number).uniform(-0.1, 0.1, (500, 3))
    colors = np.zeros((500, 3), np.uint8)
    return FoundObject(number, 3, 0.9, np.array(center), points.astype(np.float32), colors)


@pytest.fixture
def scene():
    """Objects 1 to 3, of which 1 was published as 7, 2 as 5 with a fifth of it wrong, and 3 not at all."""
    truth = np.zeros((40, 60), int)
    truth[:10, :10], truth[20:30, :10], truth[20:30, 20:30] = 1, 2, 3
    labels = np.full(truth.shape, 9)
    labels[truth == 1] = 7
    labels[22:30, :10] = 5
    table = Contingency.of([labels], [truth])
    objects = [placed(1, "can", (0.0, 0.0, 0.1)), placed(2, "mug", (1.0, 0.0, 0.1)), placed(3, "ball", (0.0, 1.0, 0.1))]
    return table, objects, [found(5, (1.0, 0.03, 0.1)), found(7, (0.0, 0.0, 0.1)), found(9, (0.0, 0.0, 0.0))]


def test_true_and_found_objects_are_paired_by_iou_one_to_one(scene):
    table, objects, published = scene
    matches = report.match(table, objects, published)
    assert [(m.truth.name, m.found.id) for m in matches[:2]] == [("can", 7), ("mug", 5)]
    assert [m.iou for m in matches[:2]] == pytest.approx([1.0, 0.8])
    assert matches[2].found is None  # all that covers the ball is the label of the floor
    assert [m.good for m in matches] == [True, True, False]


def test_errors_of_centre_and_size_are_in_centimetres(scene):
    table, objects, published = scene
    can, mug = (m.row() for m in report.match(table, objects, published)[:2])
    assert float(can[3]) == 0.0 and float(mug[3]) == pytest.approx(3.0)
    assert 0 < float(can[4]) < 2.0  # extents leave the outermost points out


def test_an_object_without_any_label_is_not_found(scene):
    table, objects, published = scene
    row = report.match(table, objects, published)[2].row()
    assert row[:2] == ("ball", "not found")
    assert len(row) == len(report.MATCH_HEADER)


def test_the_room_itself_is_told_from_other_unmatched_objects(scene):
    table, objects, published = scene
    published = [*published[:2], found(8, (0, 0, 0)), published[2]]
    lines = report.unmatched(table, report.match(table, objects[:2], published), published)
    assert [line.split(":")[0] for line in lines] == ["id 8", "id 9"]
    assert "no true object" in lines[0] and "walls and floor" in lines[1]


def test_numbers_are_written_inside_their_regions():
    labels = np.zeros((100, 160), int)
    labels[10:60, 10:60] = 42
    picture = np.full((100, 160, 3), 128, np.uint8)
    changed = (report.numbered(picture, labels) != picture).any(-1)
    assert changed.any() and not changed[labels == 0].any()


@pytest.mark.parametrize("size", [1.0, 1.7])
def test_plan_shows_points_where_they_are(scene, size):
    table, objects, published = scene
    picture = report.plan(report.match(table, objects, published), size)
    side = picture.shape[0]
    x = round((1.0 + report.PLAN_HALF_WIDTH * size) * report.PLAN_SCALE)
    around = picture[side // 2 - 30 : side // 2 + 30, x - 30 : x + 30]
    assert (around.std(axis=-1) > 0).any()  # colour; paper and ink are grey
