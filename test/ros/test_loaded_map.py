"""A node that starts from a saved map."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros import wall
from ros.rig import Rig, pixels
from std_srvs.srv import SetBool, Trigger

from lift_ros.mapping import map_files
from lift_ros.msg import LabelInfo, Status
from lift_ros.ros import autosave
from lift_ros.ros.mapping_node import MappingNode
from lift_ros.srv import FindObject, GetObject, ListObjects, LoadMap, SaveMap


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The directory of a map of the wall, called "wall", and the ids of its objects."""
    directory = str(tmp_path_factory.mktemp("maps"))
    with closing(Rig(map_directory=directory)) as rig:
        rig.map_the_wall()
        answer = rig.call(SaveMap, "save_map", name="wall")
        assert answer.success, answer.message
        return directory, {o.id for o in rig.objects}


def test_a_name_that_no_map_can_have_is_found_out_at_once():
    node = MappingNode(parameter_overrides=[Parameter("autosave", value="a/b")], namespace="misnamed")
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
    finally:
        node.destroy_node()


@pytest.mark.parametrize("place", ["file/maps", "x" * 300, "."], ids=["below a file", "no name", "not a map"])
def test_a_place_where_no_map_can_be_saved_is_found_out_at_once(tmp_path, capfd, place):
    (tmp_path / "file").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    given = {"map_directory": str(tmp_path / place), "autosave": "notes"}
    node = MappingNode(parameter_overrides=[Parameter(name, value=value) for name, value in given.items()])
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
    finally:
        node.destroy_node()
    said = capfd.readouterr().err
    assert "notes" in said and "Traceback" not in said


@pytest.mark.parametrize("end", ["cleanup", "shutdown"])
def test_a_map_that_could_not_be_saved_is_saved_when_the_node_goes(saved, end):
    directory = Path(saved[0])
    with closing(Rig(map_directory=str(directory), load_map="wall", autosave=end)) as rig:
        in_the_way = directory / end / "file"
        in_the_way.parent.mkdir()
        in_the_way.touch()
        rig.mapping.trigger_deactivate()
        assert in_the_way.exists()
        in_the_way.unlink()
        getattr(rig.mapping, f"trigger_{end}")()
        assert (directory / end / "map.yaml").exists()


def test_that_a_map_could_not_be_saved_is_told_until_it_is(saved, tmp_path):
    shutil.copytree(Path(saved[0]) / "wall", tmp_path / "wall")
    with closing(Rig(map_directory=str(tmp_path), load_map="wall", autosave="left")) as rig:
        heard: list[DiagnosticStatus] = []

        def take(message: DiagnosticArray) -> None:
            heard.extend(entry for entry in message.status if entry.name.startswith(rig.mapping.get_namespace()[1:]))

        def told() -> DiagnosticStatus:
            """What is said once all that was said before is over."""
            heard.clear()
            rig.wait_until(lambda: len(heard) > 1, "diagnostics")
            return heard[-1]

        rig.node.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
        in_the_way = tmp_path / "left" / "file"
        in_the_way.parent.mkdir()
        in_the_way.touch()
        rig.mapping.trigger_deactivate()
        entry = told()
        assert entry.level == DiagnosticStatus.WARN and "left" in entry.message
        assert entry.message.startswith("inactive; map not saved: ")
        in_the_way.unlink()
        rig.mapping.trigger_activate()
        assert "map not saved" in told().message
        rig.mapping.trigger_deactivate()
        entry = told()
        assert entry.level == DiagnosticStatus.OK and entry.message == "inactive"


