"""MediaPipe reads the metadata, and its ImageSegmenter opens an exported file as it is."""

import functools
import pathlib
import re

import numpy as np
import pytest
import torch
from scipy import special
from support.networks import narrow
from support.ported import default_model
from torch.nn import functional

from keras_bisenet import LABELS, classes, preprocessing
from keras_bisenet.export import convert, deployment
from keras_bisenet.export.quantization import calibration
from keras_bisenet.tflite import flatbuffer, metadata, metadata_schema
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import images

pytestmark = pytest.mark.slow

try:
    import mediapipe
    from mediapipe.tasks import metadata as schemas
    from mediapipe.tasks.metadata import image_segmenter_metadata_schema_py_generated as segmenter_schema
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
    from mediapipe.tasks.python import BaseOptions, vision
    from mediapipe.tasks.python.core import mediapipe_c_bindings

    mediapipe_c_bindings.load_raw_library()
except (ImportError, OSError) as error:
    pytest.skip(
        f"{error}; get it by: pip install --constraint constraints.txt mediapipe && "
        "apt-get install libegl1 libgl1 libgles2 libglib2.0-0",
        allow_module_level=True,
    )

SIZE, SMALL = (512, 512), (96, 160)
SHA256 = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def small():
    """Makes files of a random network."""
    model = narrow((4,) * 8, 3)
    info = metadata.ModelInfo(classes.named("abc"), SHA256, "an author", "a license", "a model", "Does it.", "1.2.3")
    return functools.cache(lambda **options: convert.to_tflite(model, (64, 96), **options, info=info))


def table(content):
    """The bytes of a file's metadata."""
    model = flatbuffer.unpack(content)
    (entry,) = (entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    return model.buffers[entry.buffer].data.tobytes()


def described(content):
    """A file's metadata, as MediaPipe's generated code reads it: those of the model, and of its subgraph."""
    model = schema.ModelMetadataT.InitFromPackedBuf(table(content))
    (subgraph,) = model.subgraphMetadata
    return model, subgraph


def test_tables_are_those_of_the_schema():
    folder = pathlib.Path(*schemas.__path__)
    text = "".join((folder / f"{name}metadata_schema.fbs").read_text() for name in ("", "image_segmenter_"))
    text = re.sub(r"//.*", "", text)
    unions = re.findall(r"union (\w+)", text)
    enums = re.findall(r"enum (\w+)\s*:\s*byte", text)
    for name, fields in metadata_schema.TABLES.items():
        (body,) = re.findall(rf"table {name}\s*{{(.*?)}}", text, re.DOTALL)
        expected = []
        for field, kind in re.findall(r"(\w+)\s*:\s*(\[?\w+\]?)", body):
            if kind in unions:
                expected.append((f"{field}_type", "byte"))
            expected.append((field, "byte" if kind in enums else kind))
        # Of a union one member is named, and what follows the last field in use is left out.
        found = [
            (field, dict(expected)[field] if dict(expected)[field] in unions else kind)
            for field, kind in fields.items()
        ]
        assert found == expected[: len(fields)], name


@pytest.mark.parametrize("output", list(deployment.OUTPUTS))
@pytest.mark.parametrize("input_type", deployment.INPUTS)
def test_generated_code_writes_the_same_tables(small, input_type, output):
    content = table(small(input_type=input_type, output=output))
    builder = schema.flatbuffers.Builder()
    builder.Finish(schema.ModelMetadataT.InitFromPackedBuf(content).Pack(builder), b"M001")
    values = metadata_schema.unpack(content, "ModelMetadata", b"M001")
    assert values == metadata_schema.unpack(bytes(builder.Output()), "ModelMetadata", b"M001")


@pytest.mark.parametrize("input_type", deployment.INPUTS)
def test_image(small, input_type):
    """A reader that follows the metadata gives the network what our own `normalize` does."""
    (image,) = described(small(input_type=input_type))[1].inputTensorMetadata
    assert image.name == b"image"
    assert image.content.contentProperties.colorSpace == schema.ColorSpaceType.RGB
    if input_type == "uint8":
        assert image.description == b"Photo in RGB, 0 to 255. The model normalizes it."
        assert image.processUnits is None
        assert (image.stats.min, image.stats.max) == ([0], [255])
        return
    (unit,) = image.processUnits
    assert isinstance(unit.options, schema.NormalizationOptionsT)
    photo = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.float64)
    expected = preprocessing.normalize(photo, "float64")
    np.testing.assert_allclose((photo - unit.options.mean) / unit.options.std, expected, atol=1e-6)
    for stats, value in ((image.stats.min, 0), (image.stats.max, 255)):
        np.testing.assert_allclose(stats, preprocessing.normalize(np.full(3, value), "float64"), atol=1e-6)


