"""A node that starts from a saved map."""

from __future__ import annotations

from contextlib import closing

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros.rig import Rig

from lift_ros.msg import Status
from lift_ros.ros.mapping_node import MappingNode
from lift_ros.srv import GetObject, SaveMap


def test_a_name_that_no_map_can_have_is_found_out_at_once():
    node = MappingNode(parameter_overrides=[Parameter("autosave", value="a/b")], namespace="misnamed")
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
    finally:
        node.destroy_node()


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


def test_what_a_map_holds_is_known_before_the_first_frame(tmp_path):
    with closing(Rig(map_directory=str(tmp_path))) as rig:
        rig.map_the_wall()
        saved = rig.call(SaveMap, "save_map", name="wall")
        assert saved.success, saved.message
        known = {o.id for o in rig.objects}
    with closing(Rig(map_directory=str(tmp_path), load_map="wall")) as rig:
        rig.wait_until(lambda: rig.objects, "its objects")
        assert {o.id for o in rig.objects} == known == set(rig.received["label_info"][-1].ids)
        assert rig.call(GetObject, "get_object", id=min(known)).object.id == min(known)
        assert rig.status.state == Status.WAITING and rig.status.frames == 0
