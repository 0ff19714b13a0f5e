"""What a mapper is made with: the device it trains on and the segmenter, as the configuration has them."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import torch

from lift_ros.camera import Camera, PosedCamera
from lift_ros.config import Config
from lift_ros.errors import ConfigError
from lift_ros.masks.base import Segmenter
from lift_ros.masks.factory import make_segmenter
from lift_ros.render import Splats, rasterize

log = logging.getLogger(__name__)


def make_mapper_segmenter(config: Config) -> Segmenter:
    """The segmenter that ``config.masks`` names. Errors as ``make_segmenter`` and ``training_device``."""
    return make_segmenter(config.masks, str(training_device(config)))


def training_device(config: Config) -> torch.device:
    """The device that ``config.mapping.device`` stands for. auto is CUDA only where gsplat can rasterize there.

    Raises:
        ConfigError: CUDA was asked for and is not there, or gsplat is not.
    """
    wanted = config.mapping.device
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("mapping.device is cuda, but torch sees no CUDA device; set it to auto or cpu")
    try:
        _try_cuda()
    except Exception as error:
        trouble = f"gsplat cannot draw on it ({type(error).__name__}: {error})"
        if isinstance(error, ModuleNotFoundError):
            trouble = "there is no gsplat to use it with (pip install 'gsplat>=1.5.3')"
        if wanted == "cuda":
            raise ConfigError(f"mapping.device is cuda, but {trouble}") from None
        log.warning("there is a CUDA device, but %s: mapping on the CPU", trouble)
        return torch.device("cpu")
    return torch.device("cuda")


@cache  # of a success: what failed may do later
def _try_cuda() -> None:
    """Draw something with gsplat: it compiles its kernels when they are first called, and says no sooner if it cannot.

    Raises:
        ModuleNotFoundError: there is no gsplat. Others, as gsplat and torch raise them.
    """
    if importlib.util.find_spec("gsplat") is None:
        raise ModuleNotFoundError("gsplat")
    log.info("trying gsplat on the CUDA device; the first time of all its kernels are compiled, for some minutes")
    one = torch.ones(1, 3, device="cuda")
    camera = PosedCamera(Camera(16, 16, 16.0, 16.0, 8.0, 8.0), torch.eye(4, device="cuda"))
    rasterize(Splats(one, torch.ones(1, 4, device="cuda"), one, 0.5 * one[:, 0]), one, camera)
    torch.cuda.synchronize()
