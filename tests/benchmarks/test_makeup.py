"""The measures of makeup, on drawn faces."""

from unittest import mock

import numpy as np
import pytest

from benchmarks.makeup import measures
from keras_bisenet.inference import irises

SIZE = (100, 120)


def disc(x, y, radius):
    rows, columns = np.indices(SIZE)
    return (np.hypot(columns - x, rows - y) <= radius).astype(np.float32)


@pytest.mark.parametrize(
    ("painted", "radius", "outcome"),
    [
        (disc(60, 50, 12), 12, "whole"),
        (disc(62, 50, 12), 12, "whole"),
        (disc(60, 50, 9), 12, "partly"),
        (disc(60, 50, 14), 12, "partly"),
        (disc(70, 50, 12), 12, "partly"),
        (disc(60, 50, 0) * 0, 12, "left"),
        (disc(60, 50, 12), 0, "none to be told, colored"),
        (disc(10, 10, 5), 12, "left"),  # that is another eye
    ],
)
def test_outcomes_of_an_iris(painted, radius, outcome):
    masks = dict.fromkeys(("eyes", "glasses"), np.ones(SIZE, np.float32))
    with mock.patch.object(irises, "find", lambda *_: (painted, [])):
        assert measures.check_irises(np.zeros((*SIZE, 3), np.uint8), masks, [(60, 50, radius)]) == [outcome]


def test_color_beside_the_hair():
    """Dark hair above, and under it a strand, on a wall."""
    photo, hair, dye = np.full((*SIZE, 3), 200, np.uint8), np.zeros(SIZE, np.float32), (80, 20, 20)
    hair[:50] = 1
    photo[:50], photo[50:80, 60:62] = 40, 40
    dyed = photo.copy()
    dyed[:50], dyed[65:80, 60:62] = dye, dye
    rim, strands, between = measures.hair_color(photo, dyed, hair, 400)
    assert (rim, strands, between) == (0, pytest.approx(0.5, abs=0.1), 0)
    dyed[50:65, 60:62] = dye
    assert measures.hair_color(photo, dyed, hair, 400)[1] > 0.85
    dyed[50:53] = (200, 150, 150)
    rim, _, between = measures.hair_color(photo, dyed, hair, 400)
    assert rim > 15
    assert between > 0


def test_circles_of_irises():
    circles = measures.read_circles()
    assert sum(map(len, circles.values())) >= 60
    assert all(0 <= radius < 20 and 0 < x < 512 and 0 < y < 512 for eyes in circles.values() for x, y, radius in eyes)
