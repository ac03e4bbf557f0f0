"""Statistics of a network are those of what PyTorch computes; photos are chosen by a seed and read upright, in RGB."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from support.graphs import OPERATIONS, measure, optimized
from support.networks import narrow, random_state
from support.ported import port, reference
from support.refusals import refused

import weight_port
from keras_bisenet import preprocessing
from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.quantization import calibration, quantize, rounding_points
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError

SIZE = (64, 96)


def activations(network, layout, graph, photo):
    """What PyTorch computes at each node: name -> `[1, h, w, C]`; what lies between convolutions, numpy computes.

    Args:
        network: in PyTorch, float64.
        layout: of its state_dict.
        graph: of the same network in Keras, after the passes.
        photo: `[H, W, 3]` uint8.
    """
    modules = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _, __, result, name=name: modules.update({name: result}))
    normalized = (photo[np.newaxis] / 255 - preprocessing.MEAN) / preprocessing.STD
    with torch.no_grad():
        network(torch.from_numpy(normalized).permute(0, 3, 1, 2))
    found = {}
    for node in graph.nodes:
        inputs = [found[graph.producer(x).name] for x in node.inputs if graph.producer(x) is not None]
        if rounding_points.is_conv(node):
            found[node.name] = modules[layout.module(node.name)].permute(0, 2, 3, 1).numpy()
        elif node.kind == "Cast":
            found[node.name] = photo[np.newaxis].astype(np.float64)
        else:
            constants = [np.asarray(each) for each in node.constants if node.kind in ("Add", "Multiply")]
            found[node.name] = OPERATIONS[node.kind](*inputs, *constants)
    return found


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("resnet34", marks=pytest.mark.slow)])
def test_statistics_are_those_of_pytorch(backbone):
    state = random_state(backbone, num_classes=7, width=0.25)
    network, layout = reference(state).network.double(), weight_port.recognize(state).layout
    model = optimized(port(state), output="all_heads")
    photos = calibration.variations(SIZE, 3).images
    statistics = measure(model, photos)
    _, graph = rewriting.read(model)
    assert statistics.keys() == quantize.measured(graph) >= rounding_points.find(graph).tensors
    computed = [activations(network, layout, graph, photo) for photo in photos]
    for name, statistic in statistics.items():
        values = np.concatenate([results[name].reshape(-1, results[name].shape[-1]) for results in computed])
        low, high = np.quantile(values, (calibration.TAIL, 1 - calibration.TAIL), axis=0)
        found = [statistic.low, statistic.high, statistic.mean]
        tolerance = 1e-5 * np.abs(values).max()
        np.testing.assert_allclose(found, [low, high, values.mean(0)], rtol=0, atol=tolerance, err_msg=name)


def of_the_photo(model, statistics):
    """The statistic of the photo itself, in pixels of 0 to 255."""
    (name,) = (node.name for node in rewriting.read(model)[1].nodes if node.kind == "Cast")
    return statistics[name]


def test_one_far_value_is_cut_off():
    photos = [np.full((*SIZE, 3), (100, 110, 120), np.uint8) for _ in range(4)]
    photos[2][30, 40] = 255
    photos[3][40, 30] = 0
    model = optimized(narrow((2,) * 8, 2))
    statistic = of_the_photo(model, measure(model, photos))
    color = np.array([100, 110, 120])
    # One more white and one more black pixel among 4 * 64 * 96.
    mean = color + (255 + 0 - 2 * color) / (4 * 64 * 96)
    np.testing.assert_allclose([statistic.low, statistic.high, statistic.mean], [color, color, mean], atol=1e-4)


def test_of_large_photos_some_pixels_from_all_over_are_enough():
    """And they are the same when they are measured again."""
    rows = np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    photos, model = [np.broadcast_to(rows, (256, 256, 3))], optimized(narrow((2,) * 8, 2), (256, 256))
    first, second = (measure(model, photos) for _ in range(2))
    statistic = of_the_photo(model, first)
    for found, expected in ((statistic.low, 0), (statistic.high, 255), (statistic.mean, 127.5)):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(dataclasses.astuple(first[name]), dataclasses.astuple(second[name]))


def test_variations():
    photos, again, others = (calibration.variations((64, 96), 12, seed) for seed in (0, 0, 1))
    assert photos.source == "crops and color variations of the bundled photo"
    assert photos.skipped == ()
    assert [(image.shape, image.dtype) for image in photos.images] == [((64, 96, 3), np.uint8)] * 12
    np.testing.assert_array_equal(photos.images, again.images)
    for image, other in zip(photos.images, others.images, strict=True):
        assert (image != other).mean() > 0.5
    assert len(calibration.variations((32, 32)).images) == calibration.COUNT


def test_variations_differ_in_place_and_color_and_are_mirrored():
    photos = np.stack(calibration.variations((64, 96), 24).images).astype(np.float64)
    gray = photos.mean(-1)
    light = gray.mean((1, 2))
    contrast, color = gray.std((1, 2)) / light, photos.std(-1).mean((1, 2)) / light
    # The darkest and the lightest, and so on. Crops alone differ by factors of 1.3, 1.8 and 2.2.
    assert light.max() > 1.6 * light.min()
    assert contrast.max() > 2 * contrast.min()
    assert color.max() > 2.5 * color.min()
    bundled = images.read(images.BUNDLED, (64, 96)).mean(-1)
    similar = np.array(
        [[np.corrcoef(image.ravel(), side.ravel())[0, 1] for side in (bundled, bundled[:, ::-1])] for image in gray]
    )
    # Some are nearly the whole photo, some a small part; about half are mirrored.
    assert similar.max(0).min() > 0.9
    assert (similar.max(1) < 0.7).sum() > 4
    assert 6 < similar.argmax(1).sum() < 18


def write_photos(folder, count):
    """Photos of one color each, named after it."""
    for color in range(10, 10 + count):
        Image.new("RGB", (48, 48), (color, color, color)).save(folder / f"{color}.png")


def colors(photos):
    return [int(photo[0, 0, 0]) for photo in photos.images]


def test_seed_chooses_among_the_photos_of_a_folder(tmp_path):
    write_photos(tmp_path, 20)
    (tmp_path / "notes.txt").write_text("no photo")
    photos = calibration.from_folder(tmp_path, SIZE, count=5)
    assert photos.source == str(tmp_path)
    assert photos.skipped == ()
    assert [(image.shape, image.dtype) for image in photos.images] == [((*SIZE, 3), np.uint8)] * 5
    assert len(set(colors(photos))) == 5
    chosen = [colors(calibration.from_folder(tmp_path, SIZE, count=5, seed=seed)) for seed in range(6)]
    assert chosen[0] == colors(photos)
    assert len(set(map(tuple, chosen))) == 6
    # Not always the first by name.
    assert max(max(others) for others in chosen[1:]) > 24


def test_all_photos_of_a_small_folder_are_taken(tmp_path):
    write_photos(tmp_path, 7)
    assert sorted(colors(calibration.from_folder(tmp_path, SIZE))) == list(range(10, 17))
    write_photos(tmp_path, calibration.COUNT + 3)
    assert len(calibration.from_folder(tmp_path, SIZE).images) == calibration.COUNT


def test_unreadable_photos_are_skipped_and_named(tmp_path):
    write_photos(tmp_path, 6)
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "truncated.png").write_bytes(images.BUNDLED.read_bytes()[:50_000])
    (tmp_path / "folder.png").mkdir()
    photos = calibration.from_folder(tmp_path, SIZE)
    assert sorted(colors(photos)) == list(range(10, 16))
    assert photos.skipped == ("empty.png", "folder.png", "text.jpg", "truncated.png")
    # A photo that cannot be read is made up for by another.
    for seed in range(5):
        assert len(calibration.from_folder(tmp_path, SIZE, count=6, seed=seed).images) == 6


def test_photos_are_read_as_everywhere_else(tmp_path):
    """Turned, for example; how is tested in utils/test_images.py."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Image.open(images.BUNDLED).save(tmp_path / "photo.png", exif=exif)
    (result,) = calibration.from_folder(tmp_path, SIZE).images
    np.testing.assert_array_equal(result, images.read(tmp_path / "photo.png", SIZE))


@pytest.mark.parametrize(
    ("folder", "files", "found"),
    [
        ("none", [], "no such file"),
        (".", ["notes.txt"], "holds no photo"),
        (".", ["notes.txt", "a.jpg", "b.png"], "none of its 2 photos"),
    ],
    ids=["missing", "no photo", "unreadable"],
)
def test_folders_without_a_photo_that_can_be_read(tmp_path, folder, files, found):
    for name in files:
        (tmp_path / name).write_text("no photo")
    with refused(ImageError, f"{tmp_path / folder}: {found}"):
        calibration.from_folder(tmp_path / folder, SIZE)
