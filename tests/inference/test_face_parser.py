"""FaceParser: any photo in, any model behind it, labels of the photo's size out."""

import json
import threading
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from PIL import Image
from scipy.special import softmax
from support.fresh_python import run_without
from support.networks import narrow
from support.paths import DEFAULT_CHECKPOINT
from support.ported import default_model, default_reference, normalized
from support.refusals import check_line, refused

import keras_bisenet
import weight_port
from keras_bisenet import LABELS, BiSeNet, FaceParser, classes
from keras_bisenet.export.convert import to_tflite
from keras_bisenet.inference import model_io
from keras_bisenet.inference.face_parser import BUNDLED, NAMES
from keras_bisenet.tflite import flatbuffer, metadata
from keras_bisenet.utils import images, memory, resizing
from keras_bisenet.utils.errors import ImageError, ModelError
from weight_port import manifest
from weight_port.reference import torch_network

CLASSES, SIZE = 5, (48, 64)
INFO = metadata.ModelInfo(classes.named("abcde"), "0" * 64)


@pytest.fixture(scope="module")
def large(portrait):
    """The bundled photo at the size of the network."""
    return images.resize(portrait, (512, 512))


@pytest.fixture(scope="module")
def expected(large):
    """What PyTorch says of it."""
    return default_reference()(normalized(large))[0][0]


def test_the_default_says_what_pytorch_says(parser, portrait, large, expected):
    assert (parser.num_classes, parser.class_names, parser.image_size) == (19, LABELS, (512, 512))
    labels = parser(portrait)
    assert (labels.dtype, labels.shape) == (np.uint8, portrait.shape[:2])
    assert (labels == resizing.resize_labels(expected.argmax(-1), labels.shape)).mean() > 0.995
    # Of a photo of the network's size there is nothing to resize.
    assert (parser(large) == expected.argmax(-1)).mean() > 0.997


def test_logits_are_those_of_pytorch(parser, portrait, large, expected):
    logits = parser.logits(large)
    assert (logits.dtype, logits.shape) == (np.float32, (512, 512, 19))
    assert np.abs(logits - expected).mean() < 0.04
    assert parser.logits([portrait])[0].shape == (*portrait.shape[:2], 19)


