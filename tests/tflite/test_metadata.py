"""What a .tflite file says about itself."""

import functools
import io
import json
import zipfile

import numpy as np
import pytest
from support.networks import narrow

from keras_bisenet import classes
from keras_bisenet.export import convert, deployment
from keras_bisenet.tflite import flatbuffer, metadata, metadata_schema
from keras_bisenet.tflite.interpreter import TFLiteRunner

SIZE = (65, 97)
LABELS = ("background", "skin", "hair", "glasses & rings", "Mütze")
INFO = metadata.ModelInfo(
    classes.named(LABELS, palette={"hair": "#010203"}),
    "0123456789abcdef" * 4,
    author="A. Maker",
    license="for tests only",
    description="Finds five things.",
)
OUTPUTS = list(deployment.OUTPUTS)


@pytest.fixture(scope="module")
def plain():
    """Makes files without metadata, each once: called with options of `convert.to_tflite`."""
    model = narrow((6, 5, 4, 7, 3, 8, 2, 9), len(LABELS))
    return functools.cache(lambda **options: convert.to_tflite(model, SIZE, **options))


@pytest.fixture(scope="module", params=OUTPUTS)
def files(request, plain):
    """A file without and with metadata."""
    content = plain(output=request.param)
    return content, attach(content, INFO)


def attach(content, info):
    return metadata.attach(flatbuffer.unpack(content), info)


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_was_attached_is_read(plain, output):
    # What the caller does with float scores.
    resize = {"scale": 1.0, "zero_point": 0, "resize": "bilinear, align_corners=True", "size": list(SIZE)}
    assert metadata.read(attach(plain(output=output), INFO)) == {
        "name": "BiSeNet face parsing",
        "description": f"Finds five things. SHA-256 of the checkpoint: {INFO.checkpoint_sha256}",
        "version": INFO.version,
        "author": "A. Maker",
        "license": "for tests only",
        "labels": list(LABELS),
        "checkpoint_sha256": INFO.checkpoint_sha256,
        "activation": {"logits": "SOFTMAX", "probabilities": "NONE"}.get(output),
        "post_processing": resize | {"then": "argmax over the classes"} if output == "scores" else None,
    }


def test_what_is_empty_is_missing(plain):
    found = metadata.read(attach(plain(), metadata.ModelInfo(classes.FACE, INFO.checkpoint_sha256)))
    assert not {"author", "license"} & set(found)
    assert metadata.read(plain()) == metadata.read(plain(precision="float16")) == {}


def test_other_readers_get_the_colors_too(files):
    assert metadata.of_others(files[1], flatbuffer.unpack(files[1]))["classes"] == INFO.classes


def test_the_face_classes_need_no_file_of_their_own():
    model = narrow((4,) * 8, len(classes.FACE))
    content = convert.to_tflite(model, SIZE, info=metadata.ModelInfo(classes.FACE, INFO.checkpoint_sha256))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["labels.txt"]
    assert metadata.of_others(content, flatbuffer.unpack(content))["classes"] == classes.FACE


def test_the_labels_are_in_a_zip_archive_behind_the_file(files):
    content, described = files
    assert attach(content, INFO) == described
    with zipfile.ZipFile(io.BytesIO(described)) as archive:
        assert archive.namelist() == ["labels.txt", "labels.json"]
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "\n".join(LABELS)
        assert classes.of_json(json.loads(archive.read("labels.json"))) == INFO.classes
        entry = archive.infolist()[0]
    # Offsets count from the beginning of the file, and nothing in the entry tells when or where it was made.
    assert described[entry.header_offset :].startswith(b"PK\x03\x04")
    assert entry.header_offset > len(content)
    assert (entry.date_time, entry.create_system) == ((1980, 1, 1, 0, 0, 0), 3)


def test_the_model_is_still_the_same(files):
    content, described = files
    assert len(described) - len(content) < 3000
    assert flatbuffer.describe(described) == flatbuffer.describe(content)
    before, after = (flatbuffer.unpack(file).subgraphs[0].tensors for file in files)
    buffers = [flatbuffer.unpack(file).buffers for file in files]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(buffers[0][old.buffer].data, buffers[1][new.buffer].data)
    photo = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    results = [TFLiteRunner(file)(photo) for file in files]
    assert all(result.std() > 0 for result in results[0].values())
    for name, result in results[0].items():
        np.testing.assert_array_equal(results[1][name], result)


