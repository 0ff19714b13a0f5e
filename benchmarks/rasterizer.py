"""Time the rasterizer on a synthetic room, alone or side by side with another one.

    python benchmarks/rasterizer.py [--plot FILE]
    python benchmarks/rasterizer.py --reference benchmarks/rasterizers/NAME.py

Alone it also prints the (Gaussian, pixel) pairs that contribute, those that each pass evaluates, contributing pairs a
second, and the share of the FLOP/s of sgemm that their arithmetic reaches; then how the time grows with Gaussians,
pixels and channels.

The other module must define rasterize(means, quats, scales, opacities, channels, viewmat, K, width, height) ->
(image, alpha, depth), None for what it does not make. The two take turns within each round, so that a busy machine
slows both; the ratio is the median over the rounds of theirs to ours. Their images are compared too.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rooms import camera, room

from lift_ros.camera import PosedCamera
from lift_ros.render import Splats, blend_weights, cpu, rasterize

SIZES = [(20_000, 320, 240), (20_000, 640, 480), (100_000, 320, 240), (100_000, 640, 480)]
CHANNELS = [3, 20]
# Cost against one of Gaussians, pixels and channels, with the others as here.
BASE = (100_000, 640, 480, 3)
GAUSSIANS = [10_000, 25_000, 50_000, 100_000, 200_000, 400_000]
IMAGES = [(160, 120), (320, 240), (640, 480), (1280, 960)]
CHANNEL_COUNTS = [1, 3, 8, 16, 32, 64]

Render = Callable[..., tuple[torch.Tensor | None, ...]]
clock = time.perf_counter


def load_reference(path: Path) -> Render:
    """The ``rasterize`` of another module, with our arguments."""
    spec = importlib.util.spec_from_file_location("reference_rasterizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def render(splats: Splats, channels: torch.Tensor, camera: PosedCamera):
        K = torch.tensor(camera.intrinsics.K, dtype=torch.float32)
        return module.rasterize(*splats, channels, camera.viewmat, K, camera.width, camera.height)

    return render


def measure(render: Render, scene: tuple[Splats, torch.Tensor], view: PosedCamera) -> tuple[float, float]:
    """Milliseconds of one forward pass, and of one forward and backward pass; nan if it has no gradients."""
    splats, channels = scene
    splats, channels = (
        Splats(*(tensor.clone().requires_grad_() for tensor in splats)),
        channels.clone().requires_grad_(),
    )
    start = clock()
    outputs = [output for output in render(splats, channels, view) if output is not None]
    forward = clock() - start
    if not outputs[0].requires_grad:
        return 1e3 * forward, math.nan
    upstream = [torch.rand_like(output) for output in outputs]
    start = clock()
    torch.autograd.grad(outputs, [*splats, channels], upstream, allow_unused=True)
    return 1e3 * forward, 1e3 * (forward + clock() - start)


def medians(n: int, width: int, height: int, channel_count: int, rounds: int) -> tuple[float, float]:
    """Median milliseconds of our forward pass, and of forward and backward."""
    scene, view = room(n, channel_count), camera(width, height)
    times = [measure(rasterize, scene, view) for _ in range(rounds + 1)][1:]
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def sgemm(size: int = 2048) -> float:
    """FLOP/s of one product of two float32 matrices, with torch's threads: what this computer can do."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    start = clock()
    torch.mm(a, b)
    return 2 * size**3 / (clock() - start)


def flop_per_pair(channel_count: int) -> tuple[int, int]:
    """Additions, multiplications and divisions of a contributing pair, forward and backward, counted in csrc/.

    Forward: offset 2, exponent 8, exp2 13, compositing 3, and 2 for each channel, of which depth is one more. Backward:
    all of that again but for the channels, gradients of alpha and of the conic 21, and 4 for each channel. Compares,
    selections and integer operations are left out.
    """
    return 26 + 2 * (channel_count + 1), 26 + 21 + 4 * (channel_count + 1)


def print_row(cells: Sequence[str]) -> None:
    print(" | ".join(f"{cell:>10}" for cell in cells), flush=True)


