"""The thread that owns the mapper. Other threads read its ``snapshot``."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

import rclpy
from rclpy.impl.rcutils_logger import RcutilsLogger

from lift_ros.errors import FrameRejected, LiftError
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.schedule import STEPS_AT_ONCE
from lift_ros.objects.registry import ObjectEvent
from lift_ros.ros.budgets import Duty
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.queues import KEEPING_UP, DropCounter, KeepNewest
from lift_ros.ros.threads import STOP_TIMEOUT, Watch, start_thread

IDLE_WAIT = 0.1  # s, for a frame when there is nothing to train
UPDATE_SHARE = 0.2  # of the time, at most, goes into finding the objects
FIRST_PERIOD = 0.25  # s, from update to update while there are no objects
NICENESS = 5  # of the mapper: callbacks and labels come first where cores are few
AFTER_ERROR = 1.0  # s, before the next attempt after an unexpected error

Result = TypeVar("Result")


class MapperWorker:
    """Feeds frames to the mapper, trains in between, and reports what changed.

    Attributes:
        mapper: the mapper of the moment; replaced when a map is loaded or reset.
        paused: while set, frames are not mapped and nothing is trained.
        error: the latest unexpected error, "" if there was none since.
        watch: of its thread.
    """

    def __init__(
        self,
        mapper: Mapper,
        capacity: int,
        period: float,
        duty: Duty,
        drops: DropCounter,
        on_update: Callable[[Mapper, list[ObjectEvent]], None],
        logger: RcutilsLogger,
    ) -> None:
        """Report to ``on_update`` at most every ``period`` seconds once there are objects, from this worker's thread.

        ``duty``: of this thread.
        """
        self.mapper = mapper
        self.paused = threading.Event()
        self.error = ""
        self.watch = Watch()
        self._frames: KeepNewest[LiveFrame] = KeepNewest(capacity)
        self._period = period
        self._duty, self._updates, self._early_updates = duty, Duty(UPDATE_SHARE), Duty(UPDATE_SHARE)
        self._idle = False
        self._drops = drops
        self._on_update = on_update
        self._log = logger
        self._calls: SimpleQueue[tuple[Callable[[], object], Future]] = SimpleQueue()
        self._running = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed = False
        self._next_update = 0.0

    @property
    def waiting(self) -> int:
        """Frames that wait for the mapper."""
        return len(self._frames)

    def start(self) -> None:
        """Start to map."""
        self._running.set()
        self._thread = start_thread("mapper", self._run, NICENESS)

    def stop(self) -> None:
        """Stop after the step at hand; the map is kept. A step that does not come to its end is left behind, and then
        this ``hangs``.
        """
        if self._running.is_set():
            self._running.clear()
            self._thread.join(STOP_TIMEOUT)
            if self.hangs:
                self._log.error(f"the mapper hangs: it did not stop within {STOP_TIMEOUT:.0f} s, and is left behind")
        self._drops.add("stopped", self._frames.clear())
        with suppress(Empty):
            while True:
                self._calls.get_nowait()[1].cancel()

    @property
    def hangs(self) -> bool:
        """Whether the thread is still at work though it was stopped: the mapper must be left to it."""
        return self._thread is not None and self._thread.is_alive() and not self._running.is_set()

    def check_running(self) -> None:
        """Raises LiftError: the node is not active."""
        if not self._running.is_set():
            raise LiftError("the mapper is not running; activate the node first")

    def add_frame(self, live: LiveFrame) -> None:
        """Offer a frame; an older one gives way when the mapper is busy."""
        if not self.paused.is_set():
            self._drops.add("mapper_busy", self._frames.put(live))

    def forget_frames(self) -> None:
        """Drop the frames that wait."""
        self._drops.add("time_jump", self._frames.clear())

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        """Have ``function`` run between two steps of the mapper. Raises LiftError: the node is not active."""
        self.check_running()
        future: Future[Result] = Future()
        self._calls.put((function, future))
        return future

    def replace(self, mapper: Mapper) -> None:
        """Go on with another map. To be run by ``submit``."""
        self._drops.add("map_replaced", self._frames.clear())
        self.mapper = mapper
        self._changed = False
        self._next_update = 0.0
        self._on_update(mapper, [])

    def remove(self, object_id: int) -> None:
        """Take an object out of the map, and report that. To be run by ``submit``. Raises LiftError: there is none."""
        self._on_update(self.mapper, self.mapper.remove(object_id))

    def _run(self) -> None:
        while self._running.is_set():
            if self.mapper.damaged and not self._recover():
                time.sleep(AFTER_ERROR)
                continue
            try:
                with self.watch.at_work():
                    self._answer_calls()
                    self._turn()
                self.error = ""
            except Exception as error:  # the map is kept and the node goes on; diagnostics show the error
                if not rclpy.ok():  # a signal ended the middleware before this thread
                    return
                self.error = f"{type(error).__name__}: {error}"
                self._drops.add("internal_error")
                self._log.error(f"mapper: {traceback.format_exc()}", throttle_duration_sec=10.0)
                time.sleep(AFTER_ERROR)

    def _recover(self) -> bool:
        """Go on with the map as it was published last; False where that is not possible yet."""
        try:
            self.replace(self.mapper.recovered())
        except Exception as error:  # no memory, maybe: another attempt
            self.error = f"the map is damaged: {type(error).__name__}: {error}"
            self._log.error(f"the map is damaged: {traceback.format_exc()}", throttle_duration_sec=10.0)
            return False
        self._log.error("the map is as it was published last, without its keyframes")
        return True

    def _turn(self) -> None:
        """At most one frame and one step of training, so that neither starves the other."""
        if self.paused.is_set():
            time.sleep(IDLE_WAIT)
            return
        if rest := self._duty.rest:
            time.sleep(min(rest, IDLE_WAIT))
            return
        live = self._frames.get(timeout=IDLE_WAIT if self._idle else 0.0)
        with self._duty.work():
            if live is not None:
                self._process(live)
            # before there are objects, views matter more than training: none is known from one
            begins = not self.mapper.snapshot.tracks
            trained = self.mapper.step(min(STEPS_AT_ONCE, max(self.mapper.stats.taken, 1)) if begins else STEPS_AT_ONCE)
            self._changed |= trained
            self._idle = live is None and not trained
            # the first objects must not wait until a rest is over that is due to updates without any
            updates = self._updates if self.mapper.enough_views else self._early_updates
            if self._changed and time.monotonic() >= self._next_update and not updates.rest:
                self._changed = False
                begin = time.monotonic()
                with updates.work():
                    self._on_update(self.mapper, self.mapper.update_objects())
                # a robot that starts does not wait a long period for its first objects
                pause = self._period if self.mapper.snapshot.tracks else min(self._period, FIRST_PERIOD)
                self._next_update = begin + pause

    def _process(self, live: LiveFrame) -> None:
        before = self.mapper.snapshot
        try:
            self.mapper.process(live.frame)
        except FrameRejected as error:
            self._drops.add(error.reason)
            if error.reason not in KEEPING_UP:
                self._log.warning(f"frame not mapped ({error.reason}): {error}", throttle_duration_sec=5.0)
        finally:  # an object may have gone with a frame that is not mapped
            self._changed |= self.mapper.snapshot is not before

    def _answer_calls(self) -> None:
        while True:
            try:
                function, future = self._calls.get_nowait()
            except Empty:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except Exception as error:  # the caller's to handle
                future.set_exception(error)