def test_a_map_is_saved_when_the_node_ends(tmp_path):
    with closing(Rig(map_directory=str(tmp_path), autosave="left")) as rig:
        rig.map_the_wall()
        known = {o.id for o in rig.objects}
        assert not list(tmp_path.iterdir())
    with closing(Rig(map_directory=str(tmp_path), load_map="left", autosave="other")) as rig:
        rig.wait_until(lambda: {o.id for o in rig.objects} == known, "its objects")
        rig.mapping.trigger_deactivate()
        assert (tmp_path / "other").is_dir()
    with closing(Rig(map_directory=str(tmp_path), autosave="empty")) as rig:
        assert rig.status.gaussians == 0
    assert not (tmp_path / "empty").exists()


def test_each_start_goes_on_with_the_map_that_the_one_before_left(tmp_path):
    """One line for every start of a robot, the first included."""
    given = {"map_directory": str(tmp_path), "load_map": "left", "autosave": "left"}
    with closing(Rig(**given)) as rig:
        rig.map_the_wall()
        known, map_id = {o.id for o in rig.objects}, rig.status.map_id
    with closing(Rig(**given)) as rig:
        rig.wait_until(lambda: {o.id for o in rig.objects} == known, "its objects")
        rig.wait_until(lambda: rig.received["label_info"], "what the ids mean")
        told = (rig.received[name][-1].map_id for name in ("objects", "label_info", "status"))
        assert {*told} == {map_id} != {""}
    assert [path.name for path in tmp_path.iterdir()] == ["left"]


def test_a_map_that_was_there_is_kept_where_another_is_saved(tmp_path):
    given = {"map_directory": str(tmp_path), "autosave": "left"}
    with closing(Rig(**given)) as rig:
        rig.map_the_wall()
        known = {o.id for o in rig.objects}
        rig.mapping.trigger_deactivate()
        rig.mapping.trigger_activate()
        rig.mapping.trigger_deactivate()  # the same map again
        rig.mapping.trigger_activate()
        assert rig.call(SaveMap, "save_map", name="left").success
        rig.mapping.trigger_deactivate()
        assert [path.name for path in tmp_path.iterdir()] == ["left"]
    with closing(Rig(**given)) as rig:
        rig.send(0)
        rig.wait_until(lambda: rig.status.keyframes, "a keyframe")
    (kept,) = {path.name for path in tmp_path.iterdir()} - {"left"}
    assert kept.startswith("left.20")
    with closing(Rig(map_directory=str(tmp_path), load_map=kept)) as rig:
        rig.wait_until(lambda: {o.id for o in rig.objects} == known, "the objects of the first")


@pytest.mark.parametrize("replaced_by", ["reset", "another map", "another node"])
def test_a_map_that_another_took_the_place_of_is_kept(saved, tmp_path, replaced_by):
    shutil.copytree(Path(saved[0]) / "wall", tmp_path / "left")
    shutil.copytree(Path(saved[0]) / "wall", tmp_path / "other")
    before = (tmp_path / "left" / "map.yaml").read_bytes()
    with closing(Rig(map_directory=str(tmp_path), load_map="left", autosave="left")) as rig:
        if replaced_by == "reset":
            assert rig.call(Trigger, "reset").success
        elif replaced_by == "another map":
            assert rig.call(LoadMap, "load_map", name="other").success
        else:
            shutil.rmtree(tmp_path / "left")
            shutil.copytree(Path(saved[0]) / "wall", tmp_path / "left")
            os.utime(tmp_path / "left")
        rig.send(0)
        rig.wait_until(lambda: rig.status.keyframes, "a keyframe")
    (kept,) = {path.name for path in tmp_path.iterdir()} - {"left", "other"}
    assert (tmp_path / kept / "map.yaml").read_bytes() == before != (tmp_path / "left" / "map.yaml").read_bytes()


def test_a_map_that_is_there_stays_where_the_new_one_cannot_be_written(saved, tmp_path, monkeypatch):
    shutil.copytree(Path(saved[0]) / "wall", tmp_path / "left")
    with closing(Rig(map_directory=str(tmp_path), autosave="left")) as rig:
        rig.send(0)
        rig.wait_until(lambda: rig.status.keyframes, "a keyframe")

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(map_files, "_write", full)
        rig.mapping.trigger_deactivate()
        assert [path.name for path in tmp_path.iterdir()] == ["left"]
    assert [path.name for path in tmp_path.iterdir()] == ["left"]
    assert len(map_files.load_map(tmp_path / "left").objects) == len(saved[1])


