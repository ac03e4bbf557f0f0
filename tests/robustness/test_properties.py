"""What holds for any network, photo or label map, tried on many of each."""

import types

import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from support.networks import Weight, narrow, shapes

import weight_port
from keras_bisenet import FaceParser
from keras_bisenet.classes import of_count
from keras_bisenet.data.augmentation import augment
from keras_bisenet.export import convert
from keras_bisenet.export.options import PRECISIONS
from keras_bisenet.inference import soft_masks
from keras_bisenet.inference.model_io import ModelIO
from keras_bisenet.labels import IGNORE, LABELS, LEFT_RIGHT_PAIRS
from keras_bisenet.models.architecture import channels
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.training.configs import Augmentation
from keras_bisenet.utils import images
from weight_port.layouts import BISENET_LAYOUTS
from weight_port.port import key_map

pytestmark = pytest.mark.slow

seeds = st.integers(0, 2**32 - 1)
backbones = st.sampled_from(["resnet18", "resnet34"])


# Porting.

# Name in PyTorch -> in NumPy, and whole numbers with as many bits.
DTYPES = {
    "float16": (np.float16, np.uint16),
    "bfloat16": (ml_dtypes.bfloat16, np.uint16),
    "float32": (np.float32, np.uint32),
    "float64": (np.float64, np.uint64),
}


# A kernel by which the width is recognized -> its channels at width 1.
STAGES = {
    "backbone_conv1/kernel": 64,
    "backbone_layer2_0_conv1/kernel": 128,
    "backbone_layer3_0_conv1/kernel": 256,
    "backbone_layer4_0_conv1/kernel": 512,
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
        if path in STAGES:
            outputs = channels(STAGES[path], width)
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
    st.sampled_from(BISENET_LAYOUTS),
    st.integers(2, 255),
    # Each is the shortest of those that give its network.
    st.sampled_from([0.12, 0.25, 0.5, 1.0]),
    st.sampled_from(list(DTYPES)),
    st.sampled_from(["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]),
    st.sampled_from([".pth", ".safetensors"]),
)
def test_any_checkpoint_comes_back_from_keras_and_any_weights_from_a_checkpoint(
    tmp_path_factory, seed, backbone, layout, num_classes, width, dtype, prefix, suffix
):
    """The checkpoint with all that its layout stores and no Keras weight holds."""
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
    weights, again = weights_of(sizes, wide), weights_of(sizes, wide)
    unmapped = weight_port.apply(loaded, weights, architecture)
    same_bits(weight_port.reverse(weight_port.keras_weights(weights), layout, unmapped), expected | steps)
    # Weights that no checkpoint came with.
    weight_port.save(path, weight_port.reverse(weight_port.keras_weights(weights), layout))
    loaded = weight_port.load(path)
    weight_port.apply(loaded, again, weight_port.recognize(loaded))
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
    quantized = types.SimpleNamespace(
        dtype=dtype, channels_first=channels_first, scale=scale, offset=offset, quantization=(step, zero_point)
    )
    tensor = ModelIO.encode(quantized, image)
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


@settings(max_examples=100)
@given(pictures())
@example(Image.new("L", (1, 1)))
@example(Image.new("RGBA", (2000, 1)))
@example(Image.new("La", (3, 2)))
@example(Image.new("I;16", (1, 2000)))
@example(Image.new("CMYK", (2000, 1999)))
def test_any_picture_is_parsed_at_its_size(parser, picture):
    photo = images.from_pillow(picture)
    assert (photo.shape, photo.dtype) == ((*picture.size[::-1], 3), np.uint8)
    # What has no transparent parts is what its RGB is.
    if picture.mode in ("1", "L", "RGB", "CMYK", "YCbCr", "LAB", "HSV"):
        np.testing.assert_array_equal(photo, picture.convert("RGB"))
    labels = parser(picture)
    assert (labels.shape, labels.dtype) == (picture.size[::-1], np.uint8)
    assert labels.max() < 5
    probabilities = parser.probabilities(picture)
    assert (probabilities.shape, probabilities.dtype) == ((*labels.shape, 5), np.float32)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=0, atol=1e-5)


# Label maps.

lengths = st.integers(1, 40)
spans = st.floats(0, 1)


@settings(max_examples=30)
@given(
    *(seeds, lengths, lengths, st.sampled_from([2, 5, 11, 18, 19, 20])),
    *(st.integers(0, 99), st.integers(1, 60), st.integers(1, 60)),
    *(spans, spans, st.floats(0, 180), st.booleans()),
)
def test_any_augmentation_keeps_to_the_labels(
    seed, old_height, old_width, classes, draw, height, width, reach, growth, rotation, flip
):
    """Of noise, of whose labels a tenth says nothing."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, (old_height, old_width)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.1] = IGNORE
    photo = random.integers(0, 256, (old_height, old_width, 3), np.uint8)
    augmentation = Augmentation((0.5 + growth, 0.5 + 2 * growth), rotation, flip, reach, reach, reach)
    options = (0, draw), (height, width), augmentation, of_count(classes)
    (image, changed), again = ([part.numpy() for part in augment(photo, labels, *options)] for _ in range(2))
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (changed.shape, changed.dtype) == ((height, width), np.uint8)
    allowed = {*np.unique(labels).tolist(), IGNORE}
    if flip and classes == len(LABELS):
        other = dict([*LEFT_RIGHT_PAIRS, *(pair[::-1] for pair in LEFT_RIGHT_PAIRS)])
        allowed |= {other.get(label, label) for label in allowed}
    assert set(np.unique(changed).tolist()) <= allowed
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(changed, again[1])


@given(seeds, lengths, lengths)
def test_masks_of_certain_probabilities_are_those_of_labels(seed, height, width):
    labels = np.random.default_rng(seed).integers(0, len(LABELS), (height, width))
    of_labels = soft_masks.part_masks(labels)
    of_probabilities = soft_masks.part_masks(np.eye(len(LABELS), dtype=np.float32)[labels])
    assert of_labels.keys() == of_probabilities.keys()
    for part, mask in of_labels.items():
        np.testing.assert_array_equal(of_probabilities[part], mask, err_msg=part)
