"""A short demo from the generated room to the report, through the installed node and player."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("embreex", reason="needs embreex: run `make test`")

from lift_ros.data.ply import read_points
from lift_ros.errors import ConfigError, DatasetError, LiftError
from lift_ros.evaluation.metrics import Contingency, panoptic_quality
from lift_ros.mapping.map_files import load_map
from lift_ros.ros import demo
from lift_ros.ros.processes import Processes, free_domain

FRAMES = 12


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Directory of a demo that has run."""
    out = tmp_path_factory.mktemp("demo") / "out"
    assert demo.run(out, FRAMES, seed=0, size=(160, 120)) == 0
    return out


def image(path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def index(path) -> int:
    """Of the frame of a label image."""
    return round((int(path.stem.split("_")[0]) + int(path.stem.split("_")[1]) / 1e9 - demo.START) * demo.RATE)


def test_published_labels_agree_over_the_views_where_the_masks_do_not(out):
    published, masks = Contingency(), Contingency()
    files = sorted((out / "labels" / "finished").iterdir())
    assert len(files) >= FRAMES / 3  # half of the images are labelled, at 5 Hz, or fewer on a busy computer
    for path in files:
        truth = image(out / "capture" / "inst" / f"{index(path):04d}.png")
        published.add(image(path), truth)
        masks.add(image(out / "capture" / "masks_L1" / f"{index(path):04d}.png"), truth)
    assert panoptic_quality(masks).matched <= 1
    assert panoptic_quality(published).matched >= 3


def test_report_pictures_clouds_and_map_belong_together(out):
    report = (out / "report.md").read_text()
    assert "| masks in " in report and "| labels out, map finished" in report and "| table " in report
    labelled = min(index(path) for path in (out / "labels" / "growing").iterdir() if image(path).any())
    assert f"- first labels {labelled / demo.RATE:.1f} s after the first image" in report
    sheet = image(out / "over_time.png")
    assert sheet.ndim == 3 and sheet.std() > 20
    assert image(out / "overlay.png").shape == (120, 160, 3)
    objects = load_map(out / "map").objects
    assert objects
    clouds = {path.stem: len(read_points(path).points) for path in (out / "objects").iterdir()}
    assert clouds == {str(item["id"]): item["points"] for item in objects}
    assert len(read_points(out / "objects.ply").points) == sum(clouds.values())


@pytest.mark.parametrize(
    ("seed", "objects", "message"), [(0, 0, "one object"), (0, -1, "one object"), (-1, 5, "negat")]
)
def test_a_room_that_there_is_not_is_refused_and_an_earlier_demo_stays(tmp_path, seed, objects, message):
    for name in ("report.md", "objects.ply"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=message):
        demo.run(tmp_path, FRAMES, seed, objects=objects)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["objects.ply", "report.md"]


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(DatasetError, match="something else than a demo"):
        demo.run(tmp_path, FRAMES, 0)
    assert (tmp_path / "precious").exists()


def test_no_frames_are_no_reason_to_clear_an_earlier_demo(tmp_path):
    (tmp_path / demo.MARKER).touch()
    (tmp_path / "plan.png").touch()
    with pytest.raises(ConfigError, match="one frame at least"):
        demo.run(tmp_path, 0, 0)
    assert (tmp_path / "plan.png").exists()


def test_a_process_that_fails_is_an_error_with_what_it_said(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start("play_bag", str(tmp_path / "missing"))
        with pytest.raises(LiftError, match=r"play_bag ended with status 1(.|\n)*missing"):
            while processes.is_running("play_bag"):
                time.sleep(0.1)


def test_processes_end_with_the_block(tmp_path):
    with pytest.raises(KeyboardInterrupt), Processes(tmp_path) as processes:
        processes.start("mapping_node")
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(processes.pid("mapping_node"), 0)


def settled(monkeypatch, **status) -> str:
    """What is said of a node that stays in this state."""
    monkeypatch.setattr(demo, "SETTLE_TIMEOUT", 0.4)
    monkeypatch.setattr(demo, "LIST_TIMEOUT", 0.1)
    figures = {"keyframes": 2, "gaussians": 5, "keyframe_queue": 0, "skipped_steps": 0} | status
    recorder = SimpleNamespace(status=SimpleNamespace(**figures), lists=1, listed=1)
    return demo._settle(SimpleNamespace(require=lambda name: None), recorder)


def test_training_that_is_not_over_in_time_is_told(monkeypatch):
    told = settled(monkeypatch, steps=2 * demo.STEPS - 7)
    assert "7 steps to go" in told and "not finished" in told
    assert "3 frames waiting" in settled(monkeypatch, steps=2 * demo.STEPS, keyframe_queue=3)
    assert settled(monkeypatch, steps=2 * demo.STEPS) == ""


def test_no_two_processes_have_the_same_domain():
    code = "from lift_ros.ros.processes import free_domain; print(free_domain(), flush=True); input()"
    own = {free_domain(), free_domain()}
    others = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        taken = own | {int(process.stdout.readline()) for process in others}
    finally:
        for process in others:
            process.communicate("\n")
    assert len(taken) == 4 and min(taken) >= 1
    assert int(os.environ["ROS_DOMAIN_ID"]) not in taken
