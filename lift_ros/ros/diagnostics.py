"""Diagnostics: whether the node does what it should, and if not, why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping

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
        scene_full: bool = False,
        at_work: Mapping[str, float] | None = None,
        why_silent: Callable[[], str] = str,
        warnings: Iterable[str] = (),
    ) -> DiagnosticArray:
        """What the node does, and all that is wrong with it; the level is that of the worst.

        Args:
            error: the mapper's latest unexpected one, "" if all is well.
            scene_full: see ``MapperStats``.
            at_work: how long each thread has been at one piece of work, seconds.
            why_silent: tells why no frames may come, "" if it does not know.
            warnings: what else is wrong, also with a node that is not active.
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

        warn = DiagnosticStatus.WARN
        found = [(DiagnosticStatus.OK, DOING[status.state]), *((warn, text) for text in warnings)]
        if status.state == Status.INACTIVE:
            self._last_frame = time.monotonic()
        else:
            if error:
                found.append((DiagnosticStatus.ERROR, error))
            for thread, seconds in (at_work or {}).items():
                if seconds > LONG:
                    found.append((warn, f"the thread '{thread}' has been at one piece of work for {seconds:.0f} s"))
            if silence > SILENCE:
                found.append((warn, ": ".join(filter(None, (f"no usable frame for {silence:.0f} s", why_silent())))))
            if 0 < self._max_memory < status.memory:
                limit = f"max_memory of {self._max_memory} MiB"
                found.append((warn, f"{status.memory} MiB exceed {limit}: no more keyframes are taken"))
            if scene_full:
                found.append((warn, "the scene holds scene.max_gaussians: new ground is hardly mapped"))
            if new:
                text = "dropped " + ", ".join(f"{count} {reason}" for reason, count in new.items())
                found.append((warn if set(new) - set(HARMLESS) else DiagnosticStatus.OK, text))
        level, message = max(level for level, _ in found), "; ".join(text for _, text in found)
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
            "evicted keyframes": status.evicted_keyframes,
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
