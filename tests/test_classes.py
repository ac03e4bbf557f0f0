"""The classes of a network: names, sides and colors, and the file that states them."""

import json

import numpy as np
import pytest
from support.refusals import refused

from keras_bisenet import LABELS, LEFT_RIGHT_PAIRS, PALETTE, classes
from keras_bisenet.utils.errors import DataError


def write(folder, **content):
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_what_a_mirrored_photo_exchanges():
    table = classes.FACE.mirrored
    assert {label: new for label, new in enumerate(table) if label != new} == {2: 3, 3: 2, 4: 5, 5: 4, 7: 8, 8: 7}
    np.testing.assert_array_equal(classes.of_count(5).mirrored, np.arange(256))


def test_left_and_right_are_found_by_the_names():
    """An upper lip and a lower lip are no pair, nor is what has one side alone."""
    names = ["l_lip", "u_lip", "right-hand", "left-hand", "left leg", "right leg", "left arm", "leftover", "rightover"]
    assert classes.named(names).left_right_pairs == ((3, 2), (4, 5))
    assert classes.named(LABELS).left_right_pairs == LEFT_RIGHT_PAIRS
    assert classes.named(names, [["u_lip", "l_lip"]]).left_right_pairs == ((1, 0),)
    assert classes.named(names, []).left_right_pairs == ()


def test_colors_are_those_of_the_file_then_of_the_face_then_by_number():
    found = classes.named(["sky", "hair", "tree"], palette={"tree": "#01fF80"})
    assert found.palette == (PALETTE[0], PALETTE[LABELS.index("hair")], (1, 255, 128))
    assert classes.of_count(40).palette[19] == PALETTE[0]


def test_what_is_written_is_read(tmp_path):
    stated = classes.named(["a", "left b", "right b"], palette={"a": "#123456"})
    (tmp_path / "labels.json").write_text(stated.as_json(size=64))
    assert classes.read(tmp_path / "labels.json") == stated
    assert classes.of_json(classes.FACE.as_dict()) == classes.FACE


def test_the_file_beside_a_checkpoint(tmp_path):
    assert classes.beside(tmp_path / "a.pth", 19) == classes.FACE
    assert classes.beside(tmp_path / "a.pth", 2).names == ("class 0", "class 1")
    path = write(tmp_path, classes=["sky", "tree"])
    assert classes.beside(tmp_path / "a.pth", 2).names == ("sky", "tree")
    with refused(DataError, path, "names 2 classes", "expected 3"):
        classes.beside(tmp_path / "a.pth", 3)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"classes": []}, "0 classes"),
        ({"classes": [f"class {n}" for n in range(256)]}, "256 classes"),
        ({"classes": ["a", "a"]}, "'a' twice"),
        ({"classes": ["a", ""]}, "class 1"),
        ({"classes": ["a", "b\nc"]}, "class 1"),
        ({"classes": ["a", 1]}, "class 1"),
        ({"classes": ["a", "b"], "left_right_pairs": [["a", "c"]]}, "left_right_pairs"),
        ({"classes": ["a", "b"], "left_right_pairs": [["a"]]}, "left_right_pairs"),
        ({"classes": ["a", "b", "c"], "left_right_pairs": [["a", "b"], ["c", "a"]]}, "left_right_pairs"),
        ({"classes": ["a", "b"], "palette": {"c": "#000000"}}, "palette"),
        ({"classes": ["a", "b"], "palette": {"a": "red"}}, "palette"),
        ({"classes": ["a", "b"], "palette": {"a": [1, 2, 3]}}, "palette"),
        ({"classes": ["a", "b"], "palette": ["#000000"]}, "cannot be read"),
        ({"classes": 19}, "cannot be read"),
        ({"classes": None}, "cannot be read"),
        ({}, "cannot be read"),
        ([], "cannot be read"),
    ],
)
def test_files_that_state_no_classes(tmp_path, content, found):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    with refused(DataError, path, found.replace("'a'", "a")):
        classes.read(path)


def test_a_file_that_is_missing_or_no_json(tmp_path):
    with refused(DataError, tmp_path / "labels.json", "no such file"):
        classes.read(tmp_path / "labels.json")
    (tmp_path / "labels.json").write_text("{")
    with refused(DataError, tmp_path / "labels.json", "cannot be read"):
        classes.read(tmp_path / "labels.json")
