"""Image encodings: raw with padding and either byte order, compressed, damaged."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lift_ros.data import image_codec as codec
from lift_ros.errors import FrameRejected

H, W = 24, 32


@pytest.fixture
def rgb() -> np.ndarray:
    """A smooth picture whose channels all differ, so that swapped channels and bad demosaicing show."""
    y, x = np.mgrid[0:H, 0:W]
    return np.stack([60 + 4 * x, 200 - 5 * y, 30 + 2 * x + 2 * y], axis=-1).astype(np.uint8)


def padded(image: np.ndarray, padding: int) -> tuple[bytes, int]:
    rows = np.ascontiguousarray(image).view(np.uint8).reshape(len(image), -1)
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=77).tobytes(), rows.shape[1] + padding


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("8UC3", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0]),
    ],
)  # fmt: skip
def test_colour_layouts(rgb, encoding, channels, padding):
    data, step = padded(rgb[..., channels], padding)
    np.testing.assert_array_equal(codec.decode_rgb(data, encoding, H, W, step), rgb)


@pytest.mark.parametrize("bigendian", [False, True])
def test_sixteen_bit_colour_keeps_its_high_byte(rgb, bigendian):
    stored = (rgb.astype(np.uint16) << 8 | 0x5A).astype(">u2" if bigendian else "<u2")
    data, step = padded(stored, 6)
    np.testing.assert_array_equal(codec.decode_rgb(data, "rgb16", H, W, step, bigendian), rgb)


def test_grey_is_spread_over_the_channels(rgb):
    image = codec.decode_rgb(rgb[..., 0].tobytes(), "mono8", H, W)
    np.testing.assert_array_equal(image, np.repeat(rgb[..., :1], 3, axis=2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_patterns(rgb, pattern, bits):
    mosaic = np.zeros((H, W), np.uint8)
    for position, letter in enumerate(pattern):
        rows, columns = slice(position // 2, None, 2), slice(position % 2, None, 2)
        mosaic[rows, columns] = rgb[rows, columns, "rgb".index(letter)]
    stored = mosaic if bits == 8 else (mosaic.astype("<u2") << 8)
    image = codec.decode_rgb(stored.tobytes(), f"bayer_{pattern}{bits}", H, W)
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(image[inner].astype(int) - rgb[inner]).max() <= 4  # gradients are linear: interpolation is near exact


def test_yuv422_of_a_known_colour():
    pair = np.array([128, 100, 128, 100], np.uint8)  # U Y V Y, neutral chroma
    uyvy = codec.decode_rgb(np.tile(pair, H * W // 2), "yuv422", H, W)
    yuyv = codec.decode_rgb(np.tile(pair[[1, 0, 3, 2]], H * W // 2), "yuv422_yuy2", H, W)
    np.testing.assert_array_equal(uyvy, yuyv)
    assert np.ptp(uyvy) == 0 and abs(int(uyvy[0, 0, 0]) - 98) <= 1  # 1.164 (100 - 16), BT.601


@pytest.mark.parametrize(("encoding", "order"), [("nv12", [1, 2]), ("nv21", [2, 1])])
@pytest.mark.parametrize("padding", [0, 6])
def test_yuv420_is_a_plane_of_brightness_and_one_of_colour_in_blocks(encoding, order, padding):
    blocks = np.random.default_rng(0).integers(40, 216, (H // 2, W // 2, 3), np.uint8)
    bgr = np.repeat(np.repeat(blocks, 2, axis=0), 2, axis=1)
    # BT.601, with room at both ends as video has it
    r, g, b = (blocks[..., channel].astype(float) / 255 for channel in (2, 1, 0))
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    u, v = 128 - 37.797 * r - 74.203 * g + 112 * b, 128 + 112 * r - 93.786 * g - 18.214 * b
    bright = np.repeat(np.repeat(y, 2, axis=0), 2, axis=1)
    color = np.stack([(y, u, v)[channel] for channel in order], axis=-1).reshape(H // 2, W)
    data, step = padded(np.rint(np.concatenate([bright, color])).astype(np.uint8), padding)
    image = codec.decode_rgb(data, encoding, H, W, step)
    assert image.shape == (H, W, 3) and np.abs(image.astype(int) - bgr[..., ::-1]).max() <= 3
    with pytest.raises(FrameRejected) as error:
        codec.decode_rgb(data[: H * step], encoding, H, W, step)  # no colour
    assert error.value.reason == "image_truncated"
    with pytest.raises(FrameRejected, match="31x24") as error:
        codec.decode_rgb(data, encoding, H, W - 1, step)
    assert error.value.reason == "image_encoding"


def test_unknown_encodings_are_named():
    with pytest.raises(FrameRejected, match="'hsv8'") as error:
        codec.decode_rgb(bytes(H * W * 3), "hsv8", H, W)
    assert error.value.reason == "image_encoding"
    with pytest.raises(FrameRejected, match="'rgb8'") as error:
        codec.decode_depth(bytes(H * W * 3), "rgb8", H, W)
    assert error.value.reason == "depth_encoding"
    with pytest.raises(FrameRejected, match="'h264'") as error:
        codec.decode_compressed_rgb(b"\0\0\0\1\x67\x42 not a picture", "h264")
    assert error.value.reason == "image_encoding"


@pytest.mark.parametrize(("size", "step"), [(H * W * 3 - 1, 0), (H * W * 3, W * 3 - 1), (0, 0)])
def test_too_few_bytes_or_a_short_step(size, step):
    with pytest.raises(FrameRejected) as error:
        codec.decode_rgb(bytes(size), "rgb8", H, W, step)
    assert error.value.reason == "image_truncated"


def test_last_row_may_lack_its_padding(rgb):
    data, step = padded(rgb, 5)
    np.testing.assert_array_equal(codec.decode_rgb(data[:-5], "rgb8", H, W, step), rgb)


@pytest.mark.parametrize("bigendian", [False, True])
def test_depth_units_and_what_is_no_distance(bigendian):
    order = ">" if bigendian else "<"
    millimetres = np.array([[0, 1500, 65535, 1]], order + "u2")
    depth = codec.decode_depth(millimetres.tobytes(), "16UC1", 1, 4, 0, bigendian)
    np.testing.assert_allclose(depth, [[0, 1.5, 0, 0.001]])
    metres = np.array([[np.nan, np.inf, -1.0, 2.5]], order + "f4")
    depth = codec.decode_depth(metres.tobytes(), "32FC1", 1, 4, 0, bigendian)
    np.testing.assert_allclose(depth, [[0, 0, 0, 2.5]])
    assert depth.dtype == np.float32


def test_compressed_depth_in_millimetres_survives_a_round_trip():
    depth = np.linspace(0.4, 9.0, H * W, dtype=np.float32).reshape(H, W)
    depth[0, 0] = 0
    read = codec.decode_compressed_depth(codec.encode_compressed_depth(depth), "16UC1; compressedDepth png")
    assert np.abs(read - depth).max() <= 0.0005 + 1e-6
    assert read[0, 0] == 0


@pytest.mark.parametrize("pack", ["png", "rvl"])
def test_compressed_float_depth_is_inverse_quantised(pack):
    # as compressed_depth_image_transport encodes it: A = zQ (zQ + 1), B = 1 - A / zMax
    z_quantum, z_max = 100.0, 10.0
    a = z_quantum * (z_quantum + 1.0)
    b = 1.0 - a / z_max
    depth = np.linspace(0.5, 9.5, H * W, dtype=np.float32).reshape(H, W)
    raw = np.rint(a / depth + b).astype(np.uint16)
    raw[0, 0] = 0  # unknown
    data = struct.pack("<iff", 0, a, b) + (codec.encode_png(raw) if pack == "png" else rvl(raw))
    read = codec.decode_compressed_depth(data, f"32FC1; compressedDepth {pack}")
    assert read[0, 0] == 0
    # one step of inverse depth is depth^2 / A
    assert (np.abs(read - depth)[1:] <= (0.51 * depth**2 / a)[1:] + 1e-5).all()


def rvl(image: np.ndarray) -> bytes:
    """As compressed_depth_image_transport writes it: columns, rows, and the code of Wilson (2017), digit by digit."""
    pixels, digits = image.ravel().tolist(), []

    def encode(value: int) -> None:
        while value > 7:
            digits.append(8 | value & 7)
            value >>= 3
        digits.append(value)

    at = previous = 0
    while at < len(pixels):
        zeros = at
        while at < len(pixels) and not pixels[at]:
            at += 1
        encode(at - zeros)
        others = at
        while at < len(pixels) and pixels[at]:
            at += 1
        encode(at - others)
        for value in pixels[others:at]:
            difference = value - previous
            encode(2 * difference if difference >= 0 else -2 * difference - 1)
            previous = value
    digits += [0] * (-len(digits) % 8)
    words = [int("".join(f"{digit:x}" for digit in digits[i : i + 8]), 16) for i in range(0, len(digits), 8)]
    return struct.pack(f"<II{len(words)}I", image.shape[1], image.shape[0], *words)


def random_depth(holes: float, greatest: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.where(rng.random((H, W)) < holes, 0, rng.integers(1, greatest, (H, W))).astype(np.uint16)


@pytest.mark.parametrize(
    "millimetres",
    [
        np.full((H, W), 1500, np.uint16),
        np.zeros((H, W), np.uint16),
        (1000 + np.arange(H * W) // 3).reshape(H, W).astype(np.uint16),
        random_depth(0.0, 8000),
        random_depth(0.5, 65535),  # short runs, and differences of all sizes
        np.tile(np.array([[1, 0], [0, 65534]], np.uint16), (H // 2, W // 2)),
        np.pad(np.full((H - 8, W - 8), 900, np.uint16), 4),
    ],
)  # fmt: skip
def test_rvl_is_lossless(millimetres):
    data = struct.pack("<iff", 0, 0.0, 0.0) + rvl(millimetres)
    read = codec.decode_compressed_depth(data, "16UC1; compressedDepth rvl")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, codec.depth_in_metres(millimetres))


def test_rvl_that_is_damaged_is_told():
    """Whatever is lost or turned: it is a depth image still, or none, but no other error."""
    header, image = struct.pack("<iff", 0, 0.0, 0.0), rvl(random_depth(0.3, 8000))
    for size in (0, 4, 8, 12, len(image) // 2, len(image) - 8):
        with pytest.raises(FrameRejected) as error:
            codec.decode_compressed_depth(header + image[:size], "16UC1; compressedDepth rvl")
        assert error.value.reason == "depth_unreadable"
    longer = struct.pack("<II", W, 2 * H) + image[8:]
    nothing_ends = image[:8] + b"\xff" * 64
    only_zeros = struct.pack("<III", 20000, 20000, 0xFFFFFFF0)  # a few bytes that claim gigabytes
    huge = struct.pack("<II", 65535, 65537) + image[8:]
    for data in (longer, nothing_ends, only_zeros, huge):
        with pytest.raises(FrameRejected) as error:
            codec.decode_compressed_depth(header + data, "16UC1; compressedDepth rvl")
        assert error.value.reason == "depth_unreadable"
    rng = np.random.default_rng(0)
    for _ in range(300):
        turned = bytearray(image)
        turned[rng.integers(8, len(image))] ^= 1 << rng.integers(8)
        try:
            depth = codec.decode_compressed_depth(header + turned, "16UC1; compressedDepth rvl")
        except FrameRejected as error:
            assert error.reason == "depth_unreadable"
        else:
            assert depth.shape == (H, W)


def test_unusable_compressed_depth():
    good = codec.encode_compressed_depth(np.ones((H, W), np.float32))
    cases = {
        ("16UC1; compressedDepth rvl", good): "depth_unreadable",  # a PNG
        ("16UC1; compressedDepth png", good[:12]): "depth_unreadable",
        ("16UC1; compressedDepth png", good[:12] + b"garbage"): "depth_unreadable",
        ("8UC1; png", codec.encode_png(np.ones((H, W), np.uint8))): "depth_encoding",
    }
    for (format, data), reason in cases.items():
        with pytest.raises(FrameRejected) as error:
            codec.decode_compressed_depth(data, format)
        assert error.value.reason == reason


def test_compressed_colour_and_a_cut_jpeg(rgb):
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    png = cv2.imencode(".png", bgr)[1].tobytes()
    np.testing.assert_array_equal(codec.decode_compressed_rgb(png, "rgb8; png compressed"), rgb)
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    assert np.abs(codec.decode_compressed_rgb(jpeg + b"\0\0", "jpeg").astype(int) - rgb).mean() < 3
    for data in (jpeg[: len(jpeg) // 2], b""):
        with pytest.raises(FrameRejected) as error:
            codec.decode_compressed_rgb(data, "jpeg")
        assert error.value.reason == "image_unreadable"
    with pytest.raises(FrameRejected, match="depth"):
        codec.decode_compressed_rgb(png, "16UC1; compressedDepth png")


def test_what_cameras_put_before_and_after_a_jpeg(rgb):
    """A thumbnail with an end of its own before the picture; a trailer, a film or another picture after its end."""
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    image = codec.decode_compressed_rgb(jpeg)
    exif = b"Exif\0\0" + jpeg
    with_exif = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    for start in (jpeg, with_exif):
        for trailer in (b"", b"\0" * 9, b"Image_UTC_Data1690000000000SEFH\0SEFT", b"\0\0\0\x18ftypmp42", jpeg):
            np.testing.assert_array_equal(codec.decode_compressed_rgb(start + trailer), image)
        for size in (4, len(start) - 2 * len(jpeg) // 3, len(start) - 2):
            with pytest.raises(FrameRejected, match="ends before its end marker"):
                codec.decode_compressed_rgb(start[:size] + b"\0" * 99)


def test_labels_are_exact_or_refused(rgb):
    labels = np.arange(H * W).reshape(H, W)
    np.testing.assert_array_equal(codec.decode_labels(labels.astype("<i4").tobytes(), "32SC1", H, W), labels)
    np.testing.assert_array_equal(codec.decode_compressed_labels(codec.encode_png(labels.astype(np.uint16))), labels)
    jpeg = cv2.imencode(".jpg", labels.astype(np.uint8))[1].tobytes()  # blurs ids into others
    for data in (jpeg, cv2.imencode(".png", rgb)[1].tobytes()):
        with pytest.raises(FrameRejected) as error:
            codec.decode_compressed_labels(data, "jpeg")
        assert error.value.reason == "labels_encoding"


@pytest.mark.parametrize("pack", ["raw", "png"])
def test_what_a_node_left_unlabelled_is_no_mask(pack):
    labels = np.array([[0, 7, 65534], [65535, 65535, 1]], np.uint16)
    png = codec.encode_png(labels)
    read = codec.decode_compressed_labels(png) if pack == "png" else codec.decode_labels(labels, "mono16", 2, 3)
    assert read.tolist() == [[0, 7, 65534], [0, 0, 1]]


def test_negative_labels_are_none():
    labels = np.array([[-1, 7, 2**31 - 1], [-(2**31), 0, 65535]], "<i4")
    assert codec.decode_labels(labels.tobytes(), "32SC1", 2, 3).tolist() == [[0, 7, 2**31 - 1], [0, 0, 65535]]


def test_messages_are_told_apart_by_their_fields(rgb):
    depth = np.full((H, W), 1500, "<u2")
    image = SimpleNamespace(data=rgb.tobytes(), encoding="rgb8", height=H, width=W, step=W * 3, is_bigendian=0)
    np.testing.assert_array_equal(codec.message_rgb(image), rgb)
    raw = SimpleNamespace(data=depth.tobytes(), encoding="16UC1", height=H, width=W, step=W * 2, is_bigendian=0)
    np.testing.assert_allclose(codec.message_depth(raw), 1.5)
    packed = SimpleNamespace(data=codec.encode_compressed_depth(np.full((H, W), 1.5)), format="16UC1; compressedDepth")
    np.testing.assert_allclose(codec.message_depth(packed), 1.5)
    labels = SimpleNamespace(data=codec.encode_png(depth), format="mono16; png")
    assert (codec.message_labels(labels) == 1500).all()
