"""transforms.json captures: conventions, options of the layout, and listings that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data.layouts import files_below, write_image

from lift_ros.data import open_capture
from lift_ros.data.files import unique_names
from lift_ros.errors import DatasetError, FrameRejected

W, H = 64, 48
# a camera at (1, 2, 3) that looks along the world's +x, z up: OpenGL has x right, y up, z backward
LOOK_ALONG_X = [[0, 0, -1, 1], [-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]


class Listing:
    """A small capture on disk whose transforms.json can be bent before it is opened."""

    def __init__(self, root: Path, frames: int = 3) -> None:
        self.root = root
        self.meta: dict[str, Any] = {"fl_x": 50.0, "fl_y": 51.0, "cx": 32.0, "cy": 24.0, "w": W, "h": H}
        self.frames = []
        for folder in ("rgb", "depth", "inst", "masks_L0"):
            (root / folder).mkdir()
        for index in range(frames):
            name = f"{index:04d}.png"
            cv2.imwrite(str(root / "rgb" / name), np.full((H, W, 3), (10 + index, 20, 30), np.uint8))
            cv2.imwrite(str(root / "depth" / name), np.full((H, W), 1000 + index, np.uint16))
            cv2.imwrite(str(root / "inst" / name), np.full((H, W), 300 + index, np.uint16))
            cv2.imwrite(str(root / "masks_L0" / name), np.full((H, W), 1 + index, np.uint16))
            self.frames.append(
                {
                    "file_path": f"rgb/{name}",
                    "depth_file_path": f"depth/{name}",
                    "time": 0.5 * index,
                    "instance_file_path": f"inst/{name}",
                    "transform_matrix": LOOK_ALONG_X,
                }  # fmt: skip
            )

    def open(self, **options):
        (self.root / "transforms.json").write_text(json.dumps({**self.meta, "frames": self.frames}))
        return open_capture(self.root, **options)


@pytest.fixture
def listing(tmp_path) -> Listing:
    return Listing(tmp_path)


def test_frames_are_optical_metric_and_rgb(listing):
    capture = listing.open()
    frames = list(capture.frames)
    assert len(capture.frames) == len(frames) == 3
    assert capture.has_depth and capture.world_frame == "map" and set(capture.files) == files_below(listing.root)
    frame = frames[1]
    assert frame.image[0, 0].tolist() == [30, 20, 11]
    np.testing.assert_allclose(frame.depth, 1.001)
    assert (frame.name, frame.stamp) == ("0001", 0.5)
    # a point 5 m ahead, 1 m to the left and 0.5 m up lies left of and above the middle
    point = np.array([1 + 5, 2 + 1, 3 + 0.5, 1])
    inside = np.linalg.inv(frame.T_world_camera) @ point
    np.testing.assert_allclose(inside[:3], (-1, -0.5, 5), atol=1e-12)
    assert [f.name for f in capture.frames] == ["0000", "0001", "0002"]  # again from the start


def test_the_json_file_itself_may_be_named(listing):
    listing.open()
    assert len(open_capture(listing.root / "transforms.json")) == 3


def test_intrinsics_may_differ_by_frame(listing):
    listing.frames[1].update(fl_x=70.0, cx=30.0)
    listing.frames[2].update(camera_angle_x=2 * np.arctan(0.5 * W / 80.0))
    first, second, third = (frame.camera for frame in listing.open().frames)
    assert (first.fx, first.fy, first.cx) == (50.0, 51.0, 32.0)
    assert (second.fx, second.fy, second.cx) == (70.0, 70.0, 30.0)
    assert (third.fx, third.fy, third.cx) == (pytest.approx(80), pytest.approx(80), 32.0)


@pytest.mark.parametrize(
    "given",
    [
        {"camera_angle_x": 2 * np.arctan(0.5 * W / 80.0)},
        {"camera_angle_y": 2 * np.arctan(0.5 * H / 80.0)},
        {"y_fov": np.degrees(2 * np.arctan(0.5 * H / 80.0))},
        {"fl_y": 80.0},
        {"fl_x": 0.0, "fl_y": 80.0},
    ],
)
def test_one_focal_length_or_angle_of_view_is_enough(listing, given):
    listing.meta = given
    camera = listing.open().frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (pytest.approx(80), pytest.approx(80), W / 2, H / 2)


@pytest.mark.parametrize("given", [{"camera_angle_x": 0.0}, {"fl_x": 0.0}, {"fl_x": -5.0}])
def test_focal_lengths_that_are_none(listing, given):
    listing.meta = given
    with pytest.raises(DatasetError, match="3 x camera_info.*focal lengths must be positive and finite"):
        list(listing.open().frames)


@pytest.mark.parametrize("key", ["ftheta_p0", "latlong", "equirectangular", "orthographic"])
def test_other_lenses_of_instant_ngp_are_refused(listing, key):
    listing.frames[1][key] = 0.1 if key == "ftheta_p0" else True
    capture = listing.open()
    assert [frame.name for frame in capture.frames] == ["0000", "0002"] and capture.skipped == {"camera_info": 1}
    with pytest.raises(FrameRejected, match=f"0001.png: '{key}' is a lens of instant-ngp that is not supported"):
        capture.load(1)
    listing.meta[key] = listing.frames[1].pop(key)
    with pytest.raises(DatasetError, match=rf"/transforms\.json: '{key}' is a lens of instant-ngp"):
        listing.open()


def test_a_frame_with_an_unknown_camera_model_is_skipped(listing):
    listing.frames[1]["camera_model"] = "EQUIRECTANGULAR"
    with pytest.raises(FrameRejected, match="0001.png: camera_model 'EQUIRECTANGULAR' is not one of OPENCV"):
        listing.open().load(1)


def test_instant_ngp(listing):
    listing.meta = {
        "camera_angle_x": 2 * np.arctan(0.5 * W / 80.0),
        "camera_angle_y": 2 * np.arctan(0.5 * H / 82.0),
        "aabb_scale": 16,
        "scale": 0.33,
        "offset": [0.5, 0.5, 0.5],
        "integer_depth_scale": 1 / 4000,
    }
    for index, entry in enumerate(listing.frames):
        entry.update(sharpness=30.0, file_path=f".\\rgb\\{index:04d}", depth_path=entry.pop("depth_file_path"))
        del entry["time"]
    frame = listing.open().frames[1]
    camera = frame.camera
    assert (camera.width, camera.height, camera.fx, camera.fy) == (W, H, pytest.approx(80), pytest.approx(82))
    assert frame.name == "0001" and frame.image[0, 0].tolist() == [30, 20, 11]
    np.testing.assert_allclose(frame.depth, 1001 / 4000)
    np.testing.assert_allclose(frame.T_world_camera[:3, 3], (1, 2, 3))
    listing.meta = {"x_fov": 90.0, "is_fisheye": True, "k1": 0.1}
    (listing.root / "transforms_train.json").write_text(json.dumps({**listing.meta, "frames": listing.frames}))
    undistorted = open_capture(listing.root / "transforms_train.json").frames[0]
    assert 0.5 * W / 2 < undistorted.camera.fx < 2 * W / 2 and undistorted.camera.fx != W / 2


@pytest.mark.parametrize(
    ("model", "keys"),
    [("OPENCV", "k1"), ("OPENCV_FISHEYE", "k2"), ("SIMPLE_RADIAL", "k1"), ("RADIAL", "k2"), ("PINHOLE", "k1")],
)
def test_lens_distortion_is_removed(listing, model, keys):
    listing.meta.update(camera_model=model, **{keys: -0.2})
    frame = listing.open().frames[0]
    assert frame.camera.fx != 50.0 and frame.image.shape == (H, W, 3)


@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE"])
def test_distortion_in_one_list_goes_before_its_coefficients(listing, model):
    k4 = 0.01 if model == "OPENCV_FISHEYE" else 0.0
    named = dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), (-0.2, 0.05, 0.01, k4, 0.002, -0.001), strict=True))
    listing.meta |= {"camera_model": model, **named}
    expected = listing.open().frames[0].camera
    assert expected.fx != 50.0
    listing.meta |= {"k1": 0.1, "distortion_params": list(named.values())}
    assert listing.open().frames[0].camera == expected
    listing.frames[2]["distortion_params"] = [0.0, 0.1, 0, 0, 0, 0]
    cameras = [frame.camera for frame in listing.open().frames]
    assert cameras[1] == expected != cameras[2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.1, 0, 0, 0.2, 0, 0], "k4 is not part of the RADIAL model"),
        ([0.1, 0, 0, 0], "distortion_params are 4, not the 6"),
        (0.1, "has no len"),
    ],
)
def test_wrong_distortion_params(listing, values, message):
    listing.meta |= {"camera_model": "RADIAL", "distortion_params": values}
    with pytest.raises(DatasetError, match=f"3 x camera_info.*{message}"):
        list(listing.open().frames)


def test_a_fisheye_lens_without_coefficients_bends_all_the_same(listing):
    listing.meta |= {"camera_model": "OPENCV_FISHEYE"}
    assert listing.open().frames[0].camera.fx != 50.0


def test_recorded_labels(listing):
    capture = listing.open()
    assert capture.recorded_names == ("L0", "instances")
    frame = capture.frames[1]
    assert (capture.recorded_labels("L0", frame) == 2).all()
    assert (capture.recorded_labels("instances", frame) == 301).all()
    assert capture.recorded_labels("instances", frame.resized(32, 24)).shape == (24, 32)
    (listing.root / "masks_L0" / "0001.png").unlink()
    assert capture.recorded_labels("L0", frame) is None
    with pytest.raises(DatasetError, match="L0, instances"):
        capture.recorded_labels("L7", frame)


def test_order_is_by_time_else_by_number(listing):
    listing.frames.reverse()
    assert [f.name for f in listing.open().frames] == ["0000", "0001", "0002"]
    for entry, name in zip(listing.frames, ("f_10", "f_9", "f_100"), strict=True):
        (listing.root / entry["file_path"]).rename(listing.root / "rgb" / f"{name}.png")
        entry["file_path"] = f"rgb/{name}.png"
        del entry["time"]
    frames = list(listing.open().frames)
    assert [f.name for f in frames] == ["f_9", "f_10", "f_100"]
    assert frames[0].stamp < frames[1].stamp < frames[2].stamp


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["images/a.png", "images/b.png"], ["a", "b"]),
        (["/data/cam0/1.png", "/data/cam1/1.png"], ["data_cam0_1", "data_cam1_1"]),  # not of the root directory
        (["images/a.png", "images/a.jpg"], ["images_a.png", "images_a.jpg"]),
        (["a/b_c.png", "a_b/c.png", "x/c.png"], ["a_b_c.png_0", "a_b_c.png_1", "x_c.png_2"]),
        (["a.png", "a.png"], ["a.png_0", "a.png_1"]),
    ],
)
def test_every_frame_has_a_file_name_of_its_own(paths, names):
    assert unique_names(paths) == names


def test_equal_stems_of_several_cameras_stay_apart(listing):
    for camera in ("left", "right"):
        (listing.root / camera).mkdir()
        (listing.root / camera / "0000.png").write_bytes((listing.root / "rgb/0000.png").read_bytes())
    listing.frames = [{**listing.frames[0], "file_path": f"{camera}/0000.png"} for camera in ("left", "right")]
    assert [f.name for f in listing.open().frames] == ["left_0000", "right_0000"]


def test_smaller_copies_of_images_and_labels(listing):
    assert listing.open().recorded_names == ("L0", "instances")
    small = (W // 2, H // 2)
    image = listing.root / "rgb/0000.png"
    cv2.imwrite(str(image), cv2.resize(cv2.imread(str(image)), small))
    cv2.imwrite(str(listing.root / "masks_L0/0001.png"), np.full(small[::-1], 5, np.uint16))
    cv2.imwrite(str(listing.root / "masks_L0/0002.png"), np.full((H, W // 2), 5, np.uint16))
    (listing.root / "masks_2").mkdir()  # nerfstudio's own, of what is valid in a smaller copy
    listing.meta |= {"k1": 0.05, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    capture = listing.open()
    assert capture.recorded_names == ("L0", "instances")
    half, whole, _ = capture.frames
    assert half.image.shape == (H // 2, W // 2, 3) and whole.image.shape == (H, W, 3)
    assert half.camera.fx == pytest.approx(whole.camera.fx / 2, rel=0.02)
    assert half.camera.cx == pytest.approx(whole.camera.cx / 2, abs=0.5)
    labels = capture.recorded_labels("L0", whole)
    assert labels.shape == (H, W) and (labels == 5).all()
    with pytest.raises(FrameRejected, match="0002.png.*another shape") as rejected:
        capture.recorded_labels("L0", capture.frames[2])
    assert rejected.value.reason == "labels_size"


def test_stamps_are_times_only_where_they_are_given(listing):
    assert listing.open().timed
    for entry in listing.frames:
        entry["time"] = 0
    listing.frames.reverse()
    capture = listing.open()
    assert not capture.timed and [frame.name for frame in capture.frames] == ["0000", "0001", "0002"]
    assert len({frame.stamp for frame in capture.frames}) == 3
    del listing.frames[0]["time"]
    assert not listing.open().timed


def test_depth_units_ceiling_and_coarser_sensors(listing):
    listing.meta["depth_unit_scale_factor"] = 0.002
    assert listing.open().frames[0].depth[0, 0] == pytest.approx(2.0)
    assert not listing.open(max_depth=1.5).frames[0].depth.any()
    cv2.imwrite(str(listing.root / "depth/0000.png"), np.full((H // 2, W // 2), 700, np.uint16))
    np.testing.assert_allclose(listing.open().frames[0].depth, 1.4)
    np.save(listing.root / "depth/0001.npy", np.full((H, W), 3.0, np.float32))
    listing.frames[1]["depth_file_path"] = "depth/0001.npy"
    listing.meta["depth_unit_scale_factor"] = 1.0
    np.testing.assert_allclose(listing.open().frames[1].depth, 3.0)


@pytest.mark.parametrize("size", [(40, 30), (128, 96)])
def test_depth_at_another_size_stays_where_it_is(listing, size):
    """Each pixel of the image looks at what lies at its middle, and of several pixels takes one of those it covers."""
    width, height = size
    depth = 1000 + np.arange(height)[:, None] + 100 * np.arange(width)
    cv2.imwrite(str(listing.root / "depth/0000.png"), depth.astype(np.uint16))
    read = np.rint(1000 * listing.open().frames[0].depth).astype(int) - 1000
    # how far the middle of the pixel that was taken is from that of the image's, in pixels of the smaller of the two
    for taken, there, here in ((read % 100, height, H), ((read // 100).T, width, W)):
        off = ((taken + 0.5) / there - (np.arange(here)[:, None] + 0.5) / here) * min(there, here)
        assert np.abs(off).max() <= 0.5 and abs(off.mean()) < 0.05


@pytest.mark.parametrize("key", ["depth_unit_scale_factor", "integer_depth_scale"])
def test_depth_in_metres_without_its_unit_is_no_capture_without_depth(listing, key):
    depth = np.full((H, W), 3.0, np.float32)
    depth[0], depth[1, 0] = 0, 20.0  # unknown, and one far away
    np.save(listing.root / "depth/0001.npy", depth)
    listing.frames[1]["depth_file_path"] = "depth/0001.npy"
    capture = listing.open()
    assert [frame.name for frame in capture.frames] == ["0000", "0002"] and capture.skipped == {"depth_encoding": 1}
    with pytest.raises(FrameRejected, match=f"0001.npy: depth is 0.003, .* of 0.001 m,.*'{key}'.*transforms.json"):
        capture.load(1)
    assert capture.load(1, depth=False).depth is None
    listing.meta[key] = 1.0
    np.testing.assert_array_equal(listing.open().load(1).depth, depth)
    np.save(listing.root / "depth/0001.npy", np.zeros((H, W), np.float32))  # nothing is known: that is no wrong unit
    assert not listing.open().load(1).depth.any()


def test_bad_frames_are_skipped_and_counted(tmp_path):
    listing = Listing(tmp_path, frames=8)
    (listing.root / "rgb/0000.png").write_bytes(b"no picture")
    (listing.root / "rgb/0001.png").unlink()
    listing.frames[2]["transform_matrix"] = (2 * np.eye(4)).tolist()
    listing.frames[3]["transform_matrix"] = [[float("nan")] * 4] * 4
    del listing.frames[4]["transform_matrix"]
    cv2.imwrite(str(listing.root / "rgb/0005.png"), np.zeros((H + 2, W, 3), np.uint8))
    cv2.imwrite(str(listing.root / "depth/0006.png"), np.zeros((H, W // 2), np.uint16))
    capture = listing.open()
    assert [frame.name for frame in capture.frames] == ["0007"]
    assert [frame.name for frame in capture.frames] == ["0007"]  # counted once, however often it is read
    assert capture.skipped == {
        "image_unreadable": 2, "pose_not_rigid": 1, "pose_not_finite": 1, "pose_missing": 1, "image_size": 1,
        "depth_size": 1,
    }  # fmt: skip
    with pytest.raises(FrameRejected, match=r"0001\.png does not exist"):
        capture.load(1)


def test_a_capture_without_one_usable_frame_is_an_error(listing):
    for entry in listing.frames:
        entry["transform_matrix"] = np.zeros((4, 4)).tolist()
    with pytest.raises(DatasetError, match="none of the 3 frames.*3 x pose_not_rigid"):
        list(listing.open().frames)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"cannot read .*/transforms\.json"),
        ("[]", r"/transforms\.json lists no frames"),
        ('{"frames": [{}]}', r"/transforms\.json: every entry of 'frames' needs a 'file_path'"),
        ('{"frames": [{"file_path": "a.png"}]}', r"/transforms\.json: neither 'fl_x'"),
        (
            '{"frames": [{"file_path": "a.png"}], "fl_x": 1, "camera_model": "EQUIRECTANGULAR"}',
            r"/transforms\.json: camera_model 'EQUIRECTANGULAR'",
        ),
    ],
)
def test_broken_listings(tmp_path, text, message):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        open_capture(tmp_path)


def test_what_is_no_capture(tmp_path):
    for name in ("nowhere", "transforms_train.json"):
        with pytest.raises(DatasetError, match=f"{name} does not exist"):
            open_capture(tmp_path / name)
    with pytest.raises(DatasetError, match=r"holds no transforms\.json .* metadata\.yaml"):
        open_capture(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match="is not a capture"):
        open_capture(tmp_path / "notes.txt")


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_sparse_cloud(listing, encoding):
    order = ">" if "big" in encoding else "<"
    vertices = np.zeros(3, [(n, order + "f4") for n in "xyz"] + [(n, "u1") for n in ("red", "green", "blue")])
    vertices["x"], vertices["y"], vertices["red"] = (1, 2, np.nan), (4, 5, 6), (10, 20, 30)
    header = ["ply", f"format {encoding} 1.0", "comment made up", "element vertex 3"]
    header += [f"property float {n}" for n in "xyz"] + [f"property uchar {n}" for n in ("red", "green", "blue")]
    header += ["element face 0", "property list uchar int vertex_indices", "end_header", ""]
    body = vertices.tobytes()
    if encoding == "ascii":
        body = "\n".join(" ".join(str(value) for value in vertex) for vertex in vertices.tolist()).encode()
    (listing.root / "cloud.ply").write_bytes("\n".join(header).encode() + body)
    listing.meta["ply_file_path"] = "cloud.ply"
    cloud = listing.open().sparse_cloud
    np.testing.assert_array_equal(cloud.points, [[1, 4, 0], [2, 5, 0]])
    np.testing.assert_array_equal(cloud.colors, [[10, 0, 0], [20, 0, 0]])


def test_depth_and_points_are_in_the_unit_of_the_poses(listing):
    header = ("ply", "format ascii 1.0", "element vertex 1", *(f"property float {axis}" for axis in "xyz"))
    (listing.root / "cloud.ply").write_text("\n".join((*header, "end_header", "1 2 3", "")))
    listing.meta |= {"ply_file_path": "cloud.ply", "applied_scale": 0.5}
    capture = listing.open()
    np.testing.assert_array_equal(capture.sparse_cloud.points, [[0.5, 1.0, 1.5]])
    frame = capture.frames[0]
    assert frame.depth[0, 0] == pytest.approx(0.5) and frame.T_world_camera[:3, 3].tolist() == [1, 2, 3]
    for scale in (0, -1, "half", float("nan")):
        listing.meta["applied_scale"] = scale
        with pytest.raises(DatasetError, match="is no applied_scale"):
            listing.open()


def test_files_that_a_listing_names_and_are_missing(listing):
    listing.meta["ply_file_path"] = "cloud.ply"
    capture = listing.open()
    assert capture.sparse_cloud is None and len(list(capture.frames)) == 3
    (problem,) = capture.problems
    assert problem.endswith("file is missing: " + str(listing.root / "cloud.ply"))
    del listing.meta["ply_file_path"]
    for entry in listing.frames:
        (listing.root / entry["file_path"]).unlink()
    with pytest.raises(DatasetError, match=r"none of the 3 frames .*/rgb/0002\.png does not exist"):
        list(listing.open().frames)


def test_frames_whose_depth_is_missing_are_used_without(listing):
    (listing.root / "depth/0001.png").unlink()
    capture = listing.open()
    assert [frame.depth is None for frame in capture.frames] == [False, True, False] and capture.has_depth
    (problem,) = capture.problems
    assert problem.startswith("1 of 3 frames are used without depth") and problem.endswith("depth/0001.png")
    (listing.root / "depth/0000.png").write_bytes(b"no picture")  # which is an error, as it was to be there
    (listing.root / "depth/0002.png").unlink()
    capture = listing.open()
    assert len(list(capture.frames)) == 2 and capture.skipped == {"depth_unreadable": 1}
    assert capture.problems[0].startswith("2 of 3 frames") and capture.problems[0].endswith("depth/0001.png, ...")
    (listing.root / "depth/0000.png").unlink()
    assert not listing.open().has_depth


def test_masks_may_be_called_as_the_images_are(listing):
    """By the frame's name, by the path below the folder of all images, and as COLMAP has it with the suffix."""
    for camera in ("left", "right"):
        write_image(listing.root / f"rgb/{camera}/0000.png", np.zeros((H, W, 3), np.uint8))
    listing.frames = [{**listing.frames[0], "file_path": f"rgb/{camera}/0000.png"} for camera in ("left", "right")]
    for file in ("sam/rgb_left_0000.png", "sam/rgb/left/0000.png", "path/left/0000.png", "colmap/left/0000.png.png"):
        for id, camera in enumerate(("left", "right"), 1):
            write_image(listing.root / f"masks_{file}".replace("left", camera), np.full((H, W), id, np.uint16))
    capture = listing.open()
    for name in ("sam", "path", "colmap"):
        assert capture.labelled(name) == 2
        assert [capture.recorded_labels(name, frame)[0, 0] for frame in capture.frames] == [1, 2]
    assert capture.labelled("L0") == 0
    assert capture.first_labels("L0") == str(listing.root / "masks_L0/rgb_left_0000.png")


