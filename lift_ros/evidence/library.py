"""The C++ of csrc/, through ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift_ros.native import load_library, pointer

_INTERFACE = 9  # LIFT_EVIDENCE_INTERFACE of csrc/lift_evidence.h


class Masks(Structure):
    """``LiftMasks`` of csrc/lift_evidence.h."""

    _fields_ = [
        ("mask_count", c_int64),
        ("begin", c_void_p),
        ("gaussian", c_void_p),
        ("weight", c_void_p),
        ("area", c_void_p),
    ]


class Clear(Structure):
    """``LiftClear`` of csrc/lift_evidence.h."""

    _fields_ = [("count", c_int64), ("gaussian", c_void_p), ("mask", c_void_p), ("say", c_void_p)]


class Views(Structure):
    """``LiftViews`` of csrc/lift_evidence.h."""

    _fields_ = [("count", c_int64), ("views", POINTER(Masks)), ("gaussian_count", c_int64)]


class Parts(Structure):
    """``LiftParts`` of csrc/lift_evidence.h."""

    _fields_ = [("count", c_int64), ("number", c_void_p)]


_PROTOTYPES = {
    "lift_clear": [POINTER(Masks), c_int64, c_float, c_float] + [c_void_p] * 3,
    "lift_neighbour_agreement": [c_int64, POINTER(Clear), c_int64, c_int64] + [c_void_p] * 3 + [c_int],
    "lift_part_agreement": [POINTER(Views), POINTER(Parts), c_double, c_double] + [c_void_p] * 2 + [c_int],
    "lift_held": [POINTER(Views), POINTER(Parts)] + [c_void_p] * 2 + [c_int],
    "lift_purity": [POINTER(Views), POINTER(Parts), c_double, c_double] + [c_void_p] * 4 + [c_int],
    "lift_strongest_masks": [POINTER(Views), POINTER(Parts)] + [c_void_p] * 2 + [c_int],
    "lift_masked": [POINTER(Views), c_void_p, c_int],
    "lift_votes": [POINTER(Views), POINTER(Parts), c_double] + [c_void_p] * 4 + [c_int],
    "lift_components": [c_int64, c_int64] + [c_void_p] * 3 + [c_float] + [c_void_p] * 2,
    "lift_connected_parts": [c_int64, c_int64] + [c_void_p] * 2 + [c_int64, c_void_p],
    "lift_visibility": [POINTER(Views), POINTER(Parts), c_double] + [c_void_p] * 3 + [c_int],
    "lift_merge_parts": [c_int64] + [c_void_p] * 3 + [c_double] * 3 + [c_void_p] * 2 + [c_int],
}


@cache
def library() -> ctypes.CDLL:
    """Raises ImportError: the library is missing, stale or cannot be loaded; the message says how to build it."""
    path = Path(__file__).with_name("liblift_evidence.so")
    prototypes = {name: (c_int64, arguments) for name, arguments in _PROTOTYPES.items()}
    return load_library(path, "lift_evidence_interface", _INTERFACE, prototypes)


def pointers(structure: Structure, **arrays: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Let the fields of a structure point to arrays, which it borrows; returns those that must outlive it."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for name, array in contiguous.items():
        setattr(structure, name, pointer(array))
    return list(contiguous.values())