def print_alone(rounds: int) -> None:
    """Times, pairs and shares of the peak. Passes and sgemm take turns, so that a busy machine slows both."""
    header = ["Gaussians", "size", "C", "forward", "+ backward", "M pairs", "evaluated", "backward"]
    print_row([*header, "M/s", "backward", "of peak", "backward", "GFLOP/s"])
    for n, width, height in SIZES:
        for channel_count in CHANNELS:
            scene, view = room(n, channel_count), camera(width, height)
            times = [(*measure(rasterize, scene, view), sgemm()) for _ in range(rounds + 1)][1:]
            pixels = torch.cartesian_prod(torch.arange(width), torch.arange(height))
            pairs = len(blend_weights(scene[0], view, pixels).val)
            evaluated = cpu.evaluated_pairs(scene[0], view)
            forward_flop, backward_flop = (pairs * flop for flop in flop_per_pair(channel_count))
            forward = statistics.median(t[0] for t in times)
            backward = statistics.median(t[1] - t[0] for t in times)
            print_row(
                [f"{n}", f"{width}x{height}", f"{channel_count}"]
                + [f"{forward:.1f}", f"{statistics.median(t[1] for t in times):.1f}"]
                + [f"{count / 1e6:.2f}" for count in (pairs, *evaluated)]
                + [f"{pairs / 1e3 / ms:.0f}" for ms in (forward, backward)]
                + [f"{statistics.median(forward_flop / (1e-3 * t[0]) / t[2] for t in times):.1%}"]
                + [f"{statistics.median(backward_flop / (1e-3 * (t[1] - t[0])) / t[2] for t in times):.1%}"]
                + [f"{statistics.median(t[2] for t in times) / 1e9:.0f}"]
            )


def print_scaling(rounds: int, plot: Path | None) -> None:
    """How the time grows with one of Gaussians, pixels and channels, the others being those of ``BASE``."""
    n, width, height, channel_count = BASE
    curves = {
        "Gaussians": [(count, (count, width, height, channel_count)) for count in GAUSSIANS],
        "pixels": [(w * h, (n, w, h, channel_count)) for w, h in IMAGES],
        "channels": [(count, (n, width, height, count)) for count in CHANNEL_COUNTS],
    }
    results = {}
    for name, points in curves.items():
        print(f"\nof {n} Gaussians, {width}x{height}, {channel_count} channels, varied:", file=sys.stderr)
        print_row([name, "forward", "+ backward"])
        results[name] = []
        for x, case in points:
            forward, both = medians(*case, rounds)
            results[name].append((x, forward, both))
            print_row([f"{x}", f"{forward:.1f}", f"{both:.1f}"])
    if plot is None:
        return
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(7.5, 2.6), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, 3, sharey=True), results.items(), strict=True):
        x, forward, both = zip(*rows, strict=True)
        axes.loglog(x, both, "o-", markersize=3, label="forward and backward")
        axes.loglog(x, forward, "o-", markersize=3, label="forward")
        axes.set_xlabel(name)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(True, which="major", alpha=0.3)
    figure.axes[0].set_ylabel("ms")
    figure.axes[0].legend(fontsize=7, loc="upper left")
    figure.savefig(plot, dpi=110)


def print_beside(reference: Render, sizes: list[tuple[int, int, int]], channels: list[int], rounds: int) -> None:
    print_row(
        ["Gaussians", "size", "C", "forward", "+ backward", "theirs", "+ backward", "forward x", "both x", "image off"]
    )
    renderers = [rasterize, reference]
    for n, width, height in sizes:
        for channel_count in channels:
            scene, view = room(n, channel_count), camera(width, height)
            ours, theirs = (render(*scene, view)[0] for render in renderers)
            times = [[measure(render, scene, view) for render in renderers] for _ in range(rounds)]
            cells = [f"{n}", f"{width}x{height}", f"{channel_count}"]
            for r in range(len(renderers)):
                cells += [f"{statistics.median(round_[r][k] for round_ in times):.1f}" for k in (0, 1)]
            cells += [f"{statistics.median(r[1][k] / r[0][k] for r in times):.2f}" for k in (0, 1)]
            print_row([*cells, f"{float((ours - theirs).abs().mean()):.1e}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, help="Python file of a rasterizer to compare with")
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS, help="channel counts to compare at")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="compare at the first so many sizes only")
    parser.add_argument("--plot", type=Path, help="picture to write: time against Gaussians, pixels and channels")
    parser.add_argument("--processor-time", action="store_true", help="of all threads, for a busy computer")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.processor_time:
        global clock
        clock = time.process_time

    unit = "ms of processor time" if args.processor_time else "ms"
    print(f"median {unit} of {args.rounds} rounds, {args.threads} threads", file=sys.stderr)
    if args.reference:
        print_beside(load_reference(args.reference), SIZES[: args.sizes], args.channels, args.rounds)
    else:
        print_alone(args.rounds)
        print_scaling(args.rounds, args.plot)


if __name__ == "__main__":
    main()
