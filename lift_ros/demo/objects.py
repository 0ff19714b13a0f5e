"""Household objects made of simple shapes, each with textures of its own. Metres, standing on z = 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from lift_ros.demo import textures as tx
from lift_ros.demo.meshes import Mesh, box, merge, revolve, tube


@dataclass(frozen=True)
class Model:
    """An object before it is placed: parts with a texture each.

    Attributes:
        lies: it may lie on its side.
    """

    name: str
    parts: list[tuple[Mesh, tx.Texture]]
    lies: bool = False


def mug(rng: Generator) -> Model:
    """Open cylinder with a handle."""
    r, h = rng.uniform(0.038, 0.05), rng.uniform(0.085, 0.11)
    body = revolve([(0, 0), (r, 0), (r, h), (0.9 * r, h), (0.88 * r, 0.006), (0, 0.006)])
    angle = np.linspace(-1.5, 1.5, 14)
    handle = tube(
        np.stack([r - 0.004 + 0.6 * r * np.cos(angle), 0 * angle, h / 2 + 0.36 * h * np.sin(angle)], -1), 0.006
    )
    color = _bright(rng)
    return Model("mug", [(body, tx.dotted(rng, color, _bright(rng), 60)), (handle, tx.speckled(rng, color))])


def bottle(rng: Generator) -> Model:
    """Bottle with a label and a cap."""
    r, h = rng.uniform(0.036, 0.045), rng.uniform(0.24, 0.3)
    s = h / 0.27
    glass = revolve([(0, 0), (r, 0), (r, 0.03 * s)])
    label = revolve([(1.01 * r, 0.03 * s), (1.01 * r, 0.14 * s)])
    neck = [(r, 0.14 * s), (r, 0.16 * s), (0.85 * r, 0.185 * s), (0.45 * r, 0.21 * s), (0.36 * r, 0.25 * s)]
    cap = revolve([(0.42 * r, 0.245 * s), (0.42 * r, h), (0, h)], 20)
    color = tx.hue(rng.choice([0.28, 0.08, 0.55]), 0.7, 0.45)
    word = str(rng.choice(["OLIVE OIL", "JUICE", "SYRUP", "VINEGAR"]))
    return Model(
        "bottle",
        [
            (merge([glass, revolve(neck)]), tx.speckled(rng, color, strength=0.5)),
            (label, tx.printed(rng, _bright(rng), word, sheet=(2, 1))),
            (cap, tx.striped(rng, _bright(rng), (40, 40, 40), 24, along="u")),
        ],
        lies=True,
    )


def can(rng: Generator) -> Model:
    """Food can with a printed label."""
    r, h = rng.uniform(0.038, 0.052), rng.uniform(0.1, 0.13)
    word = str(rng.choice(["BEANS", "CORN", "PEAS", "SOUP", "TOMATO"]))
    side = revolve([(r, 0.006), (r, h - 0.006)])
    lids = [revolve([(0, 0.003), (0.95 * r, 0.003), (1.02 * r, 0), (1.02 * r, 0.006)])]
    lids.append(revolve([(1.02 * r, h - 0.006), (1.02 * r, h), (0.95 * r, h - 0.004), (0, h - 0.004)]))
    metal = tx.striped(rng, (190, 190, 195), (150, 150, 158), 6)
    return Model("can", [(side, tx.printed(rng, _bright(rng), word, sheet=(2, 1))), (merge(lids), metal)], lies=True)


def carton(rng: Generator) -> Model:
    """Box of breakfast cereals."""
    size = rng.uniform((0.15, 0.05, 0.21), (0.2, 0.075, 0.29))
    word = str(rng.choice(["OATS", "FLAKES", "MUESLI", "RICE"]))
    return Model("carton", [(box(*size), tx.printed(rng, _bright(rng), word))], lies=True)


def book(rng: Generator) -> Model:
    """Thick book lying flat."""
    size = rng.uniform((0.14, 0.19, 0.03), (0.18, 0.25, 0.055))
    word = str(rng.choice(["ATLAS", "POEMS", "ROBOTS", "BIRDS"]))
    return Model("book", [(box(*size), tx.printed(rng, tx.hue(rng.random(), 0.6, 0.6), word))])


def ball(rng: Generator) -> Model:
    """Beach ball with sectors."""
    r = rng.uniform(0.085, 0.12)
    return Model("ball", [(_sphere(r), tx.striped(rng, _bright(rng), (240, 240, 235), 6, along="u"))])


def bowl(rng: Generator) -> Model:
    """Bowl with two oranges and an apple in it, as one object."""
    r = rng.uniform(0.1, 0.13)
    profile = [(0, 0), (0.45 * r, 0), (0.75 * r, 0.18 * r), (0.95 * r, 0.42 * r), (r, 0.62 * r)]
    inner = [(0.96 * r, 0.62 * r), (0.9 * r, 0.44 * r), (0.7 * r, 0.22 * r), (0.4 * r, 0.06 * r), (0, 0.05 * r)]
    fruit = [_sphere(0.36 * r).moved(0.36 * r * np.cos(a), 0.36 * r * np.sin(a), 0.2 * r) for a in (0.3, 2.4, 4.5)]
    return Model(
        "fruit bowl",
        [
            (revolve(profile + inner, 48), tx.striped(rng, tx.hue(rng.random(), 0.35, 0.85), (245, 245, 240), 7)),
            (merge(fruit[:2]), tx.speckled(rng, (245, 140, 20))),
            (fruit[2], tx.speckled(rng, (190, 30, 30))),
        ],
    )


def vase(rng: Generator) -> Model:
    """Turned vase with rings."""
    h, r = rng.uniform(0.24, 0.34), rng.uniform(0.06, 0.085)
    z = np.linspace(0, 1, 24)
    radius = r * (0.72 + 0.34 * np.sin(5.2 * z + 0.5)) * (1 - 0.25 * z)
    profile = [(0, 0), *zip(radius, h * z, strict=True), (0.8 * radius[-1], h), (0.7 * radius[-1], 0.8 * h)]
    first = tx.hue(rng.random(), 0.7, 0.7)
    return Model("vase", [(revolve(profile, 48), tx.striped(rng, first, _bright(rng), 5))], lies=True)


def ring(rng: Generator) -> Model:
    """Swimming ring."""
    r, t = rng.uniform(0.1, 0.13), rng.uniform(0.03, 0.042)
    a = np.linspace(-np.pi / 2, 1.5 * np.pi, 25)
    torus = revolve(np.stack([r + t * np.cos(a), t + t * np.sin(a)], -1), 48)
    return Model("ring", [(torus, tx.striped(rng, _bright(rng), (245, 245, 245), 5, along="u"))])


def banana(rng: Generator) -> Model:
    """Bent tube that thins out at both ends."""
    a = np.linspace(-0.9, 0.9, 24)
    path = 0.11 * np.stack([np.sin(a), 1 - np.cos(a), 0 * a], -1)
    radius = 0.019 * np.clip(1.15 - np.abs(a / 0.9) ** 6, 0.01, 1)
    return Model("banana", [(tube(path, radius).moved(0, 0, 0.019), tx.speckled(rng, (242, 205, 50)))])


def hat(rng: Generator) -> Model:
    """Party hat: a cone with dots."""
    r, h = rng.uniform(0.07, 0.09), rng.uniform(0.18, 0.24)
    return Model("party hat", [(revolve([(r, 0), (0, h)]), tx.dotted(rng, _bright(rng), (250, 250, 250), 50))])


def lamp(rng: Generator) -> Model:
    """Table lamp."""
    h = rng.uniform(0.34, 0.42)
    foot = revolve([(0, 0), (0.07, 0), (0.07, 0.012), (0.02, 0.03), (0.012, 0.04), (0.012, 0.7 * h)])
    shade = revolve([(0.12, 0.55 * h), (0.07, h), (0.066, h), (0.116, 0.55 * h)], 48)
    return Model(
        "lamp",
        [
            (foot, tx.wood(rng, (120, 80, 50))),
            (shade, tx.striped(rng, (240, 225, 190), tx.hue(rng.random(), 0.5, 0.8), 14, along="u")),
        ],
    )


def cube(rng: Generator) -> Model:
    """Puzzle cube."""
    side = rng.uniform(0.07, 0.1)
    return Model("puzzle cube", [(box(side, side, side), tx.tiles(rng))])


def teapot(rng: Generator) -> Model:
    """Turned body with lid, spout and handle."""
    r = rng.uniform(0.065, 0.08)
    pot = [(0, 0), (0.7, 0), (0.95, 0.35), (1.0, 0.7), (0.9, 1.05), (0.6, 1.35), (0.3, 1.45)]
    knob = [(0.12, 1.5), (0.16, 1.62), (0, 1.7)]
    body = revolve(r * np.array(pot + knob), 48)
    t = np.linspace(0, 1, 14)
    spout = np.stack([r * (0.85 + 0.85 * t), 0 * t, r * (0.5 + 0.8 * t**1.5)], -1)
    a = np.linspace(-1.5, 1.5, 16)
    handle = np.stack([-r * (0.85 + 0.62 * np.cos(a)), 0 * a, r * (0.75 + 0.45 * np.sin(a))], -1)
    color = _bright(rng)
    return Model(
        "teapot",
        [
            (body, tx.dotted(rng, color, (245, 240, 225), 40)),
            (merge([tube(spout, r * (0.22 - 0.1 * t)), tube(handle, 0.1 * r)]), tx.speckled(rng, color)),
        ],
    )


def stool(rng: Generator) -> Model:
    """Three-legged stool."""
    h, r = rng.uniform(0.26, 0.32), rng.uniform(0.13, 0.16)
    seat = revolve([(0, h - 0.03), (r, h - 0.03), (r, h), (0, h)], 48)
    legs = []
    for angle in np.arange(3) * 2 * np.pi / 3:
        out = np.array([np.cos(angle), np.sin(angle), 0.0])
        legs.append(tube(np.stack([0.6 * r * out + (0, 0, h - 0.03), 0.95 * r * out]), 0.013))
    return Model(
        "stool",
        [(seat, tx.striped(rng, _bright(rng), (235, 230, 215), 8)), (merge(legs), tx.wood(rng, (170, 120, 70)))],
    )


def table(rng: Generator) -> Model:
    """Low table that other objects stand on."""
    x, y, h = TABLE_SIZE
    top = box(x, y, 0.03).moved(0, 0, h - 0.03)
    legs = [
        box(0.045, 0.045, h - 0.03).moved(sx * (x / 2 - 0.05), sy * (y / 2 - 0.05), 0)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    return Model("table", [(top, tx.wood(rng, (206, 170, 122), 1024)), (merge(legs), tx.wood(rng, (110, 74, 46)))])


TABLE_SIZE = (0.85, 0.6, 0.4)
SMALL: tuple[Callable[[Generator], Model], ...] = (
    mug, bottle, can, book, bowl, banana, cube, teapot, carton, lamp, vase, hat
)  # fmt: skip
LARGE: tuple[Callable[[Generator], Model], ...] = (ball, ring, carton, vase, stool, bottle, book, hat, lamp, can)


def _sphere(r: float) -> Mesh:
    a = np.linspace(-np.pi / 2, np.pi / 2, 25)
    return revolve(np.stack([r * np.cos(a), r + r * np.sin(a)], -1))


def _bright(rng: Generator) -> tx.Color:
    return tx.hue(rng.random(), rng.uniform(0.5, 0.85), rng.uniform(0.65, 0.95))
