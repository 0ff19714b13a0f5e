"""Parameters of the mapper: resolution, keyframes, and how much is trained for each."""

from __future__ import annotations

from dataclasses import dataclass

from lift_ros.options import option


@dataclass(frozen=True)
class MappingConfig:
    """How frames become a map."""

    image_width: int = option(
        320, "Width at which frames are mapped; masks are made at the full size.", unit="px", min=32, max=8192
    )
    keyframe_parallax: float = option(
        2.5, "A frame that sees the scene from a direction this different is a keyframe.", unit="deg", min=0.0, max=90.0
    )
    keyframe_rotation: float = option(8.0, "... or one that has turned by this much.", unit="deg", min=0.0, max=180.0)
    keyframe_new_area: float = option(0.1, "... or one of which the map does not explain this share.", min=0.0, max=1.0)
    max_keyframes: int = option(
        400,
        "Keyframes that are kept, some 2 MB each without the weights of lifting.pixels; beyond, the one that another "
        "is closest to gives way to what is farther off. The map keeps what it showed.",
        min=10,
    )
    photometric_steps: int = option(
        12, "Steps of scene training that each keyframe brings; labels gain up to here, pictures beyond.", min=0
    )
    lifting_steps: int = option(50, "Steps of embedding training that each keyframe brings.", min=0)
    max_backlog: int = option(
        5, "Keyframes' worth of training that may be owed; a computer too slow for more skips the rest.", min=1
    )
    densify_every: int = option(150, "Scene training steps between two rounds of splitting and pruning.", min=1)
    refresh_moved: float = option(
        1.0,
        "A keyframe's blend weights are computed anew when what it shows has moved in it by this much, on average.",
        unit="px",
        min=0.01,
    )
    device: str = option(
        "auto", "Where to train: cuda, cpu, or auto for cuda where there is one.", choices=("auto", "cpu", "cuda")
    )
    seed: int = option(0, "Seed of all random choices: the same input and seed give the same map.", min=0)
