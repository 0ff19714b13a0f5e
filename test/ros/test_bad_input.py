"""Input that cannot be used: a counted drop or a clear answer, the node alive, the map kept."""

from __future__ import annotations

import math
import resource
import signal
import threading
import time

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros import wall
from ros.rig import Rig, image_message, transform
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lift_ros.camera import Camera
from lift_ros.ros import frame_builder
from lift_ros.ros.conversions import camera_info_message
from lift_ros.ros.mapping_node import MappingNode
from lift_ros.srv import FindObject, LoadMap, SaveMap


@pytest.fixture
def make_rig():
    """Rigs that are closed at the end of the test."""
    rigs = []

    def make(**overrides):
        rigs.append(Rig(**overrides))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A node with a map, for input that must not harm it."""
    rig = Rig(map_directory=str(tmp_path_factory.mktemp("maps")))
    rig.map_the_wall()
    rig.next = 12
    yield rig
    rig.close()


def send(rig: Rig, **what) -> int:
    """Send the next frame with something about it replaced."""
    index, rig.next = rig.next, rig.next + 1
    what = {name: value(rig.header(index)) if callable(value) else value for name, value in what.items()}
    rig.send(index, **what)
    return index


def assert_goes_on(rig: Rig) -> None:
    """The map is still there and good frames are used."""
    objects, frames = {o.id for o in rig.objects}, rig.status.frames

    def taken() -> bool:
        send(rig)
        time.sleep(0.3)
        return rig.status.frames > frames

    rig.wait_until(taken, "a good frame")
    assert len(objects) >= 3 and {o.id for o in rig.objects} >= objects


def other_size(header):
    return camera_info_message(header, Camera(320, 240, 300.0, 300.0, 160.0, 120.0))


def uncalibrated(header):
    info = camera_info_message(header, wall.CAMERA)
    info.k = np.zeros(9)
    return info


def truncated(header):
    message = image_message(header, "rgb8", wall.image(0))
    message.data = message.data[:1000]
    return message


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("image_encoding", {"image": lambda header: image_message(header, "rainbow", wall.image(0))}),
        ("image_truncated", {"image": truncated}),
        ("image_size", {"info": other_size}),
        ("camera_info", {"info": uncalibrated}),
        ("depth_encoding", {"depth": lambda header: image_message(header, "8UC3", wall.image(0))}),
        ("depth_size", {"depth": lambda header: image_message(header, "32FC1", wall.depth()[:60])}),
        ("depth_missing", {"depth": None}),
        ("pose_missing", {"pose": None}),
        ("pose_far", {"pose": lambda header: transform(header, (5e5, 4.2e6, 0.0), (0.0, 0.0, 0.0, 1.0))}),
    ],
)
def test_a_frame_that_cannot_be_used_is_counted_by_reason(mapped, reason, what):
    before = mapped.drops.get(reason, 0)
    send(mapped, **what)
    mapped.wait_until(lambda: mapped.drops.get(reason, 0) > before, f"a drop '{reason}'")
    assert_goes_on(mapped)


def test_a_flood_of_one_reason_hides_no_other_in_the_log(make_rig, capfd):
    rig = make_rig()
    for index in range(10):
        header = rig.header(index)
        rare = image_message(header, "rainbow", wall.image(0))
        rig.send(index, image=rare if index == 5 else truncated(header))
        time.sleep(0.05)
    rig.wait_until(lambda: rig.drops.get("image_truncated") == 9 and rig.drops.get("image_encoding") == 1, "the drops")
    lines = capfd.readouterr().err.splitlines()
    assert sum("image dropped (image_encoding)" in line for line in lines) == 1
    assert sum("image dropped (image_truncated)" in line for line in lines) < 9


@pytest.mark.parametrize("value", [math.nan, 0.0, -1.0, math.inf, 1e6])
def test_depth_that_is_no_distance_counts_as_unknown(mapped, value):
    frames, unusable = mapped.status.frames, mapped.drops.get("depth_unusable", 0)
    send(mapped, depth=lambda header: image_message(header, "32FC1", np.full_like(wall.depth(), value)))
    mapped.wait_for_frames(frames + 1)
    assert mapped.drops["depth_unusable"] == unusable + 1
    assert_goes_on(mapped)


def test_a_transform_that_is_no_rotation_gives_no_pose(mapped):
    for bad in ((math.nan, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0)):
        before = mapped.drops.get("pose_missing", 0)
        send(mapped, pose=lambda header, bad=bad: transform(header, (1.0, 0.0, 0.0), bad))
        mapped.wait_until(lambda before=before: mapped.drops.get("pose_missing", 0) > before, "a missing pose")
    assert_goes_on(mapped)


def test_times_before_1970(mapped):
    header = Header(stamp=Time(sec=-7), frame_id="camera")
    mapped.tf.publish(TFMessage(transforms=[transform(header, (1.0, 0.0, 0.0))]))
    mapped.tf_static.publish(TFMessage(transforms=[transform(header, (1.0, 0.0, 0.0), child="lamp")]))
    assert_goes_on(mapped)
    answer = mapped.call(FindObject, "find_object", kind=FindObject.Request.POINT, header=header)
    assert not answer.success and "no pose of 'camera' in 'map'" in answer.message


def test_a_pose_that_comes_late_is_waited_for(mapped):
    frames, lost = mapped.status.frames, mapped.drops.get("pose_missing", 0)
    index = send(mapped, pose=None)
    time.sleep(0.2)
    mapped.tf.publish(TFMessage(transforms=[transform(mapped.header(index), wall.position(index))]))
    mapped.wait_for_frames(frames + 1)
    assert mapped.drops.get("pose_missing", 0) == lost


def test_black_images_and_empty_masks(mapped):
    frames = mapped.status.frames
    send(mapped, image=lambda header: image_message(header, "rgb8", np.zeros_like(wall.image(0))))
    send(mapped, masks=lambda header: image_message(header, "mono16", np.zeros_like(wall.labels(0))))
    mapped.wait_for_frames(frames + 2)
    assert_goes_on(mapped)


def test_masks_of_an_unknown_encoding(mapped):
    send(mapped, masks=lambda header: image_message(header, "64FC1", np.zeros((120, 160))))
    mapped.wait_for_drop("labels_encoding")
    assert_goes_on(mapped)


@pytest.mark.parametrize("decoder", ["message_rgb", "message_labels"])
def test_of_what_nobody_expected_the_log_has_the_traceback(make_rig, monkeypatch, capfd, decoder):
    """Images are decoded in the thread that makes frames, masks in the executor's."""

    def choking_decoder(message):
        raise RuntimeError("no such picture")

    rig = make_rig()
    monkeypatch.setattr(frame_builder, decoder, choking_decoder)
    rig.send(0)
    rig.wait_for_drop("internal_error")
    said = capfd.readouterr().err
    assert "Traceback" in said and "in choking_decoder" in said and "RuntimeError: no such picture" in said
    monkeypatch.undo()
    rig.send(1)
    rig.wait_until(lambda: rig.status.keyframes, "a keyframe")


