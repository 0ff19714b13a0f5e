"""Configuration trees: every option documented, every bad value refused by name."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from lift_ros.config import Config
from lift_ros.errors import ConfigError
from lift_ros.options import assignments, flatten, option, read_yaml, walk, with_values


@dataclass(frozen=True)
class Lens:
    focal: float = option(2.0, "Focal length.", unit="mm", min=0.5, max=8.0)
    name: str = option("wide", "Kind.", choices=("wide", "tele"))


@dataclass(frozen=True)
class Toy:
    lens: Lens = field(default_factory=Lens)
    count: int = option(3, "How many.", min=1)
    cooled: bool = option(False, "Whether there is a fan.")
    gain: float = option(1.0, "Gain.", max=4.0)


def test_walk_lists_every_leaf_in_order():
    options = list(walk(Toy()))
    assert [o.name for o in options] == ["lens.focal", "lens.name", "count", "cooled", "gain"]
    focal = options[0]
    assert (focal.type, focal.value, focal.help, focal.unit, focal.min, focal.max, focal.choices) == (
        float, 2.0, "Focal length.", "mm", 0.5, 8.0, None,
    )  # fmt: skip
    assert options[1].choices == ("wide", "tele")


def test_values_replace_defaults_and_leave_the_original():
    toy = Toy()
    changed = with_values(toy, {"lens.focal": 4, "lens.name": "tele", "count": 5, "cooled": True})
    assert changed == Toy(Lens(4.0, "tele"), 5, True, 1.0)
    assert type(changed.lens.focal) is float
    assert toy == Toy()
    with pytest.raises(FrozenInstanceError):
        changed.count = 1


@pytest.mark.parametrize("value", [0.5, 8.0, 8])
def test_bounds_are_inclusive(value):
    assert with_values(Toy(), {"lens.focal": value}).lens.focal == value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lens.focal", 0.4, r"in 'lens': 'focal' must be in \[0.5, 8.0\] mm, got 0.4"),
        ("count", 0, "'count' must be at least 1, got 0"),
        ("gain", 4.5, "'gain' must be at most 4.0"),
        ("lens.name", "fisheye", "'name' must be one of wide, tele; got 'fisheye'"),
        ("count", 2.5, "'count' must be of type int, got 2.5"),
        ("count", True, "'count' must be of type int, got True"),
        ("count", "3", "'count' must be of type int, got '3'"),
        ("cooled", 1, "'cooled' must be of type bool"),
        ("lens.focal", True, "'focal' must be of type float"),
        ("gain", math.nan, "'gain' must be finite"),
        ("gain", -math.inf, "'gain' must be finite"),
        ("lens.focal", None, "'focal' must be of type float, got None"),
        ("length", 3, "unknown parameter 'length'; known here: lens, count, cooled, gain"),
        ("lens.length", 3, "in 'lens': unknown parameter 'length'; known here: focal, name"),
        ("", 3, "unknown parameter ''"),
        ("lens", 3, "'lens' is a group of parameters, not a value"),
        ("count.more", 3, "'count' is a value, it has no 'more'"),
    ],
)
def test_bad_values_are_refused_by_name(name, value, message):
    with pytest.raises(ConfigError, match=message):
        with_values(Toy(), {name: value})


@pytest.mark.parametrize("text", ["1e-1", "1E-1", "+1e-1", ".1e0", "0.01e+1", "10.e-2"])
def test_numbers_with_an_exponent_are_numbers_as_to_rclpy(text):
    for values in ({"gain": read_yaml(text)}, assignments("--set", [f"gain={text}"])):
        assert with_values(Toy(), values).gain == pytest.approx(0.1)


def test_text_that_begins_like_a_number_is_text():
    assert read_yaml("{a: '1e-1', b: 1e, c: e5, d: 1e5/x, e: /1e5, f: 1}") == {
        "a": "1e-1", "b": "1e", "c": "e5", "d": "1e5/x", "e": "/1e5", "f": 1,
    }  # fmt: skip


def test_flatten_names_nested_values():
    assert flatten({"lens": {"focal": 3.0, "name": "tele"}, "count": 4}) == {
        "lens.focal": 3.0, "lens.name": "tele", "count": 4,
    }  # fmt: skip
    assert with_values(Toy(), flatten({"lens": {"focal": 3.0}, "count": 4})) == Toy(Lens(3.0), 4)


def test_every_option_of_the_package_is_documented_and_within_its_own_range():
    options = list(walk(Config()))
    names = [o.name for o in options]
    assert len(names) == len(set(names))
    for o in options:
        assert o.help.endswith((".", "?")) or o.choices, f"{o.name}: {o.help!r}"
        assert not o.help.startswith(("...", "The same")), f"{o.name} is shown without the option before it: {o.help!r}"
        assert isinstance(o.value, o.type), o.name
    # which also checks ranges and choices
    assert with_values(Config(), {o.name: o.value for o in options}) == Config()
