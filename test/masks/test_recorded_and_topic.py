"""Masks made elsewhere: stored with a data set, or come with the frame from another node."""

from __future__ import annotations

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
IMAGE = random_image(24, 32)


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


def test_masks_that_come_with_the_frame():
    masks = make_segmenter(MasksConfig("topic")).segment(frame_of(IMAGE, labels=LABELS))
    np.testing.assert_array_equal(masks.masks, [LABELS == 7, LABELS == 300])
    assert masks.prompts_used == 0
    small = TopicSegmenter().segment(frame_of(IMAGE, labels=LABELS).resized(16, 12))
    np.testing.assert_array_equal(small.masks, masks.masks[:, ::2, ::2])


def test_masks_that_did_not_come_or_are_of_another_shape():
    for labels, reason in ((None, "masks_missing"), (LABELS[:20], "masks_size")):
        with pytest.raises(FrameRejected, match="masks") as rejected:
            TopicSegmenter().segment(frame_of(IMAGE, labels=labels))
        assert rejected.value.reason == reason


@pytest.mark.parametrize(("ids", "taken"), [(MAX_IDS, True), (MAX_IDS + 1, False)])
def test_an_image_of_something_else_is_not_taken_for_labels(ids, taken):
    """Depth, for instance."""
    labels = np.arange(2000, dtype=np.int32).reshape(40, 50) % (ids + 1)
    frame = frame_of(random_image(40, 50), labels=labels)
    if taken:
        assert len(TopicSegmenter().segment(frame)) == ids
        return
    with pytest.raises(FrameRejected, match="is this a label image") as rejected:
        TopicSegmenter().segment(frame)
    assert rejected.value.reason == "masks_too_many"
