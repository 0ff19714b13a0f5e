"""Point clouds as PLY."""

from __future__ import annotations

import numpy as np
import pytest

from lift_ros.data.ply import read_points, write_points
from lift_ros.errors import DatasetError


@pytest.fixture
def cloud(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (50, 3)).astype(np.uint8)
    write_points(tmp_path / "cloud.ply", points, colors, np.arange(50) * 2**25)
    return tmp_path / "cloud.ply", points, colors


def test_points_and_colours_come_back(cloud):
    path, points, colors = cloud
    read = read_points(path)
    np.testing.assert_array_equal(read.points, points)
    np.testing.assert_array_equal(read.colors, colors)


def test_ids_are_written_in_full(cloud):
    path, _, _ = cloud
    last = np.frombuffer(path.read_bytes()[-4:], "<u4")
    assert last[0] == 49 * 2**25


def test_a_cut_file_is_an_error(cloud):
    path, _, _ = cloud
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="49 of 50 vertices|cannot read"):
        read_points(path)
