"""What the README shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_example_in_python_runs(demo_room, tmp_path, monkeypatch, capsys):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (example,) = [text for text in examples if "map_capture" in text]
    monkeypatch.chdir(tmp_path)
    example = example.replace('"CAPTURE"', repr(str(demo_room.capture)))
    assert "config = Config()" in example
    quick = 'with_values(Config(), {"mapping.image_width": 80, "mapping.device": "cpu"})'
    code = "from lift_ros.options import with_values\n" + example.replace("Config()", quick)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "map" / "map.yaml").exists()
    assert capsys.readouterr().out.startswith("1 [")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README.read_text()))))
def test_what_it_links_to_is_there(link):
    assert (README.parent / link).exists()
