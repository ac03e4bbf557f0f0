"""Statistics of a network are those of what PyTorch computes; photos are chosen by a seed and read upright, in RGB."""

import copy
import functools

import numpy as np
import pytest
import torch
from PIL import Image
from support.graphs import OPERATIONS, WIDTHS, measure, optimized
from support.networks import narrow, random_state
from support.ported import port
from support.ported import reference as reference_of
from support.refusals import refused

import weight_port
from keras_bisenet import preprocessing
from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.quantization import calibration, quantize, rounding_points
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError

SIZE = (64, 96)


class Reference:
    """A random network of the published widths, and what PyTorch computes at each of its nodes, in float64."""

    def __init__(self, backbone):
        state = random_state(backbone, num_classes=7)
        self.architecture = weight_port.recognize(state)
        self.model = port(state)
        self.network = copy.deepcopy(reference_of(state).network).double()

    def activations(self, graph, photo):
        """Name of a node -> `[1, h, w, C]`: a convolution by PyTorch, what lies between convolutions by numpy."""
        modules, handles = {}, []
        for name, module in self.network.named_modules():
            keep = functools.partial(lambda name, _, __, result: modules.update({name: result}), name)
            handles.append(module.register_forward_hook(keep))
        normalized = (photo[np.newaxis] / 255 - preprocessing.MEAN) / preprocessing.STD
        with torch.no_grad():
            self.network(torch.from_numpy(normalized).permute(0, 3, 1, 2))
        for handle in handles:
            handle.remove()
        found = {}
        for node in graph.nodes:
            inputs = [found[graph.producer(x).name] for x in node.inputs if graph.producer(x) is not None]
            if rounding_points.is_conv(node):
                found[node.name] = modules[self.architecture.layout.module(node.name)].permute(0, 2, 3, 1).numpy()
            elif node.kind == "Cast":
                found[node.name] = photo[np.newaxis].astype(np.float64)
            else:
                constants = [np.asarray(each) for each in node.constants if node.kind in ("Add", "Multiply")]
                found[node.name] = OPERATIONS[node.kind](*inputs, *constants)
        return found


@functools.cache
def reference(backbone):
    return Reference(backbone)


@pytest.fixture(scope="module")
def small():
    return optimized(narrow(WIDTHS, 5))


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("resnet34", marks=pytest.mark.slow)])
def test_statistics_are_those_of_pytorch(backbone):
    model = optimized(reference(backbone).model, output="all_heads")
    photos = calibration.variations(SIZE, 3).images
    statistics = measure(model, photos)
    _, graph = rewriting.read(model)
    assert statistics.keys() == quantize.measured(graph) >= rounding_points.find(graph).tensors
    computed = [reference(backbone).activations(graph, photo) for photo in photos]
    for name, statistic in statistics.items():
        values = np.concatenate([results[name].reshape(-1, results[name].shape[-1]) for results in computed])
        low, high = np.quantile(values, (calibration.TAIL, 1 - calibration.TAIL), axis=0)
        tolerance = 1e-5 * np.abs(values).max()
        for field, expected in (("low", low), ("high", high), ("mean", values.mean(0))):
            np.testing.assert_allclose(
                getattr(statistic, field), expected, rtol=0, atol=tolerance, err_msg=f"{name} {field}"
            )


@pytest.mark.parametrize(("output", "heads"), [("labels", 1), ("probabilities", 1), ("all_heads", 3)])
def test_auxiliary_heads_are_measured_if_they_are_written(output, heads):
    model = optimized(narrow(WIDTHS, 5), output=output)
    statistics = measure(model, calibration.variations(SIZE, 1).images)
    _, graph = rewriting.read(model)
    read = {
        graph.producer(node.inputs[0]).name for node in graph.nodes if node.name.endswith("_logits") and node.inputs
    }
    assert len(read) == heads
    assert read <= statistics.keys()


def photo_node(model):
    """Name of the node that gives the photo itself, in pixels of 0 to 255."""
    (name,) = (node.name for node in rewriting.read(model)[1].nodes if node.kind == "Cast")
    return name


