"""Parameters of the object registry."""

from __future__ import annotations

from dataclasses import dataclass

from lift_ros.options import option


@dataclass(frozen=True)
class ObjectsConfig:
    """From the labels of a moment to objects that persist."""

    min_gaussians: int = option(
        12, "Smaller connected parts are absorbed by what surrounds them, smaller objects are not published.", min=1
    )
    min_views: int = option(2, "Keyframes that must show an object before it is published.", min=1)
    same_object_rate: float = option(
        0.4,
        "Parts are one object if masks hold both in at least this share of the views that see both.",
        min=0.0,
        max=1.0,
    )
    hysteresis: float = option(
        0.1,
        "How much clearer the views must speak to change what was decided: to merge objects, or to split one.",
        min=0.0,
        max=1.0,
    )
    pure_part_rate: float = option(
        0.7,
        "A part is cut where masks divide it, if two of its points share a mask less often than this.",
        min=0.0,
        max=1.0,
    )
    vote_purity: float = option(
        0.6,
        "A mask votes for an object if at least this share of it shows the object; else it covers several.",
        min=0.0,
        max=1.0,
    )
    up: str = option(
        "z",
        "Axis of the world that points up: boxes stand upright on it. none: boxes are free.",
        choices=("x", "y", "z", "none"),
    )
