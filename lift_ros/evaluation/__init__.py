"""Metrics: instance labels over all views and of single ones, their steadiness over time, and single images."""

from lift_ros.evaluation.boundaries import NamedQuality, inner_bands, mean_boundary_iou, named_quality
from lift_ros.evaluation.images import DepthError, boundary_iou, depth_l1, mask_iou, psnr, ssim
from lift_ros.evaluation.mask_sets import (
    HierarchicalIou,
    MaskSetQuality,
    Overlaps,
    hierarchical_iou,
    mask_set_quality,
    mean_mask_set_quality,
)
from lift_ros.evaluation.metrics import (
    AssignedQuality,
    Contingency,
    IdSwitches,
    PanopticQuality,
    ViewConsistency,
    assigned_quality,
    background_id,
    background_iou,
    matched_objects,
    panoptic_quality,
    view_consistency,
)

__all__ = [
    "AssignedQuality",
    "Contingency",
    "DepthError",
    "HierarchicalIou",
    "IdSwitches",
    "MaskSetQuality",
    "NamedQuality",
    "Overlaps",
    "PanopticQuality",
    "ViewConsistency",
    "assigned_quality",
    "background_id",
    "background_iou",
    "boundary_iou",
    "depth_l1",
    "hierarchical_iou",
    "inner_bands",
    "mask_iou",
    "mask_set_quality",
    "matched_objects",
    "mean_boundary_iou",
    "mean_mask_set_quality",
    "named_quality",
    "panoptic_quality",
    "psnr",
    "ssim",
    "view_consistency",
]
