"""What is written of a parsed photo, and that it appears whole.

All of its files are looked at in scripts/test_parse_faces.py.
"""

import json
import re
import threading

import numpy as np
import pytest
from support.files import content, names
from support.refusals import refused

from keras_bisenet import LABELS
from keras_bisenet.inference.batch import results
from keras_bisenet.inference.detection import ParsedFace
from keras_bisenet.labels import PALETTE
from keras_bisenet.utils import atomic, painting
from keras_bisenet.utils.errors import ImageError

# fmt: off
LABELS_4X6 = np.array([
    [0, 0,  0,  0, 0, 0],
    [0, 1, 17, 17, 0, 0],
    [0, 1,  1, 17, 0, 0],
    [0, 0,  0,  0, 0, 1],
], np.uint8)
# fmt: on
DESCRIBED = {
    "height": 4,
    "width": 6,
    "parts": {
        "background": {"pixels": 17, "share": 0.708333, "box": [0, 0, 6, 4]},
        "skin": {"pixels": 4, "share": 0.166667, "box": [1, 1, 6, 4]},
        "hair": {"pixels": 3, "share": 0.125, "box": [2, 1, 4, 3]},
    },
}


def photo_of(labels):
    return np.random.default_rng(0).integers(0, 256, (*labels.shape, 3), np.uint8)


def test_areas_and_boxes():
    assert results.describe(LABELS_4X6, LABELS) == DESCRIBED
    parts = {"l_lip": {"pixels": 1, "share": 1.0, "box": [0, 0, 1, 1]}}
    assert results.describe(np.full((1, 1), 13, np.uint8), LABELS) == {"height": 1, "width": 1, "parts": parts}


def test_faces_and_the_areas_of_their_parts():
    landmarks = {"left_eye": (1.004, 2.0), "nose": (1.5, 2.126)}
    part = np.array([[1, 17], [1, 0]], np.uint8)
    face = ParsedFace((1.0, 0.333333, 3.0, 3.0), 0.98765432, landmarks, part, (slice(1, 3), slice(1, 3)), (4, 6))
    expected = {
        "box": [1.0, 0.33, 3.0, 3.0],
        "confidence": 0.9877,
        "landmarks": {"left_eye": [1.0, 2.0], "nose": [1.5, 2.13]},
        "parts": {"skin": 2, "hair": 1},
    }
    described = results.describe(LABELS_4X6, LABELS, [face])
    assert described == DESCRIBED | {"faces": [expected]}
    assert json.loads(json.dumps(described)) == described
    assert results.describe(LABELS_4X6, LABELS, []) == DESCRIBED | {"faces": []}


def test_of_many_photos_a_few_are_named():
    *lines, total = results.count_faces({f"{number}.jpg": number % 3 for number in range(300)}, 20)
    assert len(lines) == 42
    assert (lines[:2], lines[21:23]) == (["1.jpg: 1", "2.jpg: 2"], ["no face: 0.jpg", "no face: 3.jpg"])
    assert "180 more" in lines[20]
    assert "80 more" in lines[41]
    assert re.findall("[0-9]+", total) == ["300", "200", "100"]
    *lines, total = results.count_faces({}, 20)
    assert (lines, re.findall("[0-9]+", total)) == ([], ["0", "0", "0"])


def test_an_overlay_is_half_photo_half_palette_and_leaves_the_background():
    photo = photo_of(LABELS_4X6)
    expected = np.where(LABELS_4X6[..., np.newaxis] == 0, photo, (photo + np.array(PALETTE, float)[LABELS_4X6]) / 2)
    painted = painting.overlay(photo, LABELS_4X6)
    assert painted.dtype == np.uint8
    assert np.abs(painted - expected).max() <= 0.5
    np.testing.assert_array_equal(painted[LABELS_4X6 == 0], photo[LABELS_4X6 == 0])
    np.testing.assert_array_equal(painting.overlay(photo, LABELS_4X6, 0.0), photo)


def test_classes_beyond_the_palette_start_over():
    np.testing.assert_array_equal(painting.colorize([[0, 18, 19, 38]])[0], [PALETTE[i] for i in (0, 18, 0, 0)])


def test_another_result_replaces_all_of_the_first(tmp_path):
    later = np.full((2, 3), 17, np.uint8)
    for folder, labels in (("out", LABELS_4X6), ("out", later), ("fresh", later)):
        paths = results.paths(tmp_path / folder, "summer/a.jpg", results.KINDS)
        results.write(paths, photo_of(labels), labels, LABELS, PALETTE)
    fresh = content(tmp_path / "fresh")
    assert content(tmp_path / "out") == fresh
    assert sum("masks" in name for name in fresh) == 1


def test_names_of_parts_can_be_names_of_files():
    """Whatever the metadata of a stranger's file says."""
    names = ("skin", "left eye", "hair/fur", "..", "???", "???", "", "Mütze", "background")
    expected = ("skin", "left_eye", "hair_fur", "__3", "__4", "__5", "_6", "Mütze", "background")
    assert results.part_names(names) == expected
    assert results.part_names(LABELS) == LABELS


@pytest.mark.parametrize(("kinds", "found"), [(["labels", "mask"], "'mask'"), ([""], "''"), ([], "''")])
def test_unknown_kinds(kinds, found):
    with refused(ImageError, found, "labels, overlay, masks, json"):
        results.check_kinds(kinds)


def test_a_reader_sees_whole_files_alone(tmp_path):
    path = tmp_path / "new" / "a"
    versions = {bytes([value]) * 300_000 for value in range(2)}
    atomic.write(path, b"\0" * 300_000)
    seen, done = set(), threading.Event()

    def watch():
        while not done.is_set():
            seen.add(path.read_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(200):
        for version in versions:
            atomic.write(path, version)
    done.set()
    thread.join()
    assert seen == versions
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing_new(tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(IsADirectoryError):
        atomic.write(folder, b"new")
    with pytest.raises(FileNotFoundError):
        atomic.write_folder(file, {"a": b"new", "missing/b": b"new"})
    assert content(tmp_path) == {"folder/old": b"old"}
    assert not file.exists()


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / ".partial-a").write_bytes(b"half")
    (tmp_path / ".partial-b").mkdir()
    (tmp_path / ".partial-b" / "half").write_bytes(b"half")
    atomic.write(tmp_path / "a", b"whole")
    atomic.write_folder(tmp_path / "b", {"c": b"whole"})
    assert content(tmp_path) == {"a": b"whole", "b/c": b"whole"}
    assert names(tmp_path) == ["a", "b"]
