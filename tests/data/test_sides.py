"""Left and right of labels."""

import numpy as np
import pytest

from keras_bisenet import classes
from keras_bisenet.data import sides


def face(left, right, pairs=((2, 3), (4, 5), (7, 8))):
    """A label map with the parts of the person's left around the column `left`, those of the right around `right`."""
    label = np.ones((32, 32), np.uint8)
    for row, (left_part, right_part) in enumerate(pairs):
        label[4 * row : 4 * row + 2, left - 2 : left + 3] = left_part
        label[4 * row : 4 * row + 2, right - 2 : right + 3] = right_part
    return label


FACE_PAIRS = sides.face_pairs(classes.FACE)


def test_only_parts_of_a_face_have_sides_that_are_known():
    """A hand may lie on either side of a photo."""
    assert FACE_PAIRS == [(2, 3), (4, 5), (7, 8)]
    own = classes.named(
        ["background", "l_hand", "r_hand", "r_eye", "l_eye"], [["l_hand", "r_hand"], ["l_eye", "r_eye"]]
    )
    assert sides.face_pairs(own) == [(4, 3)]
    assert sides.face_pairs(classes.of_count(5)) == []


@pytest.mark.parametrize(
    ("label", "exchanged"),
    [
        (face(left=24, right=8), False),
        (face(left=8, right=24), True),
        (classes.FACE.mirrored[face(left=24, right=8)[:, ::-1]], False),
        (np.ones((8, 8), np.uint8), False),
        (face(8, 24, ((2, 1), (4, 1))), False),
        (np.concatenate([face(24, 8)[:2], face(8, 24)[2:]]), False),
    ],
    ids=["as they belong", "exchanged", "mirrored with the photo", "no parts", "one side alone", "pairs that disagree"],
)
def test_the_persons_left_belongs_on_the_right(label, exchanged):
    assert sides.are_exchanged(label, FACE_PAIRS) == exchanged
