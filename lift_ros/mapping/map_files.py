"""Maps on disk: one directory of plain files, replaced as a whole or not at all.

scene.ply               the Gaussians, in the layout of 3D Gaussian Splatting
embeddings.safetensors  what the lifting method and the object registry know of them
objects.json            the objects
map.yaml                versions, id, world frame, method, parameters; counts and checksums of the other files
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError

import lift_ros
from lift_ros.errors import MapFileError
from lift_ros.mapping.gaussian_ply import check_scene, decode_gaussian_ply, encode_gaussian_ply

log = logging.getLogger(__name__)

STALE = 3600.0  # seconds, after which nobody is writing what an interrupted save left
FORMAT = "lift_ros map"
FORMAT_VERSION = 3
SCENE, TENSORS, OBJECTS, HEADER = "scene.ply", "embeddings.safetensors", "objects.json", "map.yaml"
GAUSSIAN_PREFIX = "gaussian."
REQUIRED_META = ("map_id", "world_frame", "method", "parameters")
RESERVED_META = ("format", "format_version", "package_version", "counts", "files")
MAP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass
class MapContents:
    """What a map directory holds.

    Attributes:
        scene: means (N, 3), quats (N, 4), log_scales (N, 3), logit_opacities (N,), sh (N, K, 3); float32.
        tensors: further tensors by name. Those named ``gaussian.*`` have one row for each of the N Gaussians.
        objects: one JSON-ready dict an object, with a unique positive integer under "id".
        meta: YAML-ready: "map_id" (a UUID, of the map that the ids of the objects are of), "world_frame" (name of the
            frame of the means), "method", "parameters", and whatever else.
    """

    scene: dict[str, torch.Tensor]
    tensors: dict[str, torch.Tensor]
    objects: list[dict[str, Any]]
    meta: dict[str, Any]


def save_map(contents: MapContents, directory: Path | str, keep: Path | None = None) -> None:
    """Write a map. An existing map in ``directory`` stays whole until the new one is, and then becomes ``keep``, beside
    it; without that it goes with all it holds.

    The same contents give the same files, byte for byte.

    Raises:
        MapFileError: the contents are inconsistent, the directory holds something else than a map, or the disk is
            full or not writable. Nothing has changed then.
    """
    files = _encode(contents)
    with replace_directory(Path(directory), keep) as new:
        for name, data in files.items():
            _write(new / name, data)


def load_map(directory: Path | str) -> MapContents:
    """Read a map, checked against the counts and checksums it was saved with. Tensors are on the CPU.

    Raises:
        MapFileError: names the file that is missing, damaged, of another version or inconsistent.
    """
    directory = Path(os.path.realpath(directory))
    if not directory.is_dir():
        kept = max(_left_by(directory, "previous"), key=os.path.getmtime, default=None)
        if kept is None:
            raise MapFileError(f"there is no map directory {directory}")
        log.warning("%s is missing: a save was interrupted; the map before it is read, from %s", directory, kept)
        directory = kept
    header = _read_header(directory / HEADER)
    data = {name: _read_checked(directory / name, header["files"]) for name in (SCENE, TENSORS, OBJECTS)}
    parse = {SCENE: decode_gaussian_ply, TENSORS: _decode_tensors, OBJECTS: json.loads}
    parsed = {}
    for name, raw in data.items():
        try:
            parsed[name] = parse[name](raw)
        except (ValueError, SafetensorError) as error:
            raise MapFileError(f"{directory / name} cannot be read: {error}") from error
    meta = {key: value for key, value in header.items() if key not in RESERVED_META}
    contents = MapContents(parsed[SCENE], parsed[TENSORS], parsed[OBJECTS], meta)
    try:
        counts = _check(contents)
    except ValueError as error:
        raise MapFileError(f"the map {directory} is inconsistent: {error}") from error
    if counts != header["counts"]:
        raise MapFileError(f"{directory / HEADER} counts {header['counts']}, the files hold {counts}")
    return contents


def resolve_map_name(root: Path | str, name: str) -> Path:
    """The directory of the map called ``name`` inside ``root``; it need not exist.

    Names come from other machines, so they are one path component of letters, digits, ``.``, ``_`` and ``-``.

    Raises:
        MapFileError: another kind of name, or one that leads out of ``root`` through a symbolic link.
    """
    if not MAP_NAME.fullmatch(name):
        raise MapFileError(
            f"{name!r} is no map name: use up to 100 letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    path = Path(root) / name
    if path.resolve().parent != Path(root).resolve():
        raise MapFileError(f"the map {name!r} lies outside {root}")
    return path


def check_replaceable(directory: Path) -> None:
    """Make sure that ``directory`` is new, empty or a map, so that a mistyped path costs nothing.

    Raises:
        MapFileError: it is a file, or holds something else than a map.
    """
    if directory.is_file():
        raise MapFileError(f"{directory} is a file, not the directory of a map")
    if directory.is_dir() and not (directory / HEADER).is_file() and any(directory.iterdir()):
        raise MapFileError(f"{directory} holds files but no map: name an empty or new directory, or remove it")


def check_writable(directory: Path) -> None:
    """Find out before the work whether ``replace_directory`` could take its result.

    Raises:
        MapFileError: as that.
    """
    directory = Path(os.path.realpath(directory))
    try:
        check_replaceable(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent):
            pass
    except OSError as error:
        raise _not_saved(directory, error) from error


@contextmanager
def replace_directory(directory: Path, keep: Path | None = None) -> Iterator[Path]:
    """An empty directory to fill, which takes the place of ``directory`` when the block ends without an error.

    What was there becomes ``keep``, a path beside it, where what is there gives way; None: it is removed.

    Raises:
        MapFileError: see ``check_replaceable``; or what the operating system reports, with the space left.
    """
    directory = Path(os.path.realpath(directory))
    token = uuid.uuid4().hex[:8]
    new = directory.with_name(f".{directory.name}.saving-{token}")
    old = directory.with_name(f".{directory.name}.previous-{token}")
    try:
        check_replaceable(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        yield new
        _sync(new)
        _swap(new, directory, old)
        if keep and old.exists():
            _keep(old, directory.with_name(keep.name))
        _sync(directory.parent)
        for gone in (*_left_by(directory, "previous"), *_left_by(directory, "saving", STALE)):
            shutil.rmtree(gone, ignore_errors=True)
    except OSError as error:
        raise _not_saved(directory, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def undo_half_a_save(directory: Path) -> None:
    """Give a map its name back that it lost to a save which was cut off before the new one had it.

    Raises:
        MapFileError: the operating system does not allow it.
    """
    directory = Path(os.path.realpath(directory))
    left = _left_by(directory, "previous")
    if left and not (directory.exists() and any(directory.iterdir())):
        try:
            max(left, key=lambda path: path.stat().st_mtime).rename(directory)
        except OSError as error:
            raise _not_saved(directory, error) from error


def _left_by(directory: Path, what: str, seconds: float = 0.0) -> list[Path]:
    """What saves of ``directory`` have beside it: "previous" or "saving", not touched for so many ``seconds``."""
    found = []
    for path in directory.parent.glob(f".{glob.escape(directory.name)}.{what}-*"):
        with suppress(OSError):  # another process may tidy up as well
            if path.is_dir() and time.time() - path.stat().st_mtime >= seconds:
                found.append(path)
    return found


def _swap(new: Path, directory: Path, old: Path) -> None:
    # rename(2) replaces only empty directories; between the two calls the old map bears a name that load_map looks for
    if directory.exists():
        directory.rename(old)
    try:
        new.rename(directory)
    except OSError:
        if old.exists():
            old.rename(directory)
        raise


def _keep(old: Path, kept: Path) -> None:
    try:
        if kept.exists():
            shutil.rmtree(kept)
        old.rename(kept)
    except OSError as error:  # the new map is there all the same
        log.warning("%s could not be kept: %s", kept, error)


def _encode(contents: MapContents) -> dict[str, bytes]:
    """The files of a map by name, the header last."""
    try:
        counts = _check(contents)
        files = {
            SCENE: encode_gaussian_ply(contents.scene),
            TENSORS: safetensors.torch.save({name: _storable(tensor) for name, tensor in contents.tensors.items()}),
            OBJECTS: (json.dumps(contents.objects, indent=2, allow_nan=False) + "\n").encode(),
        }
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "package_version": lift_ros.__version__,
            **contents.meta,
            "counts": counts,
            "files": {name: _fingerprint(data) for name, data in files.items()},
        }
        # the end marker tells a whole file from one that lost its tail
        text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, explicit_end=True)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise MapFileError(f"the map cannot be saved: {error}") from error
    return {**files, HEADER: text.encode()}


def _check(contents: MapContents) -> dict[str, int]:
    """Count what a map holds; ValueError where its parts contradict each other."""
    n = check_scene(contents.scene)
    for name, tensor in contents.tensors.items():
        if name.startswith(GAUSSIAN_PREFIX) and (tensor.ndim == 0 or len(tensor) != n):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the scene {n} Gaussians")
    if not isinstance(contents.objects, list) or not all(isinstance(item, dict) for item in contents.objects):
        raise ValueError("objects is not a list of objects")
    ids = [item.get("id") for item in contents.objects]
    if not all(type(i) is int and i > 0 for i in ids) or len(set(ids)) != len(ids):
        raise ValueError('objects do not have unique positive integers under "id"')
    missing = [key for key in REQUIRED_META if key not in contents.meta]
    if missing:
        raise ValueError(f"meta lacks {', '.join(missing)}")
    reserved = [key for key in RESERVED_META if key in contents.meta]
    if reserved:
        raise ValueError(f"meta must not hold {', '.join(reserved)}")
    return {"gaussians": n, "tensors": len(contents.tensors), "objects": len(contents.objects)}


def _storable(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)  # safetensors refuses shared memory


def _decode_tensors(data: bytes) -> dict[str, torch.Tensor]:
    return dict(sorted(safetensors.torch.load(data).items()))  # which come in no particular order


def _fingerprint(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _read_header(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        header = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MapFileError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise MapFileError(f"{path} is not the header of a lift_ros map: it lacks 'format: {FORMAT}'")
    if header.get("format_version") != FORMAT_VERSION:
        raise MapFileError(
            f"{path} has map format version {header.get('format_version')}, written by lift_ros "
            f"{header.get('package_version')}; this is lift_ros {lift_ros.__version__}, which reads {FORMAT_VERSION}"
        )
    missing = [key for key in (*RESERVED_META, *REQUIRED_META) if key not in header]
    if missing or not isinstance(header["files"], dict) or not text.endswith(b"...\n"):
        raise MapFileError(f"{path} is incomplete" + (f": it lacks {', '.join(missing)}" if missing else ""))
    return header


def _read_checked(path: Path, expected: dict[str, Any]) -> bytes:
    if not isinstance(expected.get(path.name), dict):
        raise MapFileError(f"{path.parent / HEADER} is incomplete: it does not list {path.name}")
    data, wanted = _read(path), expected[path.name]
    if len(data) != wanted.get("bytes"):
        raise MapFileError(f"{path} has {len(data)} bytes, {HEADER} says {wanted.get('bytes')}: it was cut or changed")
    if _fingerprint(data) != wanted:
        raise MapFileError(f"{path} does not have the sha256 in {HEADER}: it was damaged or changed since it was saved")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MapFileError(f"{path} is missing: {path.parent} is not a complete map") from None
    except OSError as error:
        raise MapFileError(f"{path} cannot be read: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_saved(directory: Path, error: OSError) -> MapFileError:
    return MapFileError(f"{directory} could not be saved: {error.strerror or error}{_space_left(directory)}")


def _space_left(directory: Path) -> str:
    with suppress(OSError):
        return f" ({shutil.disk_usage(directory.parent).free / 1e6:.1f} MB free there)"
    return ""
