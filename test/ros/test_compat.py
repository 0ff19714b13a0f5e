"""Transforms, whether from tf2_ros or its stand-in."""

from __future__ import annotations

import importlib.util
import math
import sys
from contextlib import closing
from types import ModuleType

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from ros import wall
from ros.rig import LATCHED, Rig, transform
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lift_ros.data import transforms
from lift_ros.ros import compat, pipeline
from lift_ros.ros.compat import TRANSFORMS_BY, Buffer, TransformException, TransformListener
from lift_ros.ros.conversions import matrix_from_transform, nanoseconds, to_stamp


def stamped(seconds, position, angle=0.0, parent="map", child="base"):
    quaternion = tuple(Rotation.from_euler("z", angle).as_quat())
    return transform(Header(stamp=to_stamp(seconds)), position, quaternion, parent, child)


def lookup(buffer, target, source, seconds):
    found = buffer.lookup_transform(target, source, Time(nanoseconds=round(seconds * 1e9)))
    return matrix_from_transform(found.transform)


@pytest.fixture
def buffer():
    """A base that drives along x and turns, with a camera mounted ahead of it."""
    buffer = Buffer(cache_time=Duration(seconds=10.0))
    for step in range(5):
        buffer.set_transform(stamped(100.0 + step, (float(step), 0.0, 0.0), 0.2 * step), "test")
    buffer.set_transform_static(stamped(0.0, (0.5, 0.0, 0.0), parent="base", child="camera"), "test")
    return buffer


def test_between_two_transforms_both_parts_are_interpolated(buffer):
    T = lookup(buffer, "map", "base", 101.25)
    np.testing.assert_allclose(T[:3, 3], (1.25, 0, 0), atol=1e-6)
    assert np.arctan2(T[1, 0], T[0, 0]) == pytest.approx(0.25, abs=1e-6)


def test_static_and_moving_transforms_are_chained(buffer):
    T = lookup(buffer, "map", "camera", 102.0)
    np.testing.assert_allclose(T[:3, 3], (2 + 0.5 * np.cos(0.4), 0.5 * np.sin(0.4), 0), atol=1e-6)
    back = lookup(buffer, "camera", "map", 102.0)
    np.testing.assert_allclose(T @ back, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("seconds", [99.0, 104.5])
def test_nothing_is_extrapolated(buffer, seconds):
    with pytest.raises(TransformException):
        lookup(buffer, "map", "base", seconds)


def test_unknown_frames(buffer):
    with pytest.raises(TransformException):
        lookup(buffer, "map", "gripper", 102.0)


def test_transforms_that_are_not_finite_are_left_out(buffer):
    buffer.set_transform(stamped(105.0, (float("nan"), 0.0, 0.0)), "test")
    with pytest.raises(TransformException):
        lookup(buffer, "map", "base", 104.5)


def test_clearing_forgets_the_moving_ones(buffer):
    buffer.clear()
    with pytest.raises(TransformException):
        lookup(buffer, "map", "base", 102.0)
    np.testing.assert_allclose(lookup(buffer, "base", "camera", 50.0)[:3, 3], (0.5, 0, 0), atol=1e-9)
    buffer.set_transform(stamped(10.0, (3.0, 0.0, 0.0)), "test")  # time may start over
    assert lookup(buffer, "map", "base", 10.0)[0, 3] == pytest.approx(3.0)


def test_the_latest_is_what_all_transforms_in_between_know(buffer):
    buffer.set_transform(stamped(104.5, (0.0, 2.0, 0.0), parent="base", child="arm"), "test")
    buffer.set_transform(stamped(103.5, (0.0, 2.0, 0.0), parent="base", child="arm"), "test")
    buffer.set_transform(stamped(106.0, (0.0, 0.0, 0.0), parent="base", child="wheel"), "test")
    buffer.set_transform(stamped(107.0, (float("nan"), 0.0, 0.0)), "test")
    found = buffer.lookup_transform("map", "arm", Time())
    assert (found.header.stamp.sec, found.transform.translation.x) == (104, pytest.approx(4 - 2 * np.sin(0.8)))
    with pytest.raises(TransformException):  # of the wheel all is later
        lookup(buffer, "wheel", "arm", 0)
    buffer.set_transform(stamped(104.2, (0.0, 0.0, 0.0), parent="base", child="wheel"), "test")
    assert buffer.lookup_transform("wheel", "arm", Time()).header.stamp == to_stamp(104.5)
    assert buffer.lookup_transform("base", "camera", Time()).transform.translation.x == pytest.approx(0.5)


def test_nobody_is_told_of_images_that_asked_for_none(buffer):
    for seconds in (99.0, 104.5):
        with pytest.raises(TransformException) as refused:
            lookup(buffer, "map", "base", seconds)
        assert "image" not in str(refused.value)


def test_old_transforms_are_forgotten():
    buffer = Buffer(cache_time=Duration(seconds=10.0))
    for step in range(30):
        buffer.set_transform(stamped(100.0 + step, (float(step), 0.0, 0.0)), "test")
    with pytest.raises(TransformException):
        lookup(buffer, "map", "base", 105.0)
    assert lookup(buffer, "map", "base", 125.0)[0, 3] == pytest.approx(25.0)


def test_a_transform_of_the_future_takes_none_of_other_frames_along():
    buffer = Buffer(cache_time=Duration(seconds=10.0))
    for step in range(5):
        buffer.set_transform(stamped(100.0 + step, (float(step), 0.0, 0.0)), "test")
    buffer.set_transform(stamped(3700.0, (0.0, 0.0, 0.0), parent="base", child="arm"), "test")
    assert lookup(buffer, "map", "base", 102.5)[0, 3] == pytest.approx(2.5)
    for step in range(5, 30):  # they are still forgotten in time
        buffer.set_transform(stamped(100.0 + step, (float(step), 0.0, 0.0)), "test")
    with pytest.raises(TransformException):
        lookup(buffer, "map", "base", 105.0)


def of_norm(norm: float) -> TransformStamped:
    return transform(Header(stamp=to_stamp(3700.0)), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, norm), "map", "base")


