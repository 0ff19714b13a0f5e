"""Parameters of the scene: how Gaussians are seeded, trained and kept within a budget."""

from __future__ import annotations

from dataclasses import dataclass

from lift_ros.options import option


@dataclass(frozen=True)
class SceneConfig:
    """Seeding, photometric training and density control. Lengths are relative, so that scenes of unknown scale work."""

    max_gaussians: int = option(
        200_000, "Gaussians; a full scene thins what is far off. Memory and time per step grow with it.", min=100
    )
    sh_degree: int = option(
        0,
        "Degree of the spherical harmonics. 0 is one colour from all sides, a third of the memory of 1.",
        min=0,
        max=3,
    )

    seed_spacing: float = option(
        3.0, "Distance between seeds of an empty scene, as seen from the view that plants them.", unit="px", min=0.5
    )
    seed_alpha: float = option(
        0.6, "A view plants seeds where the scene covers a pixel by less than this.", min=0.0, max=1.0
    )
    seed_depth_error: float = option(
        0.08, "... or where the rendered depth is off the measured one by more than this share.", min=0.0
    )
    stereo: bool = option(
        True, "Estimate depth from neighbouring views where there is no depth image; else seeds are sparse features."
    )

    ssim_weight: float = option(
        0.2, "Share of D-SSIM in the photometric loss, the rest is L1 (3DGS).", min=0.0, max=1.0
    )
    depth_weight: float = option(0.3, "Weight of the relative depth error where a sensor measured depth.", min=0.0)
    stereo_depth_weight: float = option(0.05, "The same for depth estimated from neighbouring views.", min=0.0)
    scale_weight: float = option(
        0.02, "Pull on Gaussians longer than ten times their width: needles look right from one side only.", min=0.0
    )

    lr_means: float = option(
        4e-4, "Step of the centres, as a share of the median depth; several times 3DGS's, for few steps.", min=0.0
    )
    lr_quats: float = option(2e-3, "Step of the rotations.", min=0.0)
    lr_scales: float = option(1e-2, "Step of the log scales.", min=0.0)
    lr_opacities: float = option(5e-2, "Step of the opacity logits.", min=0.0)
    lr_sh: float = option(5e-3, "Step of the base colour; the higher degrees move at a twentieth.", min=0.0)
    exposure_ridge: float = option(
        1e-3, "Pull of a frame's exposure to gain 1 and bias 0, as a variance of its colours.", min=0.0
    )

    refine_poses: bool = option(
        False, "Correct the poses by aligning each view with the scene. For poses that are off by pixels."
    )

    densify_gradient: float = option(
        6e-4,
        "Gaussians whose mean absolute screen gradient (in half image sizes) exceeds this are cloned or split.",
        min=0.0,
    )
    prune_opacity: float = option(0.02, "Gaussians fainter than this are removed.", min=0.0, max=1.0)
