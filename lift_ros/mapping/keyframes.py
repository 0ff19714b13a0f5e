"""Keyframes: what is kept of them, and what their masks say of the Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.sampling import sample_view
from lift_ros.mapping.config import MappingConfig
from lift_ros.mapping.keyframing import most_redundant
from lift_ros.mapping.landmarks import Landmarks, movement
from lift_ros.masks.base import Patches
from lift_ros.render import BlendWeights, blend_weights
from lift_ros.scene.gaussians import GaussianScene, only_appends
from lift_ros.scene.trainer import TrainingView

MAX_UNKNOWN = 0.05  # Gaussians planted in a view since it was computed, as a share of those it showed
RECENT = 4  # the latest keyframes, which never give way, and which half of the scene training goes to
REFRESHED = 3  # keyframes at most, at each piece of training: new ground soon changes what many of them show
ASKED = 100  # keyframes at most that are asked, in turns, how much has changed since they were
SAMPLED = 1  # of them where a method is trained: to sample their pixels takes several times as long


@dataclass
class Keyframe:
    """What the mapper keeps of a frame.

    Attributes:
        stamp: seconds.
        T_world_camera: (4, 4), as given.
        view: what the scene is trained with, its camera at the pose that was given.
        patches: its masks, finer than the view by a whole number: borders matter most where they are least of a pixel.
        distance: see ``viewing_distance``.
        lifting: pixels that train embeddings; None until computed, or where none are trained.
        evidence: what its masks say about the Gaussians; None until computed.
        landmarks: by which it is told how far what it shows has moved since the two were computed.
    """

    stamp: float
    T_world_camera: NDArray[np.float64]
    view: TrainingView
    patches: Patches
    distance: float = math.inf
    lifting: LiftingView | None = None
    evidence: MaskEvidence | None = None
    landmarks: Landmarks | None = None
    _shown: int = 0  # Gaussians that the masks showed then
    _unknown: int = 0

    def refresh(self, scene: GaussianScene, camera: PosedCamera, pixels: int, rng: np.random.Generator) -> None:
        """Compute blend weights of the scene as it is, seen by ``camera``, and what follows from them.

        ``pixels``: how many of them to keep for training, 0 where none is trained.
        """
        labels = self.patches.label_image()
        if pixels:
            weights = all_weights(scene, camera)
            self.lifting = sample_view(self.patches.resized(camera.height, camera.width), weights, pixels, rng)
            self.evidence = MaskEvidence.of(weights, labels)
        else:  # without the weights of every pixel
            self.lifting = None
            seen = partial(MaskEvidence.seen_by, camera, scene.splats)
            self.evidence = seen(labels)
            if self.patches.overlapping:
                self.evidence.wholes = seen(self.patches.label_image(largest=True))
        self.landmarks = Landmarks.of(self.evidence, scene.means.cpu().numpy(), camera)
        self._unknown = 0
        self._shown = int(np.count_nonzero(np.bincount(self.evidence.gaussian, minlength=1)))

    def planted(self, means: NDArray[np.float32], camera: PosedCamera) -> None:
        """Take note of Gaussians that were planted at ``means`` (n, 3) where others saw them; ``camera`` as above."""
        if self.evidence is not None and len(means):
            viewmat = camera.viewmat.cpu().numpy()
            projected = camera.intrinsics.project(means @ viewmat[:3, :3].T + viewmat[:3, 3])
            self._unknown += int(camera.intrinsics.inside(*projected).sum())

    @property
    def unknown(self) -> float:
        """Gaussians planted in its view since the last refresh, relative to how many may be."""
        return self._unknown / max(MAX_UNKNOWN * self._shown, 1)

    def forget(self, gone: NDArray[np.bool_]) -> None:
        """Say nothing of the Gaussians where ``gone`` (N,) is True, until the next refresh."""
        if self.evidence is not None:
            self.evidence = self.evidence.without(gone)

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
    """The keyframes of a map, in the order of time, and what all of them say of its Gaussians.

    A map that was loaded has none yet; what was known of its Gaussians stands for them.
    """

    def __init__(
        self,
        config: MappingConfig,
        pixels: int,
        rng: np.random.Generator,
        camera_of: Callable[[Keyframe], PosedCamera],
    ) -> None:
        """Without any.

        ``pixels``: how many of each to keep for methods that are trained, 0 for others. ``camera_of``: where a keyframe
        was taken, as far as is known by now.
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
        """How many views stand for the keyframes that a loaded map had; they come first in ``evidence``."""
        return len(self._loaded)

    @property
    def evidence(self) -> list[tuple[float, MaskEvidence]]:
        """Stamps (seconds) of all views with masks, and what these say."""
        known = [(keyframe.stamp, keyframe.evidence) for keyframe in self._kept if keyframe.evidence is not None]
        return self._loaded + [(stamp, evidence) for stamp, evidence in known if len(evidence.area)]

    @property
    def views(self) -> list[LiftingView]:
        """What methods that are trained decode."""
        return self._loaded_views + self.sampled

    @property
    def sampled(self) -> list[LiftingView]:
        """Pixels of the keyframes, which methods are trained with."""
        return [keyframe.lifting for keyframe in self._kept if keyframe.lifting is not None]

    def append(self, keyframe: Keyframe) -> None:
        """Add the latest."""
        self._kept.append(keyframe)

    def stand_in(self, stamp: float, evidence: MaskEvidence, count: int, views: Sequence[LiftingView]) -> None:
        """Have ``evidence`` stand for ``count`` keyframes that a loaded map had, and ``views`` for their pixels."""
        self._loaded = [(stamp, evidence)] * count
        self._loaded_views = list(views)

    def give_way(self) -> list[Keyframe]:
        """Let those go that others show best, beyond those that may be kept, and return them; the latest stay."""
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
        """Take note of Gaussians that were planted at ``means`` (n, 3)."""
        for keyframe in self._kept:
            keyframe.planted(means, self._camera_of(keyframe))

    def forget(self, gone: NDArray[np.bool_]) -> None:
        """Say nothing of the Gaussians where ``gone`` (N,) is True, until the next refresh."""
        for keyframe in self._kept:
            keyframe.forget(gone)
        self._loaded = [(stamp, evidence.without(gone)) for stamp, evidence in self._loaded]

    def begin_anew(self) -> None:
        """What was computed is of another scene."""
        for keyframe in self._kept:
            keyframe.evidence = keyframe.lifting = None

    def refresh(self, keyframe: Keyframe, scene: GaussianScene, hidden: NDArray[np.bool_]) -> None:
        """Compute anew what a keyframe says of ``scene``, but for the Gaussians where ``hidden`` (N,) is True."""
        keyframe.refresh(scene, self._camera_of(keyframe), self._pixels, self._rng)
        if hidden.any():
            keyframe.forget(hidden)

    def refresh_new(self, scene: GaussianScene, hidden: NDArray[np.bool_]) -> None:
        """``refresh`` those that have not been asked yet."""
        for keyframe in self._kept:
            if keyframe.evidence is None:
                self.refresh(keyframe, scene, hidden)

    def refresh_stalest(self, scene: GaussianScene, hidden: NDArray[np.bool_]) -> None:
        """``refresh`` those that show what has changed most, if it is time.

        A few at each piece of training: objects are updated sooner if nothing is left to do then.
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
    """(K,) how much has changed since each of the ``keyframes`` was refreshed; from 1 on it is time for another. What
    has no masks says nothing, and never is stale.

    Args:
        means: (N, 3) of the scene as it is, world.
        cameras: where each was taken, as far as is known by now.
        max_moved: pixels by which what it shows may have moved on average, if nothing else changed.
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
