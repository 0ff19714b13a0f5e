"""Labels of the live view: rendered from the map in a thread of their own, at the pace of the camera.

What nobody listens to is not rendered; where each image was seen from is remembered all the same, for queries.
"""

from __future__ import annotations

import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.impl.rcutils_logger import RcutilsLogger
from std_msgs.msg import Header

from lift_ros.camera import PosedCamera
from lift_ros.errors import LiftError
from lift_ros.mapping.mapper import Mapper
from lift_ros.ros.conversions import nanoseconds
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.outputs import Outputs
from lift_ros.ros.queues import DropCounter, KeepNewest, Window
from lift_ros.ros.threads import STOP_TIMEOUT, Watch, start_thread

REMEMBERED = 1000  # label images that may be asked about; only where they were seen from is kept


class LabelledView(NamedTuple):
    """What the map says of one frame.

    Attributes:
        header: of the image.
        shape: (H, W) of the image, pixels.
        labels: (H, W) ids, 0 for none; None where nobody listened to them, and once there is a later view.
        camera: what they are rendered with, of lower resolution.
        uncertainty: (h, w) in [0, 1] of that resolution; None as ``labels``.
        ignored: (H, W) bool, see ``Frame``.
    """

    header: Header
    shape: tuple[int, int]
    labels: NDArray[np.uint32] | None
    camera: PosedCamera
    uncertainty: NDArray[np.float32] | None
    ignored: NDArray[np.bool_] | None

    def shows(self, column: int, row: int) -> bool:
        """Whether a pixel of the image shows something of the scene. Raises LiftError: it lies outside."""
        self.at_camera(column, row)
        return self.ignored is None or not self.ignored[row, column]

    def at_camera(self, column: int, row: int) -> tuple[int, int]:
        """The pixel (column, row) of ``camera`` where a pixel of the image lies. Raises LiftError: it lies outside."""
        height, width = self.shape
        if column >= width or row >= height:
            raise LiftError(f"pixel ({column}, {row}) is outside the {width}x{height} label image")
        return column * self.camera.width // width, row * self.camera.height // height


class Labeller:
    """Turns frames into label images. Only the newest frame waits: labels are of now or not at all.

    Attributes:
        latency: seconds from the arrival of an image to its labels, of those that somebody listened to.
        watch: of its thread.
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
        self.latency = Window(100)
        self.watch = Watch()
        self._views: deque[tuple[weakref.ref[Mapper], LabelledView]] = deque(maxlen=REMEMBERED)
        self._width = width
        self._config = config
        self._mapper = mapper
        self._outputs = outputs
        self._drops = drops
        self._log = logger
        self._frames: KeepNewest[LiveFrame] = KeepNewest(1)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._listened = False  # whether somebody did to the latest labels

    def view(self, stamp_ns: int = 0) -> LabelledView:
        """What a pixel in a query refers to: the image of a stamp, 0 for the latest, seen with the map of the moment.

        Raises:
            LiftError: there is none, or none any more.
        """
        return self._view(self._mapper(), stamp_ns)

    def id_at(self, column: int, row: int, stamp_ns: int) -> int:
        """The id at a pixel of the label image of a stamp, 0 for the latest; 0 for none.

        Of the latest it is the one that was published, of earlier ones and of those that nobody listened to that of the
        map of the moment from there, whose borders do not follow the picture.

        Raises:
            LiftError: there is none such, or none any more, or the pixel is outside of it.
        """
        mapper = self._mapper()
        view = self._view(mapper, stamp_ns)
        x, y = view.at_camera(column, row)
        if not view.shows(column, row):
            return 0
        if view.labels is not None:
            return int(view.labels[row, column])
        label, share = mapper.snapshot.label_at(view.camera, x, y)
        return label if share >= self._config.label_min_share else 0

    def _view(self, mapper: Mapper, stamp_ns: int) -> LabelledView:
        views = [view for of, view in self._views.copy() if of() is mapper]
        if not views:
            raise LiftError("no image has come for this map yet")
        if not stamp_ns:
            return views[-1]
        found = [view for view in views if nanoseconds(view.header.stamp) == stamp_ns]
        if not found:
            raise LiftError(
                f"no image of {stamp_ns / 1e9:.6f} s is remembered, of the latest {len(views)}; "
                "take the stamp of a label image, or 0 for the latest"
            )
        return found[-1]

    def start(self) -> None:
        """Start to label."""
        self._stopping.clear()
        self._thread = start_thread("labels", self._run)

    def stop(self) -> None:
        """Stop after the image at hand; one that does not come to its end is left behind, and then this ``hangs``."""
        self._stopping.set()
        if self._thread:
            self._thread.join(STOP_TIMEOUT)
        self._not_labelled(self._frames.clear())

    @property
    def hangs(self) -> bool:
        """Whether the thread is still at work though it was stopped."""
        return self._thread is not None and self._thread.is_alive() and self._stopping.is_set()

    def add_frame(self, live: LiveFrame) -> None:
        """Offer a frame; one that waits gives way."""
        self._not_labelled(self._frames.put(live))

    def render(self, live: LiveFrame, mapper: Mapper) -> LabelledView:
        """What is listened to of a frame. Labels are 0 where no object has its share of the pixel."""
        snapshot = mapper.snapshot
        self._listened = self._outputs.labels_wanted
        if self._listened:
            labels, camera = snapshot.labels_of(live.frame, self._width, min_share=self._config.label_min_share)
        else:
            located = snapshot.locate(live.frame)
            labels, camera = None, PosedCamera(located.intrinsics.at_width(self._width), located.viewmat)
        unsure = snapshot.uncertainty_image(camera) if self._outputs.uncertainty_wanted else None
        return LabelledView(live.header, live.frame.image.shape[:2], labels, camera, unsure, live.frame.ignored)

    def _run(self) -> None:
        period = 1.0 / self._config.label_rate if self._config.label_rate else 0.0
        while not self._stopping.is_set():
            live = self._frames.get(timeout=0.1)
            if live is None:
                continue
            begin = time.monotonic()
            try:
                with self.watch.at_work():
                    self._label(live)
            except Exception:  # one image without labels; the next may do
                if not rclpy.ok():  # a signal ended the middleware before this thread
                    return
                self._drops.add("internal_error")
                self._log.error(f"labels: {traceback.format_exc()}", throttle_duration_sec=10.0)
            self._stopping.wait(max(0.0, period - (time.monotonic() - begin)))

    def _label(self, live: LiveFrame) -> None:
        mapper = self._mapper()
        view = self.render(live, mapper)
        if mapper is not self._mapper():  # ids of a map that was replaced meanwhile
            self._not_labelled(1)
            return
        self._remember(mapper, view)  # first: who sees the labels may ask about them at once
        self._outputs.publish_labels(live, view.labels, view.uncertainty)
        if view.labels is not None:
            self.latency.add(time.monotonic() - live.arrival)

    def _not_labelled(self, count: int) -> None:
        """Where nobody listens, no labels are missed."""
        if self._listened:
            self._drops.add("not_labelled", count)

    def _remember(self, mapper: Mapper, view: LabelledView) -> None:
        if self._views:
            of, before = self._views[-1]
            self._views[-1] = of, before._replace(labels=None, uncertainty=None)
        self._views.append((weakref.ref(mapper), view))
