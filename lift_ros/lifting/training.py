"""What the lifting methods train: tensors with Adam's moments, those of the Gaussians following edits of the scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from scipy.spatial import cKDTree

from lift_ros.adam import adam_rows, adam_step
from lift_ros.errors import MapFileError
from lift_ros.lifting import steps
from lift_ros.render import BlendWeights
from lift_ros.scene.gaussians import follow
from lift_ros.scene.neighbours import Neighbours


class Descends(Protocol):
    """What ``descend`` updates: a leaf of the graphs that losses make of it."""

    value: torch.Tensor

    def move(self, gradient: torch.Tensor, rate: float) -> None:
        """One step of Adam, with ``rate`` times the learning rate."""
        ...


class Trained:
    """A tensor that ``descend`` updates.

    Attributes:
        value: the tensor, a leaf of the graphs that losses make of it.
        steps: () float32, steps made since the value was set or loaded.
    """

    _first_option_dim = 0  # the options set the size of the dimensions from here on

    def __init__(self, value: torch.Tensor, rate: float, beta2: float = 0.999) -> None:
        """Train ``value`` with Adam's learning rate ``rate``."""
        self.rate, self.beta2 = rate, beta2
        self._start(value)

    @property
    def all_steps(self) -> int:
        """Steps made so far, those before the value was saved too."""
        return self._earlier + int(self.steps)

    def load(self, saved: torch.Tensor, options: str, steps: int = 0) -> None:
        """Go on from a ``saved`` value.

        Args:
            options: names of the options that the shape of the value depends on.
            steps: that it was trained for.

        Raises:
            MapFileError: the options were others.
        """
        was, expected = (tuple(tensor.shape[self._first_option_dim :]) for tensor in (saved, self.value))
        if was != expected:
            raise MapFileError(
                f"the map was made with another {options}: it holds {was} numbers where {expected} are expected; "
                "set it as it was, or start a new map"
            )
        self._start(saved.to(self.value.device, copy=True), steps)  # steps change it in place

    def move(self, gradient: torch.Tensor, rate: float) -> None:
        adam_step(self.value.detach(), gradient, self.moments, self.steps, rate * self.rate, self.beta2)

    def _start(self, value: torch.Tensor, earlier: int = 0) -> None:
        self.value = value.detach().contiguous().requires_grad_()
        self.moments = (torch.zeros_like(self.value), torch.zeros_like(self.value))
        self.steps = torch.zeros((), device=value.device)  # Adam's: its moments start anew
        self._earlier = earlier


