"""Labels of the live view: rendered from the map in a thread of their own, at the pace of the camera."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger

from lift_ros.camera import PosedCamera
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.queues import DropCounter, KeepNewest, Window


class Labeller:
    """Turns frames into label images. Only the newest frame waits: labels are of now or not at all.

    Attributes:
        latest: label image (H, W) last published, None before; what a pixel in a query refers to.
        latency: seconds from the arrival of an image to its labels.
    """

    def __init__(
        self,
        width: int,
        config: NodeConfig,
        mapper: Callable[[], Mapper],
        publish: Callable[[LiveFrame, NDArray[np.uint32]], None],
        drops: DropCounter,
        logger: RcutilsLogger,
    ) -> None:
        """Render at ``width`` pixels; ``mapper`` gives the current mapper; ``publish`` is called from this thread."""
        self.latest: NDArray[np.uint32] | None = None
        self.latency = Window(100)
        self._width = width
        self._config = config
        self._mapper = mapper
        self._publish = publish
        self._drops = drops
        self._log = logger
        self._frames: KeepNewest[LiveFrame] = KeepNewest(1)
        self._running = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to label."""
        self._running.set()
        self._thread = threading.Thread(target=self._run, name="labels", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the image at hand."""
        self._running.clear()
        if self._thread:
            self._thread.join()
        self._frames.clear()

    def add_frame(self, live: LiveFrame) -> None:
        """Offer a frame; one that waits gives way."""
        self._drops.add("not_labelled", self._frames.put(live))

    def render(self, frame: Frame) -> NDArray[np.uint32]:
        """(H, W) ids of the objects in a frame, 0 where no object has its share of the pixel."""
        camera = frame.camera
        width = min(self._width, camera.width)
        small = camera.resized(width, max(1, round(camera.height * width / camera.width)))
        snapshot = self._mapper().snapshot
        labels, share, _ = snapshot.label_image(PosedCamera(small, snapshot.locate(frame).viewmat))
        labels = np.where(share >= self._config.label_min_share, labels, 0)
        if small == camera:
            return labels.astype(np.uint32)
        # nearest neighbours: ids do not mix; OpenCV resizes no uint32, int32 has the same bits
        full = cv2.resize(labels.astype(np.int32), (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
        return full.astype(np.uint32)

    def _run(self) -> None:
        period = 1.0 / self._config.label_rate if self._config.label_rate else 0.0
        while self._running.is_set():
            live = self._frames.get(timeout=0.1)
            if live is None:
                continue
            begin = time.monotonic()
            try:
                labels = self.render(live.frame)
                self._publish(live, labels)
                self.latest = labels
                self.latency.add(time.monotonic() - live.arrival)
            except Exception:  # one image without labels; the next may do
                self._drops.add("internal_error")
                self._log.error(f"labels: {traceback.format_exc()}", throttle_duration_sec=10.0)
            time.sleep(max(0.0, period - (time.monotonic() - begin)))