def test_no_mask_is_that_of_two_images(listing):
    image = listing.root / "rgb/0000.png"
    image.with_suffix(".jpg").write_bytes(image.read_bytes())
    listing.frames = [{**listing.frames[0], "file_path": f"rgb/0000.{suffix}"} for suffix in ("png", "jpg")]
    assert listing.open().labelled("L0") == 0


def test_listings_written_under_windows(listing):
    for entry in listing.frames:
        entry.update({key: value.replace("/", "\\") for key, value in entry.items() if key.endswith("_path")})
    (listing.root / "clouds").mkdir()
    header = ("ply", "format ascii 1.0", "element vertex 1", *(f"property float {axis}" for axis in "xyz"))
    (listing.root / "clouds/all.ply").write_text("\n".join((*header, "end_header", "1 2 3", "")))
    listing.meta["ply_file_path"] = "clouds\\all.ply"
    capture = listing.open()
    assert len(capture.sparse_cloud.points) == 1 and capture.labelled("instances") == 3
    assert all(frame.depth is not None for frame in capture.frames) and not capture.problems
    file = listing.root / "transforms.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(open_capture(listing.root)) == 3


def test_nulls_are_what_is_not_given(listing):
    expected = listing.open().frames[0]
    listing.meta |= dict.fromkeys(("depth_unit_scale_factor", "camera_model", "camera_angle_x", "k1", "ply_file_path"))
    listing.frames[0] |= {"time": None, "fl_x": None, "depth_path": None}
    capture = listing.open()
    assert capture.frames[0].camera == expected.camera and capture.frames[0].depth[0, 0] == expected.depth[0, 0]
    assert not capture.timed
    listing.meta["depth_unit_scale_factor"] = "a thousandth"
    with pytest.raises(DatasetError, match="'a thousandth' is no unit of depth"):
        listing.open()
    listing.frames[0]["instance_file_path"] = 7
    with pytest.raises(DatasetError, match="a 'instance_file_path' is 7, no path"):
        listing.open()


