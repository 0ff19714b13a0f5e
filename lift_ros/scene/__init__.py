"""The Gaussian scene: what it is, where Gaussians come from, and how they are trained."""

from lift_ros.scene.config import SceneConfig
from lift_ros.scene.gaussians import GaussianScene, Seeds, follow
from lift_ros.scene.trainer import PhotometricTrainer, TrainingView

__all__ = ["GaussianScene", "PhotometricTrainer", "SceneConfig", "Seeds", "TrainingView", "follow"]
