"""Nodes as processes of their own, started as a launch file would, and stopped whatever happens."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TextIO

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from lift_ros.errors import LiftError

STOP_TIMEOUT = 15.0  # s, for a node to end by itself
LOG_LINES = 15  # of a failed node's output to show
DOMAINS = 100  # from 1 on: ports of those beyond may be taken by any program of the system

_held: list[TextIO] = []  # files that are locked for as long as this process lives


class Processes:
    """Executables of this package. A context manager: at its end every one of them has ended.

    What they print goes to ``<name>.log`` in the directory of the logs.
    """

    def __init__(self, logs: Path) -> None:
        """Raises LiftError: the package is not built, or its workspace is not sourced."""
        try:
            self._executables = Path(get_package_prefix("lift_ros")) / "lib" / "lift_ros"
        except PackageNotFoundError:
            raise LiftError("the package lift_ros is not built here, or its workspace is not sourced") from None
        self._logs = logs
        self._running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> Processes:
        self._on_terminate = signal.signal(signal.SIGTERM, _interrupt)  # which ends `with` blocks, unlike the default
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for process in self._running.values():
                process.send_signal(signal.SIGINT)
            for process in self._running.values():
                process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()
            signal.signal(signal.SIGTERM, self._on_terminate)

    def start(self, name: str, *arguments: str) -> None:
        """Start the executable ``name``."""
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [str(self._executables / name), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def pid(self, name: str) -> int:
        """Of the process of the executable ``name``."""
        return self._running[name].pid

    def is_running(self, name: str) -> bool:
        """False once it has ended well. Raises LiftError if it has not."""
        status = self._running[name].poll()
        if status:
            raise self._failure(name)
        return status is None

    def require(self, name: str) -> None:
        """Raises LiftError if it has ended."""
        if self._running[name].poll() is not None:
            raise self._failure(name)

    def _failure(self, name: str) -> LiftError:
        tail = "\n".join(self._log(name).read_text(errors="replace").splitlines()[-LOG_LINES:])
        status = self._running[name].returncode
        return LiftError(f"{name} ended with status {status}; the end of {self._log(name)}:\n{tail}")

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def free_domain() -> int:
    """A ROS domain that this process has to itself among those on this computer that ask here, to its end.

    Raises LiftError: all are taken.
    """
    for k in range(DOMAINS):
        domain = (os.getpid() + k) % DOMAINS + 1  # other containers see other files: not all should start with the same
        try:
            file = (Path(tempfile.gettempdir()) / f"lift_ros_domain_{domain}.lock").open("a")
        except OSError:  # another user's
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _held.append(file)
        return domain
    raise LiftError(f"all ROS domains from 1 to {DOMAINS} are taken by processes of lift_ros; set ROS_DOMAIN_ID")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
