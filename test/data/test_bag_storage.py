"""Bags whose files cannot be read as they are: without an index, compressed, or left behind by a killed recorder."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from data.recorder import STORE, Recorder, pose
from rosbags.typesys import get_types_from_msg

from lift_ros.data import open_capture
from lift_ros.data.bag_file import BagFile
from lift_ros.errors import DatasetError

COUNT = 40
SIZE = (120, 90)  # 1.3 MB in all: more than one chunk of MCAP
MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, METADATA, DATA_END = 1, 2, 3, 4, 5, 6, 8, 0x0C, 0x0F
STATISTICS, PRIVATE = 0x0B, 0x80


def record_out_of_order(bag: Recorder) -> None:
    """Messages by the time they arrived at, in the order in which their queues were emptied: intrinsics come late."""
    for index in range(COUNT):
        bag.tf(0.1 * index, "map", "optical", pose(index))
        bag.delay = 0.005
        bag.image(0.1 * index, size=SIZE, value=index)
        bag.delay = 0.003
        bag.info(0.1 * index, size=SIZE)
        bag.delay = 0.0


def storage_file(bag: Path) -> Path:
    return next(file for file in bag.iterdir() if file.name != "metadata.yaml")


def cut(bag: Path, share: float) -> Path:
    """The storage file of a bag, of which this share is left."""
    file = storage_file(bag)
    os.truncate(file, int(share * file.stat().st_size))
    return file


def images(path: Path) -> list[int]:
    """Which images can be used."""
    with open_capture(path) as capture:
        return [int(frame.image[0, 0, 0]) for frame in capture.frames]


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(opcode, content) of MCAP."""
    at = 0
    while at < len(data) - len(MAGIC):
        opcode, length = struct.unpack_from("<BQ", data, at)
        yield opcode, data[at + 9 : at + 9 + length]
        at += 9 + length


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def ending(summary_start: int = 0) -> bytes:
    return record(FOOTER, struct.pack("<QQI", summary_start, 0, 0)) + MAGIC


def without_chunks(data: bytes) -> bytes:
    """As ``--storage-preset-profile fastwrite`` writes it."""
    out = MAGIC
    for opcode, content in records(data[len(MAGIC) :]):
        if opcode == HEADER:
            out += record(opcode, content) + record(METADATA, struct.pack("<II", 0, 0))
        elif opcode == CHUNK:
            out += content[40:]  # of no compression
        elif opcode == DATA_END:
            break
    return out + record(DATA_END, bytes(4)) + ending()


def without_summary(data: bytes) -> bytes:
    (summary_start,) = struct.unpack_from("<Q", data, len(data) - len(ending()) + 9)
    return data[:summary_start] + ending()


def without_message_index(data: bytes) -> bytes:
    (summary_start,) = struct.unpack_from("<Q", data, len(data) - len(ending()) + 9)
    out = data[:summary_start]
    for opcode, content in records(data[summary_start:]):
        if opcode == CHUNK_INDEX:
            (length,) = struct.unpack_from("<I", content, 32)
            content = content[:32] + struct.pack("<I", 0) + content[36 + length :]
        if opcode != FOOTER:
            out += record(opcode, content)
    return out + ending(summary_start)


@pytest.mark.parametrize("form", [without_chunks, without_summary, without_message_index])
@pytest.mark.parametrize("metadata", [True, False])
def test_mcap_without_an_index_is_read_whole_in_the_order_of_time(tmp_path, form, metadata):
    bag = tmp_path / "bag"
    with Recorder(bag) as recorder:
        record_out_of_order(recorder)
    file = storage_file(bag)
    file.write_bytes(form(file.read_bytes()))
    if not metadata:
        (bag / "metadata.yaml").unlink()
    with open_capture(bag) as capture:
        assert [int(frame.image[0, 0, 0]) for frame in capture.frames] == list(range(COUNT))
        assert not capture.skipped and not any("damaged" in problem for problem in capture.problems)
        assert bool(capture.problems) != metadata
    reader = BagFile(bag)
    times = [time_ns for _, time_ns, _ in reader.raw_messages(list(reader.types))]
    reader.close()
    assert len(times) == 3 * COUNT and times == sorted(times)


@pytest.mark.parametrize("chunks", [True, False])
def test_cut_mcap_out_of_order_is_read_as_far_as_it_goes(tmp_path, chunks):
    bag = tmp_path / "bag"
    with Recorder(bag) as recorder:
        record_out_of_order(recorder)
    if not chunks:
        file = storage_file(bag)
        file.write_bytes(without_chunks(file.read_bytes()))
    cut(bag, 0.9)
    found = images(bag)
    assert COUNT * 0.6 < len(found) < COUNT and found == list(range(len(found)))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_cut_bag_keeps_topics_of_types_that_are_not_known(tmp_path, storage):
    STORE.register(get_types_from_msg("string text", "notes/msg/Note"))
    with Recorder(tmp_path / "bag", storage) as recorder:
        recorder.write("/notes", "notes/msg/Note", 0.0, text="of another package")
        record_out_of_order(recorder)
    cut(tmp_path / "bag", 0.9)
    bag = BagFile(tmp_path / "bag")
    assert bag.types["/notes"] == "notes/msg/Note" and "damaged or cut off" in bag.problems[0]
    ((_, _, raw),) = bag.raw_messages(["/notes"])
    bag.close()
    assert b"of another package" in raw


