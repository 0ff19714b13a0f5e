"""Label colours, overlays, contact sheets and PNG files."""

import cv2
import numpy as np
import pytest

from lift_ros.visualization import (
    boundaries,
    colorize,
    contact_sheet,
    label_colors,
    overlay,
    write_label_png,
    write_png,
)


def test_colours_are_stable_and_0_is_black():
    colors = label_colors(np.array([0, 5, 2**32 - 1, 5], np.uint32))
    assert colors.dtype == np.uint8
    assert colors[0].tolist() == [0, 0, 0]
    assert colors[1].tolist() == colors[3].tolist() == label_colors(5).tolist()
    assert colors[2].max() > 100


def test_colours_of_neighbouring_ids_differ():
    colors = label_colors(np.arange(1, 41)).astype(int)
    assert colors.max(1).min() > 100  # none is mistaken for the black of unlabelled
    assert len(np.unique(colors, axis=0)) == 40
    for offset in (1, 2, 3):
        assert np.abs(colors[offset:] - colors[:-offset]).max(1).min() > 60


@pytest.mark.parametrize("largest", [9, 2**20])
def test_colorize(largest):
    labels = np.array([[0, 3], [largest, 3]])
    picture = colorize(labels)
    assert picture.shape == (2, 2, 3)
    for index in np.ndindex(2, 2):
        assert picture[index].tolist() == label_colors(labels[index]).tolist()


def test_boundaries_by_hand():
    labels = np.array([[1, 1, 2], [1, 1, 2], [0, 0, 0]])
    assert boundaries(labels).tolist() == [[False, True, False], [True, True, True], [False, False, False]]


def test_overlay_blends_where_there_are_labels():
    image = np.full((6, 8, 3), 100, np.uint8)
    labels = np.zeros((6, 8), np.int32)
    labels[:, 4:] = 7
    mixed = overlay(image, labels, alpha=0.25)
    assert (mixed[:, :3] == 100).all()
    assert (mixed[:, 3] == 255).all()  # the outline
    np.testing.assert_allclose(mixed[2, 6], 0.75 * 100 + 0.25 * label_colors(7), atol=0.51)
    assert (image == 100).all()
    with pytest.raises(ValueError, match=r"labels are \(6, 7\), the image \(6, 8\)"):
        overlay(image, labels[:, :-1])


def test_contact_sheet_places_every_image():
    red, green, blue = (np.zeros((30, 40, 3), np.uint8) for _ in range(3))
    red[..., 0], green[..., 1], blue[..., 2] = 255, 255, 255
    tall = np.repeat(blue, 2, axis=0)
    sheet = contact_sheet([[("a", red), ("b" * 200, green)], [], [("", tall)]], tile_width=80)
    assert sheet.dtype == np.uint8
    for image, height in [(red, 60), (green, 60), (blue, 120)]:
        rows, columns = np.nonzero((sheet == image[0, 0]).all(-1))
        assert len(rows) == 80 * height
        assert np.ptp(rows) == height - 1 and np.ptp(columns) == 79
    assert sheet.shape[1] > 160
    with pytest.raises(ValueError, match="needs an image"):
        contact_sheet([[]])


def test_captions_are_written_and_stay_in_their_tile():
    blank = np.full((30, 120, 3), 255, np.uint8)
    with_text = contact_sheet([[("a caption that is far too long for its tile", blank), ("", blank)]], tile_width=120)
    ink = np.nonzero((with_text < 200).all(-1))
    assert len(ink[0]) > 50
    assert ink[1].max() < 130


def test_png_files(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 7, 3), np.uint8)
    labels = np.array([[0, 1], [65535, 300]], np.int64)
    write_png(tmp_path / "rgb.png", rgb)
    write_label_png(tmp_path / "labels.png", labels)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "rgb.png"))[..., ::-1], rgb)
    read = cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, labels)


def test_png_errors(tmp_path):
    with pytest.raises(ValueError, match="fit into 16 bits, got 0 to 65536"):
        write_label_png(tmp_path / "x.png", np.array([[0, 65536]]))
    with pytest.raises(ValueError, match="fit into 16 bits, got -1"):
        write_label_png(tmp_path / "x.png", np.array([[0, -1]]))
    with pytest.raises(ValueError, match="float64"):
        write_png(tmp_path / "x.png", np.zeros((2, 2)))
    with pytest.raises(FileNotFoundError):
        write_png(tmp_path / "missing" / "x.png", np.zeros((2, 2), np.uint8))
    assert list(tmp_path.iterdir()) == []
