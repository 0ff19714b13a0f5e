"""What is particular to the CPU backend: its library, its threads."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from render import scenes

from lift_ros.render import (
    ScreenStatistics,
    Target,
    blend_weights,
    cpu,
    follow_edges,
    label_image,
    library,
    mask_weights,
    rasterize,
)


@pytest.fixture
def restore_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def everything() -> list[torch.Tensor]:
    """All results of one scene, gradients included."""
    scene, view = scenes.to(scenes.gaussians(9000, 5), "cpu"), scenes.camera_to(scenes.camera(100, 70), "cpu")
    screen = ScreenStatistics()
    rendering = rasterize(scenes.splats(scene), scene["channels"], view, screen)
    torch.autograd.backward(rendering, [torch.cos(output.detach()) for output in rendering])
    weights = blend_weights(scenes.splats(scene), view, torch.tensor([[3, 4], [99, 69], [50, 0], [3, 4]]))
    labels = label_image(scenes.splats(scene), torch.arange(9000) % 7, view)
    gradients = [tensor.grad for tensor in scene.values()]
    return [
        *(output.detach() for output in rendering),
        *gradients,
        view.viewmat.grad,
        screen.radii,
        screen.means2d_gradient,
        weights.crow,
        weights.col,
        weights.val,
        *labels,
    ]


def test_results_do_not_depend_on_threads(restore_threads: None) -> None:
    torch.set_num_threads(1)
    expected = everything()
    for threads in (2, 3):
        torch.set_num_threads(threads)
        for result, target in zip(everything(), expected, strict=True):
            assert torch.equal(result, target)


def of_many_splats() -> list[torch.Tensor]:
    """Images, gradients and weights of masks where every tile has several chunks of splats."""
    scene, view = scenes.to(scenes.gaussians(9000, 5), "cpu"), scenes.camera_to(scenes.camera(100, 70), "cpu")
    rendering = rasterize(scenes.splats(scene), scene["channels"], view)
    torch.autograd.backward(rendering, [torch.cos(output.detach()) for output in rendering])
    masks = np.arange(70 * 100, dtype=np.int32).reshape(70, 100) // 700 + 1
    weights = mask_weights(scenes.splats(scene), view, masks)
    by_mask = torch.from_numpy(np.bincount(weights.mask, weights.weight))
    gradients = [tensor.grad for tensor in scene.values()]
    return [*(output.detach() for output in rendering), *gradients, view.viewmat.grad, by_mask]


def followed_edges() -> np.ndarray:
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 5, (7, 10)), np.ones((10, 10), int)).astype(np.int32)
    image, depth = rng.integers(0, 60, (70, 100, 3), np.uint8), rng.uniform(1, 1.02, (70, 100)).astype(np.float32)
    return follow_edges(labels, image, depth)


@pytest.mark.parametrize("variant", ["baseline", "x86_64_v3", "x86_64_v4"])
def test_variants_agree(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each build that this processor can run gives the result of the one that is chosen."""
    order = ["baseline", "x86_64_v3", "x86_64_v4"]
    best = library.load("baseline").lift_best_variant().decode()
    if order.index(variant) > order.index(best):
        pytest.skip(f"this processor runs {best} at most")
    scene, view = scenes.gaussians(300, 5), scenes.camera()
    truth, depth = torch.rand(view.height, view.width, 3), torch.rand(view.height, view.width)

    def results() -> list[torch.Tensor]:
        out = rasterize(scenes.splats(scene), scene["channels"], view)
        seen = out._replace(image=out.image[..., :3])
        target = Target(truth, depth, torch.ones(3), torch.full((3,), 0.1))
        losses, gradients = cpu.view_losses(seen, target, 0.2, 0.3)
        return [*out, losses, *gradients]

    expected, expected_of_many, expected_labels = results(), of_many_splats(), followed_edges()
    chosen = library.load(variant)
    monkeypatch.setattr(library, "best", lambda: chosen)
    for output, target in zip(results(), expected, strict=True):
        torch.testing.assert_close(output, target, rtol=1e-5, atol=1e-5)
    for output, target in zip(of_many_splats(), expected_of_many, strict=True):
        # on average: whether a pixel is at the end of a splat may turn on the last bit
        assert (output - target).abs().mean() <= 1e-4 * target.abs().mean()
    assert (followed_edges() != expected_labels).mean() < 1e-3


def test_evaluated_pairs_cover_those_that_contribute() -> None:
    splats, view = scenes.splats(scenes.gaussians(300)), scenes.camera()
    pixels = torch.cartesian_prod(torch.arange(view.width), torch.arange(view.height))
    contributing = len(blend_weights(splats, view, pixels).val)
    forward, backward = cpu.evaluated_pairs(splats, view)
    assert 0 < contributing <= backward <= forward <= 300 * 2 * len(pixels)  # blocks reach past the image


def test_render_after_fork() -> None:
    """Thread pools do not survive a fork; the renderer starts its threads anew."""
    scene, view = scenes.gaussians(300), scenes.camera()
    expected = rasterize(scenes.splats(scene), scene["channels"], view).image
    child = os.fork()
    if child == 0:
        same = torch.equal(rasterize(scenes.splats(scene), scene["channels"], view).image, expected)
        os._exit(0 if same else 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("rendering after a fork hangs")


def test_missing_library_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "library_path", lambda variant: tmp_path / f"liblift_raster_{variant}.so")
    with pytest.raises(ImportError, match="cmake --install"):
        library.load("baseline")


def test_broken_library_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "liblift_raster_baseline.so"
    path.write_bytes(b"not a library")
    monkeypatch.setattr(library, "library_path", lambda variant: path)
    with pytest.raises(ImportError, match="cannot be loaded"):
        library.load("baseline")
