"""Files that were made to do harm are refused in a line, before they take memory or time.

Fuzzing has its own tests, `robustness/test_fuzzing.py`; here are the attacks that somebody would think of.
"""

import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import types
import zipfile
import zlib

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image
from support.paths import ROOT
from support.refusals import refused

from keras_bisenet import FaceParser, classes
from keras_bisenet.data import folder, label_order
from keras_bisenet.export import convert
from keras_bisenet.inference import isolation
from keras_bisenet.inference.batch import results
from keras_bisenet.models import layers
from keras_bisenet.tflite import flatbuffer, metadata, metadata_schema, validate
from keras_bisenet.training.workdir import Workdir
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import CrashError, DataError, ImageError, ModelError, TrainingError


@pytest.fixture(scope="module")
def content():
    """A small network: 32x32 photos, a padded and a strided convolution, labels of 5 classes."""
    keras.utils.set_random_seed(0)
    photo = keras.Input((32, 32, 3))
    x = keras.ops.relu(layers.conv(photo, 4, 5, 2, name="conv"))
    x = layers.NearestResize()([layers.max_pool(x), x])
    logits = layers.AlignCornersResize()([layers.conv(x, 5, 1, name="scores"), photo])
    file = opened(convert.to_tflite(keras.Model(photo, {"logits": logits}), (32, 32)))
    # Names that do not depend on the converter; of casts and convolutions the first counts.
    first = {flatbuffer.op_name(file.model, operator): operator for operator in reversed(file.graph.operators)}
    for name, index in {
        "image": file.graph.inputs[0],
        "image_float32": first["CAST"].outputs[0],
        "kernel": first["CONV_2D"].inputs[1],
    }.items():
        file.graph.tensors[index].name = name
    return flatbuffer.pack(file.model)


def opened(content):
    """Parts of a file: `model`, `graph`, `tensors` by name, `ops` (the last of each kind), and their `constants`."""
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    ops = {flatbuffer.op_name(model, operator): operator for operator in graph.operators}
    constants = {
        name: model.buffers[graph.tensors[operator.inputs[1]].buffer]
        for name, operator in ops.items()
        if len(operator.inputs) > 1
    }
    tensors = {tensor.name.decode(): tensor for tensor in graph.tensors}
    return types.SimpleNamespace(model=model, graph=graph, tensors=tensors, ops=ops, constants=constants)


def changed(content, change):
    """The file after a change to what `opened` gives."""
    file = opened(content)
    change(file)
    return flatbuffer.pack(file.model)


def refuse(path, content, *names):
    """A `FaceParser` must refuse a file of this content, in one line with its path and all of `names`."""
    path.write_bytes(content)
    with refused(ModelError, path, *names) as error:
        FaceParser(path, num_threads=1)
    assert str(error.value).isprintable()


def test_the_small_network_itself_runs(tmp_path, content):
    (tmp_path / "a.tflite").write_bytes(content)
    assert FaceParser(tmp_path / "a.tflite")(np.zeros((20, 30, 3), np.uint8)).shape == (20, 30)


def quantized(tensor, scale, axis=0):
    """Gives a tensor scales, along an axis if they are several."""
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array(scale, np.float32)
    tensor.quantization.zeroPoint = np.array([0], np.int64) if len(scale) == 1 else None
    tensor.quantization.quantizedDimension = axis


def recode(file, name, code):
    """Makes an operator another one, whose options it has not."""
    entry = file.model.operatorCodes[file.ops[name].opcodeIndex]
    entry.builtinCode = entry.deprecatedBuiltinCode = code


def pad_by_much(file):
    file.constants["PAD"].data = np.array([[0, 0], [1, 100_000_000], [1, 1], [0, 0]], np.int32).view(np.uint8).ravel()


def place_beyond_the_end(file):
    buffer = file.model.buffers[file.tensors["kernel"].buffer]
    buffer.data, buffer.offset, buffer.size = None, 2**40, 1200


def cut_a_constant(file):
    buffer = file.model.buffers[file.tensors["kernel"].buffer]
    buffer.data = buffer.data[:100]


