"""Loads and calls what is compiled from the folders ``csrc``, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def load_library(
    path: Path, version: str, expected: int, prototypes: Mapping[str, tuple[Any, Sequence[Any]]]
) -> ctypes.CDLL:
    """Load a library and declare its functions.

    Args:
        path: of the library, which lies beside the Python module that uses it.
        version: the function that tells which version of its interface the library was built for.
        expected: that version, by the Python module.
        prototypes: types of the result and of the arguments of each function.

    Raises:
        ImportError: the library is missing, stale or cannot be loaded; the message says how to build it.
    """
    folder = path.parent.name
    hint = (
        f"build it from the root of the sources with: cmake -S lift_ros/{folder}/csrc -B build/{folder} "
        f"-DCMAKE_BUILD_TYPE=Release && cmake --build build/{folder} && cmake --install build/{folder} --prefix ."
    )
    if not path.exists():
        raise ImportError(f"{path} is not built; {hint}")
    try:
        library = ctypes.CDLL(str(path))
        if getattr(library, version)() != expected:
            raise ImportError(f"{path} was built from other sources; {hint}")
        for name, (restype, argtypes) in prototypes.items():
            function = getattr(library, name)
            function.restype, function.argtypes = restype, argtypes
    except (OSError, AttributeError) as error:
        raise ImportError(f"{path} cannot be loaded ({error}); {hint}") from error
    return library


def pointer(array: torch.Tensor | NDArray[np.generic] | None) -> int | None:
    """Where the memory of a contiguous array begins, which the caller keeps alive; None for none."""
    if array is None:
        return None
    if isinstance(array, torch.Tensor):
        assert array.is_contiguous()
        return array.data_ptr()
    assert array.flags.c_contiguous
    return array.ctypes.data


def call(function: Any, *arguments: object) -> Any:
    """Call a function of a library, tensors and arrays by their memory; returns what it returns.

    Raises MemoryError: it returned what stands for this, a negative number or no handle.
    """
    plain = (pointer(each) if isinstance(each, torch.Tensor | np.ndarray) else each for each in arguments)
    result = function(*plain)
    if function.restype is not None and (result is None or result < 0):
        raise MemoryError(f"out of memory in {function.__name__}")
    return result
