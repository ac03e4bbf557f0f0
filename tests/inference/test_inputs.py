"""What a person names is found, and videos give their pictures."""

import contextlib
import os
import pathlib
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import videos
from support.refusals import refused

from keras_bisenet.inference.batch import inputs, results
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        ".hidden.png",
        ".thumbnails/a.png",
        "clip.MP4",
        "two words/é\n.webp",
        "two words/deep/a.png",
        os.fsdecode(b"\xff.png"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def found(*names, **options):
    return [(str(source.path), str(source.name)) for source in inputs.find([str(name) for name in names], **options)]


def test_a_folder_with_all_that_is_in_it(folder):
    names = ["a.png", "b.JPG", "clip.MP4", "two words/deep/a.png", "two words/é\n.webp", os.fsdecode(b"\xff.png")]
    assert found(folder) == [(f"{folder}/{name}", name) for name in names]
    assert [source.is_video for source in inputs.find([str(folder)])] == [False, False, True, False, False, False]


@given(st.sets(st.text("ab. -ü\n\udcff", min_size=1, max_size=6), max_size=6))
def test_a_folder_of_any_names(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    for name in names:
        (folder / f"{name}.png").write_bytes(b"")
    visible = sorted((folder / f"{name}.png" for name in names if name[0] != "."), key=lambda path: path.parts)
    if visible:
        assert [source.path for source in inputs.find([str(folder)])] == visible
    else:
        with refused(ImageError, "no photo found"):
            inputs.find([str(folder)])


def test_patterns(folder, monkeypatch):
    deep = [("two words/deep/a.png", "two words/deep/a.png")]
    monkeypatch.chdir(folder)
    bytes_name = os.fsdecode(b"\xff.png")
    assert found("**/*.png") == [("a.png", "a.png"), *deep, (bytes_name, bytes_name)]
    assert found("two*/**/*") == [*deep, ("two words/é\n.webp",) * 2]
    # A name is what lies behind all that comes before the first wildcard.
    assert found("two words/*/*.png") == [("two words/deep/a.png", "deep/a.png")]
    assert found(f"{folder}/two words/../[ab].png") == [(f"{folder}/two words/../a.png", "a.png")]
    assert found("*.txt") == [("notes.txt", "notes.txt")]


def test_files_of_any_name(folder):
    for name in ("notes.txt", ".hidden.png", "two words/é\n.webp", "[ab].png", "*"):
        (folder / name).write_bytes(b"")
        assert found(folder / name) == [(f"{folder}/{name}", pathlib.Path(name).name)]
    (folder / "[2019]").mkdir()
    (folder / "[2019]" / "c.png").write_bytes(b"")
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
    for kind in ("labels", "overlay"):
        (out / kind).mkdir(parents=True)
        (out / kind / "a.png.png").write_bytes(b"")
    for path in (out, folder / ".." / folder.name / "two words" / "parsed"):
        assert found(folder / "two words", output_dir=path) == before
        assert found(folder / "two words" / "**" / "*.png", output_dir=path) == before[:1]
        # Who names one of them means it.
        assert found(out / "labels" / "a.png.png", output_dir=path)
    assert len(found(folder / "two words")) == len(before) + 2


@pytest.mark.parametrize("output_dir", ["../photos/out", "../link/out", "out/../../photos/./out"])
def test_results_are_no_photos_by_whatever_path_they_are_named(tmp_path, monkeypatch, output_dir):
    """Each run parsed the pictures of the last one."""
    (tmp_path / "photos" / "out" / "overlay").mkdir(parents=True)
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path / "photos")
    for name in ("a.jpg", "out/overlay/a.jpg.jpg"):
        pathlib.Path(name).write_bytes(b"")
    for name in (".", "../photos", tmp_path / "link", "**/*.jpg"):
        assert [name for _, name in found(name, output_dir=output_dir)] == ["a.jpg"]


def test_results_of_other_runs_are_no_photos(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = found("two words"), found("two words/**/*.png")
    other = folder / "two words" / "deep" / "other"
    (other / "overlay" / "summer").mkdir(parents=True)
    (other / "overlay" / "summer" / "a.jpg.jpg").write_bytes(b"")
    assert found("two words") != before[0]
    (other / results.RECORD).write_text("")
    assert (found("two words"), found("two words/**/*.png")) == before
    # Who names their folder means it.
    assert found(other / "overlay") == [(f"{other}/overlay/summer/a.jpg.jpg", "summer/a.jpg.jpg")]


def test_linked_folders_are_followed_and_loops_are_not(tmp_path, monkeypatch):
    for name in ("elsewhere/deep/b.png", "photos/a.png", "photos/inner/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
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
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_bytes(b"")
    for name, reason in (
        (folder / "empty", f"{folder}/empty: no photo found"),
        (folder / "*.gif", f"{folder}/*.gif: no photo found"),
        (folder / "none.png", f"{folder}/none.png: no such file"),
        ("", "'': no such file"),
        ("x" * 5000, f"{'x' * 5000}: no such file"),
        # Results stay in their folder.
        (f"{folder}/*/../../*.png", f"{folder}/*/../../*.png: has .."),
    ):
        with refused(ImageError, reason):
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


@pytest.fixture(scope="module")
def pictures():
    photo = images.read(images.BUNDLED)[60:180:2, ::2]
    return [np.roll(photo, 10 * shift, axis=1) for shift in range(12)]


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mov", ".mp4"])
def test_videos_give_their_pictures(tmp_path, pictures, suffix):
    path = videos.write(tmp_path / f"a{suffix}", pictures)
    frames = list(inputs.frames(path))
    assert [number for number, _ in frames] == list(range(1, 13))
    np.testing.assert_array_equal([frame for _, frame in frames], pictures)


def test_the_wanted_pictures_of_a_video(tmp_path, pictures):
    path = videos.write(tmp_path / "a.mp4", pictures)
    frames = dict(inputs.frames(path, lambda number: number in (3, 11)))
    assert list(frames) == [3, 11]
    np.testing.assert_array_equal(frames[11], pictures[10])


def test_pictures_of_a_camera_on_its_side_are_upright(tmp_path, pictures):
    path = videos.write(tmp_path / "a.mp4", pictures)
    videos.turn(path)
    frames = [frame for _, frame in inputs.frames(path)]
    np.testing.assert_array_equal(frames, [np.rot90(picture, -1) for picture in pictures])


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".mp4"])
def test_videos_that_begin_later(tmp_path, pictures, suffix):
    """The length of a Matroska file counts from 0, that of others from the first picture."""
    path = videos.write(tmp_path / f"a{suffix}", 3 * pictures, start=10)
    np.testing.assert_array_equal([frame for _, frame in inputs.frames(path)], 3 * pictures)
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with refused(ImageError, path):
        list(inputs.frames(path))


def test_a_webm_that_begins_later(tmp_path, pictures):
    path = videos.write(tmp_path / "a.webm", 3 * pictures, codec=("libvpx", "yuv420p"), start=10)
    assert len(list(inputs.frames(path))) == 36


@pytest.mark.parametrize(("aspect", "width"), [("4/3", 160), ("8/9", 107), ("1", 120)])
def test_pictures_have_square_pixels(tmp_path, pictures, aspect, width):
    """Else faces were as wide as they are stored, not as they are shown."""
    path = videos.write(tmp_path / "a.mov", pictures, aspect=aspect)
    frames = [frame for _, frame in inputs.frames(path)]
    expected = [Image.fromarray(picture).resize((width, 60), Image.Resampling.BILINEAR) for picture in pictures]
    np.testing.assert_array_equal(frames, [np.asarray(picture) for picture in expected])
    # Upright, it is the height that is stretched.
    videos.turn(path)
    assert {frame.shape for _, frame in inputs.frames(path)} == {(width, 60, 3)}


def test_pixels_far_from_square_are_refused(tmp_path, pictures):
    path = videos.write(tmp_path / "a.mp4", pictures, aspect="1/100")
    with refused(ImageError, path, "1/100", "8"):
        list(inputs.frames(path))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_of_a_video_that_breaks_off_the_whole_pictures_come_first(tmp_path, pictures, suffix, share):
    # As for the web: the index first.
    path = videos.write(tmp_path / f"a{suffix}", 3 * pictures, {"movflags": "faststart"} if suffix == ".mp4" else None)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    frames = whole_pictures(path)
    assert 36 * share - 4 < len(frames) < 36 * share + 1
    np.testing.assert_array_equal(frames, (3 * pictures)[: len(frames)])


def whole_pictures(path):
    """The pictures of a video that breaks off."""
    frames = []
    with refused(ImageError, path, "breaks off") as error:
        frames.extend(frame for _, frame in inputs.frames(path))
    assert f"{len(frames)} of its pictures" in str(error.value)
    return frames


def test_a_picture_that_breaks_off_is_left_out(tmp_path, pictures):
    """Most codecs give one, half of it gray."""
    path = videos.write(tmp_path / "a.mp4", pictures, {"movflags": "faststart"}, ("mpeg4", "yuv420p"))
    assert len(list(inputs.frames(path))) == 12
    path.write_bytes(path.read_bytes()[:-20])
    assert len(whole_pictures(path)) == 11


@pytest.mark.parametrize("content", [b"", b"no video", "audio", "index missing"])
def test_what_is_no_video(tmp_path, pictures, content):
    path = tmp_path / "a.mp4"
    if content == "audio":
        content = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\x08\0\0\0" + bytes(8)
    elif content == "index missing":
        content = videos.write(path, pictures).read_bytes()[:-2000]
    path.write_bytes(content)
    with refused(ImageError, f"{path}: cannot be read as a video"):
        list(inputs.frames(path))


def test_a_video_that_is_gone_and_without_pyav(tmp_path, monkeypatch):
    with refused(ImageError, f"{tmp_path}/a.mp4: no such file"):
        list(inputs.frames(tmp_path / "a.mp4"))
    monkeypatch.setitem(sys.modules, "av", None)
    with refused(ImageError, "pip install '.[video]'"):
        list(inputs.frames(tmp_path / "a.mp4"))