def pool(name, value):
    """Changes an attribute of the pooling; those of its window are in its options."""

    def change(file):
        op = file.ops["MAX_POOL_2D"]
        setattr(op if hasattr(op, name) else op.builtinOptions, name, value)

    return change


def tensor(key, name, value):
    """Changes an attribute of a tensor."""
    return lambda file: setattr(file.tensors[key], name, value)


POOL, INT32 = "op {op[MAX_POOL_2D]} (MAX_POOL_2D)", np.int32
# LiteRT itself refuses some of them, in words of its own; `padding` and `wrong options` end the process in it.
ATTACKS = {
    "padding": (pool("padding", 100), POOL + " with padding 100"),
    "window": (pool("filterHeight", 2**30), POOL + " with filterHeight 1073741824"),
    "output": (pool("outputs", np.array([-1], INT32)), "tensor -1 in its " + POOL + " outputs, and has {tensors}"),
    "input": (pool("inputs", np.array([2**31 - 1], INT32)), "tensor 2147483647 in its " + POOL + " inputs"),
    "order": (
        lambda file: setattr(file.ops["CAST"], "inputs", file.ops["CAST"].outputs),
        "op {op[CAST]} (CAST) take tensor {labels} before it is computed",
    ),
    "op": (pool("opcodeIndex", 77), "operator code 77 in its ops, and has {codes}"),
    "buffer": (tensor("kernel", "buffer", 1000), "buffer 1000 in its tensors, and has {buffers}"),
    "wrong options": (
        lambda file: recode(file, "ARG_MAX", schema.BuiltinOperator.SPLIT),
        "op {op[ARG_MAX]} (SPLIT) without its options",
    ),
    "control flow": (lambda file: recode(file, "ARG_MAX", schema.BuiltinOperator.WHILE), "the op WHILE"),
    "large padding": (pad_by_much, "(PAD) give the shape [1, 18, 18, 4]; expected [1, 100000017, 18, 4]"),
    "scale": (lambda file: quantized(file.tensors["image"], [np.nan]), "scales for tensor image"),
    "scales": (
        lambda file: quantized(file.tensors["kernel"], [1, 1, 1], 9),
        "3 scales for tensor kernel of shape [4, 5, 5, 3]",
    ),
    "place": (place_beyond_the_end, "tensor kernel end at byte 1099511628976, and has {size}"),
    "signature": (
        tensor("image", "shapeSignature", np.array([1, -2, 32, 3], INT32)),
        "tensor image of shape [1, 32, 32, 3], signature [1, -2, 32, 3]",
    ),
    "constant": (cut_a_constant, "100 bytes for tensor kernel of shape [4, 5, 5, 3]; expected 1200"),
    "photo": (tensor("image", "shape", np.array([1, 10**5, 10**5, 3], INT32)), "30000000000 bytes in tensor image"),
    "sparse": (tensor("kernel", "sparsity", schema.SparsityParametersT()), "sparse or variant tensors"),
    "graph": (lambda file: setattr(file.model, "subgraphs", file.model.subgraphs * 2), "2 subgraphs"),
    "elsewhere": (
        lambda file: setattr(file.model, "externalBuffers", [schema.ExternalBufferT()]),
        "weights in other files",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_model_that_points_beyond_what_is_there(tmp_path, content, attack):
    change, found = ATTACKS[attack]
    attacking, file = changed(content, change), opened(content)
    count = {"size": len(attacking), "tensors": len(file.tensors), "buffers": len(file.model.buffers)}
    count |= {"codes": len(file.model.operatorCodes), "labels": file.graph.outputs[0]}
    places = {name: file.graph.operators.index(operator) for name, operator in file.ops.items()}
    refuse(tmp_path / "a.tflite", attacking, found.format(op=places, **count))


def run_isolated(path, **limits):
    photo = np.zeros((20, 30, 3), np.uint8)
    with FaceParser(path, num_threads=1, isolated=isolation.Limits(**limits)) as parser:
        return parser(photo).shape == photo.shape[:2]


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_that_no_validation_stops_ends_a_process_of_its_own(tmp_path, content, attack, monkeypatch):
    """LiteRT itself refuses most of them, some it runs, and of these two this process would not come back."""
    monkeypatch.setattr(isolation, "WORKER", "support.unvalidated_worker")
    path = tmp_path / "a.tflite"
    path.write_bytes(changed(content, ATTACKS[attack][0]))
    if attack in ("padding", "wrong options"):
        with refused(CrashError, path, "SIGSEGV"):
            run_isolated(path)
    else:
        with contextlib.suppress(ModelError):
            assert run_isolated(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "error", "found"),
    [({"seconds": 2}, CrashError, "2 seconds"), ({"memory": 2**28}, ModelError, "")],
    ids=["time", "memory"],
)
def test_a_valid_model_that_takes_minutes_and_much_memory(tmp_path, limits, error, found):
    """Validation bounds neither the time, nor the memory below 2 GiB."""
    logits = photo = keras.Input((1024, 1024, 3))
    for number in range(40):
        logits = layers.conv(logits, 64, 3, 1, name=f"conv{number}")
    path = tmp_path / "a.tflite"
    path.write_bytes(convert.to_tflite(keras.Model(photo, {"logits": logits}), (1024, 1024), output="logits"))
    with refused(error, path, found):
        run_isolated(path, **limits)


def test_a_model_with_more_tensors_than_any_has(tmp_path, content):
    def add(file):
        file.model.buffers += [schema.BufferT()] * validate.MAX_ITEMS

    count = len(flatbuffer.unpack(content).buffers) + validate.MAX_ITEMS
    refuse(tmp_path / "a.tflite", changed(content, add), f"{count} buffers", validate.MAX_ITEMS)


class _Sharing(flatbuffer._AlignedBuilder):
    """Writes equal texts once, as other writers do."""

    def __init__(self, size):
        super().__init__(size)
        self._known = {}

    def CreateString(self, text, *arguments, **options):  # noqa: N802
        if text not in self._known:
            self._known[text] = super().CreateString(text, *arguments, **options)
        return self._known[text]


def test_a_megabyte_that_a_thousand_tensors_share_is_not_unpacked_a_thousand_times(tmp_path, content):
    model, name = flatbuffer.unpack(content), "n" * 1_000_000
    for _ in range(1000):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, np.zeros(0, np.int32)
        model.subgraphs[0].tensors.append(tensor)
    builder = _Sharing(1 << 24)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "a.tflite"
    path.write_bytes(bytes(builder.Output()))
    assert path.stat().st_size < 1_200_000
    said, megabytes = said_in_megabytes("FaceParser", path)
    assert "bytes of names; expected at most 16777216" in said
    assert megabytes < 200


def said_in_megabytes(function, path):
    """What a function says of a file, in a fresh process, and how much memory it needs for that."""
    code = f"""
import resource, sys
from keras_bisenet import FaceParser
from keras_bisenet.data.folder import read_label
from keras_bisenet.utils.images import read
FaceParser(num_threads=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    ({function})(sys.argv[1])
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000)
"""
    process = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT, check=True)
    said, megabytes = process.stdout.splitlines()
    return said, float(megabytes)


