"""Tables, plots and pictures, of outcomes made by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import lift_ros
from lift_ros.config import Config
from lift_ros.errors import LiftError
from lift_ros.evaluation.published import MESSY, PROMPTED, PUBLISHED, SHARE_CLAIMS, UNIC
from lift_ros.evaluation.report import COLUMNS, dataset_names, markdown_report, markdown_table, write_report
from lift_ros.evaluation.study import Outcome, Run
from lift_ros.lifting.config import METHOD_NAMES
from lift_ros.visualization import write_png


@pytest.fixture
def outcomes(tmp_path) -> list[Outcome]:
    """Two methods on two data sets with two kinds of masks and shares; one run failed."""
    outcomes = []
    for objects, name in ((12, "a/room"), (50, "b/room")):
        for masks in ("L1", "recorded:L2"):
            for share in (1.0, 0.1):
                for method, pq in (("unic_lift", 0.9), ("pcf_lift", 0.8)):
                    run = Run(f"/data/{name}", masks, share, method)
                    figures = {"objects": objects, "pq": pq * share**0.1, "depth_l1": None, "seconds": 12.4}
                    figures |= {"frames": 60, "mask_views": round(60 * share)}
                    outcomes.append(Outcome(run, figures, None, tmp_path / "none"))
    outcomes.append(Outcome(Run("/data/a/room", "L1", 1.0, "disco"), {}, "no | memory", tmp_path / "none"))
    return outcomes


def table_rows(text: str, heading: str) -> list[list[str]]:
    lines = text.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]


def test_tables_hold_every_run(outcomes):
    text = markdown_report(outcomes)
    header, _, *rows = table_rows(text, "Measured, beside the published")
    assert header == [
        "", "data set", "masks", "share", "method", "objects", "PQ_scene", "with masks", "seconds", "published in",
    ]  # and no empty ones  # fmt: skip
    rows = [row for row in rows if row[0] == "measured"]
    assert len(rows) == 16
    assert rows[0] == ["measured", "a/room", "L1", "1", "unic_lift", "12", "0.900", "60", "12", ""]
    assert rows[-1] == ["measured", "b/room", "recorded:L2", "0.1", "pcf_lift", "50", "0.635", "6", "12", ""]
    assert table_rows(text, "Failed")[2:] == [["a/room", "L1", "1", "disco", "no \\| memory"]]


def header(text: str) -> dict[str, str]:
    """What all runs were done with."""
    return dict(item.split(": ") for item in text.splitlines()[2].split("; "))


def test_what_was_run_is_above_the_table(outcomes):
    first = outcomes[0]
    machine = {"cores": 8, "threads": 2}
    plain = replace(first, figures=first.figures | machine, device="CPU")
    text = markdown_report([plain, replace(outcomes[1], figures=outcomes[1].figures | machine, device="CPU")])
    assert header(text) == {
        "version": lift_ros.__version__, "scale": "0.5", "seed": "0", "depth": "as recorded", "truth": "instances",
        "settings": "defaults", "cores": "8", "threads": "2", "device": "CPU",
    }  # fmt: skip
    assert "differ" not in text
    default = Config().lifting.pixels
    run = replace(
        first.run, scale=0.1, seed=7, use_depth=False, truth="/truth", bag={"image_topic": "/x"},
        settings={"scene.max_gaussians": 5000, "lifting.pixels": default},
    )  # fmt: skip
    other = header(markdown_report([replace(plain, run=run, device="GPU (X)")]))
    assert other == header(text) | {
        "scale": "0.1", "seed": "7", "depth": "not used", "truth": "/truth", "bag": "image_topic=/x",
        "settings": "scene.max_gaussians=5000", "device": "GPU (X)",
    }  # fmt: skip
    far = replace(plain, run=replace(first.run, max_depth=2.5))
    assert header(markdown_report([far]))["depth"] == "as recorded, up to 2.5"


def test_what_runs_differ_in_has_columns_and_is_pointed_out(outcomes):
    """As where an evaluation was resumed with other threads, or has results that do not tell the device."""
    first, second, *_ = outcomes
    machine = first.figures | {"cores": 8}
    shown = [
        replace(first, figures=machine | {"threads": 2}),
        replace(second, figures=machine | {"threads": 4}, device="CPU"),
        outcomes[-1],  # failed: nothing is known of its machine
    ]
    text = markdown_report(shown)
    assert header(text) | {"cores": "8", "threads": "differ", "device": "differ"} == header(text)
    assert text.splitlines()[4].startswith("**The runs differ in threads, device**")
    columns, _, *rows = table_rows(text, "Measured, beside the published")
    at = columns.index("method")
    assert columns[at : at + 4] == ["method", "threads", "device", "objects"]
    assert [row[at : at + 4] for row in rows if row[0] == "measured"] == [
        ["unic_lift", "2", "not recorded", "12"], ["pcf_lift", "4", "CPU", "12"],
    ]  # fmt: skip
    assert all(len(row) == len(columns) and row[at + 1] == row[at + 2] == "" for row in rows if row[0] == "published")


def test_published_figures_stand_below_those_of_their_method(outcomes):
    """And are marked as published in their row and in each cell."""
    _, _, *rows = table_rows(markdown_report(outcomes), "Measured, beside the published")
    kinds = [(row[0], row[4]) for row in rows]
    published = [("published", "unic_lift")] * 2 + [("published", "pcf_lift")]
    assert kinds == [
        *[("measured", "unic_lift")] * 8, *published[:2], *[("measured", "pcf_lift")] * 8, published[2],
    ]  # fmt: skip
    assert rows[8] == ["published", "ScanNet", "", "", "unic_lift", "", "*0.630*", "", "", UNIC]
    assert rows[-1][:7] == ["published", "ScanNet", "", "", "pcf_lift", "", "*0.635*"]


def test_a_method_with_parameters_of_its_own_stands_with_the_others(outcomes):
    first = outcomes[0]
    variant = Outcome(replace(first.run, method="unic_lift:dim=8"), first.figures, None, first.pictures)
    _, _, *rows = table_rows(markdown_report([*outcomes, variant]), "Measured, beside the published")
    assert [row[4] for row in rows[7:11]] == ["unic_lift", "unic_lift:dim=8", "unic_lift", "unic_lift"]
    assert [row[0] for row in rows[7:11]] == ["measured", "measured", "published", "published"]


def test_no_published_figure_is_lost(outcomes):
    """What nothing was measured beside is in a table of its own."""
    text = markdown_report(outcomes)
    beside = [row for row in table_rows(text, "Measured, beside the published") if row[0] == "published"]
    rest = table_rows(text, "Published, with nothing measured beside it")[2:]
    assert len(rest) + len(beside) == sum(len(entry.figures) for entry in PUBLISHED)  # one of each row beside
    assert [MESSY, "unic_lift", "PQ with background", "*0.715*", UNIC] in rest
    assert [row[:4] for row in rest if row[0] == "NVOS"] == [["NVOS", "omniseg3d", PROMPTED, "*0.917*"]]
    assert all(row[4] for row in rest)  # where it was published


def test_published_figures_are_of_methods_and_metrics_that_there_are():
    assert {entry.method for entry in (*PUBLISHED, *SHARE_CLAIMS)} <= set(METHOD_NAMES)
    columns = {name for name, _, _ in COLUMNS}
    assert {name for entry in PUBLISHED for name in entry.figures} - columns == {PROMPTED}
    assert all(0.2 < value < 1 for entry in PUBLISHED for value in entry.figures.values())


def test_csv_has_full_precision_and_what_failed(outcomes, tmp_path):
    write_report(outcomes, tmp_path)
    with (tmp_path / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    methods = ["unic_lift", "pcf_lift", "disco"]
    published = [row for row in rows if row["kind"] == "published"]
    entries = [entry for method in methods for entry in PUBLISHED if entry.method == method]
    for row, entry in zip(published, entries, strict=True):
        assert (row["dataset"], row["method"], row["published_in"]) == (entry.data, entry.method, entry.source)
        assert {name: float(row[name]) for name in entry.figures} == entry.figures
        assert row["masks"] == row["seconds"] == row["error"] == ""
    measured = [row for row in rows if row["kind"] == "measured"]
    assert len(measured) + len(published) == len(rows)
    by_method = sorted(outcomes, key=lambda outcome: methods.index(outcome.run.method))
    for row, outcome in zip(measured, by_method, strict=True):
        assert row["published_in"] == ""
        assert (row["dataset"], row["method"]) == (outcome.run.dataset, outcome.run.method)
        assert row["error"] == (outcome.error or "") and row["depth_l1"] == ""
        if outcome.error is None:
            assert float(row["pq"]) == outcome.figures["pq"]


def test_csv_has_what_a_run_was_done_with(outcomes, tmp_path):
    run = replace(outcomes[0].run, settings={"lifting.pixels": 256}, bag={"image_topic": "/x", "odometry_topic": "/y"})
    write_report([replace(outcomes[0], run=run, device="CPU")], tmp_path)
    with (tmp_path / "table.csv").open() as stream:
        row = next(csv.DictReader(stream))
    told = [row[name] for name in ("version", "device", "settings", "bag", "scale")]
    topics = "image_topic=/x odometry_topic=/y"
    assert told == [lift_ros.__version__, "CPU", "lifting.pixels=256", topics, "0.5"]


def test_data_sets_are_told_apart_by_as_much_of_their_paths_as_it_takes(outcomes):
    paths = ("/v/room_0/imap/00", "/v/room_1/imap/00", "/v/office", "/w/desk/a", "/w/a", "/v/w/a")
    names = dataset_names([replace(outcomes[0], run=replace(outcomes[0].run, dataset=path)) for path in paths])
    assert names == dict(
        zip(paths, ("room_0/imap/00", "room_1/imap/00", "office", "desk/a", "/w/a", "v/w/a"), strict=True)
    )


def test_nothing_but_failures(outcomes):
    text = markdown_report(outcomes[-1:])
    assert "No run succeeded." in text and "disco" in text
    assert "threads" not in header(text) and header(text)["scale"] == "0.5"
    assert "No run succeeded." in markdown_report([])


def test_tables_are_markdown():
    lines = markdown_table(("a", "long name"), [("1", "2|3")]).splitlines()
    assert lines == ["| a | long name |", "| - | --------- |", "| 1 | 2\\|3      |"]


def with_picture(outcome: Outcome, directory: Path) -> Outcome:
    directory.mkdir()
    write_png(directory / "0_image.png", np.zeros((6, 8, 3), np.uint8))
    return replace(outcome, pictures=directory)


def test_of_older_files_only_those_that_a_report_wrote_are_removed(plots, outcomes, tmp_path):
    """The user's stay, whatever they are called."""
    (tmp_path / "pictures").mkdir()
    mine = {tmp_path / "pictures" / "degree_graph_2.png", tmp_path / "objects.png"}
    for path in mine:
        path.write_bytes(b"mine")

    def written(shown: list[Outcome]) -> list[str]:
        paths = {*write_report(shown, tmp_path), *plots.write_plots(shown, tmp_path)}
        pngs = {path for where in (tmp_path, tmp_path / "pictures") for path in where.glob("*.png")}
        assert pngs == mine | {path for path in paths if path.suffix == ".png"}
        assert all(path.read_bytes() == b"mine" for path in mine)
        return sorted(path.name for path in pngs - mine)

    full, _, sparse = (with_picture(outcomes[k], tmp_path / f"run{k}") for k in range(3))
    assert written([full, sparse]) == ["room_L1_0.1.png", "room_L1_1.png", "share.png"]
    assert written([sparse]) == ["room_L1_0.1.png"]
    assert written([full]) == ["room_L1_1.png"]
    assert written(outcomes[-1:]) == []


