"""Procedural textures: (S, S, 3) uint8 RGB images with detail at every scale, and an atlas that samples them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Texture = NDArray[np.uint8]
Color = tuple[float, float, float]

SIZE = 256  # pixels along each side, where nothing else is told
SHEET_SIZE = 512  # of packages
WALL_SIZE = 1024
FLOOR_SIZE = 1536
POSTERS = 3  # on a wall


def noise(rng: Generator, size: int, octaves: tuple[int, ...] = (4, 8, 16, 32, 64), gain: float = 0.6) -> NDArray:
    """(S, S) fractal value noise in [0, 1], tileable; ``octaves``: cells a side."""
    total = np.zeros((size, size), np.float32)
    weight = 1.0
    for cells in octaves:
        grid = np.pad(rng.random((cells, cells)).astype(np.float32), 2, mode="wrap")
        scale = size / cells
        axis = (np.arange(size, dtype=np.float32) + 0.5) / scale + 1.5
        total += weight * cv2.remap(grid, *np.meshgrid(axis, axis), cv2.INTER_CUBIC)
        weight *= gain
    return (total - total.min()) / (total.max() - total.min())


def blend(first: Color, second: Color, share: NDArray) -> NDArray[np.float32]:
    """(S, S) share of ``second`` -> (S, S, 3) colour."""
    share = share[..., None].astype(np.float32)
    return np.asarray(first, np.float32) * (1 - share) + np.asarray(second, np.float32) * share


def hue(value: float, saturation: float, brightness: float) -> Color:
    """Colour of a hue in [0, 1)."""
    hsv = np.array([[[value % 1.0 * 360, saturation, brightness]]], np.float32)
    r, g, b = (255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]).tolist()
    return r, g, b


def speckled(rng: Generator, base: Color, size: int = 256, strength: float = 0.35) -> Texture:
    """One colour with clouds and fine grain: ceramics, plaster, fruit."""
    share = strength * (0.6 * noise(rng, size) + 0.4 * noise(rng, size, (32, 64, 128)))
    dark = tuple(0.35 * c for c in base)
    return _finish(blend(base, dark, share))


def striped(rng: Generator, first: Color, second: Color, stripes: int, along: str = "v") -> Texture:
    """Stripes across v (rings of a turned object) or u (sectors)."""
    axis = np.arange(SIZE) * stripes * 2 // SIZE % 2
    share = np.broadcast_to(axis[:, None] if along == "v" else axis[None, :], (SIZE, SIZE)).astype(np.float32)
    return _finish(blend(first, second, share) * (0.8 + 0.2 * noise(rng, SIZE)[..., None]))


def dotted(rng: Generator, ground: Color, dots: Color, count: int) -> Texture:
    """Dots of several sizes, wrapped round u."""
    image = np.ascontiguousarray(blend(ground, ground, np.zeros((SIZE, SIZE))))
    for _ in range(count):
        x, y = rng.integers(0, SIZE, 2).tolist()
        radius = int(rng.integers(SIZE // 30, SIZE // 12))
        for wrapped in (x - SIZE, x, x + SIZE):
            cv2.circle(image, (wrapped, y), radius, dots, -1, cv2.LINE_AA)
    return _finish(image * (0.8 + 0.2 * noise(rng, SIZE)[..., None]))


def wood(rng: Generator, base: Color, size: int = 256, planks: int = 1) -> Texture:
    """Grain along u, in planks of slightly different tone."""
    image = np.zeros((size, size, 3), np.float32)
    height = size // planks
    for plank in range(planks):
        # a strip of noise, drawn out along the plank
        top = int(rng.integers(0, 256 - 256 // (8 * planks)))
        strip = noise(rng, 256, (2, 4, 8, 16, 32, 64))[top : top + max(256 // planks, 8), :32]
        grain = cv2.resize(strip, (size, height), interpolation=cv2.INTER_CUBIC)
        grain = 0.5 + 0.5 * np.sin(28 * grain + rng.uniform(0, 6))
        tone = np.asarray(base, np.float32) * rng.uniform(0.75, 1.1)
        rows = slice(plank * height, (plank + 1) * height)
        image[rows] = blend(tuple(tone), tuple(0.62 * tone), grain * 0.8)
        if planks > 1:
            image[plank * height : plank * height + max(size // 400, 1)] *= 0.35
            joint = int(rng.integers(0, size))
            image[rows, joint : joint + max(size // 400, 1)] *= 0.35
    return _finish(image * (0.85 + 0.15 * noise(rng, size, (16, 64, 128, 256))[..., None]))


def bricks(rng: Generator, base: Color) -> Texture:
    """A brick wall, each brick of its own tone."""
    image = np.ascontiguousarray(blend((190, 182, 170), (150, 142, 130), noise(rng, WALL_SIZE)))
    rows, columns = 24, 10
    height, width = WALL_SIZE / rows, WALL_SIZE / columns
    for row in range(rows):
        for column in range(-1, columns + 1):
            x, y = (column + 0.5 * (row % 2)) * width, row * height
            tone = (np.asarray(base) * rng.uniform(0.65, 1.2) + rng.normal(0, 8, 3)).clip(0, 255).tolist()
            low = (int(x + 0.04 * width), int(y + 0.1 * height))
            cv2.rectangle(image, low, (int(x + 0.96 * width), int(y + 0.92 * height)), tone, -1)
    return _finish(image * (0.7 + 0.3 * noise(rng, WALL_SIZE, (16, 64, 128, 256), gain=0.8)[..., None]))


def plaster(rng: Generator, base: Color) -> Texture:
    """A painted wall with stains and a few framed pictures."""
    image = blend(base, tuple(0.55 * c for c in base), 0.7 * noise(rng, WALL_SIZE, (3, 6, 12, 24, 96, 256)))
    for index in range(POSTERS):
        width, height = (int(WALL_SIZE * s) for s in rng.uniform(0.14, 0.22, 2))
        x = int((index + rng.uniform(0.25, 0.75)) / POSTERS * WALL_SIZE - width / 2)
        x, y = int(np.clip(x, 0, WALL_SIZE - width)), int(WALL_SIZE * rng.uniform(0.22, 0.4))
        picture = cv2.resize(painting(rng, 256), (width, height), interpolation=cv2.INTER_AREA)
        image[y : y + height, x : x + width] = picture
        cv2.rectangle(image, (x, y), (x + width, y + height), (45, 32, 24), max(WALL_SIZE // 130, 1))
    return _finish(image)


def painting(rng: Generator, size: int) -> NDArray[np.float32]:
    """An abstract picture of overlapping discs and triangles."""
    start = rng.random()
    image = np.ascontiguousarray(blend(hue(start, 0.4, 0.9), hue(start + 0.2, 0.5, 0.6), noise(rng, size, (2, 4, 8))))
    for _ in range(14):
        color = hue(start + rng.uniform(-0.2, 0.5), rng.uniform(0.4, 0.9), rng.uniform(0.3, 1.0))
        if rng.random() < 0.5:
            center = rng.integers(0, size, 2).tolist()
            cv2.circle(image, center, int(rng.integers(size // 20, size // 4)), color, -1, cv2.LINE_AA)
        else:
            cv2.fillPoly(image, [rng.integers(0, size, (3, 2)).astype(np.int32)], color, cv2.LINE_AA)
    return image


def carpet(rng: Generator, size: int, image: NDArray[np.float32]) -> None:
    """Paint a round woven rug with rings of motifs into the middle of a floor."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    radius, angle = np.hypot(x, y) / 0.36, np.arctan2(y, x) / (2 * np.pi)
    start = rng.random()
    rug = np.empty_like(image)
    inner = 0.0
    while inner < 1.0:
        outer = min(inner + rng.uniform(0.07, 0.16), 1.0)
        ring = (radius >= inner) & (radius < outer)
        repeats = max(int(60 * outer / rng.uniform(1.5, 4)), 3)
        wave = np.sin(2 * np.pi * repeats * angle[ring] + rng.uniform(0, 6)) * rng.choice([1.0, -1.0])
        across = np.cos(np.pi * (2 * (radius[ring] - inner) / (outer - inner) - 1))
        motif = (wave * across > rng.uniform(0.0, 0.5)).astype(np.float32)
        color = hue(start + rng.uniform(-0.06, 0.12), rng.uniform(0.25, 0.5), rng.uniform(0.6, 0.9))
        rug[ring] = blend(color, tuple(rng.uniform(0.6, 0.85) * c for c in color), motif)
        inner = outer
    rug *= 0.6 + 0.4 * noise(rng, size, (8, 32, 128, 256, 512), gain=0.9)[..., None]
    image[radius < 1] = rug[radius < 1]


