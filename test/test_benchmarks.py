"""Every benchmark runs, on toys: what it prints is not looked at beyond its shape."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from masks.models import needs_segment_anything

from lift_ros.errors import LiftError
from lift_ros.masks.tiny_vit import TinyViT

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
SMALL = ("mapping.image_width=80", "mapping.photometric_steps=2")


def load(name: str) -> ModuleType:
    """A script, imported as if it were run: it finds the others, whose names are also those of folders of tests."""
    hidden = {each: sys.modules.pop(each) for each in NAMES if each in sys.modules}
    try:
        with patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
            return importlib.import_module(name)
    finally:
        for each in NAMES:
            sys.modules.pop(each, None)
        sys.modules.update(hidden)


def run(script: ModuleType, *arguments: object) -> None:
    with patch.object(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)]):
        script.main()


def rows(printed: str) -> list[list[str]]:
    """Cells of the tables, their heads included."""
    lines = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines if set(cells[0]) != {"-"}]


@pytest.fixture(scope="module", autouse=True)
def _few_threads():
    """The scripts set how many there are."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick(monkeypatch):
    """``quick(script, NAME=value)``: other constants for a script."""

    def patched(name: str, **constants: object) -> ModuleType:
        script = load(name)
        for constant, value in constants.items():
            assert hasattr(script, constant), f"{name}.py has no {constant}"
            monkeypatch.setattr(script, constant, value)
        return script

    return patched


def test_the_room_has_objects_that_are_cells_of_space():
    rooms = load("rooms")
    house = rooms.house(1500, rooms=2)
    first, second = house.ids[:1500], house.ids[1500:]
    assert first.min() == 1 and first.max() == rooms.OBJECTS
    assert torch.equal(second, first + rooms.OBJECTS)
    frame = rooms.frame(house, rooms.camera(80, 60))
    labels = house.labels_of(frame, 80)[0]
    assert (labels > 0).mean() > 0.8 and labels.max() <= rooms.OBJECTS  # the second is out of view
    borders = (np.diff(labels.astype(int), axis=1) != 0).mean()
    assert borders < 0.15  # ids that are noise would make more


def test_device(quick):
    device = quick("device", SECONDS=0.0, LEAST=1, VIEWS=2)
    figures = device.Bench(1000, 48, 36, torch.device("cpu")).figures()
    assert len(figures) == 4 + 2 * len(device.TRAINED)
    assert all(isinstance(ms, float) and ms > 0 for _, ms in figures)


def test_flat(quick, capsys):
    run(quick("flat", ROUNDS=2, WARM_UP=0, WIDTH=48, HEIGHT=36), "--rooms", 1, 3, "--per-room", 1000)
    assert [row[:2] for row in rows(capsys.readouterr().out)[1:]] == [["1,000", "1,000"], ["3,000", "1,000"]]


def test_labels(quick, capsys):
    run(quick("labels", COUNTS=(1000,), SIZES=((80, 60),), WIDTH=40, ROUNDS=2))
    assert rows(capsys.readouterr().out)[1][:2] == ["1,000", "80 x 60"]


def test_rasterizer(quick, capsys, tmp_path):
    script = quick("rasterizer", SIZES=[(1000, 48, 36)], GAUSSIANS=[500], IMAGES=[(48, 36)], CHANNEL_COUNTS=[1])
    with patch.object(script, "BASE", (1000, 48, 36, 3)), patch.object(script, "sgemm", lambda: 1e10):
        run(script, "--rounds", 1, "--threads", 1)
        reference = tmp_path / "same.py"
        reference.write_text(
            "from lift_ros.camera import Camera, PosedCamera\nfrom lift_ros.render import Splats, rasterize as ours\n"
            "def rasterize(means, quats, scales, opacities, channels, viewmat, K, width, height):\n"
            "    camera = PosedCamera(Camera.from_K(K.numpy(), width, height), viewmat)\n"
            "    return ours(Splats(means, quats, scales, opacities), channels, camera)\n"
        )
        capsys.readouterr()
        run(script, "--rounds", 1, "--threads", 1, "--channels", 3, "--reference", reference)
    assert "0.0e+00" in capsys.readouterr().out  # how far the images are apart


def test_ablation(quick, demo_room, capsys):
    variants = load("ablation").VARIANTS
    chosen = ("lift", "masks no finer than the views", "borders do not follow the frame")
    script = quick("ablation", VARIANTS={name: variants[name] for name in chosen})
    run(script, demo_room.capture, "--masks", "L0", "L1", "--every", 4)
    values = rows(capsys.readouterr().out)[1:]
    assert [row[0] for row in values] == list(chosen)
    figures = np.array([[[float(figure) for figure in cell.split(",")] for cell in row[1:]] for row in values])
    assert figures.shape == (3, 2, 3) and figures.min() >= 0 and figures.max() <= 1
    assert (figures[2, :, :2] < figures[0, :, :2]).all() and (figures[2, :, 2] == figures[0, :, 2]).all()


