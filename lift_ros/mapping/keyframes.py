"""Keyframes: what is kept of them, and what their masks say of the Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import overload

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.sampling import sample_view
from lift_ros.mapping.config import MappingConfig
from lift_ros.mapping.departures import BEHIND, WINDOW
from lift_ros.mapping.keyframing import most_redundant
from lift_ros.mapping.landmarks import Landmarks, movement
from lift_ros.masks.base import Patches
from lift_ros.render import BlendWeights, Splats, blend_weights, rasterize
from lift_ros.scene.gaussians import GaussianScene, only_appends
from lift_ros.scene.trainer import REACH, TrainingView, in_view

MAX_UNKNOWN = 0.05  # of the Gaussians that a view showed: as many new ones in it make it stale
RECENT = 4  # latest keyframes, which are never evicted and get half of the scene training
REFRESHED = 3  # keyframes refreshed per call at most: new ground soon changes what many of them show
ASKED = 100  # keyframes checked for staleness per call, round robin
SHOWN = 0.1  # of a pixel that Gaussians explain, from which it shows them
SAMPLED = 1  # in place of REFRESHED where a method is trained: sampling pixels takes several times as long


@dataclass
class Keyframe:
    """What the mapper keeps of a frame.

    Attributes:
        stamp: seconds.
        T_world_camera: (4, 4) as given, without correction.
        view: what the scene is trained with, its camera at the given pose.
        patches: its masks, at an integer multiple of the resolution of ``view``, so that pixels at borders are shared.
        distance: see ``viewing_distance``.
        lifting: pixels that train embeddings; None until computed, or if the method trains none.
        evidence: what its masks say about the Gaussians; None until computed.
        landmarks: to measure how far the Gaussians have moved in its image since the last refresh.
    """

    stamp: float
    T_world_camera: NDArray[np.float64]
    view: TrainingView
    patches: Patches
    distance: float = math.inf
    lifting: LiftingView | None = None
    evidence: MaskEvidence | None = None
    landmarks: Landmarks | None = None
    _shown: int = 0  # Gaussians that the masks showed at the last refresh
    _unknown: int = 0  # planted in its view since

    def refresh(self, scene: GaussianScene, camera: PosedCamera, pixels: int, rng: np.random.Generator) -> None:
        """Compute the blend weights of the present scene, seen by ``camera``, and what follows from them.

        ``pixels``: how many to keep for training embeddings, 0 if the method trains none. If this fails, as when memory
        runs out, nothing has changed.
        """
        lifting = None
        if pixels:
            weights = all_weights(scene, camera)
            lifting = sample_view(self.patches.resized(camera.height, camera.width), weights, pixels, rng)
            of_masks = partial(MaskEvidence.of, weights)
        else:  # without the weights of every pixel
            of_masks = partial(MaskEvidence.seen_by, camera, scene.splats)
        evidence = of_masks(self.patches.label_image())
        if self.patches.overlapping:
            evidence.wholes = of_masks(self.patches.label_image(largest=True))
        landmarks = Landmarks.of(evidence, scene.means.cpu().numpy(), camera)
        shown = int(np.count_nonzero(np.bincount(evidence.gaussian, minlength=1)))
        self.lifting, self.evidence, self.landmarks = lifting, evidence, landmarks
        self._unknown, self._shown = 0, shown

    def planted(self, means: NDArray[np.float32], camera: PosedCamera) -> None:
        """Count those of the Gaussians newly planted at ``means`` (n, 3) that are in the view of ``camera``."""
        if self.evidence is not None and len(means):
            viewmat = camera.viewmat.cpu().numpy()
            projected = camera.intrinsics.project(means @ viewmat[:3, :3].T + viewmat[:3, 3])
            self._unknown += int(camera.intrinsics.inside(*projected).sum())

    @property
    def unknown(self) -> float:
        """Gaussians planted in its view since the last refresh, relative to the number that makes it stale."""
        return self._unknown / max(MAX_UNKNOWN * self._shown, 1)

    def forget(self, gone: NDArray[np.bool_]) -> None:
        """Drop the evidence about the Gaussians where ``gone`` (N,) is True, until the next refresh."""
        if self.evidence is not None:
            self.evidence = self.evidence.without(gone)

    def ignore(self, pixels: NDArray[np.bool_]) -> None:
        """Ignore these ``pixels`` (H, W) of its view from now on, and its masks there; it is stale until a refresh."""
        view = self.view
        ignored = torch.from_numpy(pixels).to(view.image.device)
        if view.ignored is not None:
            ignored = ignored | view.ignored
        depth = None if view.depth is None else view.depth.masked_fill(ignored, 0)
        self.view = view._replace(depth=depth, ignored=ignored)
        self.patches = self.patches.outside(pixels)
        self._unknown += self._shown

    def edit(self, origin: torch.Tensor, on_cpu: torch.Tensor, appends: bool) -> None:
        """Follow an edit of the scene (see ``GaussianScene``), approximately until the next refresh.

        ``on_cpu``: the same ``origin``; ``appends``: whether it only added Gaussians.
        """
        if self.evidence is not None and self.landmarks is not None and not appends:
            self.evidence = self.evidence.follow(on_cpu)
            self.landmarks = self.landmarks.follow(on_cpu)
        if self.lifting is not None:
            self.lifting = self.lifting.follow(origin)


class Keyframes(Sequence[Keyframe]):
    """The keyframes of a map in temporal order, and what all of them say about its Gaussians.

    A loaded map has none yet; the labels it was saved with stand in for them as a prior.
    """

    def __init__(
        self,
        config: MappingConfig,
        pixels: int,
        rng: np.random.Generator,
        camera_of: Callable[[Keyframe], PosedCamera],
    ) -> None:
        """Start without keyframes.

        ``pixels``: how many of each to keep for methods that are trained, 0 for others. ``camera_of``: the camera of a
        keyframe at its currently estimated pose.
        """
        self._config = config
        self._pixels = pixels
        self._rng = rng
        self._camera_of = camera_of
        self._kept: list[Keyframe] = []
        self._loaded: list[tuple[float, MaskEvidence]] = []
        self._loaded_views: list[LiftingView] = []
        self._next_asked = 0

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Keyframe: ...

    @overload
    def __getitem__(self, index: slice) -> list[Keyframe]: ...

    def __getitem__(self, index: int | slice) -> Keyframe | list[Keyframe]:
        return self._kept[index]

    @property
    def loaded(self) -> int:
        """Number of views that stand in for the keyframes of a loaded map; they come first in ``evidence``."""
        return len(self._loaded)

    @property
    def evidence(self) -> list[tuple[float, MaskEvidence]]:
        """Stamp (seconds) and evidence of all views with masks."""
        known = [(keyframe.stamp, keyframe.evidence) for keyframe in self._kept if keyframe.evidence is not None]
        return self._loaded + [(stamp, evidence) for stamp, evidence in known if len(evidence.area)]

    @property
    def views(self) -> list[LiftingView]:
        """The views that trained methods decode: those that stand in for a loaded map, and ``sampled``."""
        return self._loaded_views + self.sampled

    @property
    def sampled(self) -> list[LiftingView]:
        """The sampled pixels of the keyframes, which methods are trained with."""
        return [keyframe.lifting for keyframe in self._kept if keyframe.lifting is not None]

    def append(self, keyframe: Keyframe) -> None:
        """Add the latest keyframe."""
        self._kept.append(keyframe)

    def stand_in(self, stamp: float, evidence: MaskEvidence, count: int, views: Sequence[LiftingView]) -> None:
        """Use ``evidence`` in place of ``count`` keyframes of a loaded map, and ``views`` in place of their pixels."""
        self._loaded = [(stamp, evidence)] * count
        self._loaded_views = list(views)

    def evict(self) -> list[Keyframe]:
        """Evict the most redundant keyframes beyond ``max_keyframes``, never the ``RECENT`` last; return them."""
        gone = []
        while len(self._kept) > self._config.max_keyframes:
            gone.append(self._kept.pop(most_redundant(self._kept[:-RECENT], self._config)[0]))
        return gone

    def edit(self, origin: torch.Tensor, count: int) -> None:
        """Follow an edit of a scene that had ``count`` Gaussians (see ``GaussianScene``)."""
        appends = only_appends(origin, count)
        on_cpu = origin.cpu()  # once for all keyframes: what follows from it is remembered
        if not appends:
            self._loaded = [(stamp, evidence.follow(on_cpu)) for stamp, evidence in self._loaded]
        self._loaded_views = [view.follow(origin) for view in self._loaded_views]
        for keyframe in self._kept:
            keyframe.edit(origin, on_cpu, appends)

    def planted(self, means: NDArray[np.float32]) -> None:
        """Tell all keyframes of Gaussians newly planted at ``means`` (n, 3)."""
        for keyframe in self._kept:
            keyframe.planted(means, self._camera_of(keyframe))

    def forget(self, gone: NDArray[np.bool_]) -> None:
        """Drop the evidence about the Gaussians where ``gone`` (N,) is True, until the next refresh."""
        for keyframe in self._kept:
            keyframe.forget(gone)
        self._loaded = [(stamp, evidence.without(gone)) for stamp, evidence in self._loaded]

    def showing(
        self, scene: GaussianScene, which: torch.Tensor, departed: bool
    ) -> list[tuple[Keyframe, NDArray[np.bool_]]]:
        """The keyframes that show some of the Gaussians ``which`` (N,) bool, and the pixels (H, W) where each does,
        widened by one. If these ``departed``, but for pixels where one measured what is behind: they were gone by then.
        """
        splats, found = scene.splats, []
        own = Splats(*(each[which] for each in splats))
        reach = REACH * splats.scales[which].amax(1)
        for keyframe in self._kept:
            camera = self._camera_of(keyframe)
            if in_view(camera, splats.means[which], reach).any():
                share = rasterize(splats, which.float()[:, None], camera).image[..., 0] > SHOWN
                pixels = cv2.dilate(share.cpu().numpy().astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
                if departed and keyframe.view.measured and keyframe.view.depth is not None:
                    alone = rasterize(own, own.opacities[:, None], camera)
                    behind = (alone.alpha > SHOWN) & (keyframe.view.depth > (1 + BEHIND) * alone.depth)
                    # but for the rim, behind which there is always something else
                    behind = cv2.morphologyEx(behind.cpu().numpy().astype(np.uint8), cv2.MORPH_OPEN, WINDOW)
                    pixels &= behind == 0
                if pixels.any():
                    found.append((keyframe, pixels))
        return found

    def begin_anew(self) -> None:
        """Discard what was computed: the scene is replaced by another."""
        for keyframe in self._kept:
            keyframe.evidence = keyframe.lifting = None

    def refresh(self, keyframe: Keyframe, scene: GaussianScene, hidden: NDArray[np.bool_]) -> None:
        """Recompute what a keyframe says about ``scene``, except for the Gaussians where ``hidden`` (N,) is True."""
        keyframe.refresh(scene, self._camera_of(keyframe), self._pixels, self._rng)
        if hidden.any():
            keyframe.forget(hidden)

    def refresh_new(self, scene: GaussianScene, hidden: NDArray[np.bool_]) -> None:
        """``refresh`` the keyframes that have no evidence yet."""
        for keyframe in self._kept:
            if keyframe.evidence is None:
                self.refresh(keyframe, scene, hidden)

    def refresh_stalest(self, scene: GaussianScene, hidden: NDArray[np.bool_]) -> None:
        """``refresh`` the stalest keyframes, if any are stale.

        A few per call, during training, so that little is left to do when the objects are updated.
        """
        known = [keyframe for keyframe in self._kept if keyframe.evidence is not None]
        if len(known) > ASKED:
            self._next_asked = (self._next_asked + ASKED) % len(known)
            known = (known[self._next_asked :] + known[: self._next_asked])[:ASKED]
        means = scene.means.cpu().numpy()
        age = staleness(known, means, [self._camera_of(keyframe) for keyframe in known], self._config.refresh_moved)
        for k in np.argsort(-age, kind="stable")[: SAMPLED if self._pixels else REFRESHED].tolist():
            if age[k] >= 1:
                self.refresh(known[k], scene, hidden)


def staleness(
    keyframes: Sequence[Keyframe], means: NDArray[np.float32], cameras: Sequence[PosedCamera], max_moved: float
) -> NDArray[np.float64]:
    """(K,) how much has changed since each of the ``keyframes`` was refreshed; 1 or more is stale. A keyframe without
    masks has no evidence and is never stale.

    Args:
        means: (N, 3) of the present scene, world frame.
        cameras: of the keyframes, at their currently estimated poses.
        max_moved: mean motion in pixels that alone makes a keyframe stale.
    """
    moved = movement([keyframe.landmarks for keyframe in keyframes], means, cameras)
    masked = np.array([len(keyframe.evidence.area) > 0 for keyframe in keyframes], bool)
    return masked * (moved / max_moved + np.array([keyframe.unknown for keyframe in keyframes]))


def all_weights(scene: GaussianScene, camera: PosedCamera) -> BlendWeights:
    """Blend weights of every pixel of ``camera``, row by row."""
    device = scene.device
    rows, columns = torch.meshgrid(
        torch.arange(camera.height, device=device), torch.arange(camera.width, device=device), indexing="ij"
    )
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
    return blend_weights(scene.splats, camera, pixels)
