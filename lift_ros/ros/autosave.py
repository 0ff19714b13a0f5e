"""The map, saved under one name while it grows and when the node ends; what it began with is kept beside it."""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from datetime import datetime
from pathlib import Path

from rclpy.impl.rcutils_logger import RcutilsLogger

from lift_ros.errors import MapFileError
from lift_ros.mapping.map_files import check_writable, undo_half_a_save
from lift_ros.mapping.mapper import Mapper
from lift_ros.ros.threads import start_thread

PERIOD = 300.0  # s, between two saves: what a loss of power costs at most
RESCUE_TIMEOUT = 30.0  # s, to save the map of a mapper that hangs
MAX_NAME = 70  # characters, of the 100 that a map's name may have, before the date
DIGEST = 8  # characters of these, which tell longer names apart
BEFORE = "before"  # the map that this one began with: poses may have been wrong since


def check_name(name: str) -> None:
    """Make sure that what is saved as ``name`` is not removed for the next map that an autosave begins with.

    Raises:
        MapFileError: it ends as the names that those are kept under.
    """
    if name.endswith(f".{BEFORE}"):
        raise MapFileError(
            f"'{name}' ends in '.{BEFORE}', as the maps that autosave keeps and replaces by itself: take another name"
        )


NOTHING = (0, 0, 0)  # done to a map since it was loaded, see ``_progress``


class Autosave:
    """Saves maps in ``path``. One that is there, and is not what this one goes on with, is kept under another name.

    Attributes:
        error: why the latest attempt failed, "" if it did not.
    """

    def __init__(self, path: Path, logger: RcutilsLogger) -> None:
        """For an empty map.

        Raises:
            MapFileError: nothing can be saved there, which is not to be found out when the map is there; see
                ``check_name``, too.
        """
        self.error = ""
        check_name(path.name)
        check_writable(path)
        undo_half_a_save(path)
        self._path = path
        self._ours: tuple[int, int] | None = None  # what the map goes on with; see ``_identity``
        self._began_with: tuple[int, int] | None = None  # the same, until it is saved for the first time
        self._log = logger
        self._pending = False
        self._next = 0.0
        self._saved: tuple[int, int] | None = None  # how far the map had come
        self._saving = threading.Lock()
        self._rescue: threading.Thread | None = None

    def begins_with(self, path: Path | None) -> None:
        """Another map takes the place of this one: that in ``path``, None for an empty one."""
        self._ours = self._began_with = _identity(self._path) if path == self._path else None

    def before(self, path: Path) -> Path | None:
        """Where the map that this one began with is kept, if it is still what is saved in ``path``."""
        there = self._path == path and _identity(path)
        return _beside(path, BEFORE) if there and there == self._began_with else None

    def saved(self, path: Path) -> None:
        """The map was saved in ``path`` by somebody else's wish."""
        if path == self._path:
            self._ours, self._began_with, self.error = _identity(path), None, ""

    def begin(self) -> None:
        """From now on there may be more in the map than was saved of it."""
        self._pending = True
        self._next = time.monotonic() + PERIOD

    def due(self, mapper: Mapper) -> bool:
        """Whether it is time to save a map that grows."""
        late = self._pending and time.monotonic() >= self._next
        return late and _progress(mapper) not in (self._saved, NOTHING)

    def save(self, mapper: Mapper) -> bool:
        """Save it unless it is empty; False after an ``error``, which is logged: there should be another attempt."""
        self._next = time.monotonic() + PERIOD
        self.error = ""
        if not len(mapper.snapshot.scene):
            return True
        with self._saving:  # what seems to hang may be a save to a slow disk
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                kept = self._name_for_other()
                mapper.save(self._path, kept)
            except Exception as error:  # whatever it is, the node must go on, or come to its end
                self._failed(error)
                return False
            self._ours, self._began_with, self._saved = _identity(self._path), None, _progress(mapper)
        if kept:
            self._log.warning(f"what {self._path} held before is {kept.name} now")
        self._log.info(f"map saved in {self._path}")
        return True

    def end(self, mapper: Mapper) -> None:
        """Save it if it was not since ``begin``, and anything was mapped."""
        untouched = _progress(mapper) == NOTHING and self._ours is not None and self._ours == _identity(self._path)
        if self._pending and not untouched:
            self._pending = not self.save(mapper)

    def rescue(self, mapper: Mapper) -> None:
        """As ``end``, with the map as it was published last: a thread hangs that has the mapper.

        What that one holds, a lock or the GPU, may stop this as well, so it is waited for no longer than
        ``RESCUE_TIMEOUT``.
        """

        def save() -> None:
            try:
                self.end(copy.copy(mapper).recovered())  # a copy: the thread may yet come back to its mapper
            except Exception as error:
                self._failed(error)

        if self._pending and not self.rescuing:
            self._rescue = start_thread("rescue", save)
            self._rescue.join(RESCUE_TIMEOUT)
            if self.rescuing:
                self._failed("what stopped the mapper stops this, too")

    @property
    def rescuing(self) -> bool:
        """Whether a ``rescue`` has not come to its end yet."""
        return self._rescue is not None and self._rescue.is_alive()

    def _failed(self, why: object) -> None:
        self.error = f"map not saved: {why}"
        self._log.error(self.error)

    def _name_for_other(self) -> Path | None:
        """Where a map that is not ours, not any more, or not yet, is to be kept."""
        there = _identity(self._path)
        if there is None or there == self._ours:
            return self.before(self._path)
        made = datetime.fromtimestamp(there[1] / 1e9)
        return _beside(self._path, f"{made:%Y%m%d-%H%M%S-%f}")


def _beside(path: Path, ending: str) -> Path:
    """Where another map than that in ``path`` is kept; no two paths share one."""
    name = path.name
    if len(name) > MAX_NAME:
        name = f"{name[: MAX_NAME - DIGEST - 1]}-{hashlib.sha256(name.encode()).hexdigest()[:DIGEST]}"
    return path.with_name(f"{name}.{ending}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells one saved map from another: its inode and time of change, ns; None where there is none."""
    if not path.is_dir() or not any(path.iterdir()):
        return None
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _progress(mapper: Mapper) -> tuple[int, int, int]:
    return mapper.stats.taken, mapper.stats.steps, mapper.stats.removed
