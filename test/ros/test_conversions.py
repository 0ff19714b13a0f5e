"""What a message says of an array or an object, field by field, as another program reads it."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion, Vector3
from sensor_msgs.msg import PointField
from std_msgs.msg import ColorRGBA, Header

from lift_ros.msg import LabelInfo
from lift_ros.objects.boxes import OrientedBox
from lift_ros.objects.description import MapObject
from lift_ros.ros.conversions import cloud_arrays, cloud_message, label_message, mask_message, object_message, to_stamp


def test_an_object_is_told_field_by_field():
    points, colors = np.zeros((3, 3), np.float32), np.zeros((3, 3), np.uint8)
    box = OrientedBox(np.array([4.0, 5.0, 6.0]), np.array([0.1, 0.3, 0.5, 0.8]), np.array([0.7, 0.8, 0.9]))
    color = np.array([255, 51, 0], np.uint8)
    item = MapObject(7, 9, 0.25, 0.75, 10.5, 20.25, 4, np.array([1.0, 2.0, 3.0]), box, color, points, colors)
    message = object_message(item)
    assert (message.id, message.parent, message.views, message.points) == (7, 9, 4, 3)
    assert (message.confidence, message.uncertainty) == (0.25, 0.75)
    assert message.first_seen == Time(sec=10, nanosec=500_000_000)
    assert message.last_seen == Time(sec=20, nanosec=250_000_000)
    assert message.centroid == Point(x=1.0, y=2.0, z=3.0)
    assert message.box.position == Point(x=4.0, y=5.0, z=6.0)
    assert message.box.orientation == Quaternion(w=0.1, x=0.3, y=0.5, z=0.8)
    assert message.box_size == Vector3(x=0.7, y=0.8, z=0.9)
    assert message.color == ColorRGBA(r=1.0, g=np.float32(0.2), b=0.0, a=1.0)


@pytest.mark.parametrize(
    ("seconds", "sec", "nanosec"),
    [(0.5, 0, 500_000_000), (1_763_712_345.000001, 1_763_712_345, 1000), (-0.25, -1, 750_000_000)],
)
def test_a_stamp_is_seconds_and_nanoseconds(seconds, sec, nanosec):
    assert to_stamp(seconds) == Time(sec=sec, nanosec=nanosec)


def test_a_cloud_is_laid_out_as_pcl_and_rviz_read_it():
    points, colors = np.array([[1, 2, 3], [4, 5, 6]], np.float32), np.array([[1, 2, 3], [250, 0, 9]], np.uint8)
    cloud = cloud_message(Header(frame_id="map"), points, colors, np.array([7, 70_000]))
    fields = {field.name: (field.offset, field.datatype, field.count) for field in cloud.fields}
    real, whole = PointField.FLOAT32, PointField.UINT32
    assert fields == {
        "x": (0, real, 1), "y": (4, real, 1), "z": (8, real, 1), "rgb": (12, real, 1), "id": (16, whole, 1)
    }  # fmt: skip
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (1, 2, 20, 40)
    assert len(cloud.data) == cloud.row_step and not cloud.is_bigendian
    rows = np.frombuffer(bytes(cloud.data), np.uint8).reshape(2, 20)
    assert rows[:, 12:16].tolist() == [[3, 2, 1, 0], [9, 0, 250, 0]]  # blue first: 0x00RRGGBB, little endian
    for one, other in zip(cloud_arrays(cloud), (points, colors, [7, 70_000]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_ids_that_do_not_fit_a_label_image_are_not_those_of_others():
    unlabelled = LabelInfo.UNLABELLED
    labels = np.array([[0, 1, unlabelled - 1, unlabelled, unlabelled + 1, unlabelled + 2, 2**20 + 3]], np.uint32)
    message = label_message(Header(), labels)
    assert np.frombuffer(bytes(message.data), "<u2").tolist() == [unlabelled, 1, unlabelled - 1] + [unlabelled] * 4
    assert (message.encoding, message.height, message.width, message.step) == ("mono16", 1, 7, 14)


def test_a_mask_is_white_inside():
    message = mask_message(Header(), np.array([[True, False, True]]))
    assert (message.encoding, bytes(message.data)) == ("mono8", b"\xff\x00\xff")
