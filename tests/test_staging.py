"""Files appear whole or not at all."""

import pathlib
import shutil
import subprocess

import pytest

from keras_bisenet.export.errors import ExportError
from keras_bisenet.export.staging import staged


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


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError) as error, staged(tmp_path / "file"):
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


def test_full_disk(small_disk):
    (small_disk / "x").write_text("old")
    with pytest.raises(ExportError) as error, staged(small_disk) as folder:
        (folder / "x").write_bytes(bytes(1 << 20))
    assert str(error.value) == (
        f"cannot write to {small_disk}: No space left on device; free it or choose another folder"
    )
    assert {path.name: path.read_text() for path in pathlib.Path(small_disk).iterdir()} == {"x": "old"}


def test_read_only_folder(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ExportError) as error, staged(small_disk):
        pass
    assert str(error.value) == f"cannot write to {small_disk}: Read-only file system; free it or choose another folder"
