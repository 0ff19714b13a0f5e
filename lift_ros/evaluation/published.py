"""What the papers report, to stand beside our figures: on other data, with other masks, on other machines."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """Figures of one method on one data set.

    Attributes:
        method: its name here.
        data: what was measured on, as the paper names it.
        figures: by the names of docs/evaluation.md where it is the same metric, else by that of the paper; in [0, 1].
        source: where they are published.
    """

    method: str
    data: str
    figures: dict[str, float]
    source: str


class ShareClaim(NamedTuple):
    """A claim that masks of a ``share`` of the frames, (0, 1], are enough; ``text`` says whose it is."""

    method: str
    share: float
    text: str


UNIC = "UniC-Lift (arXiv 2512.24763), after a summary by others"
UNIFIED = "Unified-Lift (CVPR 2025), table {}"
OMNI = "OmniSeg3D (CVPR 2024), table {}"
PCF = "PCF-Lift (ECCV 2024), table {}"
DISCO = "DiscoNeRF (CVPR workshops 2025), table 1"
HDBSCAN = UNIFIED + ", on Gaussians with HDBSCAN"
DIRECT = UNIFIED + ", Panoptic Lifting on Gaussians"
CONTRASTIVE = PCF + ", Contrastive Lift"
MESSY = "Messy Rooms, mean of 8"
SAM_REPLICA = "Replica, masks by SAM"
PROMPTED = "mIoU of prompted objects"  # scribbles or a mask in one view, the object in another

# PQ_scene of Messy Rooms is the mean of objects and background, another figure than elsewhere
PUBLISHED = (
    Published("unic_lift", "ScanNet", {"pq": 0.630}, UNIC),
    Published("unic_lift", "Replica", {"pq": 0.887}, UNIC),
    Published("unic_lift", MESSY, {"pq_with_background": 0.715}, UNIC),
    Published("unified_lift", "LERF-Mask", {"named_miou": 0.809, "named_mbiou": 0.771}, UNIFIED.format(1)),
    Published("unified_lift", SAM_REPLICA, {"miou": 0.416, "f_score": 0.439}, UNIFIED.format(2)),
    Published("unified_lift", MESSY, {"pq_with_background": 0.690}, UNIFIED.format(3)),
    Published(
        "omniseg3d", "Replica, 281 clicks",
        {"part_iou": 0.913, "whole_iou": 0.889, "hierarchical_iou": 0.901}, OMNI.format(1),
    ),
    Published("omniseg3d", "LERF-Mask", {"named_miou": 0.747, "named_mbiou": 0.718}, HDBSCAN.format(1)),
    Published("omniseg3d", SAM_REPLICA, {"miou": 0.391, "f_score": 0.359}, HDBSCAN.format(2)),
    Published("omniseg3d", MESSY, {"pq_with_background": 0.660}, HDBSCAN.format(3)),
    Published("omniseg3d", "NVOS", {PROMPTED: 0.917}, OMNI.format(2)),
    Published("omniseg3d", "MVSeg", {PROMPTED: 0.952}, OMNI.format(2)),
    Published("omniseg3d", "Replica", {PROMPTED: 0.844}, OMNI.format(2)),
    Published("pcf_lift", "ScanNet", {"pq": 0.635, "sq": 0.785, "rq": 0.654}, PCF.format(1)),
    Published("pcf_lift", MESSY, {"pq_with_background": 0.734}, PCF.format(2)),
    Published(
        "disco", "Mip-NeRF 360",
        {"weighted_iou": 0.792, "best_dice": 0.875, "symmetric_best_dice": 0.853}, DISCO,
    ),
    Published("panoptic_lifting", "ScanNet", {"pq": 0.589, "sq": 0.735, "rq": 0.650}, PCF.format(1)),
    Published("panoptic_lifting", MESSY, {"pq_with_background": 0.632}, PCF.format(2)),
    Published("panoptic_lifting", "LERF-Mask", {"named_miou": 0.707, "named_mbiou": 0.658}, DIRECT.format(1)),
    Published("panoptic_lifting", SAM_REPLICA, {"miou": 0.253, "f_score": 0.329}, DIRECT.format(2)),
    Published("panoptic_lifting", MESSY, {"pq_with_background": 0.586}, DIRECT.format(3)),
    Published("hdbscan", "ScanNet", {"pq": 0.620, "sq": 0.757, "rq": 0.636}, CONTRASTIVE.format(1)),
    Published("hdbscan", MESSY, {"pq_with_background": 0.690}, CONTRASTIVE.format(2)),
)  # fmt: skip

# hearsay: the texts that the figures above are from do not mention it, so there is a share to mark and no quality
SHARE_CLAIMS = (
    ShareClaim(
        "unic_lift", 0.05,
        "as ascribed to UniC-Lift (arXiv 2512.24763): 5 % of the masks are enough; PQ_scene and data not known here",
    ),
)  # fmt: skip
