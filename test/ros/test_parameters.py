"""Parameters of the node, and the files that hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
import rclpy
import yaml
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros.rig import Rig

from lift_ros.config import Config
from lift_ros.errors import ConfigError
from lift_ros.options import flatten, walk, with_values
from lift_ros.ros import parameters
from lift_ros.ros.mapping_node import MappingNode
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.parameter_file import parameter_file

CONFIG = Path(__file__).parents[2] / "config"
PRESETS = sorted((CONFIG / "presets").glob("*.yaml"))


@pytest.fixture
def make_node():
    nodes = []

    def make(**overrides):
        nodes.append(MappingNode(parameter_overrides=[Parameter(n, value=v) for n, v in overrides.items()]))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def values_of(text: str) -> dict:
    return flatten(yaml.safe_load(text)["/**"]["ros__parameters"])


def test_every_option_is_a_parameter_with_its_description_and_range(make_node):
    node = make_node()
    for config in (NodeConfig(), Config()):
        for option in walk(config):
            described = node.describe_parameter(option.name)
            assert node.get_parameter(option.name).value == option.value
            assert described.description.startswith(option.help) and option.unit in described.description
            assert not described.read_only
            bounds = described.floating_point_range or described.integer_range
            assert bool(bounds) == (option.min is not None or option.max is not None), option.name
            if option.min is not None:
                assert bounds[0].from_value == option.min
            if option.max is not None:
                assert bounds[0].to_value == option.max


def test_values_given_reach_the_configuration(make_node):
    node = make_node(
        **{"world_frame": "odom", "scene.max_gaussians": 1234, "pose_timeout": 1, "masks.segmenter": "topic"}
    )
    config, core = parameters.read(node, NodeConfig()), parameters.read(node, Config())
    assert config.world_frame == "odom" and config.pose_timeout == 1.0
    assert core.scene.max_gaussians == 1234 and core.masks.segmenter == "topic"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("scene.max_gausians", 5, "unknown parameter 'scene.max_gausians'"),
        ("depth_slop", -1.0, "depth_slop"),
        ("frame_queue", "many", "frame_queue"),
        ("pose_source", "gps", "tf, odometry, pose, pose_with_covariance"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(name, value, complaint):
    with pytest.raises(ConfigError, match=complaint):
        MappingNode(parameter_overrides=[Parameter(name, value=value)])


def test_the_parameter_file_is_complete_and_up_to_date():
    text = (CONFIG / "mapping.yaml").read_text()
    assert text == parameter_file(NodeConfig(), Config()), (
        "run python -m lift_ros.ros.parameter_file > config/mapping.yaml"
    )
    values = values_of(text)
    options = [*walk(NodeConfig()), *walk(Config())]
    assert set(values) == {option.name for option in options}
    for option in options:
        assert values[option.name] == option.value and type(values[option.name]) is type(option.value), option.name


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid_and_change_something(preset):
    names = {option.name for option in walk(NodeConfig())}
    values = values_of(preset.read_text())
    own = {name: value for name, value in values.items() if name in names}
    core = {name: value for name, value in values.items() if name not in names}
    assert with_values(Config(), core) != Config()
    with_values(NodeConfig(), own)


def test_the_node_reads_a_parameter_file(tmp_path):
    context = rclpy.Context()
    rclpy.init(context=context, args=["--ros-args", "--params-file", str(CONFIG / "mapping.yaml")])
    try:
        node = MappingNode(context=context)
        assert parameters.read(node, Config()) == Config()
        node.destroy_node()
    finally:
        context.try_shutdown()


def test_a_lifecycle_manager_can_drive_the_node():
    rig = Rig(activate=False)

    def change(transition):
        return rig.call(ChangeState, "change_state", transition=Transition(id=transition)).success

    def state():
        return rig.call(GetState, "get_state").current_state.id

    try:
        assert state() == State.PRIMARY_STATE_UNCONFIGURED
        assert change(Transition.TRANSITION_CONFIGURE) and state() == State.PRIMARY_STATE_INACTIVE
        rig.wait_until(lambda: rig.received["status"] and rig.images.get_subscription_count(), "a configured node")
        rig.send(0)
        assert change(Transition.TRANSITION_ACTIVATE) and state() == State.PRIMARY_STATE_ACTIVE
        rig.map_the_wall(start=2000.0)
        known = {o.id for o in rig.objects}
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert change(Transition.TRANSITION_ACTIVATE)
        frames = rig.status.frames
        rig.send(13, 2000.0)
        rig.wait_for_frames(frames + 1)
        assert {o.id for o in rig.objects} >= known
        assert change(Transition.TRANSITION_DEACTIVATE) and change(Transition.TRANSITION_CLEANUP)
        assert state() == State.PRIMARY_STATE_UNCONFIGURED
        assert change(Transition.TRANSITION_CONFIGURE) and change(Transition.TRANSITION_ACTIVATE)
    finally:
        rig.close()


def test_parameters_are_set_while_the_node_is_not_configured():
    rig = Rig(activate=False)

    def set_to(**values):
        wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return rig.call(SetParameters, "set_parameters", parameters=wanted).results

    def change(transition):
        assert rig.call(ChangeState, "change_state", transition=Transition(id=transition)).success

    def rate():
        return parameters.read(rig.mapping, NodeConfig()).label_rate

    try:
        assert [result.successful for result in set_to(label_rate=2.0)] == [True] and rate() == 2.0
        for values, complaint in ({"label_rate": -1.0}, "label_rate"), ({"pose_source": "gps"}, "pose_with_covariance"):
            assert not (refused := set_to(**values)[0]).successful and complaint in refused.reason
        change(Transition.TRANSITION_CONFIGURE)
        refused = set_to(label_rate=3.0)[0]
        assert not refused.successful and "label_rate: read when the node is configured" in refused.reason
        assert set_to(use_sim_time=False)[0].successful  # not the node's own
        change(Transition.TRANSITION_CLEANUP)
        assert set_to(label_rate=3.0)[0].successful and rate() == 3.0
        change(Transition.TRANSITION_CONFIGURE)
    finally:
        rig.close()
