"""Start the mapping node. ``ros2 launch lift_ros mapping.launch.py --show-args`` lists the arguments."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("lift_ros"))
DEFAULTS = SHARE / "config" / "mapping.yaml"
PRESETS = sorted(path.stem for path in (SHARE / "config" / "presets").glob("*.yaml"))
RVIZ = SHARE / "rviz" / "lift.rviz"

# argument -> (parameter it sets, description); empty leaves what the parameter files say
OVERRIDES = {
    "image_topic": ("image_topic", "colour images; .../compressed for CompressedImage"),
    "camera_info_topic": ("camera_info_topic", "intrinsics of the colour images"),
    "depth_topic": ("depth_topic", "registered depth; .../compressedDepth for CompressedImage; 'none': no depth"),
    "masks_topic": ("masks_topic", "label images, for segmenter:=topic"),
    "pose_source": ("pose_source", "tf, odometry, pose or pose_with_covariance"),
    "pose_topic": ("pose_topic", "Odometry, PoseStamped or PoseWithCovarianceStamped, unless the pose comes from TF"),
    "pose_frame": ("pose_frame", "frame whose pose pose_topic gives, if its messages do not say"),
    "world_frame": ("world_frame", "frame of the map"),
    "camera_frame": ("camera_frame", "optical frame of the camera, if the images do not say"),
    "segmenter": ("masks.segmenter", "where the masks come from: a SAM, graph (no learned model) or topic"),
    "checkpoint": ("masks.checkpoint", "weights of a SAM"),
    "map_directory": ("map_directory", "where maps are saved and loaded"),
    "load_map": ("load_map", "name of a map in map_directory to start from"),
    "autosave": ("autosave", "name of the map that is saved in map_directory every 5 minutes and at the end"),
    "rectified": ("rectified", "true: the images are rectified already (image_rect topics)"),
    "autostart": ("autostart", "false: a lifecycle manager configures and activates the node"),
    "use_sim_time": ("use_sim_time", "true: time from /clock"),
}
ENOUGH = "30"  # s, for a node that ends to be done with a keyframe and save its map
FLAGS = {"autostart", "rectified", "use_sim_time"}
TRUTH = {"true": True, "1": True, "false": False, "0": False}


def start(context: LaunchContext) -> list:
    """The node, with the parameters of the preset first, then those of the user's file, and of arguments last."""
    preset = LaunchConfiguration("preset").perform(context)
    config = LaunchConfiguration("config").perform(context)
    parameters: list = [str(DEFAULTS)]
    if preset:
        parameters.append(str(SHARE / "config" / "presets" / f"{preset}.yaml"))
    if config:
        if not Path(config).expanduser().is_file():  # launch_ros would warn and start the node without it
            raise FileNotFoundError(f"there is no parameter file {config}")
        config = str(Path(config).expanduser())
        parameters.append(config)
    overrides = {parameter: LaunchConfiguration(name).perform(context) for name, (parameter, _) in OVERRIDES.items()}
    overrides = {parameter: value for parameter, value in overrides.items() if value}
    for name in FLAGS & set(overrides):
        overrides[name] = flag(name, overrides[name])
    if overrides.get("depth_topic") == "none":
        overrides["depth_topic"] = ""
    if overrides:
        parameters.append(overrides)
    nodes = [
        Node(
            package="lift_ros", executable="mapping_node", name="lift_ros",
            namespace=LaunchConfiguration("namespace"), parameters=parameters, remappings=transforms(context),
            output="screen", on_exit=ending(context),
            sigterm_timeout=ENOUGH, sigkill_timeout=ENOUGH,
        )
    ]  # fmt: skip
    if flag("rviz", LaunchConfiguration("rviz").perform(context) or "false"):
        try:
            get_package_prefix("rviz2")
        except PackageNotFoundError:  # launch would only say so after the node has begun
            raise RuntimeError(
                "rviz:=true, but rviz2 is not installed here: install it (apt install ros-$ROS_DISTRO-rviz2), or leave "
                "rviz out and run it on another computer"
            ) from None
        nodes.append(rviz(context, said(config, context) | overrides))
    return nodes


def transforms(context: LaunchContext) -> list[tuple[str, str]]:
    """Remappings to TF in the namespace of the node, where ``namespaced_tf`` says so."""
    if not flag("namespaced_tf", LaunchConfiguration("namespaced_tf").perform(context)):
        return []
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    return [(topic, f"/{namespace}{topic}" if namespace else topic) for topic in ("/tf", "/tf_static")]


def ending(context: LaunchContext) -> list[Shutdown] | None:
    """What happens when the node ends: nothing, or the end of all, where ``required`` says so."""
    required = flag("required", LaunchConfiguration("required").perform(context))
    return [Shutdown(reason="the mapping node ended")] if required else None


def flag(name: str, value: str) -> bool:
    """Whether an argument says true. Raises ValueError: it says neither true nor false."""
    if value.lower() not in TRUTH:
        raise ValueError(f"{name}:={value} is neither true nor false")
    return TRUTH[value.lower()]


def said(config: str, context: LaunchContext) -> dict:
    """The parameters that the user's file gives the node, if there is one."""
    if not config:
        return {}
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    nodes = list(of_nodes(yaml.safe_load(Path(config).read_text()), ""))
    parameters: dict = {}
    for wanted in ("/**", f"/{namespace}/lift_ros" if namespace else "/lift_ros"):
        for _, given in (node for node in nodes if node[0] == wanted):
            parameters |= given
    return parameters


def of_nodes(tree: object, name: str) -> Iterator[tuple[str, dict]]:
    """Names of nodes in a parameter file, which may be nested by namespace, and the parameters of each."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == "ros__parameters" and isinstance(value, dict):
            yield name, value
        else:
            yield from of_nodes(value, f"{name}/{str(key).strip('/')}")


def rviz(context: LaunchContext, parameters: dict) -> Node:
    """RViz with the topics of the node in its namespace, and the frame of the map if ``parameters`` tell it."""
    frame = parameters.get("world_frame")
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    topics = sorted(set(re.findall(r"/lift_ros/\w+", RVIZ.read_text()))) if namespace else []
    return Node(
        package="rviz2", executable="rviz2",
        arguments=["-d", str(RVIZ), *(["-f", frame] if frame else [])],
        remappings=[*((topic, f"/{namespace}{topic}") for topic in topics), *transforms(context)],
        parameters=[{"use_sim_time": parameters.get("use_sim_time", False)}],
    )  # fmt: skip


def generate_launch_description() -> LaunchDescription:
    """Arguments and node."""
    arguments = [
        DeclareLaunchArgument(name, default_value="", description=text) for name, (_, text) in OVERRIDES.items()
    ]
    return LaunchDescription(
        [
            *arguments,
            DeclareLaunchArgument(
                "preset", default_value="", choices=["", *PRESETS], description="parameters for a kind of computer"
            ),
            DeclareLaunchArgument(
                "config", default_value="", description="file with your parameters; they come after the preset's"
            ),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
            DeclareLaunchArgument(
                "namespaced_tf", default_value="false", description="true: transforms come on /NAMESPACE/tf, not on /tf"
            ),
            DeclareLaunchArgument(
                "required", default_value="false", description="true: the launch ends when the node does"
            ),
            DeclareLaunchArgument("rviz", default_value="false", description="start rviz2 as well"),
            OpaqueFunction(function=start),
        ]
    )
