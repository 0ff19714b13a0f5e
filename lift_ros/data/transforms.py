"""Recorded transforms between named frames, looked up at any time in between: what tf2 does, for a whole recording."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from lift_ros.errors import FrameRejected

MAX_GAP_NS = 2_000_000_000  # over a longer silence of the localisation a straight line is a guess, not a pose
QUATERNION_TOLERANCE = 0.01  # of the norm; publishers and files round
SAME_PLACE = 1e-3  # of a transform's entries


class TransformTree:
    """Static and time-stamped transforms; each child frame has one parent at a time, as in tf2.

    Attributes:
        rejected: transforms that are not finite or not rigid, dropped and counted by reason.
    """

    def __init__(self) -> None:
        self.rejected: Counter[str] = Counter()
        self._edges: dict[str, dict[int, tuple[str, NDArray, NDArray]]] = defaultdict(dict)
        self._static: dict[str, tuple[str, NDArray[np.float64]]] = {}
        self._stamps: dict[str, list[int]] = {}

    def add(
        self,
        stamp_ns: int,
        parent: str,
        child: str,
        translation: tuple[float, float, float],
        quaternion_xyzw: tuple[float, float, float, float],
        static: bool = False,
    ) -> None:
        """Add the pose of ``child`` in ``parent`` at a time (``static``: at all times)."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        t, q = np.asarray(translation, np.float64), np.asarray(quaternion_xyzw, np.float64)
        try:
            q = _unit_quaternion(t, q)
            if parent == child:
                raise FrameRejected("pose_not_rigid", f"'{child}' is given in itself")
        except FrameRejected as error:
            self.rejected[error.reason] += 1
            return
        if static:
            self._static[child] = (parent, _matrix(t, Rotation.from_quat(q)))
        else:
            self._edges[child][stamp_ns] = (parent, t, q)
            self._stamps.pop(child, None)

    def forget_static(self, child: str) -> None:
        """Drop the static transform of a child frame."""
        self._static.pop(child, None)

    def forget(self, before_ns: int | None = None, child: str | None = None) -> None:
        """Drop time-stamped transforms older than ``before_ns``, or all of them; of one child frame where it is named.
        Static ones stay.
        """
        for name in list(self._edges) if child is None else [child.lstrip("/")]:
            samples = self._edges.get(name, {})
            kept = {} if before_ns is None else {stamp: s for stamp, s in samples.items() if stamp >= before_ns}
            if kept:
                self._edges[name] = kept
            else:
                self._edges.pop(name, None)
            self._stamps.pop(name, None)

    @property
    def frames(self) -> set[str]:
        """Every frame that has a parent or a child."""
        parents = {parent for parent, _ in self._static.values()}
        parents |= {sample[0] for samples in self._edges.values() for sample in samples.values()}
        return parents | set(self._static) | set(self._edges)

    def ancestors(self, frame: str, stamp_ns: int | None = None) -> list[str]:
        """``frame``, its parent, ... up to the root of its tree, as of a time; None: as of each frame's latest."""
        chain = [frame.lstrip("/")]
        while (parent := self._parent(chain[-1], stamp_ns)) is not None and parent not in chain:
            chain.append(parent)
        return chain

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """Pose (4, 4) of ``source`` in ``target`` at a time; translation linear, rotation by slerp in between.

        Raises:
            FrameRejected: ``pose_missing``, where the frames are not connected or the time lies outside what was
                recorded or in a gap of more than 2 s; never extrapolated.
        """
        up, down = self.ancestors(source, stamp_ns), self.ancestors(target, stamp_ns)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            raise FrameRejected("pose_missing", f"no transform connects '{source}' to '{target}'")
        return np.linalg.inv(self._to_ancestor(target, common, stamp_ns)) @ self._to_ancestor(source, common, stamp_ns)

    def _to_ancestor(self, frame: str, ancestor: str, stamp_ns: int) -> NDArray[np.float64]:
        T = np.eye(4)
        for child in self.ancestors(frame, stamp_ns):
            if child == ancestor:
                break
            T = (self._static[child][1] if child in self._static else self._interpolate(child, stamp_ns)) @ T
        return T

    def _interpolate(self, child: str, stamp_ns: int) -> NDArray[np.float64]:
        samples, stamps = self._edges[child], self._sorted_stamps(child)
        after = bisect_right(stamps, stamp_ns)
        if after and stamps[after - 1] == stamp_ns:
            _, t, q = samples[stamp_ns]
            return _matrix(t, Rotation.from_quat(q))
        if after in (0, len(stamps)):
            side, nearest = ("before the first", stamps[0]) if after == 0 else ("after the last", stamps[-1])
            raise FrameRejected(
                "pose_missing",
                f"image is {abs(stamp_ns - nearest) / 1e9:.3f} s {side} transform of '{child}'",
            )
        begin, end = stamps[after - 1], stamps[after]
        if end - begin > MAX_GAP_NS:
            raise FrameRejected(
                "pose_missing", f"image lies in a gap of {(end - begin) / 1e9:.1f} s between transforms of '{child}'"
            )
        (parent, t0, q0), (next_parent, t1, q1) = samples[begin], samples[end]
        if parent != next_parent:
            raise FrameRejected("pose_missing", f"'{child}' goes over from '{parent}' to '{next_parent}' at that time")
        share = (stamp_ns - begin) / (end - begin)
        return _matrix((1 - share) * t0 + share * t1, Slerp([0.0, 1.0], Rotation.from_quat([q0, q1]))(share))

    def _parent(self, child: str, stamp_ns: int | None) -> str | None:
        if child in self._static:
            return self._static[child][0]
        if child in self._edges:
            stamps = self._sorted_stamps(child)
            known = len(stamps) if stamp_ns is None else max(1, bisect_right(stamps, stamp_ns))
            return self._edges[child][stamps[known - 1]][0]
        return None

    def _sorted_stamps(self, child: str) -> list[int]:
        if child not in self._stamps:
            self._stamps[child] = sorted(self._edges[child])
        return self._stamps[child]


def same_place(T: NDArray[np.float64]) -> bool:
    """Whether two frames are the same but for their names, by the pose (4, 4) of one in the other."""
    return np.allclose(T, np.eye(4), atol=SAME_PLACE)


def pose_matrix(translation: NDArray, quaternion_xyzw: NDArray) -> NDArray[np.float64]:
    """(4, 4) of a translation and a rotation.

    Raises:
        FrameRejected: ``pose_not_finite``, ``pose_not_rigid``.
    """
    return _matrix(translation, Rotation.from_quat(_unit_quaternion(translation, quaternion_xyzw)))


def _unit_quaternion(translation: NDArray, quaternion: NDArray) -> NDArray[np.float64]:
    """The quaternion, of length 1 but for rounding, divided by its norm. Raises FrameRejected, see ``pose_matrix``."""
    norm = np.linalg.norm(quaternion)
    if not (np.isfinite(norm) and np.isfinite(translation).all()):
        raise FrameRejected("pose_not_finite", "pose holds NaN or infinity")
    if abs(norm - 1) > QUATERNION_TOLERANCE:
        raise FrameRejected("pose_not_rigid", f"the quaternion of the pose has norm {norm:.3g}")
    return quaternion / norm


def _matrix(translation: NDArray, rotation: Rotation) -> NDArray[np.float64]:
    T = np.eye(4)
    T[:3, :3] = rotation.as_matrix()
    T[:3, 3] = translation
    return T