def test_pictures_of_captures_with_long_names(outcomes, tmp_path):
    shown = []
    for number, end in enumerate("ab"):
        outcome = replace(outcomes[0], run=replace(outcomes[0].run, dataset="/data/" + "x" * 239 + end))
        shown.append(with_picture(outcome, tmp_path / f"run{number}"))
    sheets = [path for path in write_report(shown, tmp_path) if path.suffix == ".png"]
    assert len(set(sheets)) == 2
    for sheet in sheets:
        assert sheet.is_file() and sheet.name.startswith("x" * 150 + "_") and len(sheet.name) == 150 + 11 + 4


def test_of_pictures_without_truth_nobody_is_warned(outcomes, tmp_path, capfd):
    (sheet,) = (p for p in write_report([with_picture(outcomes[0], tmp_path / "run")], tmp_path) if p.suffix == ".png")
    assert cv2.imread(str(sheet)).shape[1] == 326 + 6
    assert capfd.readouterr().err == ""


def test_pictures_side_by_side(outcomes, tmp_path):
    """Image, masks, truth, then a column for each method; a view a row."""
    shown = []
    for number, outcome in enumerate(outcomes[:2]):
        directory = tmp_path / f"run{number}"
        directory.mkdir()
        for view in range(3):
            for value, what in enumerate(("image", "masks", "truth", "labels")):
                picture = np.full((30, 40, 3), 40 * value + 10 * number + view, np.uint8)
                write_png(directory / f"{view}_{what}.png", picture)
        shown.append(Outcome(outcome.run, outcome.figures, None, directory))
    path = next(p for p in write_report(shown, tmp_path) if p.suffix == ".png")
    assert path.name == "room_L1_1.png"
    sheet = cv2.imread(str(path))
    rows, columns = 3, 5
    height, width = (240 + 22 + 6) * rows + 6, (320 + 6) * columns + 6
    assert sheet.shape[:2] == (height, width)
    expected = [[0 + v, 40 + v, 80 + v, 120 + v, 130 + v] for v in range(3)]
    centres = [[int(sheet[268 * v + 150, 326 * c + 160, 0]) for c in range(columns)] for v in range(rows)]
    assert centres == expected


