"""Lifting methods in a running node, and what it says of how sure they are."""

from __future__ import annotations

import math
import time
from contextlib import closing

import numpy as np
import pytest
from ros import wall
from ros.rig import PERIOD, Rig, image_message, pixels
from sensor_msgs.msg import Image

from lift_ros.lifting.methods import METHODS

WALL = np.uint16(9)
ELSEWHERE = ("lift", "omniseg3d")  # in test_mapping_node.py and test_select_similar.py
QUICK = {"mapping.image_width": 80, "mapping.photometric_steps": 1, "mapping.lifting_steps": 12}


def send(rig: Rig, index: int, masks: np.ndarray) -> None:
    rig.send(index, masks=image_message(rig.header(index), "mono16", np.where(masks == 0, WALL, masks)))
    time.sleep(PERIOD / 2)


def of_frame(rig: Rig, index: int, images: list[Image]) -> Image:
    """Of some images that of a frame, once it comes."""
    stamp = rig.header(index).stamp
    return rig.wait_until(lambda: [m for m in images if m.header.stamp == stamp], f"an image of frame {index}")[0]


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ELSEWHERE])
def test_objects_and_labels_come_from_every_method(method):
    options = {"lifting.method": method, "lifting.hdbscan.samples": 400}
    with closing(Rig(**QUICK, **options, **{"objects.min_confidence": 0.0})) as rig:  # few steps do not get far
        for index in range(6):
            send(rig, index, wall.labels(index))
        rig.wait_until(lambda: rig.objects, "objects")
        send(rig, 6, wall.labels(6))
        shown = set(np.unique(pixels(of_frame(rig, 6, rig.received["labels"]))).tolist()) - {0}
        rig.wait_until(lambda: shown & {item.id for item in rig.objects}, "what is labelled in the list of objects")
        assert rig.received["label_info"][-1].method == method
        worker = rig.mapping._pipeline.worker
        assert math.isfinite(worker.mapper.stats.lifting_loss) and not worker.error


def test_what_masks_disagree_about_is_less_certain():
    """Two of five views take rectangle 2 for wall."""
    images: list[Image] = []
    with closing(Rig(**QUICK, **{"lifting.lift.same_object_rate": 0.6})) as rig:

        def uncertainty(label: int) -> float:
            """Of the object nearest to a rectangle."""
            column, row, width, height = wall.RECTANGLES[label]
            x, y = column + width / 2 - wall.CAMERA.cx, row + height / 2 - wall.CAMERA.cy
            x, y = x * wall.DISTANCE / wall.CAMERA.fx, y * wall.DISTANCE / wall.CAMERA.fy
            return min(rig.objects, key=lambda o: math.hypot(o.centroid.x - x, o.centroid.y - y)).uncertainty

        rig.node.create_subscription(Image, "lift_ros/uncertainty", images.append, 10)
        for index in range(10):
            masks = wall.labels(index)
            send(rig, index, np.where((masks == 2) & (index % 5 in (1, 3)), 0, masks))
        rig.wait_until(lambda: len(rig.objects) >= 4, "the rectangles and the wall")
        rig.wait_until(lambda: uncertainty(2) > 1.5 * max(uncertainty(1), uncertainty(3)), "doubt about rectangle 2")
        send(rig, 10, wall.labels(10))
        message = of_frame(rig, 10, images)
        unsure = np.frombuffer(bytes(message.data), np.float32).reshape(message.height, message.width)
        shown = wall.labels(10)[::2, ::2]
        assert np.median(unsure[shown == 2]) > 2 * max(np.median(unsure[shown == label]) for label in (0, 3))
