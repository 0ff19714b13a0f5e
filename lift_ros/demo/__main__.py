"""``python -m lift_ros.demo OUT``: write the demo room as a capture and a bag."""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from lift_ros.demo.generate import generate
from lift_ros.demo.room import OBJECTS
from lift_ros.errors import LiftError


def main() -> int:
    """Parse the arguments, write the room and list its objects."""
    parser = argparse.ArgumentParser(prog="python -m lift_ros.demo", description=__doc__)
    parser.add_argument("out", help="directory to write capture/ and bag/ to")
    parser.add_argument("--frames", type=int, default=60, help="number of frames (default 60)")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--objects", type=int, default=OBJECTS, help=f"number of objects (default {OBJECTS})")
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another room (default 0)")
    arguments = parser.parse_args()
    with tqdm(total=arguments.frames, unit="frame", desc="rendering the room") as bar:
        try:
            demo = generate(
                arguments.out, frames=arguments.frames, size=tuple(arguments.size), objects=arguments.objects,
                seed=arguments.seed, rate=arguments.rate, progress=lambda done, _: bar.update(done - bar.n),
            )  # fmt: skip
        except (LiftError, ImportError, ValueError) as error:
            bar.close()
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(f"{len(demo.room.objects)} objects: {', '.join(o.name for o in demo.room.objects)}")
    print(f"capture: {demo.capture}\nbag:     {demo.bag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
