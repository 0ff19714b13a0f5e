"""A synthetic room: what a trained indoor scene looks like to a rasterizer, with objects that are cells of space."""

from __future__ import annotations

import math

import numpy as np
import torch

from lift_ros.camera import Camera, PosedCamera
from lift_ros.frame import Frame
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.render import Splats
from lift_ros.scene.gaussians import GaussianScene, Seeds

ROOM = torch.tensor([5.0, 2.6, 4.0])  # metres; y points down, as in the camera
OBJECTS = 50  # of a room
GAP = 2.0  # rooms from one to the next
AT_ONCE = 100_000  # Gaussians whose cell is found


def room(n: int, channel_count: int, seed: int = 0) -> tuple[Splats, torch.Tensor]:
    """``n`` discs on the surfaces of a furnished room: what a trained indoor scene looks like to a rasterizer; and
    random channels (n, ``channel_count``) in [0, 1] for them.
    """
    g = torch.Generator().manual_seed(seed)
    origins, sizes = [torch.zeros(3)], [ROOM]
    for _ in range(8):  # boxes on the floor
        size = 0.25 + 0.75 * torch.rand(3, generator=g)
        origin = 0.5 + torch.rand(3, generator=g) * (ROOM - 1)
        origin[1] = ROOM[1] - size[1]
        origins.append(origin)
        sizes.append(size)
    origins, sizes = torch.stack(origins), torch.stack(sizes)

    # Points uniform over the area of the six faces of every box.
    areas = torch.stack([sizes[:, (axis + 1) % 3] * sizes[:, (axis + 2) % 3] for axis in range(3)], 1)
    face = torch.multinomial(areas.flatten(), n, replacement=True, generator=g)
    box, axis = face // 3, face % 3
    side = torch.randint(0, 2, (n,), generator=g).float()
    means = origins[box] + torch.rand(n, 3, generator=g) * sizes[box]
    rows = torch.arange(n)
    means[rows, axis] = origins[box, axis] + side * sizes[box, axis]

    # Discs a little smaller than their spacing, flat along the face's normal.
    spacing = math.sqrt(2 * float(areas.sum()) / n)
    scales = 0.9 * spacing * torch.exp(0.35 * torch.randn(n, 3, generator=g))
    scales[:, 2] *= 0.15
    half_turn = math.pi / 4
    z_to_axis = torch.tensor([[0, 1, 0], [-1, 0, 0], [0, 0, 0]]) * math.sin(half_turn)
    to_normal = torch.cat([torch.tensor([math.cos(half_turn)] * 2 + [1.0])[:, None], z_to_axis], 1)[axis]
    angle = torch.rand(n, generator=g) * math.pi
    w, x, y, _ = to_normal.unbind(1)
    c, s = angle.cos(), angle.sin()
    quats = torch.stack([w * c, x * c + y * s, y * c - x * s, w * s], 1)  # first about z, then z to the normal
    opacities = torch.sigmoid(1.5 + 1.5 * torch.randn(n, generator=g))
    return Splats(means, quats, scales, opacities), torch.rand(n, channel_count, generator=g)


def camera(width: int, height: int) -> PosedCamera:
    """In a corner of the room, looking across it."""
    eye, target = torch.tensor([0.6, 1.1, 0.5]), torch.tensor([3.4, 1.5, 3.0])
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), forward), dim=0)
    viewmat = torch.eye(4)
    viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat[:3, 3] = -viewmat[:3, :3] @ eye
    return PosedCamera(Camera(width, height, 0.8 * width, 0.8 * width, width / 2, height / 2), viewmat)


def house(per_room: int, rooms: int = 1, device: torch.device | str = "cpu") -> MapSnapshot:
    """``rooms`` equal rooms of ``per_room`` Gaussians in a row, away from the gaze of ``camera``; ids count from 1."""
    made, colors = room(per_room, 3)
    cells = objects(made.means)
    scene = GaussianScene.empty()
    for number in range(rooms):
        means = made.means - number * GAP * torch.tensor([float(ROOM[0]), 0.0, float(ROOM[2])])
        scene.append(Seeds(*made._replace(means=means), colors))
    ids = torch.cat([cells + number * OBJECTS for number in range(rooms)])
    return MapSnapshot(scene.to(device), ids.to(device), torch.zeros(len(scene), device=device))


def objects(means: torch.Tensor) -> torch.Tensor:
    """(N,) object of each Gaussian, from 1 on: the nearest of some of them. What is side by side belongs together."""
    chosen = torch.randperm(len(means), generator=torch.Generator().manual_seed(1))[:OBJECTS]
    return torch.cat([torch.cdist(some, means[chosen]).argmin(1) for some in means.split(AT_ONCE)]) + 1


def frame(view: MapSnapshot, posed: PosedCamera) -> Frame:
    """What a camera sees of a map."""
    rendering = view.render(posed)
    pose = np.linalg.inv(posed.viewmat.double().cpu().numpy())
    image = (255 * rendering.image).byte().cpu().numpy()
    return Frame(image, posed.intrinsics, pose, 0.0, rendering.depth.cpu().numpy())
