"""Storage files of rosbag2 made readable: decompressed, with all that a killed recorder wrote, in the order of time.

The reader takes no compressed file without its metadata.yaml and none that is cut off. It does not see what SQLite left
in a write-ahead log, and reads MCAP without an index only as far as its messages happen to be in order. Copies of such
files are made in a folder, and read from there. No copy is held in memory.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import sys
from collections.abc import Iterator
from contextlib import closing
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rosbags.rosbag2 import Reader, ReaderError
from rosbags.rosbag2.storage_mcap import McapReader, decompress, read_string

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd  # comes with rosbags

STORAGE_SUFFIXES = (".mcap", ".db3")
COMPRESSED_SUFFIX = ".zstd"

# The parsers of the storage formats do not check every length before they use it: damaged bytes make them raise
# anything (ReaderError, apsw.Error, struct.error, OverflowError, AssertionError, ... have all been met).
DAMAGE = Exception

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # a message in CDR starts with a 0
_MCAP_MAGIC = b"\x89MCAP0\r\n"
_MCAP_RECORD = struct.Struct("<BQ")  # opcode, length
_MCAP_MESSAGE = struct.Struct("<HIqq")  # channel, sequence, log time, publish time; then the data
_MCAP_CHUNK = struct.Struct("<QQQII")  # first and last time, size, checksum, length of the compression's name
_HEADER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x01, 0x03, 0x04, 0x05, 0x06
# header ... metadata index, private records: what may stand before the end of the data
_MCAP_DATA = frozenset((_HEADER, *range(_SCHEMA, 0x0E), *range(0x80, 0x100)))

# no message definitions: the types of messages that are decoded are known
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB);
CREATE INDEX timestamp_idx ON messages (timestamp);
"""


class _Topic(NamedTuple):
    id: int
    name: str
    type: str
    format: str


class _Message(NamedTuple):
    topic_id: int
    time_ns: int
    data: bytes


_INSERT = {
    _Topic: "INSERT OR REPLACE INTO topics VALUES (?, ?, ?, ?)",
    _Message: "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)",
}


def open_reader(path: Path) -> Reader:
    """A reader, opened, of a bag's folder or of one storage file. Raises any exception (``DAMAGE``) on bad files."""
    reader = Reader(path)
    reader.open()
    return reader


def is_indexed(reader: Reader) -> bool:
    """Whether every message is in an index, so that it can be found and comes in the order of time."""
    storages = getattr(reader.storage, "storages", [reader.storage])
    return all(
        sum(sum(chunk.channel_count.values()) for chunk in storage.chunks) >= storage.statistics.message_count
        for storage in storages
        if isinstance(storage, McapReader)
    )


def storage_files(folder: Path) -> list[Path]:
    """The storage files of a bag's folder, by name. Of a file that is there compressed and not, the latter."""
    files = sorted(
        file
        for file in folder.iterdir()
        if file.name.removesuffix(COMPRESSED_SUFFIX).endswith(STORAGE_SUFFIXES)
        and not file.name.startswith(".")  # what macOS keeps beside files on other disks, "._bag_0.mcap"
    )
    # a recorder that is killed while it compresses a file leaves both
    return [file for file in files if file.suffix != COMPRESSED_SUFFIX or file.with_suffix("") not in files]


def decompressed(file: Path, folder: Path) -> Path:
    """A copy in ``folder`` of a compressed storage file, up to where it is damaged. Raises ``zstd.ZstdError``."""
    copy = folder / file.stem
    with zstd.open(file) as source, copy.open("wb") as target:
        try:
            shutil.copyfileobj(source, target)
        except (EOFError, zstd.ZstdError):
            if not target.tell():
                raise
    return copy


def decompressed_message(data: bytes) -> bytes:
    """A serialized message, as it was before compression; only metadata.yaml tells of it. Raises ``ZstdError``."""
    return zstd.decompress(data) if data.startswith(_ZSTD_MAGIC) else data


def write_ahead_log(file: Path) -> Path:
    """Where SQLite keeps that of a database; of a link, of the file it leads to."""
    file = file.resolve()
    return file.with_name(f"{file.name}-wal")


def has_wal(file: Path) -> bool:
    """Whether SQLite left something in a write-ahead log beside ``file``."""
    wal = write_ahead_log(file)
    return wal.is_file() and wal.stat().st_size > 0


