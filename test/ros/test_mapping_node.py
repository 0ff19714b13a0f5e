"""The node as a robot sees it: through topics, services and transforms."""

from __future__ import annotations

import itertools
import math
import re
import threading
import time
import uuid
from contextlib import closing
from dataclasses import replace
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros import wall
from ros.rig import LATCHED, PERIOD, Rig, pixels, transform
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage

from lift_ros.frame import Frame
from lift_ros.mapping.map_files import load_map
from lift_ros.masks.base import Masks, Prompts
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.msg import LabelInfo, ObjectEvent, Status
from lift_ros.ros import mapper_worker, mapping_node
from lift_ros.ros.conversions import camera_info_message, cloud_arrays, to_point
from lift_ros.ros.mapping_node import MappingNode
from lift_ros.srv import FindObject, GetObject, ListObjects, LoadMap, RemoveObject, SaveMap, SelectSimilar

BOX = {"kind": FindObject.Request.BOX, "box_size": Vector3(x=9.0, y=9.0, z=9.0)}  # all that there is
LAST = 12  # frame sent after those that map the wall


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A node that has seen the wall. Tests that share it, in any order, send it frames but leave it its map."""
    with closing(Rig(map_directory=str(tmp_path_factory.mktemp("maps")))) as rig:
        rig.map_the_wall()
        rig.later = itertools.count(1002.0, 1 / 64)
        yield rig


@pytest.fixture
def own_rig(tmp_path):
    """A node that has seen the wall, for a test that does something to its map."""
    with closing(Rig(map_directory=str(tmp_path))) as rig:
        rig.map_the_wall()
        rig.later = itertools.count(1002.0, 1 / 64)
        yield rig


def send_last(rig: Rig, **what: object) -> Header:
    """Send the last frame, later than all that were sent before, and return its header."""
    return send_later(rig, LAST, **what)


def send_later(rig: Rig, index: int, **what: object) -> Header:
    """Send a frame, by a clock that goes on, and return its header."""
    start = next(rig.later) - PERIOD * index
    rig.send(index, start, **what)
    return rig.header(index, start)


def labels_of(rig: Rig, header: Header) -> Image:
    """The labels of an image, once they come."""
    return rig.wait_until(lambda: [m for m in rig.received["labels"] if m.header == header], "its labels")[0]


def middle_of(label: int) -> tuple[int, int]:
    """Row and column of the middle of a rectangle in the last frame."""
    rows, columns = np.nonzero(wall.labels(LAST) == label)
    return round(rows.mean()), round(columns.mean())


def diagnostics_of(rig: Rig) -> list[DiagnosticStatus]:
    """What the node will have told, as it grows."""
    heard: list[DiagnosticStatus] = []
    name = rig.mapping.get_namespace().lstrip("/") + "/lift_ros: mapping"

    def take(message: DiagnosticArray) -> None:
        heard.extend(entry for entry in message.status if entry.name == name)

    rig.node.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
    return heard


def label_at(message: Image, label: int) -> int:
    """Id of the object that the label image of the last frame shows in the middle of a rectangle."""
    return int(pixels(message)[middle_of(label)])


def distance_of_nearest(rig: Rig, point: np.ndarray) -> float:
    centres = np.array([[o.centroid.x, o.centroid.y, o.centroid.z] for o in rig.objects])
    return np.linalg.norm(centres - point, axis=1).min()


def test_every_rectangle_has_its_id_in_the_label_images(rig):
    message = labels_of(rig, send_last(rig))
    assert (message.encoding, message.width, message.height) == ("mono16", wall.CAMERA.width, wall.CAMERA.height)
    ids, truth = pixels(message), wall.labels(LAST)
    published = {o.id for o in rig.objects}
    found = {}
    for label in (1, 2, 3):
        inside = ids[truth == label]
        if inside.size < 500:
            continue
        values, counts = np.unique(inside, return_counts=True)
        assert counts.max() > 0.85 * inside.size
        found[label] = int(values[counts.argmax()])
    assert len(set(found.values())) == len(found) >= 2
    assert set(found.values()) <= published
    info = rig.received["camera_info"][-1]
    assert info.k[2] == wall.CAMERA.cx - 0.5  # ROS's pixel convention


def test_objects_are_where_the_rectangles_are(rig):
    for column, row, width, height in wall.RECTANGLES.values():
        x = (column + width / 2 - wall.CAMERA.cx) * wall.DISTANCE / wall.CAMERA.fx
        y = (row + height / 2 - wall.CAMERA.cy) * wall.DISTANCE / wall.CAMERA.fy
        centre = np.array((x, y, wall.DISTANCE))
        rig.wait_until(lambda centre=centre: distance_of_nearest(rig, centre) < 0.1, f"an object at {centre}")


def test_list_markers_cloud_and_label_info_tell_the_same(rig):
    rig.wait_until(lambda: {o.id for o in rig.objects} == set(rig.received["label_info"][-1].ids), "agreeing messages")
    ids = {o.id for o in rig.objects}
    assert rig.received["objects"][-1].header.frame_id == "map"
    assert {m.id for m in rig.received["markers"][-1].markers if m.action == 0} == ids
    cloud = rig.received["object_cloud"][-1]
    rows = np.frombuffer(bytes(cloud.data), np.uint8).reshape(-1, cloud.point_step)
    offset = next(f.offset for f in cloud.fields if f.name == "id")
    assert set(np.unique(rows[:, offset : offset + 4].copy().view("<u4"))) == ids
    assert rig.received["label_info"][-1].segmenter == "topic"


def test_births_were_announced(rig):
    born = {e.id for e in rig.received["events"] if e.type == ObjectEvent.BIRTH}
    born |= {i for e in rig.received["events"] if e.type == ObjectEvent.SPLIT for i in e.others}
    assert {o.id for o in rig.objects} <= born


def test_status_counts(rig):
    assert rig.status.state == Status.MAPPING
    assert rig.status.keyframes >= 5 and rig.status.gaussians > 1000 and rig.status.steps > 0
    assert 0 < rig.status.image_latency_p99 < math.inf


def test_what_is_told_of_the_map_has_the_stamps_of_images_to_the_nanosecond():
    stamps = [Time(sec=1_763_712_345, nanosec=100_000_123 * index) for index in range(8)]
    with closing(Rig()) as rig:
        with patch.object(rig, "header", lambda index, *_: Header(stamp=stamps[index], frame_id="camera")):
            for index in range(len(stamps)):
                rig.send(index)
                time.sleep(0.1)
        rig.wait_until(lambda: rig.objects, "objects")
        rig.wait_for_frames(len(stamps))
        told = rig.received["objects"][-1]
        assert told.header.stamp in stamps
        assert all(item.first_seen in stamps and item.last_seen in stamps for item in told.objects)
        answer = rig.call(GetObject, "get_object", id=told.objects[0].id)
        assert answer.header.stamp in stamps and answer.object.last_seen in stamps


def test_diagnostics_tell_nodes_of_several_namespaces_apart(rig):
    received = []
    subscription = rig.node.create_subscription(DiagnosticArray, "/diagnostics", received.append, 10)
    name = rig.mapping.get_namespace().lstrip("/") + "/lift_ros: mapping"
    try:
        rig.wait_until(lambda: name in [message.status[0].name for message in received], "diagnostics")
    finally:
        rig.node.destroy_subscription(subscription)


def test_get_and_list_objects(rig):
    listed = rig.call(ListObjects, "list_objects").objects.objects
    answer = rig.call(GetObject, "get_object", id=listed[0].id)
    assert answer.success and answer.object.id == listed[0].id
    assert answer.cloud.width == answer.object.points > 0
    assert not rig.call(ListObjects, "list_objects", min_confidence=1.5).objects.objects
    assert rig.call(ListObjects, "list_objects", min_confidence=math.nan).objects.objects == listed
    unknown = rig.call(GetObject, "get_object", id=4_000_000)
    assert not unknown.success and "4000000" in unknown.message


def test_find_an_object_at_a_pixel_a_point_in_a_box_and_along_a_ray(rig):
    item = rig.objects[0]
    point = item.centroid
    at_point = rig.call(FindObject, "find_object", kind=FindObject.Request.POINT, point=point, radius=0.1)
    assert at_point.success and at_point.ids[0] == item.id

    box = FindObject.Request(kind=FindObject.Request.BOX, box=item.box, box_size=item.box_size)
    in_box = rig.call(FindObject, "find_object", kind=box.kind, box=box.box, box_size=box.box_size)
    assert in_box.success and in_box.ids[0] == item.id

    request = FindObject.Request(kind=FindObject.Request.RAY)
    request.point.x, request.point.y = point.x, point.y
    request.direction.z = 3.0
    ray = rig.call(
        FindObject, "find_object", kind=request.kind, point=request.point, direction=request.direction, radius=0.05
    )
    assert ray.success and item.id in ray.ids
    assert ray.distances[list(ray.ids).index(item.id)] == pytest.approx(wall.DISTANCE, abs=0.2)

    message = labels_of(rig, send_last(rig))
    shown = label_at(message, 3)
    row, column = (int(v[0]) for v in np.nonzero(pixels(message) == shown))
    at_pixel = rig.call(FindObject, "find_object", kind=FindObject.Request.PIXEL, pixel=[column, row])
    assert at_pixel.success and list(at_pixel.ids) == [shown]
    published = rig.mapping._pipeline.known
    rig.mapping._pipeline.known = published._replace(objects=[])  # labels show objects before the list does
    at_pixel = rig.call(FindObject, "find_object", kind=FindObject.Request.PIXEL, pixel=[column, row])
    rig.mapping._pipeline.known = published
    assert at_pixel.success and list(at_pixel.ids) == [shown]


def test_a_query_in_the_frame_of_a_gripper_is_answered_by_where_that_was(rig):
    """It turns about all axes, and is somewhere else a little later."""
    item, start = rig.objects[0], next(rig.later)
    turn, place = Rotation.from_euler("xyz", [30, -50, 70], degrees=True), np.array([0.3, -0.2, 0.5])
    then, later = rig.header(0, start), rig.header(5, start)
    gripper = {"parent": "map", "child": "gripper"}
    rig.tf.publish(
        TFMessage(
            transforms=[
                transform(then, tuple(place.tolist()), tuple(turn.as_quat().tolist()), **gripper),
                transform(later, (9.0, 9.0, 9.0), **gripper),
            ]
        )
    )
    then.frame_id = "gripper"

    def there(p: Point) -> Point:
        return to_point(turn.inv().apply(np.array([p.x, p.y, p.z]) - place))

    def found(**what: object) -> FindObject.Response:
        return rig.call(FindObject, "find_object", header=then, radius=0.05, **what)

    request = FindObject.Request
    rig.wait_until(lambda: found(kind=request.POINT).success, "the transform")
    point = found(kind=request.POINT, point=there(item.centroid))
    assert point.ids[0] == item.id and point.distances[0] < 1e-3
    origin = Point(x=item.centroid.x, y=item.centroid.y, z=0.0)
    direction = Vector3(**dict(zip("xyz", turn.inv().apply([0, 0, 1]).tolist(), strict=True)))
    ray = found(kind=request.RAY, point=there(origin), direction=direction)
    assert ray.distances[list(ray.ids).index(item.id)] == pytest.approx(wall.DISTANCE, abs=0.2)
    q = item.box.orientation
    x, y, z, w = (turn.inv() * Rotation.from_quat([q.x, q.y, q.z, q.w])).as_quat().tolist()
    box = Pose(position=there(item.box.position), orientation=Quaternion(x=x, y=y, z=z, w=w))
    assert found(kind=request.BOX, box=box, box_size=item.box_size).ids[0] == item.id
    selected = [
        rig.call(SelectSimilar, "select_similar", points=[point], header=header, threshold=0.3).cloud
        for point, header in ((item.centroid, Header()), (there(item.centroid), then))
    ]
    assert selected[0].width > 20 and selected[0].data == selected[1].data


def test_without_a_radius_a_point_may_be_five_centimetres_off(rig):
    item = rig.call(GetObject, "get_object", id=rig.objects[0].id)
    points, _, ids = cloud_arrays(item.cloud)
    assert set(ids.tolist()) == {item.object.id}
    nearest = points[points[:, 2].argmin()]
    for off, expected in ((0.04, [item.object.id]), (0.5, [])):
        before = to_point(nearest - (0, 0, off))
        assert list(rig.call(FindObject, "find_object", kind=FindObject.Request.POINT, point=before).ids) == expected


def test_a_query_finds_the_parts_and_not_their_whole(rig):
    published = rig.mapping._pipeline.known
    first, *others = published.objects
    part, whole = replace(first, parent=4_000_001), replace(first, id=4_000_001)
    rig.mapping._pipeline.known = published._replace(objects=[part, *others, whole])
    centre = to_point(part.box.center)
    try:
        found = rig.call(FindObject, "find_object", kind=FindObject.Request.POINT, point=centre)
    finally:
        rig.mapping._pipeline.known = published
    assert part.id in found.ids and whole.id not in found.ids


def test_a_pixel_is_of_the_label_image_whose_stamp_is_given(rig):
    first = labels_of(rig, send_last(rig))
    latest = labels_of(rig, send_later(rig, 2))
    row, column = middle_of(3)

    def found(header: Header) -> FindObject.Response:
        pixel = [column, row]
        return rig.call(FindObject, "find_object", kind=FindObject.Request.PIXEL, pixel=pixel, header=header)

    was, now = pixels(first)[row, column], pixels(latest)[row, column]
    assert was != now  # the camera has moved
    assert list(found(first.header).ids) == [was]
    shown = [now] if now != LabelInfo.UNLABELLED else []
    assert list(found(latest.header).ids) == list(found(Header()).ids) == shown
    unknown = Header()
    unknown.stamp.sec = 5
    answer = found(unknown)
    assert not answer.success and "5.000000" in answer.message


def test_uncertainty_comes_with_the_labels_where_it_is_asked_for(rig):
    received = []
    subscription = rig.node.create_subscription(Image, "lift_ros/uncertainty", received.append, 10)
    try:
        wanted = rig.mapping._pipeline.outputs
        rig.wait_until(lambda: wanted.uncertainty_wanted, "the subscription")
        header = send_last(rig)
        rig.wait_until(lambda: header in [m.header for m in received], "an image of uncertainty")
    finally:
        rig.node.destroy_subscription(subscription)
    message = received[-1]
    assert (message.encoding, message.width, message.step) == ("32FC1", 160, 640)
    unsure = np.frombuffer(bytes(message.data), np.float32).reshape(message.height, message.width)
    step = wall.CAMERA.width // message.width
    masked = wall.labels(LAST)[step // 2 :: step, step // 2 :: step] > 0
    assert unsure.min() >= 0 and unsure.max() <= 1
    assert np.median(unsure[masked]) < 0.3 and np.median(unsure[~masked]) > 0.7  # no mask says what the wall is
    assert all(0 <= item.uncertainty <= 1 for item in rig.objects)


def test_a_click_selects_the_object_that_masks_hold_together(rig):
    item = rig.objects[0]
    answer = rig.call(SelectSimilar, "select_similar", points=[item.centroid], threshold=0.3)
    assert answer.success, answer.message
    _, _, ids = cloud_arrays(answer.cloud)
    own, of_it = rig.call(GetObject, "get_object", id=item.id).cloud.width, (ids == item.id).sum()
    assert of_it > 0.9 * own and of_it > 0.9 * len(ids)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"kind": FindObject.Request.PIXEL, "pixel": [5000, 0]}, "outside"),
        ({"kind": FindObject.Request.PIXEL, "pixel": [0, 5000]}, "outside"),
        ({"kind": FindObject.Request.RAY}, "direction"),
        ({"kind": FindObject.Request.BOX}, "size"),
        ({"kind": 77}, "none of"),
        ({"kind": FindObject.Request.POINT, "point": Point(y=math.nan)}, "point"),
        ({"kind": FindObject.Request.POINT, "point": Point(y=math.inf)}, "point"),
        ({"kind": FindObject.Request.POINT, "radius": math.nan}, "radius"),
        ({"kind": FindObject.Request.POINT, "radius": -0.1}, "radius"),
        ({"kind": FindObject.Request.RAY, "point": Point(x=math.nan), "direction": Vector3(z=1.0)}, "point"),
        ({"kind": FindObject.Request.RAY, "point": Point(x=-math.inf), "direction": Vector3(z=1.0)}, "point"),
        ({"kind": FindObject.Request.RAY, "direction": Vector3(z=math.nan)}, "direction"),
        ({"kind": FindObject.Request.RAY, "direction": Vector3(z=math.inf)}, "direction"),
        ({"kind": FindObject.Request.RAY, "direction": Vector3(z=1.0), "radius": math.nan}, "radius"),
        ({"kind": FindObject.Request.RAY, "direction": Vector3(z=1.0), "radius": -1.0}, "radius"),
        ({**BOX, "box": Pose(position=Point(z=math.nan))}, "box.position"),
        ({**BOX, "box": Pose(position=Point(z=math.inf))}, "box.position"),
        ({**BOX, "box": Pose(orientation=Quaternion(w=math.nan))}, "box.orientation"),
        ({**BOX, "box": Pose(orientation=Quaternion(w=0.0))}, "box.orientation"),
        ({**BOX, "box_size": Vector3(x=1.0, y=math.nan, z=1.0)}, "box_size"),
        ({**BOX, "box_size": Vector3(x=1.0, y=-1.0, z=1.0)}, "box_size"),
    ],
)
def test_a_query_that_makes_no_sense_is_answered_with_the_reason(rig, fields, complaint):
    answer = rig.call(FindObject, "find_object", **fields)
    assert not answer.success and complaint in answer.message


def test_save_and_load_through_services(own_rig):
    saved = own_rig.call(SaveMap, "save_map", name="wall")
    assert saved.success, saved.message
    before = {o.id for o in own_rig.objects}
    loaded = own_rig.call(LoadMap, "load_map", name="wall")
    assert loaded.success, loaded.message
    own_rig.wait_until(lambda: {o.id for o in own_rig.objects} == before, "the same objects")


def map_ids(rig: Rig) -> set[str]:
    """Of all that tells of the map at present."""
    listed = rig.call(ListObjects, "list_objects").objects
    latest = (rig.received[name][-1] for name in ("objects", "label_info", "status"))
    return {listed.map_id, *(message.map_id for message in latest)}


def test_ids_of_another_map_are_told_from_those_of_this_one(own_rig):
    """They begin at 1 again, and another object has the number that a planner remembers."""
    (first,) = map_ids(own_rig)
    assert str(uuid.UUID(first)) == first == own_rig.received["events"][-1].map_id
    known = own_rig.objects[0].id
    at = {"kind": FindObject.Request.POINT, "point": own_rig.objects[0].box.position}
    assert own_rig.call(FindObject, "find_object", **at).map_id == first
    pixel = {"kind": FindObject.Request.PIXEL, "pixel": [5, 5]}
    assert own_rig.call(FindObject, "find_object", **pixel).map_id == first
    answer = own_rig.call(GetObject, "get_object", id=known, map_id=first)
    assert (answer.object.id, answer.map_id) == (known, first)
    assert own_rig.call(SaveMap, "save_map", name="first").success

    assert own_rig.call(Trigger, "reset").success
    own_rig.wait_until(lambda: len(map_ids(own_rig)) == 1 and first not in map_ids(own_rig), "another map")
    (second,) = map_ids(own_rig)
    own_rig.received["objects"].clear()
    own_rig.map_the_wall(start=next(own_rig.later))
    assert map_ids(own_rig) == {second} and known in {o.id for o in own_rig.objects}
    refused = own_rig.call(GetObject, "get_object", id=known, map_id=first)
    assert not refused.success and first in refused.message and second in refused.message
    assert own_rig.call(GetObject, "get_object", id=known).success

    assert own_rig.call(LoadMap, "load_map", name="first").success
    own_rig.wait_until(lambda: map_ids(own_rig) == {first}, "the first map again")
    assert own_rig.call(GetObject, "get_object", id=known, map_id=first).success
    assert not own_rig.call(GetObject, "get_object", id=known, map_id=second).success


def test_an_object_that_was_carried_away_is_taken_out_of_the_map(own_rig):
    (map_id,) = map_ids(own_rig)
    gone, *rest = sorted(o.id for o in own_rig.objects)
    for wrong, message in (({"id": 4711}, "no object 4711"), ({"id": gone, "map_id": "another"}, "of the map another")):
        refused = own_rig.call(RemoveObject, "remove_object", **wrong)
        assert not refused.success and message in refused.message
    own_rig.received["events"].clear()
    assert own_rig.call(RemoveObject, "remove_object", id=gone, map_id=map_id).success
    own_rig.wait_until(lambda: sorted(o.id for o in own_rig.objects) == rest, "the list without it")
    own_rig.wait_until(lambda: own_rig.received["events"], "the event")
    event = own_rig.received["events"][0]
    assert (event.type, event.id) == (ObjectEvent.RETIRE, gone)
    assert set(cloud_arrays(own_rig.received["object_cloud"][-1])[2].tolist()) == set(rest)
    assert map_ids(own_rig) == {map_id}
    assert not own_rig.call(GetObject, "get_object", id=gone).success
    assert gone not in pixels(labels_of(own_rig, send_last(own_rig)))


def test_an_empty_map_takes_the_place_of_none(own_rig):
    """As of a node that was reset, or that began without the map it should have loaded."""
    assert own_rig.call(SaveMap, "save_map", name="wall").success
    known = {o.id for o in own_rig.objects}
    assert own_rig.call(Trigger, "reset").success
    for name in ("wall", "new"):
        refused = own_rig.call(SaveMap, "save_map", name=name)
        assert not refused.success and "empty" in refused.message
    assert not own_rig.call(LoadMap, "load_map", name="new").success
    assert own_rig.call(LoadMap, "load_map", name="wall").success
    own_rig.wait_until(lambda: {o.id for o in own_rig.objects} == known, "the objects of the map that is kept")


def test_a_service_that_waits_for_the_mapper_holds_up_no_other_callback(rig):
    release = threading.Event()
    rig.mapping._pipeline.worker.submit(release.wait)
    client = rig.node.create_client(SaveMap, "lift_ros/save_map")
    try:
        saved = client.call_async(SaveMap.Request(name="late"))
        frames = rig.status.frames
        send_last(rig)
        rig.wait_until(lambda: rig.status.frames > frames, "a frame while a request waits")
        assert rig.call(ListObjects, "list_objects").objects.objects
        assert not saved.done()
        release.set()
        assert rig.wait_until(saved.done, "the map to be saved") and saved.result().success
    finally:
        release.set()
        rig.node.destroy_client(client)


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/x", "", "a/b"])
def test_names_of_maps_do_not_lead_out_of_the_directory(rig, name):
    assert not rig.call(SaveMap, "save_map", name=name).success
    assert not rig.call(LoadMap, "load_map", name=name).success


def test_a_map_is_not_saved_under_a_name_that_autosave_removes(rig):
    refused = rig.call(SaveMap, "save_map", name="kitchen.before")
    assert not refused.success and "ends in '.before'" in refused.message


def test_who_comes_late_sees_the_scene_of_now(rig):
    for subscription in [s for s in rig.node.subscriptions if s.topic_name.endswith("/scene_cloud")]:
        rig.node.destroy_subscription(subscription)
    status = len(rig.received["status"])
    rig.wait_until(lambda: len(rig.received["status"]) > status + 2, "the node to notice")
    clouds: list = []
    not_latched = QoSProfile(depth=5)
    rig.node.create_subscription(PointCloud2, "lift_ros/scene_cloud", clouds.append, not_latched)
    rig.wait_until(lambda: clouds, "the scene")
    assert 0.5 * rig.status.gaussians < clouds[-1].width <= rig.status.gaussians


def change(rig: Rig, *transitions: int) -> None:
    """As a lifecycle manager does."""
    for transition in transitions:
        assert rig.call(ChangeState, "change_state", transition=Transition(id=transition)).success


def test_an_inactive_node_looks_at_nothing_and_goes_on_afterwards(rig):
    change(rig, Transition.TRANSITION_DEACTIVATE)
    rig.wait_until(lambda: rig.status.state == Status.INACTIVE, "it to rest")
    drops, frames = rig.drops, rig.status.frames
    for _ in range(40):  # more than wait for their pose
        send_last(rig, pose=None)
    told = len(rig.received["status"])
    rig.wait_until(lambda: len(rig.received["status"]) > told + 1, "what was sent to be over")
    refused = rig.call(SetBool, "pause", data=True)
    assert not refused.success and "activate" in refused.message
    change(rig, Transition.TRANSITION_ACTIVATE)
    rig.wait_until(lambda: rig.status.state == Status.MAPPING, "it to go on")
    assert rig.drops == drops and rig.status.frames == frames
    send_last(rig)
    rig.wait_for_frames(frames + 1)


def test_pause_and_reset(own_rig):
    assert own_rig.call(SetBool, "pause", data=True).success
    own_rig.wait_until(lambda: own_rig.status.state == Status.PAUSED, "paused")
    keyframes = own_rig.status.keyframes
    labels_of(own_rig, send_last(own_rig))
    assert own_rig.status.keyframes == keyframes
    assert own_rig.call(SetBool, "pause", data=False).success
    assert own_rig.call(Trigger, "reset").success
    own_rig.wait_until(lambda: not own_rig.objects and own_rig.status.keyframes == 0, "an empty map")


def test_a_paused_node_still_warns_of_a_lost_pose_and_of_a_dead_camera():
    """Labels go on, and are the worse for it."""
    with closing(Rig(pose_timeout=0.1)) as rig:
        heard = diagnostics_of(rig)

        def told(level: bytes, words: str) -> bool:
            return any(entry.level == level and entry.message.startswith(words) for entry in heard)

        ok, warn = DiagnosticStatus.OK, DiagnosticStatus.WARN
        rig.wait_until(lambda: told(ok, "waiting for the first frame"), "diagnostics before the first frame")
        rig.send(0)
        rig.wait_until(lambda: told(ok, "mapping"), "diagnostics of a node that maps")
        assert rig.call(SetBool, "pause", data=True).success
        rig.wait_until(lambda: told(ok, "paused"), "diagnostics of a node that is paused")
        rig.send(1)  # else a busy machine may have been silent for too long by now
        rig.send(2, pose=None)
        rig.wait_until(lambda: told(warn, "paused; dropped 1 pose_missing"), "a warning of the lost pose")
        rig.wait_until(lambda: told(warn, "paused; no usable frame for "), "a warning of silence")


def test_without_poses_the_reason_is_told_as_long_as_images_are_dropped():
    """Also once no frame has come for so long that this is worth a warning of its own."""
    with closing(Rig(pose_timeout=0.1)) as rig:
        heard = diagnostics_of(rig)
        indices = itertools.count()

        def told() -> bool:
            rig.send(next(indices), pose=None)
            time.sleep(PERIOD)
            return any("no usable frame" in entry.message and "pose_missing" in entry.message for entry in heard)

        rig.wait_until(told, "both in one message")


def test_shutdown_answers_who_waits_for_the_mapper(tmp_path):
    with closing(Rig(map_directory=str(tmp_path))) as rig:
        release, begun = threading.Event(), threading.Event()
        rig.mapping._pipeline.worker.submit(lambda: begun.set() or release.wait())
        assert begun.wait(10.0)
        client = rig.node.create_client(SaveMap, "lift_ros/save_map")
        assert client.wait_for_service(10.0)
        saved = client.call_async(SaveMap.Request(name="late"))
        rig.wait_until(lambda: not rig.mapping._pipeline.worker._calls.empty(), "the request")
        threading.Timer(0.2, release.set).start()
        rig.mapping.trigger_shutdown()
        assert rig.wait_until(saved.done, "an answer")
        assert re.search("empty|deactivated", saved.result().message)  # the mapper may yet have come to it
        assert rig.call(ListObjects, "list_objects") is not None  # the executor goes on


class Stalling(TopicSegmenter):
    """Masks of another node; from ``stalls`` on it is stuck with the next keyframe until ``release``."""

    def __init__(self) -> None:
        super().__init__()
        self.stalls, self.stuck, self.release = threading.Event(), threading.Event(), threading.Event()

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        if self.stalls.is_set():
            self.stuck.set()
            self.release.wait()
        return super().segment(frame, prompts)


def test_a_mapper_that_hangs_is_left_behind_until_it_comes_back(tmp_path, monkeypatch):
    segmenter = Stalling()
    monkeypatch.setattr(mapping_node, "make_mapper_segmenter", lambda config: segmenter)
    monkeypatch.setattr(mapper_worker, "STOP_TIMEOUT", 1.0)
    others = set(threading.enumerate())

    def mappers() -> int:
        return [thread.name for thread in threading.enumerate() if thread not in others].count("mapper")

    with closing(Rig(map_directory=str(tmp_path), autosave="left")) as rig:
        heard = diagnostics_of(rig)
        try:
            rig.map_the_wall()
            known, keyframes = {o.id for o in rig.objects}, rig.status.keyframes
            segmenter.stalls.set()
            for index in range(LAST, LAST + 12):  # along the wall: one of them is a keyframe
                rig.send(index)
                time.sleep(0.05)
            assert segmenter.stuck.wait(30.0)
            client = rig.node.create_client(SaveMap, "lift_ros/save_map")
            assert client.wait_for_service(10.0)
            saved = client.call_async(SaveMap.Request(name="late"))
            rig.wait_until(lambda: not rig.mapping._pipeline.worker._calls.empty(), "the request")
            change(rig, Transition.TRANSITION_DEACTIVATE)
            assert {item["id"] for item in load_map(tmp_path / "left").objects} == known
            assert rig.wait_until(saved.done, "an answer") and "deactivated" in saved.result().message
            assert {o.id for o in rig.call(ListObjects, "list_objects").objects.objects} == known
            activate = {"transition": Transition(id=Transition.TRANSITION_ACTIVATE)}
            assert not rig.call(ChangeState, "change_state", **activate).success
            assert mappers() == 1
            hangs = "inactive; the mapper hangs"
            rig.wait_until(lambda: heard[-1].message.startswith(hangs), "diagnostics")
            assert heard[-1].level == DiagnosticStatus.WARN
            segmenter.stalls.clear()
        finally:
            segmenter.release.set()
        rig.wait_until(lambda: rig.call(ChangeState, "change_state", **activate).success, "the mapper to come back")
        assert mappers() == 1
        for index in range(LAST + 12, LAST + 24):
            rig.send(index)
            time.sleep(0.05)
        rig.wait_until(lambda: rig.status.keyframes > keyframes, "a keyframe")


def test_deactivation_does_not_wait_for_the_next_label_image():
    with closing(Rig(label_rate=0.001)) as rig:
        rig.send(0)
        rig.wait_until(lambda: rig.received["labels"], "labels")
        stop = threading.Thread(target=rig.mapping.trigger_deactivate)
        stop.start()
        stop.join(60.0)  # of 1000 s
        assert not stop.is_alive()


def test_the_first_objects_do_not_wait_for_a_period():
    """One view shows none; with the second they are there."""
    with closing(Rig(map_period=3600.0, pose_timeout=10.0)) as rig:
        for start in (1000.0, 1010.0):  # of one map, and of the next
            for index in range(6):
                rig.send(index, start)
                time.sleep(0.1)
            rig.wait_until(lambda: rig.objects, "objects")
            assert rig.call(Trigger, "reset").success
            rig.wait_until(lambda: not rig.objects, "the empty map")


def test_what_was_published_before_the_node_came_is_heard_where_durability_says_so():
    topic, policies = "/once/camera_info", {"durability": "transient_local", "reliability": "reliable"}
    overrides = {f"qos_overrides.{topic}.subscription.{policy}": value for policy, value in policies.items()}
    with closing(Rig(activate=False, camera_info_topic=topic, **overrides)) as rig:
        latched = rig.node.create_publisher(CameraInfo, topic, LATCHED)
        latched.publish(camera_info_message(rig.header(0), wall.CAMERA))
        time.sleep(0.2)
        rig.mapping.trigger_configure()
        rig.mapping.trigger_activate()
        rig.wait_until(lambda: rig.images.get_subscription_count() and rig.received["status"], "the node")
        rig.send(0, info=None)
        rig.wait_for_frames(1)


def test_the_qos_of_subscriptions_can_be_overridden():
    name = "qos_overrides./quality/image.subscription.reliability"
    node = MappingNode(parameter_overrides=[Parameter(name, value="reliable")], namespace="quality")
    try:
        for _ in range(2):
            node.trigger_configure()
            found = {
                topic: node.get_subscriptions_info_by_topic(f"/quality/{topic}")[0].qos_profile.reliability
                for topic in ("image", "camera_info")
            }
            best_effort, reliable = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE
            assert found == {"image": reliable, "camera_info": best_effort}
            node.trigger_cleanup()
    finally:
        node.destroy_node()


@pytest.mark.parametrize("transition", ["activate", "deactivate"])
def test_a_transition_that_fails_says_why_and_leaves_nothing_behind(transition, monkeypatch, capfd):
    node = MappingNode(
        parameter_overrides=[Parameter("masks.segmenter", value="graph"), Parameter("depth_topic", value="")],
        namespace="halfway",
    )
    kinds = ("publishers", "subscriptions", "services", "timers")
    before = {kind: len(list(getattr(node, kind))) for kind in kinds}
    try:
        for _ in range(2):
            assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS
            with monkeypatch.context() as failing:
                if transition == "deactivate":
                    assert node.trigger_activate() is TransitionCallbackReturn.SUCCESS
                failing.setattr(node._pipeline.outputs, "publish_map", None)
                failing.setattr(node._pipeline.labeller, "stop", None)
                getattr(node, f"trigger_{transition}")()
            assert {kind: len(list(getattr(node, kind))) for kind in kinds} == before
    finally:
        node.destroy_node()
    said = capfd.readouterr().err
    assert f"cannot {transition}" in said and "NoneType" in said


def test_diagnostics_name_the_topics_that_nobody_publishes_or_not_as_expected():
    with closing(Rig(depth_topic="range/compressedDepth", masks_topic="segments")) as rig:
        space = rig.mapping.get_namespace()
        context = rclpy.Context()  # one process may not have two types on a topic
        rclpy.init(context=context)
        other = rclpy.create_node("other", namespace=space, context=context)
        other.create_publisher(PointCloud2, "range/compressedDepth", 1)
        heard, words = diagnostics_of(rig), "nobody publishes"
        found = rig.wait_until(lambda: [entry for entry in heard if words in entry.message], "a warning of silence")
        told = found[0].message
        assert f"nobody publishes {space}/segments" in told and "camera_info" not in told
        kinds = "sensor_msgs/msg/PointCloud2, not sensor_msgs/msg/CompressedImage"
        assert f"{space}/range/compressedDepth is {kinds}" in told
        other.destroy_node()
        rclpy.shutdown(context=context)


def test_images_are_subscribed_to_as_they_are_published_whatever_the_name_of_their_topic():
    """Also where the node cannot know it yet when it subscribes."""
    with closing(Rig(depth_topic="range_compressed")) as rig:
        context = rclpy.Context()  # one process may not have two types on a topic
        rclpy.init(context=context)
        camera = rclpy.create_node("camera", namespace=rig.mapping.get_namespace(), context=context)
        ranges = camera.create_publisher(CompressedImage, "range_compressed", 10)
        rig.wait_until(ranges.get_subscription_count, "the node to find out", timeout=60.0)
        header, png = rig.header(0), cv2.imencode(".png", (1000 * wall.depth()).astype(np.uint16))[1]
        rig.send(0, depth=None)
        ranges.publish(CompressedImage(header=header, format="16UC1; png", data=png.tobytes()))
        rig.wait_for_frames(1)
        camera.destroy_node()
        rclpy.shutdown(context=context)


def test_a_subscription_that_fails_is_told_and_tried_again():
    """One process may not have two types on a topic: here another node of it holds on to the wrong one."""
    with closing(Rig(depth_topic="range")) as rig:
        heard = diagnostics_of(rig)
        in_the_way = rig.node.create_subscription(Image, "range", lambda _: None, 1)
        context = rclpy.Context()
        rclpy.init(context=context)
        camera = rclpy.create_node("camera", namespace=rig.mapping.get_namespace(), context=context)
        ranges = camera.create_publisher(CompressedImage, "range", 10)
        words = f"cannot subscribe to {rig.mapping.get_namespace()}/range as sensor_msgs/msg/CompressedImage"
        told = rig.wait_until(lambda: [entry for entry in heard if words in entry.message], "a warning", timeout=60.0)
        assert told[0].level == DiagnosticStatus.WARN
        rig.node.destroy_subscription(in_the_way)
        rig.wait_until(ranges.get_subscription_count, "the node to try again", timeout=60.0)
        heard.clear()
        rig.wait_until(lambda: len(heard) > 1, "diagnostics")
        assert words not in heard[-1].message
        camera.destroy_node()
        rclpy.shutdown(context=context)


def test_masks_are_subscribed_to_as_they_are_published_though_frames_come_already():
    with closing(Rig(masks_topic="segments")) as rig:
        rig.send(0, masks=None)
        rig.wait_for_frames(1)
        context = rclpy.Context()
        rclpy.init(context=context)
        other = rclpy.create_node("segmenter", namespace=rig.mapping.get_namespace(), context=context)
        masks = other.create_publisher(CompressedImage, "segments", 10)
        rig.wait_until(masks.get_subscription_count, "the node to find out", timeout=60.0)
        other.destroy_node()
        rclpy.shutdown(context=context)


def test_a_map_that_an_error_left_halfway_is_gone_on_with_as_it_was_published_last(own_rig, monkeypatch):
    before = {o.id for o in own_rig.objects}
    broken = own_rig.mapping._pipeline.worker.mapper

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(broken._registry, "edit", full)
    for index in range(LAST, LAST + 12):  # along the wall: one of them brings Gaussians
        own_rig.send(index)
        time.sleep(0.05)
    own_rig.wait_until(lambda: own_rig.mapping._pipeline.worker.mapper is not broken, "an error")
    own_rig.wait_for_drop("internal_error")
    own_rig.wait_until(lambda: {o.id for o in own_rig.objects} >= before, "the objects there were")
    assert own_rig.call(SaveMap, "save_map", name="rescued").success