STRAYS = {
    "infinite": stamped(3700.0, (math.inf, 0.0, 0.0)),
    "not rigid": of_norm(2.0),
    "of nothing": stamped(3700.0, (0.0, 0.0, 0.0), parent=""),
    "of itself": stamped(3700.0, (0.0, 0.0, 0.0), parent="base"),
}


@pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS)
def test_what_is_no_transform_takes_no_others_along(stray):
    """tf2 takes infinite ones and any quaternion but 0, and would then refuse all that is older."""
    buffer = Buffer(cache_time=Duration(seconds=10.0))
    for step in range(8):
        if step == 5:
            buffer.set_transform(stray, "test")
        buffer.set_transform(stamped(100.0 + step, (float(step), 0.0, 0.0)), "test")
    assert lookup(buffer, "map", "base", 102.5)[0, 3] == pytest.approx(2.5)
    assert lookup(buffer, "map", "base", 106.5)[0, 3] == pytest.approx(6.5)


@pytest.mark.parametrize("parent", ["", "base"])
def test_what_is_no_transform_hides_no_gap(parent):
    buffer = Buffer(cache_time=Duration(seconds=20.0))
    for seconds in range(100, 109):
        here = "map" if seconds in (100, 108) else parent
        buffer.set_transform(stamped(float(seconds), (0.0, 0.0, 0.0), parent=here), "test")
    with pytest.raises(TransformException):
        lookup(buffer, "map", "base", 104.5)


def test_transforms_of_before_1970_clear_nothing():
    buffer = Buffer(cache_time=Duration(seconds=10.0))
    for step in range(10):
        buffer.set_transform(stamped(100.0 + step / 10, (float(step), 0.0, 0.0)), "test")
        for late in (0.0, 0.02):
            buffer.set_transform(stamped(-50.0 + step / 10 + late, (0.0, 0.0, 0.0)), "test")
    assert lookup(buffer, "map", "base", 100.05)[0, 3] == pytest.approx(0.5)


def test_a_frame_that_was_static_may_move():
    buffer = Buffer(cache_time=Duration(seconds=10.0))
    buffer.set_transform_static(stamped(0.0, (7.0, 0.0, 0.0)), "test")
    for step in range(3):
        buffer.set_transform(stamped(100.0 + step, (float(step), 0.0, 0.0)), "test")
    assert lookup(buffer, "map", "base", 100.5)[0, 3] == pytest.approx(0.5)