@pytest.mark.parametrize("output", list(deployment.OUTPUTS))
def test_outputs(small, output):
    _, subgraph = described(small(output=output))
    assert [entry.name.decode() for entry in subgraph.outputTensorMetadata] == list(deployment.OUTPUTS[output])
    for entry in subgraph.outputTensorMetadata:
        assert entry.description
        assert entry.content.contentProperties.colorSpace == schema.ColorSpaceType.GRAYSCALE
        assert (entry.content.range.min, entry.content.range.max) == (1, 2)
        (labels,) = entry.associatedFiles
        assert labels.name == b"labels.txt"
        kinds = schema.AssociatedFileType
        assert labels.type == (kinds.TENSOR_VALUE_LABELS if output == "labels" else kinds.TENSOR_AXIS_LABELS)
    stats = subgraph.outputTensorMetadata[0].stats
    expected = {"labels": ([0], [2]), "probabilities": ([0], [1])}.get(output)
    assert (stats and (stats.min, stats.max)) == expected


@pytest.mark.parametrize(
    ("output", "activation"),
    [("logits", "SOFTMAX"), ("probabilities", "NONE"), ("labels", None), ("all_heads", None)],
)
def test_segmenters_alone_name_their_activation(small, output, activation):
    model, subgraph = described(small(output=output))
    if activation is None:
        assert subgraph.customMetadata is None
        assert model.minParserVersion == b"1.0.0"
        return
    # The version that brought custom metadata.
    assert model.minParserVersion == b"1.5.0"
    (entry,) = subgraph.customMetadata
    assert entry.name == b"SEGMENTER_METADATA"
    data = bytes(entry.data)
    assert segmenter_schema.ImageSegmenterOptions.ImageSegmenterOptionsBufferHasIdentifier(data, 0)
    options = segmenter_schema.ImageSegmenterOptionsT.InitFromPackedBuf(data)
    assert options.activation == getattr(segmenter_schema.Activation, activation)
    assert options.minParserVersion == b"1.0.0"


class Segmenter:
    """A file of the default checkpoint, in MediaPipe and in LiteRT."""

    def __init__(self, folder, size, **options):
        content = convert.to_tflite(default_model(), size, **options, info=metadata.ModelInfo(classes.FACE, SHA256))
        self._path = folder / "face_parsing.tflite"
        self._path.write_bytes(content)
        self._own = TFLiteRunner(content)
        # MediaPipe's kernels may add up in another order than LiteRT's. Seen: 1 pixel of 2.7 million with another
        # label, a tie; masks 4e-6 off. In int8 the two round some results to the next step: 3 pixels of 10,000 with
        # another label, whose best scores lie within 0.018; masks 0.007 off.
        int8 = options.get("precision") == "int8"
        self.tie, self.other_labels, self.mask_error = (0.05, 1e-3, 2e-2) if int8 else (1e-4, 1e-4, 2e-5)

    def open(self):
        return vision.ImageSegmenter.create_from_options(
            vision.ImageSegmenterOptions(
                base_options=BaseOptions(model_asset_path=str(self._path)),
                output_category_mask=True,
                output_confidence_masks=True,
            )
        )

    def __call__(self, photo):
        """Category mask `[H, W]`, confidence masks `[H, W, classes]`, both MediaPipe's."""
        with self.open() as segmenter:
            result = segmenter.segment(mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(photo)))
        # Copies: what numpy_view gives does not outlive the result.
        masks = [mask.numpy_view().copy() for mask in (result.category_mask, *result.confidence_masks)]
        assert all(mask.shape == (*photo.shape[:2], 1) for mask in masks)
        assert [mask.dtype for mask in masks] == [np.uint8] + [np.float32] * len(LABELS)
        return masks[0][..., 0], np.concatenate(masks[1:], -1)

    def own(self, photo):
        """What the file returns in LiteRT: `[H, W, classes]` in float64."""
        (result,) = self._own(photo[np.newaxis]).values()
        return result[0].astype(np.float64)


