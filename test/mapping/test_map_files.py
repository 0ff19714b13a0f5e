"""Map directories: exact, replaced whole or not at all, and checked on reading."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from lift_ros.errors import MapFileError
from lift_ros.mapping.map_files import (
    MapContents,
    load_map,
    replace_directory,
    resolve_map_name,
    save_map,
    undo_half_a_save,
)

FILES = ["embeddings.safetensors", "map.yaml", "objects.json", "scene.ply"]


def make_contents(n: int = 50, seed: int = 0) -> MapContents:
    g = torch.Generator().manual_seed(seed)
    scene = {
        "means": torch.randn(n, 3, generator=g),
        "quats": torch.randn(n, 4, generator=g),
        "log_scales": torch.randn(n, 3, generator=g),
        "logit_opacities": torch.randn(n, generator=g),
        "sh": torch.randn(n, 4, 3, generator=g),
    }
    tensors = {
        "gaussian.embedding": torch.randn(n, 12, generator=g),
        "gaussian.object_id": torch.arange(n, dtype=torch.int64),
        "linear.weight": torch.randn(3, 5, generator=g).to(torch.bfloat16),
    }
    objects = [{"id": 7, "name": "Tasse à café", "centroid": [0.1, 1 / 3, -2.0]}, {"id": 2, "parent": None}]
    parameters = {"seed": seed, "lr": 1e-3}
    meta = {"map_id": "01ab", "world_frame": "map", "method": "unic_lift", "parameters": parameters, "note": "añb"}
    return MapContents(scene, tensors, objects, meta)


def assert_same(one: MapContents, other: MapContents) -> None:
    assert (one.objects, one.meta) == (other.objects, other.meta)
    for ours, theirs in [(one.scene, other.scene), (one.tensors, other.tensors)]:
        assert set(ours) == set(theirs)
        for name, tensor in ours.items():
            assert tensor.dtype == theirs[name].dtype, name
            assert torch.equal(tensor, theirs[name]), name


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_round_trip_is_exact(tmp_path):
    save_map(make_contents(), tmp_path / "a" / "map")
    assert names(tmp_path / "a" / "map") == FILES
    assert names(tmp_path / "a") == ["map"]
    assert_same(load_map(tmp_path / "a" / "map"), make_contents())


def test_an_empty_map_is_a_map(tmp_path):
    contents = make_contents(0)
    contents.objects = []
    save_map(contents, tmp_path / "map")
    assert_same(load_map(tmp_path / "map"), contents)


def test_same_contents_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_map(make_contents(), tmp_path / name)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_views_and_shared_storage_can_be_saved(tmp_path):
    contents = make_contents()
    contents.tensors["transposed"] = contents.tensors["gaussian.embedding"].T
    contents.tensors["learned"] = torch.nn.Parameter(torch.ones(2))
    save_map(contents, tmp_path / "map")
    assert torch.equal(load_map(tmp_path / "map").tensors["transposed"], contents.tensors["gaussian.embedding"].T)


def test_the_header_is_for_people_too(tmp_path):
    save_map(make_contents(), tmp_path / "map")
    header = yaml.safe_load((tmp_path / "map" / "map.yaml").read_text())
    assert header["format_version"] == 3
    assert header["world_frame"] == "map"
    assert header["counts"] == {"gaussians": 50, "tensors": 3, "objects": 2}
    assert set(header["files"]) == {*FILES} - {"map.yaml"}


def test_a_map_is_replaced_as_a_whole(tmp_path):
    save_map(make_contents(seed=1), tmp_path / "map")
    (tmp_path / "map" / "labels").mkdir()
    save_map(make_contents(seed=2), tmp_path / "map")
    assert names(tmp_path / "map") == FILES
    assert names(tmp_path) == ["map"]
    assert_same(load_map(tmp_path / "map"), make_contents(seed=2))


def test_a_link_to_a_map_stays_a_link(tmp_path):
    save_map(make_contents(seed=1), tmp_path / "map")
    (tmp_path / "link").symlink_to("map")
    save_map(make_contents(seed=2), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert_same(load_map(tmp_path / "map"), make_contents(seed=2))


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(MapFileError, match="holds files but no map"):
        save_map(make_contents(), tmp_path)
    assert names(tmp_path) == ["thesis.tex"]


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "map").write_text("")
    with pytest.raises(MapFileError, match="map is a file, not the directory of a map"):
        save_map(make_contents(), tmp_path / "map")


def test_an_interrupted_save_leaves_the_old_map(tmp_path):
    save_map(make_contents(seed=1), tmp_path / "map")
    with pytest.raises(KeyboardInterrupt), replace_directory(tmp_path / "map") as new:
        (new / "scene.ply").write_bytes(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["map"]
    assert_same(load_map(tmp_path / "map"), make_contents(seed=1))


def test_a_failing_rename_puts_the_old_map_back(tmp_path, monkeypatch):
    save_map(make_contents(seed=1), tmp_path / "map")
    rename = Path.rename

    def refuse(self, target):
        if ".saving-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(MapFileError, match="Input/output error"):
        save_map(make_contents(seed=2), tmp_path / "map")
    assert names(tmp_path) == ["map"]
    assert_same(load_map(tmp_path / "map"), make_contents(seed=1))


def test_the_map_kept_by_a_killed_save_is_read_and_what_it_left_goes_with_the_next(tmp_path, caplog):
    save_map(make_contents(seed=1), tmp_path / "map")
    for left in (".map.saving-0a1b2c3d", ".map.saving-4e5f6a7b"):
        shutil.copytree(tmp_path / "map", tmp_path / left)
    os.utime(tmp_path / ".map.saving-4e5f6a7b", (0, 0))
    (tmp_path / "map").rename(tmp_path / ".map.previous-0a1b2c3d")
    assert_same(load_map(tmp_path / "map"), make_contents(seed=1))
    assert "a save was interrupted" in caplog.text and "previous-0a1b2c3d" in caplog.text
    save_map(make_contents(seed=2), tmp_path / "map")
    assert names(tmp_path) == [".map.saving-0a1b2c3d", "map"]  # that one may still be written
    assert_same(load_map(tmp_path / "map"), make_contents(seed=2))


@pytest.mark.parametrize("name", ["map", "room[1]", "link"])
def test_saves_leave_nothing_behind_and_what_was_kept_is_found_whatever_the_name(tmp_path, name):
    place = tmp_path / name
    if name == "link":
        place.symlink_to(tmp_path / "real")
        save_map(make_contents(seed=1), place)
    for seed in (1, 2, 3):
        save_map(make_contents(seed=seed), place)
    assert set(names(tmp_path)) <= {name, "real"}
    real = Path(os.path.realpath(place))
    real.rename(real.with_name(f".{real.name}.previous-0a1b2c3d"))
    assert_same(load_map(place), make_contents(seed=3))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Lets no file grow beyond ``size`` bytes: writing fails as it does on a full disk, with another number.

    It holds for the whole process, so pytest must not write its own report meanwhile: no fixture.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_the_old_map(tmp_path):
    save_map(make_contents(seed=1), tmp_path / "map")
    with (
        file_size_limit(8192),
        pytest.raises(MapFileError, match=r"/map could not be saved: File too large \([\d.]+ MB free there\)"),
    ):
        save_map(make_contents(1000), tmp_path / "map")
    with file_size_limit(8192), pytest.raises(MapFileError, match="/other could not be saved"):
        save_map(make_contents(1000), tmp_path / "other")
    assert names(tmp_path) == ["map"]
    assert_same(load_map(tmp_path / "map"), make_contents(seed=1))


@pytest.fixture
def small_disk(tmp_path):
    """A mounted file system of 128 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk to fill needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_old_map(small_disk):
    save_map(make_contents(seed=1), small_disk / "map")
    with pytest.raises(MapFileError, match=r"disk/map could not be saved: No space left on device \(0\.\d MB free"):
        save_map(make_contents(2000), small_disk / "map")
    assert names(small_disk) == ["map"]
    assert_same(load_map(small_disk / "map"), make_contents(seed=1))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "bytes, map.yaml says|is incomplete"),
        (lambda path: path.write_bytes(b""), "has 0 bytes|not the header"),
        (lambda path: path.write_bytes(b"\xff\x00" * 500), "has 1000 bytes|not valid YAML"),
    ],
)
def test_damage_is_named(tmp_path, name, damage, message):
    save_map(make_contents(), tmp_path / "map")
    damage(tmp_path / "map" / name)
    with pytest.raises(MapFileError, match=f"{name}.*({message})"):
        load_map(tmp_path / "map")


