"""Runs, each in a process of its own, through ``lift evaluate`` and by themselves."""

from __future__ import annotations

import csv
import dataclasses
import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lift_ros.cli import main
from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.demo.generate import TRUTH_TOPIC
from lift_ros.errors import CheckpointError, ConfigError
from lift_ros.evaluation import study
from lift_ros.evaluation.masks import make_masks
from lift_ros.evaluation.measure import Truth, device_name
from lift_ros.evaluation.study import Run, carry_out, plan, write_json
from lift_ros.lifting.config import METHOD_NAMES
from lift_ros.mapping.prepare import training_device
from lift_ros.visualization import write_png

QUICK = (
    "--scale=0.4",
    "--set=mapping.photometric_steps=4",
    "--set=mapping.lifting_steps=4",
    "--set=lifting.pixels=256",
)
FRAMES = 6  # objects are decided on after five keyframes


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def capture(demo_room, tmp_path_factory) -> Path:
    """The first frames of the generated room."""
    path = tmp_path_factory.mktemp("study") / "room"
    shutil.copytree(demo_room.capture, path)
    listing = json.loads((path / "transforms.json").read_text())
    listing["frames"] = listing["frames"][:FRAMES]
    (path / "transforms.json").write_text(json.dumps(listing))
    return path


@pytest.fixture(scope="module")
def unreadable(capture) -> Path:
    """The same with pictures that are none."""
    path = capture.parent / "unreadable"
    shutil.copytree(capture, path)
    for image in (path / "rgb").iterdir():
        image.write_bytes(b"not a picture")
    return path


def changed(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}


