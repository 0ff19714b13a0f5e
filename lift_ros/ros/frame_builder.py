"""Images, camera info, depth and poses in; frames out. Every image becomes a frame or a counted drop."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from std_msgs.msg import Header

from lift_ros.data.depth_message import depth_of_message
from lift_ros.data.files import camera_mask
from lift_ros.data.image_codec import message_labels, message_rgb
from lift_ros.data.transforms import same_place
from lift_ros.data.undistort import Undistorter, same_calibration
from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame
from lift_ros.ros.compat import TIME_JUMP_NS
from lift_ros.ros.conversions import frame_name, nanoseconds
from lift_ros.ros.depth_buffer import DepthBuffer
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.pose_source import PoseSource
from lift_ros.ros.queues import DropCounter, KeepNewest
from lift_ros.ros.threads import start_thread

Result = TypeVar("Result")

POLL = 0.01  # s, between looks for what has not come yet
LOG_PERIOD = 5.0  # s, between messages of one reason
ENDED = ("stopped", "time_jump")  # nothing was wrong with these images


@dataclass(frozen=True)
class LiveFrame:
    """A frame on its way through the node."""

    frame: Frame
    header: Header  # stamp of the image, frame of the camera
    arrival: float  # time.monotonic()
    labels_only: bool = False  # not for the mapper: it has no depth, and others have


@dataclass(frozen=True)
class _Waiting:
    """An image message that waits for its pose; ``epoch``: how often the clock had jumped when it came."""

    message: Any
    stamp_ns: int
    arrival: float  # time.monotonic()
    epoch: int

    def goes_on(self, before: _Waiting) -> bool:
        """Whether it is later than the one before, by no more than the time that has passed in between."""
        step_ns = self.stamp_ns - before.stamp_ns
        return 0 < step_ns < TIME_JUMP_NS + 1e9 * (self.arrival - before.arrival)


class FrameBuilder:
    """Called by the subscriptions, works in its own thread: no callback waits, looks up a pose or decodes an image.

    Masks of another node are decoded in their callback, by ``labels``.
    """

    def __init__(
        self,
        config: NodeConfig,
        poses: PoseSource,
        transforms: Callable[[str, str, int], NDArray[np.float64]],
        drops: DropCounter,
        on_frame: Callable[[LiveFrame], None],
        on_time_jump: Callable[[], None],
        logger: RcutilsLogger,
    ) -> None:
        """Nothing runs before ``start``.

        ``transforms`` gives the pose of a frame in another at a time, from TF. ``on_frame`` gets every
        frame, in order; ``on_time_jump`` is called before the first one of the new time.

        Raises ConfigError: ``camera_mask`` cannot be used.
        """
        self._config = config
        self._poses = poses
        self._transforms = transforms
        self._drops = drops
        self._on_frame = on_frame
        self._on_time_jump = on_time_jump
        self._log = logger
        self._images: KeepNewest[_Waiting] = KeepNewest(config.frame_queue)
        self._depths = DepthBuffer(config.depth_slop, config.frame_queue)
        self._mask = camera_mask(config.camera_mask)
        self._ignored: tuple[Undistorter, NDArray[np.bool_]] | None = None  # by the images of which
        self._info: Any = None
        self._undistorter: tuple[Any, Undistorter | FrameRejected] | None = None
        self._last: _Waiting | None = None  # the latest image, without its message
        self._aside: _Waiting | None = None  # one of another time than ``_last``: astray, or the first after a jump
        self._logged: dict[str, float] = {}  # when each reason was, time.monotonic()
        self._epoch = 0  # jumps of the clock so far
        self._running = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Images that wait for their pose."""
        return len(self._images)

    @property
    def running(self) -> bool:
        """Whether input is looked at; while it is not, what comes is not kept, nor counted as dropped."""
        return self._running.is_set()

    def start(self) -> None:
        """Start to make frames."""
        self._running.set()
        self._thread = start_thread("frames", self._run)

    def stop(self) -> None:
        """Stop, and forget what waits."""
        self._running.clear()
        if self._thread:
            self._thread.join()
        self._drops.add("stopped", self._forget_images())
        self._depths.forget()

    def add_image(self, message: Any) -> None:
        """Take an Image or CompressedImage. One older than that before it is dropped, unless time jumped back.

        One of another time waits for the next: if that goes on with it, time has jumped, else it was astray.
        """
        if not self.running:
            return
        stamp_ns = nanoseconds(message.header.stamp)
        if stamp_ns == 0:
            self._reject(FrameRejected("stamp_missing", "an image with stamp 0: no pose can be looked up for it"))
            return
        image, last, aside = _Waiting(message, stamp_ns, time.monotonic(), self._epoch), self._last, self._aside
        if last is None or image.goes_on(last):
            self._aside = None
            if aside and last and last.stamp_ns < aside.stamp_ns < stamp_ns:  # of a slow camera, and late
                self._take(aside)
            elif aside:
                self._reject_astray(aside, image)
            self._take(image)
        elif 0 <= last.stamp_ns - stamp_ns < TIME_JUMP_NS:
            reason = f"image of {stamp_ns} ns after one of {last.stamp_ns} ns"
            self._reject(FrameRejected("stamp_not_increasing", reason))
        elif aside and stamp_ns > aside.stamp_ns:
            self._aside = None
            if aside.stamp_ns < last.stamp_ns:
                self._begin_anew(stamp_ns + TIME_JUMP_NS)  # depth of the new time may have come first
            self._take(aside)
            self._take(image)
        else:
            if aside:
                self._reject_astray(aside, image)
            self._aside = image

    def _take(self, image: _Waiting) -> None:
        self._last, self._aside = replace(image, message=None), None
        self._drops.add("frame_queue_full", self._images.put(replace(image, epoch=self._epoch)))

    def _reject_astray(self, image: _Waiting, next_one: _Waiting) -> None:
        self._drops.add("stamp_not_increasing")
        self._log.warning(
            f"image of {image.stamp_ns} ns dropped, between ones of {self._last.stamp_ns} and {next_one.stamp_ns} ns: "
            f"are there two publishers on '{self._config.image_topic}'?",
            throttle_duration_sec=5.0,
        )

    def add_info(self, message: Any) -> None:
        """Take a CameraInfo."""
        self._info = message

    def add_depth(self, message: Any) -> None:
        """Take a depth image of either kind."""
        if self.running:
            self._depths.add(message)

    def labels(self, message: Any) -> Any:
        """A label image message as an array, undistorted like the images. Raises FrameRejected."""
        return self._current_undistorter().labels(message_labels(message))

    def reset_time(self) -> None:
        """The clock has jumped: forget all that is stamped in the old time. The map is not concerned."""
        self._begin_anew(-1)
        self._last = None

    def _begin_anew(self, latest_ns: int) -> None:
        """Forget what is stamped in the old time, but no depth up to ``latest_ns``."""
        if self.running:
            self._log.warning("time jumped back: buffers cleared, the map is kept", throttle_duration_sec=5.0)
            self._drops.add("time_jump", 1 + self._forget_images())  # it shows even where nothing waited
        self._epoch += 1
        self._depths.forget(latest_ns)
        self._poses.clear()
        self._on_time_jump()

    def _forget_images(self) -> int:
        """All that wait; returns how many there were."""
        aside, self._aside = self._aside, None
        return self._images.clear() + (aside is not None)

    def _run(self) -> None:
        while self._running.is_set():
            waiting = self._images.get(timeout=0.1)
            self._depths.keep_for(waiting and waiting.stamp_ns)
            if waiting is None:
                continue
            try:
                frame = self._build(waiting)
                self._check_current(waiting)
                self._on_frame(frame)
            except FrameRejected as error:
                self._reject(error)
            except Exception:  # a library choked on the data: one image less, not the end of the node
                self._drops.add("internal_error")
                self._log.error(f"image dropped: {traceback.format_exc()}", throttle_duration_sec=10.0)
            if waiting.epoch == self._epoch:
                self._depths.forget_old(waiting.stamp_ns)  # also where the image never got as far as its depth

    def _reject(self, error: FrameRejected) -> None:
        self._drops.add(error.reason)
        now, logged = time.monotonic(), self._logged.get(error.reason)
        # rclpy throttles what one line of code logs: one reason would hide the others
        if error.reason not in ENDED and (logged is None or now - logged >= LOG_PERIOD):
            self._logged[error.reason] = now
            self._log.warning(f"image dropped ({error.reason}): {error}")

    def _build(self, waiting: _Waiting) -> LiveFrame:
        message, stamp_ns = waiting.message, waiting.stamp_ns
        undistorter = self._wait(self._current_undistorter, waiting)
        image = undistorter.image(message_rgb(message))
        image_frame = frame_name(message.header.frame_id)
        camera_frame = frame_name(self._config.camera_frame) or image_frame
        T_world_camera = self._wait(lambda: self._poses.lookup(camera_frame, stamp_ns), waiting)
        depth, labels_only = None, False
        if self._config.depth_topic:
            depth_message = self._depth_of(waiting)
            if depth_message is None:
                labels_only = True
                self._drops.add("depth_between")
            elif self._is_registered(frame_name(depth_message.header.frame_id), image_frame, camera_frame, stamp_ns):
                depth = depth_of_message(depth_message, undistorter, self._config.max_depth)
                if not depth.any():
                    self._complain_of_depth()
        stamp = message.header.stamp
        name = f"{stamp.sec}_{stamp.nanosec:09d}"
        ignored = self._ignored_in(undistorter)
        frame = Frame(image, undistorter.camera, T_world_camera, stamp_ns / 1e9, depth, name, ignored)
        return LiveFrame(frame, Header(stamp=stamp, frame_id=camera_frame), waiting.arrival, labels_only)

    def _ignored_in(self, undistorter: Undistorter) -> NDArray[np.bool_] | None:
        """What images remapped by ``undistorter`` show of the robot itself. Raises FrameRejected."""
        if self._mask is None:
            return None
        if self._ignored is None or self._ignored[0] is not undistorter:
            self._ignored = undistorter, undistorter.ignored(self._mask)
        return self._ignored[1]

    def _is_registered(self, depth_frame: str, image_frame: str, camera_frame: str, stamp_ns: int) -> bool:
        """Whether depth is seen from the colour camera; counted and left out where it is not.

        ``camera_frame`` is where the parameter of that name says that ``image_frame`` really is.
        """
        if depth_frame in ("", image_frame, camera_frame):
            return True
        try:
            if same_place(self._transforms(camera_frame, depth_frame, stamp_ns)):
                return True
        except FrameRejected:
            pass  # nothing says that they coincide
        self._drops.add("depth_not_registered")
        self._log.warning(
            f"depth is given in frame '{depth_frame}', the images in '{camera_frame}': it is not registered to them "
            "and is not used (subscribe to aligned depth, or register it with depth_image_proc)",
            throttle_duration_sec=10.0,
        )
        return False

    def _complain_of_depth(self) -> None:
        """That nothing is known in it. The image is used all the same: all may be far off."""
        self._drops.add("depth_unusable")
        self._log.warning(
            f"depth holds nothing within max_depth of {self._config.max_depth} m: 32FC1 is in metres, 16UC1 in "
            "millimetres",
            throttle_duration_sec=10.0,
        )

    def _check_current(self, waiting: _Waiting) -> None:
        """Raises FrameRejected where an image is of no use any more."""
        if not self.running:
            raise FrameRejected("stopped", "the node was deactivated")
        if waiting.epoch != self._epoch:
            raise FrameRejected("time_jump", "of before the clock jumped")

    def _current_undistorter(self) -> Undistorter:
        info = self._info
        if info is None:
            raise FrameRejected(
                "camera_info_missing", f"no camera_info has arrived on '{self._config.camera_info_topic}'"
            )
        if self._undistorter is None or not same_calibration(self._undistorter[0], info):
            try:
                self._undistorter = info, Undistorter.from_camera_info(info, self._config.rectified)
            except FrameRejected as error:
                self._undistorter = info, error.with_traceback(None)
        undistorter = self._undistorter[1]
        if isinstance(undistorter, FrameRejected):
            # not the same one again and again: its traceback would grow, and keep every image that met with it
            raise FrameRejected(undistorter.reason, str(undistorter))
        return undistorter

    def _depth_of(self, waiting: _Waiting) -> Any:
        """The depth nearest to an image; waits until no nearer one is to be expected, at most to the deadline.

        None: it lies between depth images, which are fewer.
        """
        while True:
            last = time.monotonic() > self._deadline(waiting)
            depth, settled = self._depths.near(waiting.stamp_ns)
            if depth is not None and (settled or last):
                return depth
            if settled and self._depths.is_between(waiting.stamp_ns):
                return None
            if settled or last:
                slop, topic = self._config.depth_slop, self._config.depth_topic
                raise FrameRejected("depth_missing", f"no depth within {slop} s of an image on '{topic}'")
            self._check_current(waiting)
            time.sleep(POLL)

    def _wait(self, attempt: Callable[[], Result], waiting: _Waiting) -> Result:
        """What belongs to an image may come a little later: try until the deadline."""
        while True:
            try:
                return attempt()
            except FrameRejected:
                if time.monotonic() > self._deadline(waiting):
                    raise
            self._check_current(waiting)
            time.sleep(POLL)

    def _deadline(self, waiting: _Waiting) -> float:
        return waiting.arrival + self._config.pose_timeout
