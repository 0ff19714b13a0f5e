"""The Gaussian scene: its tensors, and the edits that add and remove Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch

from lift_ros.render.types import Splats
from lift_ros.scene.harmonics import SH_C0, basis


@dataclass(frozen=True)
class Seeds:
    """Gaussians to be added to a scene, in the world frame and the unit of the poses.

    Attributes:
        means: (n, 3) centres.
        quats: (n, 4) rotations, wxyz.
        scales: (n, 3) standard deviations along the rotated axes, positive.
        opacities: (n,) in (0, 1).
        colors: (n, 3) RGB in [0, 1].
    """

    means: torch.Tensor
    quats: torch.Tensor
    scales: torch.Tensor
    opacities: torch.Tensor
    colors: torch.Tensor

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: torch.Tensor) -> Seeds:
        return Seeds(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def cat(cls, parts: list[Seeds]) -> Seeds:
        return cls(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    @classmethod
    def empty(cls) -> Seeds:
        return cls(torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 3))


@dataclass
class GaussianScene:
    """N anisotropic Gaussians in the parametrisation of 3DGS (Kerbl et al. 2023), which is also that of its PLY files.

    Every edit returns ``origin`` (N_new,) int64: the index each Gaussian had before the edit, or that of the Gaussian
    it was split from, and -1 for new ones. State kept elsewhere follows with ``state[origin]``.

    Attributes:
        means: (N, 3) centres in the world frame.
        quats: (N, 4) rotations wxyz, not normalised.
        log_scales: (N, 3) logarithms of the standard deviations.
        logit_opacities: (N,).
        sh: (N, (degree + 1)^2, 3) coefficients of the spherical harmonics.
    """

    means: torch.Tensor
    quats: torch.Tensor
    log_scales: torch.Tensor
    logit_opacities: torch.Tensor
    sh: torch.Tensor

    @classmethod
    def empty(cls, sh_degree: int = 0, device: torch.device | str = "cpu") -> GaussianScene:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(*shape, device=device)

        return cls(zeros(0, 3), zeros(0, 4), zeros(0, 3), zeros(0), zeros(0, (sh_degree + 1) ** 2, 3))

    def __len__(self) -> int:
        return len(self.means)

    @property
    def device(self) -> torch.device:
        return self.means.device

    @property
    def sh_degree(self) -> int:
        return round(self.sh.shape[1] ** 0.5) - 1

    @property
    def scales(self) -> torch.Tensor:
        """(N, 3) standard deviations."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> torch.Tensor:
        """(N,) in (0, 1)."""
        return self.logit_opacities.sigmoid()

    @property
    def splats(self) -> Splats:
        """What the rasterizers draw. Scales and opacities are computed each time."""
        return Splats(self.means, self.quats, self.scales, self.opacities)

    def colors(self, camera_center: torch.Tensor) -> torch.Tensor:
        """(N, 3) RGB as seen from ``camera_center`` (3,), not below 0."""
        if self.sh.shape[1] == 1:
            return (self.sh[:, 0] * SH_C0 + 0.5).clamp_min(0)
        directions = torch.nn.functional.normalize(self.means.detach() - camera_center, dim=-1)
        return (torch.einsum("nk,nkc->nc", basis(directions, self.sh_degree), self.sh) + 0.5).clamp_min(0)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All state by name; ``GaussianScene(**tensors)`` is the inverse."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to(self, device: torch.device | str) -> GaussianScene:
        """A copy on ``device``, or the scene itself where it is there already."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def clone(self) -> GaussianScene:
        """A copy that shares no memory: what a reader keeps while training goes on."""
        return replace(self, **{name: tensor.detach().clone() for name, tensor in self.tensors().items()})

    def append(self, seeds: Seeds) -> torch.Tensor:
        """Add ``seeds`` at the end; ``origin`` of the new rows is -1."""
        n, device = len(self), self.device
        sh = torch.zeros(len(seeds), self.sh.shape[1], 3, device=device)
        sh[:, 0] = (seeds.colors.to(device) - 0.5) / SH_C0
        new = {
            "means": seeds.means.to(device),
            "quats": seeds.quats.to(device),
            "log_scales": seeds.scales.to(device).log(),
            "logit_opacities": torch.logit(seeds.opacities.to(device)),
            "sh": sh,
        }
        for name, tensor in self.tensors().items():
            setattr(self, name, torch.cat([tensor, new[name]]))
        return torch.cat([torch.arange(n, device=device), torch.full((len(seeds),), -1, device=device)])

    def prune(self, keep: torch.Tensor) -> torch.Tensor:
        """Keep the Gaussians where ``keep`` (N,) bool is True."""
        origin = keep.nonzero().squeeze(1)
        self._take(origin)
        return origin

    def thin(self, gone: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
        """Remove the Gaussians where ``gone`` (N,) bool is True; those where ``cover`` is True get twice the area."""
        self.log_scales = self.log_scales + 0.5 * math.log(2.0) * cover[:, None]
        return self.prune(~gone)

    def split(self, mask: torch.Tensor) -> torch.Tensor:
        """Replace each Gaussian where ``mask`` (N,) bool is True by two, side by side along its longest axis.

        The pair has the mean and the covariance of its parent: centres 0.75 sigma off, and sigma shrunk to
        sqrt(1 - 0.75^2) along that axis. The others keep their order, the children follow at the end.
        """
        parents = mask.nonzero().squeeze(1)
        origin = torch.cat([(~mask).nonzero().squeeze(1), parents, parents])
        self._take(origin)
        n = len(parents)
        children = slice(len(self) - 2 * n, len(self))
        longest = self.log_scales[children].argmax(dim=1, keepdim=True)
        axis = rotation_matrices(self.quats[children]).gather(2, longest[:, None, :].expand(-1, 3, 1)).squeeze(2)
        offset = 0.75 * self.log_scales[children].gather(1, longest).exp() * axis
        offset[n:] *= -1
        self.means[children] += offset
        shrink = 0.5 * torch.log(torch.tensor(1 - 0.75**2, device=self.device))
        self.log_scales[children] = self.log_scales[children].scatter_add(1, longest, shrink.expand_as(longest))
        return origin

    def _take(self, index: torch.Tensor) -> None:
        for name, tensor in self.tensors().items():
            setattr(self, name, tensor[index])


def follow(state: torch.Tensor, origin: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
    """Per-Gaussian ``state`` (N, ...) after an edit: ``state[origin]``, and ``fill`` for new Gaussians."""
    if only_appends(origin, len(state)):  # as with every keyframe: copied in one piece, several times as fast
        return torch.cat([state, state.new_full((len(origin) - len(state), *state.shape[1:]), fill)])
    moved = state.new_full((len(origin), *state.shape[1:]), fill)
    known = origin >= 0
    moved[known] = state[origin[known]]
    return moved


def heirs(index: torch.Tensor, origin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where references to Gaussians lead after an edit.

    Args:
        index: (n,) int64, Gaussians before the edit.
        origin: (N_new,) int64 of the edit.

    Returns:
        entry (m,) and heir (m,): reference ``entry[k]`` of ``index`` now leads to Gaussian ``heir[k]``. The entries are
        in ascending order; one to a Gaussian that was removed is missing, one to a Gaussian that was split is there
        twice.
    """
    count, start, by_origin = _heirs_table(origin)
    index = index.clamp(max=len(count) - 1)
    repeats = count[index]
    entry = torch.repeat_interleave(torch.arange(len(index), device=index.device), repeats)
    within = torch.arange(len(entry), device=index.device) - (repeats.cumsum(0) - repeats)[entry]
    return entry, by_origin[start[index[entry]] + within]


@lru_cache(maxsize=2)  # all keyframes follow one edit, one after the other, on the CPU and on the device
def _heirs_table(origin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each Gaussian before the edit, how many heirs it has and where they begin in the third, the list of all. The
    last row, of none, is for Gaussians beyond those that ``origin`` names.
    """
    known = (origin >= 0).nonzero().squeeze(1)
    count = torch.bincount(origin[known], minlength=(int(origin.max()) if len(origin) else -1) + 2)
    return count, count.cumsum(0) - count, known[torch.argsort(origin[known], stable=True)]


@lru_cache(maxsize=2)  # as above
def only_appends(origin: torch.Tensor, count: int) -> bool:
    """Whether an edit of a scene of ``count`` Gaussians left these as they were, and added new ones at most."""
    kept = torch.arange(count, device=origin.device)
    return len(origin) >= count and bool((origin[:count] == kept).all() and (origin[count:] < 0).all())


def rotation_matrices(quats: torch.Tensor) -> torch.Tensor:
    """(n, 4) quaternions wxyz of any length -> (n, 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)
