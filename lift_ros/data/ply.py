"""Points and colours of PLY files: read ASCII or binary, write binary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement, PlyParseError

from lift_ros.data.capture import SparseCloud
from lift_ros.errors import DatasetError


def read_points(path: Path) -> SparseCloud:
    """The vertices of a PLY file; grey where it has no colours, without those that are not finite.

    Raises:
        DatasetError: the file cannot be read or is no PLY file with x, y, z.
    """
    try:
        elements = {element.name: element.data for element in PlyData.read(str(path))}
        if "vertex" not in elements:
            raise ValueError("it has no element 'vertex'")
        vertices = elements["vertex"]
        points = np.stack([vertices[axis] for axis in "xyz"], axis=-1).astype(np.float32)
    except (OSError, ValueError, OverflowError, MemoryError, PlyParseError) as error:  # a header may ask for any size
        raise DatasetError(f"cannot read {path} as a PLY point cloud: {error}") from None
    colors = np.full(points.shape, 128, np.uint8)
    if all(name in vertices.dtype.names for name in ("red", "green", "blue")):
        colors = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=-1)
        if colors.dtype.kind == "f":
            colors = np.rint(colors * 255)
        colors = colors.astype(np.uint8)
    finite = np.isfinite(points).all(1)
    return SparseCloud(points[finite], colors[finite])


def write_points(path: Path, points: NDArray[np.float32], colors: NDArray[np.uint8], ids: NDArray[np.integer]) -> None:
    """Write points (n, 3) with colours (n, 3) and ids (n,), which viewers offer as a scalar, as binary PLY.

    Raises:
        OSError: the file cannot be written.
    """
    fields = [*((axis, "f4") for axis in "xyz"), *((name, "u1") for name in ("red", "green", "blue")), ("id", "u4")]
    vertices = np.empty(len(points), fields)
    for (name, _), values in zip(fields, (*np.transpose(points), *np.transpose(colors), ids), strict=True):
        vertices[name] = values
    PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(str(path))
