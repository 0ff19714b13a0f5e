"""Which topics of a bag hold the camera: found by type and encoding where they are not named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lift_ros.data.bag_file import BagFile
from lift_ros.errors import DatasetError
from lift_ros.options import option

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
POSE_TYPES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
)
_DEPTH = re.compile(r"compressedDepth|^16UC1|^32FC1")
_LABELS = re.compile(r"^mono16|^32SC1")
_LABEL_NAME = re.compile(r"label|mask|instance|segment")
_TRANSPORT = re.compile(r"/(compressed|compressedDepth)$")


@dataclass(frozen=True)
class BagOptions:
    """Where a bag holds the camera and its pose. Empty: found by type; a bag with several candidates is an error."""

    image_topic: str = option("", "Colour images, Image or CompressedImage.")
    camera_info_topic: str = option("", "Intrinsics of the colour images.")
    depth_topic: str = option("", "Depth registered to the colour images; 'none' reads no depth.")
    pose_topic: str = option("", "Odometry, PoseStamped or PoseWithCovarianceStamped; empty: /tf where it reaches.")
    pose_frame: str = option(
        "", "Frame whose pose pose_topic gives; empty: child_frame_id of Odometry, else the camera's optical frame."
    )
    camera_frame: str = option("", "Optical frame of the camera; empty: the frame_id of the images.")
    world_frame: str = option("", "Frame of the map; empty: map, odom or world on /tf, else the root of its tree.")
    depth_slop: float = option(
        0.02, "Greatest difference between the stamps of an image and its depth.", unit="s", min=0.0, max=1.0
    )
    camera_mask: str = option("", "Image file, black where the camera sees the robot itself.")


@dataclass(frozen=True)
class BagTopics:
    """The topics that are read, and the frames their first messages are stamped in."""

    image: str
    camera_info: str
    depth: str | None
    labels: tuple[str, ...]
    camera_frame: str
    depth_frame: str


def choose_topics(bag: BagFile, options: BagOptions) -> BagTopics:
    """Decide by the names given, else by types, encodings and frames.

    Raises:
        DatasetError: a topic named is missing or of another type, none fits, or several do: lists the candidates and
            the option that decides.
    """
    firsts = {topic: _first(bag, topic) for topic, kind in bag.types.items() if kind in (*IMAGE_TYPES, INFO_TYPE)}
    firsts = {topic: message for topic, message in firsts.items() if message is not None}
    kinds: dict[str, list[str]] = {"color": [], "depth": [], "labels": []}
    for topic, message in firsts.items():
        if bag.types[topic] in IMAGE_TYPES:
            kinds[_kind(topic, message)].append(topic)
    images = [topic for topics in kinds.values() for topic in topics]

    image = options.image_topic
    if image:
        _require(bag, image, images, "image_topic")
    else:
        image = _only(_one_transport(kinds["color"]), "image_topic", "colour images")
    image_frame = firsts[image].header.frame_id

    infos = [topic for topic in firsts if bag.types[topic] == INFO_TYPE]
    info = options.camera_info_topic
    if info:
        _require(bag, info, infos, "camera_info_topic")
    else:
        sibling = base_topic(image).rsplit("/", 1)[0] + "/camera_info"
        same_frame = [topic for topic in infos if firsts[topic].header.frame_id == image_frame]
        info = sibling if sibling in infos else _only(same_frame or infos, "camera_info_topic", "camera info")

    depth: str | None = options.depth_topic
    if depth == "none":
        depth = None
    elif depth:
        _require(bag, depth, images, "depth_topic")
    else:
        candidates = _one_transport(kinds["depth"])
        registered = [topic for topic in candidates if firsts[topic].header.frame_id == image_frame]
        depth = _only(registered or candidates, "depth_topic", "depth images") if candidates else None

    labels = tuple(sorted(topic for topic in kinds["labels"] if topic not in (image, depth)))
    camera_frame, depth_frame = options.camera_frame or image_frame, firsts[depth].header.frame_id if depth else ""
    return BagTopics(
        image, info, depth, labels, camera_frame, camera_frame if depth_frame == image_frame else depth_frame
    )


def choose_pose_topic(bag: BagFile, options: BagOptions, why: str) -> str:
    """The topic with poses, where /tf does not tell (``why``). Raises DatasetError as ``choose_topics``."""
    candidates = [topic for topic, kind in bag.types.items() if kind in POSE_TYPES and bag.counts[topic]]
    if options.pose_topic:
        _require(bag, options.pose_topic, candidates, "pose_topic")
        return options.pose_topic
    if not candidates:
        raise DatasetError(f"the bag holds no pose of the camera: {why}, and there is no {', '.join(POSE_TYPES)}")
    return _only(candidates, "pose_topic", "poses")


def base_topic(topic: str) -> str:
    """The topic without the suffix of image_transport."""
    return _TRANSPORT.sub("", topic)


def _first(bag: BagFile, topic: str) -> Any | None:
    return next((message for _, _, message in bag.messages([topic])), None)


def _kind(topic: str, message: Any) -> str:
    encoding = message.format if hasattr(message, "format") else message.encoding
    if _LABEL_NAME.search(topic.lower()) or _LABELS.search(encoding):
        return "labels"
    return "depth" if _DEPTH.search(encoding) else "color"


def _one_transport(topics: Iterable[str]) -> list[str]:
    """Of the same images recorded raw and compressed, the raw ones."""
    chosen: dict[str, str] = {}
    for topic in sorted(topics, key=len, reverse=True):
        chosen[base_topic(topic)] = topic
    return sorted(chosen.values())


def _only(candidates: list[str], name: str, what: str) -> str:
    if not candidates:
        raise DatasetError(f"the bag holds no topic with {what}; name one with {name} if it is of an unusual kind")
    if len(candidates) > 1:
        raise DatasetError(f"the bag holds several topics with {what}: {', '.join(candidates)}; choose with {name}")
    return candidates[0]


def _require(bag: BagFile, topic: str, candidates: list[str], name: str) -> None:
    if topic not in candidates:
        found = f"is {bag.types[topic]} with {bag.counts[topic]} messages" if topic in bag.types else "is not recorded"
        raise DatasetError(f"{name} '{topic}' {found}; candidates: {', '.join(sorted(candidates)) or 'none'}")