def with_wal(file: Path, folder: Path) -> Path:
    """A copy of a database in ``folder`` with what is in its write-ahead log, if it is whole. Raises ``OSError``."""
    copy = folder / file.name
    shutil.copyfile(file, copy)
    shutil.copyfile(write_ahead_log(file), write_ahead_log(copy))
    try:
        with closing(sqlite3.connect(copy)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.DatabaseError:  # cut off: without the log, what is readable of it is found
        shutil.copyfile(file, copy)
        write_ahead_log(copy).unlink(missing_ok=True)
    return copy


def indexed(file: Path, folder: Path) -> Path:
    """A copy in ``folder`` of all messages of a storage file up to where it is damaged, found by their time.

    Raises anything (``DAMAGE``) where the first cannot be read, ``sqlite3.OperationalError`` where there is no room.
    """
    copy = folder / f"indexed_{file.name}.db3"
    rows = _mcap_rows(file) if file.suffix == ".mcap" else _sqlite_rows(file, folder)
    try:
        with closing(sqlite3.connect(copy)) as database:
            database.executescript(_TABLES)
            for row in _up_to_damage(rows):
                database.execute(_INSERT[type(row)], row)
            database.commit()
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    return copy


def _up_to_damage(rows: Iterator[_Topic | _Message]) -> Iterator[_Topic | _Message]:
    """``rows`` until one cannot be read. Raises why, where there was no message before it."""
    any_message = False
    try:
        for row in rows:
            any_message = any_message or type(row) is _Message
            yield row
    except DAMAGE:
        if not any_message:
            raise


def _mcap_rows(file: Path) -> Iterator[_Topic | _Message]:
    types: dict[int, str] = {}
    with file.open("rb") as source:
        if source.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            raise ReaderError(f"{file} does not start as an MCAP file")
        for opcode, content in _mcap_records(source, file.stat().st_size):
            record = BytesIO(content)
            if opcode == _HEADER:
                if (profile := read_string(record)) != "ros2":
                    raise ReaderError(f"{file} is a recording of '{profile}', not of ros2")
            elif opcode == _SCHEMA:
                (key,) = struct.unpack("<H", record.read(2))
                types[key] = read_string(record)
            elif opcode == _CHANNEL:
                key, schema = struct.unpack("<HH", record.read(4))
                yield _Topic(key, read_string(record), types.get(schema, ""), read_string(record))
            else:
                key, _, time_ns, _ = _MCAP_MESSAGE.unpack_from(content)
                yield _Message(key, time_ns, content[_MCAP_MESSAGE.size :])


def _mcap_records(source: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """(opcode, content) of header, schemas, channels and messages, also those in chunks, as long as they are whole."""
    while len(head := source.read(_MCAP_RECORD.size)) == _MCAP_RECORD.size:
        opcode, length = _MCAP_RECORD.unpack(head)
        if opcode not in _MCAP_DATA or source.tell() + length > size:
            return
        if opcode in (_HEADER, _SCHEMA, _CHANNEL, _MESSAGE):
            yield opcode, source.read(length)
        elif opcode == _CHUNK:
            records = _records_of_chunk(source.read(length))
            yield from _mcap_records(BytesIO(records), len(records))
        else:
            source.seek(length, SEEK_CUR)


def _records_of_chunk(content: bytes) -> bytes:
    _, _, size, checksum, name_length = _MCAP_CHUNK.unpack_from(content)
    at = _MCAP_CHUNK.size + name_length
    compression = content[_MCAP_CHUNK.size : at].decode()
    (length,) = struct.unpack_from("<Q", content, at)
    return decompress(content[at + 8 : at + 8 + length], compression, size, checksum)


def _sqlite_rows(file: Path, folder: Path) -> Iterator[_Topic | _Message]:
    """In the order they were written: the end of a cut database is what is missing."""
    size = max(file.stat().st_size, _declared_size(file))
    padded = folder / f"padded_{file.name}"  # SQLite opens no file that is shorter than its header says
    shutil.copyfile(file, padded)
    os.truncate(padded, size)
    try:
        with closing(sqlite3.connect(f"file:{padded}?immutable=1", uri=True)) as database:
            yield from map(_Topic._make, database.execute("SELECT id, name, type, serialization_format FROM topics"))
            messages = "SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id"
            yield from map(_Message._make, database.execute(messages))
    finally:
        padded.unlink()


def _declared_size(file: Path) -> int:
    """Bytes that a database has by its header. Raises ReaderError."""
    with file.open("rb") as source:
        header = source.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise ReaderError(f"{file} does not start as an SQLite file")
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    return pages * (65536 if page_size == 1 else page_size)
