"""ROS image encodings to numpy arrays, shared by the bag reader and the node; no ROS import.

Raw images (``sensor_msgs/Image``) are given as bytes with encoding, size, row step and endianness; compressed ones as
bytes with the ``format`` string of image_transport. The ``message_*`` functions take either message by its attributes,
whichever library made it.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.errors import FrameRejected

Buffer = bytes | bytearray | memoryview | NDArray[np.uint8]

# encoding -> OpenCV's conversion to RGB, None where the channels are in order. OpenCV names a Bayer pattern by its
# second row, ROS by its first: rggb is "BayerBG".
_TO_RGB: dict[str, int | None] = {
    "rgb": None,
    "bgr": cv2.COLOR_BGR2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "bgra": cv2.COLOR_BGRA2RGB,
    "mono": cv2.COLOR_GRAY2RGB,
    "bayer_rggb": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg": cv2.COLOR_BayerGB2RGB,
}
_YUV_TO_RGB = {
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUYV,
    "yuyv": cv2.COLOR_YUV2RGB_YUYV,
}
_YUV420_TO_RGB = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
_CHANNELS = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4}
_OPENCV_ALIAS = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16", "16UC3": "bgr16"}
_DEPTH_DTYPE = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
UNLABELLED = 65535  # in 16-bit label images; see LabelInfo.msg
_LABEL_DTYPE = {"mono8": "u1", "8UC1": "u1", "mono16": "u2", "16UC1": "u2", "32SC1": "i4"}

_COMPRESSED_DEPTH_HEADER = struct.Struct("<iff")  # compression enum, depthQuantA, depthQuantB
_RVL_SIZE = struct.Struct("<II")  # columns, rows
_RVL_PIXELS = 2**26  # at most; no depth camera has as many
_RVL_DIGITS = 11  # of three bits: as many as 32 bits need


def decode_rgb(
    data: Buffer, encoding: str, height: int, width: int, step: int = 0, is_bigendian: bool = False
) -> NDArray[np.uint8]:
    """Raw image -> (H, W, 3) uint8 RGB. ``step``: bytes a row, 0 where rows are packed.

    Raises:
        FrameRejected: ``image_encoding`` for an encoding without colour, ``image_truncated`` for too few bytes.
    """
    if encoding in _YUV_TO_RGB:
        return cv2.cvtColor(_raw(data, "u1", 2, height, width, step, is_bigendian), _YUV_TO_RGB[encoding])
    if encoding in _YUV420_TO_RGB:
        if height % 2 or width % 2:
            raise FrameRejected("image_encoding", f"a {width}x{height} image cannot be {encoding}, of 2x2 blocks")
        # the rows of Y, then half as many of U and V, as long
        planes = _raw(data, "u1", 1, height + height // 2, width, step, is_bigendian)
        return cv2.cvtColor(planes, _YUV420_TO_RGB[encoding])
    match = re.fullmatch(r"(.*?)(8|16)", _OPENCV_ALIAS.get(encoding, encoding))
    if match is None or match[1] not in _TO_RGB:
        raise FrameRejected(
            "image_encoding",
            f"image encoding '{encoding}' is not one of {', '.join(f'{n}8/16' for n in _TO_RGB)}, "
            f"{', '.join(_YUV_TO_RGB)}, {', '.join(_YUV420_TO_RGB)}, {', '.join(_OPENCV_ALIAS)}",
        )
    layout, bits = match[1], int(match[2])
    image = _raw(data, f"u{bits // 8}", _CHANNELS.get(layout, 1), height, width, step, is_bigendian)
    conversion = _TO_RGB[layout]
    if conversion is not None:
        image = cv2.cvtColor(image, conversion)
    return image if bits == 8 else (image >> 8).astype(np.uint8)


def decode_depth(
    data: Buffer, encoding: str, height: int, width: int, step: int = 0, is_bigendian: bool = False
) -> NDArray[np.float32]:
    """Raw depth image -> (H, W) float32 metres, 0 where unknown (REP-118: 16UC1 in millimetres, 32FC1 in metres).

    Raises:
        FrameRejected: ``depth_encoding``, ``image_truncated``.
    """
    if encoding not in _DEPTH_DTYPE:
        raise FrameRejected("depth_encoding", f"depth encoding '{encoding}' is not one of {', '.join(_DEPTH_DTYPE)}")
    return depth_in_metres(_raw(data, _DEPTH_DTYPE[encoding], 1, height, width, step, is_bigendian))


def decode_labels(
    data: Buffer, encoding: str, height: int, width: int, step: int = 0, is_bigendian: bool = False
) -> NDArray[np.int32]:
    """Raw label image -> (H, W) int32, 0 for none, which negative values and the greatest of 16 bits stand for as well.

    Raises:
        FrameRejected: ``labels_encoding``, ``image_truncated``.
    """
    if encoding not in _LABEL_DTYPE:
        raise FrameRejected("labels_encoding", f"label encoding '{encoding}' is not one of {', '.join(_LABEL_DTYPE)}")
    return _labels(_raw(data, _LABEL_DTYPE[encoding], 1, height, width, step, is_bigendian))


def decode_compressed_rgb(data: Buffer, format: str = "") -> NDArray[np.uint8]:
    """JPEG, PNG or another still format OpenCV reads -> (H, W, 3) uint8 RGB.

    Raises:
        FrameRejected: ``image_encoding`` for video or depth transports, ``image_unreadable`` for damaged data.
    """
    if "compressedDepth" in format:
        raise FrameRejected("image_encoding", f"format '{format}' holds depth, not colour")
    image = _imdecode(data, format, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_compressed_depth(data: Buffer, format: str) -> NDArray[np.float32]:
    """compressedDepth of image_transport, PNG or RVL, or a 16-bit PNG without its header -> (H, W) float32 metres, 0
    unknown.

    32FC1 is stored as quantised inverse depth: raw = A / depth + B, with A and B in the 12-byte header.

    Raises:
        FrameRejected: ``depth_encoding`` for 8-bit data, ``depth_unreadable`` for damaged data.
    """
    data = bytes(data)
    quant_a, quant_b = 0.0, 0.0
    if "compressedDepth" in format:
        if len(data) <= _COMPRESSED_DEPTH_HEADER.size:
            raise FrameRejected("depth_unreadable", f"compressedDepth message of {len(data)} bytes has no image")
        _, quant_a, quant_b = _COMPRESSED_DEPTH_HEADER.unpack_from(data)
        data = data[_COMPRESSED_DEPTH_HEADER.size :]
    try:
        raw = _decode_rvl(data) if "rvl" in format.lower() else _imdecode(data, format, cv2.IMREAD_UNCHANGED)
    except FrameRejected as error:
        raise FrameRejected(error.reason.replace("image", "depth"), str(error)) from None
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise FrameRejected("depth_encoding", f"depth format '{format}' holds {raw.dtype} {raw.shape}, not 16-bit")
    if not format.startswith("32FC1"):
        return depth_in_metres(raw)
    with np.errstate(divide="ignore"):
        depth = np.float32(quant_a) / (raw.astype(np.float32) - np.float32(quant_b))
    return depth_in_metres(np.where(raw > 0, depth, np.float32(0)))


def decode_compressed_labels(data: Buffer, format: str = "") -> NDArray[np.int32]:
    """8- or 16-bit single-channel PNG -> (H, W) int32, 0 for none as above.

    Raises:
        FrameRejected: ``labels_encoding`` for colour or lossy data, ``image_unreadable`` for damaged data.
    """
    labels = _imdecode(data, format, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16) or _is_jpeg(bytes(data[:2])):
        raise FrameRejected(
            "labels_encoding", f"labels of format '{format}' are {labels.dtype} {labels.shape}, not a 1-channel PNG"
        )
    return _labels(labels)


def _labels(raw: NDArray) -> NDArray[np.int32]:
    """So what ``~/labels`` of a mapping node has where nothing is labelled is no object when it comes back as masks.
    Nor is the -1 of other tools.
    """
    labels = raw.astype(np.int32)
    if raw.dtype == np.uint16:
        labels[raw == UNLABELLED] = 0
    elif raw.dtype.kind == "i":
        labels[raw < 0] = 0
    return labels


def message_rgb(message: Any) -> NDArray[np.uint8]:
    """``sensor_msgs`` Image or CompressedImage -> (H, W, 3) uint8 RGB. Raises FrameRejected."""
    if hasattr(message, "format"):
        return decode_compressed_rgb(message.data, message.format)
    return decode_rgb(*_raw_fields(message))


def message_depth(message: Any) -> NDArray[np.float32]:
    """``sensor_msgs`` Image or CompressedImage -> (H, W) float32 metres, 0 unknown. Raises FrameRejected."""
    if hasattr(message, "format"):
        return decode_compressed_depth(message.data, message.format)
    return decode_depth(*_raw_fields(message))


def message_labels(message: Any) -> NDArray[np.int32]:
    """``sensor_msgs`` Image or CompressedImage -> (H, W) int32. Raises FrameRejected."""
    if hasattr(message, "format"):
        return decode_compressed_labels(message.data, message.format)
    return decode_labels(*_raw_fields(message))


def depth_in_metres(raw: NDArray, unit: float = 0.001) -> NDArray[np.float32]:
    """Sensor depth -> float32 metres, 0 where it is zero, negative, not finite or a saturated 16-bit value.

    ``unit``: metres per count of integer depth; floating point depth is in metres already.
    """
    if raw.dtype == np.uint16:
        depth = raw * np.float32(unit)
        depth[raw == 65535] = 0
        return depth
    return np.where(np.isfinite(raw) & (raw > 0), raw, 0).astype(np.float32)


def encode_compressed_depth(depth: NDArray[np.float32]) -> bytes:
    """(H, W) metres -> the bytes of a '16UC1; compressedDepth png' message, in millimetres."""
    return _COMPRESSED_DEPTH_HEADER.pack(0, 0.0, 0.0) + encode_png(depth_in_millimetres(depth))


def depth_in_millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(H, W) metres -> uint16 millimetres; what does not fit is 0."""
    millimetres = np.rint(depth * 1000.0)
    return np.where(millimetres < 65535, millimetres, 0).astype(np.uint16)


