"""Labels of the live view: rendered from the map in a thread of their own, at the pace of the camera."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from std_msgs.msg import Header

from lift_ros.camera import PosedCamera
from lift_ros.mapping.mapper import Mapper
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.outputs import Outputs
from lift_ros.ros.queues import DropCounter, KeepNewest, Window
from lift_ros.ros.threads import start_thread


class LabelledView(NamedTuple):
    """What the map says of one frame.

    Attributes:
        header: of the image.
        labels: (H, W) ids at the size of the image, 0 for none.
        camera: what they were rendered with, of lower resolution.
        uncertainty: (h, w) in [0, 1] of that resolution; None where nobody listens to it.
    """

    header: Header
    labels: NDArray[np.uint32]
    camera: PosedCamera
    uncertainty: NDArray[np.float32] | None


class Labeller:
    """Turns frames into label images. Only the newest frame waits: labels are of now or not at all.

    Attributes:
        latest: last published, None before and of a map that was replaced; what a pixel in a query refers to.
        latency: seconds from the arrival of an image to its labels.
    """

    def __init__(
        self,
        width: int,
        config: NodeConfig,
        mapper: Callable[[], Mapper],
        outputs: Outputs,
        drops: DropCounter,
        logger: RcutilsLogger,
    ) -> None:
        """Render at ``width`` pixels; ``mapper`` gives the current mapper."""
        self.latest: LabelledView | None = None
        self.latency = Window(100)
        self._width = width
        self._config = config
        self._mapper = mapper
        self._outputs = outputs
        self._drops = drops
        self._log = logger
        self._frames: KeepNewest[LiveFrame] = KeepNewest(1)
        self._running = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to label."""
        self._running.set()
        self._thread = start_thread("labels", self._run)

    def stop(self) -> None:
        """Stop after the image at hand."""
        self._running.clear()
        if self._thread:
            self._thread.join()
        self._frames.clear()

    def add_frame(self, live: LiveFrame) -> None:
        """Offer a frame; one that waits gives way."""
        self._drops.add("not_labelled", self._frames.put(live))

    def render(self, live: LiveFrame) -> LabelledView:
        """Ids of the objects in a frame, 0 where no object has its share of the pixel."""
        snapshot = self._mapper().snapshot
        labels, view = snapshot.labels_of(live.frame, self._width, min_share=self._config.label_min_share)
        unsure = snapshot.uncertainty_image(view) if self._outputs.uncertainty_wanted else None
        return LabelledView(live.header, labels, view, unsure)

    def _run(self) -> None:
        period = 1.0 / self._config.label_rate if self._config.label_rate else 0.0
        while self._running.is_set():
            live = self._frames.get(timeout=0.1)
            if live is None:
                continue
            begin = time.monotonic()
            try:
                view = self.render(live)
                self.latest = view  # first: who sees the labels may ask about them at once
                self._outputs.publish_labels(live, view.labels, view.uncertainty)
                self.latency.add(time.monotonic() - live.arrival)
            except Exception:  # one image without labels; the next may do
                if not rclpy.ok():  # a signal ended the middleware before this thread
                    return
                self._drops.add("internal_error")
                self._log.error(f"labels: {traceback.format_exc()}", throttle_duration_sec=10.0)
            time.sleep(max(0.0, period - (time.monotonic() - begin)))
