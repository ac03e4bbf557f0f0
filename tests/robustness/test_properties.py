"""What holds for any network, photo or label map, tried on many of each."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import ndimage
from sklearn import metrics as sklearn
from support.networks import Weight, narrow, shapes

import weight_port
from keras_bisenet import FaceParser
from keras_bisenet.classes import of_count
from keras_bisenet.data.augmentation import augment
from keras_bisenet.export import convert
from keras_bisenet.export.options import PRECISIONS
from keras_bisenet.inference import soft_masks
from keras_bisenet.inference.batch import results
from keras_bisenet.inference.model_io import ModelIO
from keras_bisenet.labels import IGNORE, LABELS, LEFT_RIGHT_PAIRS
from keras_bisenet.models.architecture import channels
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.training import metrics, schedules
from keras_bisenet.training.configs import Augmentation
from keras_bisenet.utils import images, resizing
from weight_port.layouts import BISENET_LAYOUTS
from weight_port.port import key_map

pytestmark = pytest.mark.slow

seeds = st.integers(0, 2**32 - 1)
backbones = st.sampled_from(["resnet18", "resnet34"])
layouts = st.sampled_from(BISENET_LAYOUTS)
# Each is the shortest of those that give its network.
widths = st.sampled_from([0.12, 0.25, 0.5, 1.0])
suffixes = st.sampled_from([".pth", ".safetensors"])


# Porting.

# Name in PyTorch -> in NumPy, and whole numbers with as many bits.
DTYPES = {
    "float16": (np.float16, np.uint16),
    "bfloat16": (ml_dtypes.bfloat16, np.uint16),
    "float32": (np.float32, np.uint32),
    "float64": (np.float64, np.uint64),
}


# A layer by which the width is recognized -> its channels at width 1.
STAGES = {
    "backbone_conv1": 64,
    "backbone_layer2_0_conv1": 128,
    "backbone_layer3_0_conv1": 256,
    "backbone_layer4_0_conv1": 512,
}


def any_bits(random, shape, dtype):
    """Any finite numbers, tiny ones and -0 among them."""
    dtype, whole = DTYPES[dtype]
    numbers = random.integers(0, np.iinfo(whole).max, shape, whole, endpoint=True).view(dtype)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(numbers), numbers, dtype(-0.0))


def any_widths(random, backbone, layout, num_classes, width):
    """Keras path -> PyTorch shape: kernels of their own height and width between any numbers of channels."""
    found = {}
    for path in key_map(shapes(backbone), layout):
        outputs, inputs = random.integers(1, 9, 2).tolist()
        # By the stages' channels and its main head a network is recognized.
        for beginning, count in STAGES.items():
            if path == f"{beginning}/kernel":
                outputs = channels(count, width)
        found[path] = (outputs, inputs, *shapes(backbone)[path][:2]) if path.endswith("/kernel") else (outputs,)
    return found | {"conv_out_logits/kernel": (num_classes, channels(256, width), 1, 1)}


def weights_of(sizes, dtype):
    """Keras weights of these PyTorch shapes."""
    axes = {4: (2, 3, 1, 0), 1: (0,)}
    return [Weight(path, np.zeros([shape[axis] for axis in axes[len(shape)]], dtype)) for path, shape in sizes.items()]


def same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def write(path, state):
    """A checkpoint as PyTorch or safetensors writes it."""
    tensors = {}
    for key, array in state.items():
        half = array.dtype == ml_dtypes.bfloat16
        tensors[key] = torch.tensor(array.view(np.int16)).view(torch.bfloat16) if half else torch.tensor(array)
    if path.suffix == ".pth":
        torch.save(tensors, path)
    else:
        safetensors.torch.save_file(tensors, path)


@settings(max_examples=20)
@given(
    seeds,
    backbones,
    layouts,
    st.integers(2, 255),
    widths,
    st.sampled_from(list(DTYPES)),
    st.sampled_from(["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]),
    suffixes,
)
def test_port_and_reverse_give_back_any_checkpoint(
    tmp_path_factory, seed, backbone, layout, num_classes, width, dtype, prefix, suffix
):
    """With all that its layout stores, and that no Keras weight holds."""
    random = np.random.default_rng(seed)
    sizes = any_widths(random, backbone, layout, num_classes, width)
    keys = key_map(sizes, layout)
    counters = {key.replace("running_mean", "num_batches_tracked") for key in keys.values() if "running_mean" in key}
    state = {keys[path]: any_bits(random, shape, dtype) for path, shape in sizes.items()}
    state |= {key: any_bits(random, shape, dtype) for key, shape in layout.unused(512).items()}
    # float16 and bfloat16 become float32, which holds them exactly.
    wide = np.float64 if dtype == "float64" else np.float32
    expected = {key: array.astype(wide) for key, array in state.items()}
    steps = {key: np.array(random.integers(2**62)) for key in counters}

    path = tmp_path_factory.mktemp("any") / f"any{suffix}"
    write(path, {prefix + key: array for key, array in (state | steps).items()})
    loaded = weight_port.load(path)
    architecture = weight_port.recognize(loaded)
    assert architecture == weight_port.Architecture(layout, backbone, num_classes, width)
    weights = weights_of(sizes, wide)
    unmapped = weight_port.apply(loaded, weights, architecture)
    again = weight_port.reverse(weight_port.keras_weights(weights), layout, unmapped)
    same_bits(again, expected | steps)


@settings(max_examples=20)
@given(seeds, backbones, layouts, st.integers(2, 255), widths, st.sampled_from(["float32", "float64"]), suffixes)
def test_reverse_and_port_give_back_any_weights(
    tmp_path_factory, seed, backbone, layout, num_classes, width, dtype, suffix
):
    random = np.random.default_rng(seed)
    sizes = any_widths(random, backbone, layout, num_classes, width)
    weights, again = weights_of(sizes, dtype), weights_of(sizes, dtype)
    for weight in weights:
        weight.assign(any_bits(random, weight.shape, dtype))
    path = tmp_path_factory.mktemp("any") / f"any{suffix}"
    weight_port.save(path, weight_port.reverse(weight_port.keras_weights(weights), layout))
    state = weight_port.load(path)
    weight_port.apply(state, again, weight_port.recognize(state))
    same_bits(weight_port.keras_weights(again), weight_port.keras_weights(weights))


# Exporting.


narrow_models = st.fixed_dictionaries(
    {
        # LiteRT's 8-bit convolutions fail or crash on a single channel, which no network of ours has. From 1024 numbers
        # on the converter stores a kernel in 8 bits.
        "widths": st.tuples(*[st.integers(2, 24)] * 8),
        "num_classes": st.integers(2, 6),
        "backbone": backbones,
        "seed": seeds,
    }
)
sides = st.integers(32, 75)


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=4)
@given(narrow_models, sides, sides, seeds, st.booleans())
def test_exported_labels_are_the_argmax_of_exported_logits(precision, options, height, width, seed, equal):
    """Of the first, where the last class is always as likely as another."""
    model = narrow(**options)
    head = model.get_layer("conv_out_logits").kernel
    if equal:
        head.assign(head.numpy()[..., [*range(options["num_classes"] - 1), 0]])
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    labels, logits = (
        TFLiteRunner(convert.to_tflite(model, (height, width), precision, output=output, photos=[photo]))(
            photo[np.newaxis]
        )[output]
        for output in ("labels", "logits")
    )
    assert logits.shape == (1, height, width, options["num_classes"])
    assert np.isfinite(logits).all()
    assert (labels.shape, labels.dtype) == ((1, height, width), np.uint8)
    np.testing.assert_array_equal(labels, logits.argmax(-1))


@given(
    seeds,
    st.sampled_from(["uint8", "int8"]),
    st.booleans(),
    arrays.arrays(np.float64, 3, elements=st.floats(1e-3, 1)),
    arrays.arrays(np.float64, 3, elements=st.floats(-4, 4)),
)
def test_a_quantized_input_is_off_by_half_a_step(seed, dtype, channels_first, scale, offset):
    """Its scale and zero point are such that all pixels fit."""
    image = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    low, high = min(offset.min(), 0.0), (255 * scale + offset).max()
    step = (high - low) / 255
    limits = np.iinfo(dtype)
    zero_point = round(limits.min - low / step)
    quantization = (step, zero_point)
    model_io = ModelIO(
        image_size=(5, 7),
        shape=None,
        dtype=dtype,
        channels_first=channels_first,
        scale=scale,
        offset=offset,
        quantization=quantization,
        output="labels",
        returns_labels=True,
        channels_last=True,
        aligned=False,
        activation=None,
        one_score=False,
        num_classes=2,
        classes=None,
        scores=None,
        scores_channels_last=True,
    )
    tensor = model_io.encode(image)
    assert (tensor.dtype, tensor.shape) == (dtype, (1, 3, 5, 7) if channels_first else (1, 5, 7, 3))
    values = (np.moveaxis(tensor[0], 0, -1) if channels_first else tensor[0]).astype(np.float64)
    # The zero point is rounded, so the last level may be half a step short.
    error = np.abs((values - zero_point) * step - (image * scale + offset))
    assert error.max() <= step * (1 + 1e-4)
    assert error[(values > limits.min) & (values < limits.max)].max(initial=0) <= step * (0.5 + 1e-3)


# Parsing.

MODES = (
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I;16", "I;16B"),
)


@st.composite
def pictures(draw):
    """Pillow images of any mode and size, of at most 100,000 pixels."""
    mode, long = draw(st.sampled_from(MODES)), draw(st.integers(1, 2000))
    size = draw(st.permutations([long, draw(st.integers(1, min(2000, 100_000 // long)))]))
    random = np.random.default_rng(draw(seeds))
    picture = Image.new(mode, size)
    picture.frombytes(random.bytes(len(picture.tobytes())))
    if mode in ("P", "PA"):
        picture.putpalette(random.bytes(768))
    if mode == "P" and draw(st.booleans()):
        picture.info["transparency"] = draw(st.integers(0, 255))
    return picture


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    path = tmp_path_factory.mktemp("parser") / "narrow.tflite"
    path.write_bytes(convert.to_tflite(narrow((4, 4, 4, 4, 4, 4, 4, 4), 5), (32, 48)))
    return FaceParser(path)


def check_parsed(parser, picture, classes):
    labels = parser(picture)
    assert (labels.shape, labels.dtype) == (picture.size[::-1], np.uint8)
    assert labels.max() < classes
    probabilities = parser.probabilities(picture)
    assert (probabilities.shape, probabilities.dtype) == ((*labels.shape, classes), np.float32)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=0, atol=1e-5)


@settings(max_examples=100)
@given(pictures())
@example(Image.new("L", (1, 1)))
@example(Image.new("RGBA", (2000, 1)))
@example(Image.new("La", (3, 2)))
@example(Image.new("I;16", (1, 2000)))
@example(Image.new("CMYK", (2000, 1999)))
def test_any_picture_is_parsed_at_its_size(parser, picture):
    check_parsed(parser, picture, 5)


@given(pictures())
def test_the_mode_of_a_picture_is_no_matter(picture):
    """A picture without transparent parts says what its RGB does."""
    photo = images.from_pillow(picture)
    assert (photo.shape, photo.dtype) == ((*picture.size[::-1], 3), np.uint8)
    if picture.mode in ("1", "L", "RGB", "CMYK", "YCbCr", "LAB", "HSV"):
        np.testing.assert_array_equal(photo, picture.convert("RGB"))


# Label maps.

maps = st.tuples(seeds, st.integers(1, 40), st.integers(1, 40), st.sampled_from([2, 5, 11, 18, 19, 20]))


def photo_and_labels(seed, height, width, classes):
    """Noise, and labels of which a tenth says nothing."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, (height, width)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.1] = IGNORE
    return random.integers(0, 256, (height, width, 3), np.uint8), labels


