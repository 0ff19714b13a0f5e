"""Parameters of the node for a bag: which topics hold the camera, and where its pose comes from."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lift_ros.data.bag_file import BagFile
from lift_ros.data.bag_topics import BagOptions, choose_topics
from lift_ros.data.rosbag import choose_pose_source, read_tf
from lift_ros.errors import LiftError
from lift_ros.options import walk

POSE_SOURCE_OF = {
    "nav_msgs/msg/Odometry": "odometry",
    "geometry_msgs/msg/PoseStamped": "pose",
    "geometry_msgs/msg/PoseWithCovarianceStamped": "pose_with_covariance",
}


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
            "pose_source": "tf",
        }
        if "image_rect" in topics.image:  # the names image_proc gives
            result["rectified"] = "true"
        topic, world = choose_pose_source(bag, options, read_tf(bag), topics.camera_frame)
        if topic:
            result |= {"pose_topic": topic, "pose_source": POSE_SOURCE_OF[bag.types[topic]]}
            if options.pose_frame:
                result["pose_frame"] = options.pose_frame
        # the node can follow TF from the frame of a topic's poses to another
        return result | {"world_frame": options.world_frame.lstrip("/") or world}
    finally:
        bag.close()


def main() -> int:
    """Command line of ``ros2 run lift_ros bag_parameters``: the values as JSON."""
    parser = argparse.ArgumentParser(prog="bag_parameters", description=__doc__)
    parser.add_argument("bag", type=Path, help="rosbag2 directory, .mcap or .db3 file")
    for option in walk(BagOptions()):
        parser.add_argument(f"--{option.name}", type=option.type, default=option.value, help=option.help)
    arguments = vars(parser.parse_args())
    try:
        print(json.dumps(replay_parameters(arguments.pop("bag"), BagOptions(**arguments))))
    except LiftError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
