"""Images of another time than those before and after them."""

from __future__ import annotations

import time
from contextlib import closing

from ros import wall
from ros.rig import PERIOD, Rig, image_message


def test_of_two_cameras_on_a_topic_whose_clocks_differ_one_is_mapped(capfd):
    with closing(Rig()) as rig:
        for index in range(12):
            rig.send(index)
            time.sleep(PERIOD / 2)
            other = rig.header(index, start=4600.0)
            rig.images.publish(image_message(other, "rgb8", wall.image(index)))
            time.sleep(PERIOD / 2)
        rig.wait_for_frames(12)
        rig.wait_until(lambda: rig.drops.get("stamp_not_increasing") == 11, "the others to be counted")
        rig.wait_until(lambda: len(rig.objects) >= 3, "the objects")
        assert "time_jump" not in rig.drops
    assert "are there two publishers on 'image'?" in capfd.readouterr().err
