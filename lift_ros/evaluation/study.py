"""The runs of an evaluation: which there are, and those that are missing carried out, each in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

from tqdm import tqdm

import lift_ros
from lift_ros.config import Config
from lift_ros.data import Capture, open_capture
from lift_ros.data.bag_topics import BagOptions
from lift_ros.errors import ConfigError, LiftError
from lift_ros.evaluation.masks import TRUTH, check_masks, mask_settings
from lift_ros.lifting.config import METHOD_NAMES
from lift_ros.masks.factory import SEGMENTERS, check_segmenter
from lift_ros.options import assignments, walk, with_values

PROGRESS_INTERVAL = 2.0  # seconds
KEY_BYTES = 150  # of the words in a file's name, which may have 255 with the digest and suffixes
PLOTTED = ("objects", "frames", "mask_views")  # without these there is no plot of a quality
# parameters that a run has of its own, and the options that say them
OWN = {
    "mapping.image_width": "--scale",
    "mapping.seed": "--seed",
    "lifting.method": "--methods",
    "masks.segmenter": "--masks",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What one run is of.

    Attributes:
        dataset: absolute path of a capture.
        masks: where the masks come from, see ``masks.mask_settings``.
        mask_share: share of the frames that have masks, (0, 1].
        method: lifting method, with parameters of its own after colons: ``unified_lift:area_aware=false``.
        scale: resolution of mapping as a share of the input's.
        seed: of all random choices, those of corrupted masks too.
        use_depth: False: as if the capture had no depth.
        settings: further parameters by dotted names.
        truth: name under which the capture holds its true instances.
        bag: which topics of a bag to read, see ``BagOptions``.
        max_depth: depth beyond this counts as unknown, in the unit of the poses; None: all is known.
        content: tells one state of the files that are read from another, see ``fingerprint`` and ``mask_files``.
    """

    dataset: str
    masks: str
    mask_share: float
    method: str
    scale: float = 0.5
    seed: int = 0
    use_depth: bool = True
    settings: dict[str, object] = field(default_factory=dict)
    truth: str = TRUTH
    bag: dict[str, object] = field(default_factory=dict)
    max_depth: float | None = None
    content: str = ""

    def open(self) -> Capture:
        """The capture; see ``open_capture`` for the errors."""
        bag = with_values(BagOptions(), self.bag)
        return open_capture(self.dataset, max_depth=math.inf if self.max_depth is None else self.max_depth, bag=bag)

    def config(self, frame_width: int | None = None) -> Config:
        """The configuration for frames of this width; for any width where None.

        Raises:
            ConfigError: a parameter is unknown or out of range.
        """
        method, *own = self.method.split(":")
        values = {
            **self.settings,
            **mask_settings(self.masks),
            **{f"lifting.{method}.{name}": value for name, value in assignments("--methods", own).items()},
            "lifting.method": method,
            "mapping.seed": self.seed,
        }
        if frame_width is not None:
            values["mapping.image_width"] = round(self.scale * frame_width)
        return with_values(Config(), values)

    def definition(self) -> dict[str, object]:
        """All that decides the outcome, as JSON: the run, every parameter, and the version of this package."""
        parameters = {option.name: option.value for option in walk(self.config())}
        return json.loads(json.dumps({**asdict(self), "parameters": parameters, "version": lift_ros.__version__}))

    @property
    def key(self) -> str:
        """A file name of its own, without a suffix."""
        digest = hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()[:10]
        words = (Path(self.dataset).name, self.masks, f"{self.mask_share:g}", self.method)
        return f"{shortened(file_name(words))}_{digest}"


def file_name(words: Iterable[str]) -> str:
    """The words in a form that may be in the name of a file, of any length."""
    return re.sub(r"[^\w.-]+", "-", "_".join(words))


def shortened(name: str) -> str:
    """As much of a file name as leaves room for a digest and suffixes."""
    return name.encode()[:KEY_BYTES].decode(errors="ignore")