def floor(rng: Generator) -> Texture:
    """Planks with a rug in the middle."""
    image = wood(rng, (186, 140, 96), FLOOR_SIZE, planks=18).astype(np.float32)
    carpet(rng, FLOOR_SIZE, image)
    return _finish(image)


def printed(rng: Generator, base: Color, text: str, sheet: tuple[int, int] = (3, 2)) -> Texture:
    """A package: every cell of a ``sheet`` (columns, rows) carries a picture and a word."""
    image = np.ascontiguousarray(blend(base, tuple(0.6 * c for c in base), noise(rng, SHEET_SIZE)))
    columns, rows = sheet
    width, height = SHEET_SIZE // columns, SHEET_SIZE // rows
    accent = hue(rng.random(), 0.8, 0.95)
    for cell in range(columns * rows):
        x, y = cell % columns * width, cell // columns * height
        art = cv2.resize(painting(rng, 128), (int(width * 0.7), int(height * 0.4)), interpolation=cv2.INTER_AREA)
        top, left = y + int(height * 0.45), x + int(width * 0.15)
        image[top : top + art.shape[0], left : left + art.shape[1]] = art
        (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.0, 2)
        scale = min(0.8 * width / wide, 0.2 * height / tall)
        at = (int(x + (width - wide * scale) / 2), int(y + 0.32 * height))
        cv2.rectangle(image, (x, y + int(0.07 * height)), (x + width, y + int(0.39 * height)), accent, -1)
        thickness = max(round(2 * scale), 1)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_DUPLEX, scale, (250, 250, 245), thickness, cv2.LINE_AA)
    return _finish(image)


