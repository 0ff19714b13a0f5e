"""Undistortion against OpenCV's forward projection of known points."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lift_ros.camera import Camera
from lift_ros.data.undistort import MAX_MAP_BYTES, Undistorter, UndistorterCache
from lift_ros.errors import FrameRejected

CAMERA = Camera(320, 240, 210.0, 212.0, 158.0, 123.5)
LENSES = [
    ("plumb_bob", [-0.28, 0.09, 0.001, -0.0008, -0.01]),
    ("rational_polynomial", [0.3, -0.1, 0.0005, 0.0003, 0.02, 0.65, -0.05, 0.01]),
    ("equidistant", [0.02, -0.01, 0.004, -0.001]),
    ("equidistant", [0.0, 0.0, 0.0, 0.0]),
]
# fisheye lenses of 180 degrees and more
WIDE_LENSES = [
    (Camera(1000, 1000, 300.0, 300.0, 500.0, 500.0), [0.0, 0.0, 0.0, 0.0]),
    (Camera(1000, 1000, 318.0, 318.0, 500.0, 500.0), [0.0, 0.0, 0.0, 0.0]),
    (Camera(848, 800, 286.0, 286.0, 424.0, 400.0), [-0.005, 0.04, -0.037, 0.006]),  # as of a RealSense T265
]


def seen_through(camera: Camera, model: str, D: list[float], point: np.ndarray) -> np.ndarray:
    """(2,) position in the distorted image, this package's pixel convention."""
    K = camera.K
    K[:2, 2] -= 0.5
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    pixel, _ = project(point[None, None], np.zeros(3), np.zeros(3), K, np.array(D))
    return pixel.ravel() + 0.5


def assert_lands_where_it_is_projected(undistorter: Undistorter, point: np.ndarray, u: float, v: float) -> None:
    """That the spot (u, v) of the distorted image is in the new one where its camera projects the point."""
    camera = undistorter.camera
    y, x = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5
    spot = (255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 2.5**2))).astype(np.uint8)
    seen = undistorter.image(np.repeat(spot[..., None], 3, axis=2))[..., 0].astype(float)
    weight = np.where(seen > 60, seen, 0)
    found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    assert np.abs(found - camera.project(point[None])[0][0]).max() < 0.25


@pytest.mark.parametrize(("model", "D"), LENSES)
def test_points_land_where_the_new_camera_projects_them(model, D):
    points = np.array([[x, y, 2.0] for x in (-0.7, 0.1, 0.8) for y in (-0.5, 0.05, 0.45)])
    undistorter = Undistorter(CAMERA, D, model)
    moved = 0.0
    for point in points:
        u, v = seen_through(CAMERA, model, D, point)
        assert_lands_where_it_is_projected(undistorter, point, u, v)
        moved = max(moved, np.abs(undistorter.camera.project(point[None])[0] - (u, v)).max())
    assert moved > 2  # the lens does bend


@pytest.mark.parametrize(("lens", "D"), WIDE_LENSES)
def test_of_lenses_that_see_to_the_side_120_degrees_are_left(lens, D):
    undistorter = Undistorter(lens, D, "equidistant")
    camera = undistorter.camera
    assert (camera.cx, camera.cy, camera.fx) == (lens.cx, lens.cy, camera.fy)
    assert np.degrees(np.arctan(max(camera.cx, camera.cy) / camera.fx)) == pytest.approx(60)
    map_x, map_y = undistorter._maps
    assert map_x.min() > 0 and map_x.max() < lens.width - 1 and map_y.min() > 0 and map_y.max() < lens.height - 1
    side = np.tan(np.radians(50))
    for point in ((-side, 0.3, 1), (side, -0.2, 1), (0.2, -side, 1), (0.1, side, 1), (0.4, 0.2, 1)):
        point = np.array(point, np.float64)
        assert_lands_where_it_is_projected(undistorter, point, *seen_through(lens, "equidistant", D, point))


@pytest.mark.parametrize("D", [[0.02, -0.01, 0.004, -0.001], [0.0] * 4])
def test_the_view_of_a_narrow_fisheye_lens_is_that_of_opencv(D):
    camera = Undistorter(CAMERA, D, "equidistant").camera
    K = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
        CAMERA.K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], np.array(D), (CAMERA.width, CAMERA.height), np.eye(3)
    )
    np.testing.assert_allclose((camera.fx, camera.fy), (K[0, 0], K[1, 1]), rtol=0.01)
    np.testing.assert_allclose((camera.cx, camera.cy), K[:2, 2] + 0.5, atol=1)


def test_what_a_polynomial_folds_back_is_not_seen():
    camera = Undistorter(Camera(1600, 1200, 400.0, 400.0, 800.0, 600.0), [-0.4, 0, 0, 0], "equidistant").camera
    widest = np.arctan(np.hypot(camera.cx / camera.fx, camera.cy / camera.fy))  # in the corners
    assert widest == pytest.approx(1 / np.sqrt(3 * 0.4), abs=1e-3)  # there x - 0.4 x^3 is the largest


@pytest.mark.parametrize(("model", "D"), LENSES)
def test_no_border_is_invented(model, D):
    # every output pixel takes its colour from within the input, up to the rounding of OpenCV's choice of K
    undistorter = Undistorter(CAMERA, D, model)
    map_x, map_y = undistorter._maps
    assert map_x.min() > -1.5 and map_x.max() < CAMERA.width + 0.5
    assert map_y.min() > -1.5 and map_y.max() < CAMERA.height + 0.5


