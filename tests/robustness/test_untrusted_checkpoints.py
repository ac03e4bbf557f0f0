"""Checkpoints that somebody has made to do harm: nothing is executed, unpacked or opened; little memory is taken."""

import codecs
import io
import json
import lzma
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile

import h5py
import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.files import content
from support.fresh_python import run_without
from support.refusals import refused

import weight_port
from keras_bisenet import load_model
from keras_bisenet.utils.errors import ModelError
from weight_port import CheckpointError, layouts
from weight_port.errors import OnnxError
from weight_port.reference import onnx_file

DAMAGED, REFUSED, NO_BISENET = "truncated or damaged", "refused: it holds something other than tensors", "no BiSeNet"


def refuse(read, path, error, *names):
    """`read` must refuse a file in one printable line that begins with its path and holds all of `names`."""
    with refused(error, *names) as caught:
        read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{path}: ")
    return message


# PyTorch's own formats


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def pth(tmp_path, content, **options):
    torch.save(content, tmp_path / "c.pth", **options)
    return tmp_path / "c.pth"


def entries_of(path):
    """(name, content) of each entry of a zip."""
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def directory_size(path):
    with zipfile.ZipFile(path) as archive:
        return path.stat().st_size - archive.start_dir - 22


def repack(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def refuse_pth(path, *names):
    return refuse(weight_port.load, path, CheckpointError, *names)


# What leaves a file behind, and what takes memory: PyTorch makes the latter calls, `weights_only` or not.
CALLS = {
    "system": lambda marker: Call(os.system, f"touch {marker}"),
    "Popen": lambda marker: Call(subprocess.Popen, ["touch", str(marker)]),
    "eval": lambda marker: Call(eval, f"__import__('pathlib').Path({str(marker)!r}).touch()"),
    "exec": lambda marker: Call(exec, f"__import__('pathlib').Path({str(marker)!r}).touch()"),
    "bytearray": lambda _: Call(bytearray, 10**9),
    "Tensor": lambda _: Call(torch.Tensor, 10**9),
    "encode": lambda _: Call(codecs.encode, b"x", "hex"),
    "UntypedStorage": lambda _: Call(torch.storage.UntypedStorage, 10**9),
}


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("call", CALLS)
def test_a_pickled_call_is_not_made(tmp_path, how, call):
    marker = tmp_path / "executed"
    state = {"a": torch.ones(1), "b": CALLS[call](marker)}
    path = pth(tmp_path, state, _use_new_zipfile_serialization=how == "zip")
    if how == "pickle":
        path.write_bytes(pickle.dumps(state, protocol=2))
    refuse_pth(path, REFUSED, "torch.save(model.state_dict(), path)")
    assert not marker.exists()
    if call == "system" and how == "zip":
        torch.load(path, weights_only=False)
        assert marker.exists()  # the file does what the test is about


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.float16, 2)])
def test_a_tensor_that_repeats_one_number_is_refused(tmp_path, zipped, dtype, size):
    state = {"conv.weight": torch.zeros(1, dtype=dtype).expand(10**6, 10**6)}
    path = pth(tmp_path, state, _use_new_zipfile_serialization=zipped)
    assert path.stat().st_size < 2000
    refuse_pth(path, "conv.weight", "[1000000, 1000000]", f"over {size} bytes", f"{size}000000000000")


def test_tensors_over_the_same_memory_are_refused(tmp_path):
    tensor = torch.zeros(10_000)
    path = pth(tmp_path, {f"conv{number}.weight": tensor for number in range(100)})
    refuse_pth(path, "share memory", "4000000")