@dataclass(frozen=True)
class Outcome:
    """A run and its figures (see docs/evaluation.md), or the error that it failed with.

    Attributes:
        pictures: directory of its pictures.
        device: that it was mapped on, as ``measure.device_name`` says; None if it failed or was done by a version that
            did not record it.
    """

    run: Run
    figures: dict[str, float | int | None]
    error: str | None
    pictures: Path
    device: str | None = None


def plan(
    datasets: Sequence[Path],
    methods: Sequence[str],
    masks: Sequence[str],
    shares: Sequence[float],
    out: Path | None = None,
    **common: object,
) -> list[Run]:
    """Every combination, as runs that can be carried out; ``common`` are the other attributes of ``Run``.

    Logs what is wrong with a capture but does not stop it from being read, and which have no true instances.

    ``out`` is where results go; runs whose figures are there need no weights.

    Raises:
        ConfigError: a method, masks, share, parameter or truth that there is not, or a parameter that an option is
            there for.
        DatasetError: a capture cannot be opened.
        CheckpointError: a segmenter's weights are missing.
    """
    methods = [name for given in methods for name in (METHOD_NAMES if given == "all" else (given,))]
    if not methods:
        raise ConfigError(f"--methods names none; there are {', '.join(METHOD_NAMES)}")
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigError(f"--mask-share must be in (0, 1], got {share:g}")
    for name in OWN.keys() & common.get("settings", {}).keys():
        raise ConfigError(f"--set {name} has no effect here, as each run has its own; use {OWN[name]}")
    masks, shares, methods = (list(dict.fromkeys(names)) for names in (masks, shares, methods))
    truth = common.get("truth", TRUTH)
    labelled: dict[str, dict[str, int]] = {}
    runs = []
    # links stay: names may tell the camera
    for path in dict.fromkeys(os.path.abspath(dataset) for dataset in datasets):
        run = Run(path, masks[0], shares[0], methods[0], **common)
        with run.open() as capture:
            for problem in capture.problems:
                log.warning("%s: %s", capture.name, problem)
            for source in masks:
                check_masks(source, capture, truth)
            labelled[path] = {name: capture.labelled(name) for name in capture.recorded_names}
            contents = {source: _content(replace(run, masks=source), capture) for source in masks}
        runs += [
            replace(run, masks=source, mask_share=share, method=method, content=contents[source])
            for source, share, method in product(masks, shares, methods)
        ]
    _check_truth(truth, labelled)
    for run in runs:
        if not 0 < run.scale <= 1:
            raise ConfigError(f"--scale must be in (0, 1], got {run.scale:g}")
        config = run.config()
        found = _read(run, out / "runs") if out else None
        if run.masks in SEGMENTERS and (found is None or found.error is not None):  # is still to be carried out
            check_segmenter(config.masks)
    return runs


def _content(run: Run, capture: Capture) -> str:
    return fingerprint([*capture.files, *mask_files(run)])


def _check_truth(truth: str, labelled: Mapping[str, Mapping[str, int]]) -> None:
    """Log of which captures there will be no accuracy, as they have no true instances.

    ``labelled``: of each capture, by its path, how many frames have the labels of each name.

    Raises:
        ConfigError: no capture has labels of a name that is not the default, and so was asked for.
    """
    there = {path: [name for name, count in counts.items() if count] for path, counts in labelled.items()}
    if truth != TRUTH and not any(truth in names for names in there.values()):
        known = ", ".join(dict.fromkeys(name for names in there.values() for name in names)) or "none"
        raise ConfigError(f"--truth '{truth}': no capture has labels of that name; there are: {known}")
    for path, names in there.items():
        if truth not in names:
            has = f"{', '.join(names)} (--truth NAME if one of them is the truth)" if names else "none"
            log.warning(
                "there will be no accuracy of %s: it has no labels '%s'; what it has: %s", Path(path).name, truth, has
            )


