"""What the node publishes of a map, message by message."""

from __future__ import annotations

import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from ros.rig import LATCHED
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from lift_ros.mapping.mapper import MapperStats
from lift_ros.msg import LabelInfo, ObjectEvent
from lift_ros.objects.description import MapObject, describe
from lift_ros.objects.registry import ObjectEvent as Event
from lift_ros.objects.registry import Track
from lift_ros.ros.conversions import cloud_arrays, object_message
from lift_ros.ros.outputs import Outputs, Stamps
from lift_ros.ros.pipeline import Pipeline
from lift_ros.visualization import label_colors

TOPICS = {
    "events": (ObjectEvent, QoSProfile(depth=100)),
    "markers": (MarkerArray, LATCHED),
    "label_info": (LabelInfo, QoSProfile(depth=100)),
    "object_cloud": (PointCloud2, LATCHED),
}


def objects() -> list[MapObject]:
    """Two parts of a whole, 5, and one that stands alone; they lean, and differ in size and number of points."""
    lean = Rotation.from_euler("xyz", [20, 30, 40], degrees=True)
    sizes, counts, ids = [(0.6, 0.4, 0.2), (0.5, 0.3, 0.1), (0.9, 0.2, 0.1)], [60, 40, 50], [1, 2, 3]
    rng = np.random.default_rng(0)
    blocks = [
        lean.apply(rng.uniform(-0.5, 0.5, (n, 3)) * size) + (i, 0, 0)
        for n, size, i in zip(counts, sizes, ids, strict=True)
    ]
    tracks = [
        Track(1, 0, 1, 2, 1, parent=5),
        Track(2, 0, 1, 2, 1, parent=5),
        Track(3, 0, 1, 2, 1),
        Track(5, 0, 1, 2, 1),
    ]
    colors = np.repeat(np.array([[10, 0, 0], [0, 20, 0], [0, 0, 30]], np.uint8), counts, axis=0)
    points = np.concatenate(blocks).astype(np.float32)
    return describe(tracks, np.repeat(ids, counts), points, colors, np.zeros(sum(counts)), "none")


@contextmanager
def published(items: list[MapObject], events: tuple[Event, ...] = (), times: int = 1):
    """What a node is told of a map with these objects, by topic."""
    node = rclpy.create_node("outputs")
    outputs, heard = Outputs(node, "map", 0), {name: [] for name in TOPICS}
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    for name, (kind, qos) in TOPICS.items():
        node.create_subscription(kind, f"~/{name}", heard[name].append, qos)
    try:
        segmenter = SimpleNamespace(name="topic")
        for _ in range(times):
            mapper = SimpleNamespace(map_id="01ab", objects=items, segmenter=segmenter)
            outputs.publish_map(mapper, 3.5, "lift", list(events))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (
            heard["object_cloud"] and len(heard["events"]) >= len(events) * times
        ):
            executor.spin_once(0.1)
        for _ in range(5):
            executor.spin_once(0.05)
        yield heard
    finally:
        executor.shutdown()
        node.destroy_node()


def test_markers_outline_the_boxes_and_name_them_in_their_colours():
    items = objects()
    with published(items) as heard:
        clear, *markers = heard["markers"][-1].markers
        info = heard["label_info"][-1]
    assert clear.action == Marker.DELETEALL and len(markers) == 2 * len(items)
    told = {i: (color.r, color.g, color.b) for i, color in zip(info.ids, info.colors, strict=True)}
    assert told.keys() == {item.id for item in items}
    for item in items:
        outline, text = (m for m in markers if m.id == item.id)
        message = object_message(item)
        assert outline.pose == message.box and text.pose.position == message.centroid and text.text == str(item.id)
        for color in ((outline.color.r, outline.color.g, outline.color.b), told[item.id]):
            assert 255 * np.array(color) == pytest.approx(label_colors(np.array(item.id)), abs=1e-3)
        assert outline.color == text.color and outline.color.a == 1
        ends = np.array([(p.x, p.y, p.z) for p in outline.points]).reshape(-1, 2, 3)
        assert np.abs(ends) == pytest.approx(np.broadcast_to(item.box.size / 2, ends.shape))  # all are corners
        along = np.abs(ends[:, 0] - ends[:, 1])
        edges = [np.flatnonzero(row).tolist() for row in along > 1e-9]
        assert sorted(edges) == [[0]] * 4 + [[1]] * 4 + [[2]] * 4  # the twelve edges, no diagonal
        assert len({tuple(sorted(map(tuple, pair.tolist()))) for pair in ends}) == 12


def test_the_cloud_of_the_objects_has_each_point_once_with_the_part_that_it_is_of():
    items = objects()
    with published(items) as heard:
        points, colors, ids = cloud_arrays(heard["object_cloud"][-1])
    assert len(points) == 150 and sorted(set(ids.tolist())) == [1, 2, 3]  # not again as points of the whole
    for item in items[:3]:
        np.testing.assert_array_equal(points[ids == item.id], item.points)
        np.testing.assert_array_equal(colors[ids == item.id], item.colors)


def test_events_name_all_that_they_concern():
    told = (Event("merge", 3, (4, 5)), Event("split", 6, (7,)), Event("birth", 8), Event("retire", 9))
    with published([], told) as heard:
        events = [(event.type, event.id, list(event.others)) for event in heard["events"]]
        stamps = {(event.map_id, event.header.frame_id, event.header.stamp.sec) for event in heard["events"]}
    assert events == [
        (ObjectEvent.MERGE, 3, [4, 5]),
        (ObjectEvent.SPLIT, 6, [7]),
        (ObjectEvent.BIRTH, 8, []),
        (ObjectEvent.RETIRE, 9, []),
    ]
    assert stamps == {("01ab", "map", 3)}


def test_what_the_pixel_values_mean_is_told_again_only_when_it_changes():
    with published(objects(), (Event("birth", 8),), times=3) as heard:
        assert len(heard["events"]) == 3 and len(heard["label_info"]) == 1


def test_of_the_stamps_that_are_kept_those_that_are_asked_for_stay():
    """An object's first keyframe is asked for at every update; frames in between are not."""
    stamps = Stamps(capacity=3)
    exact = [Time(sec=index, nanosec=123) for index in range(6)]
    for index, stamp in enumerate(exact):
        stamps.add(index + 123e-9, stamp)
        assert stamps.of(123e-9) == exact[0] and stamps.of(index + 123e-9) == stamp
    assert stamps.of(4 + 123e-9) == exact[4]
    assert stamps.of(1 + 123e-9) == Time(sec=1)  # gone, and told to the microsecond


@pytest.mark.parametrize(
    ("latest", "mapped", "frames", "expected"),
    [
        (10.0, 8.0, 3, 8.0),  # the map is behind the camera
        (10.0, 60.0, 3, 10.0),  # the clock has jumped back, and no frame of the new time is in the map yet
        (None, 60.0, 3, 77.0),
        (10.0, 8.0, 0, 10.0),  # a map that was loaded
    ],
)
def test_no_message_about_the_map_is_of_a_time_to_come(latest, mapped, frames, expected):
    now = 77.0
    pipeline = SimpleNamespace(_latest=latest, stamp=now if latest is None else latest)
    mapper = SimpleNamespace(stats=MapperStats(frames=frames, stamp=mapped))
    assert Pipeline._as_of(pipeline, mapper) == expected