def test_depth_on_the_topic_of_the_masks(make_rig):
    rig = make_rig()
    values = np.arange(wall.labels(0).size, dtype=np.uint16).reshape(wall.labels(0).shape)
    rig.send(0, masks=image_message(rig.header(0), "16UC1", values))
    rig.wait_for_drop("masks_too_many")
    assert rig.status.keyframes == 0
    rig.send(1)
    rig.wait_until(lambda: rig.status.keyframes, "a keyframe")


def test_an_image_older_than_the_last_one(mapped):
    frames = mapped.status.frames
    send(mapped)
    mapped.wait_for_frames(frames + 1)
    mapped.send(mapped.next - 2)
    mapped.wait_for_drop("stamp_not_increasing")
    assert_goes_on(mapped)


def test_a_full_disk_while_saving(mapped, tmp_path):
    assert mapped.call(SaveMap, "save_map", name="good").success
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        answer = mapped.call(SaveMap, "save_map", name="good")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not answer.success and "good" in answer.message
    assert mapped.call(LoadMap, "load_map", name="good").success, "the map saved before is damaged"
    assert_goes_on(mapped)


def test_a_corrupt_map_is_not_loaded(mapped):
    saved = mapped.call(SaveMap, "save_map", name="corrupt")
    with open(f"{saved.path}/scene.ply", "r+b") as file:
        file.seek(400)
        file.write(b"\xff" * 64)
    answer = mapped.call(LoadMap, "load_map", name="corrupt")
    assert not answer.success and "scene.ply" in answer.message
    missing = mapped.call(LoadMap, "load_map", name="nowhere")
    assert not missing.success and "nowhere" in missing.message
    assert_goes_on(mapped)