def test_a_photo_divided_by_255_is_background(parser, portrait):
    """What docs/TROUBLESHOOTING.md calls the sign of it."""
    assert (parser(portrait // 255) == 0).mean() > 0.98


def test_probabilities_are_those_of_pytorch(parser, portrait, large, expected):
    probabilities = parser.probabilities(large)
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (512, 512, 19))
    # int8: few pixels differ by much.
    assert np.abs(probabilities - softmax(expected, -1)).mean() < 1e-3
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    resized = parser.probabilities(portrait)
    assert resized.shape == (*portrait.shape[:2], 19)
    np.testing.assert_allclose(resized.sum(-1), 1, atol=1e-4)
    assert (resized.argmax(-1) == parser(portrait)).mean() > 0.98


def test_the_bundled_file_is_of_the_default_checkpoint():
    assert metadata.read(BUNDLED.read_bytes())["checkpoint_sha256"] == manifest.sha256(DEFAULT_CHECKPOINT)


@pytest.mark.parametrize(("name", "width", "most_bytes"), [("fast", 0.5, 3_600_000), ("tiny", 0.25, 1_000_000)])
def test_a_smaller_file_is_of_its_checkpoint(large, name, width, most_bytes):
    checkpoint = manifest.locate(name, DEFAULT_CHECKPOINT.with_name("manifest.json"))
    file = metadata.read(NAMES[name].read_bytes())
    assert (file["checkpoint_sha256"], file["license"]) == (checkpoint.sha256, checkpoint.license)
    state = weight_port.load(checkpoint.path)
    architecture = weight_port.recognize(state)
    assert (architecture.width, architecture.num_classes) == (width, 19)
    parser = FaceParser(name)
    assert (parser.image_size, parser.class_names) == ((512, 512), LABELS)
    logits, *_ = torch_network.Reference(state, architecture)(normalized(large))
    assert (parser(large) == logits[0].argmax(-1)).mean() > 0.99
    assert NAMES[name].stat().st_size <= most_bytes


@pytest.mark.parametrize("method", ["__call__", "logits", "probabilities"])
def test_a_result_stays_when_the_next_photo_is_parsed(parser, large, method):
    first = getattr(parser, method)(large)
    kept = first.copy()
    getattr(parser, method)(large[::-1])
    np.testing.assert_array_equal(first, kept)


def test_all_kinds_of_photos_say_the_same(parser, portrait, tmp_path):
    labels = parser(portrait)
    for kind in (str(images.BUNDLED), images.BUNDLED, Image.open(images.BUNDLED), portrait[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(parser(kind), labels)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(portrait)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(parser(tmp_path / "turned.png"), labels)
    gray = portrait[..., 1]
    for kind in (gray, gray[..., np.newaxis], Image.fromarray(gray)):
        np.testing.assert_array_equal(parser(kind), parser(np.stack([gray] * 3, -1)))


def test_batches(parser, portrait):
    wide = portrait[60:180]
    labels, wide_labels = parser([portrait, wide])
    np.testing.assert_array_equal(labels, parser(portrait))
    np.testing.assert_array_equal(wide_labels, parser(wide))
    assert wide_labels.shape == (120, 240)
    batch = parser(np.stack([portrait, portrait[:, ::-1]]))
    assert batch.shape == (2, 240, 240)
    np.testing.assert_array_equal(batch[0], labels)
    for none in ([], ()):
        assert (parser(none), parser.probabilities(none)) == ([], [])
    # As many results as photos, of the shape and dtype that those of one photo have.
    none = np.zeros((0, 9, 8, 3), np.uint8)
    assert (parser(none).shape, parser(none).dtype) == ((0, 9, 8), np.uint8)
    assert (parser.probabilities(none).shape, parser.probabilities(none).dtype) == ((0, 9, 8, 19), np.float32)
    with refused(ImageError, "float32"):
        parser(none.astype(np.float32))
    assert parser.probabilities([wide])[0].shape == (120, 240, 19)


def test_a_fork_while_another_thread_parses(parser, portrait, run_forked):
    """The lock that the thread has, and the threads of LiteRT, are not in the new process."""
    expected, ended = parser(portrait), threading.Event()

    def work():
        while not ended.is_set():
            parser(portrait)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(3):
            assert run_forked(lambda: np.array_equal(parser(portrait), expected)) == "True"
    finally:
        ended.set()
        thread.join()
    np.testing.assert_array_equal(parser(portrait), expected)


def test_a_fork_refuses_what_keras_has_opened(portrait, run_forked):
    parser = FaceParser(BiSeNet(CLASSES), image_size=(32, 32))
    assert parser(portrait).shape == portrait.shape[:2]
    check_line(run_forked(lambda: parser(portrait)), ["the model", "forked"])
    assert parser(portrait).shape == portrait.shape[:2]


HEAVY = ("tensorflow", "keras", "torch", "weight_port", "matplotlib", "scipy", "h5py", "absl")


def test_a_tflite_file_needs_no_tensorflow_and_little_time():
    code = """
import time
from keras_bisenet import FaceParser
labels = FaceParser(num_threads=1)("keras_bisenet/assets/astronaut_face.png")
print(time.process_time(), (labels == 17).sum(), *{name.partition(".")[0] for name in sys.modules})
"""
    bare = """
import time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
interpreter = Interpreter("keras_bisenet/assets/face_parsing_int8.tflite", num_threads=1)
interpreter.allocate_tensors()
with Image.open("keras_bisenet/assets/astronaut_face.png") as image:
    photo = np.asarray(image.convert("RGB").resize((512, 512)))
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], photo[np.newaxis])
interpreter.invoke()
print(time.process_time())
"""
    runs = [(run_without(code, HEAVY).split(), float(run_without(bare, HEAVY))) for _ in range(3)]
    # Processor time beside that of LiteRT alone, as other tests run beside this one and machines differ.
    assert min(float(seconds) for (seconds, *_), _ in runs) < 2 * min(seconds for _, seconds in runs)
    for (_, hair, *modules), _ in runs:
        assert int(hair) > 1000
        assert not {"tensorflow", "keras", "matplotlib", "h5py"} & set(modules)


def test_it_says_what_it_is(parser):
    (count,) = parser.ops.values()
    assert repr(parser) == f"FaceParser(default: 512x512, 19 classes, {count} ops on the CPU)"


def test_without_pillow_arrays_work_and_paths_do_not(parser, portrait, tmp_path):
    np.save(tmp_path / "photo.npy", portrait)
    code = f"""
import numpy as np
from keras_bisenet import FaceParser
parser = FaceParser()
np.save({str(tmp_path / "labels.npy")!r}, parser(np.load({str(tmp_path / "photo.npy")!r})))
try:
    parser("keras_bisenet/assets/astronaut_face.png")
except ValueError as error:
    print(error)
"""
    assert "pip install pillow" in run_without(code, ("PIL", "tqdm", *HEAVY))
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), parser(portrait))


# What peers make: the same small network, converted by TensorFlow in many ways. Those whose signature has names of ours
# are in tflite/test_signature_names.py.


def conv(channels, stride=1):
    return keras.layers.Conv2D(channels, 3, stride, "same", bias_initializer="random_normal")


def network(*heads, before=(), channels_first=False, size=SIZE):
    """A Keras model of raw inputs: a convolution with five classes behind what comes `before` it.

    Its outputs are what each head makes of that; without heads it is the convolution's own.
    """
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((3, *size) if channels_first else (*size, 3), batch_size=1, name="photo")
    for layer in [keras.layers.Permute((2, 3, 1)), *before] if channels_first else before:
        x = layer(x)
    x = conv(CLASSES)(x)
    return keras.Model(inputs, [head(x) for head in heads] or x)


argmax = keras.layers.Lambda(lambda x: tf.argmax(x, -1, tf.int32))
uint8_with_an_axis = keras.layers.Lambda(lambda x: tf.cast(tf.argmax(x, -1), tf.uint8)[..., tf.newaxis])


def to_channels_first(x):
    return ops.transpose(x, (0, 3, 1, 2))


def run(model, image, normalize=normalized):
    """What a model gives an image `[H, W, 3]` uint8 RGB: a list of arrays without the first axis."""
    inputs = normalize(image[np.newaxis])
    inputs = inputs if model.inputs[0].shape[-1] == 3 else inputs.transpose(0, 3, 1, 2)
    return [output.numpy()[0] for output in keras.tree.flatten(model(inputs))]


@pytest.fixture(scope="module")
def image(portrait):
    """The bundled photo at the size of the small network."""
    return images.resize(portrait, SIZE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tflite"


@pytest.fixture
def opened(path):
    """A function: converts a Keras model, with settings of the converter, and opens it, with options of the parser."""

    def convert_and_open(model, settings=None, **options):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        for name, value in (settings or {}).items():
            setattr(converter, name, value)
        path.write_bytes(converter.convert())
        return FaceParser(path, **options)

    return convert_and_open


def quantized(*examples):
    """Settings of the converter for an int8 file that is calibrated with normalized photos `[1, H, W, 3]`."""
    return {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: ([example] for example in examples),
        "target_spec": tf.lite.TargetSpec([tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
        "inference_input_type": tf.int8,
        "inference_output_type": tf.int8,
    }


NORMALIZED = {
    "imagenet": normalized,
    "0..1": lambda x: x.astype(np.float32) / 255,
    "0..255": lambda x: x.astype(np.float32),
    "-1..1": lambda x: x.astype(np.float32) / 127.5 - 1,
}
STATISTICS = {"mean": [0.485, 0.456, 0.406], "variance": [0.229**2, 0.224**2, 0.225**2]}
INSIDE = {
    "imagenet": [],
    "0..1": [keras.layers.Normalization(**STATISTICS)],
    "0..255": [keras.layers.Rescaling(1 / 255), keras.layers.Normalization(**STATISTICS)],
}


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("expects", INSIDE)
def test_what_a_float_file_expects_is_read_from_its_graph(opened, image, expects, channels_first):
    model = network(before=INSIDE[expects], channels_first=channels_first)
    parser = opened(model)
    (logits,) = run(model, image, NORMALIZED[expects])
    assert (parser.num_classes, parser.image_size) == (CLASSES, SIZE)
    assert len(np.unique(logits.argmax(-1))) > 1
    assert (parser(image) == logits.argmax(-1)).mean() > 0.999
    np.testing.assert_allclose(parser.probabilities(image), softmax(logits, -1), atol=1e-4)


@pytest.mark.parametrize("expects", NORMALIZED)
def test_what_cannot_be_read_can_be_said(opened, image, expects):
    (logits,) = run(network(), image, NORMALIZED[expects])
    assert (opened(network(), normalization=expects)(image) == logits.argmax(-1)).mean() > 0.999


@pytest.mark.parametrize("expects", NORMALIZED)
def test_the_range_of_a_quantized_input_tells_what_it_is(opened, image, expects):
    photos = image, np.full_like(image, 255), np.zeros_like(image)
    parser = opened(network(), quantized(*(NORMALIZED[expects](photo[np.newaxis]) for photo in photos)))
    (logits,) = run(network(), image, NORMALIZED[expects])
    assert (parser(image) == logits.argmax(-1)).mean() > 0.97
    assert np.abs(parser.probabilities(image) - softmax(logits, -1)).mean() < 0.02


def test_a_normalization_that_nobody_has():
    with refused(ModelError, "'0..2'", "0..255, 0..1, -1..1, imagenet"):
        FaceParser(normalization="0..2")


@pytest.mark.parametrize(
    ("head", "missing"),
    [
        (argmax, {}),
        (uint8_with_an_axis, dict.fromkeys(("probabilities", "logits"), "labels alone")),
        (ops.softmax, {"logits": "returns probabilities"}),
        (to_channels_first, {}),
    ],
    ids=["labels", "labels with an axis more", "probabilities", "channels first"],
)
def test_any_output(opened, image, path, head, missing):
    parser = opened(network(head))
    (logits,) = run(network(), image)
    np.testing.assert_array_equal(parser(image), logits.argmax(-1))
    for method, expected, tolerance in (("probabilities", softmax(logits, -1), 1e-5), ("logits", logits, 1e-4)):
        if method in missing:
            with refused(ModelError, path, missing[method]):
                getattr(parser, method)(image)
        else:
            np.testing.assert_allclose(getattr(parser, method)(image), expected, atol=tolerance)


def test_of_several_heads_the_largest_counts(opened, image):
    model = network(conv(CLASSES, 2), conv(CLASSES))
    assert (opened(model)(image) == run(model, image)[1].argmax(-1)).mean() > 0.999
    assert opened(model, output="output_0")(image).shape == SIZE


@pytest.mark.parametrize("other", [conv(1), conv(32), conv(32, 2)], ids=["depth", "features", "coarse features"])
def test_labels_win_over_other_maps(opened, image, other):
    model = network(other, argmax)
    assert (opened(model)(image) == run(model, image)[1]).mean() > 0.999


def test_features_do_not_win_over_scores(opened):
    model = network(conv(32), conv(19))
    with pytest.raises(ModelError, match=r"a\.tflite.*output_0 .*32.*output_1 .*19"):
        opened(model)
    assert opened(model, output="output_1").num_classes == 19
    # A depth, and scores.
    assert opened(network(conv(1), conv(6))).num_classes == 6


@pytest.mark.parametrize(("head", "threshold"), [(lambda x: x, 0.0), (ops.sigmoid, 0.5)], ids=["logit", "sigmoid"])
@pytest.mark.parametrize("rank", [3, 4])
def test_one_score_a_pixel_is_that_of_class_1(opened, image, head, threshold, rank):
    model = network(lambda x: head(conv(1)(x) if rank == 4 else conv(1)(x)[..., 0]))
    score = np.reshape(run(model, image)[0], SIZE)
    parser = opened(model)
    assert parser.num_classes == 2
    assert 0.01 < (score > threshold).mean() < 0.99
    assert (parser(image) == (score > threshold)).mean() > 0.999
    probability = score if threshold else 1 / (1 + np.exp(-score))
    np.testing.assert_allclose(parser.probabilities(image), np.stack([1 - probability, probability], -1), atol=1e-4)


def test_a_quantized_score_is_no_label(opened, image):
    model = network(lambda x: ops.sigmoid(conv(1)(x)))
    score = run(model, image)[0][..., 0]
    parser = opened(model, quantized(normalized(image)))
    assert (parser(image) == (score > 0.5)).mean() > 0.97
    assert np.abs(parser.probabilities(image)[..., 1] - score).mean() < 0.02


def test_what_adds_up_to_1_is_probabilities(opened, image):
    """Of a softmax in several ops, which the graph does not name."""
    scores = conv(CLASSES)
    model = network(lambda x: ops.exp(scores(x)) / ops.sum(ops.exp(scores(x)), -1, keepdims=True))
    (expected,) = run(model, image)
    np.testing.assert_allclose(opened(model).probabilities(image), expected, atol=1e-5)


@pytest.mark.parametrize("classes", [5, 40])
def test_quantized_probabilities_stay(opened, image, classes):
    """Rounded to 256 steps they add up to 1 but for half a step a class."""
    model = network(lambda x: ops.softmax(40 * conv(classes)(x)))
    (expected,) = run(model, image)
    found = opened(model, quantized(normalized(image))).probabilities(image)
    assert expected.max() > 0.9
    assert abs(found.max() - expected.max()) < 0.05
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.parametrize(
    ("classes", "size", "channels_first"),
    [(19, (64, 64), False), (151, (260, 260), False), (19, (64, 96), True), (16, (64, 64), False)],
)
def test_the_photo_tells_where_the_channels_of_coarse_scores_are(opened, portrait, classes, size, channels_first):
    """And they are enlarged before the best is chosen."""
    coarse = conv(classes, 4)
    model = network(lambda x: to_channels_first(coarse(x)) if channels_first else coarse(x), size=size)
    parser = opened(model)
    assert parser.num_classes == classes
    image = images.resize(portrait, size)
    (scores,) = run(model, image)
    planes = np.ascontiguousarray(scores if channels_first else scores.transpose(2, 0, 1))
    expected = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR) for plane in planes]
    assert (parser(image) == np.argmax(expected, 0)).mean() > 0.999


def test_what_is_assumed_of_a_photo_is_told(opened, path):
    """A Rescaling may be folded into the convolution: nothing tells it from one that takes normalized photos."""
    with pytest.warns(UserWarning, match=r"a\.tflite: does not say how photos are normalized.*normalization="):
        opened(network())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FaceParser(path, normalization="0..1")
        FaceParser()


def test_integers_that_stand_for_themselves_are_pixels(portrait, path, tmp_path):
    """Whatever mean and deviation the metadata give: the file computes with them inside."""
    model = BiSeNet(CLASSES, width=0.0625)
    for_pixels = to_tflite(model, SIZE, "float32", "uint8", "labels", info=INFO)
    file = flatbuffer.unpack(for_pixels)
    for_floats = flatbuffer.unpack(to_tflite(model, SIZE, "float32", "float32", "labels", info=INFO))
    # The metadata of the file that takes normalized floats, in the one that takes pixels.
    mine, other = (
        next(entry.buffer for entry in each.metadata if entry.name == b"TFLITE_METADATA") for each in (file, for_floats)
    )
    file.buffers[mine].data = for_floats.buffers[other].data
    path.write_bytes(flatbuffer.pack(file))
    (tmp_path / "b.tflite").write_bytes(for_pixels)
    np.testing.assert_array_equal(FaceParser(path)(portrait), FaceParser(tmp_path / "b.tflite")(portrait))
    with pytest.raises(ModelError, match=r"a\.tflite: takes uint8 .* normalization is 'imagenet'"):
        FaceParser(path, normalization="imagenet")


def test_metadata_comes_first(path):
    """A file of ours takes normalized floats and says so: without its metadata the graph would tell the same."""
    content = to_tflite(narrow((4,) * 8, CLASSES), (32, 32), "float32", "float32", "logits", info=INFO)
    path.write_bytes(content)
    assert FaceParser(path).class_names == tuple("abcde")
    rules = model_io.read("a", content)
    np.testing.assert_allclose(rules.scale, model_io.NORMALIZATIONS["imagenet"][0], rtol=1e-6)
    np.testing.assert_allclose(rules.offset, model_io.NORMALIZATIONS["imagenet"][1], rtol=1e-6)
    # Repacking a file with another tool loses the archive of labels behind it; mean and deviation are inside.
    repacked = flatbuffer.pack(flatbuffer.unpack(content))
    found, expected = (metadata.of_others(each, flatbuffer.unpack(each)) for each in (repacked, content))
    assert "labels" not in found
    np.testing.assert_allclose(found["normalization"], expected["normalization"])


def test_a_file_that_takes_any_size(opened, portrait):
    model = network(size=(None, None))
    assert opened(model).image_size == model_io.DEFAULT_SIZE
    image = images.resize(portrait, (40, 56))
    labels = opened(model, image_size=(40, 56))(image)
    assert (labels == run(model, image)[0].argmax(-1)).mean() > 0.999


def test_a_keras_model_sees_the_photo_at_512(parser, portrait):
    keras_parser = FaceParser(default_model())
    assert (keras_parser.image_size, keras_parser.class_names) == ((512, 512), LABELS)
    assert (keras_parser(portrait) == parser(portrait)).mean() > 0.995
    assert FaceParser(default_model(), image_size=(64, 96)).probabilities(portrait).shape == (240, 240, 19)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("none.tflite", ["none.tflite", "No such file"]),
        ("none.keras", ["none.keras", "no such file"]),
        ("model.onnx", ["model.onnx", ".tflite or .keras"]),
        (".", [".: ", ".tflite or .keras"]),
        ("x.pth", ["x.pth: is a PyTorch checkpoint", "port_and_export.py --checkpoint x.pth"]),
        (7, ["int"]),
    ],
)
def test_what_is_no_model(model, named):
    with refused(ModelError, *named):
        FaceParser(model)


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (keras.layers.GlobalAveragePooling2D(), [1, 5]),
        (lambda x: ops.reshape(x, (1, SIZE[0] * SIZE[1], CLASSES))[:, :7, :1], [1, 7, 1]),
    ],
    ids=["classifier", "detector"],
)
def test_what_is_no_segmentation_model(opened, path, head, shape):
    with refused(ModelError, path, f"float32 {[1, *SIZE, 3]}", f"float32 {shape}"):
        opened(network(head))


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"builtinCode": 32, "deprecatedBuiltinCode": 32, "customCode": "MadeUp"}, "MadeUp"),
        ({"version": 100}, "LiteRT cannot run it: Didn't find op for builtin opcode"),
    ],
    ids=["unknown ops", "ops of a version to come"],
)
def test_a_file_that_litert_cannot_run(path, attributes, found):
    model = flatbuffer.unpack(BUNDLED.read_bytes())
    for code in model.operatorCodes:
        vars(code).update(attributes)
    path.write_bytes(flatbuffer.pack(model))
    with refused(ModelError, path, found):
        FaceParser(path)