def encode_png(image: NDArray) -> bytes:
    """8- or 16-bit image -> PNG."""
    return cv2.imencode(".png", image)[1].tobytes()


def _raw_fields(message: Any) -> tuple[Buffer, str, int, int, int, bool]:
    return (
        message.data, message.encoding, message.height, message.width, message.step, bool(message.is_bigendian)
    )  # fmt: skip


def _raw(data: Buffer, dtype: str, channels: int, height: int, width: int, step: int, is_bigendian: bool) -> NDArray:
    """(H, W) or (H, W, C) view of raw image bytes in native byte order, without the padding of its rows."""
    stored = np.dtype(dtype).newbyteorder(">" if is_bigendian else "<")
    row = width * channels * stored.itemsize
    step = step or row
    buffer = np.frombuffer(data, np.uint8)
    if height <= 0 or width <= 0 or step < row or buffer.size < step * (height - 1) + row:
        raise FrameRejected(
            "image_truncated",
            f"{width}x{height} image with {row} bytes a row, step {step}, comes with {buffer.size} bytes",
        )
    if buffer.size < step * height:  # a last row without its padding
        buffer = np.pad(buffer, (0, step * height - buffer.size))
    rows = np.ascontiguousarray(buffer[: step * height].reshape(height, step)[:, :row])
    image = rows.view(stored).astype(np.dtype(dtype), copy=False)
    return image if channels == 1 else image.reshape(height, width, channels)


