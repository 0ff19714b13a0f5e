"""Messages of a rosbag2 recording, also of one that was cut off: what is readable is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from functools import cached_property
from heapq import merge
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from lift_ros.data.bag_storage import (
    COMPRESSED_SUFFIX,
    DAMAGE,
    decompressed,
    decompressed_message,
    has_wal,
    indexed,
    is_indexed,
    open_reader,
    storage_files,
    with_wal,
    write_ahead_log,
)
from lift_ros.errors import DatasetError


class BagFile:
    """Reads a rosbag2 directory or a single ``.mcap`` or ``.db3`` file, also ``.mcap.zstd`` or ``.db3.zstd``.

    Attributes:
        types: message type of each topic.
        counts: number of readable messages of each topic.
        problems: sentences about what could not be read.
        files: what it is read from.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            DatasetError: not one message can be read.
        """
        self.problems: list[str] = []
        self.files: list[Path] = []
        self.types: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        # not the definitions in the bag, which older ones lack: the types read here are the same in every ROS 2
        self._typestore = get_typestore(Stores.ROS2_HUMBLE)
        self._opened = ExitStack()
        try:
            self._readers = self._open(path)
            for reader in self._readers:
                for connection in reader.connections:
                    self.types[connection.topic] = connection.msgtype
                    self.counts[connection.topic] += connection.msgcount
            if not self.counts.total():
                raise DatasetError("; ".join([f"{path} holds no messages", *self.problems]))
        except BaseException:
            self.close()
            raise

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """(topic, time of recording in ns, message) of these topics in [start, stop), ordered in time.

        Ends early, with an entry in ``problems``, where the file is damaged.
        """
        for topic, time_ns, raw in self.raw_messages(topics, start_ns, stop_ns):
            try:
                message = self._typestore.deserialize_cdr(raw, self.types[topic])
            except DAMAGE as error:
                self._report(f"messages of {', '.join(sorted(topics))} end early: {error}")
                return
            yield topic, time_ns, message

    def raw_messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """As ``messages``, in the serialized form (CDR) they were recorded in."""
        sources = []
        for reader in self._readers:
            if connections := [c for c in reader.connections if c.topic in topics]:
                sources.append(reader.messages(connections, start=start_ns, stop=stop_ns))
        try:
            for connection, time_ns, raw in merge(*sources, key=itemgetter(1)):
                yield connection.topic, time_ns, decompressed_message(bytes(raw))
        except DAMAGE as error:
            self._report(f"messages of {', '.join(sorted(topics))} end early: {error}")

    def close(self) -> None:
        """Release the files, and what was copied to a temporary folder."""
        self._opened.close()

    @cached_property
    def _scratch(self) -> Path:
        return Path(self._opened.enter_context(TemporaryDirectory(prefix="lift_bag_")))

    def _report(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _open(self, path: Path) -> list[Reader]:
        """The bag as a whole by its metadata.yaml, else its files one by one. Raises DatasetError."""
        files, no_metadata = [path], []
        if path.is_dir():
            files = storage_files(path)
            self.files.append(path / "metadata.yaml")
            try:
                reader = open_reader(path)
                named = {storage.path.name for storage in reader.storage.storages}  # less the suffix of compression
                there, files = files, [file for file in files if {file.name, file.stem} & named] or files
                for file in there:
                    if file not in files:
                        self._report(
                            f"{file} is not used: metadata.yaml does not list it; if it belongs to the recording, run "
                            "ros2 bag reindex"
                        )
                if is_indexed(reader) and not any(map(has_wal, files)):
                    self.files += files
                    return [self._kept(reader)]
                reader.close()
            except DAMAGE as error:
                no_metadata.append(str(error))
        self.files += [*files, *(write_ahead_log(file) for file in files if has_wal(file))]
        readers: list[Reader] = []
        unreadable: dict[Path, str] = {}
        for file in files:
            try:
                readers.append(self._open_file(file))
            except DAMAGE as error:
                unreadable[file] = str(error)
        if not readers:
            why = "; ".join([*no_metadata, *unreadable.values()])
            raise DatasetError(f"cannot read {path} as a rosbag2 recording (mcap or sqlite3): {why}")
        for file, reason in unreadable.items():
            self._report(f"{file} cannot be read and is left out: {reason}")
        if no_metadata and not self.problems:
            self._report(
                f"{path}/metadata.yaml cannot be used ({no_metadata[0]}); its storage files were read without it"
            )
        return readers

    def _open_file(self, file: Path) -> Reader:
        """A storage file, or a copy where it cannot be read as it is. Raises anything where no message can be."""
        source = self._complete(file)
        damage, promised = "", 0
        try:
            reader = open_reader(source)
            if is_indexed(reader):
                return self._kept(reader)
            promised = reader.message_count
            reader.close()
        except DAMAGE as error:
            damage = str(error) or type(error).__name__  # not the error: its traceback would keep the file open
        try:
            reader = self._kept(open_reader(indexed(source, self._scratch)))
        except DAMAGE as error:
            if damage:
                raise
            self._report(f"{file} has no index and cannot be copied to be given one ({error}); messages may be missing")
            return self._kept(open_reader(source))
        if source != file:
            source.unlink()
        if not damage and reader.message_count < promised:
            damage = f"{reader.message_count} of {promised} messages"
        if damage:
            self._report(f"{file} is damaged or cut off ({damage}); what is readable of it is used")
        return reader

    def _complete(self, file: Path) -> Path:
        """The file itself, or a copy with what is compressed or beside it."""
        if file.suffix == COMPRESSED_SUFFIX:
            return decompressed(file, self._scratch)
        if not has_wal(file):
            return file
        try:
            return with_wal(file, self._scratch)
        except OSError as error:
            self._report(f"{file} is read without its write-ahead log, as it cannot be copied ({error})")
            return file

    def _kept(self, reader: Reader) -> Reader:
        self._opened.callback(reader.close)
        return reader