@pytest.mark.parametrize(
    ("depth", "unit"),
    [
        (np.full((H, W, 1), 2.0, np.float32), 1.0),
        (np.full((H, W), 2000, np.int32), 0.001),
        (np.full((H, W), 2000, np.int64), 0.001),
        (np.full((H, W), 2000, np.int16), 0.001),
    ],
)
def test_arrays_of_depth(listing, depth, unit):
    depth[0, 0] = -1
    np.save(listing.root / "depth/0000.npy", depth)
    listing.frames[0]["depth_file_path"] = "depth/0000.npy"
    listing.meta["depth_unit_scale_factor"] = unit
    read = listing.open().frames[0].depth
    assert read.shape == (H, W) and read[0, 0] == 0
    np.testing.assert_allclose(read.ravel()[1:], 2.0)


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint64, np.float32, np.float64])
def test_values_that_are_no_ids(listing, dtype):
    labels = np.full((H, W), 5, dtype)
    labels[0] = np.nan if np.issubdtype(dtype, np.floating) else 2**32 - 1
    labels[1] = 2**31
    if dtype == np.int64:
        labels[2] = -1
    np.save(listing.root / "inst/0000.npy", labels)
    listing.frames[0]["instance_file_path"] = "inst/0000.npy"
    capture = listing.open()
    read = capture.recorded_labels("instances", capture.frames[0])
    assert set(np.unique(read)) == {0, 5} and not read[:2].any() and (read[3:] == 5).all()


