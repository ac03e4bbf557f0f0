"""What a person names is found."""

import contextlib
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.refusals import refused

from keras_bisenet.inference.batch import inputs, results
from keras_bisenet.utils.errors import ImageError

NO_TEXT = os.fsdecode(b"\xff.png")


def fill(folder, *names):
    """Writes empty files into a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path, "b.JPG", "a.png", "notes.txt", ".hidden.png", ".thumbnails/a.png", "clip.MP4", NO_TEXT)
    fill(tmp_path / "two words", "é\n.webp", "deep/a.png")
    return tmp_path


def found(*names, **options):
    return [(str(source.path), str(source.name)) for source in inputs.find([str(name) for name in names], **options)]


def test_a_folder_with_all_that_is_in_it(folder):
    names = ["a.png", "b.JPG", "clip.MP4", "two words/deep/a.png", "two words/é\n.webp", NO_TEXT]
    assert found(folder) == [(f"{folder}/{name}", name) for name in names]
    assert [source.is_video for source in inputs.find([str(folder)])] == [False, False, True, False, False, False]


@given(st.sets(st.text("ab. -ü\n\udcff", min_size=1, max_size=6), max_size=6))
def test_a_folder_of_any_names(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    fill(folder, *(f"{name}.png" for name in names))
    visible = sorted((folder / f"{name}.png" for name in names if name[0] != "."), key=lambda path: path.parts)
    if visible:
        assert [source.path for source in inputs.find([str(folder)])] == visible
    else:
        with refused(ImageError, "no photo found"):
            inputs.find([str(folder)])


def test_patterns(folder, monkeypatch):
    deep = [("two words/deep/a.png", "two words/deep/a.png")]
    monkeypatch.chdir(folder)
    assert found("**/*.png") == [("a.png", "a.png"), *deep, (NO_TEXT, NO_TEXT)]
    assert found("two*/**/*") == [*deep, ("two words/é\n.webp",) * 2]
    # A name is what lies behind all that comes before the first wildcard.
    assert found("two words/*/*.png") == [("two words/deep/a.png", "deep/a.png")]
    assert found(f"{folder}/two words/../[ab].png") == [(f"{folder}/two words/../a.png", "a.png")]
    assert found("*.txt") == [("notes.txt", "notes.txt")]


def test_files_of_any_name(folder):
    fill(folder, "[ab].png", "*", "[2019]/c.png")
    for name in ("notes.txt", ".hidden.png", "two words/é\n.webp", "[ab].png", "*"):
        assert found(folder / name) == [(f"{folder}/{name}", pathlib.Path(name).name)]
    assert found(folder / "[2019]") == [(f"{folder}/[2019]/c.png", "c.png")]


def test_what_is_named_twice_is_parsed_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert found("a.png", folder / "a.png", "[ab].png", "two words/../a.png") == [("a.png", "a.png")]
    # In the order of what was named.
    assert [name for _, name in found("b.JPG", "[ab].*")] == ["b.JPG", "a.png"]


def test_two_files_of_one_name_are_refused(folder):
    with refused(ImageError, f"{folder}/a.png and {folder}/two words/deep/a.png"):
        found(folder / "a.png", folder / "two words" / "deep")


def test_results_among_the_photos_are_no_photos(folder):
    before = found(folder / "two words")
    out = folder / "two words" / "parsed"
    fill(out, "labels/a.png.png", "overlay/a.png.png")
    for path in (out, folder / ".." / folder.name / "two words" / "parsed"):
        assert found(folder / "two words", output_dir=path) == before
        assert found(folder / "two words" / "**" / "*.png", output_dir=path) == before[:1]
        # Who names one of them means it.
        assert found(out / "labels" / "a.png.png", output_dir=path)
    assert len(found(folder / "two words")) == len(before) + 2


@pytest.mark.parametrize("output_dir", ["../photos/out", "../link/out", "out/../../photos/./out"])
def test_results_are_no_photos_by_whatever_path_they_are_named(tmp_path, monkeypatch, output_dir):
    """Each run parsed the pictures of the last one."""
    fill(tmp_path / "photos", "a.jpg", "out/overlay/a.jpg.jpg")
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path / "photos")
    for name in (".", "../photos", tmp_path / "link", "**/*.jpg"):
        assert [name for _, name in found(name, output_dir=output_dir)] == ["a.jpg"]


def test_results_of_other_runs_are_no_photos(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = found("two words"), found("two words/**/*.png")
    other = folder / "two words" / "deep" / "other"
    fill(other, "overlay/summer/a.jpg.jpg")
    assert found("two words") != before[0]
    (other / results.RECORD).write_text("")
    assert (found("two words"), found("two words/**/*.png")) == before
    # Who names their folder means it.
    assert found(other / "overlay") == [(f"{other}/overlay/summer/a.jpg.jpg", "summer/a.jpg.jpg")]


def test_linked_folders_are_followed_and_loops_are_not(tmp_path, monkeypatch):
    fill(tmp_path, "elsewhere/deep/b.png", "photos/a.png", "photos/inner/c.png")
    for name, target in (
        ("photos/linked", "../elsewhere"),
        ("photos/inner/up", "../../photos"),
        ("photos/inner/self", "."),
        ("elsewhere/deep/back", "../../photos/inner"),
    ):
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    expected = ["a.png", "inner/c.png", "linked/deep/b.png", "linked/deep/back/c.png"]
    for name in ("photos", "photos/**/*.png"):
        assert [name for _, name in found(name)] == expected
    assert [name for _, name in found("photos/*")] == ["a.png"]


def test_nothing_is_found(folder):
    fill(folder, "empty/notes.txt")
    for name, reason in (
        (folder / "empty", "no photo found"),
        (folder / "*.gif", "no photo found"),
        (folder / "none.png", "no such file"),
        ("", "no such file"),
        ("x" * 5000, "no such file"),
        # Results stay in their folder.
        (f"{folder}/*/../../*.png", "has .."),
    ):
        with refused(ImageError, f"{name or repr(name)}: {reason}"):
            found(name)


@contextlib.contextmanager
def ordinary_user():
    """Whom permissions apply to."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_that_may_not_be_read(folder):
    closed = folder / "two words" / "deep"
    closed.chmod(0)
    for path in (folder, *folder.parents):  # pytest's own are closed to others
        if path == folder or path.name.startswith(("pytest-", "popen-", "test_")):
            path.chmod(0o755)
    try:
        with ordinary_user(), refused(ImageError, closed, "Permission denied"):
            found(folder)
    finally:
        closed.chmod(0o755)
