"""What an evaluation shows: tables, and pictures of the methods side by side. Plots are in plots.py."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import lift_ros
from lift_ros.config import Config
from lift_ros.errors import LiftError
from lift_ros.evaluation.published import PUBLISHED, Published
from lift_ros.evaluation.study import Outcome, file_name, shortened
from lift_ros.options import walk, with_values
from lift_ros.visualization import contact_sheet, write_png

IDENTITY = (
    "dataset", "masks", "mask_share", "method", "scale", "seed", "use_depth", "truth", "max_depth", "bag", "settings",
)  # fmt: skip
# of the table for people: figure, heading, format
COLUMNS = (
    ("objects", "objects", "d"), ("pq", "PQ_scene", ".3f"), ("pq_rendered", "PQ rendered", ".3f"),
    ("pq_online", "PQ online", ".3f"),
    ("pq_with_background", "PQ with background", ".3f"), ("sq", "SQ", ".3f"), ("rq", "RQ", ".3f"),
    ("matched", "found", "d"), ("spurious", "spurious", "d"), ("missed", "missed", "d"), ("miou", "mIoU", ".3f"),
    ("f_score", "F", ".3f"), ("boundary_iou", "boundary IoU", ".3f"), ("named_miou", "mIoU named", ".3f"),
    ("named_mbiou", "mBIoU named", ".3f"), ("weighted_iou", "IoU by area", ".3f"), ("best_dice", "BD", ".3f"),
    ("symmetric_best_dice", "SBD", ".3f"), ("id_switches_per_object_minute", "id switches / object / min", ".2f"),
    ("consistency", "consistency", ".3f"), ("part_iou", "part IoU", ".3f"), ("whole_iou", "whole IoU", ".3f"),
    ("hierarchical_iou", "mean of part and whole", ".3f"),
    ("psnr", "PSNR [dB]", ".1f"), ("ssim", "SSIM", ".3f"),
    ("depth_l1", "depth L1", ".3f"), ("frames_skipped", "frames not used", "d"), ("keyframes", "keyframes", "d"),
    ("mask_views", "with masks", "d"), ("gaussians", "Gaussians", "d"), ("seconds", "seconds", ".0f"),
    ("memory_mib", "memory [MiB]", ".0f"), ("gpu_memory_mib", "GPU memory [MiB]", ".0f"),
    ("load_before", "load before", ".1f"),
)  # fmt: skip

# in the directory of an evaluation: what reports wrote and later ones may remove, a name a line
WRITTEN = Path("runs", "written.txt")


def write_report(outcomes: Sequence[Outcome], out: Path) -> list[Path]:
    """Write ``table.md``, ``table.csv`` and ``pictures/*.png`` into ``out``; returns what was written.

    Pictures of other runs that an earlier report wrote are removed.

    Raises:
        LiftError: it cannot be written.
    """
    try:
        (out / "table.md").write_text(markdown_report(outcomes))
        _write_csv(outcomes, out / "table.csv")
        return [out / "table.md", out / "table.csv", *_write_pictures(outcomes, out / "pictures")]
    except OSError as error:
        raise LiftError(f"cannot write to {out}: {error}") from None


def remove_older(written: Sequence[Path], directory: Path, out: Path) -> None:
    """Remove what an earlier report wrote into ``directory``, ``out`` or one in it, and this one did not.

    Only what ``WRITTEN`` lists: other files are the user's. It lists what was ``written`` from now on.

    Raises:
        OSError: something cannot be removed, or the list not be written.
    """
    listing = out / WRITTEN
    earlier = listing.read_text(errors="replace").splitlines() if listing.is_file() else []
    names = [str(path.relative_to(out)) for path in written]
    for name in earlier:
        if (out / name).parent != directory:
            names.append(name)
        elif name not in names:
            (out / name).unlink(missing_ok=True)
    listing.parent.mkdir(exist_ok=True)
    listing.write_text("".join(f"{name}\n" for name in names))


def dataset_names(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Short names of the data sets by path: the last part of the path, with those above as long as it is ambiguous."""
    paths = {outcome.run.dataset: Path(outcome.run.dataset).parts[1:] for outcome in outcomes}
    names = {}
    for path, parts in paths.items():
        ends = (parts[-length:] for length in range(1, len(parts) + 1))
        unique = (end for end in ends if sum(other[-len(end) :] == end for other in paths.values()) == 1)
        names[path] = "/".join(next(unique, (path,)))
    return names


def markdown_report(outcomes: Sequence[Outcome]) -> str:
    """The figures of all runs with those that the papers publish of the same methods, and the runs that failed."""
    names = dataset_names(outcomes)
    measured = [outcome for outcome in outcomes if outcome.error is None]
    columns = [column for column in COLUMNS if any(outcome.figures.get(column[0]) is not None for outcome in measured)]
    shown = {name for name, _, _ in columns}
    conditions: dict[str, set[str]] = {}
    for outcome in measured or outcomes:
        for name, value in _conditions(outcome).items():
            conditions.setdefault(name, set()).add(value)
    differing = [name for name, values in conditions.items() if len(values) > 1]
    header = (
        "", "data set", "masks", "share", "method", *differing, *(heading for _, heading, _ in columns), "published in",
    )  # fmt: skip
    rows = []
    for entry in beside_published(measured):
        if isinstance(entry, Published):
            if shown & entry.figures.keys():
                cells = [f"*{_cell(entry.figures[n], f)}*" if n in entry.figures else "" for n, _, f in columns]
                cells = ["" for _ in differing] + cells
                rows.append(("published", entry.data, "", "", entry.method, *cells, entry.source))
        else:
            own = _conditions(entry)
            cells = [own[name] for name in differing]
            cells += [_cell(entry.figures.get(name), form) for name, _, form in columns]
            rows.append(("measured", *_identity(entry, names), *cells, ""))
    common = {name: "differ" if len(values) > 1 else next(iter(values)) for name, values in conditions.items()}
    parts = ["# Evaluation", "; ".join(f"{name}: {value}" for name, value in common.items() if value)]
    if differing:
        parts.append(
            f"**The runs differ in {', '.join(differing)}**, of which the table has columns. Only rows that agree "
            "there compare, above all in their cost."
        )
    parts += ["## Measured, beside the published", markdown_table(header, rows)]
    if not measured:
        parts[-1] = "No run succeeded."
    elif any(row[0] == "published" for row in rows):
        parts.append(
            "Rows *published* are what the papers report of the method above, on the data they name, with other masks "
            "and on other machines; nothing in them was measured here. Only figures on the same data can be compared, "
            "and some of the papers' protocols ask for more (docs/evaluation.md)."
        )
    failed = [(*_identity(outcome, names), outcome.error) for outcome in outcomes if outcome.error is not None]
    if failed:
        parts += ["## Failed", markdown_table(("data set", "masks", "share", "method", "error"), failed)]
    headings = {name: heading for name, heading, _ in COLUMNS}
    methods = {method_name(outcome) for outcome in measured}
    rest = [
        (entry.data, entry.method, headings.get(name, name), f"*{value:.3f}*", entry.source)
        for entry in PUBLISHED
        for name, value in entry.figures.items()
        if entry.method not in methods or name not in shown
    ]
    header = ("data set", "method", "metric", "published", "published in")
    parts += ["## Published, with nothing measured beside it", markdown_table(header, rest)]
    return "\n\n".join(parts) + "\n"


def beside_published(outcomes: Sequence[Outcome]) -> list[Outcome | Published]:
    """The outcomes by method, in the order in which methods first come; below each what its paper reports."""
    entries: list[Outcome | Published] = []
    for method in dict.fromkeys(method_name(outcome) for outcome in outcomes):
        entries += [outcome for outcome in outcomes if method_name(outcome) == method]
        entries += [published for published in PUBLISHED if published.method == method]
    return entries


def method_name(outcome: Outcome) -> str:
    """The lifting method of a run, without parameters of its own."""
    return outcome.run.method.partition(":")[0]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned, so that it reads well unrendered, too."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def _identity(outcome: Outcome, names: dict[str, str]) -> tuple[str, ...]:
    run = outcome.run
    return names[run.dataset], run.masks, f"{run.mask_share:g}", run.method


def _conditions(outcome: Outcome) -> dict[str, str]:
    """What a run was done with, apart from ``_identity``; empty what does not apply."""
    run, figures = outcome.run, outcome.figures
    defaults = {option.name: option.value for option in walk(Config())}
    chosen = {option.name: option.value for option in walk(with_values(Config(), run.settings))}
    settings = {name: value for name, value in chosen.items() if value != defaults[name]}
    depth = "as recorded" if run.max_depth is None else f"as recorded, up to {run.max_depth:g}"
    machine = {"cores": figures.get("cores"), "threads": figures.get("threads"), "device": outcome.device}
    return {
        "version": lift_ros.__version__,
        "scale": f"{run.scale:g}",
        "seed": f"{run.seed}",
        "depth": depth if run.use_depth else "not used",
        "truth": run.truth,
        "bag": _assigned(run.bag),
        "settings": _assigned(settings) or "defaults",
        **{name: "not recorded" if value is None else str(value) for name, value in machine.items() if figures},
    }


def _assigned(values: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def _cell(value: float | int | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _write_csv(outcomes: Sequence[Outcome], path: Path) -> None:
    entries = beside_published(outcomes)
    figures = list(dict.fromkeys(name for entry in entries for name in entry.figures))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["kind", *IDENTITY, "version", "device", *figures, "error", "published_in"])
        writer.writeheader()
        for entry in entries:
            if isinstance(entry, Published):
                row = {"kind": "published", "dataset": entry.data, "method": entry.method, "published_in": entry.source}
            else:
                row = {"kind": "measured", **{name: getattr(entry.run, name) for name in IDENTITY}}
                row |= {name: _assigned(row[name]) for name in ("bag", "settings")}
                row |= {"version": lift_ros.__version__, "device": entry.device, "error": entry.error}
            writer.writerow(row | entry.figures)


def _write_pictures(outcomes: Sequence[Outcome], directory: Path) -> list[Path]:
    """A sheet for each data set, masks and share: a row a view, a column each for what goes in and each method."""
    directory.mkdir(exist_ok=True)
    names = dataset_names(outcomes)
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.error is None:
            groups.setdefault(_identity(outcome, names)[:3], []).append(outcome)
    written = []
    for (dataset, masks, share), group in groups.items():
        rows = []
        while (group[0].pictures / f"{len(rows)}_image.png").exists():
            number, first = len(rows), group[0].pictures
            row = [(what, _read(first / f"{number}_{what}.png")) for what in ("image", "masks", "truth")]
            row += [(outcome.run.method, _read(outcome.pictures / f"{number}_labels.png")) for outcome in group]
            rows.append([(caption, image) for caption, image in row if image is not None])
        if rows:
            written.append(directory / f"{_sheet_name(dataset, masks, share)}.png")
            write_png(written[-1], contact_sheet(rows))
    remove_older(written, directory, directory.parent)
    return written


def _sheet_name(*words: str) -> str:
    """With a digest where the words are too long for a file's name."""
    name = file_name(words)
    short = shortened(name)
    return name if short == name else f"{short}_{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _read(path: Path) -> NDArray[np.uint8] | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.exists() else None  # OpenCV warns of what is not there
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
