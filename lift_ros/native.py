"""Loads what is compiled from the folders ``csrc``, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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
