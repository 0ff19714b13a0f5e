"""Play a bag through the mapping node: ``ros2 launch lift_ros replay.launch.py bag:=/path/to/bag``.

Topics and frames are found in the bag; every argument of mapping.launch.py may be given as well and decides then.
depth_topic:=none leaves recorded depth alone.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from lift_ros.data.bag_topics import BagOptions
from lift_ros.ros.replay import replay_parameters

MAPPING = Path(get_package_share_directory("lift_ros")) / "launch" / "mapping.launch.py"
BAG_OPTIONS = ("image_topic", "camera_info_topic", "depth_topic", "pose_topic", "world_frame")


def start(context: LaunchContext) -> list:
    """The node with what the bag says, and the player."""
    given = context.launch_configurations
    bag = Path(given["bag"]).expanduser()
    found = replay_parameters(bag, BagOptions(**{name: given.get(name, "") for name in BAG_OPTIONS}))
    decided = {name: given[name] for name in found if given.get(name) and name not in BAG_OPTIONS}
    arguments = {**found, **decided, "use_sim_time": "true"}
    player = ["--rate", LaunchConfiguration("rate")]
    if given["loop"].lower() in ("true", "1"):
        player.append("--loop")
    return [
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(MAPPING)), launch_arguments=arguments.items()),
        Node(package="lift_ros", executable="play_bag", arguments=[str(bag), *player], output="screen"),
    ]


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
