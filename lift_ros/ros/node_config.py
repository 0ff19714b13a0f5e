"""Parameters of the node that are not the mapper's: topics, frames, rates. See ``lift_ros.config`` for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from lift_ros.options import option

POSE_SOURCES = ("tf", "odometry", "pose", "pose_with_covariance")


@dataclass(frozen=True)
class NodeConfig:
    """One field a ROS parameter of the same name."""

    image_topic: str = option(
        "image", "Colour images: sensor_msgs/Image, or CompressedImage where the name ends in '/compressed'."
    )
    camera_info_topic: str = option("camera_info", "Intrinsics and distortion of the colour images.")
    depth_topic: str = option(
        "",
        "Depth registered to the colour images: sensor_msgs/Image (16UC1 mm or 32FC1 m), or CompressedImage where "
        "the name ends in '/compressedDepth'. Empty: no depth.",
    )
    masks_topic: str = option(
        "",
        "Label images (mono8, mono16, 16UC1 or 32SC1, 0 = no mask) with the stamps of the colour images, for the "
        "segmenter 'topic'; CompressedImage (png) where the name ends in '/compressed'.",
    )
    rectified: bool = option(
        False, "The images are rectified already (image_rect topics): camera_info's P applies and no distortion."
    )
    camera_mask: str = option(
        "",
        "Image file, black where the camera sees the robot itself: nothing is mapped or labelled there. It is of the "
        "images as they arrive, at any scale.",
    )
    pose_source: str = option(
        "tf", "Where the pose of the camera comes from: tf, or messages on pose_topic.", choices=POSE_SOURCES
    )
    pose_topic: str = option(
        "pose",
        "nav_msgs/Odometry (pose_source odometry), geometry_msgs/PoseStamped (pose) or PoseWithCovarianceStamped "
        "(pose_with_covariance).",
    )
    pose_frame: str = option(
        "",
        "Frame whose pose the messages on pose_topic give. Empty: the odometry's child_frame_id, and for PoseStamped "
        "the camera's optical frame.",
    )
    world_frame: str = option("map", "Frame of the map; it must be fixed in the world.")
    camera_frame: str = option("", "Optical frame of the camera. Empty: the frame_id of the images.")
    pose_timeout: float = option(
        0.5,
        "Longest wait for the pose and the depth of an image, from its arrival, and of a query for the transform of "
        "its frame.",
        unit="s",
        min=0.0,
        max=10.0,
    )
    masks_timeout: float = option(
        5.0,
        "Longest wait of an image for its masks on masks_topic, from its arrival: more than the segmenter takes. It "
        "does not wait once masks of a later image have arrived.",
        unit="s",
        min=0.0,
        max=60.0,
    )
    depth_slop: float = option(
        0.02, "Greatest difference between the stamps of an image and its depth.", unit="s", min=0.0, max=1.0
    )
    max_depth: float = option(10.0, "Depth beyond this is not used.", unit="m", min=0.1, max=1000.0)
    frame_queue: int = option(
        30, "Images that may wait for their pose; beyond, the oldest is dropped.", unit="images", min=1, max=1000
    )
    mapper_queue: int = option(
        2, "Frames that may wait for the mapper; beyond, the oldest is dropped.", unit="frames", min=1, max=100
    )
    training_duty: float = option(
        1.0,
        "Share of the time that the mapper may work: look for keyframes, train, find objects. The rest is left to "
        "labels and other programs; training that mapping.max_backlog then has no room for is skipped.",
        min=0.01,
        max=1.0,
    )
    segmenter_duty: float = option(
        1.0,
        "Share of the time that the segmenter may take; until it is due again, frames become no keyframes. Masks of "
        "another node (segmenter topic) take none.",
        min=0.01,
        max=1.0,
    )
    max_memory: int = option(
        0, "Memory of the process beyond which no more keyframes are taken; 0: no limit.", unit="MiB", min=0
    )
    label_rate: float = option(
        15.0, "Label images published a second, at most; 0: as many as images arrive.", unit="Hz", min=0.0, max=1000.0
    )
    label_min_share: float = option(0.3, "Share of a pixel that an object must have to label it.", min=0.0, max=1.0)
    map_period: float = option(
        1.0,
        "Time between publications of objects, clouds and markers, at least, once there are objects.",
        unit="s",
        min=0.1,
        max=3600.0,
    )
    scene_cloud_points: int = option(
        100_000, "Points of the scene cloud, at most; 0: do not publish it.", min=0, max=10_000_000
    )
    map_directory: str = option("~/.ros/lift_ros", "Directory inside which maps are saved and loaded.")
    load_map: str = option("", "Name of a map inside map_directory to start from. Empty: start with an empty map.")
    autosave: str = option(
        "",
        "Name inside map_directory that the map is saved under every 5 minutes, and when the node is deactivated or "
        "ends. With load_map the same, each start goes on with it, and the first with an empty map. Empty: not saved.",
    )
    autostart: bool = option(True, "Configure and activate once the process starts. False: a lifecycle manager does.")
