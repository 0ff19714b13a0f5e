"""What the node says of a camera that is not what it is told to be, and of poses that jump."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros import wall
from ros.rig import PERIOD, Rig, transform
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

from lift_ros.ros.conversions import camera_info_message

BODY_TO_OPTICAL = (-0.5, 0.5, -0.5, 0.5)
LOOKING = {"level": BODY_TO_OPTICAL, "down": (1.0, 0.0, 0.0, 0.0), "up": (0.0, 0.0, 0.0, 1.0)}


def warnings_of(rig: Rig) -> list[str]:
    """What the diagnostics of the node warn of from now on, as it grows."""
    heard: list[str] = []
    name = rig.mapping.get_namespace().lstrip("/") + "/lift_ros: mapping"

    def take(message: DiagnosticArray) -> None:
        found = [entry for entry in message.status if entry.name == name]
        heard.extend(entry.message for entry in found if entry.level == DiagnosticStatus.WARN)

    rig.node.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
    return heard


@pytest.mark.parametrize(
    ("rectified", "distortion", "warned"), [(False, -0.3, True), (True, -0.3, False), (False, 0.0, False)]
)
def test_rectified_images_that_would_be_undistorted_again(rectified, distortion, warned, capfd):
    topic = "image_rect_color"
    with closing(Rig(activate=False, image_topic=topic, rectified=rectified)) as rig:
        rig.images = rig.node.create_publisher(Image, topic, 10)
        rig.mapping.trigger_configure()
        rig.mapping.trigger_activate()
        rig.wait_until(lambda: rig.images.get_subscription_count() and rig.received["status"], "the node")
        heard = warnings_of(rig)
        info = camera_info_message(rig.header(0), wall.CAMERA)
        info.d = [distortion, 0.0, 0.0, 0.0, 0.0]
        for index in range(3):
            rig.send(index, info=info)
        rig.wait_for_frames(1)
        said = f"{rig.mapping.get_namespace()}/{topic} is rectified, by its name"
        if warned:
            rig.wait_until(lambda: any(said in message for message in heard), "a warning")
        assert capfd.readouterr().err.count(said) == warned


@pytest.mark.parametrize(("child", "mounted", "warned"), [
    ("lens_optical_frame", BODY_TO_OPTICAL, True),
    ("lens_optical_frame", (0.0, 0.0, 0.0, 1.0), False),  # of another camera that looks the same way
    ("lens", BODY_TO_OPTICAL, False),
])  # fmt: skip
def test_images_of_a_body_frame_whose_optical_frame_is_known(child, mounted, warned, capfd):
    with closing(Rig()) as rig:
        heard = warnings_of(rig)
        rig.tf_static.publish(
            TFMessage(transforms=[transform(rig.header(0), (0.0, 0.0, 0.0), mounted, "camera", child)])
        )
        said = f"its child '{child}' is the optical frame"
        for index in range(60):  # topics have no order among each other: the transform may come after some images
            rig.send(index)
            time.sleep(PERIOD)
            if index >= 10 and (not warned or any(said in message for message in heard)):
                break
        rig.wait_for_frames(5)
        assert capfd.readouterr().err.count(said) == warned


@pytest.mark.parametrize(("turned", "other", "warned"), [
    ("up", None, True),  # as a body frame, whose z is up
    ("up", 4, False),
    ("down", None, False),  # a drone
    ("level", None, False),
])  # fmt: skip
def test_a_camera_that_looks_straight_up_all_the_time_is_none(turned, other, warned, capfd):
    with closing(Rig(depth_topic="")) as rig:
        for index in range(36):
            quaternion = LOOKING["level" if index == other else turned]
            rig.send(index, pose=transform(rig.header(index), wall.position(index), quaternion), masks=None)
            time.sleep(PERIOD / 2)
        rig.wait_for_frames(36)
        assert capfd.readouterr().err.count("images look straight up, along z") == warned


def test_a_pose_that_jumps_is_counted_and_used_and_speed_is_no_jump(capfd):
    with closing(Rig(depth_topic="")) as rig:
        heard = warnings_of(rig)
        places = [3.0 * index for index in range(5)]  # 30 m/s
        places += [places[-1] + 20.0 + 3.0 * index for index in range(3)]
        quaternions = [LOOKING["level"]] * len(places) + [(0.5, 0.5, -0.5, -0.5)] * 2  # turned by 180 degrees
        places += [places[-1] + 3.0, places[-1] + 6.0]
        for index, (x, quaternion) in enumerate(zip(places, quaternions, strict=True)):
            rig.send(index, pose=transform(rig.header(index), (x, 0.0, 0.0), quaternion), masks=None)
            time.sleep(PERIOD / 2)
        for index in range(2):
            rig.send(index, 2000.0, masks=None)  # so much later it may be anywhere
        rig.wait_for_frames(len(places) + 2)
        assert rig.wait_for_drop("pose_jump") == 2
        rig.wait_until(lambda: any("pose_jump" in message for message in heard), "a warning")
        assert "within 0.10 s the camera moved by 20.0 and turned by 0 degrees" in capfd.readouterr().err