@pytest.mark.parametrize("D", [[0.0] * 5, LENSES[0][1]])
def test_ids_of_32_bits_stay_apart(D):
    ids = np.full((CAMERA.height, CAMERA.width), 2**24 + 1, np.int32)
    ids[:, 160:] = 2**31 - 1
    assert set(np.unique(Undistorter(CAMERA, D, "plumb_bob").labels(ids))) == {2**24 + 1, 2**31 - 1}


def test_depth_and_labels_are_not_mixed():
    undistorter = Undistorter(CAMERA, [-0.3, 0.1, 0, 0, 0])
    step = np.where(np.arange(CAMERA.width) < 170, np.float32(1.0), np.float32(3.0))
    depth = np.repeat(step[None], CAMERA.height, axis=0)
    assert set(np.unique(undistorter.depth(depth))) == {1.0, 3.0}
    labels = np.where(depth < 2, 7, 65000)
    assert set(np.unique(undistorter.labels(labels))) == {7, 65000}


def test_without_distortion_nothing_changes():
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    undistorter = Undistorter(CAMERA, np.zeros(5))
    assert undistorter.camera == CAMERA
    np.testing.assert_array_equal(undistorter.image(image), image)


def test_what_is_ignored_lies_where_the_image_shows_it():
    image = np.zeros((240, 320, 3), np.uint8)
    image[40:80, 30:90] = 255
    undistorter = Undistorter(CAMERA, [-0.3, 0.1, 0, 0, 0])
    remapped = undistorter.image(image)[..., 0]
    for scale in (1, 2):  # of a mask that was drawn on a smaller image
        ignored = undistorter.ignored(image[::scale, ::scale, 0] > 0)
        sure = (remapped == 0) | (remapped == 255)
        assert (ignored == (remapped > 127))[sure].mean() > 0.998 and ignored.any()
    with pytest.raises(FrameRejected, match="mask is of 320x200 pixels, the image of 320x240") as error:
        undistorter.ignored(np.zeros((200, 320), bool))
    assert error.value.reason == "mask_size"


def test_sizes_must_agree():
    undistorter = Undistorter(CAMERA, [])
    for call, shape, reason in (
        (undistorter.image, (120, 160, 3), "image_size"),
        (undistorter.depth, (120, 160), "depth_size"),
        (undistorter.labels, (120, 160), "labels_size"),
    ):
        with pytest.raises(FrameRejected, match="160x120 but the camera is 320x240") as error:
            call(np.zeros(shape, np.uint8))
        assert error.value.reason == reason


@pytest.mark.parametrize(
    ("D", "model"),
    [
        ([0.1, 0, 0, 0, 0], "omnidirectional"),
        ([0.1, 0.2, 0.3], "plumb_bob"),
        ([np.nan] * 5, "plumb_bob"),
        ([-1e9, 0, 0, 0], "equidistant"),
    ],
)
def test_unusable_calibrations(D, model):
    with pytest.raises(FrameRejected) as error:
        Undistorter(CAMERA, D, model)
    assert error.value.reason == "camera_info"


def test_the_maps_of_many_cameras_take_bounded_memory():
    cache = UndistorterCache()
    cameras = [Camera(2048, 2048, 2000.0 + index, 2000.0, 1024.0, 1024.0) for index in range(10)]  # 32 MiB each
    first = cache(cameras[0], (0.01, 0.0, 0.0, 0.0))
    for camera in cameras:
        cache(camera, (0.01, 0.0, 0.0, 0.0))
        assert cache(cameras[0], (0.01, 0.0, 0.0, 0.0)) is first  # what is used stays
    assert first.nbytes == 2**25 and cache.nbytes == MAX_MAP_BYTES


def camera_info(**changes) -> SimpleNamespace:
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    K = [200.0, 0, 159.5, 0, 200.0, 119.5, 0, 0, 1]
    P = [190.0, 0, 150.5, 0, 0, 191.0, 118.5, 0, 0, 0, 1, 0]
    fields = {
        "width": 320, "height": 240, "k": K, "p": P, "d": [-0.2, 0.05, 0, 0, 0], "distortion_model": "plumb_bob",
        "roi": roi, "binning_x": 0, "binning_y": 0,
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


def test_a_fisheye_lens_bends_without_coefficients_but_not_where_a_message_has_none():
    assert Undistorter(CAMERA, np.zeros(4), "equidistant").camera != CAMERA
    for D in ([], [0.0] * 4):
        info = camera_info(d=D, distortion_model="equidistant")
        assert Undistorter.from_camera_info(info).camera.fx == 200.0


def test_camera_info_moves_to_pixel_centres_at_one_half():
    camera = Undistorter.from_camera_info(camera_info(d=[])).camera
    assert (camera.cx, camera.cy) == (160.0, 120.0)


def test_rectified_images_use_the_projection_matrix():
    camera = Undistorter.from_camera_info(camera_info(), rectified=True).camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (190.0, 191.0, 151.0, 119.0)


def test_binning_and_region_of_interest():
    roi = SimpleNamespace(x_offset=40, y_offset=20, width=200, height=160)
    camera = Undistorter.from_camera_info(camera_info(d=[], roi=roi, binning_x=2, binning_y=2)).camera
    assert (camera.width, camera.height) == (100, 80)
    assert (camera.fx, camera.cx, camera.cy) == (100.0, 60.0, 50.0)


def test_uncalibrated_camera_info_is_refused():
    with pytest.raises(FrameRejected, match="uncalibrated") as error:
        Undistorter.from_camera_info(camera_info(k=[0.0] * 9))
    assert error.value.reason == "camera_info"