def test_one_far_value_is_cut_off(small):
    photos = [np.full((*SIZE, 3), (100, 110, 120), np.uint8) for _ in range(4)]
    photos[2][30, 40] = 255
    photos[3][40, 30] = 0
    statistic = measure(small, photos)[photo_node(small)]
    np.testing.assert_allclose(statistic.low, [100, 110, 120], atol=1e-4)
    np.testing.assert_allclose(statistic.high, [100, 110, 120], atol=1e-4)
    # One more white and one more black pixel among 4 * 64 * 96.
    color = np.array([100, 110, 120])
    shift = (255 + 0 - 2 * color) / (4 * 64 * 96)
    np.testing.assert_allclose(statistic.mean, color + shift, atol=1e-4)


def test_of_large_photos_some_pixels_from_all_over_are_enough():
    """And they are the same when they are measured again."""
    rows = np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    photos, model = [np.broadcast_to(rows, (256, 256, 3))], optimized(narrow((2,) * 8, 2), (256, 256))
    first, second = (measure(model, photos) for _ in range(2))
    statistic = first[photo_node(model)]
    np.testing.assert_allclose(statistic.low, 0, atol=1e-3)
    np.testing.assert_allclose(statistic.high, 255, atol=1e-3)
    np.testing.assert_allclose(statistic.mean, 127.5, atol=1e-3)
    assert first.keys() == second.keys()
    for name in first:
        for field in ("low", "high", "mean"):
            np.testing.assert_array_equal(getattr(first[name], field), getattr(second[name], field))


def test_a_normalized_photo_is_measured_like_the_photo(small):
    photos = calibration.variations(SIZE, 2).images
    expected = measure(small, photos)
    normalized = optimized(narrow(WIDTHS, 5), input_type="float32")
    statistics = measure(normalized, photos)
    by_conv = [
        {
            node.name: found[rounding_points.source(graph, node.inputs[0]).name]
            for node in graph.nodes
            if rounding_points.is_conv(node) and node.name != "backbone_bn1"
            if rounding_points.source(graph, node.inputs[0]).name in found
        }
        for found, graph in ((expected, rewriting.read(small)[1]), (statistics, rewriting.read(normalized)[1]))
    ]
    assert by_conv[0].keys() == by_conv[1].keys()
    for name, statistic in by_conv[0].items():
        tolerance = 1e-4 * np.abs(statistic.high).max()
        np.testing.assert_allclose(by_conv[1][name].high, statistic.high, rtol=0, atol=tolerance, err_msg=name)


def test_divided():
    statistic = calibration.Statistic(*np.array([[-1.0, 0.0], [4.0, 6.0], [1.0, 3.0]])).divided(np.array([2.0, 3.0]))
    np.testing.assert_array_equal(statistic.low, [-0.5, 0])
    np.testing.assert_array_equal(statistic.high, [2, 2])
    np.testing.assert_array_equal(statistic.mean, [0.5, 1])


def test_variations():
    photos = calibration.variations((64, 96), 12)
    assert photos.source == "crops and color variations of the bundled photo"
    assert photos.skipped == ()
    assert [(image.shape, image.dtype) for image in photos.images] == [((64, 96, 3), np.uint8)] * 12
    for image, again in zip(photos.images, calibration.variations((64, 96), 12).images, strict=True):
        np.testing.assert_array_equal(image, again)
    for image, other in zip(photos.images, calibration.variations((64, 96), 12, seed=1).images, strict=True):
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
    assert colors(photos) == colors(calibration.from_folder(tmp_path, SIZE, count=5))
    others = {tuple(colors(calibration.from_folder(tmp_path, SIZE, count=5, seed=seed))) for seed in range(1, 6)}
    assert len(others | {tuple(colors(photos))}) == 6
    # Not always the first by name.
    assert max(max(chosen) for chosen in others) > 24


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


def test_folders_without_a_photo_that_can_be_read(tmp_path):
    with refused(ImageError, f"{tmp_path}/none: no such file"):
        calibration.from_folder(tmp_path / "none", SIZE)
    (tmp_path / "notes.txt").write_text("no photo")
    with refused(ImageError, f"{tmp_path}: holds no photo"):
        calibration.from_folder(tmp_path, SIZE)
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_text("not an image")
    with refused(ImageError, f"{tmp_path}: none of its 2 photos"):
        calibration.from_folder(tmp_path, SIZE)