def test_time_that_jumps_back_clears_the_buffers_and_keeps_the_map(mapped):
    objects = {o.id for o in mapped.objects}
    frames = mapped.status.frames
    start = 500.0
    for index in range(4):
        mapped.send(index, start)
        time.sleep(0.1)
    mapped.wait_for_drop("time_jump")
    # transforms of the first two frames may have been cleared with those of the old time
    mapped.wait_for_frames(frames + 2)
    assert {o.id for o in mapped.objects} >= objects


@pytest.mark.parametrize(
    ("source", "child_frame", "pose_frame"),
    [
        ("odometry", "base", ""),
        ("odometry", "wheels", "base"),
        ("pose", "", ""),
        ("pose", "", "base"),
        ("pose_with_covariance", "", ""),
    ],
)
def test_poses_from_a_topic(make_rig, source, child_frame, pose_frame):
    """Of the camera, or of a base on which the camera is mounted 1 m ahead, along x, and 0.5 m down, along y.

    Odometry is given in a frame that is 2 m above the map's, along y.
    """
    rig = make_rig(pose_source=source, pose_topic=source, pose_frame=pose_frame)
    ahead, down = (1.0, 0.5) if child_frame or pose_frame else (0.0, 0.0)
    parent, above = ("odom", 2.0) if source == "odometry" else ("map", 0.0)
    mounted = transform(rig.header(0), (1.0, 0.5, 0.0), parent="base")
    started = transform(rig.header(0), (0.0, -2.0, 0.0), child="odom")
    rig.tf_static.publish(TFMessage(transforms=[mounted, started]))

    def publish(index, position, **when):
        publisher = rig.pose_sources[source]
        message = publisher.msg_type(header=rig.header(index, **when))
        message.header.frame_id = parent
        if child_frame:
            message.child_frame_id = child_frame
        pose = message.pose if source == "pose" else message.pose.pose
        x, y, z = position
        pose.position.x, pose.position.y, pose.position.z = x - ahead, y - down + above, z
        pose.orientation.w = 1.0
        publisher.publish(message)

    publish(0, (math.nan, 0.0, 0.0))
    rig.send(0, pose=None)
    rig.wait_for_drop("pose_not_finite")
    rig.wait_for_drop("pose_missing")
    for index in range(1, 8):
        publish(index, wall.position(index))
        if index == 4:
            publish(index, (0.0, 0.0, 0.0), start=5000.0)
        rig.send(index, pose=None)
        time.sleep(0.05)
    rig.wait_for_frames(7)
    assert rig.wait_for_drop("pose_astray") == 1
    rig.wait_until(lambda: len(rig.objects) >= 2, "objects")
    column, row, width, height = wall.RECTANGLES[1]
    x = (column + width / 2 - wall.CAMERA.cx) * wall.DISTANCE / wall.CAMERA.fx
    y = (row + height / 2 - wall.CAMERA.cy) * wall.DISTANCE / wall.CAMERA.fy
    assert min(math.hypot(o.centroid.x - x, o.centroid.y - y) for o in rig.objects) < 0.15


def test_poses_are_not_lost_while_the_node_is_held_up(make_rig):
    """Half a second of odometry at 200 Hz: pose of the first image would be missing."""
    rig = make_rig(pose_source="odometry", pose_topic="odometry", pose_frame="camera", pose_timeout=0.1)
    release = threading.Event()
    rig._executor.create_task(lambda: release.wait(30.0))
    try:
        time.sleep(0.2)  # for the executor to come to it
        for number in range(90):
            message = Odometry(header=rig.header(number))
            message.header.frame_id, message.pose.pose.orientation.w = "map", 1.0
            rig.pose_sources["odometry"].publish(message)
            time.sleep(0.005)
    finally:
        release.set()
    rig.send(0, pose=None)
    rig.wait_for_frames(1)


