"""The whole configuration of the core. Each part is documented beside what it configures."""

from __future__ import annotations

from dataclasses import dataclass, field

from lift_ros.lifting.config import LiftingConfig
from lift_ros.mapping.config import MappingConfig
from lift_ros.masks.config import MasksConfig
from lift_ros.objects.config import ObjectsConfig
from lift_ros.scene.config import SceneConfig


@dataclass(frozen=True)
class Config:
    """Everything that a map depends on besides its input."""

    mapping: MappingConfig = field(default_factory=MappingConfig)
    masks: MasksConfig = field(default_factory=MasksConfig)
    scene: SceneConfig = field(default_factory=SceneConfig)
    lifting: LiftingConfig = field(default_factory=LiftingConfig)
    objects: ObjectsConfig = field(default_factory=ObjectsConfig)