def _is_jpeg(start: bytes) -> bool:
    return start == b"\xff\xd8"


def _has_end(jpeg: bytes) -> bool:
    """Whether the end marker of the picture is there. Thumbnails before it have their own; cameras append more to it:
    zeros, a trailer, a film.
    """
    at = 2
    while 0 <= (at := jpeg.find(b"\xff", at)) < len(jpeg) - 3:
        marker = jpeg[at + 1]
        if marker == 0xDA:  # start of scan; within one no other marker looks like the end
            return jpeg.rfind(b"\xff\xd9", at) >= 0
        at += 1 if marker in (0x00, 0xFF) else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return False


def _imdecode(data: Buffer, format: str, flags: int) -> NDArray:
    data = bytes(data)
    # OpenCV fills the missing part of a cut JPEG with grey and reports nothing
    if _is_jpeg(data[:2]) and not _has_end(data):
        raise FrameRejected("image_unreadable", f"JPEG of {len(data)} bytes ends before its end marker")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        image = None
    if image is None:
        known = any(name in format for name in ("jpeg", "jpg", "png", "tiff", "bmp")) or not format
        if known:
            raise FrameRejected("image_unreadable", f"compressed image of {len(data)} bytes ({format}) is damaged")
        raise FrameRejected("image_encoding", f"compressed image format '{format}' is not jpeg, png, tiff or bmp")
    return image


