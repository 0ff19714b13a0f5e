"""Pinhole cameras, with and without a pose.

Frames follow the optical convention of REP-103: x right, y down, z forward. Pixel (column u, row v) covers
[u, u+1) x [v, v+1), so its centre lies at (u + 0.5, v + 0.5), as in COLMAP, nerfstudio and gsplat. ROS and OpenCV put
the centre of the first pixel at 0: their cx, cy are smaller by 0.5, and are converted where they enter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Camera:
    """Intrinsics of an undistorted image. All lengths in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"image size must be positive, got {self.width}x{self.height}")
        if not all(np.isfinite(v) for v in (self.fx, self.fy, self.cx, self.cy)) or self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"focal lengths must be positive and finite, got fx={self.fx}, fy={self.fy}")

    @classmethod
    def from_K(cls, K: NDArray, width: int, height: int) -> Camera:
        """Camera of a (3, 3) intrinsic matrix in this module's pixel convention."""
        return cls(width, height, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))

    @classmethod
    def from_opencv_K(cls, K: NDArray, width: int, height: int) -> Camera:
        """As ``from_K``, of a matrix as ROS and OpenCV have it: the centre of the first pixel is at 0."""
        return cls(width, height, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]) + 0.5, float(K[1, 2]) + 0.5)

    @property
    def opencv_K(self) -> NDArray[np.float64]:
        """(3, 3) intrinsic matrix as ROS and OpenCV have it."""
        return self.K - [[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]]

    @property
    def K(self) -> NDArray[np.float64]:
        """(3, 3) intrinsic matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same image resampled to ``width`` x ``height``."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy
        )

    def at_width(self, width: int) -> Camera:
        """The camera of the same image at ``width`` pixels, or as it is where it has no more."""
        width = min(width, self.width)
        return self.resized(width, max(1, round(self.height * width / self.width)))

    def unproject(self, depth: NDArray) -> NDArray[np.float32]:
        """(H, W) z-depth -> (H, W, 3) points in the camera frame, in the unit of ``depth``."""
        if depth.shape != (self.height, self.width):
            raise ValueError(f"depth is {depth.shape}, the camera {self.height}x{self.width}")
        x = (np.arange(self.width, dtype=np.float32) + 0.5 - self.cx) / self.fx
        y = (np.arange(self.height, dtype=np.float32) + 0.5 - self.cy) / self.fy
        return np.stack([x[None, :] * depth, y[:, None] * depth, depth], axis=-1).astype(np.float32)

    def project(self, points: NDArray) -> tuple[NDArray, NDArray]:
        """(N, 3) points in the camera frame -> (N, 2) pixel coordinates and (N,) z-depth.

        Points at or behind the camera get non-finite pixels; the caller masks on depth.
        """
        z = points[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            uv = np.stack([self.fx * points[:, 0] / z + self.cx, self.fy * points[:, 1] / z + self.cy], axis=-1)
        return uv, z

    def inside(self, uv: NDArray, z: NDArray) -> NDArray[np.bool_]:
        """(N,) whether points that ``project`` to ``uv`` (N, 2) and ``z`` (N,) are in the image, before the camera."""
        with np.errstate(invalid="ignore"):
            return (z > 0) & (uv >= 0).all(axis=1) & (uv < (self.width, self.height)).all(axis=1)


@dataclass(frozen=True)
class PosedCamera:
    """What a rasterizer needs: intrinsics and the world-to-camera transform ``viewmat`` (4, 4)."""

    intrinsics: Camera
    viewmat: torch.Tensor

    @classmethod
    def from_pose(cls, intrinsics: Camera, T_world_camera: NDArray, device: torch.device | str = "cpu") -> PosedCamera:
        """From a camera-to-world pose (4, 4); inverted in double precision."""
        viewmat = torch.as_tensor(np.linalg.inv(np.asarray(T_world_camera, np.float64)), dtype=torch.float32)
        return cls(intrinsics, viewmat.to(device))

    @property
    def center(self) -> torch.Tensor:
        """(3,) position in the world."""
        return -self.viewmat[:3, :3].T @ self.viewmat[:3, 3]

    @property
    def width(self) -> int:
        return self.intrinsics.width

    @property
    def height(self) -> int:
        return self.intrinsics.height
