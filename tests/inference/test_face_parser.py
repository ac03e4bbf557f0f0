"""FaceParser: any photo in, any model behind it, labels of the photo's size out."""

import hashlib
import json
import os
import signal
import threading
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from PIL import Image
from support.fresh_python import run_without
from support.networks import narrow
from support.paths import DEFAULT_CHECKPOINT
from support.ported import default_model, default_reference, normalized
from support.refusals import check_line, refused

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


@pytest.fixture(scope="module")
def parser():
    return FaceParser()


@pytest.fixture(scope="module")
def photo():
    return images.read(images.BUNDLED)


@pytest.fixture(scope="module")
def expected(photo):
    """What PyTorch says of the bundled photo at the size of the network."""
    return default_reference()(normalized(images.resize(photo, (512, 512))))[0][0]


def test_the_default_says_what_pytorch_says(parser, photo, expected):
    assert (parser.num_classes, parser.class_names, parser.image_size) == (19, LABELS, (512, 512))
    labels = parser(photo)
    assert (labels.dtype, labels.shape) == (np.uint8, photo.shape[:2])
    assert (labels == resizing.resize_labels(expected.argmax(-1), labels.shape)).mean() > 0.995
    # Of a photo of the network's size there is nothing to resize.
    assert (parser(images.resize(photo, (512, 512))) == expected.argmax(-1)).mean() > 0.997


def test_logits_are_those_of_pytorch(parser, photo, expected):
    logits = parser.logits(images.resize(photo, (512, 512)))
    assert (logits.dtype, logits.shape) == (np.float32, (512, 512, 19))
    assert np.abs(logits - expected).mean() < 0.04
    assert parser.logits([photo])[0].shape == (*photo.shape[:2], 19)


def test_a_photo_divided_by_255_is_background(parser, photo):
    """What docs/TROUBLESHOOTING.md calls the sign of it."""
    assert (parser(photo // 255) == 0).mean() > 0.98


def test_probabilities_are_those_of_pytorch(parser, photo, expected):
    probabilities = parser.probabilities(images.resize(photo, (512, 512)))
    softmax = np.exp(expected - expected.max(-1, keepdims=True))
    softmax /= softmax.sum(-1, keepdims=True)
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (512, 512, 19))
    # int8: few pixels differ by much.
    assert np.abs(probabilities - softmax).mean() < 1e-3
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    resized = parser.probabilities(photo)
    assert resized.shape == (*photo.shape[:2], 19)
    np.testing.assert_allclose(resized.sum(-1), 1, atol=1e-4)
    assert (resized.argmax(-1) == parser(photo)).mean() > 0.98


def test_the_bundled_file_is_of_the_default_checkpoint():
    assert metadata.read(BUNDLED.read_bytes())["checkpoint_sha256"] == manifest.sha256(DEFAULT_CHECKPOINT)


@pytest.mark.parametrize(
    ("name", "width", "most_bytes"), [("fast", 0.5, 3_600_000), ("tiny", 0.25, 1_000_000)], ids=["fast", "tiny"]
)
def test_a_smaller_file_is_of_its_checkpoint(photo, name, width, most_bytes):
    checkpoint = manifest.locate(name, DEFAULT_CHECKPOINT.with_name("manifest.json"))
    file = metadata.read(NAMES[name].read_bytes())
    assert (file["checkpoint_sha256"], file["license"]) == (checkpoint.sha256, checkpoint.license)
    state = weight_port.load(checkpoint.path)
    architecture = weight_port.recognize(state)
    assert (architecture.width, architecture.num_classes) == (width, 19)
    parser = FaceParser(name)
    assert (parser.image_size, parser.class_names) == ((512, 512), LABELS)
    image = images.resize(photo, (512, 512))
    logits, *_ = torch_network.Reference(state, architecture)(normalized(image))
    assert (parser(image) == logits[0].argmax(-1)).mean() > 0.99
    assert NAMES[name].stat().st_size <= most_bytes


def test_all_kinds_of_photos_say_the_same(parser, photo, tmp_path):
    labels = parser(photo)
    for kind in (str(images.BUNDLED), images.BUNDLED, Image.open(images.BUNDLED), photo[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(parser(kind), labels)
    turned = Image.open(images.BUNDLED).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(parser(tmp_path / "turned.png"), labels)
    gray = photo[..., 1]
    for kind in (gray, gray[..., np.newaxis], Image.fromarray(gray)):
        np.testing.assert_array_equal(parser(kind), parser(np.stack([gray] * 3, -1)))


def test_batches(parser, photo):
    wide = np.ascontiguousarray(photo[60:180])
    labels, wide_labels = parser([photo, wide])
    np.testing.assert_array_equal(labels, parser(photo))
    np.testing.assert_array_equal(wide_labels, parser(wide))
    assert wide_labels.shape == (120, 240)
    batch = parser(np.stack([photo, photo[:, ::-1]]))
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


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (31, 33), (1200, 900)])
def test_photos_of_any_size(parser, photo, size):
    assert parser(images.resize(photo, size)).shape == size


def test_threads_change_nothing(parser, photo):
    """That several threads may share one parser is tested in robustness/test_concurrency.py."""
    np.testing.assert_array_equal(FaceParser(num_threads=1)(photo), parser(photo))


def run_forked(function):
    """What a function returns, or the `ModelError` that it raises, as text, in a fork of this process."""
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)  # ends it where it hangs
        try:
            os.write(sink, str(function()).encode())
        except ModelError as error:
            os.write(sink, str(error).encode())
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source) as file:
        text = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return text