def test_ablation_of_keyframes_that_gave_way_to_others(quick, demo_room, capsys):
    script = quick("ablation", VARIANTS={"lift": load("ablation").VARIANTS["lift"]})
    config = script.Config()
    few = replace(config, mapping=replace(config.mapping, max_keyframes=6))  # fewer than options allow
    with patch.object(script, "Config", lambda: few):
        run(script, demo_room.capture, "--masks", "L0", "--every", 4)
    assert len(rows(capsys.readouterr().out)) == 2


def test_lifting(quick, demo_room, capsys):
    script = quick("lifting", TURN=1)
    run(script, demo_room.capture, "--methods", "unic_lift", "--masks", "L0", "--steps", 2, "--set", *SMALL)
    (row,) = rows(capsys.readouterr().out)[1:]
    assert row[0] == "unic_lift" and len(row) == 8


def test_update(quick, demo_room, capsys):
    run(quick("update", ROUNDS=1), demo_room.capture, "--masks", "L0", "--set", *SMALL)
    assert len(rows(capsys.readouterr().out)) == 9


def test_drive(quick, demo_room, capsys):
    settings = (*SMALL, "mapping.max_keyframes=10")
    run(quick("drive", BLOCK=6.0), demo_room.capture, "--rooms", 0, "--minutes", 12 / 60, "--set", *settings)
    head, *blocks = rows(capsys.readouterr().out)
    assert len(blocks) == 2
    kept, _, gone = (int(value) for value in blocks[1][1].split(","))
    assert kept == 10 and gone > 0
    assert int(blocks[1][head.index("memory [MiB]")]) > 50


def test_departures(quick, capsys):
    pytest.importorskip("embreex", reason="needs the demo extra")
    script = quick("departures", WIDTH=80, HEIGHT=60, STEPS=1)
    run(script, "--objects", 3, "--frames", 5, "--every", 2, "--masks", "L0", "--noise", 0.01, 0.005)
    head, *lines = rows(capsys.readouterr().out)
    assert len(lines) == 1 and len(lines[0]) == len(head)


@pytest.mark.parametrize("how", [("--steps", "4"), ("--mapper",)])
def test_scene_quality(demo_room, capsys, how):
    setting = "scene.seed_spacing=4.0" if "--mapper" in how else "seed_spacing=4.0"
    run(load("scene_quality"), demo_room.capture, *how, "--width", 80, "--set", setting)
    name, frames, *_ = capsys.readouterr().out.splitlines()[1].split()
    assert (name, frames) == ("capture", "8")


def test_prompts(demo_room, capsys):
    run(load("prompts"), demo_room.capture, "--points-per-side", 4)
    assert "full grid of 16: recall" in capsys.readouterr().out


@needs_segment_anything
def test_sam(quick, capsys):
    """With an encoder that takes milliseconds: to export that of MobileSAM takes longer than all other tests here."""
    for needed in ("onnx", "onnxruntime"):
        pytest.importorskip(needed, reason=f"needs {needed}")
    build = load("sam").build_mobile_sam

    def small() -> torch.nn.Module:
        return build(TinyViT(128, (8, 16, 16, 16), (1, 1, 1, 1), (1, 2, 2, 2), (7, 7, 4, 3)))

    run(quick("sam", build_mobile_sam=small, SIZE=(60, 80), BATCHES=(1, 4), ROUNDS=1), "--prompts", 22)
    head, *models = rows(capsys.readouterr().out)
    assert head[-1] == "keyframe of 22 points [s]" and len(head) == 5
    assert [row[0] for row in models] == ["ONNX Runtime", "torch"]
    assert all(len(row) == len(head) and min(map(float, row[1:])) >= 0 for row in models)


@pytest.fixture
def latency():
    pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
    pytest.importorskip("lift_ros.msg", reason="needs this package built by colcon: run `make test`")
    return load("latency")


@pytest.mark.parametrize("size", [(80, 60), (200, 150), (120, 60)])
def test_the_camera_of_latency_sends_images_of_the_size_asked_for(latency, demo_room, size):
    messages = latency.messages_of(demo_room.capture, "L0", size)
    assert len(messages) == 8
    for _, info, *images in messages:
        assert {(message.width, message.height) for message in (info, *images)} == {size}
        for message in images:
            assert len(message.data) == message.height * message.step


def test_a_row_of_latency(latency, monkeypatch):
    """Steps are counted from one status to another, whatever the time between asking for them."""
    monkeypatch.setattr(latency, "PHASE", 0.05)
    before, after = (latency.Status(steps=steps) for steps in (100, 160))
    after.header.stamp.sec = 2
    statuses = iter((before, after))
    listener = SimpleNamespace(ages=[], clouds=0, next_status=lambda check: next(statuses))
    row = latency.measure("training", listener, os.getpid(), SimpleNamespace(value=3), lambda: None)
    cells = dict(zip(rows(latency.HEADER)[0], rows(row)[0], strict=True))
    assert cells["phase"] == "training" and cells["steps [Hz]"] == "30.0"


def test_latency_does_not_wait_for_what_has_ended(latency):
    def ended() -> None:
        raise LiftError("the camera ended")

    with pytest.raises(LiftError, match="ended"):
        latency.Listener.next_status(SimpleNamespace(status=None), ended)
