"""Queues and counters between threads."""

from __future__ import annotations

import math
from unittest.mock import patch

import pytest

from lift_ros.ros.queues import Window


@pytest.mark.parametrize(("hertz", "kept"), [(2, 100), (25, 100), (25, 1000)])
def test_rate_does_not_depend_on_how_many_values_are_kept(hertz, kept):
    window = Window(kept)
    with patch("lift_ros.ros.queues.time.monotonic") as clock:
        for number in range(20 * hertz):
            clock.return_value = 100.0 + number / hertz
            window.add(1.0)
        assert window.rate(10.0) == pytest.approx(hertz, rel=0.06)
        clock.return_value += 100.0
        assert window.rate(10.0) == 0  # nothing comes any more


def test_percentiles_are_those_of_the_latest_values():
    window = Window(3)
    assert math.isnan(window.percentile(50))
    for value in (100.0, 1.0, 2.0, 3.0):
        window.add(value)
    assert window.percentile(50) == 2.0