def test_a_fork_while_another_thread_parses(parser, photo):
    """The lock that the thread has, and the threads of LiteRT, are not in the new process."""
    expected = hashlib.sha256(parser(photo).tobytes()).hexdigest()
    ended = threading.Event()

    def work():
        while not ended.is_set():
            parser(photo)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(3):
            assert run_forked(lambda: hashlib.sha256(parser(photo).tobytes()).hexdigest()) == expected
    finally:
        ended.set()
        thread.join()
    assert hashlib.sha256(parser(photo).tobytes()).hexdigest() == expected


def test_a_fork_refuses_what_keras_has_opened(photo):
    parser = FaceParser(BiSeNet(CLASSES), image_size=(32, 32))
    assert parser(photo).shape == photo.shape[:2]
    text = run_forked(lambda: parser(photo))
    check_line(text, ["the model", "forked"])
    assert parser(photo).shape == photo.shape[:2]


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


def test_none_is_what_opencv_gives_for_a_file_that_it_cannot_read(parser):
    with pytest.raises(ImageError, match=r"None.*cv2\.imread"):
        parser(None)


def test_a_checkpoint_is_to_be_exported_first():
    with pytest.raises(ModelError, match=r"^x\.pth: is a PyTorch checkpoint.*port_and_export\.py --checkpoint x\.pth"):
        FaceParser("x.pth")


def test_without_pillow_arrays_work_and_paths_do_not(parser, photo, tmp_path):
    np.save(tmp_path / "photo.npy", photo)
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
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), parser(photo))


# What peers make: the same small network, converted by TensorFlow in many ways.


