"""Probabilities of a video are averaged along its motion, and what is new leaves no trail."""

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from support.refusals import refused

from keras_bisenet.inference import smoothing
from keras_bisenet.inference.smoothing import TemporalSmoother
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError


@pytest.fixture(scope="module")
def photo():
    return images.read(images.BUNDLED, (256, 256))


def stripes(shift, size=128, height=None):
    """Probabilities of two classes in stripes that are moved to the right, by so many pixels of 256."""
    columns = np.arange(size) * (256 / size) - shift
    first = (np.sin(columns / 10) * 0.5 + 0.5).astype(np.float32)
    return np.repeat(np.stack([first, 1 - first], -1)[np.newaxis], height or size, 0)


def noisy(probabilities, seed):
    noise = np.random.default_rng(seed).normal(0, 0.2, probabilities.shape[:2]).astype(np.float32)
    return probabilities + np.stack([noise, -noise], -1)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, -3), (-1, 2.5)])
def test_motion_is_found(row, column):
    """Of a texture without an edge, whose motion is known in every pixel."""

    def moved(down, right):
        rows, columns = np.indices((128, 128)) - np.reshape([down, right], (2, 1, 1))
        return (128 + 40 * np.sin(rows / 5) * np.cos(columns / 6) + 20 * np.sin(columns / 9)).astype(np.float32)

    before, after = moved(0, 0), moved(row, column)
    found = smoothing.motion(before, after)
    inner = found[:, 12:-12, 12:-12]
    np.testing.assert_allclose(inner, np.broadcast_to(np.reshape([-row, -column], (2, 1, 1)), inner.shape), atol=0.35)
    assert smoothing.sameness(before, after, found)[12:-12, 12:-12].min() > 0.9


def test_noise_is_averaged_along_the_motion(photo):
    smoother = TemporalSmoother(0.8)
    for number in range(12):
        shift = 3 * number
        truth = stripes(shift)
        given = noisy(truth, number)
        result = smoother(np.roll(photo, shift, 1), given)
    inner = np.s_[:, 20:-20]
    assert np.abs(result - truth)[inner].mean() < 0.5 * np.abs(given - truth)[inner].mean()
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-5)


def test_the_first_frame_and_no_strength_change_nothing(photo):
    for strength, count in ((0.8, 1), (0.0, 3)):
        smoother = TemporalSmoother(strength)
        for number in range(count):
            given = noisy(stripes(0), number)
            np.testing.assert_array_equal(smoother(photo, given), given)


@pytest.mark.parametrize("forget", ["cut", "reset", "size"])
def test_nothing_stays_after_a_cut(photo, forget):
    smoother = TemporalSmoother(0.8)
    smoother(photo, stripes(0))
    frame = np.ascontiguousarray(255 - photo[::-1]) if forget == "cut" else photo
    given = stripes(31)[..., [0, 1, 1]] / 2 if forget == "size" else stripes(31)
    if forget == "reset":
        smoother.reset()
    np.testing.assert_array_equal(smoother(frame, given), given)


def test_what_comes_into_view_leaves_no_trail(photo):
    """Only where something new covers the picture is the old left behind at once."""
    smoother = TemporalSmoother(0.8)
    smoother(photo, stripes(0))
    frame = photo.copy()
    frame[96:160, 96:160] = [0, 255, 0]
    result = smoother(frame, stripes(31))
    np.testing.assert_allclose(result[54:74, 54:74], stripes(31)[54:74, 54:74], atol=0.02)
    assert np.abs(result[:20] - stripes(31)[:20]).mean() > 0.4 * np.abs(stripes(0) - stripes(31))[:20].mean()


@pytest.mark.parametrize("size", [(128, 128), (60, 90), (200, 300)])
def test_probabilities_of_any_size(photo, size):
    """At first all frames count the same, later those before by the strength."""
    smoother = TemporalSmoother(0.75)
    first, others = (np.full((*size, 2), value, np.float32) for value in (1, 0))
    smoother(photo, first)
    for expected in (1 / 2, 1 / 3, 1 / 4, 3 / 16, 9 / 64):
        np.testing.assert_allclose(smoother(photo, others), expected * first, atol=1e-3)


def test_labels_of_coarse_probabilities():
    """Those of the logits between which they lie; a class that nowhere counts is none of them."""
    logits = np.random.default_rng(0).normal(0, 3, (6, 7, 5)).astype(np.float32)
    logits[..., 3] = -20
    labels = smoothing.labels_of(softmax(logits, -1), (24, 28))
    planes = [Image.fromarray(plane).resize((28, 24), Image.Resampling.BILINEAR) for plane in logits.transpose(2, 0, 1)]
    assert (labels == np.argmax(planes, 0)).mean() > 0.995


@pytest.mark.parametrize("strength", [-0.1, 1, float("nan")])
def test_strengths_out_of_range(strength):
    with refused(ImageError, "smooth", strength):
        TemporalSmoother(strength)
