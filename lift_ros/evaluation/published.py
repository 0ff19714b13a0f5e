"""What the papers report, to stand beside our figures: on other data, other scenes and other machines."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One published figure: ``value`` in per cent, ``method`` by its name here."""

    method: str
    data: str
    metric: str
    value: float
    source: str


UNIC = "UniC-Lift (arXiv 2512.24763), after a summary by others"
UNIFIED = "Unified-Lift (CVPR 2025), table {}"
OMNI = "OmniSeg3D (CVPR 2024), table {}"
PCF = "PCF-Lift (ECCV 2024), table {}"
DISCO = "DiscoNeRF (CVPR workshops 2025), table 1"
MESSY = "Messy Rooms, mean of 8"

PUBLISHED = (
    Published("unic_lift", "ScanNet", "PQ_scene", 63.0, UNIC),
    Published("unic_lift", "Replica", "PQ_scene", 88.7, UNIC),
    Published("unic_lift", MESSY, "PQ_scene", 71.5, UNIC),
    Published("unified_lift", "LERF-Mask", "mIoU", 80.9, UNIFIED.format(1)),
    Published("unified_lift", "LERF-Mask", "mBIoU", 77.1, UNIFIED.format(1)),
    Published("unified_lift", "Replica, masks by SAM", "mIoU", 41.6, UNIFIED.format(2)),
    Published("unified_lift", "Replica, masks by SAM", "F-score", 43.9, UNIFIED.format(2)),
    Published("unified_lift", MESSY, "PQ_scene", 69.0, UNIFIED.format(3)),
    Published("omniseg3d", "Replica, 281 clicks", "IoU level 1", 91.3, OMNI.format(1)),
    Published("omniseg3d", "Replica, 281 clicks", "IoU level 2", 88.9, OMNI.format(1)),
    Published("omniseg3d", "Replica, 281 clicks", "IoU mean of levels", 90.1, OMNI.format(1)),
    Published("omniseg3d", "NVOS", "mIoU", 91.7, OMNI.format(2)),
    Published("omniseg3d", "MVSeg", "mIoU", 95.2, OMNI.format(2)),
    Published("omniseg3d", "Replica, propagated masks", "mIoU", 84.4, OMNI.format(2)),
    Published("omniseg3d", "LERF-Mask", "mIoU", 74.7, UNIFIED.format(1) + ", on Gaussians with HDBSCAN"),
    Published("omniseg3d", "LERF-Mask", "mBIoU", 71.8, UNIFIED.format(1) + ", on Gaussians with HDBSCAN"),
    Published("omniseg3d", MESSY, "PQ_scene", 66.0, UNIFIED.format(3) + ", on Gaussians with HDBSCAN"),
    Published("pcf_lift", "ScanNet", "PQ_scene", 63.5, PCF.format(1)),
    Published("pcf_lift", "ScanNet", "SQ_scene", 78.5, PCF.format(1)),
    Published("pcf_lift", "ScanNet", "RQ_scene", 65.4, PCF.format(1)),
    Published("pcf_lift", MESSY, "PQ_scene", 73.4, PCF.format(2)),
    Published("disco", "Mip-NeRF 360", "IoU, weighted by area", 79.2, DISCO),
    Published("disco", "Mip-NeRF 360", "best dice", 87.5, DISCO),
    Published("disco", "Mip-NeRF 360", "symmetric best dice", 85.3, DISCO),
    Published("panoptic_lifting", "ScanNet", "PQ_scene", 58.9, PCF.format(1)),
    Published("panoptic_lifting", MESSY, "PQ_scene", 63.2, PCF.format(2)),
    Published("hdbscan", "ScanNet", "PQ_scene", 62.0, PCF.format(1) + ", Contrastive Lift"),
    Published("hdbscan", MESSY, "PQ_scene", 69.0, PCF.format(2) + ", Contrastive Lift"),
)