def network(before=(), channels_first=False, stride=1, head=None):
    """A convolution with five classes behind what comes `before` it, as a Keras model of raw inputs."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((3, *SIZE) if channels_first else (*SIZE, 3), batch_size=1, name="photo")
    if channels_first:
        x = keras.layers.Permute((2, 3, 1))(x)
    for layer in before:
        x = layer(x)
    x = keras.layers.Conv2D(CLASSES, 3, stride, "same", bias_initializer="random_normal")(x)
    x = x if head is None else head(x)
    return keras.Model(inputs, x)


def convert(model, path, **settings):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in settings.items():
        setattr(converter, name, value)
    path.write_bytes(converter.convert())
    return path


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
def test_what_a_float_file_expects_is_read_from_its_graph(photo, tmp_path, expects, channels_first):
    model = network(INSIDE[expects], channels_first)
    parser = FaceParser(convert(model, tmp_path / "a.tflite"))
    image = images.resize(photo, SIZE)
    inputs = NORMALIZED[expects](image[np.newaxis])
    logits = model(inputs.transpose(0, 3, 1, 2) if channels_first else inputs).numpy()[0]
    assert (parser.num_classes, parser.image_size) == (CLASSES, SIZE)
    assert len(np.unique(logits.argmax(-1))) > 1
    assert (parser(image) == logits.argmax(-1)).mean() > 0.999
    softmax = ops.convert_to_numpy(ops.softmax(logits))
    np.testing.assert_allclose(parser.probabilities(image), softmax, atol=1e-4)


@pytest.mark.parametrize("expects", NORMALIZED)
def test_what_cannot_be_read_can_be_said(photo, tmp_path, expects):
    model = network()
    image = images.resize(photo, SIZE)
    parser = FaceParser(convert(model, tmp_path / "a.tflite"), normalization=expects)
    labels = model(NORMALIZED[expects](image[np.newaxis])).numpy()[0].argmax(-1)
    assert (parser(image) == labels).mean() > 0.999


@pytest.mark.parametrize("expects", NORMALIZED)
def test_the_range_of_a_quantized_input_tells_what_it_is(photo, tmp_path, expects):
    model = network()
    image = images.resize(photo, SIZE)
    inputs = NORMALIZED[expects](image[np.newaxis])

    def examples():
        yield [inputs]
        yield [NORMALIZED[expects](np.full((1, *SIZE, 3), 255, np.uint8))]
        yield [NORMALIZED[expects](np.zeros((1, *SIZE, 3), np.uint8))]

    path = convert(
        model,
        tmp_path / "a.tflite",
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=examples,
        target_spec=tf.lite.TargetSpec([tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
        inference_input_type=tf.int8,
        inference_output_type=tf.int8,
    )
    parser = FaceParser(path)
    logits = model(inputs).numpy()[0]
    assert (parser(image) == logits.argmax(-1)).mean() > 0.97
    assert np.abs(parser.probabilities(image) - ops.convert_to_numpy(ops.softmax(logits))).mean() < 0.02


def test_a_normalization_that_nobody_has():
    with refused(ModelError, "'0..2'", "0..255, 0..1, -1..1, imagenet"):
        FaceParser(normalization="0..2")


def test_coarse_scores_are_enlarged_before_the_best_is_chosen(photo, tmp_path):
    model = network(stride=4)
    image = images.resize(photo, SIZE)
    scores = model(NORMALIZED["imagenet"](image[np.newaxis])).numpy()[0]
    assert scores.shape == (12, 16, CLASSES)
    expected = [
        np.asarray(Image.fromarray(np.ascontiguousarray(scores[..., one])).resize(SIZE[::-1], 2))
        for one in range(CLASSES)
    ]
    labels = FaceParser(convert(model, tmp_path / "a.tflite"))(image)
    assert (labels == np.argmax(expected, 0)).mean() > 0.999


@pytest.mark.parametrize(
    "head",
    [
        keras.layers.Lambda(lambda x: tf.argmax(x, -1, tf.int32)),
        keras.layers.Lambda(lambda x: tf.cast(tf.argmax(x, -1), tf.uint8)[..., tf.newaxis]),
        ops.softmax,
        lambda x: ops.transpose(x, (0, 3, 1, 2)),
    ],
    ids=["labels", "labels with an axis more", "probabilities", "channels first"],
)
def test_any_output(photo, tmp_path, head):
    image = images.resize(photo, SIZE)
    inputs = NORMALIZED["imagenet"](image[np.newaxis])
    parser = FaceParser(convert(network(head=head), tmp_path / "a.tflite"))
    logits = network()(inputs).numpy()[0]
    np.testing.assert_array_equal(parser(image), logits.argmax(-1))
    if parser.num_classes is None:
        with refused(ModelError, tmp_path / "a.tflite", "labels alone"):
            parser.probabilities(image)
    else:
        np.testing.assert_allclose(parser.probabilities(image), ops.convert_to_numpy(ops.softmax(logits)), atol=1e-5)
    if head is ops.softmax or parser.num_classes is None:
        with refused(ModelError, tmp_path / "a.tflite"):
            parser.logits(image)
    else:
        np.testing.assert_allclose(parser.logits(image), logits, atol=1e-4)


def test_of_several_heads_the_largest_counts_and_of_two_the_one_that_is_named(photo, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((*SIZE, 3), batch_size=1)
    heads = [keras.layers.Conv2D(CLASSES, 3, stride, "same")(inputs) for stride in (2, 1, 1)]
    model = keras.Model(inputs, heads)
    image = images.resize(photo, SIZE)
    _, first, second = (head[0].numpy().argmax(-1) for head in model(NORMALIZED["imagenet"](image[np.newaxis])))
    assert (first == second).mean() < 0.9
    path = convert(model, tmp_path / "a.tflite")
    with pytest.raises(ModelError, match=r"a\.tflite.*output_1.*output_2"):
        FaceParser(path)
    for output, labels in (("output_1", first), ("output_2", second)):
        assert (FaceParser(path, output=output)(image) == labels).mean() > 0.999
    assert FaceParser(path, output="output_0")(image).shape == SIZE
    path = convert(keras.Model(inputs, heads[:2]), tmp_path / "b.tflite")
    assert (FaceParser(path)(image) == first).mean() > 0.999


def outputs_of(*heads, size=SIZE):
    """A model of raw inputs with several outputs, each a function of one small feature map."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((*size, 3), batch_size=1, name="photo")
    x = keras.layers.Conv2D(CLASSES, 3, padding="same", bias_initializer="random_normal")(inputs)
    return keras.Model(inputs, [head(x) for head in heads])


