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

METHODS = {
    method.name: method for method in (Lift, UnicLift, UnifiedLift, OmniSeg3D, PcfLift, Disco, PanopticLifting, Hdbscan)
}


def make_method(config: LiftingConfig, seed: int, device: torch.device | str) -> LiftingMethod:
    """The method that ``config.method`` names, without Gaussians yet. Its parameters bear its name in ``config``."""
    if config.method not in METHODS:
        raise ValueError(f"no lifting method {config.method!r}")
    return METHODS[config.method](getattr(config, config.method), seed, device)
