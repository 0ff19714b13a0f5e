"""Configuration as frozen dataclasses whose fields carry their own documentation.

A field made with ``option`` states default, meaning, unit and range in one place. The ROS parameters, the command line
and the YAML files are all derived from it.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

import yaml

from lift_ros.errors import ConfigError


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    min: float | None = None,
    max: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field with its documentation. ``min`` and ``max`` are inclusive."""
    return field(default=default, metadata={"help": help, "unit": unit, "min": min, "max": max, "choices": choices})


@dataclass(frozen=True)
class Option:
    """One leaf of a configuration tree."""

    name: str  # dotted path, "mapping.image_width"
    type: type
    value: Any
    help: str
    unit: str
    min: float | None
    max: float | None
    choices: tuple[str, ...] | None


def walk(config: Any, prefix: str = "") -> Iterator[Option]:
    """Every leaf of a tree of configuration dataclasses, in the order of declaration."""
    types = typing.get_type_hints(type(config))
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            yield from walk(value, f"{prefix}{entry.name}.")
        else:
            meta = entry.metadata
            yield Option(
                f"{prefix}{entry.name}", types[entry.name], value,
                meta["help"], meta["unit"], meta["min"], meta["max"], meta["choices"],
            )  # fmt: skip


def with_values(config: Any, values: dict[str, Any]) -> Any:
    """A copy of ``config`` with dotted names replaced: ``{"mapping.image_width": 320}``.

    Raises:
        ConfigError: unknown name, wrong type or value out of range; the message lists what is allowed.
    """
    types = typing.get_type_hints(type(config))
    known = {entry.name: entry for entry in fields(config)}
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        if head not in known:
            raise ConfigError(f"unknown parameter '{name}'; known here: {', '.join(known)}")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            own[head] = _checked(known[head], types[head], value)
    for head, inner in nested.items():
        if not is_dataclass(getattr(config, head)):
            raise ConfigError(f"parameter '{head}' is a value, it has no '{', '.join(inner)}'")
        try:
            own[head] = with_values(getattr(config, head), inner)
        except ConfigError as error:
            raise ConfigError(f"in '{head}': {error}") from None
    return dataclasses.replace(config, **own)


class _Loader(yaml.SafeLoader):
    """Takes 1e-3 for a number, as rclpy does. To YAML 1.1 it is text, for want of a point and a sign."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """What a YAML document holds, as rclpy reads it. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def assignments(option: str, entries: list[str]) -> dict[str, object]:
    """What ``option`` of a command line says, given as NAME=VALUE any number of times; values as in YAML.

    Raises:
        ConfigError: an entry is no assignment.
    """
    values: dict[str, object] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"{option} {entry}: write NAME=VALUE")
        try:
            values[name] = read_yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{option} {entry}: {error}") from None
    return values


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries (a YAML file) as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _checked(entry: Field, kind: type, value: Any) -> Any:
    if is_dataclass(kind):
        raise ConfigError(f"'{entry.name}' is a group of parameters, not a value")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"'{entry.name}' must be of type {kind.__name__}, got {value!r}")
    meta = entry.metadata
    low, high, choices = meta["min"], meta["max"], meta["choices"]
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"'{entry.name}' must be finite, got {value!r}")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"in [{low}, {high}]"
        raise ConfigError(f"'{entry.name}' must be {bounds}{' ' + meta['unit'] if meta['unit'] else ''}, got {value}")
    if choices and value not in choices:
        raise ConfigError(f"'{entry.name}' must be one of {', '.join(choices)}; got '{value}'")
    return value
