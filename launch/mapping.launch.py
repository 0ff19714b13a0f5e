"""Start the mapping node. ``ros2 launch lift_ros mapping.launch.py --show-args`` lists the arguments."""

from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("lift_ros"))
PRESETS = sorted(path.stem for path in (SHARE / "config" / "presets").glob("*.yaml"))

# argument -> (parameter it sets, description); empty leaves what the parameter files say
OVERRIDES = {
    "image_topic": ("image_topic", "colour images; .../compressed for CompressedImage"),
    "camera_info_topic": ("camera_info_topic", "intrinsics of the colour images"),
    "depth_topic": ("depth_topic", "registered depth; .../compressedDepth for CompressedImage"),
    "masks_topic": ("masks_topic", "label images, for segmenter:=topic"),
    "pose_source": ("pose_source", "tf, odometry, pose or pose_with_covariance"),
    "pose_topic": ("pose_topic", "Odometry or PoseStamped, unless the pose comes from TF"),
    "world_frame": ("world_frame", "frame of the map"),
    "camera_frame": ("camera_frame", "optical frame of the camera, if the images do not say"),
    "segmenter": ("masks.segmenter", "where the masks come from: a SAM, graph (no learned model) or topic"),
    "checkpoint": ("masks.checkpoint", "weights of a SAM"),
    "map_directory": ("map_directory", "where maps are saved and loaded"),
    "load_map": ("load_map", "name of a map in map_directory to start from"),
    "rectified": ("rectified", "true: the images are rectified already (image_rect topics)"),
    "autostart": ("autostart", "false: a lifecycle manager configures and activates the node"),
}


def start(context: LaunchContext) -> list:
    """The node, with the parameters of files first and of arguments last."""
    preset = LaunchConfiguration("preset").perform(context)
    config = Path(LaunchConfiguration("config").perform(context)).expanduser()
    if not config.is_file():  # launch_ros would warn and start the node without it
        raise FileNotFoundError(f"there is no parameter file {config}")
    parameters = [str(config)]
    if preset:
        parameters.append(str(SHARE / "config" / "presets" / f"{preset}.yaml"))
    overrides = {parameter: LaunchConfiguration(name).perform(context) for name, (parameter, _) in OVERRIDES.items()}
    overrides = {parameter: value for parameter, value in overrides.items() if value}
    for name in {"autostart", "rectified"} & set(overrides):
        overrides[name] = overrides[name].lower() in ("true", "1")
    use_sim_time = LaunchConfiguration("use_sim_time").perform(context).lower() in ("true", "1")
    parameters.append({**overrides, "use_sim_time": use_sim_time})
    nodes = [
        Node(
            package="lift_ros", executable="mapping_node", name="lift_ros",
            namespace=LaunchConfiguration("namespace"), parameters=parameters, output="screen",
        )
    ]  # fmt: skip
    if LaunchConfiguration("rviz").perform(context).lower() in ("true", "1"):
        try:
            get_package_prefix("rviz2")
        except PackageNotFoundError:  # launch would only say so after the node has begun
            raise RuntimeError(
                "rviz:=true, but rviz2 is not installed here: install it (apt install ros-$ROS_DISTRO-rviz2), or leave "
                "rviz out and run it on another computer"
            ) from None
        nodes.append(Node(package="rviz2", executable="rviz2", arguments=["-d", str(SHARE / "rviz" / "lift.rviz")]))
    return nodes


def generate_launch_description() -> LaunchDescription:
    """Arguments and node."""
    arguments = [
        DeclareLaunchArgument(name, default_value="", description=text) for name, (_, text) in OVERRIDES.items()
    ]
    return LaunchDescription(
        [
            *arguments,
            DeclareLaunchArgument(
                "config", default_value=str(SHARE / "config" / "mapping.yaml"), description="parameters"
            ),
            DeclareLaunchArgument(
                "preset", default_value="", choices=["", *PRESETS], description="parameters for a kind of computer"
            ),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="time from /clock"),
            DeclareLaunchArgument("rviz", default_value="false", description="start rviz2 as well"),
            OpaqueFunction(function=start),
        ]
    )
