"""Values, gradients and edge cases of ``rasterize`` on both backends, against the dense reference."""

from __future__ import annotations

import pytest
import torch
from render import reference, scenes

from lift_ros.camera import Camera, PosedCamera
from lift_ros.render import Rendering, ScreenStatistics, rasterize

# Expected depth divides by alpha, which is small at rims: most of the CPU's error. gsplat uses the fast exponential.
TOLERANCE = {"cpu": 5e-5, "cuda": 1e-3}
on_devices = pytest.mark.parametrize("device", scenes.DEVICES)


def assert_matches_reference(
    scene: dict[str, torch.Tensor], view: PosedCamera, device: str, differentiated: tuple[int, ...] = (0, 1, 2)
) -> Rendering:
    """Render and differentiate on ``device`` in float32 and with the reference in float64; compare everything.

    ``differentiated``: which of image, alpha and depth the loss is made of.
    """
    ours, exact = scenes.to(scene, device), scenes.to(scene, torch.float64)
    our_view, exact_view = scenes.camera_to(view, device), scenes.camera_to(view, torch.float64)
    offset = torch.zeros(len(scene["means"]), 2, dtype=torch.float64, requires_grad=True)
    screen = ScreenStatistics()
    rendering = rasterize(scenes.splats(ours), ours["channels"], our_view, screen)
    expected = reference.rasterize(scenes.splats(exact), exact["channels"], exact_view, offset)
    tolerance = TOLERANCE[device]
    for output, target in zip(rendering, expected, strict=True):
        torch.testing.assert_close(output.cpu().double(), target, rtol=tolerance, atol=tolerance)

    g = torch.Generator().manual_seed(1)
    upstream = [torch.randn(target.shape, generator=g, dtype=torch.float64) for target in expected]
    torch.autograd.backward(
        [rendering[k] for k in differentiated], [upstream[k].to(device, torch.float32) for k in differentiated]
    )
    torch.autograd.backward([expected[k] for k in differentiated], [upstream[k] for k in differentiated])
    pairs = {name: (ours[name].grad, exact[name].grad) for name in scene if name != "channels" or 0 in differentiated}
    pairs["viewmat"] = our_view.viewmat.grad, exact_view.viewmat.grad
    pairs["means2d"] = screen.means2d_gradient, offset.grad
    for name, (gradient, target) in pairs.items():
        error = (gradient.cpu().double() - target).norm() / target.norm().clamp(min=1e-12)
        assert error < tolerance, f"gradient of {name} is off by {error:.2e}"
    return rendering


@on_devices
@pytest.mark.parametrize("channel_count", [1, 3, 20])
def test_values_and_gradients(channel_count: int, device: str) -> None:
    assert_matches_reference(scenes.gaussians(300, channel_count), scenes.camera(), device)


@on_devices
@pytest.mark.parametrize(("width", "height"), [(1, 1), (16, 16), (33, 5), (7, 50)])
def test_image_sizes(width: int, height: int, device: str) -> None:
    assert_matches_reference(scenes.gaussians(80), scenes.camera(width, height), device)


@on_devices
def test_saturated_pixels(device: str) -> None:
    """Opaque layers: alpha is clamped at 0.999, and a pixel ends before its transmittance reaches 1e-4."""
    scene = scenes.gaussians(60)
    scene["opacities"][:] = 1.0
    scene["scales"] += 0.2
    rendering = assert_matches_reference(scene, scenes.camera(), device)
    assert rendering.alpha.max() > 0.99


@on_devices
def test_large_and_small_gaussians(device: str) -> None:
    """From a millionth of a pixel to many images wide, needles and plates."""
    scene = scenes.gaussians(60)
    scene["scales"][:20] = 1e-6
    scene["scales"][20:25] = torch.tensor([3.0, 1e-4, 1e-4])
    scene["scales"][25:30] = torch.tensor([5.0, 5.0, 1e-3])
    scene["opacities"][20:30] *= 0.3
    assert_matches_reference(scene, scenes.camera(), device)


@on_devices
def test_off_screen_linearisation_is_clamped(device: str) -> None:
    """Large Gaussians centred beyond the image: the Jacobian is taken at 1.3 times the field of view."""
    scene = scenes.gaussians(40)
    scene["means"][:, 0] = torch.where(scene["means"][:, 0] > 0, 1.0, -1.0) * scene["means"][:, 2]
    scene["scales"] += 0.3
    rendering = assert_matches_reference(scene, scenes.camera(), device)
    assert rendering.alpha.max() > 0.1


@on_devices
@pytest.mark.parametrize("output", [0, 1, 2])
def test_loss_on_one_output(output: int, device: str) -> None:
    """Autograd then hands over no gradients for the others."""
    assert_matches_reference(scenes.gaussians(50), scenes.camera(), device, differentiated=(output,))


@on_devices
def test_no_gaussians(device: str) -> None:
    scene = scenes.to({name: tensor[:0] for name, tensor in scenes.gaussians(1).items()}, device)
    screen = ScreenStatistics()
    view = scenes.camera_to(scenes.camera(), device)
    rendering = rasterize(scenes.splats(scene), scene["channels"], view, screen)
    assert rendering.image.shape == (scenes.HEIGHT, scenes.WIDTH, 3)
    assert all(not output.any() for output in rendering)
    sum(output.sum() for output in rendering).backward()
    assert scene["means"].grad.shape == (0, 3)
    assert screen.radii.shape == (0,) and screen.means2d_gradient.shape == (0, 2)