def test_a_listener_hears_both_topics():
    node = rclpy.create_node("listener")
    buffer = Buffer(node=node)
    listener = TransformListener(buffer, node)
    static = node.create_publisher(TFMessage, "/tf_static", LATCHED)
    moving = node.create_publisher(TFMessage, "/tf", 100)
    static.publish(TFMessage(transforms=[stamped(0.0, (0.5, 0.0, 0.0), parent="base", child="camera")]))
    before_1970 = stamped(-7.0, (9.0, 0.0, 0.0))
    try:
        for _ in range(100):
            moving.publish(TFMessage(transforms=[before_1970, stamped(7.0, (1.0, 0.0, 0.0))]))
            rclpy.spin_once(node, timeout_sec=0.1)
            try:
                T = lookup(buffer, "map", "camera", 7.0)
                break
            except TransformException:
                continue
        assert T[0, 3] == pytest.approx(1.5)
    finally:
        listener.unregister()
        node.destroy_node()


def imported_anew() -> ModuleType:
    """The module as it comes out with the tf2_ros of the moment; the one that others have imported stays."""
    spec = importlib.util.find_spec("lift_ros.ros.compat")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_where_there_is_no_tf2_ros_its_stand_in_is_taken(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)  # as where it is not installed
    compat = imported_anew()
    assert compat.Buffer.__module__ == "lift_ros.ros.compat" and "no tf2_ros" in compat.TRANSFORMS_BY


