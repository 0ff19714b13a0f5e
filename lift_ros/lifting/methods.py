"""Lifting methods by name."""

from __future__ import annotations

import torch

from lift_ros.lifting.base import LiftingMethod
from lift_ros.lifting.config import LiftingConfig
from lift_ros.lifting.disco import Disco
from lift_ros.lifting.hdbscan import Hdbscan
from lift_ros.lifting.lift import Lift
from lift_ros.lifting.omniseg3d import OmniSeg3D
from lift_ros.lifting.panoptic_lifting import PanopticLifting
from lift_ros.lifting.pcf_lift import PcfLift
from lift_ros.lifting.unic_lift import UnicLift
from lift_ros.lifting.unified_lift import UnifiedLift


def make_method(config: LiftingConfig, seed: int, device: torch.device | str) -> LiftingMethod:
    """The method that ``config.method`` names, without Gaussians yet."""
    match config.method:
        case Lift.name:
            return Lift(config.lift, device)
        case UnicLift.name:
            return UnicLift(config.unic_lift, seed, device)
        case UnifiedLift.name:
            return UnifiedLift(config.unified_lift, seed, device)
        case OmniSeg3D.name:
            return OmniSeg3D(config.omniseg3d, seed, device)
        case PcfLift.name:
            return PcfLift(config.pcf_lift, seed, device)
        case Disco.name:
            return Disco(config.disco, seed, device)
        case PanopticLifting.name:
            return PanopticLifting(config.panoptic_lifting, seed, device)
        case Hdbscan.name:
            return Hdbscan(config.hdbscan, seed, device)
    raise ValueError(f"no lifting method {config.method!r}")