def augmented(photo, labels, draw, size, augmentation, num_classes):
    return [each.numpy() for each in augment(photo, labels, (0, draw), size, augmentation, of_count(num_classes))]


spans = st.floats(0, 1)


@settings(max_examples=30)
@given(maps, st.integers(0, 99), st.integers(1, 60), st.integers(1, 60), spans, spans, st.floats(0, 180), st.booleans())
def test_any_augmentation_keeps_to_the_labels(given_map, draw, height, width, reach, growth, rotation, flip):
    photo, labels = photo_and_labels(*given_map)
    classes = given_map[3]
    augmentation = Augmentation((0.5 + growth, 0.5 + 2 * growth), rotation, flip, reach, reach, reach)
    image, changed = augmented(photo, labels, draw, (height, width), augmentation, classes)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (changed.shape, changed.dtype) == ((height, width), np.uint8)
    allowed = {*np.unique(labels).tolist(), IGNORE}
    if flip and classes == len(LABELS):
        other = dict([*LEFT_RIGHT_PAIRS, *(pair[::-1] for pair in LEFT_RIGHT_PAIRS)])
        allowed |= {other.get(label, label) for label in allowed}
    assert set(np.unique(changed).tolist()) <= allowed
    again = augmented(photo, labels, draw, (height, width), augmentation, classes)
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(changed, again[1])