def tiles(rng: Generator) -> Texture:
    """The coloured squares of a puzzle cube."""
    columns, rows, size = 9, 6, 384  # three by two faces of three by three squares
    step = size // columns
    image = np.full((size * rows // columns, size, 3), 20.0, np.float32)
    colors = [(200, 30, 30), (30, 140, 50), (30, 60, 180), (240, 210, 40), (240, 120, 20), (235, 235, 235)]
    for row in range(rows):
        for column in range(columns):
            low, high = (column * step + step // 10, row * step + step // 10), (0.9 * step, 0.9 * step)
            color = colors[int(rng.integers(len(colors)))]
            cv2.rectangle(image, low, (int(column * step + high[0]), int(row * step + high[1])), color, -1)
    return _finish(cv2.resize(image, (size, size), interpolation=cv2.INTER_NEAREST))


def _finish(image: NDArray) -> Texture:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def to_linear(image: NDArray) -> NDArray[np.float32]:
    """Pixel values in [0, 255] -> light in [0, 1], for a gamma of 2: close to sRGB, and cheap."""
    return np.square(image.astype(np.float32) / 255)


def from_linear(light: NDArray) -> NDArray[np.uint8]:
    """Light -> pixel values; what is brighter than 1 is white."""
    return np.rint(255 * np.sqrt(np.clip(light, 0, 1))).astype(np.uint8)


class TextureAtlas:
    """Square textures with their mip levels in one array of texels, sampled all at once."""

    def __init__(self, textures: list[Texture]) -> None:
        """Textures are (S, S, 3); sizes may differ."""
        texels, offsets, sizes = [], [], []
        position = 0
        levels = max(texture.shape[0].bit_length() for texture in textures)
        for texture in textures:
            level = texture
            for index in range(levels):
                if index and level.shape[0] > 1:
                    half = level.shape[0] // 2
                    level = cv2.resize(level, (half, half), interpolation=cv2.INTER_AREA)
                texels.append(level.reshape(-1, 3))
                offsets.append(position)
                sizes.append(level.shape[0])
                position += level.shape[0] ** 2
        self._texels = np.concatenate(texels)
        self._offsets = np.array(offsets, np.int32).reshape(len(textures), levels)
        self._sizes = np.array(sizes, np.int32).reshape(len(textures), levels)

    def sample(self, texture: NDArray[np.integer], uv: NDArray, footprint: NDArray) -> NDArray[np.float32]:
        """Linear colours (N, 3) in [0, 1] of textures (N,) at uv (N, 2); ``footprint`` (N,): uv a pixel covers."""
        covered = footprint * self._sizes[texture, 0]
        level = np.clip(np.rint(np.log2(np.maximum(covered, 1.0))), 0, self._sizes.shape[1] - 1).astype(np.int32)
        size, offset = self._sizes[texture, level], self._offsets[texture, level]
        x, y = (uv * size[:, None] - 0.5).astype(np.float32).T
        x0, y0 = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]
        x0, y0, x1, y1 = x0 % size, y0 % size, (x0 + 1) % size, (y0 + 1) % size

        def texel(column: NDArray, row: NDArray) -> NDArray:
            return self._texels[offset + row * size + column].astype(np.float32)

        upper = texel(x0, y0) * (1 - fx) + texel(x1, y0) * fx
        return to_linear(upper * (1 - fy) + (texel(x0, y1) * (1 - fx) + texel(x1, y1) * fx) * fy)
