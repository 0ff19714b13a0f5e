"""Point clouds as PLY."""

from __future__ import annotations

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

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


def test_vertices_may_have_anything_beside_them(cloud):
    path, points, _ = cloud
    faces = np.array([([0, 1, 2], 7)], [("vertex_indices", "i4", (3,)), ("id", "i4")])
    vertices = np.zeros(len(points), [("x", "f4"), ("id", "u4"), ("z", "f8"), ("y", "f4")])
    vertices["x"], vertices["y"], vertices["z"] = points.T
    bare = PlyElement.describe(vertices, "vertex")
    for text in (False, True):
        PlyData([PlyElement.describe(faces, "face"), bare], text=text, comments=["of a scanner"]).write(str(path))
        read = read_points(path)
        np.testing.assert_allclose(read.points, points, rtol=1e-6)
        assert (read.colors == 128).all()


def test_colours_may_be_shares(tmp_path):
    fields = [(name, "f4") for name in ("x", "y", "z", "red", "green", "blue")]
    vertices = np.array([(0, 0, 0, 1, 0.5, 0), (np.nan, 0, 0, 0, 0, 0)], fields)
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(tmp_path / "cloud.ply"))
    assert read_points(tmp_path / "cloud.ply").colors.tolist() == [[255, 128, 0]]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no PLY",
        b"ply\nformat ascii 1.0\nelement face 0\nproperty int id\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\nhere\n",
        b"ply\nformat ascii 1.0\nelement vertex 9999999999999999\nproperty float x\nend_header\n1\n",
        b"ply\nformat binary_little_endian 1.0\nelement vertex 9999999999999999\nproperty float x\nend_header\n1\n",
        b"ply\nformat ascii 1.0\nelement vertex -1\nproperty float x\nend_header\n1\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\n",
        b"ply\nformat ascii 1.0\nelement vertex 99999999999999999999999\nproperty float x\nend_header\n1\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty uchar red\nend_header\n1 300\n",
        b"ply\nformat ascii 1.0\ncomment \xe9\nelement vertex 0\nproperty float x\nend_header\n",
    ],
)
def test_what_is_no_cloud_is_an_error(tmp_path, data):
    (tmp_path / "cloud.ply").write_bytes(data)
    with pytest.raises(DatasetError, match=r"cannot read .*/cloud\.ply as a PLY point cloud: ."):
        read_points(tmp_path / "cloud.ply")


def test_a_cut_file_is_an_error(cloud):
    path, _, _ = cloud
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="cannot read .*vertex.*row 49"):
        read_points(path)


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError):
        write_points(tmp_path / "none" / "cloud.ply", np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1))
