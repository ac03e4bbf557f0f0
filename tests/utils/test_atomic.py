"""Files appear whole or not at all."""

import pathlib
import shutil
import subprocess

import pytest

from keras_bisenet.utils.atomic import staged
from keras_bisenet.utils.errors import OutputError


def test_files_appear_at_the_end(tmp_path):
    with staged(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("new")
        assert not (tmp_path / "a" / "b" / "x").exists()
    assert (tmp_path / "a" / "b" / "x").read_text() == "new"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["x"]


def test_a_failure_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(KeyError), staged(tmp_path) as folder:
        (folder / "x").write_text("new")
        raise KeyError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x": "old"}


def test_a_failure_takes_away_the_folders_it_made(tmp_path):
    with pytest.raises(KeyError), staged(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def content(folder):
    """Every file below a folder: its path in it -> what it holds."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_replaces_an_older_one_as_a_whole(tmp_path):
    for version, name in (("old", "gone"), ("new", "added")):
        with staged(tmp_path) as folder:
            (folder / "model" / "1").mkdir(parents=True)
            (folder / "model" / "1" / "both").write_text(version)
            (folder / "model" / "1" / name).write_text(version)
            (folder / "file").write_text(version)
    assert content(tmp_path) == {"model/1/both": "new", "model/1/added": "new", "file": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]


def test_a_failure_leaves_older_folders_as_they_were(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "x").write_text("old")
    with pytest.raises(KeyError), staged(tmp_path) as folder:
        (folder / "model").mkdir()
        (folder / "model" / "x").write_text("new")
        raise KeyError
    assert content(tmp_path) == {"model/x": "old"}


def test_a_file_in_the_place_of_a_folder_in_it(tmp_path):
    (tmp_path / "model").write_text("mine")
    (tmp_path / "a").write_text("old")
    with pytest.raises(OutputError) as error, staged(tmp_path) as folder:
        (folder / "model").mkdir()
        (folder / "a").write_text("new")
    assert str(error.value) == f"cannot write to {tmp_path}: Not a directory; free it or choose another folder"
    assert content(tmp_path) == {"model": "mine", "a": "old"}


def test_a_folder_in_the_place_of_a_file_is_not_lost(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("mine")
    with pytest.raises(OutputError, match="Is a directory"), staged(tmp_path) as folder:
        (folder / "a").write_text("new")
    assert content(tmp_path) == {"a/x": "mine"}


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as error, staged(tmp_path / "file"):
        pass
    assert str(error.value) == f"cannot write to {tmp_path}/file: File exists; free it or choose another folder"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk (root)")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_moved_gives_its_place_back_to_the_older_one(small_disk):
    (small_disk / "model").mkdir()
    (small_disk / "model" / "x").write_text("old")
    with pytest.raises(OutputError, match="Device or resource busy"), staged(small_disk) as folder:
        (folder / "model").mkdir()
        # The system does not rename the top of a mounted disk.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder / "model")], check=True)
    subprocess.run(["umount", str(folder / "model")], check=True)
    assert (small_disk / "model" / "x").read_text() == "old"


def test_full_disk(small_disk):
    (small_disk / "x").write_text("old")
    with pytest.raises(OutputError) as error, staged(small_disk) as folder:
        (folder / "x").write_bytes(bytes(1 << 20))
    assert str(error.value) == (
        f"cannot write to {small_disk}: No space left on device; free it or choose another folder"
    )
    assert {path.name: path.read_text() for path in pathlib.Path(small_disk).iterdir()} == {"x": "old"}


def test_read_only_folder(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError) as error, staged(small_disk):
        pass
    assert str(error.value) == f"cannot write to {small_disk}: Read-only file system; free it or choose another folder"
