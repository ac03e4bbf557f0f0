"""Videos whose motion is known: their true labels change by it alone."""

import numpy as np
import pytest

from benchmarks.video import scenes
from keras_bisenet.utils import images


@pytest.fixture(scope="module")
def known():
    photo = images.read(images.BUNDLED)
    rows, columns = np.indices(photo.shape[:2])
    labels = np.where((rows - 120) ** 2 + (columns - 120) ** 2 < 70**2, 1 + columns // 40, 0)
    return photo, labels.astype(np.uint8)


@pytest.mark.parametrize("is_still", [False, True])
def test_motion_explains_the_true_labels_and_no_others(known, is_still):
    before, frame = list(scenes.video(*known, seed=3, count=9, background=known[0] if is_still else None))[::8]
    assert (before.labels != frame.labels).mean() > 0.02
    assert scenes.unexplained(before, frame, before.labels, frame.labels) < 0.002
    wrong = frame.labels.copy()
    wrong[200:300, 200:300] = 18
    assert scenes.unexplained(before, frame, before.labels, wrong) == pytest.approx(100**2 / scenes.SIDE**2, rel=0.25)


def test_a_fast_turn_moves_the_person_at_once(known):
    calm, fast = (list(scenes.video(*known, seed=0, count=3, jumps_at=at)) for at in (None, 2))
    np.testing.assert_array_equal(calm[1].picture, fast[1].picture)
    shift = np.argmax(fast[2].labels.any(0)) - np.argmax(calm[2].labels.any(0))
    assert shift == pytest.approx(0.2 * scenes.SIDE, abs=2)