@st.composite
def truths_and_predictions(draw):
    """(classes, truth, prediction): pixels without a truth, and classes that occur in one, in both or nowhere."""
    classes = draw(st.integers(1, 8))
    shape = draw(arrays.array_shapes(min_dims=2, max_dims=3, max_side=6))
    seen = st.sampled_from(draw(st.lists(st.integers(0, classes - 1), min_size=1)))
    truth = arrays.arrays(np.uint8, shape, elements=st.one_of(seen, st.just(IGNORE)))
    prediction = arrays.arrays(np.uint8, shape, elements=st.integers(0, classes - 1))
    return classes, draw(truth), draw(prediction)


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=50)
@given(truths_and_predictions())
def test_scores_are_those_of_scikit_learn(case):
    classes, truth, prediction = case
    scores = metrics.Scores(metrics.confusion(truth, prediction, classes))
    truth, prediction = truth[truth != IGNORE], prediction[truth != IGNORE]
    if not truth.size:
        assert not scores.matrix.any()
        assert np.isnan([*scores.iou, scores.mean_iou, scores.mean_f1, scores.pixel_accuracy]).all()
        return
    matrix = sklearn.confusion_matrix(truth, prediction, labels=np.arange(classes))
    np.testing.assert_array_equal(scores.matrix, matrix)
    present = np.union1d(truth, prediction)
    for figure, function in (
        ("iou", sklearn.jaccard_score),
        ("f1", sklearn.f1_score),
        ("precision", sklearn.precision_score),
        ("recall", sklearn.recall_score),
    ):
        expected = np.full(classes, np.nan)
        expected[present] = function(truth, prediction, labels=present, average=None, zero_division=0)
        np.testing.assert_allclose(getattr(scores, figure), expected, rtol=1e-12, err_msg=figure)
    options = {"labels": present, "average": "macro"}
    assert scores.mean_iou == pytest.approx(sklearn.jaccard_score(truth, prediction, **options), rel=1e-12)
    assert scores.mean_f1 == pytest.approx(sklearn.f1_score(truth, prediction, **options), rel=1e-12)
    assert scores.pixel_accuracy == pytest.approx(sklearn.accuracy_score(truth, prediction), rel=1e-12)
    recall = sklearn.recall_score(truth, prediction, labels=np.unique(truth), average="macro")
    assert scores.mean_accuracy == pytest.approx(recall, rel=1e-12)


