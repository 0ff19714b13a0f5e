"""Labels and the map that they are of."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.logging import get_logger
from std_msgs.msg import Header

from lift_ros.camera import Camera, PosedCamera
from lift_ros.errors import LiftError
from lift_ros.frame import Frame
from lift_ros.ros import labeller as module
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.labeller import Labeller
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.queues import DropCounter


class Map:
    """Labels every pixel with its number; ``during`` is called while it does."""

    def __init__(self, number: int, during=lambda: None) -> None:
        self.snapshot = self
        self._number, self._during = number, during

    def labels_of(self, frame, width, min_share):
        self._during()
        return np.full(frame.image.shape[:2], self._number, np.uint32), PosedCamera.from_pose(
            frame.camera.at_width(width), np.eye(4)
        )

    def label_at(self, camera, column, row):
        """With the share that a pixel has of its column."""
        return self._number, column / camera.width


def listened_to(publish) -> SimpleNamespace:
    """Outputs, with somebody who listens to labels."""
    return SimpleNamespace(labels_wanted=True, uncertainty_wanted=False, publish_labels=publish)


def test_labels_of_a_map_that_was_replaced_meanwhile_are_not_published():
    current = []
    new = Map(2)
    current.append(Map(1, during=lambda: current.append(new)))
    published = []
    outputs = listened_to(lambda live, labels, _: published.append(int(labels[0, 0])))
    drops = DropCounter()
    labeller = Labeller(8, NodeConfig(label_rate=0.0), lambda: current[-1], outputs, drops, get_logger("labeller"))
    frame = Frame(np.zeros((6, 8, 3), np.uint8), Camera(8, 6, 8.0, 8.0, 4.0, 3.0), np.eye(4), 1.0)
    live = LiveFrame(frame, Header(), time.monotonic())
    labeller.start()
    try:
        deadline = time.monotonic() + 20
        labeller.add_frame(live)
        while not drops.counts() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert drops.counts() == {"not_labelled": 1}
        with pytest.raises(LiftError, match="no image has come for this map"):
            labeller.view()
        labeller.add_frame(live)
        while not published and time.monotonic() < deadline:
            time.sleep(0.01)
        assert published == [2] and labeller.view().labels[0, 0] == 2
        current.append(Map(3))
        with pytest.raises(LiftError, match="no image has come for this map"):
            labeller.view()  # its ids are those of the map before
    finally:
        labeller.stop()


def labels_of(labeller: Labeller, published: list, seconds: tuple[int, ...]) -> None:
    """Have images of these stamps, in the frames 1, 2, ..., labelled one after the other."""
    frame = Frame(np.zeros((6, 8, 3), np.uint8), Camera(8, 6, 8.0, 8.0, 4.0, 3.0), np.eye(4), 1.0)
    labeller.start()
    try:
        for number, second in enumerate(seconds, 1):
            header = Header()
            header.stamp.sec, header.frame_id = second, str(number)
            labeller.add_frame(LiveFrame(frame, header, time.monotonic()))
            deadline = time.monotonic() + 20
            while len(published) < number and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        labeller.stop()


def test_of_earlier_label_images_it_is_remembered_where_they_were_seen_from(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 3)
    published = []
    outputs = listened_to(lambda *_: published.append(1))
    only = Map(4)
    labeller = Labeller(8, NodeConfig(label_rate=0.0), lambda: only, outputs, DropCounter(), get_logger("labeller"))
    labels_of(labeller, published, (1, 2, 3, 4, 4))
    assert labeller.view().header.frame_id == labeller.view(4 * 10**9).header.frame_id == "5"  # the later of the two
    assert labeller.view().labels is not None
    earlier = labeller.view(3 * 10**9)
    assert earlier.labels is None and earlier.uncertainty is None and earlier.shape == (6, 8)
    with pytest.raises(LiftError, match="2.000000 s.*latest 3"):
        labeller.view(2 * 10**9)


def test_a_pixel_of_an_earlier_image_is_labelled_as_the_image_was_and_lies_inside_of_it():
    published = []
    outputs = listened_to(lambda *_: published.append(1))
    only, config = Map(4), NodeConfig(label_rate=0.0, label_min_share=0.6)
    labeller = Labeller(4, config, lambda: only, outputs, DropCounter(), get_logger("labeller"))
    labels_of(labeller, published, (1, 2))
    assert [labeller.id_at(column, 3, 10**9) for column in (2, 4, 6)] == [0, 0, 4]  # shares of 1/4, 2/4 and 3/4
    for stamp in (10**9, 2 * 10**9):
        for column, row in ((8, 0), (0, 6)):
            with pytest.raises(LiftError, match="outside the 8x6"):
                labeller.id_at(column, row, stamp)


def test_no_more_label_images_are_made_a_second_than_asked_for(monkeypatch):
    """At 2 Hz it rests for what is left of half a second after each image, by a clock that labelling alone moves."""
    now, labelling, published = 100.0, [0.1, 0.3, 0.8], []

    def label() -> None:
        nonlocal now
        now += labelling[len(published)]

    class Rests(threading.Event):
        """Of the labeller; they take no time here."""

        def __init__(self) -> None:
            super().__init__()
            self.asked: list[float] = []

        def wait(self, timeout: float) -> bool:
            self.asked.append(timeout)
            return self.is_set()

    outputs = listened_to(lambda *_: published.append(1))
    only = Map(4, during=label)
    labeller = Labeller(8, NodeConfig(label_rate=2.0), lambda: only, outputs, DropCounter(), get_logger("labeller"))
    labeller._stopping = rests = Rests()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    labels_of(labeller, published, (1, 2, 3))
    assert rests.asked == pytest.approx([0.4, 0.2, 0.0])


@pytest.mark.parametrize("listened", [True, False])
def test_pixels_that_show_the_robot_itself_are_of_no_object(listened):
    ignored = np.zeros((6, 8), bool)
    ignored[:3] = True
    outputs = SimpleNamespace(labels_wanted=listened, uncertainty_wanted=False, publish_labels=lambda *_: None)
    mapper = Map(7)
    mapper.locate = lambda frame: PosedCamera.from_pose(frame.camera, np.eye(4))
    labeller = Labeller(8, NodeConfig(label_rate=0.0), lambda: mapper, outputs, DropCounter(), get_logger("labeller"))
    frame = Frame(
        np.zeros((6, 8, 3), np.uint8), Camera(8, 6, 8.0, 8.0, 4.0, 3.0), np.eye(4), 1.0, ignored=ignored
    )  # fmt: skip
    labeller._label(LiveFrame(frame, Header(), time.monotonic()))
    assert labeller.id_at(6, 1, 0) == 0 and labeller.id_at(6, 4, 0) == 7
    assert not labeller.view().shows(6, 1) and labeller.view().shows(6, 4)
