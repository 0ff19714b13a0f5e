"""Listens to the mapping node as any other node of a robot would, and calls its services."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from lift_ros.data.image_codec import message_labels, message_rgb
from lift_ros.demo.report import FoundObject
from lift_ros.errors import LiftError
from lift_ros.msg import LabelInfo, ObjectArray, ObjectEvent, Status
from lift_ros.ros.conversions import cloud_arrays
from lift_ros.srv import FindObject, GetObject, ListObjects, SaveMap
from lift_ros.visualization import write_label_png

NODE = "/lift_ros"
EVENTS = {
    ObjectEvent.BIRTH: "births",
    ObjectEvent.MERGE: "merges",
    ObjectEvent.SPLIT: "splits",
    ObjectEvent.RETIRE: "retired",
}
ANSWER_TIMEOUT = 90.0  # s, for a service


class Recorder:
    """Writes each label image to a directory as ``<seconds>_<nanoseconds>.png``, 0 unlabelled. A context manager.

    Attributes:
        directory: where to; may be changed at any time.
        labelled: the label image written last, None before.
        stamp: its stamp, seconds.
        overlay: the latest overlay (H, W, 3), None before.
        lists: number of object lists so far.
        listed: number of objects in the latest one.
        events: number of events by kind.
        status: the latest, None before.
    """

    def __init__(self, directory: Path) -> None:
        """Listen from now on, in a thread of its own. ``directory`` must exist."""
        self._context = Context()
        self._context.init()
        self._node = node = Node("demo_recorder", context=self._context)
        self.directory = directory
        self.labelled: Path | None = None
        self.stamp = 0.0
        self.lists = self.listed = 0
        self.overlay: np.ndarray | None = None
        self.events: Counter[str] = Counter()
        self.status: Status | None = None
        many = QoSProfile(depth=100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(Image, f"{NODE}/labels", self._on_labels, many)
        node.create_subscription(Image, f"{NODE}/overlay", self._on_overlay, QoSProfile(depth=1))
        node.create_subscription(ObjectArray, f"{NODE}/objects", self._on_objects, latched)
        node.create_subscription(ObjectEvent, f"{NODE}/events", self._on_event, many)
        node.create_subscription(Status, f"{NODE}/status", self._on_status, many)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        self._context.try_shutdown()

    def objects(self) -> list[FoundObject]:
        """Every object of the map with its points, by the services list_objects and get_object."""
        listed = self.call(ListObjects, "list_objects").objects.objects
        answers = [self.call(GetObject, "get_object", id=item.id) for item in listed]
        return [
            FoundObject(
                answer.object.id,
                answer.object.views,
                answer.object.confidence,
                np.array([getattr(answer.object.box.position, axis) for axis in "xyz"]),
                *cloud_arrays(answer.cloud)[:2],
            )
            for answer in answers
            if answer.success
        ]

    def object_at(self, column: int, row: int) -> int:
        """Id of the object at a pixel of the label image published last, 0 for none, by the service find_object."""
        answer = self.call(FindObject, "find_object", kind=FindObject.Request.PIXEL, pixel=[column, row])
        return answer.ids[0] if answer.ids else 0

    def save_map(self, name: str) -> Path:
        """Have the map saved, and return where. Raises LiftError."""
        answer = self.call(SaveMap, "save_map", name=name)
        if not answer.success:
            raise LiftError(answer.message)
        return Path(answer.path)

    def call(self, kind: type, service: str, /, **fields: Any) -> Any:
        """Call a service of the node and wait for its answer. Raises LiftError when none comes."""
        client = self._node.create_client(kind, f"{NODE}/{service}")
        try:
            deadline = time.monotonic() + ANSWER_TIMEOUT
            future = client.call_async(kind.Request(**fields)) if client.wait_for_service(ANSWER_TIMEOUT) else None
            while future and not future.done() and time.monotonic() < deadline:
                time.sleep(0.005)
            if not future or not future.done():
                raise LiftError(f"the node did not answer {service} within {ANSWER_TIMEOUT:.0f} s")
            return future.result()
        finally:
            self._node.destroy_client(client)

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_labels(self, message: Image) -> None:
        labels = message_labels(message)
        labels[labels == LabelInfo.UNLABELLED] = 0
        stamp = message.header.stamp
        path = self.directory / f"{stamp.sec}_{stamp.nanosec:09d}.png"
        write_label_png(path, labels)
        self.labelled, self.stamp = path, stamp.sec + stamp.nanosec / 1e9

    def _on_overlay(self, message: Image) -> None:
        self.overlay = message_rgb(message)

    def _on_objects(self, message: ObjectArray) -> None:
        self.lists += 1
        self.listed = len(message.objects)

    def _on_event(self, message: ObjectEvent) -> None:
        self.events[EVENTS[message.type]] += 1

    def _on_status(self, message: Status) -> None:
        self.status = message
