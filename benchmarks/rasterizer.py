"""Time the rasterizer on a synthetic room, alone or side by side with another one.

    python benchmarks/rasterizer.py [--reference other.py]

The other module must define rasterize(means, quats, scales, opacities, channels, viewmat, K, width, height) ->
(image, alpha, depth). The two take turns within each round, so that a busy machine slows both; the ratio is the median
over the rounds of theirs to ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lift_ros.camera import Camera, PosedCamera
from lift_ros.render import rasterize

SIZES = [(20_000, 320, 240), (20_000, 640, 480), (100_000, 320, 240), (100_000, 640, 480)]
CHANNELS = [3, 20]
ROOM = torch.tensor([5.0, 2.6, 4.0])  # metres; y points down, as in the camera

Render = Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def room(n: int, channel_count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """``n`` discs on the surfaces of a furnished room: what a trained indoor scene looks like to a rasterizer."""
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
    return {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": torch.sigmoid(1.5 + 1.5 * torch.randn(n, generator=g)),
        "channels": torch.rand(n, channel_count, generator=g),
    }


def camera(width: int, height: int) -> PosedCamera:
    """In a corner of the room, looking across it."""
    eye, target = torch.tensor([0.6, 1.1, 0.5]), torch.tensor([3.4, 1.5, 3.0])
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), forward), dim=0)
    viewmat = torch.eye(4)
    viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat[:3, 3] = -viewmat[:3, :3] @ eye
    return PosedCamera(Camera(width, height, 0.8 * width, 0.8 * width, width / 2, height / 2), viewmat)


def load_reference(path: Path) -> Render:
    """The ``rasterize`` of another module, with our arguments."""
    spec = importlib.util.spec_from_file_location("reference_rasterizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def render(means, quats, scales, opacities, channels, camera: PosedCamera):
        K = torch.tensor(camera.intrinsics.K, dtype=torch.float32)
        return module.rasterize(
            means, quats, scales, opacities, channels, camera.viewmat, K, camera.width, camera.height
        )

    return render


def measure(render: Render, scene: dict[str, torch.Tensor], view: PosedCamera) -> tuple[float, float]:
    """Milliseconds of one forward pass, and of one forward and backward pass."""
    inputs = {name: tensor.clone().requires_grad_() for name, tensor in scene.items()}
    start = time.perf_counter()
    outputs = render(**inputs, camera=view)
    forward = time.perf_counter() - start
    upstream = [torch.rand_like(output) for output in outputs]
    start = time.perf_counter()
    torch.autograd.grad(outputs, list(inputs.values()), upstream)
    return 1e3 * forward, 1e3 * (forward + time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, help="Python file of a rasterizer to compare with")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    renderers: list[Render] = [rasterize]
    if args.reference:
        renderers.append(load_reference(args.reference))

    print(f"median ms of {args.rounds} rounds, {args.threads} threads", file=sys.stderr)
    header = ["Gaussians", "size", "C", "forward", "+ backward"]
    if args.reference:
        header += ["reference", "+ backward", "forward x", "both x"]
    print(" | ".join(f"{h:>10}" for h in header))
    for n, width, height in SIZES:
        for channel_count in CHANNELS:
            scene, view = room(n, channel_count), camera(width, height)
            rounds = [[measure(render, scene, view) for render in renderers] for _ in range(args.rounds + 1)][1:]
            cells = [f"{n}", f"{width}x{height}", f"{channel_count}"]
            for r in range(len(renderers)):
                cells += [f"{statistics.median(round_[r][k] for round_ in rounds):.1f}" for k in (0, 1)]
            if args.reference:
                cells += [f"{statistics.median(r[1][k] / r[0][k] for r in rounds):.2f}" for k in (0, 1)]
            print(" | ".join(f"{c:>10}" for c in cells), flush=True)


if __name__ == "__main__":
    main()
