"""A small room with a table and objects on and round it, ray traced: colour, depth and instances, all exact.

Light is diffuse and static, so that every point looks the same from everywhere, as the scene model assumes.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.demo import objects as catalogue
from lift_ros.demo import textures as tx
from lift_ros.demo.meshes import Mesh, quad

HALF_WIDTH, HEIGHT = 1.9, 2.5  # of the room, metres
FLOOR_RADIUS = 1.15  # objects stand within this distance of the middle
OBJECTS = 14  # in a room, unless another number is asked for
ROOMY = 17  # objects for which that is enough: a room for more has a larger floor, see ``Room.size``
CLEARANCE = 0.02  # between objects, metres
LAMP, LAMP_HALF_WIDTH = np.array([0.35, -0.25, HEIGHT - 0.15]), 0.22
LAMP_CORNERS = LAMP + LAMP_HALF_WIDTH * np.array([(-1, -1, 0), (1, -1, 0), (-1, 1, 0), (1, 1, 0)])
LAMP_GRID = LAMP + LAMP_HALF_WIDTH * np.array([(x, y, 0) for x in (-1, 0, 1) for y in (-1, 0, 1)])
LIGHT_MAP = 256  # points a side of a wall that light is worked out for
AMBIENT, POWER = 0.4, 3.2
TRIES = 1000  # at a place for an object
EDGE_SAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))  # of a pixel, where surfaces meet


@dataclass(frozen=True)
class PlacedObject:
    """An object of the room. ``id`` as in the instance images; ``size`` of its box along the world's axes and its
    ``center``, metres.
    """

    id: int
    name: str
    center: NDArray[np.float64]
    size: NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """A rendered picture: ``image`` (H, W, 3) uint8 RGB, ``depth`` (H, W) float32 z-depth in metres, ``instances``
    (H, W) uint16 object ids, 0 for the room itself, and ``parts`` (H, W) uint16 of what the objects are made of.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instances: NDArray[np.uint16]
    parts: NDArray[np.uint16]