class TrainedGaussians(Trained):
    """State of the Gaussians (N, d), without Gaussians at first."""

    _first_option_dim = 1

    def __init__(self, dim: int, rate: float, beta2: float = 0.999, device: torch.device | str = "cpu") -> None:
        super().__init__(torch.zeros(0, dim, device=device), rate, beta2)

    def edit(self, origin: torch.Tensor, means: torch.Tensor, initial: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Follow an edit of the scene: new Gaussians start as their nearest neighbour among those known.

        Args:
            origin: of the edit; see ``GaussianScene``.
            means: (N, 3) where the Gaussians lie now.
            initial: states (N, d) at ``means``, where none of the Gaussians is known.
        """
        known = origin >= 0
        value = follow(self.value.detach(), origin)
        if len(origin) and not known.any():
            value = initial(means.detach())
        elif not known.all():
            tree = cKDTree(means[known].detach().cpu().numpy())
            nearest = torch.from_numpy(tree.query(means[~known].detach().cpu().numpy(), workers=-1)[1])
            value[~known] = value[known][nearest.to(value.device)]
        self.value = value.requires_grad_()
        self.moments = (follow(self.moments[0], origin), follow(self.moments[1], origin))

    def widen(self, columns: torch.Tensor) -> None:
        """Give every Gaussian more state: ``columns`` (N, k)."""
        self.value = torch.cat([self.value.detach(), columns], dim=1).requires_grad_()
        first, second = self.moments
        none = torch.zeros_like(columns)
        self.moments = (torch.cat([first, none], dim=1), torch.cat([second, none], dim=1))

    def of(self, gaussians: torch.Tensor) -> TrainedRows:
        """The state of some ``gaussians`` (G,) int64, all different, for a step that sees no others."""
        return TrainedRows(self, gaussians)

    def seen(self, gaussians: torch.Tensor, weights: BlendWeights) -> TrainedPixels | BlendedRows:
        """What pixels show of the state of some ``gaussians`` (G,), ascending, by ``weights`` (P, G), if a step sees no
        more.

        Raises:
            ValueError: the weights are of other Gaussians than these, or these are none of the scene.
        """
        if not (type(weights) is BlendWeights and steps.fits(self.value)):
            return BlendedRows(self, gaussians, weights)
        if len(gaussians) != weights.gaussian_count or (len(gaussians) and int(gaussians[-1]) >= len(self.value)):
            raise ValueError(
                f"weights of {weights.gaussian_count} Gaussians, for {len(gaussians)} of a scene of {len(self.value)}"
            )
        return TrainedPixels(self, gaussians, weights)


class TrainedRows:
    """What one step trains: the state of the Gaussians that it sees. The others keep still, so that a step takes no
    longer the more there are.

    Attributes:
        value: (G, d), a leaf of the graphs that losses make of it.
    """

    def __init__(self, whole: TrainedGaussians, gaussians: torch.Tensor) -> None:
        self._whole, self._gaussians = whole, gaussians
        self.value = whole.value.detach().index_select(0, gaussians).requires_grad_()

    def move(self, gradient: torch.Tensor, rate: float) -> None:
        whole = self._whole
        state = whole.value.detach(), *whole.moments
        adam_rows(state, self._gaussians, gradient, whole.steps, rate * whole.rate, whole.beta2)


class TrainedPixels:
    """What pixels show of the state of Gaussians: where that is all that a step sees of it, the state need not be
    gathered, nor its gradient written down.

    Attributes:
        value: (P, d), a leaf of the graphs that losses make of it.
    """

    def __init__(self, whole: TrainedGaussians, gaussians: torch.Tensor, weights: BlendWeights) -> None:
        self._whole, self._gaussians, self._weights = whole, gaussians, weights
        self.value = steps.blend(weights, gaussians, whole.value.detach()).requires_grad_()

    def move(self, gradient: torch.Tensor, rate: float) -> None:
        whole = self._whole
        whole.steps += 1
        state = whole.value.detach(), *whole.moments
        step = int(whole.steps), rate * whole.rate, whole.beta2
        steps.move(self._weights, self._gaussians, state, gradient, *step)


class BlendedRows:
    """The same by autograd, on any device and by anything that stands for blend weights."""

    def __init__(self, whole: TrainedGaussians, gaussians: torch.Tensor, weights: BlendWeights) -> None:
        self._rows = whole.of(gaussians)
        self._blended = weights.matmul(self._rows.value)
        self.value = self._blended.detach().requires_grad_()

    def move(self, gradient: torch.Tensor, rate: float) -> None:
        self._rows.move(torch.autograd.grad(self._blended, self._rows.value, gradient)[0], rate)


def joined(gaussians: torch.Tensor, others: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussians that a step sees beyond those of its pixels, without any twice.

    Args:
        gaussians: (G,) int64, all different.
        others: (...) int64, some of them among ``gaussians``, some more than once.
        count: N of the scene.

    Returns:
        all (G + n,), first ``gaussians``; and where in there each of the ``others`` is (...).
    """
    if others.device.type == "cpu":
        return steps.joined(gaussians, others, count)
    flat = others.reshape(-1)
    own = torch.arange(len(gaussians), device=flat.device)
    turn = torch.arange(len(gaussians), len(gaussians) + len(flat), device=flat.device)
    place = turn.new_empty(count)  # only what is written is read
    place[flat] = turn  # one of those that are the same remains, no matter which
    place[gaussians] = own
    found = place[flat]
    new = found == turn
    number = torch.cat([own, len(gaussians) - 1 + new.cumsum(0)])
    return torch.cat([gaussians, flat[new]]), number[found].reshape(others.shape)


class Touching(NamedTuple):
    """Gaussians whose smoothness a step looks at, with those that they touch.

    Attributes:
        gaussians: (G + n,) those of the step's pixels, and these.
        rows: (S, 1 + k) int64, in ``gaussians``: the Gaussian and its neighbours.
        near: (S, k) bool, as of ``Neighbours``.
    """

    gaussians: torch.Tensor
    rows: torch.Tensor
    near: torch.Tensor

    @classmethod
    def draw(
        cls, gaussians: torch.Tensor, neighbours: Neighbours, samples: int, generator: torch.Generator
    ) -> Touching:
        """Any ``samples`` of all Gaussians, beside those of the step's pixels, ``gaussians`` (G,)."""
        count = len(neighbours.index)
        some = torch.randint(count, (min(samples, count),), generator=generator).to(gaussians.device)
        around = torch.cat([some[:, None], neighbours.index.index_select(0, some)], dim=1)
        return cls(*joined(gaussians, around, count), neighbours.near.index_select(0, some))


def smoothness(features: torch.Tensor, touching: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Sum of ||f_i - f_j||^2 over S Gaussians i and the j that they touch.

    Args:
        features: (G, d).
        touching: (S, 1 + k) int64, rows of ``features``: i and all j.
        near: (S, k) bool, False where i and j do not touch.
    """
    if steps.fits(features):
        return steps.smoothness(features, touching, near)
    around = rows(features, touching)
    difference = around[:, :1] - around[:, 1:]
    return (difference.square().sum(-1) * near).sum()


def descend(losses: dict[str, torch.Tensor], *trained: Descends, rate: float = 1.0) -> dict[str, float]:
    """One step down the sum of ``losses``, with ``rate`` times the learning rates, and the values of the losses.

    Where a gradient is not finite, nothing changes.
    """
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    if losses:
        gradients = torch.autograd.grad(sum(losses.values()), [t.value for t in trained], allow_unused=True)
        if all(gradient is None or bool(gradient.sum().isfinite()) for gradient in gradients):
            for t, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    t.move(gradient, rate)
    return values


def waves(means: torch.Tensor, dim: int, generator: torch.Generator) -> torch.Tensor:
    """Smooth random functions of position, (N, 3) -> (N, dim) in [-1, 1]: what lies together starts together.

    Waves are a third as long as the scene is wide: objects start mostly in one piece, and far ones differ.
    """
    extent = 2 * means.std(dim=0, correction=0).norm()
    direction = torch.randn(3, dim, generator=generator).to(means.device)
    phase = 2 * math.pi * torch.rand(dim, generator=generator).to(means.device)
    return torch.cos(means @ direction * (6 * math.pi / (1.7 * extent.clamp_min(1e-12))) + phase)


def rows(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``values[index]``. The gradient is summed in a fixed order, as that of indexing is not."""
    if steps.fits(values):
        return steps.rows(values, index)
    return torch.nn.functional.embedding(index, values)