def test_a_compressed_zip_is_refused(tmp_path):
    """By the directory alone: nothing is unpacked."""
    path = pth(tmp_path, {"a": torch.zeros(10**7)})
    entries = entries_of(path)
    repack(path, entries, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    refuse_pth(path, f"compressed zip of {sum(len(content) for _, content in entries)} bytes")


def test_entries_that_lie_over_each_other_are_refused(tmp_path):
    path = tmp_path / "c.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "abcdef":
            archive.writestr(name, name.encode() * 1000)
        for entry in archive.infolist():
            entry.header_offset, entry.file_size, entry.compress_size = 0, 5000, 5000
    refuse_pth(path, "compressed zip of 30000 bytes")


def test_a_zip_with_very_many_entries_is_refused_unopened(tmp_path):
    path = repack(tmp_path / "c.pth", ((f"archive/data/{number}", b"") for number in range(20_000)))
    refuse_pth(path, directory_size(path), 1048576)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_entry_that_is_there_twice_is_refused(tmp_path):
    path = repack(tmp_path / "c.pth", [("archive/data.pkl", b"a"), ("archive/data.pkl", b"b")])
    refuse_pth(path, "archive/data.pkl more than once")


def doubled_tuples(count):
    """Each holds the one before twice: as a key of a dictionary Python would count 2**count parts."""
    steps = (b"q" + bytes([step]) + b"h" + bytes([step]) + b"\x86" for step in range(count))
    return b"\x80\x02})" + b"".join(steps) + b"K\x01s."


ITSELF = {}
ITSELF["model"] = ITSELF
DEEP = b"\x80\x02" + b"}X\x05\x00\x00\x00model" * 10_000 + b"}" + b"s" * 10_000 + b"."


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (doubled_tuples(50), "tuple of more than 10000 parts"),
        (pickle.dumps({number: number for number in range(100_000)}, protocol=2), 524288),
        (pickle.dumps(ITSELF, protocol=2), "a dictionary of 'model'"),
        (DEEP, "a dictionary of 'model'"),
    ],
    ids=["tuples", "long", "itself", "deep"],
)
def test_pickles_that_unfold_or_are_long(tmp_path, content, found):
    path = pth(tmp_path, {"a": torch.ones(1)})
    entries = [(name, content if name.endswith("data.pkl") else data) for name, data in entries_of(path)]
    refuse_pth(repack(path, entries), found)


def test_tuples_unfold():
    assert pickle.loads(doubled_tuples(2)) == {(((), ()), ((), ())): 1}


def test_names_are_shown_on_one_short_line(tmp_path):
    path = pth(tmp_path, {"\x1b[2Jgone\n" + "x" * 10**5: 1})
    assert len(refuse_pth(path, r"a dictionary of '\x1b[2Jgone\nxxx")) < 500 + len(str(path))


def test_a_compressed_tar_is_not_unpacked(tmp_path):
    """The tar format of old was never compressed; `tarfile` would unpack its gigabyte to see what it is."""
    path = tmp_path / "c.pth"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 10**9
    path.write_bytes(lzma.compress(header.tobuf(tarfile.PAX_FORMAT)))
    refuse_pth(path, DAMAGED)


