"""The command line, on captures of every kind and on everything a user gets wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from data.recorder import Recorder
from scipy.spatial.transform import Rotation

from lift_ros import __version__
from lift_ros.cli import _read_parameters, main
from lift_ros.data import open_capture
from lift_ros.data.bag_writer import BagWriter
from lift_ros.data.ply import read_points
from lift_ros.errors import ConfigError
from lift_ros.lifting.methods import METHODS
from lift_ros.mapping.map_files import load_map, save_map

MASKS = "/segmentation/masks"
QUICK = (
    "--scale=0.6",
    "--set=mapping.photometric_steps=4",
    "--set=mapping.lifting_steps=4",
    "--set=lifting.pixels=1000",
    "--set=lifting.unic_lift.neighbourhood_after=1000",
)


def lift(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


@pytest.fixture(scope="module")
def mapped(demo_room, tmp_path_factory) -> Path:
    """The map of the generated capture; read only."""
    out = tmp_path_factory.mktemp("cli") / "map"
    assert lift("map", demo_room.capture, "--out", out, "--masks", "recorded:L0", *QUICK) == 0
    return out


@pytest.fixture(scope="module")
def bag(demo_room, tmp_path_factory) -> Path:
    """Three frames with masks in a bag of raw images, sqlite3."""
    path = tmp_path_factory.mktemp("cli") / "bag"
    with open_capture(demo_room.capture) as capture, BagWriter(path, compressed=False, storage="sqlite3") as writer:
        for index in range(3):
            frame = capture.frames[index]
            writer.write(frame, {MASKS: capture.recorded_labels("L0", frame)})
    return path


# -- map ---------------------------------------------------------------------------------------------------------------


def check_results(out: Path, capture_path: Path) -> None:
    """Everything that ``lift map`` promises of its output."""
    contents = load_map(out)
    ids = {item["id"] for item in contents.objects}
    assert ids and set(contents.tensors["gaussian.object_id"].unique().tolist()) - {0} == ids
    with open_capture(capture_path) as capture:
        frames = list(capture.frames)
    assert sorted(p.name for p in (out / "labels").iterdir()) == sorted(f"{frame.name}.png" for frame in frames)
    for frame in frames:
        labels = read(out / "labels" / f"{frame.name}.png")
        assert labels.dtype == np.uint16 and labels.shape == frame.image.shape[:2]
        assert set(np.unique(labels).tolist()) - {0} <= ids and (labels > 0).mean() > 0.8
    assert json.loads((out / "objects.json").read_text()) == contents.objects
    assert (out / "scene.ply").read_bytes().startswith(b"ply\n")
    sheet = read(out / "contact_sheet.png")
    assert sheet.shape[0] > 4 * 200 and sheet.std() > 20  # four rows of pictures
    assert sorted(p.name for p in out.iterdir()) == [
        "contact_sheet.png", "embeddings.safetensors", "labels", "map.yaml", "objects.json", "scene.ply",
    ]  # fmt: skip


def test_map_of_a_nerfstudio_capture(mapped, demo_room):
    check_results(mapped, demo_room.capture)
    parameters = load_map(mapped).meta["parameters"]
    assert parameters["mapping.image_width"] == 96 and parameters["lifting.pixels"] == 1000


def test_map_of_an_mcap_bag_replaces_an_older_map(demo_room, mapped, tmp_path, capsys):
    out = tmp_path / "map"
    shutil.copytree(mapped, out)
    (out / "labels" / "stray.png").write_bytes(b"of the older map")
    assert lift("map", demo_room.bag, "--out", out, "--masks", f"recorded:{MASKS}", "--seed", 3, *QUICK) == 0
    check_results(out, demo_room.bag)
    assert load_map(out).meta["parameters"]["mapping.seed"] == 3
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{out}: ") and "keyframes of 8 frames" in printed.out
    assert "Traceback" not in printed.err


def test_map_of_a_sqlite3_bag_twice_gives_the_same_files(bag, tmp_path):
    cpu = "--set=mapping.device=cpu"  # CUDA adds in any order
    for name in ("a", "b"):
        assert lift("map", bag, "--out", tmp_path / name, "--masks", f"recorded:{MASKS}", cpu, *QUICK) == 0
    check_results(tmp_path / "a", bag)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 5 + 3
    for file in files:
        one, other = ((tmp_path / name / file).read_bytes() for name in ("a", "b"))
        if file.name == "map.yaml":
            one, other = (re.sub(rb"map_id: .*\n", b"", header, count=1) for header in (one, other))
        assert one == other, file


def test_a_config_may_be_the_file_of_the_node(demo_room, tmp_path, capsys):
    """Its own parameters, topics for instance, are not for the map; a wrong name in a group is one here, too."""
    node = {"image_topic": "/camera", "autostart": True, "lifting": {"pixels": 300}, "scene.sh_degree": 0}
    node |= {"qos_overrides": {"/camera": {"depth": 1}}, "qos_overrides./camera.subscription.depth": 1}
    (tmp_path / "node.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": node}}))
    assert _read_parameters(tmp_path / "node.yaml") == {"lifting": {"pixels": 300}, "scene.sh_degree": 0}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": {"lifting": {"pixel": 300}}}}))
    assert lift("map", demo_room.capture, "--out", tmp_path / "map", "--config", tmp_path / "wrong.yaml") == 2
    assert "unknown parameter 'pixel'" in capsys.readouterr().err
    two = {"/one": {"ros__parameters": {}}, "/two": {"ros__parameters": {}}}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(two))
    with pytest.raises(ConfigError, match="of one node"):
        _read_parameters(tmp_path / "two.yaml")


def test_masks_of_a_topic_are_for_the_node(demo_room, tmp_path, capsys):
    assert lift("map", demo_room.capture, "--out", tmp_path / "map", "--masks", "topic") == 2
    assert "in the node only" in capsys.readouterr().err


def test_map_without_depth_from_a_single_bag_file_with_a_config(bag, tmp_path):
    config = {
        "mapping": {"photometric_steps": 2, "lifting_steps": 2, "image_width": 80},
        "scene": {"stereo": False},
        "lifting": {"pixels": 512, "unic_lift": {"neighbourhood_after": 1000}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (file,) = bag.glob("*.db3")
    out = tmp_path / "map"
    arguments = ["--masks", f"recorded:{MASKS}", "--no-depth", "--config", tmp_path / "config.yaml"]
    assert lift("map", file, "--out", out, *arguments, "--set", "lifting.pixels=300") == 0
    parameters = load_map(out).meta["parameters"]
    assert (parameters["mapping.image_width"], parameters["scene.stereo"]) == (80, False)
    assert parameters["lifting.pixels"] == 300  # --set goes over --config
    assert len(list((out / "labels").iterdir())) == 3


def test_frames_that_cannot_be_used_are_counted(demo_room, tmp_path, capsys):
    capture = tmp_path / "capture"
    shutil.copytree(demo_room.capture, capture)
    (capture / "rgb" / "0002.jpg").write_bytes(b"not a picture")
    listing = json.loads((capture / "transforms.json").read_text())
    listing["frames"] = listing["frames"][:4]
    listing["frames"][3]["transform_matrix"][0][0] = float("nan")
    (capture / "transforms.json").write_text(json.dumps(listing))
    assert lift("map", capture, "--out", tmp_path / "map", "--masks", "recorded:L0", *QUICK) == 0
    assert sorted(p.stem for p in (tmp_path / "map" / "labels").iterdir()) == ["0000", "0001"]
    errors = capsys.readouterr().err
    assert "lift: 1 frames not used: image_unreadable" in errors
    assert "lift: 1 frames not used: pose_not_finite" in errors


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory) -> Path:
    """A bag of a small front camera, and a rear camera that sees one half at 0.5 m and the other at 2 m."""
    path = tmp_path_factory.mktemp("cli") / "bag"
    texture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    depth = np.full((60, 80), 0.5, np.float32)
    depth[:, 40:] = 2.0
    with Recorder(path) as recorder:
        for seconds in (0.0, 0.1, 0.2):
            for name, (width, height) in (("front", (40, 30)), ("rear", (80, 60))):
                recorder.tf(seconds, "map", name, np.eye(4))
                recorder.info(seconds, f"/{name}/camera_info", name, (width, height))
                pixels = texture[:height, :width].ravel()
                recorder.image(seconds, f"/{name}/image_raw", frame=name, size=(width, height), value=pixels)
            values = depth.ravel().view(np.uint8)
            recorder.image(seconds, "/rear/depth", encoding="32FC1", frame="rear", size=(80, 60), value=values)
    return path


def test_which_camera_of_a_bag_is_mapped_and_how_far(two_cameras, tmp_path, capsys):
    arguments = ("map", two_cameras, "--masks", "graph", "--set=mapping.photometric_steps=2")
    assert_refused(capsys, lift(*arguments, "--out", tmp_path / "none"), "/front/image_raw, /rear/image_raw; choose")
    rear, depths = ("--bag", "image_topic=/rear/image_raw"), {}
    for name, options in (("all", ()), ("near", ("--max-depth", 1))):
        assert lift(*arguments, *rear, *options, "--out", tmp_path / name) == 0
        (first, *_) = (tmp_path / name / "labels").iterdir()
        assert read(first).shape == (60, 80)
        depths[name] = load_map(tmp_path / name).scene["means"][:, 2]
    assert depths["all"].min() < 0.7 and depths["all"].max() > 1.5
    assert len(depths["near"]) > 100 and depths["near"].max() < 0.7


# -- objects and render ------------------------------------------------------------------------------------------------


def test_objects_lists_what_the_map_holds(mapped, capsys):
    assert lift("objects", mapped) == 0
    lines = capsys.readouterr().out.splitlines()
    objects = load_map(mapped).objects
    assert len(lines) == len(objects) + 2
    for line, item in zip(lines[1:], objects, strict=False):
        fields = line.split()
        assert int(fields[0]) == item["id"] and int(fields[3]) == item["points"]
        assert [float(v) for v in fields[4:7]] == pytest.approx(item["centroid"], abs=5e-4)
        assert fields[-1] == "#{:02x}{:02x}{:02x}".format(*item["color"])
    assert lines[-1].startswith(f"{len(objects)} objects")


@pytest.fixture(scope="module")
def view(demo_room):
    """A pose of the capture, and what was seen from there."""
    with open_capture(demo_room.capture) as capture:
        frame = capture.frames[2]
        return frame, capture.recorded_labels("instances", frame)


def pose_forms(T: np.ndarray, tmp_path: Path) -> dict[str, list[str]]:
    numbers = [*T[:3, 3], *Rotation.from_matrix(T[:3, :3]).as_quat()]
    (tmp_path / "matrix.json").write_text(json.dumps(T.tolist()))
    (tmp_path / "numbers.json").write_text(json.dumps(T.ravel().tolist()))
    T_world_gl = T @ np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL: y up, z backward
    (tmp_path / "frame.json").write_text(json.dumps({"file_path": "1.jpg", "transform_matrix": T_world_gl.tolist()}))
    return {
        "quaternion": [repr(float(n)) for n in numbers],
        "matrix": [repr(float(n)) for n in T.ravel()],
        "file": [str(tmp_path / "matrix.json")],
        "file of numbers": [str(tmp_path / "numbers.json")],
        "file of a frame": [str(tmp_path / "frame.json")],
    }


@pytest.mark.parametrize("form", ["quaternion", "matrix", "file", "file of numbers", "file of a frame"])
def test_render_takes_a_pose_in_every_form(mapped, view, tmp_path, form):
    frame, instances = view
    pose = pose_forms(frame.T_world_camera, tmp_path)[form]
    fov = np.degrees(2 * np.arctan(0.5 * frame.camera.width / frame.camera.fx))
    out = tmp_path / "pictures"
    assert lift("render", mapped, "--pose", *pose, "--size", 160, 120, "--fov", fov, "--out", out) == 0
    rgb, depth, labels = (read(out / f"{name}.png") for name in ("rgb", "depth", "labels"))
    assert (rgb.shape, rgb.dtype) == ((120, 160, 3), np.uint8)
    assert 10 * np.log10(255**2 / np.mean((rgb[..., ::-1].astype(float) - frame.image) ** 2)) > 17
    assert (depth.shape, depth.dtype) == ((120, 160), np.uint16)
    known = (frame.depth > 0) & (depth > 0)
    assert np.median(np.abs(depth[known] / 1000 / frame.depth[known] - 1)) < 0.05
    differs = labels != read(mapped / "labels" / f"{frame.name}.png")  # whose borders are those of the frame
    assert differs.mean() < 0.03 and not cv2.erode(differs.astype(np.uint8), np.ones((5, 5))).any()
    assert read(out / "labels_color.png").shape == (120, 160, 3)
    unsure = read(out / "uncertainty.png")
    assert unsure.shape == (120, 160) and unsure[labels > 0].mean() < 128


def test_ids_and_depths_beyond_16_bits_are_none(mapped, view, tmp_path):
    contents = load_map(mapped)
    ids = contents.tensors["gaussian.object_id"]
    for item, id in zip(sorted(contents.objects, key=lambda item: item["points"])[-2:], (65535, 70000), strict=True):
        ids[ids == item["id"]] = id
        item["id"] = id
    contents.scene["means"] *= 1000.0  # of a map in millimetres
    contents.scene["log_scales"] += np.log(1000.0)
    save_map(contents, tmp_path / "map")
    T = view[0].T_world_camera.copy()
    T[:3, 3] *= 1000.0
    pose = pose_forms(T, tmp_path)["quaternion"]
    assert lift("render", tmp_path / "map", "--pose", *pose, "--size", 160, 120, "--out", tmp_path) == 0
    labels, colors = read(tmp_path / "labels.png"), read(tmp_path / "labels_color.png")
    assert 0 < labels.max() < 65535 and (colors[labels == 0].any(1)).mean() > 0.5
    assert read(tmp_path / "depth.png").max() == 0  # all is farther than 16 bits of thousandths reach


def test_small_negative_numbers_are_numbers(mapped, tmp_path):
    assert lift("render", mapped, "--pose", 0, 0, "-1e-05", 0, "-.5", 0, 1, "--size", 8, 8, "--out", tmp_path) == 0


# -- select ------------------------------------------------------------------------------------------------------------

SHOWN = "0002"  # the frame that is clicked on


@pytest.fixture(scope="module")
def embedded(demo_room, tmp_path_factory) -> Path:
    """The map of the generated capture by a method with embeddings; read only."""
    out = tmp_path_factory.mktemp("cli") / "map"
    method = ("--method", "omniseg3d", "--masks", "recorded:L0")
    assert lift("map", demo_room.capture, "--out", out, *method, *QUICK) == 0
    return out


@pytest.fixture(scope="module")
def clicked(embedded) -> tuple[dict, np.ndarray, list[int]]:
    """The object with most points but for the room around it, its pixels in a frame, and a pixel amid them."""
    item = sorted(load_map(embedded).objects, key=lambda item: item["points"])[-2]
    shown = read(embedded / "labels" / f"{SHOWN}.png") == item["id"]
    row, column = np.unravel_index(cv2.distanceTransform(shown.astype(np.uint8), cv2.DIST_L2, 5).argmax(), shown.shape)
    return item, shown, [int(column), int(row)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_a_click_on_a_pixel_selects_what_it_shows(embedded, clicked, demo_room, tmp_path, capsys):
    item, shown, pixel = clicked
    view = ("--frame", demo_room.capture, SHOWN, "--pixel", *pixel)
    masks, clouds = {}, {}
    for name, options in (("all", ()), ("connected", ("--connected",))):
        assert lift("select", embedded, *view, "--threshold", 0.6, *options, "--out", tmp_path / name) == 0
        masks[name], clouds[name] = read(tmp_path / name / "mask.png"), read_points(tmp_path / name / "selected.ply")
        assert masks[name].shape == shown.shape and set(np.unique(masks[name])) == {0, 255}
        assert iou(masks[name] > 0, shown) > 0.6
        printed = capsys.readouterr().out
        (hit,) = (line for line in printed.splitlines() if f"object {item['id']}, which has {item['points']}" in line)
        assert int(hit.split()[0]) > 0.35 * item["points"]  # what hardly shows learns little
        counts = [int(line.split()[0]) for line in printed.splitlines() if " points of " in line]
        assert sum(counts) == len(clouds[name].points) and counts == sorted(counts, reverse=True)
    here, everywhere = ({tuple(point) for point in clouds[name].points.tolist()} for name in ("connected", "all"))
    assert here < everywhere
    assert (masks["connected"] > 0).sum() < (masks["all"] > 0).sum()


def test_clicks_on_points_need_no_capture_and_add_up(embedded, clicked, tmp_path, capsys):
    item, _, _ = clicked
    other = max(load_map(embedded).objects, key=lambda item: item["points"])  # the room
    sizes = {}
    for name, clicks, threshold in (
        ("strict", [item], 0.9),
        ("loose", [item], 0.5),
        ("other", [other], 0.9),
        ("both", [item, other], 0.9),
    ):
        points = [argument for click in clicks for argument in ("--point", *click["centroid"])]
        assert lift("select", embedded, *points, "--threshold", threshold, "--out", tmp_path / name) == 0
        assert [path.name for path in (tmp_path / name).iterdir()] == ["selected.ply"]
        sizes[name] = len(read_points(tmp_path / name / "selected.ply").points)
        assert capsys.readouterr().out.count(" from the Gaussian taken for it") == len(clicks)
    assert 0 < sizes["strict"] < sizes["loose"]
    assert max(sizes["strict"], sizes["other"]) < sizes["both"] <= sizes["strict"] + sizes["other"]


def test_the_mask_is_of_the_camera_that_is_asked_for(embedded, clicked, demo_room, view, tmp_path):
    frame, _ = view
    point = ("--point", *clicked[0]["centroid"], "--threshold", 0.6, "--frame", demo_room.capture, SHOWN)
    areas = []
    for name, options in (("listed", ()), ("longer", ("--color-focal", 1.5 * frame.camera.fx))):
        assert lift("select", embedded, *point, *options, "--out", tmp_path / name) == 0
        areas.append((read(tmp_path / name / "mask.png") > 0).sum())
    assert areas[1] > 1.5 * areas[0]


# -- errors ------------------------------------------------------------------------------------------------------------


def assert_refused(capsys, status: int, message: str) -> None:
    errors = capsys.readouterr().err
    assert status == 2
    assert len(errors.splitlines()) == 1 and errors.startswith("lift: "), errors
    assert message in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "lifting.pixls=4"], "unknown parameter 'pixls'"),
        (["--set", "lifting.pixels"], "write NAME=VALUE"),
        (["--set", "lifting.pixels=[4"], "lifting.pixels=[4"),
        (["--set", "lifting.pixels=many"], "must be of type int, got 'many'"),
        (["--set", "lifting.pixels=1"], "must be at least 256"),
        (["--set", "lifting=1"], "'lifting' is a group of parameters"),
        (["--seed", "-1"], "'seed' must be in [0, "),
        (["--method", "guessing"], "'method' must be one of lift"),
        (["--scale", "1.5"], "--scale must be in (0, 1]"),
        (["--scale", "0.01"], "'image_width' must be in [32, 8192] px"),
        (["--color-focal", "-525"], "must be positive, in pixels; got -525"),
        (["--color-focal", "5250"], "give it in pixels of these images"),
        (["--masks", "recorded:L9"], "has no recorded masks 'L9'; it has: L0, L1, L2, parts, instances"),
        (["--masks", "recorded:"], "recorded"),
        (["--max-depth", "0"], "--max-depth must be positive, got 0"),
        (["--masks", "recorded"], "recorded masks need the directory"),
        (["--masks", "crayon"], "'segmenter' must be one of sam_vit_b"),
        (["--masks", "sam_vit_b", "--checkpoint", "/nowhere/sam.pth"], "/nowhere/sam.pth"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml cannot be read as YAML"),
    ],
)
def test_map_refuses_what_it_cannot_do(demo_room, tmp_path, capsys, arguments, message):
    status = lift("map", demo_room.capture, "--out", tmp_path / "map", "--masks", "recorded:L0", *arguments)
    assert_refused(capsys, status, message)
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold names and values"),
        (b"- 1\n- 2\n", "must hold names and values"),
        (b"mapping: {seed: [\n", "cannot be read as YAML"),
        (b"\xff\xfe\x00binary", "cannot be read as YAML"),
        (b"scene: {seed_spacing: 1e-3}\n", "'seed_spacing' must be at least 0.5 px, got 0.001"),
        (b"mapping: {sed: 1}\n", "unknown parameter 'sed'"),
        (b"/**: {ros__parameters: {2: 3}}\n", "config.yaml: 2, in ros__parameters, is no name of a parameter"),
        (b"2: {3: 4}\n", "unknown parameter '2.3'"),
        (b"mapping: {seed: 9223372036854775808}\n", "'seed' must be in [0, 9223372036854775807]"),
    ],
)
def test_configurations_that_are_none(demo_room, tmp_path, capsys, content, message):
    (tmp_path / "config.yaml").write_bytes(content)
    status = lift("map", demo_room.capture, "--out", tmp_path / "map", "--config", tmp_path / "config.yaml")
    assert_refused(capsys, status, message)


def test_the_segmenter_may_be_set_as_any_parameter(demo_room, tmp_path, capsys):
    chosen = ("--set", "masks.segmenter=sam_vit_b", "--set", "masks.checkpoint=/nowhere/sam.pth")
    assert_refused(capsys, lift("map", demo_room.capture, "--out", tmp_path / "map", *chosen), "/nowhere/sam.pth")


def test_a_place_that_takes_no_map_is_found_before_the_work(demo_room, tmp_path, capsys):
    (tmp_path / "file").touch()
    status = lift("map", demo_room.capture, "--out", tmp_path / "file" / "map", "--masks", "recorded:L0", *QUICK)
    assert_refused(capsys, status, "file/map could not be saved: ")


def test_captures_that_are_none(tmp_path, capsys):
    assert_refused(capsys, lift("map", tmp_path / "none", "--out", tmp_path / "map"), "does not exist")
    (tmp_path / "empty").mkdir()
    assert_refused(capsys, lift("map", tmp_path / "empty", "--out", tmp_path / "map"), "is not a capture")
    (tmp_path / "cut.mcap").write_bytes(b"\x89MCAP0\r\n")
    assert lift("map", tmp_path / "cut.mcap", "--out", tmp_path / "map") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_what_is_in_the_way_is_noticed_before_the_work(demo_room, tmp_path, capsys):
    arguments = ("map", demo_room.capture, "--masks", "recorded:L0", *QUICK, "--out")
    (tmp_path / "notes.txt").write_text("mine")
    assert_refused(capsys, lift(*arguments, tmp_path), "holds files but no map")
    assert_refused(capsys, lift(*arguments, tmp_path / "notes.txt"), "is a file")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_recorded_masks_that_belong_to_no_image(demo_room, tmp_path, capsys):
    capture = tmp_path / "capture"
    shutil.copytree(demo_room.capture, capture)
    for number, mask in enumerate(sorted((capture / "masks_L0").iterdir())):
        mask.rename(mask.with_name(f"mask{number}.png"))
    status = lift("map", capture, "--out", tmp_path / "map", "--masks", "recorded:L0", *QUICK)
    assert_refused(capsys, status, f"are looked for in {capture / 'masks_L0' / '0000.png'}")


def test_masks_for_no_frame_at_all(demo_room, bag, tmp_path, capsys):
    """The masks are those of another capture."""
    arguments = ("--masks", "recorded", "--set", f"masks.directory={demo_room.capture / 'masks_L0'}", *QUICK)
    assert lift("map", bag, "--out", tmp_path / "map", *arguments) == 2
    assert "3 x masks_missing" in capsys.readouterr().err
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pose", "1", "2", "3"], "--pose takes 7 numbers (x y z qx qy qz qw), 16, or one file; got 3"),
        (["--pose", *"1234567", "right"], "could not convert string to float: 'right'"),
        (["--pose", *"1230000"], "quaternion"),
        (["--pose", *"123000", "inf"], "quaternion"),
        (["--pose", *"123000", "nan"], "quaternion"),
        (["--pose", "nan", *"230001"], "pose holds NaN"),
        (["--pose", *"1234123412340001"], "not a rotation and a translation"),
        (["--pose", "/nowhere.json"], "/nowhere.json"),
        (["--pose", "{tmp}/words.json"], "--pose"),
        (["--pose", "{tmp}/null.json"], "must be a 4x4 matrix"),
        (["--pose", "{tmp}/frame.json"], "transform_matrix"),
        (["--pose", *"1230001", "--size", "0", "10"], "--size must be positive"),
        (["--pose", *"1230001", "--fov", "180"], "--fov in [1, 180)"),
        (["--pose", *"1230001", "--fov", "nan"], "--fov in [1, 180)"),
        (["--pose", *"1230001", "--out", "{tmp}/null.json"], "null.json"),
    ],
)
def test_render_refuses_what_it_cannot_do(mapped, tmp_path, capsys, arguments, message):
    (tmp_path / "words.json").write_text("north by north-west")
    (tmp_path / "null.json").write_text("null")
    (tmp_path / "frame.json").write_text('{"file_path": "a.jpg"}')
    arguments = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    arguments = arguments if "--out" in arguments else [*arguments, "--out", str(tmp_path / "out")]
    assert_refused(capsys, lift("render", mapped, *arguments), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing was clicked on"),
        (["--pixel", "1", "2"], "--pixel needs --frame CAPTURE NAME"),
        (["--pixel", "1", "200", "--frame", "{capture}", SHOWN], "pixel (1, 200) is outside the 160x120 image"),
        (["--pixel", "1", "2", "--frame", "{capture}", "missing"], "has no frame 'missing'"),
        (["--pixel", "1", "2", "--frame", "/nowhere", SHOWN], "/nowhere does not exist"),
        (["--point", "0", "nan", "0"], "must be finite"),
        (["--point", "0", "0", "-1e-3", "--threshold", "1"], "nothing is more similar than 1"),
        (["--point", "0", "0", "0", "--out", "{capture}/transforms.json"], "cannot write to"),
    ],
)
def test_select_refuses_what_it_cannot_do(embedded, demo_room, tmp_path, capsys, arguments, message):
    arguments = [argument.replace("{capture}", str(demo_room.capture)) for argument in arguments]
    arguments = ["--threshold", "0.5", "--out", str(tmp_path / "out"), *arguments]
    assert_refused(capsys, lift("select", embedded, *arguments), message)
    assert not (tmp_path / "out").exists()


def test_a_pixel_that_shows_nothing_of_the_map(embedded, demo_room, tmp_path, capsys):
    """The capture looks elsewhere, from outside of the room."""
    capture = tmp_path / "capture"
    shutil.copytree(demo_room.capture, capture)
    listing = json.loads((capture / "transforms.json").read_text())
    for frame in listing["frames"]:
        frame["transform_matrix"][2][3] += 100
    (capture / "transforms.json").write_text(json.dumps(listing))
    view = ("--frame", capture, SHOWN, "--pixel", 0, 0)
    assert_refused(capsys, lift("select", embedded, *view, "--threshold", 0.5), "shows nothing at pixel (0, 0)")


def test_a_map_with_parameters_that_there_are_no_more_can_be_clicked_on(mapped, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(mapped, old)
    header = (old / "map.yaml").read_text()
    (old / "map.yaml").write_text(header.replace("parameters:\n", "parameters:\n  scene.lr_means: 0.0004\n"))
    point = load_map(old).objects[0]["centroid"]
    assert lift("select", old, "--point", *point, "--threshold", 0.3, "--out", tmp_path / "found") == 0
    assert "scene.lr_means" not in capsys.readouterr().err


def test_a_click_on_a_map_by_consensus_selects_the_object(mapped, tmp_path, capsys):
    item = sorted(load_map(mapped).objects, key=lambda item: item["points"])[-2]
    click = ("--point", *item["centroid"], "--out", tmp_path)
    assert lift("select", mapped, *click, "--threshold", 0.3) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if f"object {item['id']}, which" in line)
    assert int(line.split()[0]) > 0.9 * item["points"]
    assert_refused(capsys, lift("select", mapped, *click, "--threshold", 1), "nothing is more similar")


@pytest.mark.parametrize(
    "command", [["objects"], ["render", "--pose", *"0000001"], ["select", "--threshold", "0.5", "--point", *"000"]]
)
def test_damaged_maps_are_refused(mapped, tmp_path, capsys, command):
    name, *options = command
    assert_refused(capsys, lift(name, tmp_path / "none", *options), "there is no map directory")
    for file, message in (
        ("scene.ply", "was cut or changed"),
        ("map.yaml", "map.yaml"),
        ("objects.json", "objects.json"),
    ):
        broken = tmp_path / file / "map"
        shutil.copytree(mapped, broken)
        content = (broken / file).read_bytes()
        (broken / file).write_bytes(content[: len(content) // 2])
        assert_refused(capsys, lift(name, broken, *options), message)


def test_evaluate_asks_for_the_truth_and_the_camera_that_it_is_told_of(two_cameras, demo_room, tmp_path, capsys):
    """Refused all the same, before anything is done: there is no such scale."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")
    arguments = ("--methods", "lift", "--scale", 7, "--out", tmp_path / "out")
    known = ("evaluate", demo_room.capture, *arguments)
    assert_refused(capsys, lift(*known, "--truth", "rooms"), "has none named 'rooms'; what it has: L0, L1, L2, parts")
    assert_refused(capsys, lift(*known, "--truth", "parts"), "--scale must be in (0, 1], got 7")
    assert_refused(capsys, lift("evaluate", two_cameras, *arguments), "/front/image_raw, /rear/image_raw; choose")
    rear = ("--bag", "image_topic=/rear/image_raw")
    assert_refused(capsys, lift("evaluate", two_cameras, *arguments, *rear), "has none named 'instances'")
    assert not (tmp_path / "out").exists()


