"""Parameters of the mapper: resolution, keyframes, and how much is trained for each."""

from __future__ import annotations

from dataclasses import dataclass

from lift_ros.options import option


@dataclass(frozen=True)
class MappingConfig:
    """How frames become a map."""

    image_width: int = option(
        320, "Width at which frames are mapped; segmenters are given the full image.", unit="px", min=32, max=8192
    )
    keyframe_parallax: float = option(
        2.5,
        "A frame becomes a keyframe if it sees the scene from a direction this different from every keyframe's.",
        unit="deg",
        min=0.0,
        max=90.0,
    )
    keyframe_rotation: float = option(
        8.0,
        "A frame becomes a keyframe if its camera has turned by this much from every keyframe's.",
        unit="deg",
        min=0.0,
        max=180.0,
    )
    keyframe_new_area: float = option(
        0.1, "A frame becomes a keyframe if the map does not explain this share of it.", min=0.0, max=1.0
    )
    max_keyframes: int = option(
        400,
        "Most keyframes to keep, about 2 MB each without the weights of lifting.pixels. Beyond that, new ones replace "
        "the most redundant. The map keeps what these showed.",
        min=10,
    )
    photometric_steps: int = option(
        12,
        "Scene training steps per keyframe. Labels improve up to the default, rendered pictures beyond it.",
        min=0,
    )
    lifting_steps: int = option(50, "Embedding training steps per keyframe.", min=0)
    max_backlog: int = option(
        5,
        "Training that may be pending, in multiples of the steps per keyframe; a slow computer skips the rest.",
        min=1,
    )
    densify_every: int = option(150, "Scene training steps between two rounds of splitting and pruning.", min=1)
    refresh_moved: float = option(
        1.0,
        "A keyframe's blend weights are recomputed when the Gaussians it shows have moved this far in its image, on "
        "average.",
        unit="px",
        min=0.01,
    )
    drop_departed: bool = option(
        True,
        "Take objects out of the map that depth images look through: they were carried away. False where depth sees "
        "through things that are there, or poses are often wrong.",
    )
    device: str = option(
        "auto", "Where to train: cuda, cpu, or auto for cuda where there is one.", choices=("auto", "cpu", "cuda")
    )
    seed: int = option(
        0,
        "Seed of all random choices: the same input and seed give the same map.",
        min=0,
        max=2**63 - 1,  # the most that a ROS parameter holds
    )
