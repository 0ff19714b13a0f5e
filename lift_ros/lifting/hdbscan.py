"""Contrastive embeddings and HDBSCAN: what many systems do with their features, as a baseline.

Embeddings are drawn to the mean of their mask and away from those of the view's other masks (Unified-Lift eq. 1, see
``contrastive``), and then clustered by density: Campello et al., "Density-Based Clustering Based on Hierarchical
Density Estimates" (PAKDD 2013), as implemented by scikit-learn. Pixels are clustered and not Gaussians, most of which
are hidden behind others and know nothing; every mask sends equally many, so that small objects are as dense as large
ones. Each Gaussian then takes the nearest cluster. How many there are hinges on ``min_cluster_size``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import Batch, Decoded, LiftingView, draw
from lift_ros.lifting.clicks import similarity
from lift_ros.lifting.config import HdbscanConfig
from lift_ros.lifting.contrastive import Clusters, Groups, contrastive_loss, norm_loss
from lift_ros.lifting.training import TrainedGaussians, descend, waves
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours


def _grouped(batch: Batch) -> tuple[Batch, Groups]:
    """The pixels of a batch that lie in masks, and these masks as clusters."""
    batch = batch.masked()
    return batch, Groups.of(batch.masks, batch.mask_count)


class Hdbscan:
    """Per-Gaussian embeddings (N, d) near the unit sphere."""

    name = "hdbscan"
    trained = True

    def __init__(self, config: HdbscanConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.embeddings = TrainedGaussians(config.embedding_dim, config.learning_rate, 0.99, device)
        self._generator = torch.Generator().manual_seed(seed)
        # takes two seconds: in vain for other methods, and too long once frames come
        from sklearn.cluster import HDBSCAN

        self._clustering = HDBSCAN(min_cluster_size=config.min_cluster_size, copy=True)

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        dim = self.config.embedding_dim
        self.embeddings.edit(origin, means, lambda means: normalize(waves(means, dim, self._generator)))

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        batch, groups = draw(views, _grouped, self._generator)
        if not len(batch.masks):
            return {}
        seen = self.embeddings.seen(batch.gaussians, batch.weights)
        features = seen.value
        losses = {"contrastive": contrastive_loss(features, Clusters.of(features, groups)), "norm": norm_loss(features)}
        return descend(losses, seen, rate=rate)

    @property
    def unit_features(self) -> torch.Tensor:
        """(N, d)."""
        return normalize(self.embeddings.value.detach())

    def similarity(self, clicked: BlendWeights) -> torch.Tensor:
        return similarity(self.unit_features, clicked)

    @torch.no_grad()
    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        """The cluster whose mean each Gaussian is nearest to, by the cosine, which is also the confidence."""
        own = self.unit_features
        centers = self._centers(views)
        if not len(centers):
            return Decoded.nothing(own)
        confidence, labels = (own @ centers.T).max(1)
        return Decoded(labels, confidence.clamp(0, 1))

    def _centers(self, views: Sequence[LiftingView]) -> torch.Tensor:
        """Mean directions (C, d) of the clusters that some pixels of the views form."""
        views = [view for view in views if (view.masks >= 0).any()]
        generator = torch.Generator().manual_seed(0)  # always the same pixels: labels change only where embeddings do
        samples = [self.embeddings.value[:0]]
        for view in views:
            masks = view.masks.cpu()
            weight = torch.where(masks >= 0, 1 / torch.bincount(masks + 1)[masks + 1], 0)
            count = min(-(-self.config.samples // len(views)), int((masks >= 0).sum()))
            chosen = torch.multinomial(weight, count, generator=generator).to(view.masks.device)
            samples.append(view.weights.rows(chosen).matmul(self.embeddings.value))
        features = normalize(torch.cat(samples))
        if len(features) <= self.config.min_cluster_size:
            return features[:0]
        labels = torch.from_numpy(self._clustering.fit_predict(features.cpu().numpy())).to(features.device)
        clustered = labels >= 0
        count = int(labels.max()) + 1
        sums = features.new_zeros(count, features.shape[1])
        return normalize(sums.index_add(0, labels[clustered], features[clustered]))

    def state(self) -> dict[str, torch.Tensor]:
        return {"gaussian.hdbscan.embeddings": self.embeddings.value.detach()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.embeddings.load(state["gaussian.hdbscan.embeddings"], "lifting.hdbscan.embedding_dim")
