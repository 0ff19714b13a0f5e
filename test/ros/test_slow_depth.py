"""Depth that comes more slowly than the images, and depth that stops."""

from __future__ import annotations

import time
from contextlib import closing

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros.rig import PERIOD, Rig

from lift_ros.ros.conversions import nanoseconds

SENT = 15


def test_images_between_depth_images_are_labelled_and_not_mapped_until_depth_stops(capfd):
    with closing(Rig(label_rate=0.0, pose_timeout=1.0)) as rig:
        told: list[DiagnosticStatus] = []
        rig.node.create_subscription(DiagnosticArray, "/diagnostics", lambda array: told.extend(array.status), 100)
        for index in range(SENT):
            rig.send(index, **({"depth": None} if index % 2 else {}))
            time.sleep(PERIOD / 2)
        rig.wait_for_frames(SENT)
        rig.wait_until(lambda: len(rig.objects) >= 3 and rig._is_idle(), "the map", timeout=60.0)
        assert rig.drops["depth_between"] == SENT // 2 and "depth_missing" not in rig.drops
        assert rig.status.keyframes <= SENT - SENT // 2  # along the wall, each image that is mapped is one
        labelled = {nanoseconds(labels.header.stamp) for labels in rig.received["labels"]}
        assert labelled & {nanoseconds(rig.header(index).stamp) for index in range(1, SENT, 2)}
        own = [entry for entry in told if entry.name.startswith(rig.mapping.get_namespace().strip("/"))]
        own = [entry for entry in own if "no usable frame" not in entry.message]  # slow computers
        assert any("depth_between" in entry.message for entry in own)
        assert {entry.level for entry in own} == {DiagnosticStatus.OK}, own
        assert "image dropped" not in capfd.readouterr().err
        for index in range(SENT, SENT + 3):
            rig.send(index, depth=None)
            time.sleep(PERIOD / 2)
        # the first of them comes before the next depth is due
        rig.wait_until(lambda: rig.drops.get("depth_missing") == 2, "images without depth to be dropped")
        assert rig.drops["depth_between"] == SENT // 2 + 1 and "image dropped (depth_missing)" in capfd.readouterr().err