def _decode_rvl(data: bytes) -> NDArray[np.uint16]:
    """Wilson, Fast Lossless Depth Image Compression (2017): runs of zeros and of others by turns, over all rows as one.

    Each number is in digits of three bits, the lowest first; the fourth bit says that another follows. Eight digits are
    in a word of 32 bits, the first in its highest bits. A run is the count of its zeros, that of the others, and for
    each of these the difference to the last value that was not zero, its sign in the lowest bit.
    """
    damaged = FrameRejected("image_unreadable", f"RVL image of {len(data)} bytes is damaged")
    if len(data) < _RVL_SIZE.size:
        raise damaged
    width, height = _RVL_SIZE.unpack_from(data)
    if width * height > _RVL_PIXELS:  # a few bytes can claim any number of zeros
        raise damaged
    words = np.frombuffer(data, "<u4", (len(data) - _RVL_SIZE.size) // 4, _RVL_SIZE.size)
    octets = words.astype(">u4").view(np.uint8)
    digits = np.stack([octets >> 4, octets & 15], axis=-1).ravel()
    ends = np.flatnonzero(digits < 8) + 1
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if not len(ends) or lengths.max() > _RVL_DIGITS:
        raise damaged
    numbers = (digits[starts] & 7).astype(np.int64)
    longer = np.arange(len(numbers))
    for place in range(1, lengths.max()):
        longer = longer[lengths[longer] > place]
        numbers[longer] |= (digits[starts[longer] + place] & 7).astype(np.int64) << 3 * place

    # from run to run, not from pixel to pixel
    listed, runs, at, pixel = numbers.tolist(), [], 0, 0
    while pixel < height * width and at + 1 < len(listed):
        runs.append(at)
        pixel += listed[at] + listed[at + 1]
        at += 2 + listed[at + 1]
    if not runs or pixel != height * width or at > len(listed):
        raise damaged
    counts = numbers[np.array(runs)[:, None] + (0, 1)]  # of zeros and of others
    is_value = np.ones(at, bool)
    is_value[runs] = is_value[np.add(runs, 1)] = False
    signed = numbers[:at][is_value]
    image = np.zeros(height * width, np.uint16)
    image[np.repeat(np.tile([False, True], len(runs)), counts.ravel())] = np.cumsum(signed >> 1 ^ -(signed & 1))
    return image.reshape(height, width)