def test_a_tf2_ros_that_is_there_is_taken(monkeypatch):
    theirs = ModuleType("tf2_ros")
    theirs.Buffer, theirs.TransformException, theirs.TransformListener = type("Theirs", (), {}), object(), object()
    monkeypatch.setitem(sys.modules, "tf2_ros", theirs)
    compat = imported_anew()
    assert compat.PlainBuffer is theirs.Buffer and compat.TRANSFORMS_BY == "tf2_ros"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_module_that_it_needs", "a_module_that_it_needs"),
        ("raise ImportError('libtf2.so: cannot open shared object file')", "libtf2.so"),
        ("", "cannot import name 'Buffer'"),
    ],
)
def test_a_tf2_ros_that_is_broken_is_not_passed_over(monkeypatch, tmp_path, code, reason):
    (tmp_path / "tf2_ros.py").write_text(code)
    monkeypatch.delitem(sys.modules, "tf2_ros", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(ImportError, match=reason):
            imported_anew()
    finally:
        sys.modules.pop("tf2_ros", None)


def test_the_log_says_which_of_the_two_is_in_use(capfd):
    with closing(Rig()):
        assert f"transforms by {TRANSFORMS_BY}" in capfd.readouterr().err


class Tf2Buffer(compat.PlainBuffer):
    """With what tf2 has and its stand-in has not: a transform older than the latest by more than the cache is refused,
    and gaps are not (see ``over_tf2``)."""

    def __init__(self, cache_time, node=None):
        super().__init__(cache_time, node)
        self._cache_time, self._newest = cache_time.nanoseconds, {}

    def set_transform(self, transform, authority):
        stamp_ns, child = nanoseconds(transform.header.stamp), transform.child_frame_id
        newest = self._newest[child] = max(stamp_ns, self._newest.get(child, 0))
        if stamp_ns >= newest - self._cache_time:
            super().set_transform(transform, authority)

    def clear(self):
        super().clear()
        self._newest.clear()


@pytest.fixture
def over_tf2(monkeypatch):
    """The buffer as it is over tf2's."""
    theirs = ModuleType("tf2_ros")
    theirs.Buffer, theirs.TransformException, theirs.TransformListener = Tf2Buffer, TransformException, object()
    monkeypatch.setitem(sys.modules, "tf2_ros", theirs)
    ours = imported_anew().Buffer
    monkeypatch.setattr(transforms, "MAX_GAP_NS", 10**18)
    return ours


def test_late_transforms_of_before_a_jump_of_the_clock_are_in_nobody_s_way(over_tf2, monkeypatch):
    """A bag that starts over: the last of its transforms wait in the middleware while the clock jumps."""
    monkeypatch.setattr(pipeline, "Buffer", over_tf2)
    with closing(Rig(use_sim_time=True, pose_timeout=10.0)) as rig:
        clock = rig.node.create_publisher(Clock, "/clock", 10)
        rig.wait_until(clock.get_subscription_count, "the clock's subscription")
        clock.publish(Clock(clock=to_stamp(1000.0)))
        rig.send(0)
        rig.wait_for_frames(1)
        clock.publish(Clock(clock=to_stamp(50.0)))
        rig.wait_for_drop("time_jump")
        rig.tf.publish(TFMessage(transforms=[transform(rig.header(1), wall.position(1))]))
        for index in range(3):
            rig.send(index, start=50.0)
        rig.wait_for_frames(4)


def test_a_frame_whose_time_starts_over_is_known_from_its_first_transform_on(over_tf2):
    buffer = over_tf2(cache_time=Duration(seconds=10.0))
    buffer.set_transform_static(stamped(0.0, (0.5, 0.0, 0.0), parent="base", child="camera"), "test")
    for seconds in (100.0, 100.1):
        buffer.set_transform(stamped(seconds, (9.0, 0.0, 0.0)), "test")
        buffer.set_transform(stamped(seconds, (9.0, 0.0, 0.0), parent="base", child="arm"), "test")
    for seconds in (50.0, 50.1):
        buffer.set_transform(stamped(seconds, (seconds - 50.0, 0.0, 0.0)), "test")
        buffer.set_transform(stamped(seconds, (0.0, 0.0, 0.0), parent="base", child="arm"), "test")
    assert lookup(buffer, "map", "camera", 50.0)[0, 3] == pytest.approx(0.5)
    assert lookup(buffer, "map", "arm", 50.05)[0, 3] == pytest.approx(0.05)
    assert buffer.lookup_transform("map", "base", Time()).header.stamp == to_stamp(50.1)  # no more of 100.1 s


@pytest.mark.parametrize("astray", [0.0, 95.0, 99.9])
def test_one_transform_that_is_astray_in_the_past_takes_no_good_ones_along(over_tf2, astray):
    buffer = over_tf2(cache_time=Duration(seconds=10.0))
    for step in range(10):
        buffer.set_transform(stamped(100.0 + step / 10, (float(step), 0.0, 0.0)), "test")
        buffer.set_transform(stamped(astray, (0.0, 0.0, 0.0)), "test")
    assert lookup(buffer, "map", "base", 100.05)[0, 3] == pytest.approx(0.5)


def test_frames_go_on_after_a_transform_of_the_future(over_tf2):
    buffer = over_tf2(cache_time=Duration(seconds=10.0))
    for seconds in (100.0, 3700.0, 100.1, 100.2):
        buffer.set_transform(stamped(seconds, (seconds, 0.0, 0.0)), "test")
    assert lookup(buffer, "map", "base", 100.15)[0, 3] == pytest.approx(100.15)


@pytest.mark.parametrize("broken", [None, (float("nan"), 0.0, 0.0)], ids=["silent", "lost"])
def test_no_pose_is_made_up_in_a_gap(over_tf2, broken):
    """Of a localisation that is silent for a while, or says that it is lost."""
    buffer = over_tf2(cache_time=Duration(seconds=20.0))
    buffer.set_transform_static(stamped(0.0, (0.5, 0.0, 0.0), parent="base", child="camera"), "test")
    for step in range(31):
        position = broken if 10 <= step <= 18 else (float(step), 0.0, 0.0)
        if position:
            buffer.set_transform(stamped(100.0 + step, position), "test")
        buffer.set_transform(stamped(100.0 + step, (1.0, 0.0, 0.0), parent="base", child="arm"), "test")
    for seconds, x in ((119.0, 19.0), (119.5, 19.5)):
        assert lookup(buffer, "map", "camera", seconds)[0, 3] == pytest.approx(x + 0.5)
    for frames in (("map", "camera"), ("arm", "map")):
        with pytest.raises(TransformException, match=r"gap of 10\.0 s between transforms of 'base'"):
            lookup(buffer, *frames, 114.0)
    assert lookup(buffer, "camera", "arm", 114.0)[0, 3] == pytest.approx(0.5)  # the gap is none of theirs


def test_an_image_from_within_a_gap_of_the_localisation_is_not_used(over_tf2, monkeypatch):
    monkeypatch.setattr(pipeline, "Buffer", over_tf2)
    with closing(Rig(pose_timeout=2.0)) as rig:
        rig.send(0)
        rig.wait_for_frames(1)
        rig.tf.publish(TFMessage(transforms=[transform(rig.header(80), wall.position(80))]))
        for index in (40, 41):  # one alone might be astray
            rig.send(index, pose=None)
        rig.wait_until(lambda: rig.drops.get("pose_missing") == 2, "both to be dropped")
        assert rig.status.frames == 1