def reshape(file, *sides):
    for name in ("image", "image_float32"):
        file.tensors[name].shape = np.array(sides, np.int32)


def test_the_photo_of_a_model_is_bounded(tmp_path, content):
    high = changed(content, lambda file: reshape(file, 1, 9000, 32, 3))
    refuse(tmp_path / "a.tflite", high, "9000x32", 8192)


def test_names_in_a_model_cannot_write_lines_of_their_own(tmp_path, content):
    def rename(file):
        (entry,) = file.model.signatureDefs[0].inputs
        entry.name = file.tensors["image"].name = "a\nerror: \x1b[31m"
        reshape(file, 1, 32, 96)

    refuse(tmp_path / "a.tflite", changed(content, rename), r"'a\nerror: \x1b[31m' uint8 [1, 32, 96]")


def test_a_model_that_returns_something_else_than_it_says(tmp_path, content):
    def choose_among_photos(file):
        file.constants["ARG_MAX"].data = np.zeros(4, np.uint8)

    path = tmp_path / "a.tflite"
    path.write_bytes(changed(content, choose_among_photos))
    parser = FaceParser(path, num_threads=1)
    with refused(ModelError, path, "[32, 32, 5]"):
        parser(np.zeros((20, 30, 3), np.uint8))


def with_metadata(content, entries):
    """A model of ours, with other files in the archive behind it."""
    info = metadata.ModelInfo(classes.named("abcde"), "0" * 64)
    attached = metadata.attach(flatbuffer.unpack(content), info)
    stream = io.BytesIO()
    stream.write(attached[: attached.rindex(b"PK\3\4")])
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries:
            archive.writestr(name, text)
    return stream.getvalue()