@given(maps)
def test_parts_have_the_areas_and_boxes_of_scipy(given_map):
    _, labels = photo_and_labels(*given_map)
    names = [f"part {label}" for label in range(256)]
    found = results.describe(labels, names)
    assert (found["height"], found["width"]) == labels.shape
    boxes = ndimage.find_objects(labels.astype(int) + 1)
    expected = {
        names[label]: ((labels == label).sum(), [columns.start, rows.start, columns.stop, rows.stop])
        for label, (rows, columns) in ((label, box) for label, box in enumerate(boxes) if box)
    }
    assert {name: (part["pixels"], part["box"]) for name, part in found["parts"].items()} == expected


# Resizing.

lengths = st.integers(1, 40)


@given(maps, lengths, lengths)
def test_resized_scores_lie_between_the_old_ones(given_map, height, width):
    scores = np.random.default_rng(given_map[0]).normal(size=given_map[1:]).astype(np.float32)
    found = resizing.resize_scores(scores, (height, width))
    assert (found.shape, found.dtype) == ((height, width, given_map[3]), np.float32)
    assert (found >= scores.min((0, 1)) - 1e-5).all()
    assert (found <= scores.max((0, 1)) + 1e-5).all()
    # What adds up to one at each pixel still does.
    constant = resizing.resize_scores(np.ones_like(scores), (height, width))
    np.testing.assert_allclose(constant, 1, rtol=0, atol=1e-5)


@given(seeds, lengths, lengths)
def test_masks_of_certain_probabilities_are_those_of_labels(seed, height, width):
    labels = np.random.default_rng(seed).integers(0, len(LABELS), (height, width))
    of_labels = soft_masks.part_masks(labels)
    of_probabilities = soft_masks.part_masks(np.eye(len(LABELS), dtype=np.float32)[labels])
    assert of_labels.keys() == of_probabilities.keys()
    for part, mask in of_labels.items():
        np.testing.assert_array_equal(of_probabilities[part], mask, err_msg=part)


# Schedules.

rates = st.floats(1e-6, 1.0)


@given(rates, rates, st.integers(1, 50), st.integers(0, 50), st.floats(0.1, 3.0))
def test_the_learning_rate_rises_and_then_falls_to_nothing(one, other, steps, warmup_steps, power):
    start, base = sorted((one, other))
    found = [schedules.learning_rate(step, base, steps, warmup_steps, start, power) for step in range(steps + 2)]
    top = found[: warmup_steps + 1]
    assert all(now <= later * (1 + 1e-12) for now, later in itertools.pairwise(top))
    assert all(now >= later for now, later in itertools.pairwise(found[len(top) - 1 :]))
    assert min(found) >= 0
    assert max(found) <= base * (1 + 1e-12)
    if warmup_steps < steps:
        assert found[steps] == 0


@given(st.floats(0, 1), st.integers(0, 10**6))
def test_the_average_never_forgets_less_than_it_is_told_to(decay, step):
    now, later = (schedules.average_decay(number, decay) for number in (step, step + 1))
    assert 0 <= now <= later <= decay
