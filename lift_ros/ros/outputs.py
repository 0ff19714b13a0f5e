"""The node's publishers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from lift_ros.mapping.mapper import Mapper
from lift_ros.msg import LabelInfo, ObjectArray, ObjectEvent, Status
from lift_ros.objects.description import MapObject, parts
from lift_ros.objects.registry import ObjectEvent as Event
from lift_ros.ros.conversions import (
    camera_info_message,
    cloud_message,
    float_message,
    label_message,
    object_message,
    rgb_message,
    to_color,
    to_stamp,
)
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.visualization import label_colors, overlay

LIVE = QoSProfile(depth=2)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
FOLLOW_PERIOD = 0.5  # s, after which somebody who begins to listen is noticed at the latest
STAMPS_KEPT = 20_000  # of frames, and of objects: some MB
# corners of a unit box, joined along its twelve edges
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]


class Stamps:
    """Stamps of frames to the nanosecond: the map has them as seconds in a float, which is not as exact.

    A stamp that was rounded up would be later than the image, and than the TF that came with it. For any thread.
    """

    def __init__(self, capacity: int = STAMPS_KEPT) -> None:
        """Keep the ``capacity`` stamps that were added or asked for last."""
        self._stamps: OrderedDict[float, Time] = OrderedDict()
        self._capacity = capacity
        self._lock = threading.Lock()

    def add(self, seconds: float, stamp: Time) -> None:
        """Remember what ``seconds`` stands for."""
        with self._lock:
            self._stamps[seconds] = stamp
            if len(self._stamps) > self._capacity:
                self._stamps.popitem(last=False)

    def of(self, seconds: float) -> Time:
        """The stamp; to the microsecond where it is not known, as of what a loaded map has seen."""
        with self._lock:
            if seconds not in self._stamps:
                return to_stamp(seconds)
            self._stamps.move_to_end(seconds)
            return self._stamps[seconds]


class OnDemand:
    """A latched topic whose messages are only made while somebody listens. For any thread, but for ``follow``.

    Who comes later has the state of now: at once where it was sent already, else with the next ``follow``.
    """

    def __init__(self, node: Node, kind: type, topic: str, make: Callable[..., Any]) -> None:
        """``make`` turns a state into the message; it may be called long after the state was told, by any thread."""
        self._node, self._make = node, make
        self._create = partial(node.create_publisher, kind, topic, LATCHED)
        self._publisher = self._create()
        self._state: tuple | None = None
        self._sent: tuple | None = None  # the state that the middleware keeps
        self._lock = threading.Lock()

    def tell(self, *state: Any) -> None:
        """What is the case from now on."""
        with self._lock:
            self._state = state
            self._send()

    def follow(self) -> None:
        """To be called now and then by the executor, which does not wait for a message that is just being made."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._sent is self._state:
                return
            self._send()
            if self._sent is not None and self._sent is not self._state:  # who comes must not begin with what has been
                self.destroy()
                self._publisher, self._sent = self._create(), None
        finally:
            self._lock.release()

    def destroy(self) -> None:
        """Remove the publisher from the node."""
        self._node.destroy_publisher(self._publisher)

    def _send(self) -> None:
        if self._publisher.get_subscription_count():
            self._publisher.publish(self._make(*self._state))
            self._sent = self._state


