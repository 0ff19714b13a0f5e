"""OmniSeg3D: embeddings whose similarity is a hierarchy.

Ying et al., "OmniSeg3D: Omniversal 3D Segmentation via Hierarchical Contrastive Learning" (CVPR 2024). The masks of a
view may overlap; pixels that lie in the same masks are a patch (3.1, ``patches``), and patches are related by how many
masks they share (eq. 1). Each Gaussian carries an embedding f_i, a pixel shows F_u = sum_i w_ui f_i (eq. 4), and F_u is
drawn to the mean of its own patch most, to related patches less (eq. 5-8). So a high threshold on the similarity to a
click selects a part, a low one the whole: see ``lifting.clicks``.

What differs from the paper:
- Gaussians carry the embeddings, as in the authors' OmniSeg3D-GS, not a network; they start as smooth functions of
  position.
- The inner sum of eq. 6 over the patches of a level is a mean, as in the authors' code: else a level weighs the more,
  the more patches lie in it, and lambda orders nothing. N are the pixels, L, which the paper leaves open, the levels of
  the view. So where masks do not overlap, eq. 5 is divided by the number of pixels, not by that of patches N_p.
- The greatest loss of a level, eq. 8, is that of the level's own losses, as printed; the authors' code keeps a running
  maximum over the levels so far.
- A step sees some hundred pixels of a view, not all, and of small masks and along borders more than their share (half
  of them lie anywhere, a quarter is spread evenly over the masks, a quarter faces another mask; see ``sample_view``),
  so that n_i in phi, and what patches weigh against each other in eq. 6, are not those of the image.
- The norm loss weighs as much as eq. 6 (``norm_weight`` 1); in eq. 10, 10^6 times as much (w_2 / w_1).
- Patches of fewer than 4 samples are left out.
- Labels without clicks, which the paper leaves to "clustering features", are two cuts of an average-linkage tree over
  the features of some pixels. Parts are cut midway between the similarity that pixels of one patch and that pixels of
  related patches were seen to have in training; the objects they belong to, midway to that of unrelated patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch.nn.functional import normalize

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting import steps
from lift_ros.lifting.base import Batch, Decoded, LiftingView, draw
from lift_ros.lifting.clicks import similarity
from lift_ros.lifting.config import OmniSeg3DConfig
from lift_ros.lifting.contrastive import Clusters, Groups, norm_loss
from lift_ros.lifting.training import TrainedGaussians, descend, waves
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours

MIN_PATCH_PIXELS = 4  # fewer samples say nothing of a patch's mean
SAMPLES = 3000  # features in the tree: its time and memory grow with the square
MIN_SAMPLES = 3  # of a cluster: fewer are astride a border
MEMORY = 0.95  # of the running means of similarities
TEMPERATURE = 0.1  # of the confidence; the least that eq. 7 has


class OmniSeg3D:
    """Per-Gaussian embeddings (N, d).

    Attributes:
        kinship: (2, 3) running sums of cosine similarities and of their weights: between pixels of one patch, of
            related patches, of unrelated ones.
    """

    name = "omniseg3d"
    trained = True

    def __init__(self, config: OmniSeg3DConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config
        self._generator = torch.Generator().manual_seed(seed)
        self.embeddings = TrainedGaussians(config.embedding_dim, config.learning_rate, 0.99, device=device)
        self.kinship = torch.zeros(2, 3, device=device)

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        self.embeddings.edit(
            origin, means, lambda means: normalize(waves(means, self.config.embedding_dim, self._generator), dim=1)
        )

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        batch, groups, votes, depth = draw(views, _patched, self._generator)
        patch = groups.index
        if not len(patch):
            return {}
        embeddings = self.embeddings.seen(batch.gaussians, batch.weights)
        features = embeddings.value
        clusters = Clusters.of(features, groups)
        self._remember(features.detach(), patch, votes)
        losses = {
            "hierarchical": hierarchical_loss(features, clusters, depth, self.config.decay),
            "norm": self.config.norm_weight * norm_loss(features),
        }
        return descend(losses, embeddings, rate=rate)

    def _remember(self, features: torch.Tensor, patch: torch.Tensor, votes: torch.Tensor) -> None:
        seen = kinship(normalize(features, dim=1), patch, votes)
        fresh = torch.stack([seen, torch.ones_like(seen)])
        self.kinship = torch.where(seen.isnan(), self.kinship, MEMORY * self.kinship + (1 - MEMORY) * fresh)

    @property
    def cuts(self) -> tuple[float, float]:
        """Similarities at which parts and objects are told apart; the same where masks do not overlap."""
        sums, weights = self.kinship.cpu()
        own, related, other = (sums / weights).tolist()
        if weights[0] == 0 or weights[2] == 0:  # nothing to go by yet
            return 0.5, 0.5
        if weights[1] == 0:
            return (own + other) / 2, (own + other) / 2
        return (own + related) / 2, (related + other) / 2

    @property
    def unit_features(self) -> torch.Tensor:
        """(N, d)."""
        return normalize(self.embeddings.value.detach(), dim=1)

    def similarity(self, clicked: BlendWeights) -> torch.Tensor:
        return similarity(self.unit_features, clicked)

    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        """Parts, and the objects they belong to; confident by the softmax of the similarities to all parts."""
        features = self.unit_features
        if not len(features):
            none = torch.zeros(0, dtype=torch.int64, device=features.device)
            return Decoded(none, features.new_zeros(0), none)
        some = self._samples(views).cpu().numpy()
        part, parent = discretise(some, self.cuts)
        means = np.stack([some[part == k].mean(0) for k in range(len(parent))])
        likeness = features @ normalize(torch.from_numpy(means).to(features), dim=1).T
        confidence, labels = torch.softmax(likeness / TEMPERATURE, dim=1).max(1)
        return Decoded(labels, confidence, torch.from_numpy(parent).to(labels)[labels])

    @torch.no_grad()
    def _samples(self, views: Sequence[LiftingView]) -> torch.Tensor:
        """(n, d) unit features of some masked pixels, the same at each call; without views, as in a loaded map, of some
        Gaussians. Pixels are what the losses see: a Gaussian that shows in none can be anything."""
        generator = torch.Generator().manual_seed(0)
        found = []
        for view in views:
            masked = view.inside.any(1).nonzero()[:, 0]
            some = torch.randperm(len(masked), generator=generator)[: -(-SAMPLES // len(views))]
            found.append(view.weights.rows(masked[some.to(masked.device)]).matmul(self.embeddings.value))
        if count := sum(map(len, found)):  # some more than asked for: of every view some are left out
            kept = torch.randperm(count, generator=generator)[:SAMPLES].sort().values
            return normalize(torch.cat(found)[kept.to(self.embeddings.value.device)], dim=1)
        some = torch.randperm(len(self.embeddings.value), generator=generator)[:SAMPLES]
        return self.unit_features[some.to(self.unit_features.device)]

    def state(self) -> dict[str, torch.Tensor]:
        return {
            "gaussian.omniseg3d.embeddings": self.embeddings.value.detach(),
            "omniseg3d.kinship": self.kinship,
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.embeddings.load(state["gaussian.omniseg3d.embeddings"], "lifting.omniseg3d.embedding_dim")
        self.kinship = state["omniseg3d.kinship"].to(self.kinship.device)


def _patched(batch: Batch) -> tuple[Batch, Groups, torch.Tensor, torch.Tensor]:
    """The pixels of a batch that lie in patches; the patches as clusters; their votes and depths."""
    patch, inside = patches(batch.inside)
    votes = count_votes(inside)
    small = torch.int16  # they are kept for every batch, and there are K^2
    return batch.at(patch >= 0), Groups.of(patch[patch >= 0], len(inside)), votes.to(small), depths(votes).to(small)


def patches(inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The patches among sampled pixels: those that lie in the same masks.

    Args:
        inside: (P, M) bool, of a ``LiftingView``.

    Returns:
        patch (P,) int64 of each pixel, -1 where it lies in no mask or in a patch of fewer than 4 samples;
        inside (K, M) bool, which masks each patch lies in.
    """
    # a random number a mask: sums are equal where the sets of masks are, but for one chance in 2^40 a pair; they are
    # whole and below 2^52, so that no order of summation rounds them (torch.unique of rows takes ten times as long)
    limit = 2**52 // max(inside.shape[1], 1)
    numbers = torch.randint(limit, (inside.shape[1],), generator=torch.Generator().manual_seed(0))
    sums = inside.double() @ numbers.to(inside.device).double()
    _, index, size = torch.unique(sums, return_inverse=True, return_counts=True)
    first = torch.full_like(size, len(index)).scatter_reduce_(
        0, index, torch.arange(len(index), device=index.device), "amin"
    )
    kept = (size >= MIN_PATCH_PIXELS) & inside[first].any(1)
    number = torch.where(kept, kept.cumsum(0) - 1, -1)
    return number[index], inside[first[kept]]