@pytest.fixture(scope="module", params=["float32", "float16", "dynamic", "int8"])
def segmenter(request, tmp_path_factory):
    photos = calibration.variations(SIZE, count=4).images
    return Segmenter(
        tmp_path_factory.mktemp("mediapipe"), SIZE, precision=request.param, output="logits", photos=photos
    )


def assert_same_labels(segmenter, logits, labels):
    """All labels are equal, but where the two best scores are almost."""
    best, second = np.sort(logits, -1)[..., -1:-3:-1].transpose(2, 0, 1)
    differ = labels != logits.argmax(-1)
    assert not (differ & (best - second > segmenter.tie)).any()
    assert differ.mean() < segmenter.other_labels


def test_labels_by_name(segmenter):
    with segmenter.open() as opened:
        assert opened.labels == list(LABELS)


def stretched(photo, size):
    """A photo at another size, the way OpenCV's warpPerspective does it for MediaPipe.

    Output x reads input `x * in / out`, rounded to 1/32 of a pixel: the aspect ratio is not kept, and the picture moves
    by up to half a pixel against a resize that aligns pixel centers.
    """
    photo = photo.astype(int)
    for axis, new in enumerate(size):
        old = photo.shape[axis]
        place = np.round(32 * np.arange(new) * (old / new)).astype(int)
        low, part = place // 32, np.expand_dims(place % 32, [other for other in range(3) if other != axis])
        photo = photo.take(low, axis) * (32 - part) + photo.take(np.minimum(low + 1, old - 1), axis) * part
    return ((photo + 512) // 1024).astype(np.uint8)


def interpolated(maps, size, align_corners):
    maps = torch.from_numpy(maps).permute(2, 0, 1)[None]
    return functional.interpolate(maps, size, mode="bilinear", align_corners=align_corners)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [SIZE, (451, 333), (600, 800)])
def test_photo_of_any_size(segmenter, size):
    """MediaPipe stretches the photo and brings the masks back to its size.

    Labels come from logits that are interpolated with aligned corners, confidence masks from probabilities that are
    interpolated with aligned pixel centers.
    """
    photo = images.read(images.BUNDLED, size)
    labels, masks = segmenter(photo)
    assert len(np.unique(labels)) > 8
    logits = segmenter.own(stretched(photo, SIZE))
    assert_same_labels(segmenter, interpolated(logits, size, align_corners=True), labels)
    expected = interpolated(special.softmax(logits, -1), size, align_corners=False)
    np.testing.assert_allclose(masks, expected, rtol=0, atol=segmenter.mask_error)
    np.testing.assert_allclose(masks.sum(-1), 1, rtol=0, atol=1e-5)


def test_model_that_is_not_square(tmp_path):
    segmenter = Segmenter(tmp_path, SMALL, output="logits")
    photo = images.read(images.BUNDLED, SMALL)
    labels, masks = segmenter(photo)
    logits = segmenter.own(photo)
    assert_same_labels(segmenter, logits, labels)
    np.testing.assert_allclose(masks, special.softmax(logits, -1), rtol=0, atol=1e-5)


def test_probabilities_are_passed_on(tmp_path):
    """No second softmax."""
    segmenter = Segmenter(tmp_path, SMALL, output="probabilities")
    photo = images.read(images.BUNDLED, SMALL)
    labels, masks = segmenter(photo)
    np.testing.assert_allclose(masks, segmenter.own(photo), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(labels, masks.argmax(-1))


def test_normalized_input_is_refused(tmp_path):
    """Why the file takes uint8: MediaPipe cannot normalize each channel with numbers of its own."""
    segmenter = Segmenter(tmp_path, SMALL, input_type="float32", output="logits")
    with pytest.raises(NotImplementedError, match="Per-channel image normalization is not available"):
        segmenter.open()