def test_records_that_only_other_programs_know_are_passed_over(tmp_path):
    with Recorder(tmp_path / "bag") as recorder:
        record_out_of_order(recorder)
    file = storage_file(tmp_path / "bag")
    out, all_records = MAGIC, list(records(without_chunks(file.read_bytes())[len(MAGIC) :]))
    for number, (opcode, content) in enumerate(all_records):
        if number == len(all_records) // 2:
            out += record(PRIVATE, b"of another program")
        out += record(opcode, content)
    file.write_bytes(out[: -len(ending())] + ending())
    assert images(file) == list(range(COUNT))


def test_a_byte_that_is_wrong_in_a_file_without_chunks_is_no_loss_without_a_word(tmp_path):
    with Recorder(tmp_path / "bag") as recorder:
        recorder.posed_images(20)
    file = storage_file(tmp_path / "bag")
    flat = without_chunks(file.read_bytes())
    found = list(records(flat[len(MAGIC) :]))
    messages = [content for opcode, content in found if opcode == MESSAGE]
    times = [struct.unpack_from("<q", content, 6)[0] for content in messages]
    channels = [struct.unpack_from("<H", content)[0] for content in messages]
    summary = b"".join(record(opcode, content) for opcode, content in found if opcode in (SCHEMA, CHANNEL))
    per_channel = b"".join(struct.pack("<HQ", key, channels.count(key)) for key in sorted(set(channels)))
    counts = struct.pack("<QHIIIIqq", len(messages), 3, len(set(channels)), 0, 0, 0, min(times), max(times))
    summary += record(STATISTICS, counts + struct.pack("<I", len(per_channel)) + per_channel)
    whole = flat[: -len(ending())] + summary + ending(len(flat) - len(ending()))
    file.write_bytes(whole)
    assert len(images(file)) == 20
    at = whole.index(record(MESSAGE, messages[30]))
    file.write_bytes(whole[:at] + b"\0" + whole[at + 1 :])
    bag = BagFile(file)
    assert bag.counts.total() == 30 and "30 of 60 messages" in bag.problems[0]
    bag.close()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_without_room_for_a_copy_a_bag_is_read_as_far_as_it_can_be(tmp_path, storage):
    with Recorder(tmp_path / "bag", storage) as recorder:
        recorder.posed_images(100)
    file = storage_file(tmp_path / "bag")
    if storage == "mcap":
        file.write_bytes(without_chunks(file.read_bytes()))
    else:
        file.with_name(f"{file.name}-wal").write_bytes(b"nothing of use")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with open_capture(file) as capture:
            assert len(list(capture.frames)) == 100
            assert any("cannot be copied" in problem for problem in capture.problems)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_files_that_the_metadata_does_not_name_are_not_of_the_bag(tmp_path):
    bag = tmp_path / "bag"
    with Recorder(bag) as recorder:
        recorder.posed_images(5)
    shutil.copy(storage_file(bag), bag / "backup.mcap")
    file = bag / "bag.mcap"
    file.write_bytes(without_chunks(file.read_bytes()))
    reader = BagFile(bag)
    assert len(list(reader.raw_messages(list(reader.types)))) == 15
    reader.close()


def test_a_damaged_bag_is_closed_with_its_reader(tmp_path):
    with Recorder(tmp_path / "bag", "sqlite3") as recorder:
        record_out_of_order(recorder)
    file = cut(tmp_path / "bag", 0.8)
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            BagFile(file).close()
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_mcap_of_ros_1_is_no_damage(tmp_path):
    file = tmp_path / "bag.mcap"
    file.write_bytes(
        MAGIC + record(HEADER, struct.pack("<I4sI", 4, b"ros1", 0)) + record(DATA_END, bytes(4)) + ending()
    )
    with pytest.raises(DatasetError, match="recording of 'ros1', not of ros2"):
        open_capture(file)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["file", "message"])
def test_a_compressed_bag_needs_no_metadata(tmp_path, storage, compression):
    bag = tmp_path / "bag"
    with Recorder(bag, storage, compression) as recorder:
        recorder.posed_images(5)
    assert images(bag) == [50] * 5
    assert images(storage_file(bag)) == [50] * 5
    assert open_capture(storage_file(bag)).name == "bag"
    (bag / "metadata.yaml").unlink()
    assert images(bag) == [50] * 5


