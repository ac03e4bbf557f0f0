import numpy as np

from keras_bisenet.labels import DESCRIPTIONS, LABELS, LEFT_RIGHT_PAIRS, PALETTE


def test_order_is_the_published_one():
    # zllrunning's `atts` list, with the background before it.
    published = (
        "skin l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r nose mouth u_lip l_lip neck neck_l cloth hair hat"
    )
    assert list(LABELS) == ["background", *published.split()]


def test_pairs_are_all_left_and_right_parts():
    named = {(LABELS[left], LABELS[right]) for left, right in LEFT_RIGHT_PAIRS}
    assert named == {("l_brow", "r_brow"), ("l_eye", "r_eye"), ("l_ear", "r_ear")}


def test_every_class_has_a_description_and_a_color_of_its_own():
    assert tuple(DESCRIPTIONS) == LABELS
    assert len(set(PALETTE)) == len(PALETTE) == len(LABELS)
    colors = np.asarray(PALETTE, int)
    distances = np.abs(colors[:, None] - colors[None]).sum(-1)[~np.eye(len(LABELS), dtype=bool)]
    assert distances.min() > 60, "two colors cannot be told apart"
