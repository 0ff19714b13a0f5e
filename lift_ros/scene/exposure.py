"""Exposure of each frame: how automatic gain and white balance changed the colours of a static scene."""

from __future__ import annotations

import torch

RATE = 0.3  # weight of a new estimate against the previous one


class Exposures:
    """An affine map (gain, bias) per frame and colour channel from the colours of the scene to those of the frame.

    It is solved for, not learned: ridge regression of the frame on the rendering, pulled towards gain 1 and bias 0,
    and blended into the previous estimate. Only ratios between frames can be observed, so the mean over all frames,
    including forgotten ones, is kept at gain 1 and bias 0; without this gauge, the colours of the scene drift. If the
    scene is older than the frames (``anchored``), the mean of their first estimates is kept instead, since those are
    relative to its original colours.
    """

    def __init__(self, ridge: float, anchored: bool = False) -> None:
        self._ridge, self._anchored = ridge, anchored
        self._frames: dict[int, torch.Tensor] = {}  # index -> (2, 3): log gain, bias
        self._sum, self._count = torch.zeros(2, 3), 0  # over all frames, also those forgotten
        self._first = torch.zeros(2, 3)  # the same of their first estimates, where the scene is anchored

    def forget(self, index: int) -> None:
        """Forget a frame that will not be trained on again; the exposures of the others stay."""
        self._frames.pop(index, None)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gain (3,) and bias (3,) of a frame on the CPU; of one never seen, the mean of those seen before and after."""
        if not self._frames:
            return torch.ones(3), torch.zeros(3)
        if index not in self._frames:
            before = max((i for i in self._frames if i < index), default=None)
            after = min((i for i in self._frames if i > index), default=None)
            near = [i for i in (before, after) if i is not None]
            raw = torch.stack([self._frames[i] for i in near]).mean(dim=0)
        else:
            raw = self._frames[index]
        log_gain, bias = raw - (self._sum - self._first) / self._count
        return log_gain.exp(), bias

    def update(self, index: int, rendered: torch.Tensor, image: torch.Tensor, valid: torch.Tensor) -> None:
        """Fit the exposure of frame ``index`` to (H, W, 3) ``rendered`` and ``image`` where ``valid`` (H, W) bool.

        Frames of which too little is rendered, and images that show nothing, leave the estimate as it is.
        """
        count = int(valid.sum())
        if count < 0.1 * valid.numel():
            return
        weight = valid.flatten().float() / count
        x, y = rendered.reshape(-1, 3), image.reshape(-1, 3)
        mean_x, mean_y = weight @ x, weight @ y  # products: torch sums over colours that lie interleaved slowly
        dx, dy = x - mean_x, y - mean_y
        variance, covariance = weight @ (dx * dx), weight @ (dx * dy)
        if dy.square().mean() < self._ridge:
            return  # black, or all of one colour
        gain = ((covariance + self._ridge) / (variance + self._ridge)).clamp(0.25, 4.0)
        bias = (mean_y - gain * mean_x) / (1 + self._ridge)
        found = torch.stack([gain.log(), bias]).cpu()
        if not torch.isfinite(found).all():
            return
        if index in self._frames:
            found = torch.lerp(self._frames[index], found, RATE)
            self._sum -= self._frames[index]
        else:
            self._count += 1
            if self._anchored:
                self._first += found
        self._frames[index] = found
        self._sum += found