def carry_out(runs: Iterable[Run], out: Path) -> Iterator[Outcome]:
    """Carry out the runs that ``out/runs`` holds no figures of, one after the other; progress goes to stderr.

    Yields the outcome of each run as soon as it is known, in the order of the runs.

    A run that fails is recorded as failed and does not stop the rest. The next time it is tried again.

    Raises:
        LiftError: ``out`` cannot be written, or no process be started.
    """
    runs, directory = list(runs), out / "runs"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LiftError(f"cannot write to {out}: {error}") from None
    with tqdm(runs, "evaluating", file=sys.stderr, unit="run") as bar:
        for run in bar:
            outcome = _read(run, directory)
            if outcome is None or outcome.error is not None:
                try:
                    _carry_out(run, directory, lambda done, run=run: bar.set_postfix_str(f"{run.key} {done}"))
                except OSError as error:
                    raise LiftError(f"cannot carry out {run.key} and write it to {directory}: {error}") from None
                outcome = _read(run, directory)
                if outcome is None:
                    raise LiftError(f"{directory / run.key}.json was written and cannot be read again")
            yield outcome


def recorded(runs: Iterable[Run], out: Path) -> list[Outcome]:
    """The outcomes of those runs that ``out/runs`` holds one of, in their order."""
    outcomes = (_read(run, out / "runs") for run in runs)
    return [outcome for outcome in outcomes if outcome is not None]


def fingerprint(files: Iterable[Path]) -> str:
    """Of names, sizes and times of the files: another one where any was written anew."""
    return hashlib.sha256(json.dumps([_state(file) for file in files]).encode()).hexdigest()[:10]


def mask_files(run: Run) -> list[Path]:
    """Label images that the masks of a run are read from, besides the capture.

    Not the weights of a segmenter, which may be gone when the figures are there.
    """
    masks = run.config().masks
    if run.masks == "recorded" and masks.directory:
        return sorted(Path(os.path.expanduser(masks.directory)).glob("*.png"))
    return []


def _state(file: Path) -> tuple[str, int, int]:
    try:
        status = file.stat()
    except OSError:  # not there, as the labels of some frames
        return str(file), 0, 0
    return str(file), status.st_size, status.st_mtime_ns


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write the whole file or none of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=1))
    os.replace(partial, path)


def _read(run: Run, directory: Path) -> Outcome | None:
    """What is recorded of a run; None where nothing is, only a part, or something else than figures or an error."""
    try:
        content = json.loads((directory / f"{run.key}.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("defined_by") != run.definition():
        return None
    figures, error = content.get("figures"), content.get("error")
    if isinstance(error, str):
        return Outcome(run, {}, error, directory / run.key)
    if not figures or not isinstance(figures, dict):
        return None
    if not all(isinstance(value, int | float | None) for value in figures.values()):
        return None
    if figures.get("pq") is not None and (None in map(figures.get, PLOTTED) or not figures["frames"]):
        return None
    device = content.get("device")
    return Outcome(run, figures, None, directory / run.key, device if isinstance(device, str) else None)


def _carry_out(run: Run, directory: Path, progress: Callable[[str], None] = lambda done: None) -> None:
    """``progress`` is told, from time to time, how far it is: "mapping 40%"."""
    result, log = directory / f"{run.key}.json", directory / f"{run.key}.log"
    definition = run.definition()
    # the package that runs here is the one that is measured, wherever it was started and however it was installed
    package = str(Path(lift_ros.__file__).absolute().parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "lift_ros.evaluation.measure", str(result), str(directory / run.key)]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    progress("")
    with (
        log.open("w") as stream,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stream, stderr=stream, env=environment) as process,
    ):
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # it may end before it has read them
                stdin.write(json.dumps({"run": asdict(run), "defined_by": definition}).encode())
            while process.poll() is None:
                try:
                    process.wait(PROGRESS_INTERVAL)
                except subprocess.TimeoutExpired:
                    progress(_progress(log))
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        return
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    reason = lines[-1] if lines else "it wrote nothing"
    if process.returncode < 0:
        reason = f"killed by signal {-process.returncode}, maybe for want of memory; last line: {reason}"
    write_json(result, {"defined_by": definition, "error": reason})


def _progress(log: Path) -> str:
    """What the last progress bar in the output of a run says, "mapping 40%"; empty where there is none."""
    bars = re.findall(r"(\w+): +(\d+%)", log.read_text(errors="replace"))
    return " ".join(bars[-1]) if bars else ""
