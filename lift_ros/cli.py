"""The command ``lift``: maps without a ROS graph."""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lift_ros import __version__
from lift_ros.data.bag_topics import BagOptions
from lift_ros.errors import ConfigError, LiftError
from lift_ros.lifting.config import METHOD_NAMES
from lift_ros.options import assignments, flatten, read_yaml, walk, with_values

if TYPE_CHECKING:
    from lift_ros.data import Capture
    from lift_ros.frame import Frame


def main(arguments: list[str] | None = None) -> int:
    """Run the command; errors that a user can act on are one line on stderr and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    args = _parser().parse_args(arguments)
    try:
        return args.run(args)
    except LiftError as error:
        print("lift:", *(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lift: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lift", description="Consistent instance labels from posed images.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("map", help="map a capture: a directory of a data set, or a bag")
    command.set_defaults(run=_map)
    command.add_argument(
        "capture", type=Path,
        help="directory in a layout of docs/datasets.md, .json file like a transforms.json, rosbag2 directory, .mcap "
        "or .db3, also with .zstd",
    )  # fmt: skip
    command.add_argument("--out", type=Path, required=True, help="directory of the map; an older map there is replaced")
    command.add_argument(
        "--masks", metavar="SOURCE",
        help="segmenter (graph, sam_vit_b, mobile_sam, ...), or recorded:NAME for masks stored with the capture",
    )  # fmt: skip
    command.add_argument("--checkpoint", help="weights of the segmenter")
    command.add_argument("--method", help=f"lifting method: {', '.join(METHOD_NAMES)}")
    command.add_argument("--scale", type=float, help="resolution of mapping as a share of the input's")
    command.add_argument("--seed", type=int, help="seed of all random choices")
    command.add_argument("--no-depth", action="store_true", help="do not use the depth of the capture")
    command.add_argument(
        "--max-depth", type=float, default=float("inf"), help="depth beyond this is not used, in the unit of the poses"
    )
    _add_capture_options(command)
    command.add_argument(
        "--config", type=Path, help="YAML file with parameters, nested as in lift_ros/config.py, or the node's"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter, e.g. masks.points_per_side=16"
    )

    command = commands.add_parser("evaluate", help="lifting methods side by side on captures with true instances")
    command.set_defaults(run=_evaluate)
    command.add_argument("captures", type=Path, nargs="+", metavar="CAPTURE", help="captures as for lift map")
    command.add_argument("--out", type=Path, required=True, help="directory of the results; runs found there are kept")
    command.add_argument(
        "--methods",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="lifting methods, with spaces or commas between; NAME:PARAMETER=VALUE for another value of its own",
    )
    command.add_argument(
        "--masks", nargs="+", default=["L1"], metavar="SOURCE",
        help="L0, L1, L2, PCF: true instances with more and more faults; nested: these and their parts; "
        "recorded:NAME; or a segmenter",
    )  # fmt: skip
    command.add_argument(
        "--mask-share", nargs="+", type=float, default=[1.0], metavar="SHARE", help="shares of the frames with masks"
    )
    command.add_argument("--scale", type=float, default=0.5, help="resolution of mapping as a share of the input's")
    command.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    command.add_argument("--no-depth", action="store_true", help="do not use the depth of the captures")
    command.add_argument(
        "--max-depth", type=float, help="depth beyond this counts as unknown, in the unit of the poses"
    )
    command.add_argument(
        "--truth", default="instances", metavar="NAME", help="what the true instances are recorded as; in bags a topic"
    )
    command.add_argument("--bag", action="append", default=[], metavar="NAME=VALUE", help="topics of bags, as lift map")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter, the same for all runs"
    )

    command = commands.add_parser("objects", help="print the objects of a map")
    command.set_defaults(run=_objects)
    _add_map(command)

    command = commands.add_parser("render", help="colour, depth and labels of a map from any pose")
    command.set_defaults(run=_render)
    _take_negative_numbers(command)
    _add_map(command)
    command.add_argument(
        "--pose", nargs="+", required=True, metavar="VALUE",
        help="camera to world, optical axes (x right, y down, z forward): x y z qx qy qz qw, or the 16 numbers of a "
        "matrix, or a JSON file with these 16; or a JSON file with a frame of a transforms.json, whose "
        "transform_matrix has OpenGL's axes (y up, z backward)",
    )  # fmt: skip
    command.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"), help="pixels")
    command.add_argument("--fov", type=float, default=60.0, help="horizontal field of view in degrees")
    command.add_argument("--out", type=Path, default=Path("."), help="directory for the pictures")

    command = commands.add_parser(
        "select", help="what of a map is similar to clicks (lift, omniseg3d, unified_lift, hdbscan)"
    )
    command.set_defaults(run=_select)
    _take_negative_numbers(command)
    _add_map(command)
    command.add_argument(
        "--point", type=float, nargs=3, action="append", default=[], metavar=("X", "Y", "Z"),
        help="click in space, frame and unit of the map: the Gaussian nearest to it; any number of times",
    )  # fmt: skip
    command.add_argument(
        "--pixel", type=int, nargs=2, action="append", default=[], metavar=("COLUMN", "ROW"),
        help="click on the view of --frame, as in labels/NAME.png; any number of times",
    )  # fmt: skip
    command.add_argument(
        "--frame",
        nargs=2,
        metavar=("CAPTURE", "NAME"),
        help="view to click on and to write mask.png of: NAME as in labels/",
    )
    command.add_argument(
        "--threshold", type=float, required=True,
        help="similarity to one of the clicks, [-1, 1]: high for a part, low for the whole. With lift the share of the "
        "views in which masks hold both (0.25: the object, 0.06: the whole that it is a part of), else a cosine",
    )  # fmt: skip
    command.add_argument(
        "--connected", action="store_true", help="only what hangs together with a click, no look-alikes"
    )
    _add_capture_options(command)
    command.add_argument("--out", type=Path, default=Path("."), help="directory for selected.ply and mask.png")

    command = commands.add_parser("export-sam", help="MobileSAM's weights as the ONNX pair of mobile_sam_onnx")
    command.set_defaults(run=_export_sam)
    command.add_argument("checkpoint", type=Path, help="mobile_sam.pt")
    command.add_argument("--out", type=Path, required=True, help="directory of the pair")

    command = commands.add_parser("demo", help="a generated room through the ROS node: pictures, table, map")
    command.set_defaults(run=_demo)
    command.add_argument("--out", type=Path, default=Path("out/demo"), help="directory of the results")
    command.add_argument("--frames", type=int, default=150, help="length at 10 Hz; 150 is once around the room")
    command.add_argument("--seed", type=int, default=0, help="seed of the room")
    command.add_argument("--objects", type=int, default=14, help="objects in the room")
    return parser


def _add_map(command: argparse.ArgumentParser) -> None:
    command.add_argument("map", type=Path, help="directory of a map, as lift map or the node wrote it")


def _add_capture_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--color-focal", type=float, metavar="PIXELS",
        help="focal length of the colour images, where the capture lists that of the depth camera for both",
    )  # fmt: skip
    command.add_argument(
        "--bag", action="append", default=[], metavar="NAME=VALUE",
        help="how to read a bag: " + ", ".join(option.name for option in walk(BagOptions())),
    )  # fmt: skip


def _take_negative_numbers(command: argparse.ArgumentParser) -> None:
    # argparse takes -1e-3 for an option, unlike -0.001
    command._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


def _map(args: argparse.Namespace) -> int:
    from lift_ros.config import Config
    from lift_ros.data.changed import WithoutDepth
    from lift_ros.mapping.map_files import check_writable
    from lift_ros.mapping.mapper import Mapper
    from lift_ros.mapping.offline import map_capture, write_results
    from lift_ros.mapping.prepare import make_mapper_segmenter
    from lift_ros.masks.recorded import CaptureMasks

    check_writable(args.out)
    values: dict[str, object] = {}
    if args.config:
        values |= flatten(_read_parameters(args.config))
    values |= assignments("--set", args.set)
    if args.method:
        values["lifting.method"] = args.method
    if args.seed is not None:
        values["mapping.seed"] = args.seed
    recorded = ""
    if args.masks:
        recorded = args.masks.partition(":")[2] if args.masks.startswith("recorded:") else ""
        values["masks.segmenter"] = "recorded" if recorded else args.masks
    if args.checkpoint:
        values["masks.checkpoint"] = args.checkpoint

    started = time.monotonic()
    with _open_capture(args, args.capture, args.max_depth) as capture:
        if args.no_depth:
            capture = WithoutDepth(capture)
        for problem in capture.problems:
            print(f"lift: {problem}", file=sys.stderr)
        if args.scale is not None:
            if not 0 < args.scale <= 1:
                raise ConfigError(f"--scale must be in (0, 1], got {args.scale}")
            values["mapping.image_width"] = round(args.scale * next(iter(capture.frames)).camera.width)
        config = with_values(Config(), values)
        if config.masks.segmenter == "topic":
            raise ConfigError("masks come from a topic in the node only; --masks recorded:TOPIC reads those of a bag")
        segmenter = CaptureMasks(capture, recorded) if recorded else make_mapper_segmenter(config)
        mapper = Mapper(config, segmenter, capture.world_frame)
        skipped = map_capture(capture, mapper)
        write_results(capture, mapper, args.out)
    for reason, count in sorted(skipped.items()):
        print(f"lift: {count} frames not used: {reason}", file=sys.stderr)
    stats = mapper.stats
    print(
        f"{args.out}: {stats.keyframes} keyframes of {stats.frames} frames, {stats.gaussians} Gaussians, "
        f"{len(mapper.objects)} objects, {time.monotonic() - started:.0f} s"
    )
    if stats.keyframes == 1 < config.objects.min_views:
        print("lift: one keyframe alone confirms no object; set objects.min_views=1 to have them", file=sys.stderr)
    if stats.all_prompts:
        print(f"{stats.all_prompts / stats.taken:.0f} prompt points a keyframe")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    try:
        from lift_ros.evaluation.plots import write_plots
    except ModuleNotFoundError as error:
        raise LiftError(
            f"lift evaluate draws plots and needs {error.name}: in a clone pip install -r "
            "requirements/evaluate.txt, or pip install '.[evaluate]'"
        ) from None
    from lift_ros.evaluation.report import write_report
    from lift_ros.evaluation.study import carry_out, plan, recorded

    methods = [name for names in args.methods for name in names.split(",") if name]
    runs = plan(
        args.captures, methods, args.masks, args.mask_share, args.out,
        scale=args.scale, seed=args.seed, use_depth=not args.no_depth, settings=assignments("--set", args.set),
        truth=args.truth, bag=assignments("--bag", args.bag), max_depth=args.max_depth,
    )  # fmt: skip
    with _signals_exit():
        try:
            for _ in carry_out(runs, args.out):
                pass
        finally:  # what is done, now or before, is not lost on who stops it
            outcomes = recorded(runs, args.out)
            if outcomes:
                for path in (*write_report(outcomes, args.out), *write_plots(outcomes, args.out)):
                    print(path)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        print(f"lift: failed: {outcome.run.key}: {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def _signals_exit() -> Iterator[None]:
    """Signals that end a process let it clean up first, as an interrupt does; one that was ignored (nohup) still is."""

    def stop(number: int, _: object) -> None:
        sys.exit(128 + number)  # what a shell says of a process that the signal ended

    fatal = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in fatal:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in fatal:
            signal.signal(number, signal.SIG_DFL)


def _objects(args: argparse.Namespace) -> int:
    from lift_ros.mapping.map_files import load_map

    contents = load_map(args.map)
    print(f"{'id':>5} {'part of':>7} {'views':>5} {'conf':>5} {'points':>7}  {'centroid':^24}  {'size':^21}  colour")
    for item in contents.objects:
        centroid = " ".join(f"{v:7.3f}" for v in item["centroid"])
        size = " ".join(f"{v:6.3f}" for v in item["box"]["size"])
        color = "#{:02x}{:02x}{:02x}".format(*item["color"])
        print(
            f"{item['id']:5d} {item['parent'] or '':>7} {item['views']:5d} {item['confidence']:5.2f} "
            f"{item['points']:7d}  {centroid:^24}  {size:^21}  {color}"
        )
    print(f"{len(contents.objects)} objects in frame '{contents.meta['world_frame']}', lengths in its unit")
    return 0


def _render(args: argparse.Namespace) -> int:
    from lift_ros.camera import Camera, PosedCamera
    from lift_ros.config import Config
    from lift_ros.data.image_codec import UNLABELLED, depth_in_millimetres
    from lift_ros.frame import check_rigid
    from lift_ros.mapping.map_files import load_map
    from lift_ros.mapping.prepare import training_device
    from lift_ros.mapping.snapshot import MapSnapshot
    from lift_ros.scene.gaussians import GaussianScene
    from lift_ros.visualization import colorize, write_label_png, write_png

    width, height = args.size
    if width < 1 or height < 1 or not 1 <= args.fov < 180:
        raise ConfigError(f"--size must be positive and --fov in [1, 180), got {width}x{height} and {args.fov}")
    contents = load_map(args.map)
    missing = {"gaussian.object_id", "gaussian.uncertainty"} - set(contents.tensors)
    if missing:
        raise ConfigError(f"{args.map} holds no {', '.join(sorted(missing))}; it was not saved by this package")
    focal = 0.5 * width / np.tan(np.radians(args.fov) / 2)
    pose = check_rigid(_pose(args.pose))
    camera = PosedCamera.from_pose(Camera(width, height, focal, focal, width / 2, height / 2), pose)
    device = training_device(Config())
    scene = GaussianScene(**contents.scene).to(device)
    ids, uncertainty = (contents.tensors[f"gaussian.{name}"].to(device) for name in ("object_id", "uncertainty"))
    snapshot = MapSnapshot(scene, ids, uncertainty)
    rendering = snapshot.render(camera)
    labels = snapshot.labels_from(camera)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        write_png(args.out / "rgb.png", (255 * rendering.image).round().byte().cpu().numpy())
        write_png(args.out / "depth.png", depth_in_millimetres(rendering.depth.cpu().numpy()))
        # what 16 bits cannot name, or have another meaning for, is no label
        write_label_png(args.out / "labels.png", np.where(labels < UNLABELLED, labels, 0))
        write_png(args.out / "labels_color.png", colorize(labels))
        write_png(args.out / "uncertainty.png", (255 * snapshot.uncertainty_image(camera)).round().astype(np.uint8))
    except OSError as error:
        raise LiftError(f"cannot write to {args.out}: {error}") from None
    print(
        f"{args.out}: rgb.png, depth.png (thousandths of the map's unit), labels.png (object ids), labels_color.png, "
        "uncertainty.png (255: not known at all)"
    )
    return 0


def _select(args: argparse.Namespace) -> int:
    from lift_ros.config import Config
    from lift_ros.data.ply import write_points
    from lift_ros.mapping.map_files import load_map
    from lift_ros.mapping.mapper import Mapper
    from lift_ros.mapping.offline import ALIGN_STEPS
    from lift_ros.mapping.selection import Clicks
    from lift_ros.masks.topic import TopicSegmenter
    from lift_ros.visualization import write_png

    if args.pixel and not args.frame:
        raise ConfigError("--pixel needs --frame CAPTURE NAME, the view that it is in")
    meta = load_map(args.map).meta
    # the map may have been made on a device that is not here, and with parameters that there are no more
    known = {option.name for option in walk(Config())}
    saved = {name: value for name, value in meta["parameters"].items() if name in known}
    config = with_values(Config(), saved | {"mapping.device": "auto"})
    mapper = Mapper.load(args.map, config, TopicSegmenter(), meta["world_frame"])
    camera = None
    if args.frame:
        path, name = args.frame
        with _open_capture(args, Path(path)) as capture:
            camera = mapper.snapshot.locate(_frame(capture, name), ALIGN_STEPS)
    points, pixels = [np.array(point) for point in args.point], [(column, row) for column, row in args.pixel]
    clicks = Clicks(points, pixels, camera, args.threshold, args.connected)
    found = mapper.select(clicks)
    if not found.gaussians.any():
        raise LiftError(f"nothing is more similar than {args.threshold:g} to what was clicked on; lower --threshold")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        write_points(args.out / "selected.ply", found.points, found.colors, found.ids)
        if found.mask is not None:
            write_png(args.out / "mask.png", 255 * found.mask.astype(np.uint8))
    except OSError as error:
        raise LiftError(f"cannot write to {args.out}: {error}") from None

    means = mapper.snapshot.scene.means.cpu().numpy()
    for point in args.point:
        distance = np.linalg.norm(means - point, axis=1).min()
        print("point", *(f"{value:g}" for value in point), f"is {distance:.3g} from the Gaussian taken for it")
    print(f"{int(found.gaussians.sum())} of {len(means)} Gaussians, {len(found.points)} of them surface")
    sizes = {item.id: len(item.points) for item in mapper.objects}
    ids, counts = np.unique(found.ids, return_counts=True)
    for index in np.argsort(-counts, kind="stable"):
        of = f"object {ids[index]}, which has {sizes[ids[index]]}" if ids[index] else "no object"
        print(f"{counts[index]} points of {of}")
    if found.mask is None:
        print(f"{args.out}: selected.ply")
    else:
        print(f"{args.out}: selected.ply, mask.png ({100 * found.mask.mean():.1f} % of the view)")
    return 0


def _export_sam(args: argparse.Namespace) -> int:
    from lift_ros.masks.factory import packages_of

    try:
        with packages_of("mobile_sam_onnx"):
            from lift_ros.masks.onnx import export_mobile_sam_onnx

            pair = export_mobile_sam_onnx(args.checkpoint, args.out)
    except OSError as error:
        raise LiftError(f"cannot write to {args.out}: {error}") from None
    print(*pair, sep="\n")
    return 0


def _demo(args: argparse.Namespace) -> int:
    try:
        from lift_ros.ros import demo
    except ImportError as error:
        raise LiftError(
            f"the demo runs the ROS 2 node, and {error.name or error} is not installed; 'make demo' in a clone of the "
            "repository sets everything up"
        ) from None
    return demo.run(args.out, args.frames, args.seed, objects=args.objects)


def _open_capture(args: argparse.Namespace, path: Path, max_depth: float = float("inf")) -> Capture:
    """The capture as the options of ``_add_capture_options`` have it."""
    from lift_ros.data import open_capture
    from lift_ros.data.capture import BAG, find_layout
    from lift_ros.data.color_focal import ColorFocalCapture

    bag = with_values(BagOptions(), assignments("--bag", args.bag))
    if args.bag and find_layout(path) not in (BAG, None):
        raise ConfigError(f"--bag says how to read a bag, and {path} is none")
    capture = open_capture(path, max_depth=max_depth, bag=bag)
    return capture if args.color_focal is None else ColorFocalCapture(capture, args.color_focal)


def _frame(capture: Capture, name: str) -> Frame:
    for frame in capture.frames:
        if frame.name == name:
            return frame
    raise ConfigError(f"{capture.name} has no frame '{name}' that could be used; labels/ of its map has their names")


def _read_parameters(path: Path) -> dict:
    """Groups of parameters of a YAML file, which may be one for the node: of that, without what is the node's own."""
    try:
        content = read_yaml(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold names and values")
    of_nodes = [
        node["ros__parameters"] for node in content.values() if isinstance(node, dict) and "ros__parameters" in node
    ]
    if not of_nodes:
        return content
    if len(content) > 1 or not isinstance(of_nodes[0], dict):
        raise ConfigError(f"{path} must hold the ros__parameters of one node")
    for name in of_nodes[0]:
        if not isinstance(name, str):
            raise ConfigError(f"{path}: {name!r}, in ros__parameters, is no name of a parameter")
    return {name: value for name, value in of_nodes[0].items() if _of_core(name, value)}


def _of_core(name: str, value: object) -> bool:
    """Whether a parameter of a node's file is one of a group, and not the node's own."""
    return (isinstance(value, dict) or "." in name) and not name.startswith("qos_overrides")


def _pose(values: list[str]) -> NDArray[np.float64]:
    """(4, 4) camera-to-world matrix, optical convention, of what was given to --pose."""
    from lift_ros.data.nerfstudio import optical_pose

    try:
        if len(values) == 1:
            loaded = json.loads(Path(values[0]).read_text())
            if isinstance(loaded, dict):
                return optical_pose(loaded["transform_matrix"])
            matrix = np.array(loaded, np.float64)
            return matrix.reshape(4, 4) if matrix.shape == (16,) else matrix
        numbers = np.array([float(value) for value in values])
    except KeyError as error:
        raise ConfigError(f"--pose: {values[0]} holds no {error}") from None
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"--pose: {error}") from None
    if len(numbers) == 16:
        return numbers.reshape(4, 4)
    if len(numbers) != 7:
        raise ConfigError(f"--pose takes 7 numbers (x y z qx qy qz qw), 16, or one file; got {len(numbers)}")
    if not 0 < np.linalg.norm(numbers[3:]) < np.inf:
        raise ConfigError(f"--pose: the quaternion (qx qy qz qw) is {' '.join(values[3:])}, which is no rotation")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(numbers[3:]).as_matrix()
    pose[:3, 3] = numbers[:3]
    return pose


if __name__ == "__main__":
    sys.exit(main())
