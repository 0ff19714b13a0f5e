"""Parameters of the object registry."""

from __future__ import annotations

from dataclasses import dataclass

from lift_ros.options import option


@dataclass(frozen=True)
class ObjectsConfig:
    """From the labels of a moment to objects that persist."""

    min_gaussians: int = option(
        20, "Smaller connected parts are absorbed by what surrounds them, smaller objects are not published.", min=1
    )
    min_views: int = option(
        3,
        "Keyframes that must show an object before it is published; at the beginning all there are, but two at least.",
        min=1,
    )
    min_confidence: float = option(
        0.35, "Mean IoU with the best mask of each view from which an object is published.", min=0.0, max=1.0
    )
    up: str = option(
        "z",
        "Axis of the world that points up: boxes stand upright on it. none: boxes are free.",
        choices=("x", "y", "z", "none"),
    )
