"""Videos are made up frame by frame, as a function and as the command that a user runs."""

import subprocess
import sys
import time

import numpy as np
import pytest
from support import script_runner
from support import videos as support_videos
from support.files import names
from support.paths import ROOT
from support.refusals import check_refused, refused

from benchmarks.common import process_memory
from keras_bisenet import LABELS, FaceParser
from keras_bisenet.inference import video_makeup, videos
from keras_bisenet.inference.makeup import Look
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import MakeupError

GREEN = (20, 160, 40)
SCRIPT = ROOT / "scripts" / "makeup.py"


class Seen:
    """What a network without weights sees: a block of hair, lips and skin in the parts of a frame that are bright."""

    def __init__(self, *parts):
        self._ids = [LABELS.index(part) for part in parts]

    def views(self, _):
        probabilities = np.zeros((128, 128, len(LABELS)), np.float32)
        probabilities[..., 0] = 1
        for number, label in enumerate(self._ids):
            block = np.s_[10 + 30 * number : 40 + 30 * number, 30:90]
            probabilities[block] = np.arange(len(LABELS)) == label
        return [(None, probabilities)]


def test_a_part_that_is_not_in_a_frame_is_left_out(portrait):
    look = Look(hair=GREEN, lips=GREEN, smooth=0.5)
    for parts, seen in ((("hair", "skin"), {"hair", "skin"}), ((), set()), (("skin", "u_lip"), {"lips", "skin"})):
        make_up = video_makeup.FrameMakeup(Seen(*parts), LABELS, look)
        result = make_up(portrait)
        assert make_up.seen == seen
        assert (result != portrait).any() == bool(seen)


def test_eyes_without_an_iris_are_left(portrait):
    flat = np.full_like(portrait, 120)
    make_up = video_makeup.FrameMakeup(Seen("hair", "l_eye"), LABELS, Look(hair=GREEN, eyes=GREEN))
    assert (make_up(flat) != flat).any()
    assert make_up.seen == {"hair"}
    with refused(MakeupError, "nothing to change"):
        video_makeup.FrameMakeup(Seen(), LABELS, Look())


def test_a_large_frame_takes_the_changes_of_a_small_one(portrait, monkeypatch):
    look = Look(hair=GREEN)
    large = images.resize(portrait, (480, 480))
    expected = video_makeup.FrameMakeup(Seen("hair"), LABELS, look)(large).astype(float)
    monkeypatch.setattr(video_makeup, "LONGEST_SIDE", 240)
    result = video_makeup.FrameMakeup(Seen("hair"), LABELS, look)(large)
    changed = np.abs(expected - large).mean()
    assert changed > 2
    assert np.abs(expected - result).mean() < 0.2 * changed
    np.testing.assert_array_equal(video_makeup.FrameMakeup(Seen(), LABELS, look)(large), large)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--hair", "#14a028"), ("--overlay",)])
def test_the_command_makes_up_each_frame(tmp_path, portrait, flags):
    source = support_videos.write_with_sound(tmp_path / "a.mp4", [portrait] * 3, "aac")
    output = tmp_path / "b.mp4"
    process = script_runner.run(SCRIPT, "--video", source, "--output", output, "--model", "fast", *flags)
    assert process.returncode == 0, process.stderr
    assert support_videos.sound_of(output) == support_videos.sound_of(source)
    hair = FaceParser("fast")(portrait) == LABELS.index("hair")
    for before, frame in zip(videos.read(source), videos.read(output), strict=True):
        difference = np.abs(frame.picture.astype(float) - before.picture).mean(-1)
        assert difference[hair].mean() > 3 * difference[~hair][:2000].mean()
    assert names(tmp_path) == ["a.mp4", "b.mp4"]


@pytest.mark.slow
def test_what_the_command_refuses(tmp_path, portrait):
    source = support_videos.write(tmp_path / "a.mp4", [portrait])
    given = ["--video", source, "--output", tmp_path / "b.mp4"]
    for flags, named in (
        (["--hair", "red", "--overlay"], "--overlay"),
        (["--hair", "red", "--labels", "c.png"], "--labels"),
        (["--hair", "red", "--image", "c.png"], "--image"),
        (["--hair", "red", "--steady", "1"], "steady"),
        ([], "nothing to change"),
    ):
        check_refused(script_runner.run(SCRIPT, *given, *flags), named)
    assert names(tmp_path) == ["a.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--hair", "#14a028", "--smooth", "0.5"), ("--overlay",)])
def test_memory_is_bounded_for_frames_of_8k(tmp_path, portrait, flags):
    source = support_videos.write(
        tmp_path / "a.mp4", [images.resize(portrait, (4320, 7680))] * 3, codec=("mpeg4", "yuv420p")
    )
    command = [sys.executable, SCRIPT, "--video", source, "--output", tmp_path / "b.mp4", "--model", "fast", *flags]
    process, most = subprocess.Popen(command, start_new_session=True), 0
    while process.poll() is None:
        most = max(most, process_memory.of_session(process.pid))
        time.sleep(0.05)
    assert process.returncode == 0
    assert next(videos.read(tmp_path / "b.mp4")).picture.shape == (4320, 7680, 3)
    assert most < 2.5e9