@pytest.mark.parametrize("name", [name for name in FILES if name != "map.yaml"])
def test_a_flipped_bit_is_found(tmp_path, name):
    save_map(make_contents(), tmp_path / "map")
    data = bytearray((tmp_path / "map" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "map" / name).write_bytes(data)
    with pytest.raises(MapFileError, match=f"{name} does not have the sha256"):
        load_map(tmp_path / "map")


def rewrite(directory: Path, **replaced: bytes) -> None:
    """Replace files and enter their new checksums, as a program that knows the format but not its rules would."""
    header = yaml.safe_load((directory / "map.yaml").read_text())
    for key, data in replaced.items():
        name = next(name for name in FILES if name.startswith(key))
        (directory / name).write_bytes(data)
        header["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (directory / "map.yaml").write_text(yaml.safe_dump(header, explicit_end=True))


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"objects": b"[{]"}, r"objects.json cannot be read"),
        ({"objects": b"{}"}, "objects is not a list"),
        ({"objects": b'[{"id": 3}, {"id": 3}]'}, "unique positive integers"),
        ({"objects": b'[{"id": "7"}]'}, "unique positive integers"),
        ({"objects": b'[{"id": 7}]'}, r"counts .*'objects': 2.* hold .*'objects': 1"),
        ({"embeddings": b"\xff" * 64}, "embeddings.safetensors cannot be read"),
        ({"scene": b"ply\nend_header\n"}, "scene.ply cannot be read: it is not a binary_little_endian"),
    ],
)
def test_wrong_contents_under_right_checksums(tmp_path, replaced, message):
    save_map(make_contents(), tmp_path / "map")
    rewrite(tmp_path / "map", **replaced)
    with pytest.raises(MapFileError, match=message):
        load_map(tmp_path / "map")


