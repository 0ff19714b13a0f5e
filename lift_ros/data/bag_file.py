"""Messages of a rosbag2 recording, also of one that was cut off: what is readable is read.

A recorder that is killed or runs out of disk leaves no metadata.yaml, no index and half a record at the end. Such files
are completed in a temporary folder and read from there.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import ReaderError, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from lift_ros.errors import DatasetError

STORAGE_SUFFIXES = (".mcap", ".db3")

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_MCAP_RECORD = struct.Struct("<BQ")  # opcode, length
_MCAP_CHUNK_OPCODES = range(0x01, 0x0B)  # header ... attachment index: what may stand before the end of the data
_MCAP_FOOTER = struct.pack("<BQQQI", 0x02, 20, 0, 0, 0)  # no summary: readers scan the data

# The parsers of the storage formats do not check every length before they use it: damaged bytes make them raise
# anything (ReaderError, apsw.Error, struct.error, OverflowError, AssertionError, ... have all been met).
_DAMAGE = Exception


class BagFile:
    """Reads a rosbag2 directory or a single ``.mcap`` or ``.db3`` file.

    Attributes:
        types: message type of each topic.
        counts: number of readable messages of each topic.
        problems: sentences about what could not be read.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            DatasetError: not one message can be read.
        """
        self.problems: list[str] = []
        self._scratch: TemporaryDirectory[str] | None = None
        try:
            self._reader = _opened([path])
        except _DAMAGE as error:
            self._reader = self._open_damaged(path, error)
        self.types: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        for connection in self._reader.connections:
            self.types[connection.topic] = connection.msgtype
            self.counts[connection.topic] += connection.msgcount
        if not self.counts.total():
            self.close()
            raise DatasetError(f"{path} holds no messages")

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """(topic, time of recording in ns, message) of these topics in [start, stop), ordered in time.

        Ends early, with an entry in ``problems``, where the file is damaged.
        """
        for topic, time_ns, raw in self.raw_messages(topics, start_ns, stop_ns):
            try:
                message = self._reader.deserialize(raw, self.types[topic])
            except _DAMAGE as error:
                self._report(f"messages of {', '.join(sorted(topics))} end early: {error}")
                return
            yield topic, time_ns, message

    def raw_messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """As ``messages``, in the serialized form (CDR) they were recorded in."""
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:
            return
        try:
            for connection, time_ns, raw in self._reader.messages(connections, start=start_ns, stop=stop_ns):
                yield connection.topic, time_ns, bytes(raw)
        except _DAMAGE as error:
            self._report(f"messages of {', '.join(sorted(topics))} end early: {error}")

    def close(self) -> None:
        """Release the file and what was completed in a temporary folder."""
        self._reader.close()
        if self._scratch:
            self._scratch.cleanup()

    def _report(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _open_damaged(self, path: Path, cause: Exception) -> AnyReader:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in STORAGE_SUFFIXES)
        usable: list[Path] = []
        reasons = [str(cause)]
        for file in files:
            try:
                _opened([file]).close()
                usable.append(file)
            except _DAMAGE as error:
                self._scratch = self._scratch or TemporaryDirectory(prefix="lift_bag_")
                try:
                    copy = _completed(file, Path(self._scratch.name))
                    _opened([copy]).close()
                    usable.append(copy)
                    self._report(f"{file} is damaged or cut off; what is readable of it is used")
                except _DAMAGE as fatal:
                    reasons = [str(error), str(fatal)]
        if not usable:
            if self._scratch:
                self._scratch.cleanup()
            raise DatasetError(
                f"cannot read {path} as a rosbag2 recording (mcap or sqlite3): {'; '.join(dict.fromkeys(reasons))}"
            )
        if path.is_dir() and not self.problems:
            self._report(f"{path}/metadata.yaml cannot be used ({cause}); its storage files were read without it")
        return _opened(usable)


def _opened(paths: list[Path]) -> AnyReader:
    # bags recorded before ROS 2 Iron hold no message definitions; those read here have not changed since
    reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_HUMBLE))
    reader.open()
    return reader


def _completed(file: Path, folder: Path) -> Path:
    """A readable copy of the part of ``file`` before the damage. Raises where nothing can be read."""
    return (_complete_mcap if file.suffix == ".mcap" else _complete_sqlite)(file, folder)


def _complete_mcap(file: Path, folder: Path) -> Path:
    """The whole records of a cut MCAP file, closed by an empty footer."""
    size = file.stat().st_size
    with file.open("rb") as source:
        if source.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            raise ReaderError(f"{file} does not start as an MCAP file")
        end = source.tell()
        while len(head := source.read(_MCAP_RECORD.size)) == _MCAP_RECORD.size:
            opcode, length = _MCAP_RECORD.unpack(head)
            if opcode not in _MCAP_CHUNK_OPCODES or end + _MCAP_RECORD.size + length > size:
                break
            end += _MCAP_RECORD.size + length
            source.seek(end)
        copy = folder / file.name
        source.seek(0)
        with copy.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.truncate(end)
            target.seek(end)
            target.write(_MCAP_FOOTER + _MCAP_MAGIC)
    return copy


def _complete_sqlite(file: Path, folder: Path) -> Path:
    """A new bag with the rows that can be read of a cut database, in the order they were written."""
    padded = folder / f"padded_{file.name}"
    shutil.copyfile(file, padded)
    with padded.open("r+b") as target:
        header = target.read(100)
        if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
            raise ReaderError(f"{file} does not start as an SQLite file")
        page_size = int.from_bytes(header[16:18], "big")
        pages = int.from_bytes(header[28:32], "big")
        # SQLite opens no file shorter than its header says; missing pages then fail when they are met
        target.truncate(max(padded.stat().st_size, pages * (65536 if page_size == 1 else page_size)))

    bag = folder / f"{file.stem}_completed"
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    database = sqlite3.connect(f"file:{padded}?immutable=1", uri=True)
    try:
        topics = database.execute("SELECT id, name, type FROM topics").fetchall()
        with Writer(bag, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
            known = [(key, name, kind) for key, name, kind in topics if kind in typestore.types]
            connections = {key: writer.add_connection(name, kind, typestore=typestore) for key, name, kind in known}
            rows = database.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id")
            try:
                for key, time_ns, data in rows:
                    if key in connections:
                        writer.write(connections[key], time_ns, data)
            except sqlite3.DatabaseError:
                pass  # the end of what is readable
    finally:
        database.close()
        padded.unlink()
    return bag
