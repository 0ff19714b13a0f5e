"""Consistent instance labels from posed images: a Gaussian scene, lifted 2D masks, persistent objects."""

import os as _os
from pathlib import Path as _Path
from xml.etree import ElementTree as _ElementTree

# OpenMP threads that spin while they wait take the cores from the mapper's other threads: 2 to 30 times slower on two
# cores. It is read once, when torch loads.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _version() -> str:
    """The version in package.xml: inside the package once installed, beside it in a source tree."""
    package = _Path(__file__).parent
    manifest = package / "package.xml"
    return _ElementTree.parse(manifest if manifest.exists() else package.parent / "package.xml").findtext("version")


__version__ = _version()
