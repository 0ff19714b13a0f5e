"""ROS parameters from configuration dataclasses: one place for name, default, meaning, unit and range."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from lift_ros.errors import ConfigError
from lift_ros.options import Option, walk, with_values

Config = TypeVar("Config")

_INT64_MAX = 2**63 - 1


def descriptor(option: Option) -> ParameterDescriptor:
    """The ROS description of one option."""
    description = option.help + (f" [{option.unit}]" if option.unit else "")
    result = ParameterDescriptor(name=option.name, description=description)
    if option.choices:
        result.additional_constraints = f"one of: {', '.join(option.choices)}"
    if option.min is None and option.max is None:
        return result
    if option.type is int:
        low, high = option.min, option.max
        result.integer_range = [
            IntegerRange(
                from_value=-_INT64_MAX if low is None else int(low), to_value=_INT64_MAX if high is None else int(high)
            )
        ]
    else:
        largest = sys.float_info.max
        result.floating_point_range = [
            FloatingPointRange(
                from_value=-largest if option.min is None else float(option.min),
                to_value=largest if option.max is None else float(option.max),
            )
        ]
    return result


def declare(node: Node, *configs: Any) -> None:
    """Declare every option of ``configs`` on ``node``, which was made with its overrides declared automatically.

    Raises:
        ConfigError: a parameter was set that no configuration knows, or to a value out of range or of another type.
    """
    values = given(node)
    known = {option.name for config in configs for option in walk(config)}
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown parameter '{name}'; known: {', '.join(sorted(known))}")
        node.undeclare_parameter(name)
    for config in configs:
        own = {option.name: values[option.name] for option in walk(config) if option.name in values}
        # range, type and choices are checked here, where the message names what is allowed
        for option in walk(with_values(config, own)):
            node.declare_parameter(option.name, option.value, descriptor(option), ignore_override=True)


def given(node: Node) -> dict[str, Any]:
    """Parameters set from outside, without those that rclpy declares itself."""
    prefixes = ("use_sim_time", "qos_overrides.", "start_type_description_service")
    return {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix("").items()
        if not name.startswith(prefixes)
    }


def check(changed: Sequence[Parameter], *configs: Any) -> list[str]:
    """The names of those among ``changed`` that are options of ``configs``.

    Raises:
        ConfigError: one is set to a value out of range or of another type.
    """
    found = []
    for config in configs:
        names = {option.name for option in walk(config)}
        own = {parameter.name: parameter.value for parameter in changed if parameter.name in names}
        with_values(config, own)
        found += own
    return found


def read(node: Node, config: Config) -> Config:
    """``config`` with the values of the node's parameters."""
    return with_values(config, {option.name: node.get_parameter(option.name).value for option in walk(config)})
