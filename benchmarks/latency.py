"""The live node under a camera of 30 Hz: how late its callbacks and labels are, and where its processor time goes.

    python benchmarks/latency.py CAPTURE [--masks L1] [--size 640 480] [--set scene.max_gaussians=100000 ...]

Three processes: the installed node, a camera that sends images, depth, masks and poses, and this one, which listens.
Each frame of the capture is sent three times, so that the camera moves as it did at 10 Hz; at the end it goes back.
Each keyframe brings so much training that it never ends; in the last phase the node is paused. In the first nobody
listens to labels, which are not rendered then.

The image callback is timed by the node (``~/status``), from the middleware's receipt of an image to the end of its
callback; the age of a label image is from the sending of its image to the receipt of the labels by this process.
Processor time is that of the threads of the node, in percent of one core.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import array
import itertools
import multiprocessing
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from ament_index_python.packages import get_package_share_path
from common import recorded
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage

from lift_ros.data import open_capture
from lift_ros.errors import LiftError
from lift_ros.frame import Frame
from lift_ros.msg import Status
from lift_ros.resampling import most_frequent
from lift_ros.ros.conversions import camera_info_message, nanoseconds
from lift_ros.ros.processes import Processes, free_domain

RATE = 30.0  # Hz, of the camera
REPEAT = 3  # times that each frame is sent
FRAMES = 60  # of the capture, at most
WARM_UP = 20.0  # s, for the map to grow before anything is measured
PHASE = 34.0  # s, so that the 1000 latest images of ~/status are those of the phase
START_TIMEOUT = 120.0  # s
PARAMETERS = {
    "image_topic": "image",
    "camera_info_topic": "camera_info",
    "depth_topic": "depth",
    "masks_topic": "masks",
    "masks.segmenter": "topic",
    "mapping.photometric_steps": "1000",
    "mapping.max_backlog": "1000",
}
THREADS = ("executor", "frames", "mapper", "labels", "middleware")
TICKS = os.sysconf("SC_CLK_TCK")
HEADER = (
    "| phase | image callback p50, p99 [ms] | age of labels p50, p99 [ms] | labels [Hz] | clouds | "
    + "".join(f"{name} [%] | " for name in THREADS)
    + "steps [Hz] | Gaussians | skipped steps | frames in, of those sent | drops |"
)


def image_message(pixels: np.ndarray, encoding: str) -> Image:
    """(H, W) or (H, W, C) as it is."""
    step = pixels.strides[0]
    data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=step, data=data)


def pose_message(frame: Frame) -> TransformStamped:
    """Pose of the camera in the map."""
    message = TransformStamped(header=Header(frame_id="map"), child_frame_id="camera")
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = frame.T_world_camera[:3, 3].tolist()
    q.x, q.y, q.z, q.w = Rotation.from_matrix(frame.T_world_camera[:3, :3]).as_quat().tolist()
    return message


def messages_of(path: Path, masks: str, size: tuple[int, int]) -> list[tuple[Any, ...]]:
    """Pose, camera info, depth, masks and image of each frame, resized."""
    result = []
    with open_capture(path) as capture:
        for frame in itertools.islice(capture.frames, FRAMES):
            labels = recorded(capture, masks, frame)
            if labels is None:
                continue
            frame = frame.resized(*size)
            labels = most_frequent(labels.astype(np.uint16), frame.camera.height, frame.camera.width)
            info = camera_info_message(Header(), frame.camera)
            depth, image = image_message(frame.depth, "32FC1"), image_message(frame.image, "rgb8")
            result.append((pose_message(frame), info, depth, image_message(labels, "mono16"), image))
    return result


def camera(path: Path, masks: str, size: tuple[int, int], go: Any, stop: Any, sent: Any) -> None:
    """The process of the camera. Counts what it ``sent``, from ``go`` to ``stop``."""
    messages = messages_of(path, masks, size)
    rclpy.init()
    node = rclpy.create_node("camera")
    tf = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
    topics = {"camera_info": CameraInfo, "depth": Image, "masks": Image, "image": Image}
    publishers = [node.create_publisher(kind, topic, qos_profile_sensor_data) for topic, kind in topics.items()]
    go.wait()
    begin = time.monotonic()
    for index in itertools.count():
        if stop.wait(max(0.0, begin + index / RATE - time.monotonic())):
            break
        turn = index // REPEAT % (2 * len(messages))
        pose, *others = messages[min(turn, 2 * len(messages) - 1 - turn)]
        pose.header.stamp = node.get_clock().now().to_msg()
        tf.publish(TFMessage(transforms=[pose]))
        for publisher, message in zip(publishers, others, strict=True):
            message.header = Header(stamp=pose.header.stamp, frame_id="camera")
            publisher.publish(message)
        sent.value = index + 1
    node.destroy_node()
    rclpy.try_shutdown()


def processor_time(pid: int) -> Counter[str]:
    """Seconds that each kind of thread of a process has run."""
    result: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            before, after = (task / "stat").read_text().rsplit(")", 1)
        except FileNotFoundError:  # it has ended
            continue
        name = "executor" if int(task.name) == pid else before.split("(", 1)[1]
        user, system = after.split()[11:13]
        result[name if name in THREADS else "middleware"] += (int(user) + int(system)) / TICKS
    return result


class Listener:
    """What the node publishes. Spins in a thread of its own."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("listener")
        self.ages: list[float] = []
        self.clouds = 0
        self.status: Status | None = None
        self.node.create_subscription(Status, "/lift_ros/status", self._on_status, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def _on_labels(self, message: Image, info: dict[str, int]) -> None:
        self.ages.append((info["received_timestamp"] - nanoseconds(message.header.stamp)) / 1e9)

    def _on_status(self, message: Status) -> None:
        self.status = message

    def _on_cloud(self, message: PointCloud2) -> None:
        self.clouds += 1

    def want_labels(self) -> None:
        """Subscribe to the label images."""
        self.node.create_subscription(Image, "/lift_ros/labels", self._on_labels, 10)

    def want_clouds(self) -> None:
        """Subscribe to both clouds."""
        for topic in ("object_cloud", "scene_cloud"):
            self.node.create_subscription(PointCloud2, f"/lift_ros/{topic}", self._on_cloud, 10)

    def pause(self) -> None:
        """Have the node pause."""
        client = self.node.create_client(SetBool, "/lift_ros/pause")
        client.wait_for_service(10.0)
        future = client.call_async(SetBool.Request(data=True))
        while not future.done():
            time.sleep(0.1)

    def next_status(self, check: Callable[[], None]) -> Status:
        """The first one from now on. ``check`` raises where there will be none."""
        self.status = None
        while self.status is None:
            check()
            time.sleep(0.01)
        return self.status


def measure(phase: str, listener: Listener, pid: int, sent: Any, check: Callable[[], None]) -> str:
    """One row of the table. ``check`` raises where something that is measured has ended."""
    before, begin = listener.next_status(check), time.monotonic()
    used, sent_before, clouds = processor_time(pid), sent.value, listener.clouds
    listener.ages = []
    time.sleep(PHASE)
    ages, seconds = 1e3 * np.array(listener.ages), time.monotonic() - begin
    used = processor_time(pid) - used
    clouds = listener.clouds - clouds
    status, sent_since = listener.next_status(check), sent.value - sent_before
    between = (nanoseconds(status.header.stamp) - nanoseconds(before.header.stamp)) / 1e9
    drops = Counter(dict(zip(status.drop_reasons, status.drop_counts, strict=True)))
    drops -= Counter(dict(zip(before.drop_reasons, before.drop_counts, strict=True)))
    cells = (
        phase,
        f"{1e3 * status.image_latency_p50:.1f}, {1e3 * status.image_latency_p99:.1f}",
        "{:.0f}, {:.0f}".format(*np.percentile(ages, (50, 99))) if len(ages) else "-",
        f"{len(ages) / seconds:.1f}",
        str(clouds),
        *(f"{100 * used[name] / seconds:.0f}" for name in THREADS),
        f"{(status.steps - before.steps) / between:.1f}",
        f"{status.gaussians:,}",
        str(status.skipped_steps - before.skipped_steps),
        f"{(status.frames - before.frames) / max(sent_since, 1):.0%}",
        ", ".join(f"{count} {reason}" for reason, count in sorted(drops.items())),
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture", type=Path, help="with depth and masks, such as the demo room")
    parser.add_argument("--masks", default="L1")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters of the node")
    args = parser.parse_args()
    os.environ.setdefault(
        "FASTDDS_DEFAULT_PROFILES_FILE", str(get_package_share_path("lift_ros") / "config/fastdds.xml")
    )
    # apart from other ROS systems, unless the user says where
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(free_domain())
    parameters = PARAMETERS | dict(setting.split("=", 1) for setting in args.set)
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    context = multiprocessing.get_context("spawn")
    go, stop, sent = context.Event(), context.Event(), context.Value("l", 0)
    robot = context.Process(
        target=camera, args=(args.capture, args.masks, tuple(args.size), go, stop, sent), daemon=True
    )
    robot.start()
    rclpy.init()
    print(HEADER + "\n" + "|---" * HEADER.count(" | ") + "|---|", flush=True)
    with tempfile.TemporaryDirectory() as logs, Processes(Path(logs)) as processes, Listener() as listener:
        processes.start("mapping_node", "--ros-args", *arguments)

        def check() -> None:
            processes.require("mapping_node")
            if not robot.is_alive():
                raise LiftError(f"the camera ended with status {robot.exitcode}; it says why above")

        deadline = time.monotonic() + START_TIMEOUT
        while listener.status is None:
            check()
            if time.monotonic() > deadline:
                raise LiftError(f"the node published no status within {START_TIMEOUT:.0f} s")
            time.sleep(0.1)
        go.set()
        while not sent.value:  # it may still be reading the capture
            check()
            time.sleep(0.1)
        time.sleep(WARM_UP)
        pid = processes.pid("mapping_node")
        print(measure("training, no listener", listener, pid, sent, check), flush=True)
        listener.want_labels()
        print(measure("training", listener, pid, sent, check), flush=True)
        listener.want_clouds()
        print(measure("training, clouds", listener, pid, sent, check), flush=True)
        listener.pause()
        print(measure("paused", listener, pid, sent, check), flush=True)
        stop.set()
        robot.join()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
