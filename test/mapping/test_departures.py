"""Objects that were carried away, seen by depth that looks through them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lift_ros.camera import Camera, PosedCamera
from lift_ros.config import Config
from lift_ros.demo.room import Room
from lift_ros.frame import Frame
from lift_ros.mapping.departures import CONFIRMED, Departures
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import frame_labels
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.masks.base import Masks
from lift_ros.options import with_values
from lift_ros.scene.gaussians import GaussianScene, Seeds

CAMERA = Camera(80, 60, 70.0, 70.0, 40.0, 30.0)
WALL, BALL = 1, 2  # ids; the wall is 3 m away, of the balls the first 2 m, in front of it
AHEAD = PosedCamera(CAMERA, torch.eye(4))


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
        opacities[len(parts[0]) :] = 0.1
    scene = GaussianScene.empty()
    turn = torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1)
    scene.append(Seeds(means, turn, torch.full((n, 3), 0.02), opacities, torch.full((n, 3), 0.5)))
    ids = torch.cat([torch.full((len(part),), WALL + k) for k, part in enumerate(parts)])
    return MapSnapshot(scene, ids, torch.zeros(n))


def depth(*balls: tuple[float, float]) -> NDArray[np.float32]:
    """What a sensor measures of the wall with these balls."""
    measured = np.full((60, 80), 3.0, np.float32)
    for x, y in balls:
        column, row, half = 40 + 35 * x, 30 + 35 * y, 35 * 0.17
        rows, columns = slice(round(row - half), round(row + half)), slice(round(column - half), round(column + half))
        measured[rows, columns] = 2.0
    return measured


MIDDLE, SIDE = (0.0, 0.0), (0.6, 0.2)


def test_what_depth_looks_through_is_gone():
    departures, before = Departures(), known(MIDDLE, SIDE)
    for _ in range(CONFIRMED - 1):
        assert departures.look(before, AHEAD, depth(SIDE)) == []
    assert departures.look(before, AHEAD, depth(SIDE)) == [BALL]
    assert departures.look(known(SIDE), AHEAD, depth(SIDE)) == []


def test_what_is_in_its_place_or_hidden_is_not():
    hidden = depth(MIDDLE, SIDE)
    hidden[20:40, 30:50] = 1.0  # a hand in front of it
    unknown = np.where(depth() == depth(MIDDLE), depth(SIDE), 0)  # black or shiny: nothing was measured there
    for measured in (depth(MIDDLE, SIDE), hidden, unknown):
        departures = Departures()
        assert not any(departures.look(known(MIDDLE, SIDE), AHEAD, measured) for _ in range(3 * CONFIRMED))


def test_who_is_seen_in_its_place_in_between_is_not_gone():
    departures, before = Departures(), known(MIDDLE, SIDE)
    for measured in [*[depth(SIDE)] * (CONFIRMED - 1), depth(MIDDLE, SIDE)] * 3:
        assert departures.look(before, AHEAD, measured) == []


def test_a_look_away_in_between_changes_nothing():
    departures, before = Departures(), known(MIDDLE, SIDE)
    turned = torch.eye(4)
    turned[0, 0] = turned[2, 2] = -1
    for _ in range(CONFIRMED - 1):
        assert departures.look(before, AHEAD, depth(SIDE)) == []
        assert departures.look(before, PosedCamera(CAMERA, turned), depth()) == []
    assert departures.look(before, AHEAD, depth(SIDE)) == [BALL]


def test_a_look_past_the_edge_of_a_wall_tells_nothing_of_it():
    """Through an open door, most of what is seen of the wall around it may be looked through."""
    beside = torch.eye(4)
    beside[0, 3] = -2.4
    departures, before = Departures(), known(SIDE)
    measured = np.full((60, 80), 6.0, np.float32)
    assert not any(departures.look(before, PosedCamera(CAMERA, beside), measured) for _ in range(3 * CONFIRMED))


@pytest.mark.parametrize("nearer", [0.3, 0.6])
def test_a_wrong_pose_makes_nothing_go(nearer):
    """The camera is farther back than its pose says: it sees behind everything."""
    departures, before = Departures(), known(MIDDLE, SIDE)
    assert not any(departures.look(before, AHEAD, depth(MIDDLE, SIDE) + nearer) for _ in range(3 * CONFIRMED))


def test_things_do_not_all_go_at_once():
    balls = [(-0.6, -0.4), (-0.6, 0.4), MIDDLE, SIDE]
    departures = Departures()
    assert not any(departures.look(known(*balls), AHEAD, depth()) for _ in range(3 * CONFIRMED))
    gone = [departures.look(known(*balls), AHEAD, depth(*balls[1:])) for _ in range(CONFIRMED)]
    assert gone[-1] == [BALL]


def test_what_is_hardly_there_is_not_asked_about():
    departures = Departures()
    assert not any(departures.look(known(MIDDLE, faint=True), AHEAD, depth()) for _ in range(CONFIRMED + 1))


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
    camera, segmenter = Camera(160, 120, 136.0, 136.0, 80.0, 60.0), TrueMasks()
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
