"""Objects that were carried away, seen by depth that looks through them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lift_ros.camera import Camera, PosedCamera
from lift_ros.config import Config
from lift_ros.demo.room import Room
from lift_ros.frame import Frame
from lift_ros.mapping.departures import CONFIRMED, FORGOTTEN, LASTING, Departures
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import frame_labels
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.masks.base import Masks
from lift_ros.options import with_values
from lift_ros.scene.gaussians import GaussianScene, Seeds

CAMERA = Camera(80, 60, 70.0, 70.0, 40.0, 30.0)
WALL, BALL = 1, 2  # ids; the wall is 3 m away, of the balls the first 2 m, in front of it
AHEAD = PosedCamera(CAMERA, torch.eye(4))
WIDE = Camera(160, 120, 136.0, 136.0, 80.0, 60.0)


def patch(x: float, y: float, z: float, size: float, count: int) -> torch.Tensor:
    """(count**2, 3) points of a square that faces the camera."""
    along = torch.linspace(-size / 2, size / 2, count)
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x + columns.reshape(-1), y + rows.reshape(-1), torch.full((count**2,), z)], 1)


def known(*balls: tuple[float, float], faint: bool = False) -> MapSnapshot:
    """A wall, and balls at these places in front of it."""
    parts = [patch(0, 0, 3.0, 3.6, 40)] + [patch(x, y, 2.0, 0.3, 8) for x, y in balls]
    means = torch.cat(parts)
    n = len(means)
    opacities = torch.full((n,), 0.9)
    if faint:
        opacities[len(parts[0]) : len(parts[0]) + len(parts[1])] = 0.1
    scene = GaussianScene.empty()
    turn = torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1)
    scales = torch.cat([torch.full((len(part), 3), 0.06 if part is parts[0] else 0.025) for part in parts])
    scene.append(Seeds(means, turn, scales, opacities, torch.full((n, 3), 0.5)))
    ids = torch.cat([torch.full((len(part),), WALL + k) for k, part in enumerate(parts)])
    return MapSnapshot(scene, ids, torch.zeros(n))


def depth(*balls: tuple[float, float], wall: float = 3.0) -> NDArray[np.float32]:
    """What a sensor measures of the wall with these balls."""
    measured = np.full((60, 80), wall, np.float32)
    for x, y in balls:
        column, row, half = 40 + 35 * x, 30 + 35 * y, 35 * 0.17
        rows, columns = slice(round(row - half), round(row + half)), slice(round(column - half), round(column + half))
        measured[rows, columns] = 2.0
    return measured


MIDDLE, SIDE = (0.0, 0.0), (0.6, 0.2)
BALLS = (MIDDLE, SIDE, (-0.6, -0.4), (-0.6, 0.4))


class Watch:
    """Departures from a map with these balls, with a frame each second; ``faint``: the first is hardly there."""

    def __init__(self, *balls: tuple[float, float], faint: bool = False, interval: float = 1.0) -> None:
        self.known, self.departures = known(*balls, faint=faint), Departures()
        self.interval, self.stamp = interval, 0.0

    def look(self, measured: NDArray[np.float32], camera: PosedCamera = AHEAD) -> list[int]:
        self.stamp += self.interval
        rendering = self.known.render(camera)
        return self.departures.look(self.known, camera, rendering, measured, self.stamp)

    def ever(self, measured: NDArray[np.float32], camera: PosedCamera = AHEAD) -> list[int]:
        """What goes in many such frames."""
        return [i for _ in range(3 * CONFIRMED) for i in self.look(measured, camera)]


def moved(**by: float) -> PosedCamera:
    """The camera aside (x), up (y) or turned (yaw, radians)."""
    viewmat = torch.eye(4)
    c, s = np.cos(by.get("yaw", 0.0)), np.sin(by.get("yaw", 0.0))
    viewmat[:3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    viewmat[:3, 3] = torch.tensor([by.get("x", 0.0), by.get("y", 0.0), 0.0])
    return PosedCamera(CAMERA, viewmat)


def test_what_depth_looks_through_is_gone():
    watch = Watch(*BALLS)
    for _ in range(CONFIRMED - 1):
        assert watch.look(depth(*BALLS[1:])) == []
    assert watch.look(depth(*BALLS[1:])) == [BALL]
    watch.known = known(*BALLS[1:])
    assert watch.ever(depth(*BALLS[1:])) == []


def test_many_frames_of_one_moment_tell_no_more_than_one():
    """A localisation that slips for a tenth of a second."""
    watch = Watch(*BALLS, interval=LASTING / 30)
    assert not any(watch.look(depth(*BALLS[1:])) for _ in range(25))
    assert any(watch.look(depth(*BALLS[1:])) for _ in range(10))


def test_what_was_missed_long_ago_does_not_count():
    watch = Watch(*BALLS)
    for _ in range(CONFIRMED - 1):
        watch.look(depth(*BALLS[1:]))
    watch.stamp += FORGOTTEN
    assert watch.look(depth(*BALLS[1:])) == []


def test_what_is_in_its_place_or_hidden_is_not_gone():
    hidden = depth(*BALLS)
    hidden[20:40, 30:50] = 1.0  # a hand in front of it
    unknown = np.where(depth() == depth(MIDDLE), depth(*BALLS[1:]), 0)  # black or shiny: nothing was measured there
    for measured in (depth(*BALLS), hidden, unknown):
        assert Watch(*BALLS).ever(measured) == []


def test_who_is_seen_in_its_place_in_between_is_not_gone():
    watch = Watch(*BALLS)
    for measured in [*[depth(*BALLS[1:])] * (CONFIRMED - 1), depth(*BALLS)] * 3:
        assert watch.look(measured) == []


def test_a_look_away_in_between_changes_nothing():
    watch = Watch(*BALLS)
    for _ in range(CONFIRMED - 1):
        assert watch.look(depth(*BALLS[1:])) == []
        assert watch.look(depth(), moved(yaw=np.pi)) == []
    assert watch.look(depth(*BALLS[1:])) == [BALL]


def test_a_look_past_the_edge_of_a_wall_tells_nothing_of_it():
    """Through an open door, most of what is seen of the wall around it may be looked through."""
    assert Watch((1.9, 0.2)).ever(depth((-0.5, 0.2), wall=6.0), moved(x=-2.4)) == []


@pytest.mark.parametrize(
    "camera",
    [
        moved(x=0.15),
        moved(x=-0.15),
        moved(x=0.4),
        moved(y=0.2),
        moved(yaw=0.06),
        moved(yaw=-0.06),
        moved(yaw=0.12),
        moved(yaw=0.3),
    ],
)
@pytest.mark.parametrize("balls", [BALLS, (MIDDLE,)])
def test_a_wrong_pose_makes_nothing_go(camera, balls):
    assert Watch(*balls).ever(depth(*balls), camera) == []


def test_nothing_goes_where_others_are_looked_through_in_part():
    measured = depth(*BALLS[1:])
    for x, y in BALLS[1:]:
        measured[round(30 + 35 * y - 6) : round(30 + 35 * y + 6), round(40 + 35 * x) : round(40 + 35 * x + 6)] = 3.0
    assert Watch(*BALLS).ever(measured) == []


@pytest.mark.parametrize("off", [0.3, 0.6, -0.3])
def test_a_pose_that_is_too_near_or_too_far_makes_nothing_go(off):
    assert Watch(*BALLS).ever(depth(*BALLS) + off) == []


def test_things_do_not_all_go_at_once():
    assert Watch(*BALLS).ever(depth()) == []
    assert set(Watch(*BALLS).ever(depth(*BALLS[2:]))) == {BALL, BALL + 1}


def test_what_is_hardly_there_is_not_asked_about():
    assert Watch(*BALLS, faint=True).ever(depth(*BALLS[1:])) == []


def test_unlabelled_things_do_not_go():
    watch = Watch(*BALLS)
    watch.known = replace(watch.known, ids=torch.where(watch.known.ids == BALL, 0, watch.known.ids))
    assert watch.ever(depth(*BALLS[1:])) == []


class TrueMasks:
    """Those of the frame that was rendered last."""

    name = "true"
    promptable = False
    labels: NDArray

    def segment(self, frame: Frame, prompts=None) -> Masks:
        return Masks.from_label_image(self.labels)


def test_a_map_forgets_what_was_carried_away(demo_room):
    """A can on the table, in the second half of a walk round it."""
    room = demo_room.room
    can = next(item for item in room.objects if item.name == "can")
    camera, segmenter = WIDE, TrueMasks()
    mapper = Mapper(with_values(Config(), {"mapping.image_width": 160, "mapping.photometric_steps": 4}), segmenter)

    def walk(room: Room, angles: NDArray, start: float) -> list[tuple[str, int]]:
        events = []
        for k, angle in enumerate(angles):
            view = room.render(camera, looking_at(can.center, angle))
            segmenter.labels = view.instances
            mapper.process(Frame(view.image, camera, looking_at(can.center, angle), start + k, view.depth, str(k)))
            while mapper.step():
                pass
            events += [(event.type, event.id) for event in mapper.update_objects()]
        return events

    walk(room, np.linspace(0.0, 0.8, 6), 0.0)
    points, ids = mapper.snapshot.surfaces
    inside = (np.abs(points.numpy() - can.center) < can.size / 2 + 0.02).all(1)
    known = int(np.bincount(ids[inside]).argmax())
    before = {track.id for track in mapper.snapshot.tracks}
    events = walk(room.without(can.id), np.linspace(0.1, 0.9, 8), 100.0)
    assert ("retire", known) in events
    assert {i for kind, i in events if kind == "retire"} <= {known} | {i for kind, i in events if kind == "birth"}
    assert before - {known} <= {track.id for track in mapper.snapshot.tracks}
    view = room.render(camera, looking_at(can.center, 0.5))
    frame = Frame(view.image, camera, looking_at(can.center, 0.5), 200.0, view.depth)
    assert not (frame_labels(mapper, frame) == known).any()


def looking_at(target: NDArray, angle: float) -> NDArray[np.float64]:
    """(4, 4) pose of a camera 0.8 m from a point, a little above it."""
    eye = target + 0.8 * np.array([np.cos(angle), np.sin(angle), 0.35])
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    T[:3, 3] = eye
    return T


def test_departures_may_be_switched_off(demo_room):
    config = with_values(Config(), {"mapping.image_width": 160, "mapping.drop_departed": False})
    mapper = Mapper(config, TrueMasks())
    mapper._departures = None  # nobody asks it
    view = demo_room.room.render(WIDE, looking_at(np.zeros(3), 0.0))
    mapper.segmenter.labels = view.instances
    assert mapper.process(Frame(view.image, WIDE, looking_at(np.zeros(3), 0.0), 0.0, view.depth))
