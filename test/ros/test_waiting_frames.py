"""What waits and is not waited for any more is counted."""

from __future__ import annotations

from contextlib import closing

import numpy as np
from rclpy.logging import get_logger
from ros import wall
from ros.rig import Rig, transform
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lift_ros.config import Config
from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.ros.budgets import Duty
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.mapper_worker import MapperWorker
from lift_ros.ros.queues import DropCounter

SENT = 5


def test_images_give_way_to_newer_ones_where_more_wait_for_their_pose_than_may():
    with closing(Rig(frame_queue=2, pose_timeout=10.0)) as rig:
        for index in range(SENT):
            rig.send(index, pose=None)
        dropped = rig.wait_for_drop("frame_queue_full")
        assert rig.status.frame_queue == 2
        assert dropped in (SENT - 2, SENT - 3)  # the first is at work, or was among those that wait
        for index in range(SENT):
            rig.tf.publish(TFMessage(transforms=[transform(rig.header(index), wall.position(index))]))
        rig.wait_for_frames(SENT - dropped)
        newest = rig.header(SENT - 1).stamp
        rig.wait_until(lambda: newest in [labels.header.stamp for labels in rig.received["labels"]], "the newest")
        assert rig.drops["frame_queue_full"] == dropped


def test_frames_that_waited_for_the_mapper_when_another_map_was_loaded_are_counted():
    first, second = (Mapper(Config(), TopicSegmenter(), "map") for _ in range(2))
    drops, told = DropCounter(), []
    worker = MapperWorker(
        first, 5, 1.0, Duty(1.0), drops, lambda mapper, events: told.append(mapper), get_logger("worker")
    )
    for index in range(3):
        frame = Frame(wall.image(index), wall.CAMERA, np.eye(4), float(index), wall.depth())
        worker.add_frame(LiveFrame(frame, Header(), 0.0))
    assert worker.waiting == 3
    worker.replace(second)
    assert drops.counts() == {"map_replaced": 3} and worker.waiting == 0
    assert worker.mapper is second and told == [second]


class Losing(Mapper):
    """Loses an object with a frame that it then has no masks for."""

    def process(self, frame: Frame) -> bool:
        self._publish()
        raise FrameRejected("masks_missing", "too late")


def test_what_goes_with_a_frame_that_is_not_mapped_is_told():
    drops = DropCounter()
    mapper = Losing(Config(), TopicSegmenter(), "map")
    worker = MapperWorker(mapper, 5, 1.0, Duty(1.0), drops, lambda *_: None, get_logger("worker"))
    worker._process(LiveFrame(Frame(wall.image(0), wall.CAMERA, np.eye(4), 0.0), Header(), 0.0))
    assert drops.counts() == {"masks_missing": 1} and worker._changed
