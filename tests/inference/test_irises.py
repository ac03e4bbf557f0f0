"""Irises, on drawn eyes whose circles are known."""

import cv2
import numpy as np
import pytest
from support.refusals import refused

from keras_bisenet.inference import irises, makeup
from keras_bisenet.inference.makeup import Look
from keras_bisenet.utils.errors import MakeupError

SHAPE, SKIN, WHITE, LASHES = (70, 160), (200, 150, 130), (225, 220, 215), (15, 10, 10)
BROWN, BLUE = (130, 110, 90), (165, 185, 205)
NO_GLASSES = np.zeros(SHAPE, np.float32)


def draw_eye(photo, mask, row, column, width, gaze, share, color=BROWN, lashes=0.36):
    """An almond of white with an iris of a share of its width, a pupil, a glint, and lashes from a distance on.

    Returns:
        `[H, W]` bool, the iris.
    """
    rows, columns = np.indices(mask.shape)
    almond = np.hypot((rows - row) / (0.23 * width), (columns - column) / (width / 2)) <= 1
    mask[almond] = 1
    photo[almond] = WHITE
    photo[almond & (columns < column - lashes * width)] = LASHES
    distance = np.hypot(rows - row, columns - column - gaze)
    for part, brightness in ((1, 0.7), (0.85, 1)):
        photo[almond & (distance <= part * share * width / 2)] = np.multiply(color, brightness)
    photo[almond & (distance <= 0.08 * width)] = (10, 8, 8)
    photo[row - 2 : row, column + gaze : column + gaze + 2] = 255
    return almond & (distance <= share * width / 2)


def face(*eyes):
    """Photo, mask and irises of a face with eyes, each the arguments of `draw_eye`."""
    photo, mask = np.full((*SHAPE, 3), SKIN, np.uint8), np.zeros(SHAPE, np.float32)
    truth = np.any([draw_eye(photo, mask, *eye) for eye in eyes], axis=0)
    return photo, mask, truth


def overlap(found, truth):
    return np.minimum(found, truth).sum() / np.maximum(found, truth).sum()


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("gaze", [-4, 0, 9])
@pytest.mark.parametrize("color", [BROWN, BLUE])
def test_irises_are_found_in_each_eye(gaze, turn, color):
    """Also those that are hardly darker than the white, beside lashes that are much darker."""
    eyes = face((30, 42, 56, gaze, 0.45, color), (36, 120, 50, gaze, 0.5, color))
    photo, mask, truth = (np.ascontiguousarray(np.rot90(array, turn)) for array in eyes)
    found, reasons = irises.find(photo, mask, np.zeros_like(mask))
    assert reasons == []
    assert (found <= mask).all()
    assert overlap(found, truth) > 0.8


@pytest.mark.parametrize("scale", [0.4, 1, 5])
def test_irises_of_any_size_of_photo(scale):
    eyes = face((30, 42, 56, 3, 0.45), (36, 120, 50, 3, 0.5))
    photo, mask, truth = (
        cv2.resize(array, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for array in (eyes[0], eyes[1], eyes[2].astype(np.float32))
    )
    found, _ = irises.find(photo, mask, np.zeros_like(mask))
    assert overlap(found, truth) > 0.75


def test_an_iris_lit_from_one_side_is_found_whole():
    photo, mask, truth = face((30, 42, 56, 0, 0.45))
    light = np.linspace(0.35, 1, 56)[np.newaxis, :, np.newaxis]
    photo[:, 14:70] = photo[:, 14:70] * light
    assert overlap(irises.find(photo, mask, NO_GLASSES)[0], truth) > 0.75


def test_what_tells_little_of_an_iris_is_helped_by_the_other_eye():
    """Without a border at its left: its size is that of the other."""
    photo, mask, truth = face((30, 42, 56, -6, 0.45, LASHES, 0.1), (36, 120, 56, -6, 0.45))
    left = np.s_[:, :80]
    alone = mask.copy()
    alone[:, 80:] = 0
    found, _ = irises.find(photo, mask, NO_GLASSES)
    assert overlap(found[left], truth[left]) >= overlap(irises.find(photo, alone, NO_GLASSES)[0][left], truth[left])


@pytest.mark.parametrize(
    "paint",
    [
        lambda _eye: (40, 30, 30),  # shut, or lashes alone
        lambda eye: np.random.default_rng(0).integers(0, 256, (eye.sum(), 3)),
        lambda eye: np.linspace(30, 220, eye.sum())[:, np.newaxis].repeat(3, 1),
    ],
    ids=["flat", "noise", "gradient"],
)
def test_an_eye_without_an_iris_is_left(paint):
    photo, mask, _ = face((30, 42, 56, 0, 0.45))
    photo[mask > 0] = paint(mask > 0)
    found, reasons = irises.find(photo, mask, NO_GLASSES)
    assert not found.any()
    assert reasons == ["no iris to be seen"]


def test_specks_of_the_mask_are_no_eyes():
    photo, mask, _ = face((30, 42, 56, 0, 0.45))
    mask[60:62, 100:103] = 1
    assert irises.find(photo, mask, NO_GLASSES)[1] == []


def test_eyes_behind_glasses_and_without_an_iris_are_left():
    photo, mask, _ = face((30, 42, 56, 0, 0.45), (36, 120, 50, 0, 0.45))
    glasses = NO_GLASSES.copy()
    glasses[5:55, 2:14] = 1  # the frame, beside the eye
    photo[:, 80:][mask[:, 80:] > 0] = (40, 30, 30)
    found, reasons = irises.find(photo, mask, glasses)
    assert not found.any()
    assert reasons == ["behind glasses", "no iris to be seen"]
    masks = {"eyes": mask, "glasses": glasses, "face": np.ones_like(mask)}
    with refused(MakeupError, "eyes", "behind glasses"):
        makeup.apply(photo, masks, Look(eyes=BLUE))
    one, reasons = irises.find(photo, mask, NO_GLASSES)
    assert (one[:, :80].any(), one[:, 80:].any(), len(reasons)) == (True, False, 1)
    result, left = makeup.apply_to_faces(photo, [(np.s_[:, :], masks | {"glasses": NO_GLASSES})], Look(eyes=BLUE))
    assert left == ["no iris to be seen"]
    assert ((result != photo).any(-1) <= (one > 0)).all()
