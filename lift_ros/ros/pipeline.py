"""What is built when the node is configured: inputs, workers, outputs, and how they are joined."""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from lift_ros.config import Config
from lift_ros.errors import ConfigError, FrameRejected, LiftError, MapFileError
from lift_ros.mapping.map_files import resolve_map_name
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.base import Segmenter
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.msg import Status
from lift_ros.objects.description import MapObject
from lift_ros.objects.registry import ObjectEvent
from lift_ros.ros.autosave import Autosave
from lift_ros.ros.budgets import BudgetedSegmenter, Duty
from lift_ros.ros.compat import Buffer, TransformListener
from lift_ros.ros.conversions import nanoseconds
from lift_ros.ros.diagnostics import Health
from lift_ros.ros.frame_builder import TIME_JUMP_NS, FrameBuilder, LiveFrame
from lift_ros.ros.inputs import Inputs
from lift_ros.ros.labeller import Labeller
from lift_ros.ros.mapper_worker import MapperWorker
from lift_ros.ros.mask_sync import MaskSync
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.outputs import Outputs
from lift_ros.ros.plausibility import Plausibility
from lift_ros.ros.pose_source import PoseSource, TfPoses, TopicPoses, lookup_tf
from lift_ros.ros.queues import DropCounter, Window
from lift_ros.ros.services import Services
from lift_ros.ros.status import make_status

STATUS_PERIOD = 1.0  # s
IMAGES_QUEUED = 5  # in the middleware, and as many of what belongs to them
POSES_QUEUED = 100  # as of TF: odometry of 200 Hz would be lost each time that the executor is held up for 25 ms
BESIDE_QUEUE = 8  # frames that may be in the middleware, and at work
HANGS = "{} hangs in what it did when the node was stopped; it cannot go on before that ends"
POSE_MESSAGES = {"odometry": Odometry, "pose": PoseStamped, "pose_with_covariance": PoseWithCovarianceStamped}


class Known(NamedTuple):
    """The objects that are published, and the id of the map that they are of."""

    map_id: str
    objects: list[MapObject]


