"""Every parameter with its default and its documentation, as a ROS parameter file.

``python -m lift_ros.ros.parameter_file > config/mapping.yaml`` after a change of the configuration.
"""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from lift_ros.config import Config
from lift_ros.options import Option, walk
from lift_ros.ros.node_config import NodeConfig

WIDTH = 118
HEADER = """\
# Every parameter of the node with its default value. Copy it, keep what you change, and start with
#   ros2 launch lift_ros mapping.launch.py config:=/path/to/your.yaml
# Written by python -m lift_ros.ros.parameter_file from lift_ros/config.py and lift_ros/ros/node_config.py.

/**:
  ros__parameters:
"""


def parameter_file(*configs: Any) -> str:
    """The text of the file; groups of parameters become nested mappings."""
    lines: list[str] = []
    group: list[str] = []
    for option in (option for config in configs for option in walk(config)):
        *path, name = option.name.split(".")
        shared = 0
        while shared < min(len(path), len(group)) and path[shared] == group[shared]:
            shared += 1
        for depth in range(shared, len(path)):
            lines += ["", f"{_indent(depth)}{path[depth]}:"]
        group = path
        indent = _indent(len(path))
        comment = textwrap.wrap(_documentation(option), WIDTH - len(indent) - 2)
        lines += [f"{indent}# {line}" for line in comment]
        lines.append(f"{indent}{name}: {_scalar(option.value)}")
    return HEADER + "\n".join(lines) + "\n"


def _indent(depth: int) -> str:
    return "  " * (depth + 2)


def _documentation(option: Option) -> str:
    low, high = ("" if bound is None else str(bound).removesuffix(".0") for bound in (option.min, option.max))
    bounds = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}" if high else ""
    extra = ", ".join(part for part in (option.unit, bounds, " | ".join(option.choices or ())) if part)
    return f"{option.help} [{extra}]" if extra else option.help


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        text = repr(value)
        # YAML reads 1e-06 as text
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).splitlines()[0]


if __name__ == "__main__":
    print(parameter_file(NodeConfig(), Config()), end="")
