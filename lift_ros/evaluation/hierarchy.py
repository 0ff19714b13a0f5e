"""How well one click selects a part, and the whole it belongs to (OmniSeg3D, sec. 4.1)."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from lift_ros.evaluation.mask_sets import HierarchicalIou, click_scores, hierarchical_iou
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.resampling import most_frequent

MIN_PART = 100  # pixels that a part must show to be clicked on
CLICKS = 8  # of a view, at most


def click_ious(
    mapper: Mapper, frame: Frame, parts: NDArray, wholes: NDArray, align_steps: int
) -> list[HierarchicalIou]:
    """IoU at two levels of clicks on the parts that a view shows, at the resolution of mapping.

    Scores are the similarity of rendered embeddings to the one clicked on; of methods without any, the labels and their
    parents. The pixels are random, and the same for every method.

    Args:
        parts, wholes: (H, W) true parts and instances of ``frame``, 0 for none.
        align_steps: see ``MapSnapshot.locate``.
    """
    small = frame.at_width(mapper.config.mapping.image_width)
    size = small.camera.height, small.camera.width
    parts, wholes = most_frequent(parts, *size), most_frequent(wholes, *size)
    rng = np.random.default_rng(zlib.crc32(frame.name.encode()))
    shown, count = np.unique(parts[(parts > 0) & (wholes > 0)], return_counts=True)
    shown = shown[count >= MIN_PART]
    chosen = rng.permutation(shown)[:CLICKS]

    snapshot = mapper.snapshot
    features = mapper.feature_image(snapshot.locate(small, align_steps))
    labels = snapshot.labels_of(small, small.camera.width, align_steps)[0].astype(np.int64)
    parents = {track.id: track.parent for track in snapshot.tracks}
    ids, index = np.unique(labels, return_inverse=True)
    above = np.array([parents.get(i, 0) or i for i in ids.tolist()])[index].reshape(labels.shape)

    found = []
    for part in chosen.tolist():
        rows, columns = np.nonzero((parts == part) & (wholes > 0))
        pick = rng.integers(len(rows))
        row, column = int(rows[pick]), int(columns[pick])
        pixel = column, row
        scores = click_scores(labels, above, pixel) if features is None else features @ features[row, column]
        whole = wholes == wholes[row, column]
        found.append(hierarchical_iou(scores, (parts == part) & whole, whole))
    return found
