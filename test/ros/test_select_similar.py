"""Clicks on the map of a running node whose lifting method has embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import Point
from ros import wall
from ros.rig import PERIOD, Rig, pixels

from lift_ros.ros.conversions import cloud_arrays, nanoseconds
from lift_ros.srv import SelectSimilar

LAST = 11
WALL = np.uint16(9)


@pytest.fixture(scope="module")
def rig():
    # rendered at half the size of the images; training that cannot be kept up with is not skipped
    rig = Rig(
        **{
            "lifting.method": "omniseg3d",
            "mapping.image_width": 80,
            "mapping.max_backlog": 1000,
            "mapping.lifting_steps": 40,
        }
    )
    # the wall has a mask too: nothing would tell ground without one from what it borders on
    rig.map_the_wall(masks=lambda index: np.where(wall.labels(index) == 0, WALL, wall.labels(index)))
    rig.send(LAST + 1)
    rig.wait_until(lambda: rig.received["labels"][-1].header.stamp == rig.header(LAST + 1).stamp, "its labels")
    yield rig
    rig.close()


def inside(mask, label: int, index: int = LAST + 1) -> float:
    """Share of a rectangle of the wall that a mask covers in a frame, less the share of the mask outside of it."""
    truth = wall.labels(index) == label
    step = truth.shape[1] // mask.width
    chosen = np.frombuffer(bytes(mask.data), np.uint8).reshape(mask.height, mask.width) > 0
    truth = truth[step // 2 :: step, step // 2 :: step]
    return (chosen & truth).sum() / truth.sum() - (chosen & ~truth).sum() / max(chosen.sum(), 1)


def middle_of(label: int) -> list[int]:
    rows, columns = np.nonzero(wall.labels(LAST + 1) == label)
    return [round(columns.mean()), round(rows.mean())]


def test_a_click_on_a_pixel_selects_what_it_shows(rig):
    label = max((1, 2, 3), key=lambda value: (wall.labels(LAST + 1) == value).sum())
    answer = rig.call(SelectSimilar, "select_similar", pixels=middle_of(label), threshold=0.8, connected=True)
    assert answer.success, answer.message
    assert answer.map_id == rig.received["objects"][-1].map_id
    assert answer.mask.encoding == "mono8" and answer.mask.header == rig.header(LAST + 1)
    assert inside(answer.mask, label) > 0.6
    points, _, ids = cloud_arrays(answer.cloud)
    assert len(points) == answer.cloud.width > 20
    column, row = middle_of(label)
    shown = int(pixels(rig.received["labels"][-1])[row, column])
    assert shown in {item.id for item in rig.objects} and (ids == shown).mean() > 0.5


def hidden_by_now(index: int) -> np.ndarray:
    """Objects at the pixels of an earlier frame where that of the moment shows another object; 0 elsewhere."""
    then, now = wall.labels(index), wall.labels(LAST + 1)
    return np.where((then > 0) & (now > 0) & (then != now), then, 0)


def test_a_click_on_a_pixel_of_an_earlier_label_image_selects_what_that_one_shows(rig):
    start = nanoseconds(rig.header(0).stamp)
    headers = {round((nanoseconds(m.header.stamp) - start) / 1e9 / PERIOD): m.header for m in rig.received["labels"]}
    index = max(headers, key=lambda index: (hidden_by_now(index) > 0).sum())
    label = np.bincount(hidden_by_now(index).ravel())[1:].argmax() + 1
    row, column = (round(where.mean()) for where in np.nonzero(hidden_by_now(index) == label))
    assert hidden_by_now(index)[row, column] == label
    answer = rig.call(
        SelectSimilar, "select_similar", pixels=[column, row], threshold=0.8, connected=True, header=headers[index]
    )
    assert answer.success, answer.message
    assert answer.mask.header == headers[index]
    assert inside(answer.mask, label, index) > 0.6
    left, top, width, height = wall.RECTANGLES[label]
    x = wall.DISTANCE * (left + width / 2 - wall.CAMERA.cx) / wall.CAMERA.fx
    y = wall.DISTANCE * (top + height / 2 - wall.CAMERA.cy) / wall.CAMERA.fy
    clicked = min(rig.objects, key=lambda item: np.hypot(item.centroid.x - x, item.centroid.y - y))
    ids = cloud_arrays(answer.cloud)[2]
    assert len(ids) > 20 and (ids == clicked.id).mean() > 0.5


def test_a_click_on_a_point_and_a_lower_threshold_select_more(rig):
    item = rig.objects[0]
    strict, loose = (
        rig.call(SelectSimilar, "select_similar", points=[item.centroid], threshold=threshold)
        for threshold in (0.95, -1.0)
    )
    assert strict.success and loose.success
    assert 0 < strict.cloud.width < loose.cloud.width


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "nothing was clicked on"),
        ({"pixels": [1, 2, 3]}, "pairs"),
        ({"pixels": [5000, 2]}, "outside"),
        ({"points": [Point(x=float("nan"))]}, "finite"),
        ({"points": [Point()], "frame": "nowhere"}, "nowhere"),
    ],
)
def test_clicks_that_make_no_sense_are_answered_with_the_reason(rig, fields, complaint):
    request = SelectSimilar.Request(threshold=0.5, **{k: v for k, v in fields.items() if k != "frame"})
    request.header.frame_id = fields.get("frame", "")
    answer = rig.call(
        SelectSimilar, "select_similar",
        header=request.header, points=request.points, pixels=request.pixels, threshold=request.threshold,
    )  # fmt: skip
    assert not answer.success and complaint in answer.message
