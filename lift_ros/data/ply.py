"""Points and colours of PLY files: read ASCII or binary, write binary."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lift_ros.data.capture import SparseCloud
from lift_ros.errors import DatasetError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_BYTE_ORDER = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}


def read_points(path: Path) -> SparseCloud:
    """The vertices of a PLY file; grey where it has no colours, without those that are not finite.

    Raises:
        DatasetError: the file cannot be read or is no PLY file with x, y, z.
    """
    try:
        with path.open("rb") as file:
            encoding, count, properties = _read_header(file)
            dtype = np.dtype([(name, _BYTE_ORDER[encoding] + _TYPES[kind]) for name, kind in properties])
            if encoding == "ascii":
                vertices = np.loadtxt(file, dtype=dtype, max_rows=count, ndmin=1) if count else np.zeros(0, dtype)
            else:
                vertices = np.frombuffer(file.read(count * dtype.itemsize), dtype)
        if len(vertices) != count:
            raise ValueError(f"{len(vertices)} of {count} vertices are there")
        points = np.stack([vertices[axis] for axis in "xyz"], axis=-1).astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"cannot read {path} as a PLY point cloud: {error}") from None
    colors = np.full(points.shape, 128, np.uint8)
    if all(name in vertices.dtype.names for name in ("red", "green", "blue")):
        colors = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=-1)
        if colors.dtype.kind == "f":
            colors = np.rint(colors * 255)
        colors = colors.astype(np.uint8)
    finite = np.isfinite(points).all(1)
    return SparseCloud(points[finite], colors[finite])


def _read_header(file: BinaryIO) -> tuple[str, int, list[tuple[str, str]]]:
    """Encoding, number of vertices and their (name, type) properties; the file is left at the first vertex."""
    if file.readline().strip() != b"ply":
        raise ValueError("the first line is not 'ply'")
    encoding, count, element = "", 0, ""
    properties: list[tuple[str, str]] = []
    while (line := file.readline()) and (words := line.decode("ascii", "replace").split() or [""])[0] != "end_header":
        if words[0] == "format":
            encoding = words[1]
        elif words[0] == "element":
            if not properties and words[1] != "vertex":
                raise ValueError(f"the first element is '{words[1]}', not 'vertex'")
            element = words[1]
            count = int(words[2]) if element == "vertex" else count
        elif words[0] == "property" and element == "vertex":
            if words[1] == "list":
                raise ValueError("vertices have list properties")
            properties.append((words[2], words[1]))
    if not line or encoding not in _BYTE_ORDER or not properties:
        raise ValueError("its header is incomplete")
    return encoding, count, properties


def write_points(path: Path, points: NDArray[np.float32], colors: NDArray[np.uint8], ids: NDArray[np.integer]) -> None:
    """Write points (n, 3) with colours (n, 3) and ids (n,), which viewers offer as a scalar, as binary PLY.

    Raises:
        OSError: the file cannot be written.
    """
    fields = {"x": "float", "y": "float", "z": "float", "red": "uchar", "green": "uchar", "blue": "uchar", "id": "uint"}
    vertices = np.empty(len(points), [(name, "<" + _TYPES[kind]) for name, kind in fields.items()])
    for name, values in zip(fields, (*np.transpose(points), *np.transpose(colors), ids), strict=True):
        vertices[name] = values
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property {kind} {name}" for name, kind in fields.items()] + ["end_header", ""]
    path.write_bytes("\n".join(lines).encode() + vertices.tobytes())
