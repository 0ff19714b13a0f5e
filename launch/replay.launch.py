"""Play a bag through the mapping node: ``ros2 launch lift_ros replay.launch.py bag:=/path/to/bag``.

Topics, the world frame and the source of poses are found in the bag, whatever a ``config`` file says of them: it may be
a robot's. Every argument of mapping.launch.py may be given as well and decides then.
depth_topic:=none leaves recorded depth alone. Of the bag, only what a mapping node may need is played.
"""

import json
import subprocess
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

MAPPING = Path(get_package_share_directory("lift_ros")) / "launch" / "mapping.launch.py"
COMMAND = Path(get_package_prefix("lift_ros")) / "lib" / "lift_ros" / "bag_parameters"
READY = 900  # s that the node may take to listen
BAG_OPTIONS = (
    *("image_topic", "camera_info_topic", "depth_topic"),
    *("pose_topic", "pose_frame", "world_frame", "camera_frame"),
)


def start(context: LaunchContext) -> list:
    """The node with what the bag says, and the player."""
    given = context.launch_configurations
    bag, loop = Path(given["bag"]).expanduser(), given["loop"].lower()
    if loop not in ("true", "1", "false", "0"):
        raise ValueError(f"loop:={loop} is neither true nor false")
    found = bag_parameters(bag, {name: given[name] for name in BAG_OPTIONS if given.get(name)})
    decided = {name: given[name] for name in found if given.get(name) and name not in BAG_OPTIONS}
    # a bag without depth is one, whatever a parameter file says
    arguments = {
        **found,
        "depth_topic": found["depth_topic"] or "none",
        **decided,
        "use_sim_time": "true",
        "required": "true",
    }
    # nothing of a bag is lost to a node that loads a model first, or has kernels compiled
    player = ["--rate", LaunchConfiguration("rate"), "--wait", str(READY), "--wait-for", found["image_topic"]]
    if loop in ("true", "1"):
        player.append("--loop")
    if "pose_topic" in found:
        player += ["--topics", found["pose_topic"]]
    return [
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(MAPPING)), launch_arguments=arguments.items()),
        Node(package="lift_ros", executable="play_bag", arguments=[str(bag), *player], output="screen"),
    ]


def bag_parameters(bag: Path, options: dict[str, str]) -> dict[str, str]:
    """What the bag says of the node's parameters. A command, because launch may run in a Python without the package's
    requirements, where the command remembers the one that has them.
    """
    command = [str(COMMAND), str(bag), *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def generate_launch_description() -> LaunchDescription:
    """Arguments, then what depends on the bag."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 directory, .mcap or .db3 file"),
            DeclareLaunchArgument("rate", default_value="1.0", description="speed of the replay"),
            DeclareLaunchArgument("loop", default_value="false", description="start over at the end"),
            OpaqueFunction(function=start),
        ]
    )