def test_methods_side_by_side_resumed_and_with_a_run_that_fails(capture, unreadable, tmp_path, capfd):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")
    methods = METHOD_NAMES[:2]
    arguments = (capture, "--masks", "L1", "--out", tmp_path, *QUICK)
    assert evaluate(*arguments, "--methods", ",".join(methods)) == 0
    first = changed(tmp_path)
    assert len(first) == 2
    results = {m: json.loads(next((tmp_path / "runs").glob(f"room_L1_1_{m}_*.json")).read_text()) for m in methods}
    for method, result in results.items():
        figures = result["figures"]
        assert result["defined_by"]["parameters"]["lifting.method"] == method
        assert result["device"] == device_name(training_device(Config()))
        assert figures["frames"] == FRAMES and figures["mask_views"] == figures["keyframes"] > 1
        assert figures["objects"] == figures["matched"] + figures["missed"] > 1
        assert figures["pq"] == pytest.approx(figures["sq"] * figures["rq"]) and 0 <= figures["miou"] <= 1
        assert figures["psnr"] > 15 and 0 < figures["depth_l1"] < 0.5 and 0 <= figures["consistency"] <= 1
        assert figures["seconds"] > 0 and 100 < figures["memory_mib"] < 4000

    # the tables say the same
    with (tmp_path / "table.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"] == "measured"]
    assert [row["method"] for row in rows] == list(methods)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "; scale: 0.4; seed: 0;" in lines[2] and "lifting.pixels=256; cores: " in lines[2]
    assert lines[2].endswith(f"; device: {result['device']}")
    header = [cell.strip() for cell in next(line for line in lines if "PQ_scene" in line).strip("|").split("|")]
    for row in rows:
        figures = results[row["method"]]["figures"]
        assert {name: float(row[name]) for name in figures if figures[name] is not None} == pytest.approx(
            {name: value for name, value in figures.items() if value is not None}
        )
        line = next(line for line in lines if line.startswith("| measured  | room") and f" {row['method']} " in line)
        cells = dict(zip(header, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
        assert cells["PQ_scene"] == f"{figures['pq']:.3f}" and cells["memory [MiB]"] == f"{figures['memory_mib']:.0f}"
    sheet = cv2.imread(str(tmp_path / "pictures" / "room_L1_1.png"))
    assert sheet.shape[1] == 5 * 326 + 6  # image, masks, truth and two methods

    # nothing of that is done again, and a run that cannot work does not stop the rest
    capfd.readouterr()
    again = (unreadable, *arguments, "--methods", methods[0])
    assert evaluate(*again) == 1
    printed = capfd.readouterr()
    assert str(tmp_path / "table.md") in printed.out and "lift: failed: unreadable_L1_1_" in printed.err
    (failed,) = (tmp_path / "runs").glob("unreadable_*.json")
    second = changed(tmp_path)
    assert second == {**first, failed.name: second[failed.name]}
    content = json.loads(failed.read_text())
    assert "none of the 6 frames of unreadable can be used" in content["error"] and "figures" not in content
    text = (tmp_path / "table.md").read_text()
    assert "| unreadable | L1" in text.split("## Failed")[1] and "| room" in text.split("## Failed")[0]

    # what failed is tried again, and nothing else; what was written anew is another capture
    assert evaluate(*again) == 1
    third = changed(tmp_path)
    assert third == {**second, failed.name: third[failed.name]} and third != second
    os.utime(capture / "transforms.json", (0, 0))
    assert evaluate(*arguments, "--methods", methods[0]) == 0
    assert len(changed(tmp_path)) == 4


# -- without a run -----------------------------------------------------------------------------------------------------

RUN = Run("/data/room", "recorded:L1", 0.05, "unic_lift")
FIGURES = {"objects": 5, "pq": 0.5, "frames": 6, "mask_views": 6, "psnr": 20.5}


def test_what_defines_a_run_is_in_its_name():
    assert RUN.key.startswith("room_recorded-L1_0.05_unic_lift_")
    variants = [
        dataclasses.replace(RUN, **{name: value})
        for name, value in (
            ("dataset", "/other/room"), ("masks", "L1"), ("mask_share", 0.1), ("method", METHOD_NAMES[-1]),
            ("scale", 1.0), ("seed", 1), ("use_depth", False), ("settings", {"lifting.pixels": 300}),
        )
    ]  # fmt: skip
    assert len({run.key for run in (RUN, *variants)}) == len(variants) + 1
    assert RUN.key == dataclasses.replace(RUN).key


def test_another_default_of_a_parameter_makes_another_run(monkeypatch):
    key = RUN.key
    tuned = study.with_values(study.Config(), {"objects.min_views": 7})
    monkeypatch.setattr(study, "Config", lambda: tuned)
    assert RUN.key != key


def test_half_written_and_foreign_files_do_not_count(tmp_path):
    path = tmp_path / f"{RUN.key}.json"
    assert study._read(RUN, tmp_path) is None
    write_json(path, {"defined_by": RUN.definition(), "figures": {"psnr": 0.5}})
    assert study._read(RUN, tmp_path).figures == {"psnr": 0.5}
    whole = path.read_text()
    lacking = json.dumps({**FIGURES, "objects": None}), json.dumps({**FIGURES, "frames": 0}), '{"pq": 0.5}'
    figures = ("null", "{}", "[0.5]", '{"psnr": "0.5"}', *lacking, "[" * 10**5)
    damaged = [whole.replace('{\n  "psnr": 0.5\n }', content) for content in figures]
    assert whole not in damaged
    for content in (whole[: len(whole) // 2], "", "[]", whole.replace('"seed": 0', '"seed": 1'), *damaged):
        path.write_text(content)
        assert study._read(RUN, tmp_path) is None
    write_json(path, {"defined_by": RUN.definition(), "figures": FIGURES})
    assert study._read(RUN, tmp_path).figures == FIGURES and study._read(RUN, tmp_path).device is None
    write_json(path, {"defined_by": RUN.definition(), "figures": FIGURES, "device": "CPU"})
    assert study._read(RUN, tmp_path).device == "CPU"
    assert list(tmp_path.iterdir()) == [path]  # nothing partial is left behind


def test_names_of_any_length_make_files(tmp_path):
    runs = [dataclasses.replace(RUN, dataset="/data/" + "ö" * 120, method=name) for name in ("lift", "disco")]
    assert len({run.key for run in runs}) == 2
    for run in runs:
        assert run.key.startswith("ö" * 70) and len(run.key.encode()) < 170
        write_json(tmp_path / f"{run.key}.json", {"defined_by": run.definition(), "figures": FIGURES})


def test_a_result_that_cannot_be_written_ends_the_evaluation(capture, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(study, "write_json", full)
    assert evaluate(capture, "--methods", "lift", "--out", tmp_path / "out") == 2
    assert "cannot carry out room_L1_1_lift_" in (errors := capsys.readouterr().err) and "No space left" in errors


def test_a_run_that_is_killed_is_recorded_as_failed(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho at work\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (outcome,) = carry_out([RUN], tmp_path)
    assert outcome.error == "killed by signal 9, maybe for want of memory; last line: at work"
    assert json.loads((tmp_path / "runs" / f"{RUN.key}.json").read_text())["error"] == outcome.error
    program.write_text("#!/bin/sh\necho no better\nexit 3\n")  # it is tried again
    assert [outcome.error for outcome in carry_out([RUN], tmp_path)] == ["no better"]


def test_how_far_a_run_is(tmp_path, monkeypatch):
    program = tmp_path / "python"
    heard = tmp_path / "heard"
    wait = f"for i in $(seq 3000); do [ -e '{heard}' ] && break; sleep 0.01; done"
    program.write_text(f"#!/bin/sh\nprintf 'mapping:   7%%|#\\rmapping:  40%%|###'\n{wait}\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(study, "PROGRESS_INTERVAL", 0.01)
    told: list[str] = []

    def listen(progress: str) -> None:
        told.append(progress)
        if progress == "mapping 40%":
            heard.touch()

    study._carry_out(RUN, tmp_path, listen)
    assert told[0] == "" and told[-1] == "mapping 40%"


def test_what_is_done_is_in_the_table_of_an_evaluation_that_is_stopped(capture, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")
    carry = study._carry_out

    def stopped_at_the_second(run, directory, *rest):
        if run.masks == "L2":
            raise KeyboardInterrupt
        carry(run, directory, *rest)

    monkeypatch.setattr(study, "_carry_out", stopped_at_the_second)
    arguments = (capture, "--methods", "lift", "--masks", "L1", "L2", *QUICK, "--out", tmp_path)
    assert evaluate(*arguments) == 130
    with (tmp_path / "table.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "measured"]
    assert [row["masks"] for row in rows] == ["L1"] and float(rows[0]["pq"]) > 0


def test_a_table_is_of_all_that_is_done_of_what_was_asked_for_and_of_nothing_else(capture, tmp_path, monkeypatch):
    """Also where an evaluation that goes on is stopped at once, and where another one wrote its plots before."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")

    def at_once(run, directory, *_):
        picture = np.zeros((6, 8, 3), np.uint8)
        (directory / run.key).mkdir()
        for what in ("image", "masks", "truth", "labels"):
            write_png(directory / run.key / f"0_{what}.png", picture)
        write_json(directory / f"{run.key}.json", {"defined_by": run.definition(), "figures": FIGURES})

    def stopped(*_):
        raise KeyboardInterrupt

    def written() -> tuple[list[str], list[str]]:
        with (tmp_path / "table.csv").open() as file:
            rows = [row["method"] for row in csv.DictReader(file) if row["kind"] == "measured"]
        images = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")]
        return rows, sorted(str(path) for path in images if path.parts[0] not in ("runs", "hall"))

    monkeypatch.setattr(study, "_carry_out", at_once)
    arguments = (capture, "--masks", "L1", "recorded:L0", "--out", tmp_path)
    assert evaluate(*arguments, "--methods", "lift", "disco") == 0
    pictures = ["noise.png", "pictures/room_L1_1.png", "pictures/room_recorded-L0_1.png"]
    assert written() == (["lift", "lift", "disco", "disco"], pictures)
    monkeypatch.setattr(study, "_carry_out", stopped)
    assert evaluate(*arguments, "--methods", "hdbscan", "lift", "disco") == 130
    assert written() == (["lift", "lift", "disco", "disco"], pictures)

    (tmp_path / "pictures" / "mine.png").write_bytes(b"")
    (tmp_path / "room_L1_1.png").write_bytes(b"")
    other = tmp_path / "hall"
    shutil.copytree(capture, other)
    monkeypatch.setattr(study, "_carry_out", at_once)
    assert evaluate(other, "--methods", "lift", "--masks", "L1", "--out", tmp_path) == 0
    assert written() == (["lift"], ["pictures/hall_L1_1.png", "pictures/mine.png", "room_L1_1.png"])


def test_a_signal_that_ends_the_evaluation_ends_the_run_first(capture, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")
    done, _ = plan([capture], ["lift"], ["L1", "L2"], [1.0], tmp_path, scale=0.4, settings={})
    (tmp_path / "runs").mkdir()
    write_json(tmp_path / "runs" / f"{done.key}.json", {"defined_by": done.definition(), "figures": {"psnr": 20.5}})
    program = tmp_path / "python"
    begun = f"echo $$ > '{tmp_path / 'pid'}'\ncat > /dev/null"  # once it is told what to do, it is known to be there
    program.write_text(f"#!/bin/sh\n{begun}\nkill -TERM $PPID\nexec sleep 60\n")
    program.chmod(0o755)
    arguments = ["evaluate", str(capture), "--methods=lift", "--masks", "L1", "L2", "--scale=0.4", f"--out={tmp_path}"]
    code = f"import sys; sys.executable = {str(program)!r}; from lift_ros import cli; sys.exit(cli.main({arguments}))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert "20.5" in (tmp_path / "table.md").read_text()


def test_what_is_wrong_with_a_capture_is_said(capture, tmp_path, caplog):
    shutil.copytree(capture, tmp_path / "room")
    next((tmp_path / "room" / "depth").iterdir()).unlink()
    plan([tmp_path / "room"], ["lift"], ["L1"], [1.0])
    assert any(message.startswith("room: 1 of 6 frames are used without depth") for message in caplog.messages)


def test_captures_go_by_the_names_of_links(capture, tmp_path):
    (tmp_path / "freiburg1_desk").symlink_to(capture)
    (run,) = plan([tmp_path / "freiburg1_desk"], ["lift"], ["L1"], [1.0])
    assert run.dataset == str(tmp_path / "freiburg1_desk") and run.key.startswith("freiburg1_desk_L1_")


def test_every_combination_once(capture):
    runs = plan([capture, capture], ["all"], ["L1", "graph", "L1"], [1.0, 0.1], seed=4, settings={})
    assert len(runs) == len(set(METHOD_NAMES)) * 2 * 2
    assert len({run.key for run in runs}) == len(runs) and {run.seed for run in runs} == {4}
    assert {run.dataset for run in runs} == {str(capture)}
    (again,) = plan([capture / ".." / capture.name], ["lift"], ["L1"], [1.0], seed=4, settings={})
    assert again.key in {run.key for run in runs}


def test_methods_can_have_parameters_of_their_own(capture):
    runs = plan([capture], ["unified_lift", "unified_lift:area_aware=false:levels=2"], ["L1"], [1.0])
    plain, other = (run.config().lifting for run in runs)
    assert plain.method == other.method == "unified_lift"
    assert plain.unified_lift.area_aware and not other.unified_lift.area_aware and other.unified_lift.levels == 2
    assert len({run.key for run in runs}) == 2
    with pytest.raises(ConfigError, match="unknown parameter 'colour'"):
        plan([capture], ["unified_lift:colour=red"], ["L1"], [1.0])
    with pytest.raises(ConfigError, match="write NAME=VALUE"):
        plan([capture], ["unified_lift:area_aware"], ["L1"], [1.0])


def content(path: Path) -> str:
    """What a run is told by of the capture's state."""
    (run,) = plan([path], ["lift"], ["graph"], [1.0])
    return run.content


def test_a_capture_that_was_written_anew_is_another(capture, tmp_path):
    """Whichever of the files that are read, wherever they are; others, as results that are written there, are none."""
    room = tmp_path / "room"
    shutil.copytree(capture, room)
    (room / "inst").rename(tmp_path / "labels")
    (room / "inst").symlink_to(tmp_path / "labels")  # elsewhere, as on a larger disk
    (room / "depth").rename(tmp_path / "depth")
    listing = (room / "transforms.json").read_text()
    assert '"depth/' in listing
    (room / "transforms.json").write_text(listing.replace('"depth/', '"../depth/'))
    before = content(room)
    assert content(room) == content(room / "transforms.json") == before
    (room / "out").mkdir()
    (room / "out" / "table.md").write_text("of an evaluation")
    (room / "rgb" / "more.jpg").write_bytes(b"")
    assert content(room) == before
    states = {before}
    for file in (room / "transforms.json", room / "rgb/0003.jpg", tmp_path / "labels/0003.png", tmp_path / "depth"):
        file = next(file.iterdir()) if file.is_dir() else file
        os.utime(file, (0, 0))
        states.add(content(room))
    assert len(states) == 5
    next((room / "masks_L0").iterdir()).unlink()
    states.add(content(room))
    assert len(states) == 6


def test_masks_that_were_written_anew_make_another_run(capture, tmp_path):
    masks = tmp_path / "masks"
    shutil.copytree(capture / "masks_L0", masks)

    def contents() -> list[str]:
        settings = {"masks.directory": str(masks)}
        return [run.content for run in plan([capture], ["lift"], ["recorded", "L1"], [1.0], settings=settings)]

    before = contents()
    (masks / "notes.txt").write_text("no masks")
    assert contents() == before
    os.utime(next(masks.glob("*.png")), (0, 0))
    recorded, made = contents()
    assert recorded != before[0] and made == before[1]


def test_what_lies_beside_a_capture_makes_it_no_other(capture, tmp_path):
    room = tmp_path / "images_of_the_room"
    shutil.copytree(capture, room)
    before = content(room)
    (tmp_path / "unrelated.txt").write_text("beside")
    assert content(room) == before


def test_a_truth_that_no_capture_has_is_a_slip(capture, demo_room, tmp_path, caplog):
    with pytest.raises(ConfigError, match="--truth 'instancs': no capture has labels of that name; there are: .*L0"):
        plan([capture], ["lift"], ["graph"], [1.0], truth="instancs")
    assert not caplog.messages
    bare = tmp_path / "bare"
    shutil.copytree(capture, bare)
    for file in (*bare.glob("masks_*/*"), *bare.glob("inst/*")):
        file.unlink()
    with pytest.raises(ConfigError, match="--truth 'L0': no capture has labels of that name; there are: none$"):
        plan([bare], ["lift"], ["graph"], [1.0], truth="L0")
    caplog.clear()
    with open_capture(capture) as room, open_capture(demo_room.bag) as bag:
        names, topics = (", ".join(opened.recorded_names) for opened in (room, bag))
    plan([bare, capture, demo_room.bag], ["lift"], ["graph"], [1.0], truth=TRUTH_TOPIC)
    plan([demo_room.bag, capture], ["lift"], ["graph"], [1.0])
    hint, name = "(--truth NAME if one of them is the truth)", demo_room.bag.name
    assert caplog.messages == [
        f"there will be no accuracy of bare: it has no labels '{TRUTH_TOPIC}'; what it has: none",
        f"there will be no accuracy of room: it has no labels '{TRUTH_TOPIC}'; what it has: {names} {hint}",
        f"there will be no accuracy of {name}: it has no labels 'instances'; what it has: {topics} {hint}",
    ]


def test_a_bag_by_the_name_of_its_truth(demo_room):
    """What bags record goes by topics."""
    with pytest.raises(ConfigError, match="none named 'instances'.*--truth NAME.*--masks graph"):
        plan([demo_room.bag], ["lift"], ["L1"], [1.0])
    (run,) = plan([demo_room.bag], ["lift"], ["L1"], [1.0], truth=TRUTH_TOPIC, max_depth=3.0, scale=1.0)
    with run.open() as bag:
        frame = next(iter(bag.frames))
        truth = Truth(bag, run.truth)
        assert truth.known and truth.void is None and len(np.unique(truth.labels(frame))) > 2
        assert 0 < frame.depth.max() <= 3.0
        assert len(make_masks("L0", bag, run.config(), 0, run.truth).segment(frame)) > 2
        assert Truth(bag, "instances").labels(frame) is None


def test_masks_of_a_run_reach_its_configuration():
    assert RUN.config(640).masks.segmenter == "recorded"
    assert dataclasses.replace(RUN, masks="graph").config(640).masks.segmenter == "graph"
    assert RUN.config(640).mapping.image_width == 320


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "guessing"], "'method' must be one of lift"),
        (["--methods", ","], "--methods names none; there are lift"),
        (["--masks", "crayon"], "'crayon' is none of recorded:NAME, L0, L1, L2, PCF"),
        (["--masks", "recorded:L9"], "no recorded masks 'L9'"),
        (["--masks", "L1", "recorded"], "recorded masks need the directory"),
        (["--masks", "L1", "sam_vit_b"], "sam_vit_b needs a checkpoint, and none is configured (masks.checkpoint)"),
        (
            ["--masks", "L1", "mobile_sam", "--set", "masks.checkpoint=/no/mobile_sam.pt"],
            "there is no checkpoint file at /no/mobile_sam.pt. mobile_sam expects mobile_sam.pt",
        ),
        (["--mask-share", "0"], "--mask-share must be in (0, 1], got 0"),
        (["--scale", "1.5"], "--scale must be in (0, 1], got 1.5"),
        (["--set", "lifting.pixls=4"], "unknown parameter 'pixls'"),
        (
            ["--set", "mapping.image_width=96"],
            "--set mapping.image_width has no effect here, as each run has its own; use --scale",
        ),
        (["--set", "mapping.seed=4"], "use --seed"),
        (["--set", "lifting.method=disco"], "use --methods"),
        (["--set", "masks.segmenter=graph"], "use --masks"),
        (["--max-depth", "nan"], "--max-depth must be positive, got nan"),
        (["--seed", "-1"], "'seed' must be in [0, "),
        (["nowhere"], "nowhere does not exist"),
    ],
)
def test_refused_before_any_run(capture, tmp_path, capsys, monkeypatch, arguments, message):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")
    monkeypatch.setattr(study, "_carry_out", lambda *_: pytest.fail("a run was begun"))
    assert evaluate(capture, *arguments, "--out", tmp_path / "out") == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and message in errors
    assert not (tmp_path / "out").exists()


def test_figures_that_are_there_need_no_weights(capture, tmp_path):
    if importlib.util.find_spec("segment_anything") is None:
        pytest.skip("needs the package segment-anything")
    weights, out = tmp_path / "sam.pth", tmp_path / "out"
    weights.touch()

    def planned(method: str) -> list[Run]:
        return plan([capture], [method], ["sam_vit_b"], [1.0], out, settings={"masks.checkpoint": str(weights)})

    (run,) = planned("lift")
    (out / "runs").mkdir(parents=True)
    write_json(out / "runs" / f"{run.key}.json", {"defined_by": run.definition(), "figures": FIGURES})
    weights.unlink()
    assert planned("lift") == [run]
    with pytest.raises(CheckpointError, match="sam.pth"):
        planned("unified_lift")


def test_without_matplotlib(capture, tmp_path, capsys, monkeypatch):
    for name in ("matplotlib", "matplotlib.axes", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "lift_ros.evaluation.plots", raising=False)
    assert evaluate(capture, "--out", tmp_path / "out") == 2
    assert "needs matplotlib" in (errors := capsys.readouterr().err) and "'.[evaluate]'" in errors


def test_a_directory_that_cannot_be_written(capture, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")
    (tmp_path / "file").write_text("mine")
    assert evaluate(capture, "--out", tmp_path / "file") == 2
    assert "cannot write to" in capsys.readouterr().err