@pytest.mark.parametrize(
    "entries",
    [[("labels.txt", bytes(200_000_000))], [("../labels.txt", b"a"), ("/etc/labels.txt", b"b")]],
    ids=["bomb", "traversal"],
)
def test_an_archive_that_is_no_label_file_is_passed_over(tmp_path, content, entries):
    path = tmp_path / "a.tflite"
    path.write_bytes(with_metadata(content, entries))
    said = metadata.of_others(path.read_bytes(), flatbuffer.unpack(path.read_bytes()))
    assert "labels" not in said
    count, megabytes = said_in_megabytes("lambda path: print(FaceParser(path, num_threads=1).num_classes)", path)
    assert count == "5"
    assert megabytes < 200


def test_an_archive_of_many_files_is_not_listed(content):
    many = with_metadata(content, [(f"{number:030}", b"") for number in range(10_000)] + [("labels.txt", b"a")])
    assert metadata.of_others(many, flatbuffer.unpack(many)) == {}


def test_metadata_that_points_at_itself_is_not_unpacked_for_ever():
    """A thousand graphs with a thousand tensors with a thousand names, all of them the same."""
    builder = flatbuffers.Builder()

    def vector(place):
        builder.StartVector(4, 1000, 4)
        for _ in range(1000):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()

    def table(slot, place):
        builder.StartObject(8)
        builder.PrependUOffsetTRelativeSlot(slot, place, 0)
        return builder.EndObject()

    tensor = table(2, vector(builder.CreateString("n")))
    builder.Finish(table(3, vector(table(2, vector(tensor)))), b"M001")
    with pytest.raises(ValueError, match="vectors are longer than the flatbuffer that they are in"):
        metadata_schema.unpack(bytes(builder.Output()), "ModelMetadata", b"M001")


def test_more_classes_than_names():
    labels = np.array([[0, 200]], np.uint8)
    assert list(results.describe(labels, ("a", "b"))["parts"]) == ["a", "class_200"]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, color=0, data=b"", depth=8, before=b"", after=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + before + header + after + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(count):
    """So many zeros, compressed."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(count >> 20)) + packer.flush()


def test_a_picture_in_postscript_starts_no_program(tmp_path, monkeypatch):
    """Pillow would give it to Ghostscript, whatever the file is called."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 7\n%%EndComments\nshowpage\n")
    with refused(ImageError, f"{path}: cannot be read as an image"):
        images.read(path)
    with refused(DataError, f"{path}: corrupt or no image"):
        folder.read_label(path)
    assert not (tmp_path / "started").exists()


def test_a_picture_of_gigapixels(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(60_000, 60_000))
    with refused(ImageError, path, "3600000000 pixels"):
        images.read(path)
    with refused(DataError, path, "3600000000 pixels"):
        folder.read_label(path)


@pytest.mark.parametrize(
    ("function", "content", "said"),
    [
        ("read", png(8, 8, after=chunk(b"zTXt", b"a\0\0" + zeros(2**29))), "cannot be read as an image"),
        ("read", png(13_000, 13_000, 2, zeros(2**20)), "cannot be read as an image"),
        ("read_label", png(13_000, 13_000, 2, zeros(2**29)), "label is a RGB PNG"),
    ],
    ids=["text", "broken off", "label in colors"],
)
def test_pictures_are_refused_before_they_are_unpacked(tmp_path, function, content, said):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    found, megabytes = said_in_megabytes(function, path)
    assert found.startswith(f"{path}: {said}")
    assert megabytes < 200


