"""The SavedModel against PyTorch and Pillow, loaded the way TF Serving loads it."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, PngImagePlugin
from scipy import special
from support.files import names
from support.fresh_python import run_without
from support.ported import default_model, default_reference, default_state, normalized
from support.refusals import refused
from tensorflow.core.protobuf import saved_model_pb2

from keras_bisenet import LABELS, BiSeNet
from keras_bisenet.export import saved_model
from keras_bisenet.utils import images
from keras_bisenet.utils.atomic import staged
from keras_bisenet.utils.errors import ExportError, OutputError
from weight_port import parity

# What `serving_bytes` resizes to; the bundled photo has 240x240 pixels.
SIZE = (96, 160)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The default checkpoint as a SavedModel with probabilities."""
    return saved_model.write(default_model(), tmp_path_factory.mktemp("export"), SIZE, "probabilities")


@pytest.fixture(scope="module")
def loaded(folder):
    return tf.saved_model.load(str(folder))


def parse(model, photos):
    results = model.signatures["serving_default"](image=tf.constant(photos))
    return {name: result.numpy() for name, result in results.items()}


def parse_bytes(model, *files):
    results = model.signatures["serving_bytes"](image_bytes=tf.constant(files, tf.string))
    return {name: result.numpy() for name, result in results.items()}


def check_kinds(results, count, size):
    """The results must be labels and probabilities of so many photos."""
    assert {name: (result.dtype, result.shape) for name, result in results.items()} == {
        "labels": (np.uint8, (count, *size)),
        "probabilities": (np.float32, (count, *size, 19)),
    }


def expected(photos):
    """PyTorch's logits of the main head."""
    return default_reference()(normalized(photos))[0]


def photos(height, width, count):
    """`count` different views of the bundled photo."""
    photo = images.read(images.BUNDLED, (height, width))
    return np.stack([photo, photo[:, ::-1], 255 - photo][:count])


@pytest.mark.parametrize(("count", "size"), [(1, SIZE), (3, (133, 97)), (2, (32, 33))])
def test_equals_pytorch(loaded, count, size):
    batch = photos(*size, count)
    results, logits = parse(loaded, batch), expected(batch)
    check_kinds(results, count, size)
    difference = parity.compare(logits, loaded.logits(batch).numpy(), results["labels"])
    assert parity.TOLERANCES["float32"].holds(difference), difference
    exact = special.softmax(logits.astype(np.float64), -1)
    np.testing.assert_allclose(results["probabilities"], exact, rtol=0, atol=2e-5)


