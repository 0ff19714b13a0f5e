"""Plays a rosbag2 recording (mcap or sqlite3, also one that was cut off) with /clock: a simulator's if it was recorded,
else the time of recording. Needs no rosbag2. Images, camera info, odometry and transforms are played, and what else is
named: commands and goals would move a robot that listens."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock

from lift_ros.data.bag_file import BagFile
from lift_ros.data.bag_topics import IMAGE_TYPES, INFO_TYPE
from lift_ros.errors import DatasetError

CLOCK_PERIOD = 0.04  # s of wall time; each tick wakes the executor of every node, some ms of Python each
ACK_TIMEOUT = Duration(seconds=2.0)
LATCHED_TOPICS = ("tf_static", "robot_description")  # also in a namespace
# what a mapping node may need; of the other types of poses are also goals
PLAYED_TYPES = (
    *(*IMAGE_TYPES, INFO_TYPE),
    *("nav_msgs/msg/Odometry", "tf2_msgs/msg/TFMessage", "rosgraph_msgs/msg/Clock"),
)
MAPPING_NODE = "/lift_ros/"  # in the names of its topics, also after a namespace
INFRASTRUCTURE = ("tf", "tf_static", "clock")  # which nodes subscribe to before they listen to anything else
OF_THE_SYSTEM = ("/parameter_events", "/rosout")  # what nodes said when the bag was recorded


class Player(Node):
    """Publishes the messages of a bag as they are, without decoding them, at the pace they were recorded."""

    def __init__(self, bag: BagFile, topics: Collection[str] | None = None) -> None:
        """Advertise those of ``topics``, None: of all, whose message type is installed."""
        super().__init__("play_bag")
        self._bag = bag
        recorded = bag.counts.get("/clock", 0) > 0  # two clocks would have time jump to and fro between them
        self._clock = None if recorded else self.create_publisher(Clock, "/clock", QoSProfile(depth=1))
        self._topics: dict[str, Publisher] = {}
        for topic, kind in sorted(bag.types.items()):
            if (topic == "/clock" and not recorded) or topic in OF_THE_SYSTEM:
                continue
            if topics is not None and topic not in topics:
                continue
            if MAPPING_NODE in topic:
                self.get_logger().warning(f"{topic} is not played: a mapping node publishes it anew")
                continue
            message_type = _message_type(kind)
            if message_type is None:
                self.get_logger().warning(f"{topic} is not played: the message type {kind} is not installed here")
                continue
            qos = QoSProfile(depth=100)
            if _last(topic) in LATCHED_TOPICS:
                qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
            self._topics[topic] = self.create_publisher(message_type, topic, qos)

    @property
    def topics(self) -> list[str]:
        """What is played."""
        return list(self._topics)

    def wait_for_subscribers(self, timeout: float, topic: str = "") -> bool:
        """Wait until ``topic`` is listened to; "": any other than TF and the clock."""
        deadline = time.monotonic() + timeout
        names = [topic] if topic else [name for name in self._topics if _last(name) not in INFRASTRUCTURE]
        topics = [self._topics[name] for name in names]
        while rclpy.ok() and time.monotonic() < deadline:
            if any(publisher.get_subscription_count() for publisher in topics):
                time.sleep(0.5)  # the other subscriptions of the same node
                return True
            time.sleep(0.05)
        return False

    def play(self, rate: float) -> int:
        """Play once; returns the number of messages published."""
        count, begin_ns, time_ns, tick_ns = 0, None, 0, 0
        wall = time.monotonic()
        next_tick = 0.0  # s of wall time since the beginning
        for topic, time_ns, data in self._bag.raw_messages(list(self._topics)):
            if begin_ns is None:
                begin_ns = time_ns
            while rclpy.ok():
                elapsed = time.monotonic() - wall
                ahead = (time_ns - begin_ns) / 1e9 / rate - elapsed
                if self._clock and elapsed >= next_tick:
                    next_tick = elapsed + CLOCK_PERIOD
                    tick_ns = begin_ns + int(elapsed * rate * 1e9)
                    self._clock.publish(Clock(clock=Time(nanoseconds=tick_ns).to_msg()))
                if ahead <= 0:
                    break
                time.sleep(min(ahead, CLOCK_PERIOD))
            if not rclpy.ok():
                return count
            self._topics[topic].publish(data)
            count += 1
        if self._clock and count:
            self._clock.publish(Clock(clock=Time(nanoseconds=max(time_ns, tick_ns)).to_msg()))
        # who leaves at once takes along what is still on its way
        for publisher in self._topics.values():
            publisher.wait_for_all_acked(ACK_TIMEOUT)
        return count


def main() -> int:
    """Command line of ``ros2 run lift_ros play_bag``."""
    rclpy.init()
    parser = argparse.ArgumentParser(prog="play_bag", description=__doc__)
    parser.add_argument("bag", type=Path, help="rosbag2 directory, or a .mcap or .db3 file, also with .zstd")
    parser.add_argument("--rate", type=float, default=1.0, help="speed, 1.0 as recorded (default)")
    parser.add_argument("--loop", action="store_true", help="start over at the end; the clock jumps back then")
    parser.add_argument(
        "--wait", type=float, default=30.0, metavar="SECONDS", help="wait at most so long for a subscriber (default 30)"
    )
    parser.add_argument("--wait-for", default="", metavar="TOPIC", help="of this topic (default: of any)")
    more = parser.add_mutually_exclusive_group()
    more.add_argument("--topics", nargs="+", default=[], metavar="TOPIC", help="play these, too")
    more.add_argument("--all", action="store_true", help="play everything, what moves a robot as well")
    arguments = parser.parse_args(remove_ros_args(sys.argv)[1:])
    if not arguments.rate > 0:
        parser.error("--rate must be positive")
    try:
        bag = BagFile(arguments.bag)
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    played = [*(topic for topic, kind in bag.types.items() if kind in PLAYED_TYPES), *arguments.topics]
    player = Player(bag, None if arguments.all else played)
    try:
        for topic in (*arguments.topics, arguments.wait_for):
            if topic and topic not in player.topics:
                why = "it is not in the bag"
                if topic in bag.types:
                    asked = arguments.all or topic in played
                    why = "see the warning above" if asked else "its type is none that is: see --topics"
                player.get_logger().error(f"{topic} is not played: {why}")
                return 1
        if left := sorted(set(bag.types) - {*played, *OF_THE_SYSTEM}) if not arguments.all else []:
            player.get_logger().info(f"not played (see --topics): {', '.join(left)}")
        if not player.wait_for_subscribers(arguments.wait, arguments.wait_for):
            player.get_logger().warning(f"nobody listens after {arguments.wait:.0f} s; playing all the same")
        while True:
            count = player.play(arguments.rate)
            if not rclpy.ok():
                return 0
            player.get_logger().info(f"played {count} messages of {arguments.bag}")
            if not arguments.loop or not count:
                break
        for problem in bag.problems:
            player.get_logger().warning(problem)
    except KeyboardInterrupt:
        pass
    except Exception:
        if rclpy.ok():  # else a signal ended the middleware under a publisher
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a launch file passes on the Ctrl-C that came from the terminal
        bag.close()
        player.destroy_node()
        rclpy.try_shutdown()
    return 0


def _last(topic: str) -> str:
    """The name of a topic without its namespace."""
    return topic.rsplit("/", 1)[-1]


def _message_type(kind: str) -> type | None:
    """``package/msg/Name`` -> its class, None where it is not installed."""
    package, _, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


if __name__ == "__main__":
    sys.exit(main())
