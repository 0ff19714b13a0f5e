"""Parts of the scene that hang together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lift_ros.lifting import counts
from lift_ros.scene.neighbours import Neighbours


def connected_parts(neighbours: Neighbours, labels: NDArray[np.integer], min_size: int = 1) -> NDArray[np.int64]:
    """Gaussians of one label that hang together, directly or through others: by the reach of the coarser of two.

    Args:
        labels: (N,), below 0 for none.
        min_size: smaller parts join what surrounds them.

    Returns:
        (N,) part numbers from 0, -1 without a label and for small parts that touch nothing larger.
    """
    return counts.connected_parts(neighbours.within_reach, labels, min_size)
