"""Gaussian PLY files: exact round trip, and read by an independent library."""

import io

import numpy as np
import plyfile
import pytest
import torch

from lift_ros.mapping.gaussian_ply import decode_gaussian_ply, encode_gaussian_ply


def random_scene(n: int, sh_size: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(n)
    shapes = {"means": (n, 3), "quats": (n, 4), "log_scales": (n, 3), "logit_opacities": (n,), "sh": (n, sh_size, 3)}
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


@pytest.mark.parametrize(("n", "sh_size"), [(0, 1), (1, 1), (7, 4), (5, 16)])
def test_round_trip_is_exact(n, sh_size):
    scene = random_scene(n, sh_size)
    back = decode_gaussian_ply(encode_gaussian_ply(scene))
    assert set(back) == set(scene)
    for name, tensor in scene.items():
        assert torch.equal(back[name], tensor), name


def test_layout_as_splat_viewers_expect_it():
    scene = random_scene(6, 9)
    vertices = plyfile.PlyData.read(io.BytesIO(encode_gaussian_ply(scene)))["vertex"].data
    rest = [f"f_rest_{i}" for i in range(24)]
    assert list(vertices.dtype.names) == (
        ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
        + rest
        + ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    )
    np.testing.assert_array_equal(vertices["y"], scene["means"][:, 1])
    np.testing.assert_array_equal(vertices["nx"], 0)
    np.testing.assert_array_equal(vertices["opacity"], scene["logit_opacities"])
    np.testing.assert_array_equal(vertices["scale_2"], scene["log_scales"][:, 2])
    np.testing.assert_array_equal(vertices["rot_0"], scene["quats"][:, 0])
    np.testing.assert_array_equal(vertices["f_dc_2"], scene["sh"][:, 0, 2])
    # eight coefficients a channel: 8 is the first of green, 23 the last of blue
    np.testing.assert_array_equal(vertices["f_rest_8"], scene["sh"][:, 1, 1])
    np.testing.assert_array_equal(vertices["f_rest_23"], scene["sh"][:, 8, 2])


def test_reads_what_another_writer_ordered_differently():
    scene = random_scene(4, 1)
    vertices = plyfile.PlyData.read(io.BytesIO(encode_gaussian_ply(scene)))["vertex"].data
    file = io.BytesIO()
    reordered = np.empty(4, [(name, "<f4") for name in reversed(vertices.dtype.names)])
    for name in vertices.dtype.names:
        reordered[name] = vertices[name]
    plyfile.PlyData([plyfile.PlyElement.describe(reordered, "vertex")], byte_order="<", comments=["hi"]).write(file)
    back = decode_gaussian_ply(file.getvalue())
    for name, tensor in scene.items():
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "3 Gaussians of 17 floats are 204 bytes, it holds 203"),
        (lambda data: data + b"\0", "it holds 205"),
        (lambda data: b"OFF" + data[3:], "no PLY header"),
        (lambda data: data[:40], "no PLY header"),
        (lambda data: data.replace(b"binary_little_endian", b"ascii"), "binary_little_endian"),
        (lambda data: data.replace(b"float opacity", b"float opaque_"), "lacks the properties opacity"),
        (lambda data: data.replace(b"property float x", b"property double x"), "unexpected line.*double x"),
        (lambda data: data.replace(b"float nx", b"float f_rest_0"), "no whole degree"),
        (lambda data: data.replace(b"element vertex 3\n", b""), "unexpected line"),
        (lambda data: data[:-4] + np.float32(np.nan).tobytes(), "quats is not finite in 1 of 3"),
    ],
)
def test_damaged_files_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        decode_gaussian_ply(change(encode_gaussian_ply(random_scene(3, 1))))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("quats", torch.zeros(3, 3), r"quats has shape \(3, 3\).*3 Gaussians"),
        ("sh", torch.zeros(3, 2, 3), r"sh has shape \(3, 2, 3\)"),
        ("log_scales", torch.full((3, 3), -torch.inf), "log_scales is not finite in 3 of 3"),
        ("colors", torch.zeros(3, 3), "unknown: .*colors"),
    ],
)
def test_inconsistent_scenes_are_not_written(name, tensor, message):
    with pytest.raises(ValueError, match=message):
        encode_gaussian_ply({**random_scene(3, 1), name: tensor})