class Pipeline:
    """Subscriptions → FrameBuilder → MapperWorker and Labeller → Outputs, each in a thread of its own. Where another
    node makes the masks, frames wait for these before the mapper has them (MaskSync).

    Attributes:
        known: the objects that are published, as of the latest update; replaced, never changed.
    """

    def __init__(self, node: Node, config: NodeConfig, mapping: Config, segmenter: Segmenter) -> None:
        """Build everything; nothing runs before ``start``.

        Raises:
            LiftError: the map to start from cannot be loaded, or none be saved where ``autosave`` says; or a parameter
                makes no sense.
        """
        self.node, self.config = node, config
        self._mapping = mapping
        self._duty = Duty(config.training_duty)
        self._masks_come = isinstance(segmenter, TopicSegmenter)
        if self._masks_come and not config.masks_topic:
            raise ConfigError("the segmenter is 'topic', but masks_topic is empty: name the topic of the masks")
        share = 1.0 if self._masks_come else config.segmenter_duty  # what another node does is no work of this one
        self._masks = BudgetedSegmenter(segmenter, Duty(share), config.max_memory)
        self._drops = DropCounter()
        self._image_latency = Window(1000)
        self._frames = 0
        self._latest: float | None = None  # stamp of the latest frame, seconds; None if time may have jumped since

        if not config.world_frame or config.world_frame.startswith("/"):
            raise ConfigError(f"world_frame is '{config.world_frame}': name a frame, without a leading '/'")
        self._autosave = None
        if config.autosave:
            self._autosave = Autosave(self.map_path(config.autosave), node.get_logger())
        mapper = Mapper(mapping, self._masks, config.world_frame)
        if config.load_map:
            path = self.map_path(config.load_map)
            if config.load_map == config.autosave and not path.exists():
                node.get_logger().info(f"there is no map in {path} yet: it begins empty")
            else:
                mapper = self.loaded_mapper(path)
        self.known = Known(mapper.map_id, mapper.objects)  # so that a query before the activation is told the truth
        with ExitStack() as undo:  # what is on the node already, should the rest fail
            self._build(mapper, undo)
            self._undo = undo.pop_all()

    def _build(self, mapper: Mapper, undo: ExitStack) -> None:
        node, config, log = self.node, self.config, self.node.get_logger()
        self.outputs = Outputs(node, config.world_frame, config.scene_cloud_points)
        undo.callback(self.outputs.destroy)
        self.worker = MapperWorker(
            mapper,
            config.mapper_queue,
            config.map_period,
            self._duty,
            self._drops,
            self._publish_map,
            log,
        )
        self._mask_sync = None
        if self._masks_come:
            self._mask_sync = MaskSync(
                config.masks_timeout,
                config.frame_queue + BESIDE_QUEUE,
                self._mapping.mapping.image_width,
                self._drops,
                self.worker.add_frame,
            )
        self.labeller = Labeller(
            self._mapping.mapping.image_width,
            config,
            lambda: self.worker.mapper,
            self.outputs,
            self._drops,
            log,
        )
        self.tf_buffer = Buffer()
        poses: PoseSource = TfPoses(self.tf_buffer, config.world_frame)
        if config.pose_source != "tf":
            poses = TopicPoses(self.tf_buffer, config.world_frame, config.pose_frame, self._drops)
        self._builder = FrameBuilder(
            config, poses, partial(lookup_tf, self.tf_buffer), self._drops, self._take_frame, self._on_time_jump, log
        )
        self._plausibility = Plausibility(config.rectified, self._mapping.objects.up, self.tf_buffer, self._drops, log)
        self._health = Health(node.get_fully_qualified_name().lstrip("/"), config.max_memory)
        undo.callback(Services(self).destroy)
        undo.callback(TransformListener(self.tf_buffer, node).unregister)
        self._inputs = Inputs(node)
        undo.callback(self._inputs.destroy)
        self._subscribe(poses)
        clock_jump = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-TIME_JUMP_NS), on_clock_change=False),
            post_callback=lambda _: self._builder.reset_time(),
        )
        undo.callback(clock_jump.unregister)
        # steady: the health of the node does not depend on the speed of a replay
        timer = node.create_timer(
            STATUS_PERIOD,
            self._publish_status,
            MutuallyExclusiveCallbackGroup(),
            Clock(clock_type=ClockType.STEADY_TIME),
        )
        undo.callback(node.destroy_timer, timer)

    def start(self) -> None:
        """Start the workers; what the map holds is known at once, and that an empty one holds nothing of one before.

        Raises:
            LiftError: the mapper still hangs in what it did when it was stopped.
        """
        if hanging := self._hanging:  # two threads must not have one map
            raise LiftError(HANGS.format(hanging))
        self._publish_map(self.worker.mapper, [])
        if self._autosave:
            self._autosave.begin()
        self.labeller.start()
        self.worker.start()
        self._builder.start()

    def stop(self) -> None:
        """Stop the workers; the map is kept, and saved where ``autosave`` says so: as it was published last, where the
        mapper hangs.
        """
        self._builder.stop()
        self._latest = None
        if self._mask_sync:
            self._mask_sync.clear("stopped")
        self.worker.stop()
        if self._autosave:
            save = self._autosave.rescue if self.worker.hangs else self._autosave.end
            save(self.worker.mapper)
        self.labeller.stop()

    @property
    def _hanging(self) -> str:
        """What has not ended though it was stopped, if anything."""
        if self.worker.hangs:
            return "the mapper"
        if self.labeller.hangs:
            return "the thread of the labels"
        return "the save of the map" if self._autosave and self._autosave.rescuing else ""

    def destroy(self) -> None:
        """Take everything off the node again."""
        try:
            self.stop()
        finally:
            self._undo.close()

    def map_path(self, name: str) -> Path:
        """Where the map ``name`` is saved, or would be. Raises MapFileError: it is none."""
        return resolve_map_name(Path(self.config.map_directory).expanduser(), name)

    def loaded_mapper(self, path: Path) -> Mapper:
        """A mapper that goes on with the map saved in ``path``. Raises MapFileError."""
        mapper = Mapper.load(path, self._mapping, self._masks, self.config.world_frame)
        if self._autosave:
            self._autosave.begins_with(path)
        return mapper

    def save_map(self, path: Path) -> None:
        """Save the map in ``path``. To be run by the worker.

        Raises:
            MapFileError: as ``Mapper.save``; or there is no map yet, which must not take the place of one.
        """
        if not len(self.worker.mapper.snapshot.scene):
            raise MapFileError("the map is empty; what is saved under this name stays as it is")
        self.worker.mapper.save(path, self._autosave.before(path) if self._autosave else None)
        if self._autosave:
            self._autosave.saved(path)

    def replace_map(self, mapper: Mapper) -> None:
        """Go on with another map. To be run by the worker."""
        if self._mask_sync:
            self._mask_sync.clear("map_replaced")
        self.worker.replace(mapper)

    def reset(self) -> None:
        """Start over with an empty map and counters at zero. To be run by the worker. Raises LiftError."""
        self.replace_map(Mapper(self._mapping, self._masks, self.config.world_frame))
        if self._autosave:
            self._autosave.begins_with(None)
        self._drops.clear()
        self._frames = 0

    def _subscribe(self, poses: PoseSource) -> None:
        """Raises ConfigError."""
        config, add = self.config, self._inputs.add
        images = add(Image, config.image_topic, self._on_image, IMAGES_QUEUED)
        add(CameraInfo, config.camera_info_topic, partial(self._on_info, images), IMAGES_QUEUED)
        if config.depth_topic:
            add(Image, config.depth_topic, self._builder.add_depth, IMAGES_QUEUED)
        if self._mask_sync:
            add(Image, config.masks_topic, partial(self._on_masks, self._mask_sync), IMAGES_QUEUED)
        if isinstance(poses, TopicPoses):
            add(POSE_MESSAGES[config.pose_source], config.pose_topic, poses.add, POSES_QUEUED)

    def _on_image(self, message: Any, info: Any) -> None:
        self._builder.add_image(message)
        received_ns = info["received_timestamp"]  # when the middleware had it; 0 where it does not say
        if received_ns:
            self._image_latency.add((time.time_ns() - received_ns) / 1e9)

    def _on_info(self, image_topic: str, message: CameraInfo) -> None:
        self._builder.add_info(message)
        self._plausibility.check_info(message, image_topic)

    def _on_masks(self, sync: MaskSync, message: Any) -> None:
        if not self._builder.running:
            return
        try:
            sync.add_masks(nanoseconds(message.header.stamp), self._builder.labels(message))
        except FrameRejected as error:
            self._drops.add(error.reason)
            self.node.get_logger().warning(f"masks dropped: {error}", throttle_duration_sec=5.0)
        except Exception:  # a decoder choked on them; the executor must not stop for that
            self._drops.add("internal_error")
            self.node.get_logger().error(f"masks dropped: {traceback.format_exc()}", throttle_duration_sec=10.0)

    def _take_frame(self, live: LiveFrame) -> None:
        self._plausibility.check_frame(live)
        self._latest = live.frame.stamp
        self._frames += 1
        self.outputs.stamps.add(live.frame.stamp, live.header.stamp)
        if not (live.labels_only or self.worker.paused.is_set()):
            (self._mask_sync or self.worker).add_frame(live)
        self.labeller.add_frame(live)

    def _on_time_jump(self) -> None:
        self._latest = None
        self.worker.forget_frames()
        if self._mask_sync:
            self._mask_sync.clear("time_jump")

    def _publish_map(self, mapper: Mapper, events: list[ObjectEvent]) -> None:
        self.known = Known(mapper.map_id, mapper.objects)
        self.outputs.publish_map(mapper, self._as_of(mapper), self._mapping.lifting.method, events)

    def _show_scene(self) -> None:
        """Somebody who comes late sees the scene of now, even while nothing changes."""
        if self._builder.running and self.outputs.scene_awaited():
            self.worker.submit(lambda: self.outputs.publish_scene(self.worker.mapper, self._as_of(self.worker.mapper)))

    def _save_in_between(self) -> None:
        autosave = self._autosave
        if autosave and self._builder.running and autosave.due(self.worker.mapper):
            self.worker.submit(lambda: autosave.due(self.worker.mapper) and autosave.save(self.worker.mapper))

    def _as_of(self, mapper: Mapper) -> float:
        """Time of what a map shows, seconds: the latest frame in it; where none has come since it was loaded, since the
        node was activated or since time jumped, now.
        """
        known = mapper.stats.frames and self._latest is not None
        return min(mapper.stats.stamp, self.stamp) if known else self.stamp  # after a jump it is behind

    @property
    def save_error(self) -> str:
        """Why ``autosave`` could not save the map when it last tried, "" if it could."""
        return self._autosave.error if self._autosave else ""

    @property
    def stamp(self) -> float:
        """Time of answers about the map, seconds: what has not changed until the latest frame is what is known then. A
        robot at rest gets answers that TF still covers.
        """
        latest = self._latest  # another thread may take it away
        return self.node.get_clock().now().nanoseconds / 1e9 if latest is None else latest

    def _state(self) -> int:
        if not self._builder.running:
            return Status.INACTIVE
        if self.worker.paused.is_set():
            return Status.PAUSED
        return Status.MAPPING if self._frames else Status.WAITING

    def _publish_status(self) -> None:
        self._show_scene()
        self._save_in_between()
        self._inputs.follow_types()
        if self._mask_sync:
            self._mask_sync.expire()
        stats = self.worker.mapper.stats
        header = self.outputs.header(0.0)
        header.stamp = self.node.get_clock().now().to_msg()
        map_id, objects = self.known
        status = make_status(
            header,
            self._state(),
            map_id=map_id,
            stats=stats,
            frames=self._frames,
            objects=len(objects),
            segmenter=self._masks.name,
            frame_queue=self._builder.waiting,
            keyframe_queue=self.worker.waiting + (self._mask_sync.waiting if self._mask_sync else 0),
            image_latency=self._image_latency,
            label_latency=self.labeller.latency,
            drops=self._drops,
        )
        diagnostics = self._health.diagnostics(
            status,
            self.worker.error,
            stats.full,
            {"mapper": self.worker.watch.seconds, "labels": self.labeller.watch.seconds},
            self._inputs.missing,
            self._warnings(),
        )
        self.outputs.publish_status(status, diagnostics)

    def _warnings(self) -> list[str]:
        """What is wrong whether the node is active or not."""
        found = self._inputs.lost() + self._plausibility.warnings
        if hanging := self._hanging:
            found.append(HANGS.format(hanging))
        if self.save_error:
            found.append(self.save_error)
        return found
