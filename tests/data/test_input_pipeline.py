"""Which example comes when, and what the training sees of it."""

import itertools

import numpy as np
import pytest
from PIL import Image

from keras_bisenet import classes
from keras_bisenet.data import pipeline
from keras_bisenet.data.folder import Example
from keras_bisenet.training.configs import Augmentation
from keras_bisenet.utils import images

PLAIN = Augmentation(scale=(1.0, 1.0), flip=False, brightness=0, contrast=0, saturation=0)


def save(folder, photos, labels):
    """Writes photos and label maps. Returns the list of `Example`s."""
    examples = []
    for number, (photo, label) in enumerate(zip(photos, labels, strict=True)):
        examples.append(Example(str(number), folder / f"{number}.png", folder / f"{number}_label.png"))
        Image.fromarray(photo).save(examples[-1].image)
        Image.fromarray(label).save(examples[-1].label)
    return examples


def plain(size, values):
    """Photos of one gray each."""
    return [np.full((*size, 3), value, np.uint8) for value in values]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Five photos of 40x48, each of one gray and one class: 10 times its number, and its number."""
    labels = [np.full((40, 48), number, np.uint8) for number in range(5)]
    return save(tmp_path_factory.mktemp("examples"), plain((40, 48), range(0, 50, 10)), labels)


def stream(examples, count, **options):
    settings = {
        "factors": np.ones(len(examples)),
        "size": (40, 48),
        "augmentation": PLAIN,
        "classes": classes.of_count(5),
        "batch_size": 4,
        "seed": 3,
    }
    batches = pipeline.batches(pipeline.Examples(examples), **(settings | options))
    return [(image.numpy(), label.numpy()) for image, label in batches.take(count)]


def test_an_epoch_shows_each_example_once():
    orders = [pipeline.order(np.ones(50), seed=0, epoch=epoch) for epoch in range(2)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(orders[0], pipeline.order(np.ones(50), seed=0, epoch=0))
    assert (orders[0] != pipeline.order(np.ones(50), seed=1, epoch=0)).any()


def test_repeated_examples_come_as_often_as_their_factor_says():
    factors = np.ones(100)
    factors[:10] = 2.5
    counts = sum(np.bincount(pipeline.order(factors, 0, epoch), minlength=100) for epoch in range(400))
    assert counts.sum() == 100 * 400
    # 10 * 2.5 + 90 = 115 for 100 places.
    np.testing.assert_allclose(counts[:10].mean() / 400, 2.5 * 100 / 115, rtol=0.02)
    np.testing.assert_allclose(counts[10:].mean() / 400, 100 / 115, rtol=0.02)


def test_factors_by_hand(tmp_path):
    """Class 1 in one of four photos: sqrt(0.5 / 0.25); class 0 in all."""
    labels = [np.zeros((4, 4), np.uint8) for _ in range(4)]
    labels[2][1, 1] = 1
    labels[3][0, 0] = 255
    present = pipeline.presence(pipeline.Examples(save(tmp_path, plain((4, 4), [0] * 4), labels)), 3)
    np.testing.assert_array_equal(present, [[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(pipeline.repeat_factors(present, 0.5), [1, 1, 2**0.5, 1])


def test_rare_parts_by_hand(tmp_path):
    """Only class 1 is rare. Its pixels alone come over, but none where nothing is known; the border is blurred."""
    labels = [np.zeros((12, 12), np.uint8) for _ in range(4)]
    labels[2][3:9, 3:9] = 1
    labels[0][:, 6:] = 255
    photos = plain((12, 12), (0, 50, 100, 150))
    examples = pipeline.Examples(save(tmp_path, photos, labels))
    present = pipeline.presence(examples, 3)
    photo, label = pipeline.RareParts(examples, present, 0.5, 1.0).lay(photos[0], labels[0], [3, 4])
    expected = labels[0].copy()
    expected[3:9, 3:6] = 1
    np.testing.assert_array_equal(label, expected)
    assert (photo.dtype, label.dtype) == (np.uint8, np.uint8)
    assert (photo[6, 4] > 80).all() and 0 < photo[6, 2].max() < 50 and not photo[0, 11].any()

    seldom = pipeline.RareParts(examples, present, 0.5, 0.25)
    changed = sum(seldom.lay(photos[1], labels[1], [0, n])[1].any() for n in range(400))
    assert 70 < changed < 130
    none = pipeline.RareParts(examples, present, 0.2, 1.0)
    assert not none.lay(photos[1], labels[1], [0, 0])[1].any()


def test_parts_of_a_photo_of_another_size(tmp_path):
    photos = plain((8, 16), [0]) + plain((16, 8), [200])
    labels = [np.zeros((8, 16), np.uint8), np.ones((16, 8), np.uint8)]
    examples = pipeline.Examples(save(tmp_path, photos, labels))
    parts = pipeline.RareParts(examples, pipeline.presence(examples, 2), 0.9, 1.0)
    laid = [parts.lay(*examples[0], [n]) for n in range(20)]
    assert {photo.shape for photo, _ in laid} == {(8, 16, 3)}
    assert any((label == 1).all() and (photo == 200).all() for photo, label in laid)


def test_going_on_gives_the_numbers_that_would_have_come():
    factors = np.full(7, 1.3)
    whole = list(itertools.islice(pipeline.numbers(factors, 0, 4, start=0), 40))
    later = list(itertools.islice(pipeline.numbers(factors, 0, 4, start=5), 20))
    assert [position for position, _ in whole] == list(range(40))
    assert later == whole[20:]


def test_shards_are_the_parts_of_each_batch():
    whole = list(itertools.islice(pipeline.numbers(np.ones(7), 0, 4, start=0), 16))
    shards = [list(itertools.islice(pipeline.numbers(np.ones(7), 0, 4, 0, (i, 2)), 8)) for i in range(2)]
    joined = [pair for batch in range(4) for shard in shards for pair in shard[2 * batch : 2 * batch + 2]]
    assert joined == whole


def test_photos_and_labels_stay_together(examples):
    for photos, labels in stream(examples, 5):
        assert (photos.dtype, labels.dtype) == (np.uint8, np.uint8)
        assert photos.shape == (4, 40, 48, 3)
        np.testing.assert_array_equal(photos, 10 * labels[..., np.newaxis].repeat(3, -1))


def test_batches_that_go_on_are_those_that_would_have_come(examples):
    options = {"augmentation": Augmentation(rotation=20), "size": (32, 36), "factors": np.full(5, 1.3)}
    whole, later = stream(examples, 5, **options), stream(examples, 2, start=3, **options)
    for one, other in zip(whole[3:], later, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_parts_for_two_machines_with_two_devices_make_one_batch(examples):
    whole = stream(examples, 3)
    parts = [stream(examples, 6, shard=(i, 2), replicas=2) for i in range(2)]
    for number, (photos, _) in enumerate(whole):
        joined = [parts[i][2 * number + device][0] for i in range(2) for device in range(2)]
        np.testing.assert_array_equal(np.concatenate(joined), photos)


def test_keeps_examples_while_there_is_room(examples):
    size = 40 * 48 * 4
    store = pipeline.Examples(examples, cache_bytes=2 * size)
    for _ in range(2):
        for number in range(3):
            np.testing.assert_array_equal(store[number][1], number)
    assert store[0][0] is store[0][0]
    assert store[2][0] is not store[2][0]


def test_sides_are_repaired_only_if_asked_for(tmp_path):
    label = np.ones((8, 8), np.uint8)
    label[2, 1:3], label[2, 5:7] = 4, 5  # the person's left eye on the left of the photo
    examples = save(tmp_path, plain((8, 8), [0]), [label])
    np.testing.assert_array_equal(pipeline.Examples(examples)[0][1], label)
    np.testing.assert_array_equal(pipeline.Examples(examples, fix_left_right=classes.FACE)[0][1], label[:, ::-1])


def test_photos_are_read_as_everywhere_else(tmp_path):
    examples = save(tmp_path, [np.full((8, 8), 77, np.uint8)], [np.zeros((8, 8), np.uint8)])
    photo, _ = pipeline.Examples(examples)[0]
    np.testing.assert_array_equal(photo, images.read(examples[0].image))
    assert photo.shape == (8, 8, 3)