def test_a_compressed_file_that_is_cut_is_read_as_far_as_it_goes(tmp_path):
    with Recorder(tmp_path / "bag", compression="file") as recorder:
        record_out_of_order(recorder)
        # what does not compress away
        recorder.write("/notes", "std_msgs/msg/String", 9.0, data="".join(map(str, range(100_000))))
    file = cut(tmp_path / "bag", 0.9)
    found = images(file)
    assert len(found) > COUNT * 0.6 and found == list(range(len(found)))
    file.write_bytes(b"no frame of zstd")
    with pytest.raises(DatasetError, match=r"cannot read .*bag.mcap.zstd .*decompress"):
        open_capture(file)


def test_the_file_that_was_being_compressed_is_read_once(tmp_path):
    for name, compression in (("packed", "file"), ("plain", "none")):
        with Recorder(tmp_path / name, compression=compression) as recorder:
            recorder.posed_images(5)
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copy(storage_file(tmp_path / "plain"), killed / "bag_0.mcap")
    packed = storage_file(tmp_path / "packed").read_bytes()
    (killed / "bag_0.mcap.zstd").write_bytes(packed[: len(packed) // 2])
    with open_capture(killed) as capture:
        assert len(list(capture.frames)) == 5
        assert ["metadata.yaml" in problem for problem in capture.problems] == [True]


def test_a_cut_database_beside_a_log_that_is_of_no_use_is_read_as_far_as_it_goes(tmp_path):
    with Recorder(tmp_path / "bag", "sqlite3") as recorder:
        record_out_of_order(recorder)
    file = cut(tmp_path / "bag", 0.8)
    file.with_name(f"{file.name}-wal").write_bytes(b"nothing of use" * 10)
    found = images(file)
    assert COUNT * 0.5 < len(found) < COUNT and found == list(range(len(found)))


@pytest.mark.parametrize("written_back", [True, False])
def test_what_a_killed_recorder_left_in_the_write_ahead_log_is_read(tmp_path, written_back):
    """As with ``--storage-preset-profile resilient``; some of it may have been written back to the database."""
    with Recorder(tmp_path / "bag", "sqlite3") as recorder:
        record_out_of_order(recorder)
    killed = tmp_path / "killed"
    killed.mkdir()
    database = sqlite3.connect(tmp_path / "recording.db3", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("ATTACH ? AS whole", [str(storage_file(tmp_path / "bag"))])
    database.execute("CREATE TABLE topics AS SELECT * FROM whole.topics")
    database.execute("CREATE TABLE messages AS SELECT * FROM whole.messages WHERE id <= 30")
    if written_back:
        database.execute("PRAGMA wal_checkpoint")
    database.execute("INSERT INTO messages SELECT * FROM whole.messages WHERE id > 30")
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"recording.db3{suffix}", killed / f"bag_0.db3{suffix}")
    database.close()
    before = {file.name: file.read_bytes() for file in killed.iterdir()}
    assert images(killed) == list(range(COUNT))
    assert images(killed / "bag_0.db3") == list(range(COUNT))
    with open_capture(killed / "bag_0.db3") as capture:
        assert capture.files == [killed / "bag_0.db3", killed / "bag_0.db3-wal"]
    (tmp_path / "link.db3").symlink_to(killed / "bag_0.db3")
    assert images(tmp_path / "link.db3") == list(range(COUNT))
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == before


def test_a_file_of_a_split_bag_that_cannot_be_read_is_named(tmp_path):
    with Recorder(tmp_path / "bag") as recorder:
        recorder.posed_images(5)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    (tmp_path / "bag" / "bag_1.mcap").write_bytes(b"garbage" * 50)
    with open_capture(tmp_path / "bag") as capture:
        assert len(list(capture.frames)) == 5
        assert "bag_1.mcap cannot be read" in capture.problems[0]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_file_that_the_metadata_does_not_name_is_told(tmp_path, storage):
    """As where a split was added by hand, or metadata.yaml is of an earlier split alone."""
    with Recorder(tmp_path / "bag", storage) as recorder:
        recorder.posed_images(5)
    file = storage_file(tmp_path / "bag")
    other = shutil.copy(file, file.with_stem("later"))
    file.with_name(f"._{file.name}").write_bytes(b"beside")  # of macOS, on other disks
    with open_capture(tmp_path / "bag") as capture:
        assert len(list(capture.frames)) == 5
        assert capture.problems == [
            f"{other} is not used: metadata.yaml does not list it; if it belongs to the recording, run ros2 bag reindex"
        ]
        assert set(capture.files) == {tmp_path / "bag/metadata.yaml", file}


def test_copies_are_removed_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with Recorder(tmp_path / "bag", compression="file") as recorder:
        recorder.posed_images(5)
    bag = BagFile(storage_file(tmp_path / "bag"))
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    bag.close()
    with pytest.raises(DatasetError):
        (tmp_path / "bad.db3.zstd").write_bytes(b"")
        BagFile(tmp_path / "bad.db3.zstd")
    assert not list((tmp_path / "scratch").iterdir())