def count_votes(inside: torch.Tensor) -> torch.Tensor:
    """Eq. 1: C_hi (K, K), how many masks contain both patches, of ``inside`` (K, M) bool."""
    return (inside.float() @ inside.float().T).round().long()


def depths(votes: torch.Tensor) -> torch.Tensor:
    """Depth d of patch s in the tree of anchor i (3.1), (K, K): 1 where they share most masks, 2 where they share the
    next lower number there is, and so on; 0 where they share none."""
    ranked, order = votes.sort(dim=1, descending=True, stable=True)
    lower = torch.zeros_like(ranked)
    lower[:, 1:] = ranked[:, 1:] < ranked[:, :-1]
    return torch.zeros_like(votes).scatter(1, order, 1 + lower.cumsum(1)) * (votes > 0)


def hierarchical_loss(features: torch.Tensor, clusters: Clusters, depth: torch.Tensor, decay: float) -> torch.Tensor:
    """Eq. 6: sum over levels d of decay^(d - 1) / (N L) times, summed over pixels, the mean over the patches there
    of max(loss(s), greatest loss at level d - 1).

    The loss of a pixel with patch s is eq. 7, -log softmax_s sim(F_u, mean_s); the greatest at a level is eq. 8. With
    masks that do not overlap there is one level, and this is eq. 5 with 1 / N for its 1 / N_p.

    Args:
        features: (N, d) of the pixels.
        clusters: of these features; the K patches.
        depth: (K, K) from ``depths``.
    """
    groups = clusters.groups
    if steps.fits(features):
        known = groups.index, groups.sizes, groups.absent, clusters.means, clusters.temperatures
        return steps.contrast(features, *known, depth.to(torch.int16), decay)
    loss = -clusters.log_softmax(features)
    levels = int(depth.max())
    total = loss.new_zeros(())
    greatest = loss.new_zeros(1, len(features))
    for level in range(1, levels + 1):
        here = depth.T.index_select(1, groups.index) == level
        bounded = torch.maximum(loss, greatest).masked_fill(~here, 0)
        total = total + decay ** (level - 1) * (bounded.sum(0) / here.sum(0).clamp_min(1)).sum()
        greatest = loss.masked_fill(~here, 0).amax(0, keepdim=True)
    return total / (len(features) * levels)


