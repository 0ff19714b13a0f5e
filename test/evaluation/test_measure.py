"""One run, in this process."""

from __future__ import annotations

import json
import shutil

import numpy as np

from lift_ros.evaluation import Contingency, measure
from lift_ros.evaluation.study import Run, known_methods

SETTINGS = {"mapping.photometric_steps": 4, "mapping.lifting_steps": 4, "lifting.pixels": 256}


def test_a_capture_without_truth_with_masks_on_half_of_its_frames(demo_room, tmp_path):
    path = tmp_path / "room"
    shutil.copytree(demo_room.capture, path)
    listing = json.loads((path / "transforms.json").read_text())
    listing["frames"] = [{k: v for k, v in frame.items() if k != "instance_file_path"} for frame in listing["frames"]]
    (path / "transforms.json").write_text(json.dumps(listing))
    shutil.rmtree(path / "inst")
    run = Run(str(path), "recorded:L0", 0.5, known_methods()[0], scale=0.4, settings=SETTINGS)
    figures = measure.measure(run, tmp_path / "pictures")
    assert all(figures[name] is None for name in measure.ACCURACY)
    assert figures["frames"] == figures["keyframes"] == 8 and figures["mask_views"] == 4
    assert figures["psnr"] > 15 and figures["depth_l1"] < 0.5 and figures["seconds"] > 0
    names = sorted(picture.name for picture in (tmp_path / "pictures").iterdir())
    assert names == [f"{view}_{what}.png" for view in range(4) for what in ("image", "labels", "masks")]


def test_labels_that_found_their_object_take_its_color():
    # 7 found object 2, 9 stands for the background, 4 is on the background, 0 is unlabelled
    labels = np.array([[7, 7, 7, 9, 9, 9, 9, 4, 0, 0]])
    truth = np.array([[2, 2, 2, 0, 0, 0, 0, 0, 0, 0]])
    shown = measure._in_true_colors(labels, Contingency.of([labels], [truth]), None)
    assert shown.tolist() == [[2, 2, 2, 0, 0, 0, 0, 3 + 4, 0, 0]]
