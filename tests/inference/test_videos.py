"""Videos give their frames as a player shows them."""

import fractions
import sys

import av
import numpy as np
import pytest
from PIL import Image
from support import videos as support_videos
from support.refusals import refused

from keras_bisenet.inference import videos
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError


def read(path):
    return [frame.picture for frame in videos.read(path)]


def whole_pictures(path):
    """The pictures of a video that breaks off."""
    frames = []
    with refused(ImageError, path, "breaks off") as error:
        frames.extend(frame.picture for frame in videos.read(path))
    assert f"{len(frames)} of its frames" in str(error.value)
    return frames


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mov", ".mp4"])
def test_videos_give_their_pictures(tmp_path, pictures, suffix):
    path = support_videos.write(tmp_path / f"a{suffix}", pictures)
    frames = list(videos.read(path))
    assert [frame.number for frame in frames] == list(range(1, 13))
    np.testing.assert_array_equal([frame.picture for frame in frames], pictures)


def test_the_wanted_pictures_of_a_video(tmp_path, pictures):
    path = support_videos.write(tmp_path / "a.mp4", pictures)
    frames = {frame.number: frame.picture for frame in videos.read(path, lambda number: number in (3, 11))}
    assert list(frames) == [3, 11]
    np.testing.assert_array_equal(frames[11], pictures[10])


def test_pictures_of_a_camera_on_its_side_are_upright(tmp_path, pictures):
    path = support_videos.write(tmp_path / "a.mp4", pictures)
    support_videos.turn(path)
    np.testing.assert_array_equal(read(path), [np.rot90(picture, -1) for picture in pictures])


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".mp4"])
def test_videos_that_begin_later(tmp_path, pictures, suffix):
    """The length of a Matroska file counts from 0, that of others from the first picture."""
    path = support_videos.write(tmp_path / f"a{suffix}", 3 * pictures, start=10)
    np.testing.assert_array_equal(read(path), 3 * pictures)
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with refused(ImageError, path):
        list(videos.read(path))


def test_a_webm_that_begins_later(tmp_path, pictures):
    path = support_videos.write(tmp_path / "a.webm", 3 * pictures, codec=("libvpx", "yuv420p"), start=10)
    assert len(list(videos.read(path))) == 36


@pytest.mark.parametrize(("aspect", "width"), [("4/3", 160), ("8/9", 107), ("1", 120)])
def test_pictures_have_square_pixels(tmp_path, pictures, aspect, width):
    """Else faces were as wide as they are stored, not as they are shown."""
    path = support_videos.write(tmp_path / "a.mov", pictures, aspect=aspect)
    expected = [Image.fromarray(picture).resize((width, 60), Image.Resampling.BILINEAR) for picture in pictures]
    np.testing.assert_array_equal(read(path), [np.asarray(picture) for picture in expected])
    # Upright, it is the height that is stretched.
    support_videos.turn(path)
    assert {picture.shape for picture in read(path)} == {(width, 60, 3)}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_of_a_video_that_breaks_off_the_whole_pictures_come_first(tmp_path, pictures, suffix, share):
    # As for the web: the index first.
    path = support_videos.write(
        tmp_path / f"a{suffix}", 3 * pictures, {"movflags": "faststart"} if suffix == ".mp4" else None
    )
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    frames = whole_pictures(path)
    assert 36 * share - 4 < len(frames) < 36 * share + 1
    np.testing.assert_array_equal(frames, (3 * pictures)[: len(frames)])


def test_a_picture_that_breaks_off_is_left_out(tmp_path, pictures):
    """Most codecs give one, half of it gray."""
    path = support_videos.write(tmp_path / "a.mp4", pictures, {"movflags": "faststart"}, ("mpeg4", "yuv420p"))
    assert len(list(videos.read(path))) == 12
    path.write_bytes(path.read_bytes()[:-20])
    assert len(whole_pictures(path)) == 11


AUDIO = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\x08\0\0\0" + bytes(8)


@pytest.mark.parametrize("content", [b"", b"no video", AUDIO, None], ids=["empty", "text", "audio", "index missing"])
def test_what_is_no_video(tmp_path, pictures, content):
    path = support_videos.write(tmp_path / "a.mp4", pictures)
    path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
    with refused(ImageError, f"{path}: cannot be read as a video"):
        list(videos.read(path))


def test_videos_that_show_nothing(tmp_path, pictures):
    path = support_videos.write(tmp_path / "a.mp4", pictures, aspect="1/100")
    with refused(ImageError, path, "1/100", "8"):
        list(videos.read(path))
    support_videos.empty(support_videos.write(path, pictures[:1]))
    with refused(ImageError, path, "without frames"):
        list(videos.read(path))


def test_a_video_that_is_gone_and_without_pyav(tmp_path, monkeypatch):
    with refused(ImageError, f"{tmp_path}/a.mp4: no such file"):
        list(videos.read(tmp_path / "a.mp4"))
    monkeypatch.setitem(sys.modules, "av", None)
    with refused(ImageError, "pip install '.[video]'"):
        list(videos.read(tmp_path / "a.mp4"))


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_a_broken_frame_in_the_middle_is_left_out_and_told_at_the_end(tmp_path, pictures, suffix):
    path = support_videos.write(tmp_path / f"a{suffix}", pictures)
    support_videos.damage(path, 5)
    frames = []
    with refused(ImageError, path, "11 of its frames"):
        frames.extend(videos.read(path))
    assert [frame.number for frame in frames] == [*range(1, 6), *range(7, 13)]
    np.testing.assert_array_equal([frame.picture for frame in frames], pictures[:5] + pictures[6:])


def test_the_times_of_a_variable_frame_rate(tmp_path, pictures):
    numbers = [0, 1, 5, 6, 20]
    path = support_videos.write(tmp_path / "a.mp4", pictures[:5], numbers=numbers)
    assert [frame.time for frame in videos.read(path)] == [fractions.Fraction(number, 10) for number in numbers]


@pytest.mark.parametrize("is_turned", [False, True])
def test_frames_of_another_size_show_the_same(tmp_path, pictures, is_turned):
    path = support_videos.write(tmp_path / "a.mp4", pictures, aspect="4/3")
    if is_turned:
        support_videos.turn(path)
    for frame, whole in zip(videos.read(path, size=(32, 48)), videos.read(path), strict=True):
        assert frame.picture.shape == (32, 48, 3)
        assert frame.size == whole.size == whole.picture.shape[:2]
        difference = frame.picture.astype(float) - images.resize(whole.picture, (32, 48))
        assert np.abs(difference).mean() < 3


# By the formulas of ITU-R BT.601: 1.164 (Y - 16), 1.596 (V - 128), 2.017 (U - 128) and so on.
@pytest.mark.parametrize(
    ("yuv", "rgb"),
    [
        ((126, 128, 128), (128.1, 128.1, 128.1)),
        ((81, 90, 200), (190.6, 32.0, 0)),
        ((150, 160, 100), (111.3, 166.3, 220.6)),
    ],
)
def test_frames_of_another_size_have_the_colors_of_the_standard(tmp_path, yuv, rgb):
    path = tmp_path / "clip.mkv"
    planes = [np.full((rows, 80), value, np.uint8) for rows, value in zip((60, 15, 15), yuv, strict=True)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 60, 80, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.concatenate(planes), format="yuv420p")))
        container.mux(stream.encode())
    (frame,) = videos.read(path, size=(30, 40))
    # Rounded down or up.
    np.testing.assert_allclose(frame.picture, np.broadcast_to(rgb, frame.picture.shape), rtol=0, atol=1)