def encode(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def noted(text):
    """A note for a PNG, which comes before its pixels."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", text)
    return info


@functools.cache
def files():
    """Encoded photos of every kind that is promised: name -> content of the file."""
    photo = Image.open(images.BUNDLED).convert("RGB").crop((20, 0, 220, 180))
    gray, deep = photo.convert("L"), np.random.default_rng(0).integers(0, 65536, (50, 60), np.uint16)
    cut_out = photo.copy()
    cut_out.putalpha(Image.radial_gradient("L").resize(photo.size))
    return {
        "png": encode(photo, "PNG"),
        "jpeg": encode(photo, "JPEG"),
        "progressive jpeg": encode(photo, "JPEG", progressive=True, quality=95, subsampling=0),
        "gray jpeg": encode(gray, "JPEG"),
        "cmyk jpeg": encode(photo.convert("CMYK"), "JPEG"),
        "gray png": encode(gray, "PNG"),
        "16-bit png": encode(Image.fromarray(deep), "PNG"),
        "rgba png": encode(cut_out, "PNG"),
        "gray and alpha png": encode(cut_out.convert("LA"), "PNG"),
        "gray png, one value transparent": encode(gray, "PNG", transparency=200),
        "palette png": encode(photo.quantize(200), "PNG"),
        "palette png, one color transparent": encode(photo.quantize(4), "PNG", transparency=1),
        # TensorFlow gives the opaque pixels of these an alpha that is not 255.
        "1-bit png": encode(photo.convert("1"), "PNG"),
        "2-bit png": encode(photo.quantize(4), "PNG", bits=2),
        "4-bit png": encode(photo.quantize(16), "PNG", bits=4),
        # A text may hold the names of chunks.
        "1-bit png, tRNS in a text": encode(photo.convert("1"), "PNG", pnginfo=noted("of tRNS chunks")),
        "2-bit png, tRNS after IDAT in a text": encode(photo.quantize(4), "PNG", bits=2, pnginfo=noted("IDAT tRNS")),
        "palette png, one color transparent, IDAT in a text": encode(
            photo.quantize(4), "PNG", transparency=1, pnginfo=noted("IDAT")
        ),
        "gray png, one value transparent, IEND in a text": encode(
            gray, "PNG", transparency=200, pnginfo=noted("\0\0\0\0IEND")
        ),
    }


@pytest.mark.parametrize("name", files())
def test_pixels_equal_what_pillow_reads(name, tmp_path):
    (tmp_path / "photo").write_bytes(files()[name])
    expected = images.read(tmp_path / "photo")
    result = saved_model.decode(files()[name], expected.shape[:2]).numpy()
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", [(512, 512), SIZE, (333, 517)])
def test_resized_pixels_are_within_one_of_pillow(size):
    expected = images.read(images.BUNDLED, size).astype(int)
    difference = np.abs(saved_model.decode(images.BUNDLED.read_bytes(), size).numpy() - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.2


def test_files_of_different_sizes_in_one_batch(loaded):
    batch = files().values()
    results = parse_bytes(loaded, *batch)
    check_kinds(results, len(batch), SIZE)
    of_pixels = parse(loaded, np.stack([saved_model.decode(content, SIZE) for content in batch]))
    np.testing.assert_allclose(results["probabilities"], of_pixels["probabilities"], rtol=0, atol=1e-5)
    assert (results["labels"] == of_pixels["labels"]).mean() > 0.9999
    # And as PyTorch says of the bundled photo.
    labels = parse_bytes(loaded, images.BUNDLED.read_bytes())["labels"]
    assert (labels == expected(photos(*SIZE, 1)).argmax(-1)).mean() > 0.998


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Input is empty"),
        (b"not an image", "Unknown image file format"),
        (images.BUNDLED.read_bytes()[:30_000], "Invalid PNG data"),
        (b"\x89PNG\r\n\x1a\n", "Invalid PNG"),
        (images.BUNDLED.read_bytes()[:33] + b"\xff\xff\xff\xfftEXt", "Invalid PNG"),
        (images.BUNDLED.read_bytes()[:33] + b"\x7f\xff\xff\xfftEXt" + bytes(9), "Invalid PNG"),
        (files()["jpeg"][:2000], "Invalid JPEG data"),
    ],
    ids=["empty", "text", "truncated png", "png signature alone", "no length", "long chunk", "truncated jpeg"],
)
def test_a_broken_file_among_good_ones(loaded, content, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        parse_bytes(loaded, files()["jpeg"], content)


def test_only_the_main_head_and_every_weight_once(folder):
    main = sum(
        array.size
        for key, array in default_state().items()
        if not key.startswith(("conv_out16.", "conv_out32.")) and not key.endswith("num_batches_tracked")
    )
    stored = dict(tf.train.list_variables(str(folder / "variables" / "variables")))
    del stored["_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert sum(int(np.prod(shape)) for shape in stored.values()) == main
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert main * 4 < size < main * 4 + 1_000_000
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    counts = {sum(node.op == "Conv2D" for node in function.node_def) for function in functions}
    # The 38 convolutions of the network less three in each auxiliary head.
    assert counts == {0, 32}


LOAD = """
import sys
sys.modules["keras"] = sys.modules["keras_bisenet"] = None
import tensorflow as tf
loaded = tf.saved_model.load({folder!r})
photo = tf.io.read_file({photo!r})
labels = loaded.signatures["serving_bytes"](image_bytes=photo[tf.newaxis])["labels"]
names = tf.io.read_file(loaded.class_names.asset_path).numpy().decode().splitlines()
print(*(names[label] for label in set(labels.numpy().flat)))
"""


def test_another_process_loads_it_without_keras(folder, loaded, tmp_path):
    moved = tmp_path / "moved"
    folder.rename(moved)
    try:
        code = LOAD.format(folder=str(moved), photo=str(images.BUNDLED))
        found = set(run_without(code).split())
    finally:
        moved.rename(folder)
    labels = parse(loaded, photos(*SIZE, 1))["labels"]
    assert found == {LABELS[label] for label in np.unique(labels)}
    assert "hair" in found
    assert (folder / "assets" / "labels.txt").read_text().splitlines() == list(LABELS)


def test_any_model_is_served_in_float32_at_any_size(loaded, tmp_path):
    """And with its labels alone, unless probabilities are asked for."""
    model = BiSeNet(dtype="mixed_bfloat16", input_shape=(64, 64, 3))
    model.set_weights(default_model().get_weights())
    folder = saved_model.write(model, tmp_path, (64, 64))
    assert folder == tmp_path / "saved_model" / "1"
    other, batch = tf.saved_model.load(str(folder)), photos(*SIZE, 2)
    np.testing.assert_allclose(other.logits(batch), loaded.logits(batch), rtol=0, atol=1e-4)
    results = parse(other, batch)
    assert results.keys() == parse_bytes(other, files()["png"]).keys() == {"labels"}
    assert (results["labels"] == parse(loaded, batch)["labels"]).mean() > 0.9999


@pytest.mark.parametrize(
    ("classes", "arguments", "found"),
    [
        (2, {"output": "logits"}, ["'logits'", "labels, probabilities"]),
        (2, {"image_size": (64, 31)}, ["64x31", "32"]),
        (257, {}, ["257 classes"]),
        (2, {"class_names": LABELS}, ["19 class names for 2 classes"]),
    ],
)
def test_bad_arguments(classes, arguments, found, tmp_path):
    with refused(ExportError, *found):
        saved_model.write(BiSeNet(classes, width=0.0625), tmp_path, **{"image_size": (64, 64), **arguments})
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    with refused(OutputError, tmp_path, "saved_model is not a directory"), staged(tmp_path) as folder:
        (folder / "saved_model").write_text("a file")
        saved_model.write(default_model(), folder, (64, 64))
    assert names(tmp_path) == []