@on_devices
def test_all_behind_camera(device: str) -> None:
    scene = scenes.gaussians(20)
    scene["means"][:, 2] -= 10
    scene = scenes.to(scene, device)
    screen = ScreenStatistics()
    view = scenes.camera_to(scenes.camera(), device)
    rendering = rasterize(scenes.splats(scene), scene["channels"], view, screen)
    assert all(not output.any() for output in rendering)
    sum(output.sum() for output in rendering).backward()
    assert all(not tensor.grad.any() for tensor in scene.values())
    assert not screen.radii.any() and not screen.means2d_gradient.any()


@on_devices
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities"])
def test_non_finite_gaussians_are_skipped(name: str, value: float, device: str) -> None:
    scene = scenes.gaussians(40)
    rest = {key: tensor[1:] for key, tensor in scene.items()}
    scene[name][0] = value
    scene, view = scenes.to(scene, device), scenes.camera_to(scenes.camera(), device)
    rendering = rasterize(scenes.splats(scene), scene["channels"], view)
    expected = rasterize(scenes.splats(rest, device), rest["channels"].to(device), view)
    for output, target in zip(rendering, expected, strict=True):
        torch.testing.assert_close(output, target, rtol=1e-5, atol=1e-5)
    sum(output.sum() for output in rendering).backward()
    for tensor in scene.values():
        assert tensor.grad.isfinite().all()
        assert not tensor.grad[0].any()
    assert view.viewmat.grad.isfinite().all()


@on_devices
def test_non_contiguous_inputs(device: str) -> None:
    scene = {name: tensor.to(device) for name, tensor in scenes.gaussians(40).items()}
    strided = {name: torch.stack([tensor, tensor], -1)[..., 0] for name, tensor in scene.items()}
    assert not strided["means"].is_contiguous()
    view = scenes.camera_to(scenes.camera(), device)
    both = [rasterize(scenes.splats(each), each["channels"], view) for each in (strided, scene)]
    for output, target in zip(*both, strict=True):
        assert torch.equal(output, target)


@on_devices
def test_backward_twice(device: str) -> None:
    scene = scenes.to(scenes.gaussians(40), device)
    view = scenes.camera_to(scenes.camera(), device)
    loss = rasterize(scenes.splats(scene), scene["channels"], view).image.sum()
    (first,) = torch.autograd.grad(loss, scene["means"], retain_graph=True)
    (second,) = torch.autograd.grad(loss, scene["means"])
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)  # gsplat adds in any order


@on_devices
def test_radii_bound_what_is_drawn(device: str) -> None:
    """One round Gaussian: the drawn pixels lie within its radius, and fill it."""
    scene = {
        "means": torch.tensor([[0.0, 0.0, 2.0]]),
        "quats": torch.tensor([[1.0, 0, 0, 0]]),
        "scales": torch.full((1, 3), 0.1),
        "opacities": torch.tensor([0.9]),
        "channels": torch.ones(1, 1),
    }
    view = PosedCamera(Camera(65, 65, 60.0, 60.0, 32.5, 32.5), torch.eye(4))
    screen = ScreenStatistics()
    scene = {name: tensor.to(device) for name, tensor in scene.items()}
    alpha = rasterize(scenes.splats(scene), scene["channels"], scenes.camera_to(view, device), screen).alpha
    drawn = alpha[32].nonzero()
    half_width = float(drawn.max() - drawn.min()) / 2
    assert half_width <= float(screen.radii[0]) <= half_width + 1.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("means", torch.zeros(5, 2)),
        ("means", torch.zeros(5)),
        ("means", torch.zeros(5, 3, dtype=torch.float64)),
        ("quats", torch.zeros(4, 4)),
        ("scales", torch.zeros(5, 1)),
        ("opacities", torch.zeros(5, 1)),
        ("channels", torch.zeros(5)),
        ("channels", torch.zeros(5, 0)),
        ("channels", torch.zeros(6, 3)),
        ("channels", torch.zeros(5, 3, device="meta")),
    ],
)
def test_wrong_arguments_are_named(name: str, value: torch.Tensor) -> None:
    scene = scenes.gaussians(5)
    scene[name] = value
    with pytest.raises(ValueError, match=name):
        rasterize(scenes.splats(scene), scene["channels"], scenes.camera())


def test_wrong_viewmat_is_named() -> None:
    view = PosedCamera(scenes.camera().intrinsics, torch.eye(3))
    scene = scenes.gaussians(5)
    with pytest.raises(ValueError, match=r"camera\.viewmat"):
        rasterize(scenes.splats(scene), scene["channels"], view)


def test_unsupported_device() -> None:
    scene = {name: tensor.to("meta") for name, tensor in scenes.gaussians(5).items()}
    view = PosedCamera(scenes.camera().intrinsics, torch.eye(4, device="meta"))
    with pytest.raises(ValueError, match="meta"):
        rasterize(scenes.splats(scene), scene["channels"], view)