class Outputs:
    """Creates the publishers on a node and fills their messages. Used from the workers' threads.

    Attributes:
        stamps: of the frames in the map.
    """

    def __init__(self, node: Node, world_frame: str, scene_cloud_points: int) -> None:
        """Messages about the map are in ``world_frame``."""
        self._world_frame = world_frame
        self._scene_cloud_points = scene_cloud_points
        self.stamps = Stamps()
        self._label_info: tuple | None = None
        self._scene_watched = False

        self._labels = node.create_publisher(Image, "~/labels", LIVE)
        self._uncertainty = node.create_publisher(Image, "~/uncertainty", LIVE)
        self._overlay = node.create_publisher(Image, "~/overlay", LIVE)
        self._camera_info = node.create_publisher(CameraInfo, "~/camera_info", LIVE)
        self._info = node.create_publisher(LabelInfo, "~/label_info", LATCHED)
        self._objects = node.create_publisher(ObjectArray, "~/objects", LATCHED)
        self._scene_cloud = node.create_publisher(PointCloud2, "~/scene_cloud", LATCHED)
        self._events = node.create_publisher(ObjectEvent, "~/events", QoSProfile(depth=100))
        self._status = node.create_publisher(Status, "~/status", LIVE)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))
        self._publishers = (
            self._labels, self._uncertainty, self._overlay, self._camera_info, self._info, self._objects,
            self._scene_cloud, self._events, self._status, self._diagnostics,
        )  # fmt: skip
        self._on_demand = (
            OnDemand(node, MarkerArray, "~/markers", _marker_array),
            OnDemand(node, PointCloud2, "~/object_cloud", _object_cloud),
        )
        self._node = node
        self._timer = node.create_timer(
            FOLLOW_PERIOD, self._follow, MutuallyExclusiveCallbackGroup(), Clock(clock_type=ClockType.STEADY_TIME)
        )

    def destroy(self) -> None:
        """Remove the publishers from the node."""
        self._node.destroy_timer(self._timer)
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        for each in self._on_demand:
            each.destroy()

    def header(self, stamp: float) -> Header:
        """Of a message about the map at ``stamp`` seconds."""
        return Header(stamp=self.stamps.of(stamp), frame_id=self._world_frame)

    def object_array(self, stamp: float, map_id: str, objects: list[MapObject]) -> ObjectArray:
        """The message of some objects of the map ``map_id``."""
        messages = [object_message(o, self.stamps.of) for o in objects]
        return ObjectArray(header=self.header(stamp), map_id=map_id, objects=messages)

    @property
    def labels_wanted(self) -> bool:
        """Whether somebody listens to what needs them rendered."""
        return self._labels.get_subscription_count() > 0 or self._overlay.get_subscription_count() > 0

    @property
    def uncertainty_wanted(self) -> bool:
        """Whether somebody listens to it: it costs a rendering of its own."""
        return self._uncertainty.get_subscription_count() > 0

    def publish_labels(
        self, live: LiveFrame, labels: NDArray[np.uint32] | None, uncertainty: NDArray[np.float32] | None
    ) -> None:
        """What is known of one frame, and its intrinsics; labels (H, W), 0 unlabelled, uncertainty of any size. None
        for what was not rendered.
        """
        self._camera_info.publish(camera_info_message(live.header, live.frame.camera))
        if uncertainty is not None:
            self._uncertainty.publish(float_message(live.header, uncertainty))
        if labels is None:
            return
        if self._labels.get_subscription_count():
            self._labels.publish(label_message(live.header, labels))
        if self._overlay.get_subscription_count():
            self._overlay.publish(rgb_message(live.header, overlay(live.frame.image, labels)))

    def publish_map(self, mapper: Mapper, stamp: float, method: str, events: list[Event]) -> None:
        """All that is told about the map at ``stamp`` seconds."""
        map_id, objects = mapper.map_id, mapper.objects
        header = self.header(stamp)
        for event in events:
            self._events.publish(
                ObjectEvent(
                    header=header, map_id=map_id, type=getattr(ObjectEvent, event.type.upper()),
                    id=event.id, others=list(event.others),
                )
            )  # fmt: skip
        self._publish_label_info(header, map_id, method, mapper.segmenter.name, objects)
        self._objects.publish(self.object_array(stamp, map_id, objects))
        for each in self._on_demand:
            each.tell(header, objects)
        if self._scene_cloud.get_subscription_count():
            self.publish_scene(mapper, stamp)

    def scene_awaited(self) -> bool:
        """Whether somebody has begun to listen to the scene since this was asked last, where nobody did before."""
        before, self._scene_watched = self._scene_watched, self._scene_cloud.get_subscription_count() > 0
        return self._scene_watched and not before

    def publish_scene(self, mapper: Mapper, stamp: float) -> None:
        """The scene at ``stamp`` seconds as a cloud, unless that is switched off."""
        if self._scene_cloud_points:
            points, colors, ids = mapper.snapshot.cloud(self._scene_cloud_points)
            self._scene_cloud.publish(cloud_message(self.header(stamp), points, colors, ids))

    def publish_status(self, status: Status, diagnostics: DiagnosticArray) -> None:
        """The health of the node."""
        self._status.publish(status)
        self._diagnostics.publish(diagnostics)

    def _follow(self) -> None:
        for each in self._on_demand:
            each.follow()

    def _publish_label_info(
        self, header: Header, map_id: str, method: str, segmenter: str, objects: list[MapObject]
    ) -> None:
        ids = [o.id for o in objects]
        content = (map_id, method, segmenter, ids)
        if content == self._label_info:
            return
        self._label_info = content
        self._info.publish(
            LabelInfo(
                header=header, map_id=map_id, method=method, segmenter=segmenter, ids=ids,
                colors=[to_color(c) for c in label_colors(np.array(ids, np.int64))],
            )
        )  # fmt: skip


def _marker_array(header: Header, objects: list[MapObject]) -> MarkerArray:
    markers = [Marker(header=header, action=Marker.DELETEALL)]  # those of an earlier life of the node, too
    for item in objects:
        box = object_message(item)
        color = to_color(label_colors(np.array(item.id)))
        size = np.asarray(item.box.size, np.float64)
        outline = Marker(header=header, ns="boxes", id=item.id, type=Marker.LINE_LIST, color=color, pose=box.box)
        outline.scale.x = 0.01
        corners = (_CORNERS * size).tolist()
        outline.points = [Point(x=x, y=y, z=z) for edge in _EDGES for x, y, z in (corners[edge[0]], corners[edge[1]])]
        text = Marker(header=header, ns="ids", id=item.id, type=Marker.TEXT_VIEW_FACING, color=color, text=str(item.id))
        text.pose.position = box.centroid
        text.scale.z = 0.08
        markers += [outline, text]
    return MarkerArray(markers=markers)


def _object_cloud(header: Header, objects: list[MapObject]) -> PointCloud2:
    shown = parts(objects)
    if not shown:
        return cloud_message(header, np.empty((0, 3)), np.empty((0, 3), np.uint8), np.empty(0, np.uint32))
    points = np.concatenate([o.points for o in shown])
    colors = np.concatenate([o.colors for o in shown])
    ids = np.repeat([o.id for o in shown], [len(o.points) for o in shown])
    return cloud_message(header, points, colors, ids)
