"""How well one click selects a part, and the whole it belongs to (OmniSeg3D, sec. 4.1)."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lift_ros.evaluation.mask_sets import HierarchicalIou, hierarchical_iou
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.resampling import most_frequent

MIN_PART = 100  # pixels that a part must show to be clicked on
CLICKS = 8  # of a view, at most


def click_ious(
    mapper: Mapper, frame: Frame, parts: NDArray, wholes: NDArray, align_steps: int
) -> list[HierarchicalIou]:
    """IoU at two levels of clicks on the parts that a view shows, at the resolution of mapping.

    Scores are the similarity of rendered embeddings to the one clicked on; of methods without any, what they answer to
    clicks, and of those that answer none, whether it is the same object. Where the map shows nothing at the pixel, or
    no object, nothing is selected. The pixels are random, and the same for every method.

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

    scores_of = _scorer(mapper, small, align_steps)
    found = []
    for part in chosen.tolist():
        rows, columns = np.nonzero((parts == part) & (wholes > 0))
        pick = rng.integers(len(rows))
        row, column = int(rows[pick]), int(columns[pick])
        whole = wholes == wholes[row, column]
        found.append(hierarchical_iou(scores_of((column, row)), (parts == part) & whole, whole))
    return found


def _scorer(mapper: Mapper, frame: Frame, align_steps: int) -> Callable[[tuple[int, int]], NDArray]:
    """What gives the (H, W) scores of a click on a pixel (column, row) of ``frame``; booleans where they are no more
    than a selection, see ``hierarchical_iou``.
    """
    camera = mapper.snapshot.locate(frame, align_steps)
    features = mapper.feature_image(camera)
    if features is None and not mapper.answers_clicks:
        labels = mapper.snapshot.labels_of(frame, camera.width, align_steps)[0]
        return lambda pixel: (labels == labels[pixel[1], pixel[0]]) & (labels > 0)

    def scores(pixel: tuple[int, int]) -> NDArray:
        column, row = pixel
        if features is not None:
            found, nothing = features @ features[row, column], 0
        else:
            found, nothing = mapper.similarity_image(camera, pixel), -1
        return found if found[row, column] > nothing else np.zeros(found.shape, bool)  # it is not even like itself

    return scores