def run(model, image):
    """What a model gives an image `[H, W, 3]` uint8 RGB: a list of arrays without the first axis."""
    return [output.numpy()[0] for output in keras.tree.flatten(model(NORMALIZED["imagenet"](image[np.newaxis])))]


def conv(channels, stride=1):
    return keras.layers.Conv2D(channels, 3, stride, "same", bias_initializer="random_normal")


argmax = keras.layers.Lambda(lambda x: tf.argmax(x, -1, tf.int32))


@pytest.mark.parametrize("other", [conv(1), conv(32), conv(32, 2)], ids=["depth", "features", "coarse features"])
def test_labels_win_over_other_maps(photo, tmp_path, other):
    model = outputs_of(other, argmax)
    image = images.resize(photo, SIZE)
    parser = FaceParser(convert(model, tmp_path / "a.tflite"), normalization="imagenet")
    expected = run(model, image)[1]
    assert (parser(image) == expected).mean() > 0.999


def test_features_do_not_win_over_scores(tmp_path):
    path = convert(outputs_of(conv(32), conv(19)), tmp_path / "a.tflite")
    with pytest.raises(ModelError, match=r"output_0 .*32.*output_1 .*19"):
        FaceParser(path)
    assert FaceParser(path, output="output_1").num_classes == 19
    # A depth, and scores.
    assert FaceParser(convert(outputs_of(conv(1), conv(6)), tmp_path / "b.tflite")).num_classes == 6


@pytest.mark.parametrize(("head", "threshold"), [(lambda x: x, 0.0), (ops.sigmoid, 0.5)], ids=["logit", "sigmoid"])
@pytest.mark.parametrize("rank", [3, 4])
def test_one_score_a_pixel_is_that_of_class_1(photo, tmp_path, head, threshold, rank):
    model = outputs_of(lambda x: head(conv(1)(x) if rank == 4 else conv(1)(x)[..., 0]))
    image = images.resize(photo, SIZE)
    score = np.reshape(run(model, image)[0], SIZE)
    parser = FaceParser(convert(model, tmp_path / "a.tflite"), normalization="imagenet")
    assert parser.num_classes == 2
    assert 0.01 < (score > threshold).mean() < 0.99
    assert (parser(image) == (score > threshold)).mean() > 0.999
    probability = score if threshold else 1 / (1 + np.exp(-score))
    np.testing.assert_allclose(parser.probabilities(image), np.stack([1 - probability, probability], -1), atol=1e-4)