def test_a_scene_of_another_size_under_right_checksums(tmp_path):
    save_map(make_contents(50), tmp_path / "map")
    save_map(make_contents(40), tmp_path / "other")
    rewrite(tmp_path / "map", scene=(tmp_path / "other" / "scene.ply").read_bytes())
    with pytest.raises(MapFileError, match=r"gaussian.embedding has shape \(50, 12\), the scene 40 Gaussians"):
        load_map(tmp_path / "map")


def test_another_version_is_refused(tmp_path):
    save_map(make_contents(), tmp_path / "map")
    path = tmp_path / "map" / "map.yaml"
    path.write_text(path.read_text().replace("format_version: 3", "format_version: 99"))
    with pytest.raises(MapFileError, match=r"map.yaml has map format version 99.* reads 3"):
        load_map(tmp_path / "map")


def test_there_is_nothing(tmp_path):
    with pytest.raises(MapFileError, match="no map directory .*nowhere"):
        load_map(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.scene.pop("quats"), "quats"),
        (lambda c: c.scene["means"].fill_(torch.nan), "means is not finite in 50 of 50"),
        (lambda c: c.tensors.update({"gaussian.embedding": torch.zeros(49, 12)}), r"\(49, 12\), the scene 50"),
        (lambda c: c.objects.append({"name": "no id"}), "unique positive integers"),
        (lambda c: c.objects[0].update(confidence=float("nan")), "not JSON compliant"),
        (lambda c: c.objects[0].update(points=torch.zeros(3)), "not JSON serializable"),
        (lambda c: c.meta.pop("world_frame"), "meta lacks world_frame"),
        (lambda c: c.meta.update(files={}), "meta must not hold files"),
        (lambda c: c.meta.update(parameters=object()), "cannot represent an object"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, change, message):
    contents = make_contents()
    change(contents)
    with pytest.raises(MapFileError, match=message):
        save_map(contents, tmp_path / "map")
    assert names(tmp_path) == []


def test_objects_are_plain_json(tmp_path):
    save_map(make_contents(), tmp_path / "map")
    assert json.loads((tmp_path / "map" / "objects.json").read_text()) == make_contents().objects


def test_map_names(tmp_path):
    assert resolve_map_name(tmp_path, "kitchen-2.v1") == tmp_path / "kitchen-2.v1"
    for name in ["", ".", "..", "../x", "a/b", "/etc", "a\0", "~", ".hidden", "a b", "x" * 101, "ok\n", "..\\x", "ü"]:
        with pytest.raises(MapFileError, match="no map name"):
            resolve_map_name(tmp_path, name)


def test_a_map_name_cannot_leave_through_a_link(tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "maps" / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(MapFileError, match="outside"):
        resolve_map_name(tmp_path / "maps", "out")


@pytest.mark.parametrize("in_the_way", [False, True], ids=["nothing there", "an empty directory there"])
def test_of_several_maps_that_killed_saves_left_the_latest_is_the_one(tmp_path, in_the_way):
    for name, seed, age in (("0a1b2c3d", 1, 300), ("4e5f6a7b", 2, 100), ("8c9d0e1f", 3, 200)):
        save_map(make_contents(seed=seed), tmp_path / name)
        (tmp_path / name).rename(tmp_path / f".map.previous-{name}")
        os.utime(tmp_path / f".map.previous-{name}", (time.time() - age,) * 2)
    assert_same(load_map(tmp_path / "map"), make_contents(seed=2))
    if in_the_way:
        (tmp_path / "map").mkdir()
    undo_half_a_save(tmp_path / "map")
    assert_same(load_map(tmp_path / "map"), make_contents(seed=2))
    undo_half_a_save(tmp_path / "map")  # nothing is to be undone now
    assert_same(load_map(tmp_path / "map"), make_contents(seed=2))