@pytest.fixture
def plots():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the evaluate extra)")
    from lift_ros.evaluation import plots

    return plots


def test_plots_over_noise_objects_and_share(plots, outcomes, tmp_path, monkeypatch):
    drawn: dict[str, list] = {}
    saved = plots.Figure.savefig

    def save(figure, path, **options):
        drawn[path.name] = figure.axes
        saved(figure, path, **options)

    monkeypatch.setattr(plots.Figure, "savefig", save)
    written = plots.write_plots(outcomes, tmp_path)
    assert [path.name for path in written] == ["noise.png", "objects.png", "share.png"]
    assert all(cv2.imread(str(path)).std() > 5 for path in written)
    assert [axes.get_title() for axes in drawn["noise.png"]] == ["a/room", "b/room"]
    assert [axes.get_title() for axes in drawn["objects.png"]] == ["L1", "recorded:L2"]
    assert len(drawn["share.png"]) == 4
    first, second = drawn["objects.png"][0].lines
    assert first.get_xydata().tolist() == [[12, 0.9], [50, 0.9]] and second.get_xydata().tolist() == [
        [12, 0.8],
        [50, 0.8],
    ]
    measured, _, *published = drawn["share.png"][0].lines
    over_share = measured.get_xydata()
    assert over_share[:, 0].tolist() == [10, 100] and over_share[0, 1] < over_share[1, 1] == 0.9
    # the published claim of UniC-Lift, and its published PQ_scene on two data sets
    assert [set(line.get_xdata()) for line in published[:1]] == [{5.0}]
    assert [set(line.get_ydata()) for line in published[1:]] == [{0.630}, {0.887}]
    assert all(line.get_marker() == "None" for line in published)
    assert [text.get_text() for text in drawn["share.png"][0].texts] == [
        "published, ScanNet: 0.630", "published, Replica: 0.887",
    ]  # fmt: skip
    legend = [text.get_text().replace("\n", " ") for text in drawn["share.png"][0].figure.legends[0].get_texts()]
    assert legend[:2] == ["unic_lift", "pcf_lift"] and len(legend) == 4
    assert legend[2].startswith("published claim, as ascribed to UniC-Lift") and legend[3].endswith(UNIC)
    assert all(len(axes.lines) == 2 for axes in drawn["noise.png"] + drawn["objects.png"])
    plots.write_plots([outcome for outcome in outcomes if outcome.run.method != "unic_lift"], tmp_path)
    assert all(len(axes.lines) == 1 for axes in drawn["share.png"])  # nothing is claimed of the other method


def test_no_plot_over_what_does_not_differ(plots, outcomes, tmp_path):
    assert plots.write_plots(outcomes[:2], tmp_path) == []
    assert plots.write_plots(outcomes[-1:], tmp_path) == []
    assert [path.name for path in plots.write_plots(outcomes[:4], tmp_path)] == ["share.png"]


def test_a_directory_that_cannot_be_written(plots, outcomes, tmp_path):
    for write in (write_report, plots.write_plots):
        with pytest.raises(LiftError, match="cannot write"):
            write(outcomes, tmp_path / "missing")
