"""What the launch files name is there, also where no launch system is installed to run them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lift_ros.config import Config
from lift_ros.data.bag_topics import BagOptions
from lift_ros.options import walk
from lift_ros.ros.node_config import NodeConfig

LAUNCH = Path(__file__).parents[1] / "launch"


def constant(file: str, name: str) -> ast.expr:
    """What a launch file assigns to ``name``, read and not run: launch need not be installed."""
    for statement in ast.parse((LAUNCH / file).read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return statement.value
    raise AssertionError(f"{file} has no {name}")


@pytest.fixture
def parameters() -> dict[str, type]:
    """Those of the node, and the one that every node has."""
    own = {option.name: option.type for config in (NodeConfig(), Config()) for option in walk(config)}
    return own | {"use_sim_time": bool}


def test_arguments_set_parameters_that_the_node_has(parameters):
    overrides = ast.literal_eval(constant("mapping.launch.py", "OVERRIDES"))
    assert "image_topic" in overrides
    for argument, (parameter, description) in overrides.items():
        assert parameter in parameters, argument
        assert description


def test_arguments_that_are_true_or_false_are_those_of_parameters_that_are(parameters):
    """Every other argument reaches the node as text."""
    overrides = ast.literal_eval(constant("mapping.launch.py", "OVERRIDES"))
    kinds = {parameter: parameters.get(parameter) for parameter, _ in overrides.values()}
    flags = ast.literal_eval(constant("mapping.launch.py", "FLAGS"))
    assert flags == {parameter for parameter, kind in kinds.items() if kind is bool}
    assert {kind for parameter, kind in kinds.items() if parameter not in flags} == {str}
    assert all(overrides[flag][0] == flag for flag in flags)  # they are looked up by either name


def test_what_a_replay_asks_a_bag_for_are_options_of_bags_and_arguments_of_the_node():
    names = [ast.literal_eval(each.value) for each in constant("replay.launch.py", "BAG_OPTIONS").elts]
    names = {name for group in names for name in group}
    assert "image_topic" in names
    assert names <= {option.name for option in walk(BagOptions())}
    assert names <= set(ast.literal_eval(constant("mapping.launch.py", "OVERRIDES")))