class Room:
    """A random room, the same for the same seed. World frame: z up, origin in the middle of the floor.

    Attributes:
        objects: what stands in it.
        size: widths of the room and of the floor that objects stand on are this many times the usual.
    """

    def __init__(self, seed: int = 0, objects: int = OBJECTS) -> None:
        """Furnish the room with a table and ``objects`` - 1 other objects.

        Raises:
            ValueError: there is no place for so many objects, or there are none.
            ImportError: embreex is not installed (the ``demo`` extra).
        """
        if objects < 1:
            raise ValueError(f"a room has one object at least, the table, not {objects}")
        rng = np.random.default_rng(seed)
        self.size = max(1.0, (objects / ROOMY) ** 0.5)
        self.objects: list[PlacedObject] = []
        self._meshes: list[Mesh] = []
        self._instances: list[int] = []
        self._textures: list[tx.Texture] = []
        self._furnish(rng, objects)
        self._add_walls(rng)
        self._build()

    def without(self, object_id: int) -> Room:
        """The same room, from which an object was carried away."""
        left = copy(self)
        kept = [part for part, instance in enumerate(self._instances) if instance != object_id]
        left.objects = [item for item in self.objects if item.id != object_id]
        left._meshes = [self._meshes[part] for part in kept]
        left._textures = [self._textures[part] for part in kept]
        left._instances = [self._instances[part] for part in kept]
        left._build()
        return left

    def render(self, camera: Camera, T_world_camera: NDArray) -> View:
        """Ray trace a view; edges are antialiased in the image only."""
        height, width = camera.height, camera.width
        v, u = np.mgrid[0:height, 0:width] + 0.5
        pixels = np.stack([u.ravel(), v.ravel()], axis=-1)
        color, depth, face = self._trace(camera, T_world_camera, pixels)

        surface = (self._part[face] + 1) * (face >= 0)
        edges = np.flatnonzero(_edges(surface.reshape(height, width), depth.reshape(height, width)))
        samples = [self._trace(camera, T_world_camera, pixels[edges] + offset)[0] for offset in EDGE_SAMPLES]
        color[edges] = np.mean(samples, axis=0)

        image = tx.from_linear(color)
        instances = np.where(face >= 0, self._instance_of_part[self._part[face]], 0)
        parts = np.where(instances > 0, self._part[face] + 1, 0)
        return View(
            image.reshape(height, width, 3),
            depth.reshape(height, width).astype(np.float32),
            instances.reshape(height, width).astype(np.uint16),
            parts.reshape(height, width).astype(np.uint16),
        )

    def _trace(self, camera: Camera, T: NDArray, pixels: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Linear colours (N, 3), z-depth (N,) and triangles (N,) seen at pixel positions (N, 2)."""
        rays = np.ones((len(pixels), 3), np.float32)  # of unit depth, so that the distance traced is the depth
        rays[:, :2] = (pixels - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
        rays = rays @ T[:3, :3].T.astype(np.float32)
        origin = np.tile(T[:3, 3].astype(np.float32), (len(rays), 1))
        hit = self._scene.run(origin, rays, output=True)
        face, depth = hit["primID"], np.where(hit["primID"] >= 0, hit["tfar"], 0)

        weights = np.stack([1 - hit["u"] - hit["v"], hit["u"], hit["v"]], axis=-1)
        uv = np.einsum("nk,nkd->nd", weights, self._uv[face])
        length = np.linalg.norm(rays, axis=1)
        slope = np.maximum(np.abs((self._flat_normals[face] * rays).sum(1)) / length, 0.2)
        footprint = depth * length / camera.fx * self._uv_per_metre[face] / np.sqrt(slope)
        color = self._atlas.sample(self._part[face], uv, footprint)

        shaded = np.flatnonzero(self._instance_of_part[self._part[face]] > 0)  # the room's light is in its textures
        normal = np.einsum("nk,nkd->nd", weights[shaded], self._normals[face[shaded]])
        normal[(normal * rays[shaded]).sum(1) > 0] *= -1  # insides of open shapes
        points = origin[shaded] + depth[shaded, None] * rays[shaded]
        color[shaded] *= self._light(points, normal, LAMP_CORNERS)[:, None]
        color[face < 0] = 0
        return color, depth, face

    def _light(self, points: NDArray, normals: NDArray, lamp: NDArray) -> NDArray[np.float32]:
        """Irradiance (N,): from all sides, and from points (L, 3) of the lamp where they are not hidden."""
        light = AMBIENT * (0.75 + 0.25 * normals[:, 2])
        start = (points + 2e-3 * normals).astype(np.float32)
        for source in lamp.astype(np.float32):
            to_lamp = source - start
            distance = np.linalg.norm(to_lamp, axis=1)
            cosine = (to_lamp * normals).sum(1) / distance
            lit = np.flatnonzero(cosine > 0)
            # tfar counts in lengths of the ray's direction: 1 is the lamp
            reach = np.full(len(lit), 0.99, np.float32)
            lit = lit[self._scene.run(start[lit], to_lamp[lit], dists=reach, query="OCCLUDED") < 0]
            light[lit] += self.size**2 * POWER / len(lamp) * cosine[lit] / distance[lit] ** 2
        return light.astype(np.float32)

    def _baked(self, wall: Mesh, texture: tx.Texture) -> tx.Texture:
        """The texture of a wall (``quad``) with the light that falls on it, soft shadows of the objects included."""
        axis = (np.arange(LIGHT_MAP) + 0.5) / LIGHT_MAP
        upper_left, lower_left, upper_right = wall.corners[0]
        across, down = upper_right - upper_left, lower_left - upper_left
        points = (upper_left + axis[None, :, None] * across + axis[:, None, None] * down).reshape(-1, 3)
        light = self._light(points, np.broadcast_to(wall.normals[0, 0], points.shape), LAMP_GRID)
        light = cv2.resize(light.reshape(LIGHT_MAP, LIGHT_MAP), texture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return tx.from_linear(tx.to_linear(texture) * light[..., None])

    def _add_walls(self, rng: Generator) -> None:
        w, h = HALF_WIDTH * self.size, HEIGHT
        paint = [tx.hue(rng.random(), 0.25, 0.85) for _ in range(3)]
        surfaces = [
            (quad((-w, -w, 0), (2 * w, 0, 0), (0, 2 * w, 0)), tx.floor(rng)),
            (quad((-w, w, h), (2 * w, 0, 0), (0, -2 * w, 0)), tx.speckled(rng, (225, 222, 215), 512)),
            (quad((-w, w, 0), (2 * w, 0, 0), (0, 0, h)), tx.bricks(rng, (172, 96, 74))),
            (quad((w, w, 0), (0, -2 * w, 0), (0, 0, h)), tx.plaster(rng, paint[0])),
            (quad((w, -w, 0), (-2 * w, 0, 0), (0, 0, h)), tx.plaster(rng, paint[1])),
            (quad((-w, -w, 0), (0, 2 * w, 0), (0, 0, h)), tx.plaster(rng, paint[2])),
        ]
        for mesh, texture in surfaces:
            self._add_part(mesh, texture, 0)

    def _furnish(self, rng: Generator, count: int) -> None:
        yaw = rng.uniform(0, np.pi)
        self._place(catalogue.table(rng), _pose(0, 0, 0, yaw))
        x, y, z = catalogue.TABLE_SIZE
        taken: list[tuple[float, float, float]] = []
        for make in _pick(rng, catalogue.SMALL, min((count - 1) * 2 // 5, 6)):
            model = make(rng)
            radius = _radius(model)
            for _ in range(TRIES):
                at = rng.uniform((-x / 2, -y / 2), (x / 2, y / 2))
                if np.all(np.abs(at) + 0.8 * radius < (x / 2, y / 2)) and _is_free(at, radius, taken):
                    taken.append((*at, radius))
                    self._place(model, _pose(0, 0, 0, yaw) @ _pose(*at, z, rng.uniform(0, 2 * np.pi)))
                    break
        # what found no place on the table is made up for on the floor, which keeps clear of the table
        taken = [(0.0, 0.0, float(np.hypot(x, y)) / 2)]
        kinds = catalogue.LARGE if self.size == 1 else catalogue.LARGE + catalogue.SMALL
        for make in _pick(rng, kinds, count - len(self.objects)):
            model = make(rng)
            T = np.eye(4)
            if model.lies and rng.random() < 0.5:
                T[:3, :3] = cv2.Rodrigues(np.array([np.pi / 2, 0.0, 0.0]))[0]
            radius = _radius(model, T)
            for _ in range(TRIES):
                angle, distance = (
                    rng.uniform(0, 2 * np.pi),
                    FLOOR_RADIUS * self.size * np.sqrt(rng.uniform(0.2 / self.size**2, 1)),
                )
                at = distance * np.array([np.cos(angle), np.sin(angle)])
                if _is_free(at, radius, taken):
                    taken.append((*at, radius))
                    self._place(model, _pose(*at, 0, rng.uniform(0, 2 * np.pi)) @ T)
                    break
            else:
                raise ValueError(f"no place in the room for {count} objects; it holds {len(self.objects)}")

    def _place(self, model: catalogue.Model, T: NDArray) -> None:
        """Add a model; what lies on its side is lifted to rest on what it stands on."""
        corners = np.concatenate([mesh.corners.reshape(-1, 3) for mesh, _ in model.parts])
        T = T.copy()
        T[2, 3] -= (corners @ T[:3, :3].T)[:, 2].min()
        world = corners @ T[:3, :3].T + T[:3, 3]
        low, high = world.min(0), world.max(0)
        number = len(self.objects) + 1
        self.objects.append(PlacedObject(number, model.name, (low + high) / 2, high - low))
        for mesh, texture in model.parts:
            self._add_part(mesh.transformed(T), texture, number)

    def _add_part(self, mesh: Mesh, texture: tx.Texture, instance: int) -> None:
        self._meshes.append(mesh)
        self._textures.append(texture)
        self._instances.append(instance)

    def _build(self) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError:
            raise ImportError("the demo room needs embreex: pip install '.[demo]' in a clone") from None
        corners = np.concatenate([mesh.corners for mesh in self._meshes])
        self._part = np.repeat(np.arange(len(self._meshes)), [len(mesh.corners) for mesh in self._meshes])
        self._instance_of_part = np.array(self._instances)
        self._normals = np.concatenate([mesh.normals for mesh in self._meshes]).astype(np.float32)
        self._uv = np.concatenate([mesh.uv for mesh in self._meshes]).astype(np.float32)
        a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        s, t = self._uv[:, 1] - self._uv[:, 0], self._uv[:, 2] - self._uv[:, 0]
        cross = np.cross(a, b)
        area, covered = np.linalg.norm(cross, axis=1), np.abs(s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0])
        self._flat_normals = (cross / area[:, None]).astype(np.float32)
        self._uv_per_metre = np.sqrt(covered / area).astype(np.float32)
        self._scene: Any = EmbreeScene()
        TriangleMesh(self._scene, corners.astype(np.float32))
        # this first query also builds the search tree: later ones may run in parallel
        textures = [
            texture if instance else self._baked(mesh, texture)
            for mesh, texture, instance in zip(self._meshes, self._textures, self._instances, strict=True)
        ]
        self._atlas = tx.TextureAtlas(textures)


def _edges(surface: NDArray, depth: NDArray) -> NDArray[np.bool_]:
    """(H, W) pixels beside another surface or a jump in depth."""
    edges = np.zeros(surface.shape, bool)
    for axis in (0, 1):
        jump = np.diff(surface, axis=axis) != 0
        jump |= np.abs(np.diff(depth, axis=axis)) > 0.03 * np.minimum(depth.take(range(1, depth.shape[axis]), axis), 10)
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        edges[tuple(first)] |= jump
        edges[tuple(second)] |= jump
    return edges


def _pose(x: float, y: float, z: float, yaw: float) -> NDArray[np.float64]:
    T = np.eye(4)
    T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T[:3, 3] = x, y, z
    return T


def _pick(rng: Generator, makers: tuple, count: int) -> list:
    """``count`` makers, each kind once before any comes twice."""
    rounds = -(-count // len(makers))
    return [makers[i] for _ in range(rounds) for i in rng.permutation(len(makers))][:count]


def _radius(model: catalogue.Model, T: NDArray | None = None) -> float:
    """Of the circle round the origin that a model covers on the ground."""
    points = np.concatenate([mesh.corners.reshape(-1, 3) for mesh, _ in model.parts])
    points = points if T is None else points @ T[:3, :3].T
    return float(np.linalg.norm(points[:, :2], axis=1).max())


def _is_free(at: NDArray, radius: float, taken: list[tuple[float, float, float]]) -> bool:
    return all(np.hypot(at[0] - x, at[1] - y) > radius + r + CLEARANCE for x, y, r in taken)
