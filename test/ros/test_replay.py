"""The bag player, and the whole way: a bag through the node in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from data.recorder import write_bag
from rclpy.qos import DurabilityPolicy
from rclpy.serialization import serialize_message
from ros import wall
from ros.rig import LATCHED, Rig, transform
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lift_ros.data.bag_topics import BagOptions
from lift_ros.errors import DatasetError
from lift_ros.frame import Frame
from lift_ros.msg import ObjectArray
from lift_ros.ros import play_bag
from lift_ros.ros.bag_parameters import replay_parameters
from lift_ros.ros.play_bag import CLOCK_PERIOD, Player
from lift_ros.srv import SaveMap


def frames(count=10):
    for index in range(count):
        T = np.eye(4)
        T[:3, 3] = wall.position(index)
        yield Frame(wall.image(index), wall.CAMERA, T, 1000.0 + 0.1 * index, wall.depth(), str(index))


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bag") / "wall"
    write_bag(path, frames())
    return path


def spawn(module, *arguments):
    # not from here, where Python would find the sources rather than what is installed
    return subprocess.Popen([sys.executable, "-m", module, *map(str, arguments)], cwd=tempfile.gettempdir())


def stop(process):
    process.send_signal(signal.SIGINT)
    return process.wait(30)


def test_what_a_bag_holds(bag):
    found = replay_parameters(bag, BagOptions())
    assert set(found) == {"image_topic", "camera_info_topic", "depth_topic", "pose_source", "world_frame"}
    assert found["pose_source"] == "tf"
    assert found["image_topic"].endswith("compressed") and found["depth_topic"].endswith("compressedDepth")
    assert replay_parameters(bag, BagOptions(depth_topic="none"))["depth_topic"] == ""


def test_the_command_says_what_a_bag_holds(bag, tmp_path):
    """The launch file asks it: launch may run in a Python without what this package needs."""
    command = [sys.executable, "-m", "lift_ros.ros.bag_parameters"]
    done = subprocess.run([*command, str(bag), "--depth_topic=none"], capture_output=True, text=True)
    assert json.loads(done.stdout) == replay_parameters(bag, BagOptions(depth_topic="none"))
    failed = subprocess.run([*command, str(tmp_path / "nothing")], capture_output=True, text=True)
    assert failed.returncode == 2 and "nothing" in failed.stderr and "Traceback" not in failed.stderr


def test_no_bag(tmp_path):
    with pytest.raises(DatasetError, match="nothing"):
        replay_parameters(tmp_path / "nothing", BagOptions())


@pytest.mark.parametrize("name", ["kitchen_100_mcap", "tabletop25_60_sqlite3"])
def test_real_bags(captured, name):
    found = replay_parameters(captured(f"bags/{name}"), BagOptions())
    assert found["image_topic"] == "/camera/color/image_raw/compressed"
    assert found["depth_topic"] == "/camera/depth/image_raw/compressedDepth"


def test_every_message_is_played_in_order_with_the_clock(bag):
    found = replay_parameters(bag, BagOptions())
    node = rclpy.create_node("audience")
    images, transforms, clock = [], [], []
    node.create_subscription(CompressedImage, found["image_topic"], images.append, 100)  # reliable: none may get lost
    node.create_subscription(TFMessage, "/tf", transforms.append, 100)
    node.create_subscription(TFMessage, "/tf_static", transforms.append, LATCHED)
    node.create_subscription(Clock, "/clock", clock.append, 1000)
    player = spawn("lift_ros.ros.play_bag", bag, "--rate", 2.0, "--wait", 20)
    try:
        deadline = time.monotonic() + 60
        while player.poll() is None and time.monotonic() < deadline:
            rclpy.spin_once(node, timeout_sec=0.1)
        for _ in range(20):
            rclpy.spin_once(node, timeout_sec=0.05)
        assert player.returncode == 0
    finally:
        player.kill()
        node.destroy_node()
    stamps = [m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in images]
    np.testing.assert_allclose(stamps, 1000.0 + 0.1 * np.arange(10), atol=1e-6)
    assert len(transforms) >= 10
    times = [m.clock.sec + m.clock.nanosec / 1e9 for m in clock]
    assert times == sorted(times) and len(times) > 5
    assert times[0] >= 1000.0 and times[-1] >= 1000.85  # later on a busy machine


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_player_in_the_middle_of_a_bag(bag, how):
    player = subprocess.Popen(
        [sys.executable, "-m", "lift_ros.ros.play_bag", str(bag), "--rate", "0.01", "--wait", "0"],
        cwd=tempfile.gettempdir(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in player.stderr:
            if "nobody listens" in line:
                break
        time.sleep(0.5)
        player.send_signal(how)
        rest = player.communicate(timeout=30)[1]
        assert player.returncode == 0 and "Traceback" not in rest
    finally:
        player.kill()


def test_topics_of_an_unknown_type_or_of_a_mapping_node_are_left_out():
    class Bag:
        types = {
            "/odd": "no_such_msgs/msg/Thing",
            **dict.fromkeys(("/picture", "/lift_ros/labels", "/robot1/lift_ros/labels"), "sensor_msgs/msg/Image"),
        }
        counts = dict.fromkeys(types, 1)

    player = Player(Bag())
    try:
        assert [t for t, kinds in player.get_topic_names_and_types() if t == "/odd"] == []
        assert player.count_publishers("/picture") == 1
        assert player.count_publishers("/lift_ros/labels") == player.count_publishers("/robot1/lift_ros/labels") == 0
    finally:
        player.destroy_node()


def test_the_clock_ticks_no_faster_the_more_messages_there_are(monkeypatch):
    """Each tick wakes every node. Time passes where the player sleeps, and nowhere else."""
    now = 50.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + 1e-4  # a little too long, as sleep is: else rounding may leave a time that is never over

    class Bag:
        types = {"/clicks": "std_msgs/msg/Header"}
        counts = {"/clicks": 500}

        def raw_messages(self, topics):
            return (("/clicks", 10**6 * index, serialize_message(Header())) for index in range(500))

    player = Player(Bag())
    ticks = []
    player._clock.publish = ticks.append
    monkeypatch.setattr(play_bag, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    try:
        assert player.play(1.0) == 500
        assert len(ticks) == pytest.approx(0.499 / CLOCK_PERIOD + 2, abs=1)  # one at the beginning, and at the end
        times = [tick.clock.sec * 10**9 + tick.clock.nanosec for tick in ticks]
        assert times == sorted(times) and times[-1] >= 499 * 10**6  # nothing ends before the clock is there
    finally:
        player.destroy_node()


@contextmanager
def clock_of(bag):
    """A player of ``bag``, and what tells the seconds that somebody hears who listens to the clock alone."""
    heard = []
    node = rclpy.create_node("audience")
    node.create_subscription(Clock, "/clock", lambda message: heard.append(message.clock.sec), 10)
    player = Player(bag)

    def hear(count):
        deadline = time.monotonic() + 10
        while len(heard) < count and time.monotonic() < deadline:
            rclpy.spin_once(node, timeout_sec=0.1)
        rclpy.spin_once(node, timeout_sec=0.2)
        return heard

    try:
        deadline = time.monotonic() + 10
        while not player.count_subscribers("/clock") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not player.wait_for_subscribers(0.5), "who hears the clock alone is no audience"
        yield player, hear
    finally:
        player.destroy_node()
        node.destroy_node()


def test_a_recorded_clock_is_played_and_no_other():
    class Bag:
        types = {"/clock": "rosgraph_msgs/msg/Clock", "/picture": "sensor_msgs/msg/Image"}
        counts = {"/clock": 3, "/picture": 0}

        def raw_messages(self, topics):
            for second in (7, 8, 9):  # a simulator's time, recorded at another
                yield "/clock", int(1.7e18) + second * 10**7, serialize_message(Clock(clock=Time(sec=second)))

    with clock_of(Bag()) as (player, hear):
        assert player.play(1.0) == 3
        assert hear(3) == [7, 8, 9]


def test_a_clock_that_was_recorded_without_a_message_is_replaced():
    class Bag:
        types = {"/clock": "rosgraph_msgs/msg/Clock", "/picture": "sensor_msgs/msg/Image"}
        counts = {"/clock": 0, "/picture": 1}

        def raw_messages(self, topics):
            yield "/picture", 10**18, serialize_message(Image())

    with clock_of(Bag()) as (player, hear):
        assert player.count_publishers("/clock") == 1
        assert player.play(1.0) == 1
        assert min(hear(1)) == 10**9


def test_a_file_that_is_no_bag_ends_the_player_with_an_error(tmp_path):
    (tmp_path / "x.mcap").write_bytes(b"no bag")
    done = subprocess.run(
        [sys.executable, "-m", "lift_ros.ros.play_bag", str(tmp_path / "x.mcap")], capture_output=True, text=True
    )
    assert done.returncode == 1 and "x.mcap" in done.stderr and "Traceback" not in done.stderr


def test_a_bag_through_the_node_to_a_saved_map(bag, tmp_path):
    found = replay_parameters(bag, BagOptions())
    values = {
        **found,
        "map_directory": tmp_path,
        "mapping.image_width": 160,
        "mapping.device": "cpu",
        "use_sim_time": True,
    }
    arguments = [item for name, value in values.items() for item in ("-p", f"{name}:={value}")]
    mapping = spawn("lift_ros.ros.mapping_node", "--ros-args", *arguments)
    # slowly: a topic may be found late on a busy machine, and the labels of a short bag would be over by then
    player = spawn("lift_ros.ros.play_bag", bag, "--wait", 60, "--rate", 0.02)
    node = rclpy.create_node("planner")
    labels, objects = [], []
    node.create_subscription(Image, "/lift_ros/labels", labels.append, 100)
    node.create_subscription(ObjectArray, "/lift_ros/objects", objects.append, LATCHED)
    client = node.create_client(SaveMap, "/lift_ros/save_map")
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (labels and objects):
            assert mapping.poll() is None, "the node ended"
            rclpy.spin_once(node, timeout_sec=0.1)
        assert labels, "no labels"
        assert objects, "no objects"
        assert client.wait_for_service(10)
        future = client.call_async(SaveMap.Request(name="wall"))
        rclpy.spin_until_future_complete(node, future, timeout_sec=60)
        assert future.result().success, future.result().message
        assert (tmp_path / "wall" / "scene.ply").stat().st_size > 1000
        assert stop(mapping) == 0
    finally:
        for process in (mapping, player):
            process.kill()
        node.destroy_node()


def test_a_clock_that_wavers_clears_nothing():
    rig = Rig(use_sim_time=True, pose_timeout=10.0)
    try:
        clock = rig.node.create_publisher(Clock, "/clock", 10)
        rig.wait_until(clock.get_subscription_count, "the clock's subscription")
        rig.send(0, pose=None)  # waits for its pose
        for nanosec in (900_000_000, 800_000_000):
            time.sleep(0.1)
            clock.publish(Clock(clock=Time(sec=100, nanosec=nanosec)))
        time.sleep(0.2)
        rig.tf.publish(TFMessage(transforms=[transform(rig.header(0), wall.position(0))]))
        rig.wait_for_frames(1)
        assert "time_jump" not in rig.drops
    finally:
        rig.close()


def test_a_clock_that_starts_over_clears_what_waits():
    rig = Rig(use_sim_time=True)
    try:
        clock = rig.node.create_publisher(Clock, "/clock", 10)
        rig.wait_until(clock.get_subscription_count, "the clock's subscription")
        rig.send(0, pose=None)  # waits for its pose
        for seconds in (100, 50):
            time.sleep(0.1)
            message = Clock()
            message.clock.sec = seconds
            clock.publish(message)
        rig.map_the_wall(start=50.0)
        assert rig.drops.get("stamp_not_increasing", 0) == 0
    finally:
        rig.close()


def test_the_player_waits_for_who_listens_to_the_topic_that_it_is_told():
    """Nodes listen to what they all share, and others to their topics, before the one that is waited for does."""

    class Bag:
        types = {
            **dict.fromkeys(("/waited/picture", "/waited/other"), "std_msgs/msg/Header"),
            "/parameter_events": "rcl_interfaces/msg/ParameterEvent",
            "/rosout": "rcl_interfaces/msg/Log",
        }
        counts = dict.fromkeys(types, 1)

    player, listener = Player(Bag()), rclpy.create_node("listener")
    try:
        assert "/rosout" not in player._topics and "/parameter_events" not in player._topics
        listener.create_subscription(Header, "/waited/other", lambda _: None, 1)
        assert player.wait_for_subscribers(10.0)
        assert not player.wait_for_subscribers(1.0, "/waited/picture")
        listener.create_subscription(Header, "/waited/picture", lambda _: None, 1)
        assert player.wait_for_subscribers(10.0, "/waited/picture")
    finally:
        listener.destroy_node()
        player.destroy_node()


def test_transforms_in_a_namespace_are_transforms():
    class Bag:
        types = dict.fromkeys(("/robot1/tf_static", "/robot1/tf"), "tf2_msgs/msg/TFMessage")
        counts = dict.fromkeys(types, 1)

    player, listener = Player(Bag()), rclpy.create_node("listener")
    try:
        (static,) = player.get_publishers_info_by_topic("/robot1/tf_static")
        assert static.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        listener.create_subscription(TFMessage, "/robot1/tf", lambda _: None, 1)
        assert not player.wait_for_subscribers(1.0)
    finally:
        listener.destroy_node()
        player.destroy_node()


def test_a_topic_to_wait_for_that_is_not_in_the_bag_is_an_error(bag):
    command = [sys.executable, "-m", "lift_ros.ros.play_bag", str(bag), "--wait-for", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "/nowhere" in done.stderr
