"""A scene whose objects are known: flat Gaussians on a sheet, divided into touching cells, seen by cameras round it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from lift_ros.camera import Camera, PosedCamera
from lift_ros.lifting.base import LiftingMethod, LiftingView
from lift_ros.lifting.sampling import sample_view
from lift_ros.masks.base import Masks, Patches
from lift_ros.render import BlendWeights, blend_weights, label_image
from lift_ros.scene.gaussians import GaussianScene, Seeds
from lift_ros.scene.neighbours import Neighbours

CAMERA = Camera(64, 48, 55.0, 55.0, 32.0, 24.0)
COLUMNS, ROWS, SPACING = 30, 22, 0.05
CELLS = 12
BLOCK = 4  # pixels; the image is a whole number of blocks


@dataclass(frozen=True)
class Tiles:
    """The scene and the truth: ``objects`` (N,) int64 from 1 to 12."""

    scene: GaussianScene
    objects: torch.Tensor
    cameras: list[PosedCamera]

    @property
    def wholes(self) -> torch.Tensor:
        """(N,) int64 from 0 to 3: objects of one column are parts of one whole."""
        return (self.objects - 1) % 4

    def weights(self, camera: PosedCamera) -> BlendWeights:
        """Blend weights of all pixels."""
        rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
        pixels = torch.stack([columns, rows], -1).reshape(-1, 2)
        return blend_weights(self.scene.splats, camera, pixels)

    def masks(self, camera: PosedCamera, rng: np.random.Generator) -> NDArray[np.int32]:
        """(H, W) true masks of a view, numbered at random as a segmenter would; 0 where there is nothing."""
        labels, share, _ = label_image(self.scene.splats, self.objects, camera)
        number = np.concatenate([[0], 1 + rng.permutation(CELLS)])
        return np.where(share > 0.3, number[labels.numpy()], 0).astype(np.int32)

    def nested_masks(
        self, camera: PosedCamera, rng: np.random.Generator, levels: Sequence[torch.Tensor] = ()
    ) -> NDArray[np.bool_]:
        """(M, H, W) true masks in random order of what is in view: of the objects and of the wholes, or of other
        ``levels`` (N,) int64, 0 for none.
        """
        splats = self.scene.splats
        found = []
        for labels in levels or (self.objects, 1 + self.wholes):
            image, share, _ = label_image(splats, labels, camera)
            image = np.where(share > 0.3, image.numpy(), 0)
            found += [image == label for label in np.unique(image[image > 0])]
        return np.stack(found)[rng.permutation(len(found))]


def tiles(views: int = 8, seed: int = 0) -> Tiles:
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(COLUMNS) - COLUMNS / 2, np.arange(ROWS) - ROWS / 2)
    points = np.stack([x, y], -1).reshape(-1, 2) * SPACING + rng.normal(0, 0.1 * SPACING, (COLUMNS * ROWS, 2))
    # a jittered 4 x 3 grid of sites, so that no cell is tiny
    sites = np.stack(np.meshgrid(np.arange(4) - 1.5, np.arange(3) - 1.0), -1).reshape(-1, 2)
    sites = (sites + rng.uniform(-0.3, 0.3, sites.shape)) * (COLUMNS / 4 * SPACING, ROWS / 3 * SPACING)
    objects = 1 + np.linalg.norm(points[:, None] - sites, axis=2).argmin(1)
    n = len(points)
    scene = GaussianScene.empty()
    scene.append(
        Seeds(
            torch.tensor(np.column_stack([points, 0.02 * np.sin(5 * points[:, 0])]), dtype=torch.float32),
            torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
            torch.tensor([0.6 * SPACING, 0.6 * SPACING, 0.1 * SPACING]).repeat(n, 1),
            torch.full((n,), 0.95),
            torch.full((n, 3), 0.5),
        )
    )
    return Tiles(scene, torch.from_numpy(objects), [_camera(rng.uniform(-0.5, 0.5, 2)) for _ in range(views)])


def _camera(position: NDArray) -> PosedCamera:
    """One in front of the sheet, at z = -1.3, that looks at a point near its middle."""
    eye = np.array([*position, -1.3])
    forward = np.array([*(0.3 * position), 0.0]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    T[:3, 3] = eye
    return PosedCamera.from_pose(CAMERA, T)


def accuracy(labels: torch.Tensor, truth: torch.Tensor) -> float:
    """Share of Gaussians that are right under the best one-to-one match of labels and objects."""
    _, found = torch.unique(labels, return_inverse=True)
    _, true = torch.unique(truth, return_inverse=True)
    table = torch.zeros(int(found.max()) + 1, int(true.max()) + 1)
    table.index_put_((found, true), torch.ones(len(found)), accumulate=True)
    rows, columns = linear_sum_assignment(-table.numpy())
    return float(table[rows, columns].sum()) / len(labels)


def patches_of(labels: NDArray) -> Patches:
    """A label image (H, W), 0 none, as masks that do not overlap."""
    return Patches.of(Masks.from_label_image(labels).masks)


NO_NEIGHBOURS = Neighbours(torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.bool))


def sampled(world: Tiles, wrong: bool = False, nested: bool = False) -> list[LiftingView]:
    """Views of the scene whose mask numbers disagree.

    Args:
        wrong: blocks of every view's masks have changed places, in each view others.
        nested: masks of parts and of wholes; they stay nested where they are wrong.
    """
    rng = np.random.default_rng(0)
    views = []
    for camera in world.cameras:
        masks = world.nested_masks(camera, rng) if nested else world.masks(camera, rng)
        if wrong:
            masks = shuffled(masks, rng)
        patches = Patches.of(masks) if nested else patches_of(masks)
        views.append(sample_view(patches, world.weights(camera), 2048, rng))
    return views


def shuffled(images: NDArray, rng: np.random.Generator) -> NDArray:
    """(..., H, W), blocks of all images exchanged alike."""
    *stack, height, width = images.shape
    blocks = images.reshape(-1, height // BLOCK, BLOCK, width // BLOCK, BLOCK).swapaxes(2, 3)
    blocks = rng.permutation(blocks.reshape(len(blocks), -1, BLOCK, BLOCK), axis=1).reshape(blocks.shape)
    return blocks.swapaxes(2, 3).reshape(*stack, height, width)


def train_on(world: Tiles, method: LiftingMethod, views: list[LiftingView], steps: int) -> LiftingMethod:
    """``method``, which knows no Gaussians yet, after ``steps`` steps on those of the scene."""
    method.edit(torch.full((len(world.scene),), -1), world.scene.means)
    neighbours = Neighbours.of(world.scene.means)
    for _ in range(steps):
        method.step(views, neighbours)
    return method