def quantized(model, photo, path):
    inputs = NORMALIZED["imagenet"](images.resize(photo, SIZE)[np.newaxis])
    return convert(
        model,
        path,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([inputs] for _ in range(3)),
        target_spec=tf.lite.TargetSpec([tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
        inference_input_type=tf.int8,
        inference_output_type=tf.int8,
    )


def test_a_quantized_score_is_no_label(photo, tmp_path):
    model = outputs_of(lambda x: ops.sigmoid(conv(1)(x)))
    image = images.resize(photo, SIZE)
    score = run(model, image)[0][..., 0]
    parser = FaceParser(quantized(model, photo, tmp_path / "a.tflite"))
    assert (parser(image) == (score > 0.5)).mean() > 0.97
    assert np.abs(parser.probabilities(image)[..., 1] - score).mean() < 0.02


@pytest.mark.parametrize("classes", [5, 40])
def test_quantized_probabilities_stay(photo, tmp_path, classes):
    """Rounded to 256 steps they add up to 1 but for half a step a class."""
    model = outputs_of(lambda x: ops.softmax(40 * conv(classes)(x)))
    image = images.resize(photo, SIZE)
    (expected,) = run(model, image)
    found = FaceParser(quantized(model, photo, tmp_path / "a.tflite")).probabilities(image)
    assert expected.max() > 0.9
    assert abs(found.max() - expected.max()) < 0.05
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.parametrize(
    ("classes", "stride", "size", "channels_first"),
    [(19, 4, (64, 64), False), (151, 4, (260, 260), False), (19, 4, (64, 96), True), (16, 4, (64, 64), False)],
)
def test_the_photo_tells_where_the_channels_are(photo, tmp_path, classes, stride, size, channels_first):
    def head(x):
        x = conv(classes, stride)(x)
        return ops.transpose(x, (0, 3, 1, 2)) if channels_first else x

    model = outputs_of(head, size=size)
    parser = FaceParser(convert(model, tmp_path / "a.tflite"), normalization="imagenet")
    assert parser.num_classes == classes
    image = images.resize(photo, size)
    (scores,) = run(model, image)
    scores = scores.transpose(1, 2, 0) if channels_first else scores
    assert (parser(image) == resizing.resize_scores(scores, size).argmax(-1)).mean() > 0.999


def test_what_is_assumed_of_a_photo_is_told(tmp_path):
    """A Rescaling may be folded into the convolution: nothing tells it from one that takes normalized photos."""
    path = convert(network(), tmp_path / "a.tflite")
    with pytest.warns(UserWarning, match=r"a\.tflite: does not say how photos are normalized.*normalization="):
        FaceParser(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FaceParser(path, normalization="0..1")
        FaceParser()


def test_integers_that_stand_for_themselves_are_pixels(photo, tmp_path):
    """Whatever mean and deviation the metadata give: the file computes with them inside."""
    model = BiSeNet(CLASSES, width=0.0625)
    info = metadata.ModelInfo(classes.named("abcde"), "0" * 64)
    for_pixels = to_tflite(model, SIZE, "float32", "uint8", "labels", info=info)
    file = flatbuffer.unpack(for_pixels)
    for_floats = flatbuffer.unpack(to_tflite(model, SIZE, "float32", "float32", "labels", info=info))
    # The metadata of the file that takes normalized floats, in the one that takes pixels.
    mine, other = (
        next(entry.buffer for entry in each.metadata if entry.name == b"TFLITE_METADATA") for each in (file, for_floats)
    )
    file.buffers[mine].data = for_floats.buffers[other].data
    path = tmp_path / "a.tflite"
    path.write_bytes(flatbuffer.pack(file))
    (tmp_path / "b.tflite").write_bytes(for_pixels)
    np.testing.assert_array_equal(FaceParser(path)(photo), FaceParser(tmp_path / "b.tflite")(photo))
    with pytest.raises(ModelError, match=r"a\.tflite: takes uint8 .* normalization is 'imagenet'"):
        FaceParser(path, normalization="imagenet")


def test_a_lost_archive_of_labels_leaves_the_normalization():
    """Repacking a file with another tool loses the archive behind it; mean and deviation are inside."""
    model = BiSeNet(CLASSES, width=0.0625)
    info = metadata.ModelInfo(classes.named("abcde"), "0" * 64)
    content = to_tflite(model, (32, 32), "float32", "float32", "logits", info=info)
    repacked = flatbuffer.pack(flatbuffer.unpack(content))
    found = metadata.of_others(repacked, flatbuffer.unpack(repacked))
    assert "labels" not in found
    expected = metadata.of_others(content, flatbuffer.unpack(content))["normalization"]
    np.testing.assert_allclose(found["normalization"], expected)


def test_a_file_that_takes_any_size(photo, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3), batch_size=1)
    model = keras.Model(inputs, keras.layers.Conv2D(CLASSES, 3, padding="same")(inputs))
    path = convert(model, tmp_path / "a.tflite")
    assert FaceParser(path).image_size == model_io.DEFAULT_SIZE
    parser = FaceParser(path, image_size=(40, 56))
    image = images.resize(photo, (40, 56))
    expected = model(NORMALIZED["imagenet"](image[np.newaxis])).numpy()[0].argmax(-1)
    assert (parser(image) == expected).mean() > 0.999


def test_metadata_comes_first(tmp_path):
    """A file of ours takes normalized floats and says so: without its metadata the graph would tell the same."""
    info = metadata.ModelInfo(classes.named("abcde"), "0" * 64)
    content = to_tflite(narrow((4,) * 8, CLASSES), (32, 32), "float32", "float32", "logits", info=info)
    (tmp_path / "a.tflite").write_bytes(content)
    assert FaceParser(tmp_path / "a.tflite").class_names == tuple("abcde")
    rules = model_io.read("a", content)
    np.testing.assert_allclose(rules.scale, model_io.NORMALIZATIONS["imagenet"][0], rtol=1e-6)
    np.testing.assert_allclose(rules.offset, model_io.NORMALIZATIONS["imagenet"][1], rtol=1e-6)


def test_a_keras_model_sees_the_photo_at_512(parser, photo):
    keras_parser = FaceParser(default_model())
    assert (keras_parser.image_size, keras_parser.class_names) == ((512, 512), LABELS)
    assert (keras_parser(photo) == parser(photo)).mean() > 0.995
    assert FaceParser(default_model(), image_size=(64, 96)).probabilities(photo).shape == (240, 240, 19)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("none.tflite", "No such file"),
        ("none.keras", "no such file"),
        ("model.onnx", ".tflite or .keras"),
        (".", ".tflite or .keras"),
        (7, "int"),
    ],
)
def test_what_is_no_model(model, reason):
    with refused(ModelError, *([] if model == 7 else [model]), reason):
        FaceParser(model)


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (keras.layers.GlobalAveragePooling2D(), [1, 5]),
        (lambda x: ops.reshape(x, (1, SIZE[0] * SIZE[1], CLASSES))[:, :7, :1], [1, 7, 1]),
    ],
    ids=["classifier", "detector"],
)
def test_what_is_no_segmentation_model(tmp_path, head, shape):
    path = convert(network(head=head), tmp_path / "a.tflite")
    with refused(ModelError, path, f"float32 {[1, *SIZE, 3]}", f"float32 {shape}"):
        FaceParser(path)


