"""Random changes of a photo against NumPy, SciPy and Pillow. Where the photo went is read from coordinates in it."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from keras_bisenet import classes
from keras_bisenet.data.augmentation import augment
from keras_bisenet.labels import LEFT_RIGHT_PAIRS
from keras_bisenet.training.configs import Augmentation

NEUTRAL = Augmentation(scale=(1.0, 1.0), rotation=0.0, flip=False, brightness=0.0, contrast=0.0, saturation=0.0)
# What lies outside the photo: the mean color of ImageNet (torchvision's), and no label.
MEAN, IGNORE = np.array([0.485, 0.456, 0.406]) * 255, 255
SHAPES = pytest.mark.parametrize(("shape", "size"), [((45, 62), (40, 48)), ((60, 41), (64, 32))])
ENHANCERS = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}


def change(image, label, seed=0, size=None, num_classes=5, **changes):
    """Arrays of one augmented example; nothing is changed but what is asked for."""
    augmentation = dataclasses.replace(NEUTRAL, **changes)
    result = augment(image, label, (3, seed), size or image.shape[:2], augmentation, classes.of_count(num_classes))
    return tuple(part.numpy() for part in result)


def photo(height=45, width=62, seed=0, classes=5):
    """Colored noise, smooth enough to be sampled between its pixels, and labels in blocks."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=(height, width, 3)), (2, 2, 0))
    image = (127 + 60 * noise / noise.std()).clip(0, 255).round().astype(np.uint8)
    blocks = random.integers(classes, size=(height // 6 + 1, width // 6 + 1))
    return image, blocks.repeat(6, 0).repeat(6, 1)[:height, :width].astype(np.uint8)


def coordinates(height, width):
    """A photo whose colors say where a pixel lies: 4 * row, 4 * column, 240."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 4 * columns, np.full_like(rows, 240)], -1).astype(np.uint8)


def movement(shape, seed, size, **changes):
    """`[2, 3]`: the affine map (row, column, 1) of the result -> (row, column) of a photo of this shape."""
    image, _ = change(coordinates(*shape), np.zeros(shape, np.uint8), seed, size, **changes)
    places = np.argwhere(image[..., 2] == 240)
    assert len(places) > 50
    source = image[tuple(places.T)][:, :2] / 4
    result, *_ = np.linalg.lstsq(np.c_[places, np.ones(len(places))], source, rcond=None)
    # It is affine: nothing is left but what the colors round.
    assert np.abs(np.c_[places, np.ones(len(places))] @ result - source).max() < 0.25
    return result.T


@pytest.mark.parametrize("size", [(45, 62), (32, 32), (1, 7)])
def test_nothing_changes_what_is_not_asked_for(size):
    image, label = photo(*size)
    label[0, 0] = 255
    for seed in range(5):
        result = change(image, label, seed)
        assert result[0].dtype == result[1].dtype == np.uint8
        np.testing.assert_array_equal(result[0], image)
        np.testing.assert_array_equal(result[1], label)


@pytest.mark.parametrize(("num_classes", "pairs"), [(19, LEFT_RIGHT_PAIRS), (11, ())], ids=["face", "other classes"])
def test_the_flip_mirrors_the_photo_and_exchanges_left_and_right(num_classes, pairs):
    image, label = photo(classes=num_classes)
    label[:2] = 255
    exchanged = label.copy()
    for left, right in pairs:
        exchanged[label == left], exchanged[label == right] = right, left
    assert (exchanged != label).any() == bool(pairs)
    flipped = 0
    for seed in range(40):
        result = change(image, label, seed, num_classes=num_classes, flip=True)
        if np.array_equal(result[0], image):
            np.testing.assert_array_equal(result[1], label)
        else:
            np.testing.assert_array_equal(result[0], image[:, ::-1])
            np.testing.assert_array_equal(result[1], exchanged[:, ::-1])
            flipped += 1
    # Half of 40, and three standard deviations either way.
    assert 10 <= flipped <= 30


@SHAPES
def test_scale_rotation_and_flip_are_what_was_asked_for(shape, size):
    scales, angles, mirrored = [], [], 0
    for seed in range(40):
        linear = movement(shape, seed, size, scale=(0.8, 1.6), rotation=30.0, flip=True)[:, :2]
        if np.linalg.det(linear) < 0:
            linear[:, 1] *= -1
            mirrored += 1
        scales.append(1 / np.sqrt(np.linalg.det(linear)))
        angles.append(np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])))
        # One scale for both sides, and no shear.
        np.testing.assert_allclose(linear @ linear.T * scales[-1] ** 2, np.eye(2), atol=0.02)
    assert 10 <= mirrored <= 30
    assert 0.795 < min(scales) < 0.9 < 1.5 < max(scales) < 1.605
    assert -30.2 < min(angles) < -20
    assert 20 < max(angles) < 30.2
    assert abs(np.corrcoef(scales, angles)[0, 1]) < 0.5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("scale", "rotation", "flip"),
    [((0.6, 0.9), 0.0, False), ((1.3, 2.0), 0.0, False), ((1.0, 1.0), 40.0, False), ((0.7, 1.5), 25.0, True)],
)
@SHAPES
def test_photo_and_labels_are_sampled_as_scipy_does(scale, rotation, flip, seed, shape, size):
    changes = {"scale": scale, "rotation": rotation, "flip": flip}
    image, label = photo(*shape)
    matrix = movement(shape, seed, size, **changes)
    result_image, result_label = change(image, label, seed, size, **changes)
    sampling = {"matrix": matrix[:, :2], "offset": matrix[:, 2], "output_shape": size, "mode": "grid-constant"}
    for channel in range(3):
        expected = ndimage.affine_transform(image[..., channel].astype(float), order=1, cval=MEAN[channel], **sampling)
        # The map was read from rounded colors, and is wrong by up to a twentieth of a pixel. Half a pixel: 12.
        error = np.abs(result_image[..., channel] - expected)
        assert error.mean() < 1.2
        assert error.max() < 8
    expected = ndimage.affine_transform(label, order=0, cval=IGNORE, **sampling)
    assert (result_label != expected).mean() < 0.03


def test_outside_the_photo_is_the_mean_color_without_a_label():
    image, label = np.full((20, 30, 3), 250, np.uint8), np.zeros((20, 30), np.uint8)
    for seed in range(10):
        result, labels = change(image, label, seed, (40, 44), scale=(0.5, 0.5))
        assert set(np.unique(labels)) == {0, IGNORE}
        inside = np.argwhere(labels == 0)
        # 10x15 pixels, all of them in the window.
        assert len(inside) == 150
        assert (np.ptp(inside, axis=0) == (9, 14)).all()
        apart = ndimage.distance_transform_cdt(labels == IGNORE, "chessboard") > 1
        np.testing.assert_array_equal(np.unique(result[apart], axis=0), [[124, 116, 104]])


def test_the_window_lies_in_a_larger_photo_and_around_a_smaller_one():
    """60x100 pixels and a window of 40x120: all of the columns are seen, and 40 of the rows, without a gap."""
    image, label = coordinates(30, 50), np.zeros((30, 50), np.uint8)
    first_rows, first_columns = [], []
    for seed in range(60):
        _, labels = change(image, label, seed, (40, 120), scale=(2.0, 2.0))
        seen = labels == 0
        assert seen.sum() == 40 * 100
        (columns,) = np.nonzero(seen.all(0))
        assert len(columns) == 100
        first_columns.append(columns[0])
        matrix = movement((30, 50), seed, (40, 120), scale=(2.0, 2.0))
        # The edge of a pixel lies half a pixel before its center; the photo's first edge is at -0.5.
        first_rows.append(2 * (matrix @ (-0.5, 0, 1) + 0.5)[0])
    for first in (first_rows, first_columns):
        assert -0.2 <= min(first) <= 3
        assert 17 <= max(first) <= 20.2
    assert abs(np.corrcoef(first_rows, first_columns)[0, 1]) < 0.5


def factor(name, seed, reach):
    """The factor that is drawn for one change of color: how far it spreads the difference of red and green."""
    image = np.full((8, 61, 3), 100, np.uint8)
    image[..., 0] = 70 + np.arange(61)
    result, _ = change(image, np.zeros((8, 61), np.uint8), seed, **{name: reach})
    difference = result[0, :, 0].astype(float) - result[0, :, 1]
    return np.polyfit(np.arange(61) - 30, difference, 1)[0]


@pytest.mark.parametrize("name", ENHANCERS)
def test_a_change_of_color_is_pillows(name):
    image, label = photo()
    factors = [factor(name, seed, 0.5) for seed in range(20)]
    assert 0.49 < min(factors) < 0.7 < 1.3 < max(factors) < 1.51
    for seed in range(5):
        result, labels = change(image, label, seed, **{name: 0.5})
        expected = np.asarray(ENHANCERS[name](Image.fromarray(image)).enhance(factors[seed]))
        assert np.abs(expected - image.astype(int)).max() > 5
        # Pillow cuts off fractions, and takes a whole number for the mean.
        assert np.abs(result.astype(int) - expected).max() <= 2
        np.testing.assert_array_equal(labels, label)


def test_all_changes_of_color_one_after_another():
    image, label = photo()
    for seed in range(8):
        expected = Image.fromarray(image)
        for name, enhancer in ENHANCERS.items():
            expected = enhancer(expected).enhance(factor(name, seed, 0.5))
        result, _ = change(image, label, seed, **dict.fromkeys(ENHANCERS, 0.5))
        # Up to 1, 2 and 2, see above, and each is spread by those behind it.
        assert np.abs(result.astype(int) - np.asarray(expected)).max() <= 5


def test_equal_seeds_give_equal_results_and_others_others():
    arguments = ((32, 40), Augmentation(rotation=20.0), classes.of_count(5))
    seeds = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2**40)]
    results = {seed: [part.numpy() for part in augment(*photo(), seed, *arguments)] for seed in seeds}
    for seed, (colors, labels) in results.items():
        again = augment(*photo(), seed, *arguments)
        np.testing.assert_array_equal(again[0], colors)
        np.testing.assert_array_equal(again[1], labels)
        assert sum(np.array_equal(colors, other) for other, _ in results.values()) == 1