@pytest.mark.parametrize("data", [b"", b"ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nend_header\n1\n"])
def test_broken_sparse_cloud(listing, data):
    (listing.root / "cloud.ply").write_bytes(data)
    listing.meta["ply_file_path"] = "cloud.ply"
    with pytest.raises(DatasetError, match=r"cloud\.ply as a PLY"):
        listing.open()


def test_real_capture_with_distortion_and_cloud(captured):
    capture = open_capture(captured("bear_rgb"))
    assert len(capture) == 96 and not capture.has_depth
    frame = capture.frames[10]
    T_camera_world = np.linalg.inv(frame.T_world_camera)
    pixels, z = frame.camera.project(capture.sparse_cloud.points @ T_camera_world[:3, :3].T + T_camera_world[:3, 3])
    seen = (z > 0) & (pixels >= 0).all(1) & (pixels < (frame.camera.width, frame.camera.height)).all(1)
    column, row = pixels[seen].astype(int).T
    colors = capture.sparse_cloud.colors[seen].astype(int)
    off = np.abs(frame.image[row, column] - colors).mean()
    chance = np.abs(frame.image[row, column] - np.random.default_rng(0).permutation(colors)).mean()
    assert seen.sum() > 10_000 and off < 0.65 * chance  # the cloud is occluded in part: not every point agrees


