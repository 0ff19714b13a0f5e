"""Metrics: instance labels over all views, their steadiness over time, and single images."""

from lift_ros.evaluation.images import DepthError, boundary_iou, depth_l1, mask_iou, psnr, ssim
from lift_ros.evaluation.metrics import (
    AssignedQuality,
    Contingency,
    IdSwitches,
    PanopticQuality,
    ViewConsistency,
    assigned_quality,
    background_id,
    background_iou,
    panoptic_quality,
    view_consistency,
)

__all__ = [
    "AssignedQuality",
    "Contingency",
    "DepthError",
    "IdSwitches",
    "PanopticQuality",
    "ViewConsistency",
    "assigned_quality",
    "background_id",
    "background_iou",
    "boundary_iou",
    "depth_l1",
    "mask_iou",
    "panoptic_quality",
    "psnr",
    "ssim",
    "view_consistency",
]
