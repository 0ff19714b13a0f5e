"""The map, saved under one name while it grows and when the node ends."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from rclpy.impl.rcutils_logger import RcutilsLogger

from lift_ros.errors import MapFileError
from lift_ros.mapping.map_files import check_replaceable, check_writable
from lift_ros.mapping.mapper import Mapper

PERIOD = 300.0  # s, between two saves: what a loss of power costs at most


class Autosave:
    """Saves maps in ``path``. A map that is there and is not what this one began with is kept under another name."""

    def __init__(self, path: Path, ours: bool, logger: RcutilsLogger) -> None:
        """``ours``: whether the map begins with what is in ``path``.

        Raises:
            MapFileError: nothing can be saved there, which is not to be found out when the map is there.
        """
        check_writable(path)
        self._path = path
        self._ours = ours
        self._log = logger
        self._pending = False
        self._next = 0.0
        self._saved: tuple[int, int] | None = None  # how far the map had come

    def begin(self) -> None:
        """From now on there may be more in the map than was saved of it."""
        self._pending = True
        self._next = time.monotonic() + PERIOD

    def due(self, mapper: Mapper) -> bool:
        """Whether it is time to save a map that grows."""
        return self._pending and time.monotonic() >= self._next and _progress(mapper) != self._saved

    def save(self, mapper: Mapper) -> bool:
        """Save it unless it is empty; False after an error, which is logged: there should be another attempt."""
        self._next = time.monotonic() + PERIOD
        if not len(mapper.snapshot.scene):
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            check_replaceable(self._path)
            self._keep_other()
            mapper.save(self._path)
        except Exception as error:  # whatever it is, the node must go on, or come to its end
            self._log.error(f"map not saved: {error}")
            return False
        self._ours, self._saved = True, _progress(mapper)
        self._log.info(f"map saved in {self._path}")
        return True

    def end(self, mapper: Mapper) -> None:
        """Save it if it was not since ``begin``."""
        if self._pending:
            self._pending = not self.save(mapper)

    def _keep_other(self) -> None:
        if self._ours or not self._path.is_dir() or not any(self._path.iterdir()):
            return
        made = datetime.fromtimestamp(self._path.stat().st_mtime)
        kept = self._path.with_name(f"{self._path.name}.{made:%Y%m%d-%H%M%S}")
        if kept.exists():
            raise MapFileError(f"{self._path} holds another map, and {kept} is taken: move one of them")
        self._path.rename(kept)
        self._log.warning(f"{self._path} held another map, which is {kept.name} now")


def _progress(mapper: Mapper) -> tuple[int, int]:
    return mapper.stats.taken, mapper.stats.steps
