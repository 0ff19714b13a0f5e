"""Parameters of the scene: how Gaussians are seeded, trained and kept within a budget."""

from __future__ import annotations

from dataclasses import dataclass

from lift_ros.options import option


@dataclass(frozen=True)
class SceneConfig:
    """Seeding, photometric training and density control. Lengths are relative, so that scenes of unknown scale work."""

    max_gaussians: int = option(
        200_000,
        "Most Gaussians in the scene; a full one thins what is far away. Memory and time per step grow with it.",
        min=100,
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
    stereo: bool = option(
        True,
        "Estimate the depth of frames without a depth image from neighbouring views; if false, they are seeded at "
        "sparse features.",
    )

    ssim_weight: float = option(
        0.2, "Share of D-SSIM in the photometric loss, the rest is L1 (3DGS).", min=0.0, max=1.0
    )
    depth_weight: float = option(0.3, "Weight of the relative depth error where a sensor measured depth.", min=0.0)
    stereo_depth_weight: float = option(
        0.05, "Weight of the relative depth error where depth was estimated from neighbouring views.", min=0.0
    )
    scale_weight: float = option(
        0.02,
        "Weight of the penalty on Gaussians over ten times as long as wide: needles look right from one side only.",
        min=0.0,
    )

    refine_poses: bool = option(
        False, "Correct the poses by aligning each view with the scene. For poses that are off by pixels."
    )

    densify_gradient: float = option(
        6e-4,
        "Gaussians whose mean absolute screen gradient (in half image sizes) exceeds this are split.",
        min=0.0,
    )
