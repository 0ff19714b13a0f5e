"""Diagnostics: whether the node does what it should, and if not, why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from lift_ros.msg import Status
from lift_ros.ros.queues import KEEPING_UP

HARMLESS = (*KEEPING_UP, "depth_unusable")  # all may be far off, and the image is used
SILENCE = 5.0  # s without a usable frame before that is worth a warning
LONG = 10.0  # s at one piece of work
DOING = {
    Status.WAITING: "waiting for the first frame",
    Status.MAPPING: "mapping",
    Status.PAUSED: "paused",
    Status.INACTIVE: "inactive",
}


class Health:
    """Turns successive statuses into diagnostics."""

    def __init__(self, name: str, max_memory: int = 0) -> None:
        """``name`` of the node in the diagnostics; ``max_memory`` beyond which they warn, MiB, 0 for none."""
        self._name = name
        self._max_memory = max_memory
        self._skipped_steps = 0
        self._drops: dict[str, int] = {}
        self._frames = 0
        self._last_frame = time.monotonic()

    def diagnostics(
        self,
        status: Status,
        error: str = "",
        full: bool = False,
        at_work: Mapping[str, float] | None = None,
        silent: Callable[[], str] = str,
    ) -> DiagnosticArray:
        """What the node does, and how well.

        Args:
            error: the mapper's latest unexpected one, "" if all is well.
            full: see ``MapperStats``.
            at_work: how long each thread has been at one piece of work, seconds.
            silent: tells why no frames may come, "" if it does not know.
        """
        drops = dict(zip(status.drop_reasons, status.drop_counts, strict=True))
        new = {reason: count - self._drops.get(reason, 0) for reason, count in drops.items()}
        new = {reason: count for reason, count in new.items() if count > 0}
        self._drops = drops
        skipped = status.skipped_steps - self._skipped_steps
        self._skipped_steps = status.skipped_steps
        if status.frames != self._frames:
            self._frames, self._last_frame = status.frames, time.monotonic()
        silence = time.monotonic() - self._last_frame

        level, message = DiagnosticStatus.OK, DOING[status.state]
        if status.state == Status.INACTIVE:
            self._last_frame = time.monotonic()
        elif error:
            level, message = DiagnosticStatus.ERROR, error
        elif (at_work := at_work or {}) and max(at_work.values()) > LONG:
            thread = max(at_work, key=at_work.__getitem__)
            level = DiagnosticStatus.WARN
            message = f"the thread '{thread}' has been at one piece of work for {at_work[thread]:.0f} s"
        elif silence > SILENCE:
            level = DiagnosticStatus.WARN
            message = ": ".join(filter(None, (f"no usable frame for {silence:.0f} s", silent())))
        elif 0 < self._max_memory < status.memory:
            level = DiagnosticStatus.WARN
            message = f"{status.memory} MiB exceed max_memory of {self._max_memory} MiB: no more keyframes are taken"
        elif full:
            level = DiagnosticStatus.WARN
            message = "the scene holds scene.max_gaussians: new ground is hardly mapped"
        elif set(new) - set(HARMLESS):
            level, message = DiagnosticStatus.WARN, "dropped " + ", ".join(f"{n} {reason}" for reason, n in new.items())
        if status.state == Status.PAUSED and level != DiagnosticStatus.OK:  # labels go on, and so does what ails them
            message = f"paused; {message}"
        if skipped > 0:
            message += f"; {skipped} steps of training skipped to keep up"
        if "segmenter_budget" in new:
            message += "; segmenter_duty is spent, keyframes wait"
        if status.segmenter == "graph":
            message += "; masks without a learned model (segmenter graph)"

        values = {
            "frames": status.frames,
            "keyframes": status.keyframes,
            "gaussians": status.gaussians,
            "objects": status.objects,
            "skipped steps": status.skipped_steps,
            "keyframes that gave way": status.thinned_keyframes,
            "memory [MiB]": status.memory,
            "segmenter": status.segmenter,
            "frame queue": status.frame_queue,
            "keyframe queue": status.keyframe_queue,
            "image latency p99 [ms]": _milliseconds(status.image_latency_p99),
            "label latency [ms]": _milliseconds(status.label_latency),
            "label rate [Hz]": f"{status.label_rate:.1f}",
            **{f"dropped: {reason}": count for reason, count in drops.items()},
        }
        entry = DiagnosticStatus(
            level=level, name=f"{self._name}: mapping", message=message, hardware_id="",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )  # fmt: skip
        array = DiagnosticArray(status=[entry])
        array.header.stamp = status.header.stamp
        return array


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{1000 * seconds:.1f}"