def test_entries_of_the_model(plain):
    """What is there already stays, and the hash is found without knowing the metadata's schema."""
    before = flatbuffer.unpack(plain(precision="float16"))
    model = flatbuffer.unpack(attach(plain(precision="float16"), INFO))
    names = [entry.name for entry in model.metadata]
    assert names == [*(entry.name for entry in before.metadata), b"TFLITE_METADATA", b"checkpoint_sha256"]
    assert {b"min_runtime_version", b"CONVERSION_METADATA", b"reduced_precision_support"} <= set(names)
    for entry, same in zip(before.metadata, model.metadata, strict=False):
        assert before.buffers[entry.buffer].data.tobytes() == model.buffers[same.buffer].data.tobytes()
    entries = {entry.name: model.buffers[entry.buffer].data.tobytes() for entry in model.metadata}
    assert entries[b"reduced_precision_support"] == b"fp16accfp32"
    assert entries[b"TFLITE_METADATA"][4:8] == b"M001"
    assert entries[b"checkpoint_sha256"].decode() == INFO.checkpoint_sha256


def test_packing_anew_keeps_all_but_the_label_file(plain):
    described = attach(plain(), INFO)
    again = flatbuffer.pack(flatbuffer.unpack(described))
    names, expected = ([entry.name for entry in flatbuffer.unpack(file).metadata] for file in (again, described))
    assert names == expected
    assert zipfile.is_zipfile(io.BytesIO(described))
    assert not zipfile.is_zipfile(io.BytesIO(again))


def test_the_exporter_attaches_the_same(plain):
    content = convert.to_tflite(narrow((4,) * 8, len(LABELS)), (32, 32), info=INFO)
    assert metadata.read(content) == metadata.read(attach(plain(), INFO))


def test_metadata_is_attached_once(plain):
    described = attach(plain(), INFO)
    with pytest.raises(ValueError, match="metadata already"):
        attach(described, INFO)


def test_labels_are_as_many_as_channels(plain):
    info = metadata.ModelInfo(classes.named(LABELS[:-1]), INFO.checkpoint_sha256)
    with pytest.raises(ValueError, match=r"logits.* 5 .* 4 "):
        attach(plain(output="logits"), info)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "TensorMetadata",
            {
                "name": "näme",
                "dimension_names": ["a", "", "ccc"],
                "content": {
                    "content_properties_type": 2,
                    "content_properties": {"color_space": 1},
                    "range": {"max": -7},
                },
                "process_units": [{"options_type": 1, "options": {"mean": [0.5, -1.25, 3e9], "std": []}}, {}],
            },
        ),
        ("CustomMetadata", {"name": "x", "data": bytes(range(250))}),
    ],
)
def test_tables_survive_packing(name, values):
    assert metadata_schema.unpack(metadata_schema.pack(name, values, b"TEST"), name, b"TEST") == values


def test_nested_flatbuffers_are_aligned():
    for name in ("a", "abcd", "abcd" * 2, "abcd" * 3):
        # What is written last comes first.
        content = metadata_schema.pack("CustomMetadata", {"data": b"the data", "name": name}, b"TEST")
        assert content.index(b"the data") % 16 == 0


def test_wrong_tables():
    with pytest.raises(KeyError, match="color"):
        metadata_schema.pack("ImageProperties", {"color": 1}, b"TEST")
    content = metadata_schema.pack("ImageProperties", {"color_space": 1}, b"V001")
    with pytest.raises(ValueError, match=r"identifier is b'V001'; expected b'M001'"):
        metadata_schema.unpack(content, "ImageProperties", b"M001")


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b"[" * 10_000, b'{"resize": 3}'])
def test_a_third_party_entry_of_that_name_says_nothing(plain, content):
    model = flatbuffer.unpack(plain(output="logits"))
    flatbuffer.add_metadata(model, "post_processing", content)
    assert not metadata.is_aligned(model)
    assert metadata.is_aligned(flatbuffer.unpack(plain(output="scores")))