@pytest.mark.parametrize(
    ("photo", "named"),
    [
        (np.zeros((4, 4, 3), np.float32), ["float32 [4, 4, 3]"]),
        (np.zeros((4, 4, 3), np.uint16), ["uint16 [4, 4, 3]"]),
        (np.zeros((4, 4, 4), np.uint8), ["uint8 [4, 4, 4]"]),
        (np.zeros((0, 4, 3), np.uint8), ["uint8 [0, 4, 3]"]),
        (7, ["int"]),
        # What OpenCV gives for a file that it cannot read.
        (None, ["None", "cv2.imread"]),
    ],
)
def test_what_is_no_photo(parser, photo, named):
    with refused(ImageError, *named):
        parser(photo)


def test_importing_the_package_needs_no_keras_and_keras_finds_the_class():
    code = "import keras_bisenet; print([name for name in sys.modules if name in ('keras', 'tensorflow', 'PIL')])"
    assert run_without(code, HEAVY).strip() == "[]"
    code = "import keras, keras_bisenet, json; print(json.dumps(sorted(keras.saving.get_custom_objects())))"
    registered = json.loads(run_without(code, ["torch"]).splitlines()[-1])
    assert "keras_bisenet>BiSeNet" in registered
    code = """
import keras_bisenet
for name in ("FaceParser", "BiSeNet"):
    try:
        getattr(keras_bisenet, name)
    except ModuleNotFoundError as error:
        print(error)
"""
    assert run_without(code, ["keras", "ai_edge_litert"]).splitlines() == [
        "FaceParser needs ai_edge_litert: pip install '.[runtime]' in the checkout, or 'WHEEL[runtime]'",
        "BiSeNet needs keras: pip install '.[tf]' in the checkout, or 'WHEEL[tf]'",
    ]
    with pytest.raises(AttributeError, match="module 'keras_bisenet' has no attribute 'bogus'"):
        keras_bisenet.bogus  # noqa: B018
    assert {"BiSeNet", "FaceParser", "LABELS"} <= set(dir(keras_bisenet))


def test_photos_that_take_more_memory_than_there_is(monkeypatch):
    """Of a network whose size is known; small photos are not asked about."""
    monkeypatch.setattr(memory, "free", lambda: 2**20)
    photo = np.zeros((64, 64, 3), np.uint8)
    with refused(ImageError, "2048x2048"):
        FaceParser(BiSeNet(3, width=0.25), image_size=(2048, 2048))(photo)
    assert FaceParser(BiSeNet(3, width=0.25), image_size=(64, 64))(photo).shape == (64, 64)
