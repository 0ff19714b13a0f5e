"""Finds and loads the compiled rasterizer (csrc/) through ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch

from lift_ros.native import load_library


class Gaussians(Structure):
    """``LiftGaussians`` of csrc/lift_raster.h."""

    _fields_ = [
        ("count", c_int64),
        ("means", c_void_p),
        ("quats", c_void_p),
        ("scales", c_void_p),
        ("opacities", c_void_p),
        ("channel_count", c_int64),
        ("channels", c_void_p),
    ]


class Camera(Structure):
    """``LiftCamera`` of csrc/lift_raster.h."""

    _fields_ = [
        ("viewmat", c_float * 16),
        ("fx", c_float),
        ("fy", c_float),
        ("cx", c_float),
        ("cy", c_float),
        ("width", c_int32),
        ("height", c_int32),
    ]


class Gradients(Structure):
    """``LiftGradients`` of csrc/lift_raster.h."""

    _fields_ = [(n, c_void_p) for n in ("means", "quats", "scales", "opacities", "channels", "viewmat", "means2d")]


class Picture(Structure):
    """``LiftPicture`` of csrc/lift_raster.h."""

    _fields_ = [("width", c_int32), ("height", c_int32), ("image", c_void_p), ("depth", c_void_p)]


class EdgeFilter(Structure):
    """``LiftEdgeFilter`` of csrc/lift_raster.h."""

    _fields_ = [
        ("passes", c_int32),
        ("radius", c_int32),
        ("distance", c_float),
        ("color", c_float),
        ("color_alone", c_float),
        ("depth", c_float),
    ]


class Supervision(Structure):
    """``LiftSupervision`` of csrc/lift_raster.h."""

    _fields_ = [
        ("width", c_int32),
        ("height", c_int32),
        ("image", c_void_p),
        ("depth", c_void_p),
        ("gain", c_float * 3),
        ("bias", c_float * 3),
        ("ssim_weight", c_float),
        ("depth_weight", c_float),
    ]


class ViewLosses(Structure):
    """``LiftViewLosses`` of csrc/lift_raster.h."""

    _fields_ = [(n, c_void_p) for n in ("losses", "image_gradient", "alpha_gradient", "depth_gradient")]


class Adam(Structure):
    """``LiftAdam`` of csrc/lift_raster.h."""

    _fields_ = [(n, c_float) for n in ("rate", "beta1", "beta2", "scale", "eps")]


_PROTOTYPES = {
    "lift_view_new": (c_void_p, [POINTER(Gaussians), POINTER(Camera), c_void_p, c_int]),
    "lift_view_free": (None, [c_void_p]),
    "lift_render": (c_int64, [c_void_p] * 5 + [c_int]),
    "lift_render_backward": (c_int64, [c_void_p, POINTER(Gaussians), *[c_void_p] * 6, POINTER(Gradients), c_int]),
    "lift_count_pairs": (c_int64, [c_void_p, POINTER(c_int64), c_int]),
    "lift_weights_new": (c_void_p, [c_void_p, c_void_p, c_int64, c_int]),
    "lift_weights_nonzeros": (c_int64, [c_void_p]),
    "lift_weights_copy": (c_int64, [c_void_p] * 4 + [c_int]),
    "lift_weights_free": (None, [c_void_p]),
    "lift_mask_weights_new": (c_void_p, [c_void_p, c_void_p, c_int32, c_int32, c_float, c_int]),
    "lift_mask_weights_nonzeros": (c_int64, [c_void_p]),
    "lift_mask_weights_copy": (None, [c_void_p] * 4),
    "lift_mask_weights_free": (None, [c_void_p]),
    "lift_label_image": (c_int64, [c_void_p] * 5 + [c_int]),
    "lift_follow_edges": (c_int64, [POINTER(Picture), POINTER(EdgeFilter), c_void_p, c_void_p, c_int]),
    "lift_view_losses": (c_int64, [POINTER(Supervision), *[c_void_p] * 3, POINTER(ViewLosses), c_int]),
    "lift_csr_matmul": (c_int64, [c_int64, c_int64] + [c_void_p] * 5 + [c_int]),
    "lift_csr_transpose": (None, [c_int64, c_int64] + [c_void_p] * 6),
    "lift_csr_compact": (c_int64, [c_int64, c_int64] + [c_void_p] * 3),
    "lift_adam_rows": (c_int64, [POINTER(Adam), c_int64, c_int64] + [c_void_p] * 5 + [c_int]),
    "lift_nearest": (c_int64, [c_int64, c_void_p, c_int32, c_void_p, c_void_p, c_int]),
    "lift_advise_huge_pages": (None, [c_void_p, c_int64]),
    "lift_best_variant": (c_char_p, []),
}
_INTERFACE = 10  # LIFT_INTERFACE of csrc/lift_raster.h


def library_path(variant: str) -> Path:
    """Where the library built for ``variant`` (baseline, x86_64_v3, x86_64_v4) is expected."""
    return Path(__file__).with_name(f"liblift_raster_{variant}.so")


def load(variant: str) -> ctypes.CDLL:
    """Load one variant and declare its functions.

    Raises:
        ImportError: the library is missing, stale or cannot be loaded; the message says how to build it.
    """
    return load_library(library_path(variant), "lift_interface", _INTERFACE, _PROTOTYPES)


@cache
def best_variant() -> str:
    """The fastest variant this processor can run."""
    return load("baseline").lift_best_variant().decode()


@cache
def best() -> ctypes.CDLL:
    """The library of that variant. Loaded once."""
    return load(best_variant())


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """An uninitialised CPU tensor backed by huge pages where it is large enough."""
    tensor = torch.empty(*shape, dtype=dtype)
    best().lift_advise_huge_pages(tensor.data_ptr(), tensor.numel() * tensor.element_size())
    return tensor