def test_images_that_are_rectified_already_are_taken_as_they_are(make_rig):
    """camera_info then says two things: K and the distortion of the lens, and P of the images."""
    rig = make_rig(rectified=True)
    info = camera_info_message(rig.header(0), wall.CAMERA)
    info.k = np.array([140.0, 0.0, 75.0, 0.0, 140.0, 55.0, 0.0, 0.0, 1.0])
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    rig.send(0, info=info)
    rig.wait_until(lambda: rig.received["camera_info"] and rig.received["overlay"], "labels")
    np.testing.assert_allclose(rig.received["camera_info"][0].k, info.p.reshape(3, 4)[:, :3].ravel())
    np.testing.assert_array_equal(np.array(rig.received["overlay"][0].data), wall.image(0).ravel())  # nothing known yet


def test_a_camera_whose_messages_name_another_frame_keeps_its_depth(make_rig):
    """As simulators do: images and depth are stamped with a body frame, and seen from an optical one."""
    rig = make_rig(camera_frame="optical")
    for index in range(3):
        rig.send(index, pose=transform(rig.header(index), wall.position(index), child="optical"))
        time.sleep(0.05)
    rig.wait_for_frames(3)
    assert "depth_not_registered" not in rig.drops
    for name in ("labels", "camera_info"):  # who projects them with TF must get what the pose was of
        rig.wait_until(lambda name=name: rig.received[name], name)
        assert rig.received[name][-1].header.frame_id == "optical"


def test_depth_of_another_camera_is_left_out_and_counted(make_rig):
    rig = make_rig()
    depth = image_message(rig.header(0), "32FC1", wall.depth())
    depth.header.frame_id = "infrared"
    rig.send(0, depth=depth)
    rig.wait_for_drop("depth_not_registered")
    rig.wait_for_frames(1)


def test_camera_info_that_never_comes(make_rig):
    rig = make_rig(pose_timeout=0.1)
    rig.send(0, info=None)
    rig.wait_for_drop("camera_info_missing")


def test_an_image_without_a_stamp_gets_no_pose(make_rig):
    """TF takes the time 0 for the latest."""
    rig = make_rig()
    rig.send(0, start=0.0)
    rig.wait_for_drop("stamp_missing")
    assert rig.status.frames == 0


def test_what_waits_is_counted_when_the_node_stops(make_rig):
    rig = make_rig(pose_timeout=10.0)
    for index in range(3):
        rig.send(index, pose=None)
    rig.wait_until(lambda: rig.status.frame_queue == 2, "two images in the queue and one at work")
    rig.mapping.trigger_deactivate()
    rig.wait_until(lambda: rig.drops.get("stopped") == 3, "three drops")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"masks_topic": ""}, "masks_topic"),
        ({"image_topic": "no topic"}, "'no topic'"),
        ({"masks_topic": "no topic"}, "'no topic'"),
        ({"world_frame": ""}, "world_frame"),
        ({"world_frame": "/map"}, "'/map'"),
        ({"qos_overrides./failing/image.subscription.reliability": "good"}, "`good`"),
        ({"qos_overrides./failing/image.subscription.depth": "many"}, "qos_overrides"),
        ({"qos_overrides./failing/image.subscription.depth": -1}, "'image'"),
    ],
    ids=str,
)
def test_a_configuration_that_fails_says_why_and_leaves_nothing_behind(overrides, reason, capfd):
    parameters = {"masks.segmenter": "topic", "masks_topic": "masks", **overrides}
    node = MappingNode(
        parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()], namespace="failing"
    )
    try:
        kinds = ("publishers", "subscriptions", "services", "timers")
        before = {kind: len(list(getattr(node, kind))) for kind in kinds}
        for _ in range(2):
            assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
            assert {kind: len(list(getattr(node, kind))) for kind in kinds} == before
    finally:
        node.destroy_node()
    said = capfd.readouterr().err
    assert reason in said and "Traceback" not in said


def test_an_opencv_without_what_the_segmenter_needs_is_found_out_when_the_node_is_configured(monkeypatch, capfd):
    monkeypatch.delattr(cv2, "ximgproc")
    node = MappingNode(parameter_overrides=[Parameter("masks.segmenter", value="graph")], namespace="failing")
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
    finally:
        node.destroy_node()
    said = capfd.readouterr().err
    assert "opencv-contrib-python-headless" in said and "Traceback" not in said


def test_a_map_to_start_from_that_is_not_there(make_rig, tmp_path):
    node = MappingNode(
        parameter_overrides=[Parameter("load_map", value="gone"), Parameter("map_directory", value=str(tmp_path))]
    )
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
    finally:
        node.destroy_node()
