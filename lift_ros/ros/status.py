"""The node's figures as a message."""

from __future__ import annotations

from std_msgs.msg import Header

from lift_ros.mapping.mapper import MapperStats
from lift_ros.msg import Status
from lift_ros.ros.budgets import process_memory
from lift_ros.ros.queues import DropCounter, Window

RATE_WINDOW = 10.0  # s, over which label images are counted


def make_status(
    header: Header,
    state: int,
    *,
    map_id: str,
    stats: MapperStats,
    frames: int,
    objects: int,
    segmenter: str,
    frame_queue: int,
    keyframe_queue: int,
    image_latency: Window,
    label_latency: Window,
    drops: DropCounter,
) -> Status:
    """What the node does; the arguments are explained in Status.msg, latencies are in seconds."""
    counts = drops.counts()
    return Status(
        header=header,
        state=state,
        map_id=map_id,
        frames=frames,
        keyframes=stats.keyframes,
        gaussians=stats.gaussians,
        objects=objects,
        steps=stats.steps,
        skipped_steps=stats.skipped_steps,
        evicted_keyframes=stats.evicted_keyframes,
        memory=process_memory(),
        photometric_loss=stats.photometric_loss,
        lifting_loss=stats.lifting_loss,
        prompts=stats.prompts,
        segmenter=segmenter,
        frame_queue=frame_queue,
        keyframe_queue=keyframe_queue,
        image_latency_p50=image_latency.percentile(50),
        image_latency_p99=image_latency.percentile(99),
        label_latency=label_latency.percentile(50),
        label_rate=label_latency.rate(RATE_WINDOW),
        drop_reasons=list(counts),
        drop_counts=list(counts.values()),
    )
