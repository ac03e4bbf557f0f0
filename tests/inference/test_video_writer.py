"""Videos are written from the frames of others: with their times and sound, whole or not at all, and resumed."""

import numpy as np
import pytest
from support import videos as support_videos
from support.files import names
from support.refusals import refused

from keras_bisenet.inference import video_writer, videos
from keras_bisenet.utils import locks
from keras_bisenet.utils.errors import ImageError, OutputError


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch):
    monkeypatch.setattr(video_writer, "PART", 5)


def write(source, output, convert=lambda frame: frame, made_from=None, **options):
    return video_writer.write(source, output, convert, made_from or {}, lambda: None, **options)


def check_pictures(path, expected):
    found = [frame.picture for frame in videos.read(path)]
    assert [picture.shape for picture in found] == [picture.shape for picture in expected]
    assert np.abs(np.subtract(found, expected, dtype=float)).mean() < 6


@pytest.mark.parametrize("suffix", video_writer.SUFFIXES)
def test_frames_keep_their_times(tmp_path, pictures, suffix):
    numbers = [3, 4, 8, 9, 23, 24, 25, 29, 40, 41, 42, 60]
    source = support_videos.write(tmp_path / "a.mp4", pictures, numbers=numbers)
    output = tmp_path / f"new/b{suffix}"
    assert write(source, output, lambda frame: 255 - frame) is None
    check_pictures(output, [255 - picture for picture in pictures])
    times = [float(frame.time) for frame in videos.read(output)]
    assert np.diff(times) == pytest.approx(np.diff(numbers) / 10, abs=1e-3)
    assert names(tmp_path / "new") == [output.name]


def test_frames_of_odd_sides_get_one_row_or_column_more(tmp_path, pictures):
    odd = [picture[:59, :119] for picture in pictures]
    write(support_videos.write(tmp_path / "a.mp4", odd), tmp_path / "b.mp4")
    check_pictures(tmp_path / "b.mp4", [np.pad(picture, ((0, 1), (0, 1), (0, 0)), "edge") for picture in odd])


def test_frames_of_a_camera_on_its_side_are_upright(tmp_path, pictures):
    source = support_videos.write(tmp_path / "a.mp4", pictures)
    support_videos.turn(source)
    write(source, tmp_path / "b.mp4")
    check_pictures(tmp_path / "b.mp4", [np.rot90(picture, -1) for picture in pictures])


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("pcm_s16le", ".mkv"), ("libopus", ".mp4")])
def test_sound_is_copied(tmp_path, pictures, codec, suffix):
    source = support_videos.write_with_sound(tmp_path / "a.mkv", pictures, codec)
    write(source, tmp_path / f"b{suffix}")
    sound = support_videos.sound_of(source)
    assert len(sound) > 500
    assert support_videos.sound_of(tmp_path / f"b{suffix}") == sound
    assert len(list(videos.read(tmp_path / f"b{suffix}"))) == 12


def test_sound_that_cannot_be_copied_is_refused_before_the_first_frame(tmp_path, pictures):
    source = support_videos.write_with_sound(tmp_path / "a.mkv", pictures, "pcm_s16le")
    with refused(ImageError, source, "pcm_s16le", ".mkv", "--noaudio"):
        write(source, tmp_path / "b.mp4")
    assert names(tmp_path) == ["a.mkv"]
    write(source, tmp_path / "b.mp4", with_audio=False)
    assert len(list(videos.read(tmp_path / "b.mp4"))) == 12


class Interrupted:
    """Mirrors frames until it is interrupted."""

    def __init__(self, after=None):
        self.after, self.count = after, 0

    def __call__(self, frame):
        if self.count == self.after:
            raise KeyboardInterrupt
        self.count += 1
        return frame[:, ::-1]


@pytest.mark.parametrize(("memory", "again"), [(0, 7), (3, 10)])
def test_an_interrupted_run_leaves_no_video_and_is_resumed(tmp_path, pictures, memory, again):
    source, output = support_videos.write(tmp_path / "a.mp4", pictures), tmp_path / "b.mp4"
    with pytest.raises(KeyboardInterrupt):
        write(source, output, Interrupted(8), memory=memory)
    assert not output.exists()
    second = Interrupted()
    write(source, output, second, memory=memory)
    assert second.count == again  # the first part of five was whole
    assert names(tmp_path) == ["a.mp4", "b.mp4"]
    whole = tmp_path / "whole.mp4"
    write(source, whole, Interrupted())
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("change", ["made_from", "source", "record"])
def test_parts_of_anything_else_are_made_again(tmp_path, pictures, change):
    source, output = support_videos.write(tmp_path / "a.mp4", pictures), tmp_path / "b.mp4"
    with pytest.raises(KeyboardInterrupt):
        write(source, output, Interrupted(8))
    if change == "source":
        support_videos.write(source, pictures[::-1] + pictures[:1])
    elif change == "record":
        next(tmp_path.glob(".parts-*/*.json")).write_text("{")
    second = Interrupted()
    write(source, output, second, {"look": 2} if change == "made_from" else None)
    assert second.count == len(list(videos.read(source)))


def test_a_damaged_frame_is_left_out_and_told(tmp_path, pictures):
    source = support_videos.write(tmp_path / "a.mp4", pictures)
    support_videos.damage(source, 6)
    problem = write(source, tmp_path / "b.mp4")
    assert str(source) in problem and "11 of its frames" in problem
    assert len(problem.splitlines()) == 1
    check_pictures(tmp_path / "b.mp4", pictures[:6] + pictures[7:])
    assert [float(frame.time) for frame in videos.read(tmp_path / "b.mp4")][5:8] == [0.5, 0.7, 0.8]


def test_a_video_without_frames_leaves_nothing(tmp_path, pictures):
    source = support_videos.write(tmp_path / "a.mp4", pictures[:1])
    support_videos.empty(source)
    with refused(ImageError, source, "without frames"):
        write(source, tmp_path / "b.mp4")
    assert names(tmp_path) == ["a.mp4"]


def test_outputs_that_are_refused(tmp_path, pictures):
    source = support_videos.write(tmp_path / "a.mp4", pictures)
    for output in (tmp_path / "b.gif", source):
        with refused(ImageError, output.name):
            write(source, output)
    with locks.held(tmp_path / ".parts-b.mp4", OutputError), refused(OutputError, ".parts-b.mp4"):
        write(source, tmp_path / "b.mp4")


def test_the_number_of_frames(tmp_path, pictures):
    for suffix in (".mp4", ".mkv", ".avi"):
        assert video_writer.count(support_videos.write(tmp_path / f"a{suffix}", pictures)) == 12
