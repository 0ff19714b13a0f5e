"""Plots of an evaluation. The only module that needs matplotlib, from the extra ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from lift_ros.errors import LiftError
from lift_ros.evaluation.published import PUBLISHED, SHARE_CLAIMS, ShareClaim
from lift_ros.evaluation.report import dataset_names, method_name, remove_older
from lift_ros.evaluation.study import Outcome

NOISE, OBJECTS, SHARE = "noise.png", "objects.png", "share.png"
MARKERS = "osD^vP*X<>hp"
PANEL = (5.0, 3.6)  # inches
LEGEND_WIDTH, LEGEND_INCHES = 36, 3.2  # characters of what is published, and the room that they take


def write_plots(outcomes: Sequence[Outcome], out: Path) -> list[Path]:
    """PQ_scene of the methods over the mask noise, the number of objects and the share of frames with masks.

    A plot is drawn where the runs differ in what it is over: ``noise.png`` with a panel for each data set,
    ``objects.png`` for each kind of masks, ``share.png`` for each of both, with what is published of
    methods that claim to make do with a share of the masks. Those that an earlier call wrote and that are not drawn
    this time are removed. Returns what was written.

    Raises:
        LiftError: it cannot be written.
    """
    outcomes = [outcome for outcome in outcomes if outcome.figures.get("pq") is not None]
    names = dataset_names(outcomes)
    masks = list(dict.fromkeys(outcome.run.masks for outcome in outcomes))
    most = max((outcome.run.mask_share for outcome in outcomes), default=1.0)
    full = [outcome for outcome in outcomes if outcome.run.mask_share == most]

    shares = outcomes if len({outcome.run.mask_share for outcome in outcomes}) > 1 else []

    def name(outcome: Outcome) -> str:
        return names[outcome.run.dataset]

    drawn = (
        _draw(out / NOISE, full, name, lambda o: masks.index(o.run.masks), "masks", _ticks(masks)),
        _draw(out / OBJECTS, full, lambda o: o.run.masks, lambda o: o.figures["objects"], "objects"),
        _draw(
            out / SHARE, shares, lambda o: f"{name(o)}, {o.run.masks}", _masked,
            "frames with masks [%]", _percent, SHARE_CLAIMS,
        ),
    )  # fmt: skip
    written = [path for path in drawn if path is not None]
    try:
        remove_older(written, out, out)
    except OSError as error:
        raise LiftError(f"cannot write to {out}: {error}") from None
    return written


def _masked(outcome: Outcome) -> float:
    """Per cent of the frames that had masks: only keyframes have any, so it can be less than was asked for."""
    return 100 * outcome.figures["mask_views"] / outcome.figures["frames"]


def _percent(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _ticks(labels: Sequence[str]) -> Callable[[Axes], object]:
    return lambda axes: axes.set_xticks(range(len(labels)), labels)


def _draw(
    path: Path,
    outcomes: Sequence[Outcome],
    panel: Callable[[Outcome], str],
    x: Callable[[Outcome], float],
    label: str,
    prepare: Callable[[Axes], object] = lambda axes: None,
    claims: Sequence[ShareClaim] = (),
) -> Path | None:
    """One plot; panels with a single value of ``x`` are left out, and None is returned if none remains."""
    panels: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        panels.setdefault(panel(outcome), []).append(outcome)
    panels = {title: group for title, group in panels.items() if len({x(outcome) for outcome in group}) > 1}
    if not panels:
        return None
    methods = list(dict.fromkeys(outcome.run.method for outcome in outcomes))
    figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout="constrained")
    lines: dict[str, Artist] = {}
    published: dict[str, Artist] = {}
    for axes, (title, group) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        prepare(axes)
        for number, method in enumerate(methods):
            points = sorted((x(outcome), outcome.figures["pq"]) for outcome in group if outcome.run.method == method)
            if points:
                style = {"color": f"C{number % 10}", "marker": MARKERS[number % len(MARKERS)]}
                (lines[method],) = axes.plot(*zip(*points, strict=True), **style)
        for claim in claims:
            if claim.method in map(method_name, group):
                published |= _draw_published(axes, claim)
        axes.set(title=title, xlabel=label, ylabel="PQ_scene", ylim=(0, 1))
        axes.grid(alpha=0.3)
    if published:
        figure.set_size_inches(figure.get_figwidth() + LEGEND_INCHES, PANEL[1])
    entries = lines | published
    figure.legend(list(entries.values()), list(entries), loc="outside right upper")
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise LiftError(f"cannot write {path}: {error}") from None
    return path


def _draw_published(axes: Axes, claim: ShareClaim) -> dict[str, Artist]:
    """A claim and the method's published PQ_scene, in grey without markers as no measured line is; by legend entry."""
    style = {"color": "0.35", "linewidth": 1.0, "zorder": 0}
    line = axes.axvline(100 * claim.share, linestyle=":", **style)
    shown: dict[str, Artist] = {fill(f"published claim, {claim.text}", LEGEND_WIDTH): line}
    for entry in PUBLISHED:
        if entry.method == claim.method and "pq" in entry.figures:
            quality = entry.figures["pq"]
            line = axes.axhline(quality, linestyle="--", **style)
            shown[fill(f"published PQ_scene of {entry.method}, {entry.source}", LEGEND_WIDTH)] = line
            axes.text(
                0.5, quality, f"published, {entry.data}: {quality:.3f}", transform=axes.get_yaxis_transform(),
                ha="center", va="center", fontsize="x-small", color=style["color"],
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}, zorder=1,
            )  # fmt: skip
    return shown