def test_a_file_with_ops_that_litert_does_not_have(tmp_path):
    model = flatbuffer.unpack(BUNDLED.read_bytes())
    for code in model.operatorCodes:
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, "MadeUp"
    (tmp_path / "a.tflite").write_bytes(flatbuffer.pack(model))
    with refused(ModelError, tmp_path / "a.tflite", "MadeUp"):
        FaceParser(tmp_path / "a.tflite")


def test_a_file_that_litert_cannot_run(tmp_path):
    model = flatbuffer.unpack(BUNDLED.read_bytes())
    for code in model.operatorCodes:
        code.version = 100
    (tmp_path / "a.tflite").write_bytes(flatbuffer.pack(model))
    with pytest.raises(ModelError, match=r"a\.tflite: LiteRT cannot run it: Didn't find op for builtin opcode"):
        FaceParser(tmp_path / "a.tflite")


@pytest.mark.parametrize(
    ("photo", "found"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 [4, 4, 3]"),
        (np.zeros((4, 4, 3), np.uint16), "uint16 [4, 4, 3]"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 [4, 4, 4]"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 [0, 4, 3]"),
        (7, "int"),
    ],
)
def test_what_is_no_photo(parser, photo, found):
    with refused(ImageError, found):
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
        import keras_bisenet

        keras_bisenet.bogus  # noqa: B018
    assert {"BiSeNet", "FaceParser", "LABELS"} <= set(dir(keras_bisenet))


def test_photos_that_take_more_memory_than_there_is(monkeypatch):
    """Of a network whose size is known; small photos are not asked about."""
    parser = FaceParser(BiSeNet(3, width=0.25), image_size=(2048, 2048))
    monkeypatch.setattr(memory, "free", lambda: 2**20)
    with refused(ImageError, "2048x2048"):
        parser(np.zeros((64, 64, 3), np.uint8))
    assert FaceParser(BiSeNet(3, width=0.25), image_size=(64, 64))(np.zeros((64, 64, 3), np.uint8)).shape == (64, 64)
