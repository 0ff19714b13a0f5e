"""The demo room: its truth must be exact, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("embreex", reason="needs the demo extra")

from lift_ros.camera import Camera
from lift_ros.data import open_capture
from lift_ros.demo.__main__ import main
from lift_ros.demo.generate import MASK_TOPIC, TRUTH_TOPIC, generate
from lift_ros.demo.path import handheld_path
from lift_ros.demo.report import PLAN_HALF_WIDTH
from lift_ros.demo.room import FLOOR_RADIUS, HALF_WIDTH, HEIGHT, Room
from lift_ros.errors import DatasetError

CAMERA = Camera(200, 150, 170.0, 170.0, 100.0, 75.0)


@pytest.fixture(scope="module")
def room() -> Room:
    return Room(seed=1, objects=10)


@pytest.fixture(scope="module")
def views(room):
    poses = handheld_path(30, seed=1)[::10]
    return poses, [room.render(CAMERA, pose) for pose in poses]


def world_points(view, pose) -> np.ndarray:
    return CAMERA.unproject(view.depth) @ pose[:3, :3].T + pose[:3, 3]


def test_every_surface_is_where_the_room_says(room, views):
    for pose, view in zip(*views, strict=True):
        points = world_points(view, pose)
        for placed in room.objects:
            own = points[view.instances == placed.id]
            assert (np.abs(own - placed.center) <= placed.size / 2 + 1e-3).all(), placed.name
        walls = points[view.instances == 0]
        distance = np.stack([HALF_WIDTH - np.abs(walls[:, 0]), HALF_WIDTH - np.abs(walls[:, 1]), walls[:, 2]], -1)
        distance = np.minimum(np.abs(distance).min(1), np.abs(HEIGHT - walls[:, 2]))
        assert distance.max() < 1e-3


def test_depth_instances_and_colour_agree_between_views(views):
    poses, rendered = views
    first, second = rendered[0], rendered[1]
    T = np.linalg.inv(poses[1]) @ poses[0]
    points = CAMERA.unproject(first.depth).reshape(-1, 3) @ T[:3, :3].T + T[:3, 3]
    pixels, z = CAMERA.project(points)
    inside = (z > 0) & (pixels > 1).all(1) & (pixels < (CAMERA.width - 1, CAMERA.height - 1)).all(1)
    column, row = pixels[inside].astype(int).T
    visible = np.abs(second.depth[row, column] - z[inside]) < 0.01 * z[inside]
    assert inside.mean() > 0.4 and visible.mean() > 0.8
    same = second.instances[row, column] == first.instances.reshape(-1)[inside]
    assert same[visible].mean() > 0.98
    off = np.abs(second.image[row, column].astype(int) - first.image.reshape(-1, 3)[inside])
    assert np.median(off[visible]) < 12  # diffuse: a point looks the same from everywhere


def test_objects_stand_on_something_and_apart(room):
    table, others = room.objects[0], room.objects[1:]
    assert len(room.objects) == 10 and table.name == "table"
    for placed in others:
        foot = placed.center[2] - placed.size[2] / 2
        assert min(abs(foot), abs(foot - (table.center[2] + table.size[2] / 2))) < 1e-6
        assert np.linalg.norm(placed.center[:2]) < FLOOR_RADIUS + 0.2


def test_most_objects_are_seen_and_the_picture_has_texture(room, views):
    seen = set(np.unique(np.stack([view.instances for view in views[1]]))) - {0}
    assert len(seen) >= 8
    image = views[1][0].image
    assert 60 < image.mean() < 190 and image.std() > 25


def test_same_seed_same_room(views):
    again = Room(seed=1, objects=10).render(CAMERA, views[0][1])
    np.testing.assert_array_equal(again.image, views[1][1].image)
    np.testing.assert_array_equal(again.instances, views[1][1].instances)


def test_a_larger_room_for_more_objects():
    room = Room(seed=0, objects=90)
    reach = [np.abs(placed.center[:2]) + placed.size[:2] / 2 for placed in room.objects]
    assert np.max(reach) < PLAN_HALF_WIDTH * room.size
    assert len(room.objects) == 90 and room.size > 1.5
    assert max(np.abs(placed.center[:2]).max() for placed in room.objects) > 1.2 * FLOOR_RADIUS
    poses = handheld_path(80, seed=0, size=room.size)
    assert (np.abs(poses[:, :2, 3]) < HALF_WIDTH * room.size).all()
    shown = {int(i) for pose in poses[::8] for i in np.unique(room.render(CAMERA, pose).instances)}
    assert len(shown) > 45


def test_too_many_objects(monkeypatch):
    monkeypatch.setattr("lift_ros.demo.room.ROOMY", 90)
    with pytest.raises(ValueError, match="no place in the room for 90 objects"):
        Room(seed=0, objects=90)


def test_a_room_that_fails_leaves_nothing(tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr("lift_ros.demo.room.ROOMY", 90)
        with pytest.raises(ValueError, match="no place"):
            generate(tmp_path / "out", frames=1, objects=90)
    with pytest.raises(ValueError, match="image size"):
        generate(tmp_path / "out", frames=1, size=(0, 60), objects=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--frames", "0"], "one frame at least, not 0"),
        (["--rate", "0"], "above 0 frames a second and finite, got 0"),
        (["--rate", "nan"], "above 0 frames a second and finite, got nan"),
    ],
)
def test_no_recording(tmp_path, monkeypatch, capsys, arguments, complaint):
    monkeypatch.setattr("sys.argv", ["demo", str(tmp_path / "out"), *arguments])
    assert main() == 1
    printed = capsys.readouterr().err
    assert complaint in printed and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_path_is_smooth_and_rigid():
    poses = handheld_path(100, rate=10.0)
    R = poses[:, :3, :3]
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.tile(np.eye(3), (100, 1, 1)), atol=1e-9)
    assert (np.linalg.det(R) > 0).all()
    speed = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) * 10
    assert speed.min() > 0.2 and speed.max() < 1.5
    assert (np.abs(poses[:, :2, 3]) < HALF_WIDTH).all()
    assert (poses[:, 2, 1] < -0.5).all()  # the image's down is the world's down


def test_capture_and_bag_hold_the_same(tmp_path, room):
    done = []
    demo = generate(
        tmp_path, frames=3, size=(80, 60), seed=3, objects=10, mask_level="L2", progress=lambda *p: done.append(p)
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert [o.name for o in demo.room.objects] != [o.name for o in room.objects]  # another seed
    capture, bag = open_capture(demo.capture), open_capture(demo.bag)
    assert set(capture.recorded_names) == {"L0", "L1", "L2", "parts", "instances"}
    assert set(bag.recorded_names) == {MASK_TOPIC, TRUTH_TOPIC}
    for one, other in zip(capture.frames, bag.frames, strict=True):
        np.testing.assert_allclose(one.T_world_camera, other.T_world_camera, atol=1e-6)
        np.testing.assert_array_equal(one.depth, other.depth)
        assert one.camera == other.camera
        for name, topic in (("L2", MASK_TOPIC), ("instances", TRUTH_TOPIC)):
            np.testing.assert_array_equal(capture.recorded_labels(name, one), bag.recorded_labels(topic, other))
    with pytest.raises(DatasetError, match="already"):
        generate(tmp_path, frames=1)