@pytest.mark.parametrize("load_map", ["left", ""])
def test_a_map_is_found_whose_save_was_cut_off(saved, tmp_path, load_map):
    """Between its two renames, by a loss of power."""
    shutil.copytree(Path(saved[0]) / "wall", tmp_path / ".left.previous-0123abcd")
    with closing(Rig(map_directory=str(tmp_path), load_map=load_map, autosave="left")) as rig:
        rig.wait_until(lambda: rig.received["objects"], "a list of objects")
        rig.send(0)
        rig.wait_until(lambda: rig.status.keyframes, "a keyframe")
        assert bool(rig.objects) == bool(load_map)
    (kept,) = {path.name for path in tmp_path.iterdir()} - {"left"}
    assert (kept == "left.before") == bool(load_map)
    assert map_files.load_map(tmp_path / kept).objects


def test_a_map_that_grows_is_saved_in_between(tmp_path, monkeypatch):
    asked, due = [], autosave.Autosave.due

    def told(self, mapper) -> bool:
        asked.append(due(self, mapper))
        return asked[-1]

    def saved_at() -> int:
        """Nanoseconds; 0 where there is no map, as for a moment while another takes its place."""
        file = tmp_path / "left" / "map.yaml"
        with suppress(FileNotFoundError):
            return file.stat().st_mtime_ns
        return 0

    monkeypatch.setattr(autosave.Autosave, "due", told)
    monkeypatch.setattr(autosave, "PERIOD", 0.5)
    with closing(Rig(map_directory=str(tmp_path), autosave="left")) as rig:
        rig.map_the_wall()
        rig.wait_until(saved_at, "the first save")
        monkeypatch.setattr(autosave, "PERIOD", 0.0)
        rig.wait_until(lambda: len(asked) > 1 and not any(asked[-2:]), "all to be saved")
        count, stamp = len(asked), saved_at()
        rig.wait_until(lambda: len(asked) >= count + 2, "it to be asked again")
        assert not any(asked[count:])  # nothing was new
        assert saved_at() == stamp
        rig.send(12)
        rig.wait_until(lambda: saved_at() > stamp, "what is new to be saved")


def test_answers_are_of_now_and_not_of_when_the_map_last_changed(saved):
    """Else TF does not cover them: that of a robot at rest, or of a map of yesterday."""
    with closing(Rig(map_directory=saved[0], load_map="wall")) as rig:
        rig.wait_until(lambda: rig.objects, "its objects")
        known = rig.objects[0].id
        answer = rig.call(GetObject, "get_object", id=known)
        now = rig.mapping.get_clock().now().nanoseconds / 1e9
        for header in (answer.header, rig.received["objects"][-1].header, rig.received["scene_cloud"][-1].header):
            assert abs(header.stamp.sec - now) < 60
        assert rig.call(SetBool, "pause", data=True).success
        for index in (500, 501):
            rig.send(index)
        rig.wait_for_frames(2)
        assert rig.call(GetObject, "get_object", id=known).header.stamp == rig.header(501).stamp
        for index in (100, 101):  # time jumps back
            rig.send(index)
        rig.wait_for_drop("time_jump")
        for index in (102, 103):
            rig.send(index)
        rig.wait_for_frames(4)
        rig.wait_until(
            lambda: rig.call(GetObject, "get_object", id=known).header.stamp == rig.header(103).stamp, "the latest"
        )
        rig.mapping.trigger_deactivate()
        rig.mapping.trigger_activate()
        stamp = rig.call(GetObject, "get_object", id=known).header.stamp
        assert abs(stamp.sec - rig.mapping.get_clock().now().nanoseconds / 1e9) < 60