def test_the_demo_is_of_the_room_that_is_asked_for(tmp_path, capsys, monkeypatch):
    """Which is not made here."""
    demo = pytest.importorskip("lift_ros.ros.demo", reason="needs ROS 2: run `make test`", exc_type=ImportError)
    for variable in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))  # the demo sets them for its processes
    asked = []

    def refuse(out: Path, *, frames: int, seed: int, **_: object) -> None:
        asked.append((out, frames, seed))
        raise ConfigError("no room today")

    monkeypatch.setattr(demo, "generate", refuse)
    assert lift("demo", "--out", tmp_path / "demo", "--frames", 20, "--seed", 3) == 2
    assert asked == [(tmp_path / "demo", 20, 3)]
    printed = capsys.readouterr()
    assert "lift: no room today" in printed.err and "seed 3: 20 images" in printed.out
    assert_refused(capsys, lift("demo", "--out", tmp_path / "demo", "--frames", 0), "one frame at least, not 0")


def test_as_a_program(mapped, tmp_path):
    """Exit status and streams as a shell sees them."""

    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "lift_ros.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1])

    listed = run("objects", mapped)
    assert listed.returncode == 0 and "objects in frame" in listed.stdout and listed.stderr == ""
    refused = run("map", tmp_path / "none", "--out", tmp_path / "map")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"lift: {tmp_path / 'none'} does not exist\n"


def test_version_and_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        lift("--version")
    assert stopped.value.code == 0 and capsys.readouterr().out.strip() == __version__
    with pytest.raises(SystemExit) as stopped:
        lift("map", "somewhere")
    assert stopped.value.code == 2 and "--out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        lift("map", "--help")
    text = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", text) for name in METHODS) and len(METHODS) == 8