def test_masks_of_what_does_not_count(listing):
    """As nerfstudio has them: black pixels are not used."""
    mask = np.full((H, W), 255, np.uint8)
    mask[10:20, 30:50] = 0
    for index, name in enumerate(("all.png", "missing.png")):
        listing.frames[index]["mask_path"] = f"valid/{name}"
    write_image(listing.root / "valid" / "all.png", mask)
    capture = listing.open()
    first, second, third = capture.frames
    np.testing.assert_array_equal(first.ignored, mask == 0)
    assert (first.depth[mask == 0] == 0).all() and (first.depth[mask > 0] > 0).all()
    assert second.ignored is None and third.ignored is None
    assert "missing.png" in "".join(capture.problems) and "1 of 3 frames" in "".join(capture.problems)
    assert listing.root / "valid" / "all.png" in capture.files


def test_a_mask_that_cannot_be_read_or_is_of_another_shape(listing):
    for index, (name, content) in enumerate((("text.png", b"no image"), ("wide.png", None))):
        listing.frames[index]["mask_path"] = name
        if content:
            (listing.root / name).write_bytes(content)
    write_image(listing.root / "wide.png", np.full((H, 2 * W), 255, np.uint8))
    capture = listing.open()
    assert len(list(capture.frames)) == 1
    assert capture.skipped == {"mask_unreadable": 1, "mask_size": 1}