def test_what_a_map_holds_is_known_before_the_first_frame(saved):
    directory, known = saved
    with closing(Rig(map_directory=directory, load_map="wall")) as rig:
        rig.wait_until(lambda: rig.objects, "its objects")
        assert {o.id for o in rig.objects} == known == set(rig.received["label_info"][-1].ids)
        assert rig.call(GetObject, "get_object", id=min(known)).object.id == min(known)
        assert rig.status.state == Status.WAITING and rig.status.frames == 0


def test_what_a_map_holds_is_known_before_the_node_is_active(saved):
    """An answer without objects would tell a planner of free space."""
    directory, known = saved
    with closing(Rig(activate=False, map_directory=directory, load_map="wall")) as rig:
        rig.mapping.trigger_configure()
        listed = rig.call(ListObjects, "list_objects").objects.objects
        assert {o.id for o in listed} == known
        assert rig.call(GetObject, "get_object", id=min(known)).success
        point = FindObject.Request.POINT
        assert rig.call(FindObject, "find_object", kind=point, point=listed[0].box.position).ids
        rig.wait_until(lambda: rig.received["status"], "a status")
        assert rig.status.state == Status.INACTIVE and rig.status.objects == len(known)


def test_nobody_keeps_what_a_map_held_that_was_forgotten(saved):
    with closing(Rig(map_directory=saved[0])) as rig:
        assert rig.call(LoadMap, "load_map", name="wall").success
        rig.wait_until(lambda: rig.objects and rig.received["object_cloud"][-1].width, "its objects")
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            getattr(rig.mapping, f"trigger_{transition}")()
        rig.wait_until(lambda: not rig.objects, "an empty list")
        rig.wait_until(lambda: len(rig.received["markers"][-1].markers) == 1, "no markers but the one that deletes all")
        rig.wait_until(lambda: not rig.received["object_cloud"][-1].width, "an empty cloud")
        rig.wait_until(lambda: not rig.received["scene_cloud"][-1].width, "an empty scene")
        rig.wait_until(lambda: not rig.received["label_info"][-1].ids, "no ids")


def test_frames_that_waited_for_their_masks_when_another_map_was_loaded_are_counted(saved):
    with closing(Rig(map_directory=saved[0])) as rig:
        for index in range(3):
            rig.send(index, masks=None)
        rig.wait_until(lambda: rig.status.keyframe_queue == 3, "frames that wait")
        assert rig.call(LoadMap, "load_map", name="wall").success
        assert rig.wait_for_drop("map_replaced") == 3
        rig.wait_until(lambda: rig.status.keyframe_queue == 0, "none that wait")
        assert rig.status.keyframes == 0 < rig.status.gaussians
        assert rig.call(Trigger, "reset").success
        rig.wait_until(lambda: not rig.drops and not rig.status.gaussians, "counters at zero")


def test_the_scene_cloud_has_as_many_points_as_it_may(saved):
    with closing(Rig(map_directory=saved[0], load_map="wall", scene_cloud_points=500)) as rig:
        clouds = rig.received["scene_cloud"]
        rig.wait_until(lambda: clouds, "the scene")
        assert rig.status.gaussians > 1000 >= 2 * clouds[-1].width > 500


@pytest.mark.parametrize(("share", "labelled"), [(0.3, True), (1.0, False)])
def test_an_object_labels_the_pixels_of_which_it_has_its_share(saved, share, labelled):
    """No object has all of a pixel: Gaussians end softly."""
    with closing(Rig(map_directory=saved[0], load_map="wall", label_min_share=share)) as rig:
        rig.send(0)
        rig.wait_until(lambda: rig.received["labels"], "labels")
        on_objects = pixels(rig.received["labels"][0])[wall.labels(0) > 0]
        assert (np.mean(on_objects != LabelInfo.UNLABELLED) > 0.8) == labelled
