"""Parameters of the node for a bag: which topics hold the camera, and where its pose comes from."""

from __future__ import annotations

from pathlib import Path

from lift_ros.data.bag_file import BagFile
from lift_ros.data.bag_topics import BagOptions, choose_pose_topic, choose_topics
from lift_ros.data.rosbag import WORLD_FRAMES, stamp_of
from lift_ros.data.transforms import TransformTree

POSE_SOURCE_OF = {
    "nav_msgs/msg/Odometry": "odometry",
    "geometry_msgs/msg/PoseStamped": "pose",
    "geometry_msgs/msg/PoseWithCovarianceStamped": "pose_with_covariance",
}
TF_MESSAGES = 2000  # enough to have seen every frame


def replay_parameters(path: Path, options: BagOptions) -> dict[str, str]:
    """Values for ``NodeConfig`` found in the bag, as the offline reader finds them; ``options`` decide where they say.

    Raises:
        DatasetError: the bag cannot be read, or does not say clearly which topics to use.
    """
    bag = BagFile(path)
    try:
        topics = choose_topics(bag, options)
        result = {
            "image_topic": topics.image,
            "camera_info_topic": topics.camera_info,
            "depth_topic": topics.depth or "",
        }
        if "image_rect" in topics.image:  # the names image_proc gives
            result["rectified"] = "true"
        ancestors = _tf_of(bag).ancestors(topics.camera_frame)
        if options.pose_topic or len(ancestors) == 1:
            topic = choose_pose_topic(bag, options, f"/tf does not connect '{topics.camera_frame}' to a world frame")
            first = next(message for _, _, message in bag.messages([topic]))
            result["pose_topic"] = topic
            result["pose_source"] = POSE_SOURCE_OF[bag.types[topic]]
            result["world_frame"] = options.world_frame or first.header.frame_id
        else:
            known = next((name for name in WORLD_FRAMES if name in ancestors), ancestors[-1])
            result["world_frame"] = options.world_frame or known
        return result
    finally:
        bag.close()


def _tf_of(bag: BagFile) -> TransformTree:
    tree = TransformTree()
    for count, (topic, _, message) in enumerate(bag.messages(["/tf", "/tf_static"])):
        if count >= TF_MESSAGES:
            break
        for stamped in message.transforms:
            t, q = stamped.transform.translation, stamped.transform.rotation
            tree.add(
                stamp_of(stamped), stamped.header.frame_id, stamped.child_frame_id,
                (t.x, t.y, t.z), (q.x, q.y, q.z, q.w), static=topic == "/tf_static",
            )  # fmt: skip
    return tree
