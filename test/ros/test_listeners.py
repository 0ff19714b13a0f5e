"""What nobody listens to is not made, and who begins to listen gets it."""

from __future__ import annotations

import math
import time
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from ros import wall
from ros.rig import LATCHED, Rig, pixels
from ros.test_outputs import objects
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.ros import outputs as module
from lift_ros.ros.conversions import cloud_arrays
from lift_ros.ros.outputs import Outputs
from lift_ros.srv import FindObject, SelectSimilar


@pytest.fixture
def rendered(monkeypatch):
    """The label images and images of uncertainty that are rendered, by name."""
    calls: list[str] = []
    for name in ("labels_of", "uncertainty_image"):
        function = getattr(MapSnapshot, name)

        def counted(*args, name=name, function=function, **given):
            calls.append(name)
            return function(*args, **given)

        monkeypatch.setattr(MapSnapshot, name, counted)
    return calls


def unsubscribe(rig: Rig) -> None:
    """From all that is rendered."""
    for subscription in [s for s in rig.node.subscriptions if s.topic_name.endswith(("/labels", "/overlay"))]:
        rig.node.destroy_subscription(subscription)
    rig.wait_until(lambda: not rig.mapping._pipeline.outputs.labels_wanted, "the node to notice")


def middle(index: int) -> tuple[int, int]:
    """Row and column of the middle of the rectangle that a frame shows most of."""
    labels = wall.labels(index)
    row, column = np.argwhere(labels == np.bincount(labels[labels > 0]).argmax()).mean(0)
    return round(row), round(column)


def test_labels_are_rendered_while_somebody_listens_and_queries_are_answered_all_the_same(rendered, tmp_path):
    """Also a robot that never listened to label images may ask what is at a pixel."""
    with closing(Rig(map_directory=str(tmp_path))) as rig:
        unsubscribe(rig)
        rendered.clear()
        rig.map_the_wall()
        first, last = rig.header(12), rig.header(13)
        for index, header in ((12, first), (13, last)):
            rig.send(index)
            rig.wait_until(lambda header=header: rig.received["camera_info"][-1].header == header, "it to be seen")
        told = len(rig.received["status"])
        rig.wait_until(lambda: len(rig.received["status"]) > told + 1, "the status")
        assert math.isnan(rig.status.label_latency) and rig.status.label_rate == 0 and "not_labelled" not in rig.drops

        def found(index: int, header: Header) -> list[int]:
            pixel, kind = middle(index)[::-1], FindObject.Request.PIXEL
            return list(rig.call(FindObject, "find_object", kind=kind, pixel=pixel, header=header).ids)

        assert found(12, first) == found(13, last) == found(13, Header()) and found(13, last)
        clicked = rig.call(SelectSimilar, "select_similar", pixels=middle(13)[::-1], threshold=0.3)
        mask = np.frombuffer(clicked.mask.data, np.uint8).reshape(clicked.mask.height, clicked.mask.width)
        assert clicked.mask.header == last and mask[middle(13)]
        assert not rendered

        outputs, heard = rig.mapping._pipeline.outputs, []
        for index, name, wanted, made in (
            (14, "uncertainty", lambda: outputs.uncertainty_wanted, {"uncertainty_image"}),
            (15, "overlay", lambda: outputs.labels_wanted, {"labels_of"}),
            (16, "labels", lambda: outputs.labels_wanted, {"labels_of"}),
        ):
            subscription = rig.node.create_subscription(Image, f"lift_ros/{name}", heard.append, 10)
            rig.wait_until(wanted, "the subscription")
            rendered.clear()
            rig.send(index)
            header = rig.header(index)
            rig.wait_until(lambda header=header: heard and heard[-1].header == header, f"the first {name}")
            assert set(rendered) == made
            rig.node.destroy_subscription(subscription)
            rig.wait_until(lambda wanted=wanted: not wanted(), "the end of the subscription")
        assert [pixels(heard[-1])[middle(16)]] == found(16, heard[-1].header)
        rig.wait_until(lambda: rig.status.label_rate > 0, "the status")
        assert rig.status.label_latency > 0


class Node:
    """Publishes the state of a map and is listened to, in one executor."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("listeners")
        self.outputs = Outputs(self.node, "map", 0)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def close(self) -> None:
        self._executor.shutdown()
        self.outputs.destroy()
        self.node.destroy_node()

    def tell(self, items: list) -> None:
        mapper = SimpleNamespace(map_id="map", objects=items, segmenter=SimpleNamespace(name="topic"))
        self.outputs.publish_map(mapper, 3.5, "lift", [])

    def spin_until(self, condition) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self._executor.spin_once(0.05)


IDS = {
    "markers": (MarkerArray, lambda message: sorted({m.id for m in message.markers[1:]})),
    "object_cloud": (PointCloud2, lambda message: sorted(set(cloud_arrays(message)[2].tolist()))),
}


@pytest.mark.parametrize("topic", IDS)
def test_who_comes_late_is_told_of_the_objects_as_they_are_and_nothing_is_made_for_nobody(topic, monkeypatch):
    made: list[int] = []
    for name in ("_marker_array", "_object_cloud"):
        make = getattr(module, name)

        def counted(header, items, make=make):
            made.append(len(items))
            return make(header, items)

        monkeypatch.setattr(module, name, counted)
    kind, ids_of = IDS[topic]
    (alone,) = [item for item in objects() if item.id == 3]
    with closing(Node()) as node:

        def listen() -> tuple:
            heard: list = []
            return node.node.create_subscription(kind, f"~/{topic}", heard.append, LATCHED), heard

        node.tell(objects())
        assert not made
        subscription, heard = listen()
        node.spin_until(lambda: heard)
        expected = [1, 2, 3, 5] if topic == "markers" else [1, 2, 3]
        assert ids_of(heard[0]) == expected
        later, heard = listen()
        node.spin_until(lambda: heard)
        assert ids_of(heard[0]) == expected and made == [4]  # the middleware has kept it
        for each in (subscription, later):
            node.node.destroy_subscription(each)
        node.spin_until(lambda: not node.node.count_subscribers(f"~/{topic}"))
        publisher = next(each for each in node.node.publishers if each.topic_name.endswith(topic))
        node.spin_until(lambda: not publisher.get_subscription_count())
        node.tell([alone])
        node.spin_until(lambda: publisher not in node.node.publishers)  # with what it would tell of before
        assert made == [4]
        _, heard = listen()
        node.spin_until(lambda: heard)
        assert [ids_of(message) for message in heard] == [[3]] and made == [4, 1]
        node.tell(objects())  # from now on with each update
        node.spin_until(lambda: len(heard) > 1)
        assert ids_of(heard[1]) == expected
