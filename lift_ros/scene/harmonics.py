"""Real spherical harmonics up to degree 3, with the signs of 3DGS and its PLY files."""

from __future__ import annotations

import torch

SH_C0 = 0.28209479177387814  # 1 / (2 sqrt(pi))
_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
_C3 = (
    -0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154, -0.4570457994644658,
    1.445305721320277, -0.5900435899266435,
)  # fmt: skip


def basis(directions: torch.Tensor, degree: int) -> torch.Tensor:
    """(n, 3) unit vectors -> (n, (degree + 1)^2) values of the basis functions.

    Raises:
        ValueError: ``degree`` outside 0..3.
    """
    if not 0 <= degree <= 3:
        raise ValueError(f"spherical harmonics of degree 0 to 3 are supported, got {degree}")
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        terms = (x * y, y * z, 2 * zz - xx - yy, x * z, xx - yy)
        values += [c * term for c, term in zip(_C2, terms, strict=True)]
    if degree >= 3:
        terms = (
            y * (3 * xx - yy), x * y * z, y * (4 * zz - xx - yy), z * (2 * zz - 3 * xx - 3 * yy),
            x * (4 * zz - xx - yy), z * (xx - yy), x * (xx - 3 * yy),
        )  # fmt: skip
        values += [c * term for c, term in zip(_C3, terms, strict=True)]
    return torch.stack(values, dim=-1)
