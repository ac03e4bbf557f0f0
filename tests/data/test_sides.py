"""Left and right of labels."""

import numpy as np
import pytest

from keras_bisenet.data import sides


def face(left, right, pairs=((2, 3), (4, 5), (7, 8))):
    """A label map with the parts of the person's left around the column `left`, those of the right around `right`."""
    label = np.ones((32, 32), np.uint8)
    for row, (left_part, right_part) in enumerate(pairs):
        label[4 * row : 4 * row + 2, left - 2 : left + 3] = left_part
        label[4 * row : 4 * row + 2, right - 2 : right + 3] = right_part
    return label


def test_brows_eyes_and_ears_change_sides():
    table = sides.mirrored_labels(19)
    assert {label: new for label, new in enumerate(table) if label != new} == {2: 3, 3: 2, 4: 5, 5: 4, 7: 8, 8: 7}


def test_other_classes_have_no_sides():
    np.testing.assert_array_equal(sides.mirrored_labels(5), np.arange(256))


def test_the_persons_left_belongs_on_the_right():
    assert not sides.are_exchanged(face(left=24, right=8))
    assert sides.are_exchanged(face(left=8, right=24))


def test_mirroring_a_photo_and_its_labels_keeps_the_sides():
    mirrored = sides.mirrored_labels(19)[face(24, 8)[:, ::-1]]
    assert not sides.are_exchanged(mirrored)


@pytest.mark.parametrize("label", [np.ones((8, 8), np.uint8), face(8, 24, ((2, 1), (4, 1)))])
def test_one_side_alone_says_nothing(label):
    assert not sides.are_exchanged(label)


def test_pairs_that_disagree_are_left_alone():
    label = face(8, 24)
    label[:2] = face(24, 8)[:2]
    assert not sides.are_exchanged(label)