def kinship(features: torch.Tensor, patch: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
    """(3,) mean cosine similarity of two pixels of one patch, of patches that share a mask, of patches that share none;
    NaN where there are no such two.

    Args:
        features: (P, d) of unit length.
        patch: (P,) int64.
        votes: (K, K) of all patches.
    """
    # sums over the pixels of two patches are products of the sums over each
    count = torch.bincount(patch, minlength=len(votes)).to(features.dtype)
    sums = features.new_zeros(len(votes), features.shape[1]).index_add(0, patch, features)
    similarity, pairs = sums @ sums.T, torch.outer(count, count)
    own = torch.eye(len(votes), dtype=torch.bool, device=votes.device)
    kinds = torch.stack([own, (votes > 0) & ~own, (votes == 0) & ~own]).flatten(1).to(features.dtype)
    itself = torch.zeros_like(kinds[:, 0])
    itself[0] = len(features)  # of each pixel with itself, 1
    return (kinds @ similarity.flatten() - itself) / (kinds @ pairs.flatten() - itself)


def discretise(features: NDArray, similarities: Sequence[float]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clusters of unit ``features`` (n, d) at two cosine similarities, high and low.

    Returns:
        part (n,) from 0, -1 for clusters too small to be one; parent, for each part the cluster at the low similarity.
    """
    if len(features) == 1:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    tree = linkage(features, "average", "cosine")
    fine, coarse = (fcluster(tree, 1 - similarity, "distance") for similarity in similarities)
    values, index, size = np.unique(fine, return_inverse=True, return_counts=True)
    kept = size >= min(MIN_SAMPLES, size.max())
    number = np.where(kept, kept.cumsum() - 1, -1)
    parent = np.array([coarse[fine == value][0] for value in values[kept]], np.int64)
    return number[index], parent
