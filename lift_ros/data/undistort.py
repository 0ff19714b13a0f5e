"""Lens undistortion with OpenCV's maps, computed once per camera."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.errors import FrameRejected
from lift_ros.resampling import labels_at

PINHOLE_MODELS = ("plumb_bob", "rational_polynomial")
FISHEYE_MODELS = ("equidistant", "fisheye")
MODELS = PINHOLE_MODELS + FISHEYE_MODELS
WIDEST = np.deg2rad(60.0)  # from the axis to an edge; what lies beyond is smeared over ever more pixels
MAX_MAP_BYTES = 256 * 2**20


class Undistorter:
    """Remaps distorted images of one camera to those of an ideal pinhole camera of the same size.

    The new focal lengths are chosen so that every output pixel sees the input image: no black border. Of a fisheye lens
    that sees more than 60 degrees off its axis, the rest is cut off.

    Attributes:
        camera: the ideal camera of the remapped images.
    """

    def __init__(self, camera: Camera, D: NDArray | list[float], model: str = "plumb_bob") -> None:
        """Build the maps.

        Args:
            camera: intrinsics of the distorted image (this package's pixel convention, centres at +0.5).
            D: distortion coefficients in OpenCV's order: plumb_bob (k1, k2, p1, p2[, k3]), rational_polynomial
                (k1, k2, p1, p2, k3, k4, k5, k6), equidistant = fisheye (k1, k2, k3, k4). Empty: none, whatever the
                model. All zero: none, but of a fisheye lens, which bends without any, too.
            model: the ``distortion_model`` of sensor_msgs/CameraInfo.

        Raises:
            FrameRejected: ``camera_info``, for an unknown model or coefficients that cannot be used.
        """
        D = np.asarray(D, np.float64).ravel()
        if not np.isfinite(D).all():
            raise FrameRejected("camera_info", "distortion coefficients are not finite")
        self.camera = camera
        self._source = camera
        self._maps: tuple[NDArray, NDArray] | None = None
        if not len(D) or not D.any() and model not in FISHEYE_MODELS:
            return
        if model not in MODELS:
            raise FrameRejected("camera_info", f"distortion model '{model}' is not one of {', '.join(MODELS)}")
        if model in FISHEYE_MODELS and len(D) != 4 or model in PINHOLE_MODELS and len(D) not in (4, 5, 8, 12, 14):
            raise FrameRejected("camera_info", f"{len(D)} distortion coefficients do not fit the model '{model}'")

        fisheye = model in FISHEYE_MODELS
        try:
            self.camera = (_seen_by_fisheye if fisheye else _without_border)(camera, D)
        except ValueError as error:
            raise FrameRejected("camera_info", f"distortion {D.tolist()} leaves no usable image: {error}") from None
        maps = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
        size = (camera.width, camera.height)
        self._maps = maps(camera.opencv_K, D, np.eye(3), self.camera.opencv_K, size, cv2.CV_32FC1)

    @classmethod
    def from_camera_info(cls, info: Any, rectified: bool = False) -> Undistorter:
        """From the fields of a sensor_msgs/CameraInfo message, whichever library made it.

        ``rectified``: the images are rectified already (image_rect topics), so P applies and no distortion. Binning
        and region of interest are taken into account as image_geometry does.

        Raises:
            FrameRejected: ``camera_info``, for an uncalibrated camera or values that cannot be used.
        """
        K = np.array(info.p, np.float64).reshape(3, 4)[:, :3] if rectified else np.array(info.k).reshape(3, 3)
        if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
            raise FrameRejected(
                "camera_info", f"camera_info is uncalibrated: focal lengths {K[0, 0]:g}, {K[1, 1]:g}; calibrate first"
            )
        width, height = info.roi.width or info.width, info.roi.height or info.height
        bin_x, bin_y = info.binning_x or 1, info.binning_y or 1
        # K is for the full sensor, in the convention that the first pixel's centre is 0
        cx, cy = K[0, 2] + 0.5 - info.roi.x_offset, K[1, 2] + 0.5 - info.roi.y_offset
        try:
            camera = Camera(
                width // bin_x,
                height // bin_y,
                float(K[0, 0] / bin_x),
                float(K[1, 1] / bin_y),
                float(cx / bin_x),
                float(cy / bin_y),
            )
        except ValueError as error:
            raise FrameRejected("camera_info", f"camera_info cannot be used: {error}") from None
        # all zero is an image that is rectified already, also to image_geometry
        return cls(camera, [] if rectified or not np.any(info.d) else info.d, info.distortion_model)

    @property
    def nbytes(self) -> int:
        """Of memory that the maps take."""
        return sum(of_axis.nbytes for of_axis in self._maps or ())

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Remap an (H, W, 3) image, linearly. Raises FrameRejected ``image_size``."""
        return self._remap(image, cv2.INTER_LINEAR, "image_size")

    def depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Remap an (H, W) depth image without mixing depths over edges. Raises FrameRejected ``depth_size``."""
        return self._remap(depth, cv2.INTER_NEAREST, "depth_size")

    def labels(self, labels: NDArray) -> NDArray[np.int32]:
        """Remap an (H, W) label image without mixing ids. Raises FrameRejected ``labels_size``."""
        return self._remap(labels.astype(np.int32, copy=False), cv2.INTER_NEAREST, "labels_size")

    def ignored(self, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Remap the (h, w) pixels of the distorted image, maybe at another scale, that show nothing of the scene.

        Raises:
            FrameRejected: ``mask_size``.
        """
        try:
            pixels = labels_at(pixels.astype(np.uint8), self._source.height, self._source.width)
        except ValueError as error:
            raise FrameRejected("mask_size", f"the mask is {error}") from None
        return self._remap(pixels, cv2.INTER_NEAREST, "mask_size") > 0

    def _remap(self, image: NDArray, interpolation: int, reason: str) -> NDArray:
        height, width = image.shape[:2]
        if (width, height) != (self._source.width, self._source.height):
            what = reason.removesuffix("_size")
            raise FrameRejected(
                reason, f"{what} is {width}x{height} but the camera is {self._source.width}x{self._source.height}"
            )
        if self._maps is None:
            return image
        return cv2.remap(image, *self._maps, interpolation, borderMode=cv2.BORDER_REPLICATE)


class UndistorterCache:
    """The undistorters used last. Cameras are few, or one per image, and then the maps of all would fill the memory."""

    def __init__(self) -> None:
        self._kept: dict[tuple, Undistorter] = {}  # the one used last is the last

    def __call__(self, camera: Camera, D: tuple[float, ...] = (), model: str = "plumb_bob") -> Undistorter:
        """See ``Undistorter``."""
        lens = camera, D, model
        undistorter = self._kept.pop(lens, None) or Undistorter(*lens)
        self._kept[lens] = undistorter
        # 64, as those without maps take memory, too; two in any case, as the cameras of a stereo rig take turns
        while len(self._kept) > 64 or len(self._kept) > 2 and self.nbytes > MAX_MAP_BYTES:
            del self._kept[next(iter(self._kept))]
        return undistorter

    @property
    def nbytes(self) -> int:
        """Of memory that the maps take."""
        return sum(undistorter.nbytes for undistorter in self._kept.values())


def _without_border(lens: Camera, D: NDArray[np.float64]) -> Camera:
    """The widest camera that sees nothing but what a lens of ``PINHOLE_MODELS`` does. Raises ValueError."""
    K, _ = cv2.getOptimalNewCameraMatrix(lens.opencv_K, D, (lens.width, lens.height), alpha=0.0)
    return Camera.from_opencv_K(K, lens.width, lens.height)


def _seen_by_fisheye(lens: Camera, D: NDArray[np.float64]) -> Camera:
    """The widest camera that sees nothing but what a fisheye lens does, within ``WIDEST`` of its axis, which stays in
    its place. Raises ValueError.

    OpenCV's choice of it goes by where the middles of the edges look, and fails where that is to the side or behind.
    """
    angles = np.linspace(0.0, np.pi / 2, 9001)[1:-1]  # from the axis
    radii = angles * np.polyval([*D[::-1], 1.0], angles**2)  # in the image; in focal lengths, as all below
    grows = np.diff(radii, prepend=0.0) > 0
    seen = len(grows) if grows.all() else int(np.argmin(grows))  # beyond, the image folds back onto itself
    if not seen:
        raise ValueError("the lens has no direction of view")
    angles, radii = angles[:seen], radii[:seen]
    edges = np.array([[lens.cx, lens.width - lens.cx], [lens.cy, lens.height - lens.cy]]) / [[lens.fx], [lens.fy]]
    at_edges = np.minimum(np.interp(edges, radii, angles), WIDEST)
    corner = np.hypot(*edges.max(axis=1))
    scale = float(max((edges / np.tan(at_edges)).max(), corner / np.tan(angles[-1])))
    return replace(lens, fx=lens.fx * scale, fy=lens.fy * scale)


def same_calibration(info: Any, other: Any) -> bool:
    """Whether two CameraInfo messages, of whichever library, say the same of the camera."""
    return (info.width, info.height, info.distortion_model, info.binning_x, info.binning_y, info.roi) == (
        other.width, other.height, other.distortion_model, other.binning_x, other.binning_y, other.roi
    ) and all(np.array_equal(getattr(info, name), getattr(other, name)) for name in "dkp")  # fmt: skip
