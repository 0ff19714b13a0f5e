"""Seeds a scene from the best source a frame has: its depth, neighbouring frames, known points, or random depths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.frame import Frame
from lift_ros.render import Rendering
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.features import Features, detect, shift, triangulate
from lift_ros.scene.gaussians import Seeds
from lift_ros.scene.seeding import (
    FAINT_OPACITY,
    half_width,
    near_jumps,
    random_seeds,
    seeds_from_cloud,
    seeds_from_depth,
    unexplained,
)  # fmt: skip
from lift_ros.scene.stereo import StereoDepth, sweep_depth

MIN_ALPHA = 0.6  # of a pixel that the scene explains
MAX_DEPTH_ERROR = 0.08  # of the depth there, where it was measured
NEIGHBOURS = 4
MAX_AXIS_ANGLE = 45.0  # degrees between the optical axes of frames that are matched
BEST_PARALLAX = 6.0  # degrees: less is imprecise, more is hard to match
MIN_POINTS = 20  # below, a range of depth is a guess
MAX_POINTS = 20_000  # kept to bound the depth of frames
PATIENCE = 5  # frames without a known point, before their depth is guessed
MIN_SHIFT = 0.01  # of the image's width; less, also turned by a wrong pose, may be a camera at rest
RANDOM_SEEDS = 2000  # per frame of unknown depth
SEEDED_SHARE = 0.8  # of the budget; the rest is left to densification
SCARCE = 0.05  # of that free: less is no room for new ground
ROOM = 0.25  # of that free: room for some views
NARROW = 1.5  # spacing, of half the width of an unexplained patch, at which seeds do not stick out of it by much


class Seeder:
    """Remembers the frames of a scene and plants Gaussians where the scene does not explain them.

    ``add`` every frame, online as they come, offline all of them before the first ``seeds``: the depth of frames
    without a depth image is estimated from all frames known by then.

    Attributes:
        count: number of frames added so far, the index of the next.
    """

    def __init__(self, config: SceneConfig, seed: int = 0) -> None:
        self._config = config
        self._rng = np.random.default_rng(seed)
        self._frames: dict[int, Frame] = {}
        self.count = 0
        self._features: dict[int, Features] = {}
        self._triangulated: dict[int, NDArray] = {}  # (m, 5): points, and their pixels in the frame
        self._stereo: dict[int, tuple[tuple[int, ...], StereoDepth]] = {}
        self._points = np.zeros((0, 3))
        self._moved = False  # whether frames without depth were ever taken from different places

    def add(self, frame: Frame) -> int:
        """Remember ``frame`` and triangulate its features with earlier ones; returns its index."""
        index, self.count = self.count, self.count + 1
        self._frames[index] = frame
        if frame.depth is None:
            self._features[index] = detect(frame.image, frame.ignored)
            found = [np.zeros((0, 5))]
            for other in self._neighbours(index):
                if other in self._features:
                    there = self._frames[other], self._features[other]
                    found.append(np.hstack(triangulate(frame, self._features[index], *there)))
                    if not self._moved:
                        pixels = shift(frame, self._features[index], *there)
                        self._moved = pixels is None or pixels > MIN_SHIFT * frame.camera.width
            self._triangulated[index] = np.concatenate(found)
            self._remember(self._triangulated[index][:, :3])
        return index

    def frame(self, index: int) -> Frame:
        """A frame that was added and has not been forgotten."""
        return self._frames[index]

    def move(self, index: int, T_world_camera: NDArray[np.float64]) -> None:
        """Correct the pose of a frame; depth that was estimated with its old pose is discarded."""
        self._frames[index] = replace(self._frames[index], T_world_camera=T_world_camera)
        self._stereo = {i: found for i, found in self._stereo.items() if index not in (i, *found[0])}

    def ignore(self, index: int, pixels: NDArray[np.bool_]) -> None:
        """Plant nothing at these ``pixels`` (H, W) of a frame from now on."""
        frame = self._frames[index]
        self._frames[index] = replace(frame, ignored=pixels if frame.ignored is None else pixels | frame.ignored)
        self._stereo.pop(index, None)

    def forget(self, index: int) -> None:
        """Forget a frame; depth of other frames that was estimated from it stays."""
        for kept in (self._frames, self._features, self._triangulated, self._stereo):
            kept.pop(index, None)

    def add_cloud(self, points: NDArray, colors: NDArray) -> Seeds:
        """Seeds at the points of a sparse reconstruction (n, 3), ``colors`` (n, 3) uint8; they also bound depths."""
        points, colors = np.asarray(points, np.float64), np.asarray(colors)
        self._remember(points)
        room = int(SEEDED_SHARE * self._config.max_gaussians / 2)  # the other half is for what the cloud left out
        if len(points) > room:
            chosen = np.sort(self._rng.choice(len(points), room, replace=False))
            points, colors = points[chosen], colors[chosen]
        return seeds_from_cloud(points, colors)

    def depth(self, index: int) -> StereoDepth | None:
        """Depth of a frame that came without, estimated from the others; None where that is not possible (yet)."""
        frame = self._frames[index]
        bounds = self._depth_range(frame)
        if frame.depth is not None or bounds is None or not self._config.stereo:
            return None
        neighbours = tuple(self._neighbours(index))
        if not neighbours:
            return None
        if self._stereo.get(index, ((), None))[0] != neighbours:
            others = [self._frames[i] for i in neighbours]
            self._stereo[index] = (neighbours, sweep_depth(frame, others, *bounds))
        return self._stereo[index][1]

    def new_ground(self, index: int, rendering: Rendering) -> NDArray[np.bool_]:
        """(H, W) pixels of frame ``index`` that the scene, seen from there as ``rendering``, does not explain."""
        return unexplained(self._frames[index], rendering, MIN_ALPHA, MAX_DEPTH_ERROR)

    def seeds(self, index: int, rendering: Rendering, count: int, finer: NDArray[np.float32] | None = None) -> Seeds:
        """What to add to a scene of ``count`` Gaussians so that it explains frame ``index``.

        Seeds get sparser as the scene fills up, so that those of the first frames leave room for those of the last,
        and do not exceed the budget. But they are no wider than the patch that they explain: every view
        finds some pixels at borders unexplained, and wide seeds there would hide what lies beside.

        Args:
            rendering: the present view of the scene from that frame.
            finer: (H, W) spacing in pixels where seeds are needed even so, 0 elsewhere; see ``too_coarse``.
        """
        frame, config = self._frames[index], self._config
        where = self.new_ground(index, rendering)
        finer = np.zeros(where.shape, np.float32) if finer is None else finer
        where |= finer > 0
        if frame.ignored is not None:
            where &= ~frame.ignored
        free, room = 1 - count / (SEEDED_SHARE * config.max_gaussians), config.max_gaussians - count
        if free <= 0 or not where.any():
            return Seeds.empty()
        spacing = np.full(where.shape, config.seed_spacing / np.sqrt(free), np.float32)
        spacing = np.where(finer > 0, np.minimum(finer, spacing), spacing)
        if frame.depth is not None or self.depth(index) is not None:
            seeds = self._on_surfaces(index, where, spacing)
            if len(seeds) > room:  # of a large image
                seeds = self._on_surfaces(index, where, spacing * np.float32(np.sqrt(len(seeds) / room)))
            return _evenly(seeds, room)
        points, pixels = np.split(self._triangulated[index], [3], axis=1)
        columns, rows = pixels.astype(int).T
        new = where[rows, columns]
        features = _evenly(seeds_from_cloud(points[new], frame.image[rows, columns][new]), room)
        bounds = self._depth_range(frame) or self._guessed_range()
        if bounds is None:
            return features
        count = min(round(RANDOM_SEEDS * free * where.mean()), room - len(features))
        return Seeds.cat([features, random_seeds(frame, where, *bounds, count, self._rng)])

    def _on_surfaces(self, index: int, where: NDArray[np.bool_], spacing: NDArray[np.float32]) -> Seeds:
        """Seeds at the pixels ``where`` (H, W) of a frame whose depth is known, ``spacing`` (H, W) pixels apart."""
        frame = self._frames[index]
        if frame.depth is not None:
            spacing = np.where(near_jumps(frame.depth), spacing / 2, spacing)
            return seeds_from_depth(frame, frame.depth, where, spacing, widest=NARROW * half_width(where))
        stereo = self.depth(index)
        sure = seeds_from_depth(frame, stereo.depth, where & stereo.trusted, spacing)
        guessed = seeds_from_depth(frame, stereo.depth, where & ~stereo.trusted, spacing, FAINT_OPACITY)
        return Seeds.cat([sure, guessed])

    def excess(self, count: int) -> int:
        """How many of ``count`` Gaussians stand in the way of new seeds; 0 while there is room."""
        seeded = SEEDED_SHARE * self._config.max_gaussians
        return round(count - (1 - ROOM) * seeded) if count > (1 - SCARCE) * seeded else 0

    def _neighbours(self, index: int) -> list[int]:
        """The frames that look at the same things from usefully different places, best first."""
        pose = self._frames[index].T_world_camera
        others = np.array([i for i in self._frames if i != index], int)
        if not len(others):
            return []
        poses = np.stack([self._frames[i].T_world_camera for i in others])
        angle = np.degrees(np.arccos(np.clip(poses[:, :3, 2] @ pose[:3, 2], -1, 1)))
        baseline = np.linalg.norm(poses[:, :3, 3] - pose[:3, 3], axis=1)
        bounds = self._depth_range(self._frames[index])
        usable = (angle < MAX_AXIS_ANGLE) & (baseline > 0)
        if bounds is None:
            rank = angle + 1e-3 * np.abs(others - index)
        else:
            # the harmonic mean of the range stands for the scene's distance
            parallax = np.degrees(np.arctan(baseline * 0.5 * (1 / bounds[0] + 1 / bounds[1])))
            usable &= parallax > 0.5
            rank = np.abs(np.log(np.maximum(parallax, 1e-6) / BEST_PARALLAX)) + angle / 30
        order = np.argsort(np.where(usable, rank, np.inf), kind="stable")[:NEIGHBOURS]
        return [int(others[k]) for k in order if usable[k]]

    def _depth_range(self, frame: Frame) -> tuple[float, float] | None:
        """Nearest and farthest depth to expect in ``frame``, from the known points in its view."""
        points = (self._points - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3]
        uv, z = frame.camera.project(points)
        inside = frame.camera.inside(uv, z)
        if inside.sum() < MIN_POINTS:
            return None
        near, far = np.percentile(z[inside], (2, 98))
        return 0.7 * float(near), 2 * float(far)

    def _guessed_range(self) -> tuple[float, float] | None:
        """A range relative to how far the cameras are apart, once frames enough came without a single point."""
        centres = np.stack([frame.T_world_camera[:3, 3] for frame in self._frames.values()])
        spread = float(np.linalg.norm(np.ptp(centres, axis=0)))
        if len(self._frames) < PATIENCE or spread == 0 or not self._moved:  # at rest the poses differ by their noise
            return None
        return 2 * spread, 20 * spread

    def _remember(self, points: NDArray) -> None:
        points = np.concatenate([self._points, points[np.isfinite(points).all(axis=1)]])
        if len(points) > MAX_POINTS:
            points = points[self._rng.choice(len(points), MAX_POINTS, replace=False)]
        self._points = points


def _evenly(seeds: Seeds, count: int) -> Seeds:
    """At most ``count`` of them, from all over the image."""
    return seeds if len(seeds) <= count else seeds[torch.arange(count) * len(seeds) // count]