def test_a_legacy_storage_that_claims_a_terabyte(tmp_path):
    path = pth(tmp_path, {"a": torch.zeros(70_000)}, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    claimed = content.replace(b"J" + struct.pack("<i", 70_000), b"\x8a\x05" + (2 * 10**11).to_bytes(5, "little"))
    assert len(claimed) > len(content)
    path.write_bytes(claimed)
    refuse_pth(path, DAMAGED)


@pytest.mark.parametrize("shape", [(10**6, 0, 1, 1), (3, 1, 1, 1), (0, 256, 1, 1), (7,), ()], ids=str)
def test_a_head_that_asks_for_a_network_of_any_size(shape):
    state = {f"{module}.weight": np.zeros(1) for module in layouts.ZLLRUNNING.modules.values()}
    state["conv_out.conv_out.weight"] = np.zeros(shape)
    with refused(CheckpointError, "conv_out.conv_out.weight", shape):
        weight_port.recognize(state)


# safetensors


def safetensors(tmp_path, header, data=b"", length=None):
    text = json.dumps(header).encode()
    path = tmp_path / "c.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def claimed(shape, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}


MANY = {f"tensor{number}": claimed([0], 0) for number in range(20_000)}


@pytest.mark.parametrize(
    ("header", "data", "length", "found"),
    [
        ({}, b"", 10**12, f"{DAMAGED} (its header claims 1000000000000 bytes, of 10"),
        ({}, b"", 2**64 - 1, f"{DAMAGED} (its header claims 18446744073709551615 bytes, of 10"),
        ({}, b"", 1000, f"{DAMAGED} (its header claims 1000 bytes, of 10"),
        (MANY, b"", None, f"{DAMAGED} (its header claims 1"),
        ({"a": claimed([1000], 4000), "b": claimed([1000], 4000)}, bytes(4000), None, DAMAGED),
        ({"name": claimed([10**6, 10**6], 4 * 10**12)}, b"", None, DAMAGED),
        ({"name": claimed([2**62, 4], 4)}, b"0000", None, DAMAGED),
        ({"name": claimed([1] * 65, 4)}, b"0000", None, "name has the shape [1, 1, 1"),
        ({"name": claimed([2**63, 0], 0)}, b"", None, "name has the shape [9223372036854775808, 0]"),
    ],
    ids=["long", "longest", "cut", "many", "shared", "terabytes", "overflow", "axes", "side"],
)
def test_safetensors_that_cannot_be(tmp_path, header, data, length, found):
    refuse_pth(safetensors(tmp_path, header, data, length), found)


# Keras


def h5(fill=lambda _: None):
    """A weights file of one kernel; one in which nothing is stored claims the numbers of the whole network."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        values = file.create_group("layers/conv2d/vars")
        values.attrs["name"] = "conv_out_logits"
        values["0"] = np.ones((1, 1, 256, 2), np.float32)
        fill(file)
    return buffer.getvalue()


CONFIG = {
    "num_classes": 2,
    "backbone": "resnet18",
    "width": 1.0,
    "input_shape": [32, 32, 3],
    "dtype": "float32",
    "name": "x",
}


def keras_file(tmp_path, weights=None, config=(), compression=zipfile.ZIP_STORED, **others):
    document = {"class_name": "BiSeNet", "config": {**CONFIG, **dict(config)}, **others}
    entries = [
        ("metadata.json", b"{}"),
        ("config.json", json.dumps(document)),
        ("model.weights.h5", weights or h5()),
    ]
    return repack(tmp_path / "m.keras", entries, compression)


def refuse_keras(path, *names):
    return refuse(load_model, path, ModelError, *names)


def test_a_lambda_is_not_run(tmp_path):
    marker = tmp_path / "executed"
    layer = keras.layers.Lambda(eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]"))
    model = keras.Sequential([keras.Input((1,)), layer])
    assert marker.exists()  # Keras runs it once to build it
    marker.unlink()
    path = tmp_path / "m.keras"
    model.save(path)
    refuse_keras(path, "Sequential")
    # The same under our name.
    renamed = [(name, content.replace(b'"Sequential"', b'"BiSeNet"')) for name, content in entries_of(path)]
    refuse_keras(repack(path, renamed), NO_BISENET)
    assert not marker.exists()


def test_no_module_of_the_file_is_imported(tmp_path, monkeypatch):
    """It would leave a file behind."""
    marker, name = tmp_path / "executed", "left_behind"
    text = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\ndef BiSeNet(**_): pass\n"
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    call = {"module": name, "class_name": "BiSeNet", "registered_name": "BiSeNet", "config": {}}
    for path in (
        keras_file(tmp_path, module=name, registered_name="BiSeNet"),
        keras_file(tmp_path, module=name, registered_name=None, build_config=call, compile_config={"optimizer": call}),
        keras_file(tmp_path, config={"dtype": call}),
        keras_file(tmp_path, config={"name": call}),
        keras_file(tmp_path, config={"layers": [call]}),
        keras_file(tmp_path, config={"input_shape": [call, None, 3]}),
    ):
        found = refuse_keras(path)
        assert NO_BISENET in found or "takes images of " in found
    assert not marker.exists()
    __import__(name)
    assert marker.exists()


@pytest.mark.parametrize(
    "config",
    [
        {"num_classes": 10**9},
        {"num_classes": 0},
        {"num_classes": "2"},
        {"backbone": "resnet50"},
        {"backbone": ["resnet18"]},
        {"dtype": "int8_from_float32"},
        {"dtype": None},
        {"name": 3},
        {"input_shape": [32, 32]},
        {"input_shape": 3},
        {"trainable": True},
    ],
    ids=str,
)
def test_a_configuration_that_is_not_ours(tmp_path, config):
    refuse_keras(keras_file(tmp_path, config=config), NO_BISENET)


def test_an_image_of_any_size(tmp_path):
    path = keras_file(tmp_path, config={"input_shape": [10**9, None, 3]})
    refuse_keras(path, [10**9, None], 8192)


@pytest.mark.parametrize("config", [b"[" * 50_000, b'{"class_name":' * 5_000, b"1", b'{"class_name": {}}', b"\xff"])
def test_a_configuration_that_is_no_dictionary(tmp_path, config):
    path = repack(tmp_path / "m.keras", [("config.json", config), ("model.weights.h5", h5())])
    refuse_keras(path)


def test_keras_entries_are_bounded(tmp_path):
    refuse_keras(keras_file(tmp_path, compression=zipfile.ZIP_DEFLATED), "config.json is compressed")
    path = keras_file(tmp_path, notes="x" * 200_000)
    size = len(json.dumps({"class_name": "BiSeNet", "config": CONFIG, "notes": "x" * 200_000}))
    refuse_keras(path, f"config.json claims {size} bytes")
    path = repack(path, ((f"assets/{number}", b"") for number in range(3_000)))
    refuse_keras(path, f"directory of {directory_size(path)} bytes")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_keras_entry_that_is_there_twice(tmp_path, name):
    path = keras_file(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"other")
    refuse_keras(path, f"{name} 2 times")


def test_no_entry_is_written_to_the_disk(tmp_path):
    folder = tmp_path / "in" / "ner"
    folder.mkdir(parents=True)
    path = pth(folder, {"a": torch.ones(1)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("c/../../outside", b"x")
    assert weight_port.load(path)["a"] == 1
    for path, check in ((path, lambda path: refuse_pth(path, DAMAGED)), (keras_file(folder), refuse_keras)):
        with zipfile.ZipFile(path, "a") as archive:
            for name in ("assets/../../outside", "../outside", f"{tmp_path}/outside"):
                archive.writestr(name, b"x")
        check(path)
    assert content(tmp_path).keys() == {"in/ner/c.pth", "in/ner/m.keras"}


LINK, ELSEWHERE, STRANGE = "a link to elsewhere", "values from another file", "compressed or strange arrays"


def virtual(file, place, secret):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(secret, "data", (4,))
    file.create_virtual_dataset(place, layout)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda file, place, secret: file.__setitem__(place, h5py.ExternalLink(secret, "/data")), LINK),
        (lambda file, place, _: file.__setitem__(place, h5py.SoftLink("/layers/conv2d/vars/0")), LINK),
        (lambda file, _, secret: file.__setitem__("layers/b", h5py.ExternalLink(secret, "/")), LINK),
        (lambda file, place, secret: file.create_dataset(place, (4,), "f4", external=[(secret, 0, 16)]), ELSEWHERE),
        (virtual, ELSEWHERE),
        (lambda file, place, _: file.create_dataset(place, (64, 64), "f4", compression="gzip"), STRANGE),
        (lambda file, place, _: file.create_dataset(place, (10**6, 10**6), "f4", chunks=(1, 1)), STRANGE),
        (lambda file, place, _: file.create_dataset(place, data=["text"]), STRANGE),
        (lambda file, place, _: file.create_dataset(place, data=np.ones(3, [("a", "f4"), ("b", "f4")])), STRANGE),
    ],
    ids=["external-link", "soft-link", "external-group", "external", "virtual", "gzip", "chunks", "text", "compound"],
)
def test_weights_that_are_not_plain(tmp_path, fill, message):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["data"] = np.ones(4, np.float32)
    path = keras_file(tmp_path, h5(lambda file: fill(file, "layers/conv2d/vars/1", str(secret))))
    refuse_keras(path, message)


def test_weights_that_claim_a_terabyte(tmp_path):
    weights = h5(lambda file: file.create_dataset("layers/conv2d/vars/1", (10**6, 10**6), "f4"))
    refuse_keras(keras_file(tmp_path, weights), "model.weights.h5", len(weights))


# ONNX


def onnx_model(tmp_path, tensor=None, shape=(1, 3, 32, 32), nodes=()):
    tensor = tensor or numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in (("x", shape), ("y", "abcd"))
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "kernel"], ["y"]), *nodes], "g", values[:1], values[1:], [tensor]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def external(**notes):
    tensor = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in notes.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def refuse_onnx(path, *names):
    refuse(onnx_file.inspect, path, OnnxError, *names)


@pytest.mark.parametrize("inside", [False, True], ids=["initializer", "inner-graph"])
@pytest.mark.parametrize("kind", ["up", "absolute", "link", "backslash"])
def test_weights_outside_of_the_folder_are_not_opened(tmp_path, kind, inside):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(24))
    (folder / "link").symlink_to(tmp_path / "secret")
    name = {"up": "../secret", "absolute": str(tmp_path / "secret"), "link": "link", "backslash": r"..\secret"}[kind]
    tensor = external(location=name)
    if inside:
        constant = helper.make_node("Constant", [], ["z"], value=tensor)
        inner = helper.make_graph(
            [constant], "inner", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
        )
        branch = helper.make_node("If", ["kernel"], ["z"], then_branch=inner, else_branch=inner)
        path = onnx_model(folder, nodes=[branch])
    else:
        path = onnx_model(folder, tensor)
    refuse_onnx(path, name, "outside of its folder")


@pytest.mark.parametrize(
    "notes", [{"offset": "-1"}, {"length": "x"}, {"offset": "9" * 5000}, {"length": "1e3"}], ids=str
)
def test_external_weights_of_no_number(tmp_path, notes):
    (tmp_path / "weights").write_bytes(bytes(24))
    refuse_onnx(onnx_model(tmp_path, external(location="weights", **notes)), DAMAGED)


def test_external_weights_that_claim_a_terabyte(tmp_path):
    (tmp_path / "weights").write_bytes(bytes(24))
    path = onnx_model(tmp_path, external(location="weights", length=str(10**12)))
    refuse_onnx(path, tmp_path / "weights", "24 bytes", 10**12)


def many_nodes(path, count=3_000_000):
    """An ONNX file of empty nodes, two bytes each."""
    graph = b"\x0a\x00" * count
    length, size = bytearray(), len(graph)
    while size:
        size, low = size >> 7, size & 0x7F
        length.append(low | (0x80 if size else 0))
    path.write_bytes(b"\x08\x0a\x3a" + bytes(length) + graph)
    return path


def test_very_many_nodes_are_not_read(tmp_path):
    refuse_onnx(many_nodes(tmp_path / "m.onnx"), "more than 4194304 bytes")


def test_weights_of_any_size_are_read(tmp_path):
    """They do not count as a part of the network, in an initializer or in a constant."""
    array = np.ones((10**6, 3, 1, 1), np.float32)
    constant = helper.make_node("Constant", [], ["z"], value=numpy_helper.from_array(array, "z"))
    path = onnx_model(tmp_path, numpy_helper.from_array(array, "kernel"), nodes=[constant])
    assert onnx_file.inspect(path).ops == {"Conv": 1, "Constant": 1}


def test_an_onnx_image_of_any_size(tmp_path):
    file = onnx_file.inspect(onnx_model(tmp_path, shape=(1, 3, 10**9, 32)))
    with refused(OnnxError, tmp_path / "m.onnx", "[1, 3, 1000000000, 32]", 8192):
        file.image_size((32, 32))


# Memory


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells the peak of one process from then on"
)
def test_refusals_take_little_memory(tmp_path):
    """Each of these files has a few megabytes at most, and would take several hundred or more."""
    files = []

    def keep(path, name):
        files.append(str(path.rename(tmp_path / name)))

    # Libraries are loaded while these are read.
    keep(pth(tmp_path, {"a": torch.ones(1)}), "valid.pth")
    keep(safetensors(tmp_path, {}), "valid.safetensors")
    keep(keras_file(tmp_path), "valid.keras")
    keep(onnx_model(tmp_path), "valid.onnx")
    zeros = bytes(5 * 10**8)
    bomb = repack(tmp_path / "z", [("a/version", b"3"), ("a/data.pkl", zeros)], zipfile.ZIP_DEFLATED)
    keep(bomb, "bomb.pth")
    bomb = repack(tmp_path / "z", [("config.json", zeros), ("model.weights.h5", h5())], zipfile.ZIP_DEFLATED)
    keep(bomb, "bomb.keras")
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(zeros)
    (tmp_path / "z").write_bytes(lzma.compress(header.tobuf(tarfile.PAX_FORMAT) + zeros, preset=0))
    del zeros
    keep(tmp_path / "z", "tar.pth")
    keep(pth(tmp_path, {"a": torch.zeros(1, dtype=torch.float16).expand(10**9)}), "expanded.pth")
    keep(pth(tmp_path, {"a": Call(bytearray, 10**9)}), "bytearray.pth")
    keep(keras_file(tmp_path, h5(lambda file: file.create_dataset("layers/c/vars/0", (10**9,), "f4"))), "giant.keras")
    keep(many_nodes(tmp_path / "z", 5_000_000), "nodes.onnx")
    code = f"""
import pathlib, re
from keras_bisenet import load_model
import weight_port
from weight_port.reference import onnx_file
READERS = {{"pth": weight_port.load, "safetensors": weight_port.load, "keras": load_model, "onnx": onnx_file.inspect}}
def memory(which):
    return int(re.search(which + r":\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
for path in {files!r}:
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmRSS")
    try:
        READERS[path.rpartition(".")[2]](path)
        refused = False
    except ValueError:
        refused = True
    print(path.rpartition("/")[2], refused, memory("VmHWM") - before)
"""
    lines = [line.split() for line in run_without(code).splitlines()]
    assert len(lines) == len(files)
    for name, is_refused, taken in lines[4:]:
        assert is_refused == "True", name
        assert int(taken) < 200e6, name
