"""Masks made elsewhere: stored with a data set, or offered by another node."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest
from masks.models import frame_of, random_image
from PIL import Image

from lift_ros.errors import DatasetError, FrameRejected
from lift_ros.masks.config import MasksConfig
from lift_ros.masks.factory import make_segmenter
from lift_ros.masks.recorded import MAX_IDS
from lift_ros.masks.topic import TopicSegmenter

LABELS = np.kron(np.array([[0, 300], [7, 300]], np.uint16), np.ones((12, 16), np.uint16))
FOREVER = 600.0  # s
STAMP_NS = 1_763_712_345_123_456_789
IMAGE = random_image(24, 32)


def frame_at(stamp_ns: int):
    return frame_of(IMAGE, stamp=stamp_ns * 1e-9)


@pytest.fixture
def masks_dir(tmp_path):
    directory = tmp_path / "masks_SAM"
    directory.mkdir()
    cv2.imwrite(str(directory / "0001.png"), LABELS)
    return directory


def test_recorded_masks_by_the_frames_name(masks_dir):
    masks = make_segmenter(MasksConfig("recorded", directory=str(masks_dir))).segment(frame_of(IMAGE, name="0001"))
    np.testing.assert_array_equal(masks.masks, [LABELS == 7, LABELS == 300])
    assert masks.prompts_used == 0


def test_recorded_masks_at_another_resolution(masks_dir):
    masks = make_segmenter(MasksConfig("recorded", directory=str(masks_dir))).segment(
        frame_of(random_image(12, 16), name="0001")
    )
    np.testing.assert_array_equal(masks.masks[0], LABELS[::2, ::2] == 7)


def test_recorded_masks_that_are_missing_or_of_another_shape(masks_dir):
    segmenter = make_segmenter(MasksConfig("recorded", directory=str(masks_dir)))
    for name, image, reason in [
        ("0002", IMAGE, "masks_missing"),
        ("", IMAGE, "masks_missing"),
        ("0001", random_image(20, 32), "masks_size"),
    ]:
        with pytest.raises(FrameRejected) as rejected:
            segmenter.segment(frame_of(image, name=name))
        assert rejected.value.reason == reason


def test_recorded_files_that_are_no_label_images(masks_dir):
    segmenter = make_segmenter(MasksConfig("recorded", directory=str(masks_dir)))
    (masks_dir / "0002.png").write_bytes((masks_dir / "0001.png").read_bytes()[:30])
    cv2.imwrite(str(masks_dir / "0003.png"), IMAGE)
    for name, reason in (("0002", "labels_unreadable"), ("0003", "labels_encoding")):
        with pytest.raises(FrameRejected, match=f"{name}.png") as rejected:  # the other frames can still be used
            segmenter.segment(frame_of(IMAGE, name=name))
        assert rejected.value.reason == reason


def test_recorded_palette_images_are_ids(masks_dir):
    picture = Image.fromarray((LABELS > 0).astype(np.uint8) * 3, mode="P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(masks_dir / "0004.png")
    masks = make_segmenter(MasksConfig("recorded", directory=str(masks_dir))).segment(frame_of(IMAGE, name="0004"))
    np.testing.assert_array_equal(masks.masks, [LABELS > 0])


def test_recorded_directory_that_is_missing_names_its_neighbours(masks_dir):
    with pytest.raises(DatasetError, match="masks_L0; there are masks_SAM"):
        make_segmenter(MasksConfig("recorded", directory=str(masks_dir.parent / "masks_L0")))
    with pytest.raises(DatasetError, match="need the directory"):
        make_segmenter(MasksConfig("recorded"))


def test_recorded_masks_of_a_capture(captured):
    from lift_ros.masks.recorded import RecordedSegmenter

    room = captured("room12")
    image = cv2.imread(str(room / "rgb" / "0000.jpg"))
    masks = RecordedSegmenter(room / "masks_L0").segment(frame_of(image, name="0000"))
    assert len(masks) >= 5
    assert masks.masks.sum(0).max() == 1


def test_offered_masks_are_found_by_their_stamp():
    topic = make_segmenter(MasksConfig("topic"))
    topic.offer(STAMP_NS + 33_000_000, np.zeros((24, 32), np.uint16))
    topic.offer(STAMP_NS, LABELS)
    masks = topic.segment(frame_at(STAMP_NS))  # the stamp in seconds is rounded to float64
    np.testing.assert_array_equal(masks.masks, [LABELS == 7, LABELS == 300])
    assert len(topic.segment(frame_at(STAMP_NS + 33_000_000))) == 0


def test_masks_that_never_come():
    topic = TopicSegmenter()
    topic.offer(STAMP_NS + 5_000, LABELS)  # another image, 5 microseconds later
    assert not topic.has(STAMP_NS)
    with pytest.raises(FrameRejected, match="no masks") as rejected:
        topic.segment(frame_at(STAMP_NS))
    assert rejected.value.reason == "masks_missing"


def test_it_is_known_which_masks_are_there():
    topic = TopicSegmenter()
    topic.offer(STAMP_NS, LABELS)
    assert [topic.has(STAMP_NS + ns) for ns in (-(10**9), -10, 0, 10, 10**9)] == [False, True, True, True, False]
    assert len(topic.segment(frame_at(STAMP_NS))) == 2
    assert not topic.has(STAMP_NS)  # they are given once


def test_masks_of_before_a_jump_that_come_late_are_let_go():
    topic = TopicSegmenter()
    topic.clear()
    topic.offer(STAMP_NS + 10**12, LABELS)  # of a slow segmenter
    topic.offer(STAMP_NS, LABELS)
    assert topic.has(STAMP_NS) and not topic.has(STAMP_NS + 10**12)


def test_a_frame_of_before_a_jump_takes_no_masks_along():
    topic = TopicSegmenter()
    topic.offer(STAMP_NS, LABELS)
    with pytest.raises(FrameRejected):
        topic.segment(frame_at(STAMP_NS + 10**12))
    assert len(topic.segment(frame_at(STAMP_NS))) == 2


def test_oldest_offers_are_dropped():
    topic = TopicSegmenter(capacity=2)
    for k in range(3):
        topic.offer(STAMP_NS + k * 10**8, LABELS)
    with pytest.raises(FrameRejected):
        topic.segment(frame_at(STAMP_NS))
    assert len(topic.segment(frame_at(STAMP_NS + 2 * 10**8))) == 2
    topic.clear()
    with pytest.raises(FrameRejected):
        topic.segment(frame_at(STAMP_NS + 10**8))


def test_offers_that_frames_have_passed_are_let_go():
    topic = TopicSegmenter()
    for k in range(4):
        topic.offer(STAMP_NS + k * 10**8, LABELS)
    assert len(topic.segment(frame_at(STAMP_NS + 2 * 10**8))) == 2
    for k, left in ((1, False), (3, True)):
        try:
            topic.segment(frame_at(STAMP_NS + k * 10**8))
            assert left
        except FrameRejected:
            assert not left


def test_offers_of_a_robot_at_rest_are_let_go_with_the_next_keyframe():
    topic = TopicSegmenter(reach=5.0, capacity=40)
    for k in range(40):  # 8 s, longer than reach
        topic.offer(STAMP_NS + k * 2 * 10**8, LABELS)
    assert len(topic.segment(frame_at(STAMP_NS + 38 * 2 * 10**8))) == 2
    assert list(topic._labels) == [STAMP_NS + 39 * 2 * 10**8]


@pytest.mark.parametrize(
    ("ids", "dtype"), [([0, 255], "u1"), ([0, 256], "u2"), ([-1, 300], "i4"), ([-1, 7], "i2"), ([0, 2**31 - 1], "u4")]
)
def test_offers_are_kept_as_small_as_their_ids_allow(ids, dtype):
    topic = TopicSegmenter()
    labels = np.zeros((24, 32), np.int64)
    labels[:12], labels[12:, :16] = ids
    topic.offer(STAMP_NS, labels)
    assert topic._labels[STAMP_NS].dtype == dtype
    expected = [labels == label for label in ids if label]
    np.testing.assert_array_equal(topic.segment(frame_at(STAMP_NS)).masks, expected)


def test_offers_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("lift_ros.masks.topic.MAX_BYTES", 3 * LABELS.nbytes)
    topic = TopicSegmenter(capacity=200)
    for k in range(10):
        topic.offer(STAMP_NS + k * 10**8, LABELS)
    assert list(topic._labels) == [STAMP_NS + k * 10**8 for k in (7, 8, 9)]


def test_offers_that_are_no_label_images():
    for labels in (IMAGE, LABELS.astype(np.float32), LABELS[:0]):
        with pytest.raises(FrameRejected) as rejected:
            TopicSegmenter().offer(STAMP_NS, labels)
        assert rejected.value.reason == "masks_encoding"


@pytest.mark.parametrize(("ids", "taken"), [(MAX_IDS, True), (MAX_IDS + 1, False)])
def test_an_image_of_something_else_is_not_taken_for_labels(ids, taken):
    """Depth, for instance."""
    topic = TopicSegmenter()
    topic.offer(STAMP_NS, np.arange(2000, dtype=np.int32).reshape(40, 50) % (ids + 1))
    frame = frame_of(random_image(40, 50), stamp=STAMP_NS * 1e-9)
    if taken:
        assert len(topic.segment(frame)) == ids
        return
    with pytest.raises(FrameRejected, match="is this a label image") as rejected:
        topic.segment(frame)
    assert rejected.value.reason == "masks_too_many"


def test_offering_and_segmenting_from_two_threads():
    topic = TopicSegmenter(capacity=200)

    def node() -> None:
        for k in range(100):
            topic.offer(STAMP_NS + k * 10**8, np.full((24, 32), k + 1, np.uint16))
            time.sleep(0)

    thread = threading.Thread(target=node)
    thread.start()
    found = []
    for k in range(100):
        while not topic.has(STAMP_NS + k * 10**8):
            time.sleep(0)
        found.append(topic.segment(frame_at(STAMP_NS + k * 10**8)))
    thread.join()
    assert all(len(masks) == 1 and masks.masks.all() for masks in found)
