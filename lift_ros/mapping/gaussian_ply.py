"""The PLY layout of 3D Gaussian Splatting (Kerbl et al. 2023), which splat viewers open.

One vertex a Gaussian, every property a little-endian float32: x y z, nx ny nz (zero), f_dc_0..2 (the constant spherical
harmonic of red, green, blue), f_rest_* (the others, all of red, then green, then blue), opacity (logit), scale_0..2
(log), rot_0..3 (wxyz, not normalised).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

SCENE_WIDTHS = {"means": (3,), "quats": (4,), "log_scales": (3,), "logit_opacities": ()}  # and sh (N, K, 3)
SH_SIZES = (1, 4, 9, 16)  # K of degrees 0 to 3


def check_scene(scene: dict[str, torch.Tensor]) -> int:
    """Return the number of Gaussians N of a scene with consistent shapes.

    Args:
        scene: means (N, 3), quats (N, 4), log_scales (N, 3), logit_opacities (N,), sh (N, K, 3); all finite.

    Raises:
        ValueError: names the tensor that is missing or wrong.
    """
    missing = ({*SCENE_WIDTHS, "sh"}) ^ set(scene)
    if missing:
        raise ValueError(f"a scene holds {', '.join([*SCENE_WIDTHS, 'sh'])}; missing or unknown: {sorted(missing)}")
    n = len(scene["means"])
    for name, tensor in scene.items():
        if name == "sh":
            fits = tensor.ndim == 3 and tensor.shape[0] == n and tensor.shape[1] in SH_SIZES and tensor.shape[2] == 3
        else:
            fits = tuple(tensor.shape) == (n, *SCENE_WIDTHS[name])
        if not fits:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, which does not fit {n} Gaussians")
        broken = n - int(torch.isfinite(tensor).reshape(n, -1).all(1).sum()) if n else 0
        if broken:
            raise ValueError(f"{name} is not finite in {broken} of {n} Gaussians")
    return n


def encode_gaussian_ply(scene: dict[str, torch.Tensor]) -> bytes:
    """The PLY file of a scene as described at :func:`check_scene`."""
    n = check_scene(scene)
    t = {name: tensor.detach().cpu().float() for name, tensor in scene.items()}
    rest = t["sh"][:, 1:].transpose(1, 2).flatten(1)
    columns = [t["means"], torch.zeros(n, 3), t["sh"][:, 0], rest, t["logit_opacities"][:, None]]
    vertices = torch.cat([*columns, t["log_scales"], t["quats"]], dim=1).numpy().astype("<f4")
    properties = "".join(f"property float {name}\n" for name in _property_names(rest.shape[1]))
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {n}\n{properties}end_header\n"
    return header.encode() + vertices.tobytes()


def decode_gaussian_ply(data: bytes) -> dict[str, torch.Tensor]:
    """The scene in a PLY file; float properties in any order, those of no meaning to a scene passed over.

    Raises:
        ValueError: says what is wrong with the file.
    """
    end = data.find(b"end_header\n")
    if not data.startswith(b"ply\n") or end < 0:
        raise ValueError("it has no PLY header")
    n, names = _parse_header(data[:end].decode("ascii", "replace").splitlines()[1:])
    body = memoryview(data)[end + len(b"end_header\n") :]
    if len(body) != 4 * n * len(names):
        raise ValueError(f"{n} Gaussians of {len(names)} floats are {4 * n * len(names)} bytes, it holds {len(body)}")
    table = np.frombuffer(body, "<f4").reshape(n, len(names))
    column = {name: index for index, name in enumerate(names)}

    def columns(*wanted: str) -> NDArray[np.float32]:
        missing = [name for name in wanted if name not in column]
        if missing:
            raise ValueError(f"it lacks the properties {', '.join(missing)}")
        return table[:, [column[name] for name in wanted]].astype(np.float32)

    n_rest = sum(name.startswith("f_rest_") for name in names)
    if n_rest not in [3 * (k - 1) for k in SH_SIZES]:
        raise ValueError(f"{n_rest} f_rest properties are no whole degree of spherical harmonics")
    rest = columns(*(f"f_rest_{i}" for i in range(n_rest))).reshape(n, 3, n_rest // 3).transpose(0, 2, 1)
    dc = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    arrays = {
        "means": columns("x", "y", "z"),
        "quats": columns("rot_0", "rot_1", "rot_2", "rot_3"),
        "log_scales": columns("scale_0", "scale_1", "scale_2"),
        "logit_opacities": columns("opacity")[:, 0],
        "sh": np.concatenate([dc, rest], axis=1),
    }
    scene = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    check_scene(scene)
    return scene


def _property_names(n_rest: int) -> list[str]:
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{i}" for i in range(n_rest)]
    return [*names, "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]


def _parse_header(lines: list[str]) -> tuple[int, list[str]]:
    """Number of vertices and names of their properties."""
    if not lines or lines[0].split() != ["format", "binary_little_endian", "1.0"]:
        raise ValueError("it is not a binary_little_endian 1.0 PLY")
    n, names = None, []
    for line in lines[1:]:
        match line.split():
            case ["element", "vertex", count] if n is None and count.isdecimal():
                n = int(count)
            case ["property", "float" | "float32", name] if n is not None:
                names.append(name)
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise ValueError(f"unexpected line in its header: {line!r}")
    if n is None:
        raise ValueError("its header names no vertices")
    return n, names
