"""Files appear whole or not at all."""

import signal
import subprocess
import sys

import pytest
from support.files import content, names
from support.paths import ROOT
from support.refusals import refused

from keras_bisenet.utils import atomic
from keras_bisenet.utils.atomic import staged
from keras_bisenet.utils.errors import OutputError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_files_appear_at_the_end(tmp_path):
    with staged(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("new")
        assert not (tmp_path / "a" / "b" / "x").exists()
    assert content(tmp_path) == {"a/b/x": b"new"}


def test_a_failure_leaves_files_and_folders_as_they_were(tmp_path):
    for name in ("x", "model/y"):
        write(tmp_path / name, "old")
    with pytest.raises(KeyError), staged(tmp_path) as folder:
        for name in ("x", "model/y"):
            write(folder / name, "new")
        raise KeyError
    assert content(tmp_path) == {"x": b"old", "model/y": b"old"}


def test_a_failure_takes_away_the_folders_it_made(tmp_path):
    with pytest.raises(KeyError), staged(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_replaces_an_older_one_as_a_whole(tmp_path):
    for version, name in (("old", "gone"), ("new", "added")):
        with staged(tmp_path) as folder:
            for path in ("model/1/both", f"model/1/{name}", "file"):
                write(folder / path, version)
    assert content(tmp_path) == dict.fromkeys(("model/1/both", "model/1/added", "file"), b"new")
    assert names(tmp_path) == ["file", "model"]


@pytest.mark.parametrize(("older", "newer", "found"), [("b", "b/x", "Not a directory"), ("b/x", "b", "Is a directory")])
def test_a_file_and_a_folder_of_one_name(tmp_path, older, newer, found):
    write(tmp_path / older, "mine")
    write(tmp_path / "c", "old")
    with refused(OutputError, tmp_path, found), staged(tmp_path) as folder:
        write(folder / newer, "new")
        write(folder / "c", "new")
    assert content(tmp_path) == {older: b"mine", "c": b"old"}


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with refused(OutputError, tmp_path / "file", "File exists"), staged(tmp_path / "file"):
        pass


def test_a_folder_that_cannot_be_moved_gives_its_place_back_to_the_older_one(disk):
    small = disk(64)
    write(small / "model" / "x", "old")
    with refused(OutputError, "Device or resource busy"), staged(small) as folder:
        (folder / "model").mkdir()
        # The system does not rename the top of a mounted disk.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder / "model")], check=True)
    subprocess.run(["umount", str(folder / "model")], check=True)
    assert (small / "model" / "x").read_text() == "old"


def test_full_and_read_only_disk(disk):
    small = disk(64)
    (small / "x").write_text("old")
    with refused(OutputError, small, "No space left on device"), staged(small) as folder:
        (folder / "x").write_bytes(bytes(1 << 20))
    assert content(small) == {"x": b"old"}
    disk(64, "ro")
    with refused(OutputError, small, "Read-only file system"), staged(small):
        pass


# Kills its process at the n-th step that changes a folder.
KILLED = """
import os, pathlib, signal, sys
from keras_bisenet.utils import atomic
left = int(sys.argv[3])
def counted(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
    setattr(os, name, counted(getattr(os, name)))
folder = pathlib.Path(sys.argv[2])
new = {f"{number}.png": b"new" for number in range(3)}
atomic.write_folder(folder, new) if sys.argv[1] == "write_folder" else atomic.remove(folder)
"""


@pytest.mark.parametrize("action", ["write_folder", "remove"])
def test_a_killed_process_leaves_no_part_of_a_folder(tmp_path, action):
    """Of 12 files 7 were left, which a later run took for all."""
    old, new = ({f"{number}.png": data for number in range(count)} for count, data in ((5, b"old"), (3, b"new")))
    seen = set()
    for steps in range(30):
        (tmp_path / "out").mkdir()
        folder = tmp_path / "out" / "masks"
        atomic.write_folder(folder, old)
        command = [sys.executable, "-c", KILLED, action, folder, str(steps)]
        status = subprocess.run(command, cwd=ROOT).returncode
        assert status in (0, -signal.SIGKILL)
        left = content(folder) if folder.exists() else None
        assert left in (old, new, None)
        seen.add(None if left is None else left["0.png"])
        # The next run removes what is left.
        atomic.sweep(tmp_path / "out")
        assert names(tmp_path / "out") == ([] if left is None else ["masks"])
        assert left is None or content(folder) == left
        atomic.remove(folder)
        (tmp_path / "out").rmdir()
        if status == 0:
            break
    assert status == 0
    assert seen == ({b"old", None, b"new"} if action == "write_folder" else {b"old", None})


def test_what_is_removed_may_be_a_file_a_link_or_missing(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "missing"):
        atomic.remove(tmp_path / name)
    assert names(tmp_path) == []