def test_a_picture_at_the_limit_takes_little_more_than_its_pixels(tmp_path):
    """117 million of four bits each, with a transparent color, in 200 bytes: it took 2.3 GB."""
    path = tmp_path / "a.png"
    palette = chunk(b"PLTE", bytes(48)) + chunk(b"tRNS", b"\0")
    path.write_bytes(png(7, 2**24, 3, zlib.compress(bytes(10)), depth=4, after=palette))
    said, megabytes = said_in_megabytes("lambda path: print(read(path).shape)", path)
    assert said == "(16777216, 7, 3)"
    assert megabytes < 900


def test_a_large_photo_is_read_in_silence(tmp_path):
    """Pillow would warn of it; more than twice as many pixels are an error."""
    path = tmp_path / "a.png"
    Image.new("1", (10_000, 9000)).save(path)
    code = f"from keras_bisenet.utils import images; print(images.read({str(path)!r}, (32, 32)).shape)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("(32, 32, 3)\n", "")


def test_a_label_map_whose_header_is_hidden(tmp_path):
    """Four bits a pixel would be read as eight, and every class would become another."""
    data = zlib.compress((b"\0" + bytes(4)) * 8)
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 8, data=data, depth=4, before=chunk(b"tEXt", b"a\0\x08\x08\x08\x08")))
    with refused(DataError, f"{path}: corrupt or no image"):
        folder.read_label(path)


@pytest.fixture
def labeled_folder(tmp_path):
    for name in ("images/a.jpg", "labels/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    return tmp_path


def test_a_list_of_names_without_end(labeled_folder):
    """Refused at its first line or its first repetition, however long it is."""
    (labeled_folder / "train.txt").symlink_to("/dev/zero")
    with refused(DataError, f"{labeled_folder}/train.txt: cannot be read as text"):
        folder.read_split(labeled_folder, "train")


def test_names_in_a_list_cannot_write_lines_of_their_own(labeled_folder):
    (labeled_folder / "train.txt").write_text("../a\x1b[31m\n")
    with refused(DataError, r"train.txt: names '../a\x1b[31m'"):
        folder.read_split(labeled_folder, "train")


@pytest.mark.parametrize(
    "text",
    ['{"classes": ' + "[" * 100_000, '{"classes": [], "size": "512\\n"}', " " * 2_000_000],
    ids=["deep", "none", "large"],
)
def test_classes_that_are_none(tmp_path, text):
    (tmp_path / classes.FILE).write_text(text)
    with refused(DataError, tmp_path / classes.FILE):
        label_order.read(tmp_path, 19)


def test_classes_cannot_write_lines_of_their_own(tmp_path):
    (tmp_path / classes.FILE).write_text(json.dumps({"classes": ["a\nb" * 1000]}))
    with refused(DataError) as error:
        label_order.read(tmp_path, 19)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("text", ["{", "[" * 100_000, b"\xff".decode("latin-1"), " " * 2_000_000])
def test_the_configuration_of_a_run_that_is_none(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with refused(TrainingError, tmp_path / "config.json", "damaged"):
        Workdir(tmp_path, {})


def test_a_log_that_is_none(tmp_path):
    files, path = Workdir(tmp_path, {}), tmp_path / "steps.csv"
    path.write_text("step,loss\nten,1\n")
    with refused(TrainingError, path, "damaged"):
        files.log("steps.csv", 20)


@pytest.mark.parametrize("attack", ["bomb", "objects", "claim", "cut"])
def test_the_state_of_a_run_that_is_none(tmp_path, attack):
    path = tmp_path / "state.npz"
    files = Workdir(tmp_path, {})
    if attack == "bomb":
        np.savez_compressed(path, a=np.zeros(10_000_000))
    elif attack == "objects":
        np.savez(path, a=np.array([{}], dtype=object))
    else:
        np.savez(path, a=np.zeros(1000))
        saved = path.read_bytes()
        path.write_bytes(saved.replace(b"(1000,), ", b"(10**9,),") if attack == "claim" else saved[:-30])
    with refused(TrainingError, path, "damaged"):
        files.load_state({"a": np.zeros(1000)})
