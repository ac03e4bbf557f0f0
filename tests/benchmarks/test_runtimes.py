"""The benchmark's arithmetic, tables, processes and timing; no environment is made and nothing is downloaded."""

import ast
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, random_state
from PIL import Image

sys.path.insert(0, str(ROOT))

import weight_port
from benchmarks.common import machine, processes
from benchmarks.common import statistics as figures
from benchmarks.runtimes import agreement, comparison, environments, measure, plot, reference, report
from benchmarks.runtimes import candidates as contestants
from benchmarks.runtimes import thresholds as limits
from benchmarks.runtimes.converters import keras_export, keras_network, tflite_converter
from benchmarks.runtimes.converters import onnxruntime as onnxruntime_converter
from benchmarks.runtimes.inputs import Inputs
from benchmarks.runtimes.numpy_processing import NumpyProcessing
from benchmarks.runtimes.runners import litert_labels, litert_logits
from benchmarks.runtimes.runners import onnxruntime as onnxruntime_runner
from benchmarks.runtimes.runners import pytorch as pytorch_runner
from keras_bisenet import preprocessing
from keras_bisenet.export import convert
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import images
from weight_port.reference.torch_network import Reference

ENTRIES = [*contestants.OURS, *contestants.PEERS]
# Height and width differ, and neither is the number of channels or classes.
SIZE = (64, 96)
MEAN, STD = np.array(preprocessing.MEAN), np.array(preprocessing.STD)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture(scope="module")
def model(state):
    return keras_network.network(state, weight_port.recognise(state))


@pytest.fixture(scope="module")
def inputs(state, photo):
    """Two photos, the second the first upside down, with the labels of PyTorch; they are calibrated on as well."""
    photos = np.stack([photo, photo[::-1]])
    normalized = ((photos / 255 - MEAN) / STD).astype(np.float32)
    logits, _, _ = Reference(state, weight_port.recognise(state))(normalized)
    return Inputs(photos, logits.argmax(-1).astype(np.int16), photos, MEAN, STD)


# The tables of contestants.


def test_every_package_is_pinned_to_one_version():
    for name, pins in contestants.PINS.items():
        assert name != contestants.PROJECT
        for pin in pins:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==\d+(\.\d+)+", pin), pin
        packages = [pin.partition("==")[0] for pin in pins]
        assert packages == sorted(set(packages)), name


def test_every_environment_is_used_and_every_used_one_exists():
    used = {step.environment for entry in ENTRIES for step in (entry.convert, entry.run) if step}
    assert used == {contestants.PROJECT, *contestants.PINS}
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def arguments(folder, module, function):
    """What a function takes, and which of it has no default.

    The module is not imported: its libraries may live in another environment.
    """
    tree = ast.parse((ROOT / "benchmarks" / "runtimes" / folder / f"{module}.py").read_text(encoding="utf-8"))
    (found,) = (
        node
        for scope in ast.walk(tree)
        if isinstance(scope, ast.Module) or (isinstance(scope, ast.ClassDef) and scope.name == "Runner")
        for node in scope.body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    names = [argument.arg.lstrip("_") for argument in found.args.args]
    return names, names[: len(names) - len(found.args.defaults)]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_gives_its_code_the_options_it_takes(entry):
    steps = [("runners", entry.run, "__init__", ["self", "path", "threads", "inputs"])]
    if entry.convert:
        steps.append(("converters", entry.convert, "convert", ["state", "architecture", "inputs", "output"]))
    for folder, step, function, given in steps:
        taken, needed = arguments(folder, step.module, function)
        assert taken[: len(given)] == given
        assert set(needed) <= {*given, *step.options} <= set(taken)


# Figures.


def test_spread_by_hand():
    assert figures.spread([5.0, 1.0, 9.0]) == figures.Spread(5.0, 1.0, 9.0)
    assert figures.spread([4, 1, 3, 100]) == figures.Spread(3.5, 1, 100)
    assert figures.spread([1.26, 2.0, 1.3]).text(1) == "1.3 (1.3-2.0)"
    assert figures.spread([7.0, 7.001]).text(2) == "7.00"


def test_ratios_are_taken_round_by_round():
    # The machine is ten times slower in the second round, for both; ratios of medians would say 40 / 50.
    assert figures.ratios([6.0, 80.0, 40.0], [10.0, 100.0, 50.0]) == [0.6, 0.8, 0.8]
    assert figures.ratios([0.0, 1.0], [0.0, 0.0]) == [1.0, float("inf")]
    with pytest.raises(ValueError, match="shorter"):
        figures.ratios([1.0, 2.0], [1.0])


def test_round_medians_by_hand():
    turns = [{"total": [3.0, 1.0, 2.0], "run": [0.0]}, {"total": [10.0, 20.0], "run": [1.0]}]
    assert figures.round_medians(turns, "total") == [2.0, 15.0]
    assert figures.round_medians(turns, "run") == [0.0, 1.0]


# Limits and the report.


def entry(name, milliseconds, precision="float32", runtime="LiteRT", **changes):
    return {
        "name": name,
        "title": f"title of {name}",
        "precision": precision,
        "runtime": runtime,
        "ours": name.startswith("ours"),
        "failure": None,
        "round_ms": [milliseconds, 1.1 * milliseconds, 0.9 * milliseconds],
        "stage_ms": {"prepare": 1.04, "run": 40.0, "labels": 8.96},
        "run_peak_bytes": [200_000_000],
        "label_agreement": {"mean": 0.99985, "worst": 0.9},
        "file_bytes": 52_603_708,
        "conversion_seconds": [12.0, 13.5, 11.0],
        "conversion_peak_bytes": [1_500_000_000],
        **changes,
    }


def failed(entry, why):
    return {**{key: entry[key] for key in ("name", "title", "precision", "runtime", "ours")}, "failure": why}


@pytest.fixture
def results():
    pytorch = {"file_bytes": None, "conversion_seconds": [], "conversion_peak_bytes": []}
    return {
        "command": "python benchmarks/runtimes/run.py --threads 2",
        "date": "2030-01-02",
        "machine": {
            "cpu": "Some CPU",
            "int8_dot_product": True,
            "cores": 2,
            "system": "Some OS",
            "python": "3.11.7",
            "load": 0.5,
        },
        "settings": {"image_size": (480, 640), "threads": 2, "conversions": 3, "rounds": 3, "warmups": 5, "runs": 30},
        "packages": {"project": dict.fromkeys([*contestants.PROJECT_PACKAGES, "came-along"], "1.2.3")},
        "photos": 7,
        "calibration_photos": 11,
        "contestants": [
            entry("ours", 93.0, conversion_seconds=[6.0, 6.0, 6.6], conversion_peak_bytes=[1_600_000_000]),
            entry("ours_dynamic", 30.0, "dynamic"),
            entry("ours_int8", 29.7, "int8", label_agreement={"mean": 0.998, "worst": 0.99}, file_bytes=13_400_000),
            entry("litert_torch_nhwc", 100.0),
            entry("litert_torch_nchw", 110.0, conversion_seconds=[60.0, 60.0, 60.0]),
            entry("openvino", 90.0, runtime="OpenVINO"),
            entry("pytorch", 155.0, runtime="PyTorch", **pytorch),
            entry("some_int8", 29.8, "int8", label_agreement={"mean": 0.996, "worst": 0.99}),
            entry("other_int8", 33.0, "int8", label_agreement={"mean": 0.999, "worst": 0.99}),
        ],
    }


def without(results, *names):
    return {**results, "contestants": [entry for entry in results["contestants"] if entry["name"] not in names]}


def test_every_limit_is_compared_with_the_peer_that_is_hardest_to_beat(results):
    assert limits.verdicts(results) == [
        (
            "ours: latency is 0.930 of that of the best float32 TFLite peer, litert_torch_nhwc, required is at most "
            "0.93: holds",
            True,
        ),
        ("ours: latency is 0.600 of that of pytorch, without a limit: for comparison", True),
        (
            "ours_dynamic: latency is 0.333 of that of the best float32 peer, openvino, required is at most 0.45: "
            "holds",
            True,
        ),
        (
            "ours_int8: latency is 0.297 of that of the best float32 TFLite peer, litert_torch_nhwc, required is at "
            "most 0.33: holds",
            True,
        ),
        (
            "ours_int8: latency is 0.330 of that of the best float32 peer of any runtime, openvino, without a limit: "
            "for comparison",
            True,
        ),
        ("ours_int8: latency is 0.997 of that of the best int8 peer, some_int8, required is at most 1.00: holds", True),
        (
            "ours_int8: part of pixels unlike PyTorch's is 2.000 of that of the best int8 peer, other_int8, required "
            "is at most 1.00: DOES NOT HOLD",
            False,
        ),
        ("ours_int8: file is 13.40 MB, required is at most 13.40: holds", True),
        (
            "ours: conversion time is 0.500 (0.444-0.600) of that of the best litert-torch file, litert_torch_nhwc, "
            "required is at most 0.90: holds",
            True,
        ),
        ("ours: conversion memory is 1.60 GB, required is at most 2.50: holds", True),
    ]


def test_without_8_bit_dot_products_the_speed_of_8_bits_is_a_comparison(results):
    results["machine"]["int8_dot_product"] = False
    results["contestants"][1]["round_ms"] = results["contestants"][2]["round_ms"] = [93.0, 93.0, 93.0]
    said = [sentence for sentence, holds in limits.verdicts(results) if "DOES NOT HOLD" in sentence]
    assert [sentence.partition(" is ")[0] for sentence in said] == [
        "ours_int8: latency",
        "ours_int8: part of pixels unlike PyTorch's",
    ]
    assert "without dot products of 8-bit numbers" in report.markdown(results, "picture.png")


@pytest.mark.parametrize(("bytes_", "holds"), [(13_400_000, True), (13_400_001, False)])
def test_a_limit_includes_itself(results, bytes_, holds):
    results["contestants"][2]["file_bytes"] = bytes_
    (verdict,) = (holds for sentence, holds in limits.verdicts(results) if "file is" in sentence)
    assert verdict is holds


def test_a_limit_without_a_peer_that_ran_does_not_hold(results):
    for place in (7, 8):
        results["contestants"][place] = failed(results["contestants"][place], "no wheel | at all")
    said = dict(limits.verdicts(results))
    assert said["ours_int8: latency, required is at most 1.00: DOES NOT HOLD, there is nothing to compare"] is False
    assert said["some_int8 failed: no wheel | at all"] is False


def test_a_limit_on_an_entry_of_ours_that_failed_does_not_hold(results):
    results["contestants"][2] = failed(results["contestants"][2], "too large")
    said = [(sentence, holds) for sentence, holds in limits.verdicts(results) if sentence.startswith("ours_int8")]
    assert len(said) == 6
    assert not any(holds for _, holds in said)


def test_a_limit_on_peers_that_were_not_asked_for_is_left_out(results):
    some = without(results, "some_int8", "other_int8", "pytorch", "openvino")
    assert [sentence.partition(" is ")[0] for sentence, _ in limits.verdicts(some)] == [
        "ours: latency",
        "ours_dynamic: latency",
        "ours_int8: latency",
        "ours_int8: latency",
        "ours_int8: file",
        "ours: conversion time",
        "ours: conversion memory",
    ]


def test_the_entries_that_limits_name_exist():
    described = [
        {"name": entry.name, "precision": entry.precision, "runtime": entry.runtime} for entry in contestants.PEERS
    ]
    for limit in limits.LIMITS:
        assert limit.ours in [entry.name for entry in contestants.OURS]
        assert limit.peers is None or any(map(limit.peers, described))


def rows(results):
    return [
        line for line in report.markdown(results, "picture.png").splitlines() if "| title of" in line.replace("*", "")
    ]


def test_each_group_is_compared_with_our_file_of_that_group(results):
    results["contestants"][5] = failed(results["contestants"][5], "no wheel | at all")
    assert rows(results)[:4] == [
        "| **title of ours** | 93.0 (83.7-102.3) | 1.000 | 99.9850% | 90.0000% | 52.60 | 200 | 6.0 (6.0-6.6) | 1600 |",
        "| title of litert_torch_nhwc | 100.0 (90.0-110.0) | 0.930 | 99.9850% | 90.0000% | 52.60 | 200 "
        "| 12.0 (11.0-13.5) | 1500 |",
        "| title of litert_torch_nchw | 110.0 (99.0-121.0) | 0.845 | 99.9850% | 90.0000% | 52.60 | 200 | 60.0 | 1500 |",
        "| title of openvino | failed: no wheel \\| at all | - | - | - | - | - | - | - |",
    ]
    assert rows(results)[4] == (
        "| title of pytorch | 155.0 (139.5-170.5) | 0.600 | 99.9850% | 90.0000% | - | 200 | - | - |"
    )
    assert [row.split(" | ")[2] for row in rows(results)[5:]] == ["0.990", "1.000", "0.997", "0.900"]


def test_without_our_file_a_group_has_no_ratios(results):
    results["contestants"][2] = failed(results["contestants"][2], "too large")
    assert [row.split(" | ")[2] for row in rows(results)[5:]] == ["-"] * 4


def test_markdown(results):
    text = report.markdown(results, "picture.png")
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert columns == {10}
    assert "- ours_int8: file is 13.40 MB, required is at most 13.40: holds" in text
    assert "`python benchmarks/runtimes/run.py --threads 2`" in text
    assert "480 x 640" in text
    assert "7 to compare labels on" in text
    assert "11 to calibrate on" in text
    assert "load before the start: 0.50" in text
    assert "(picture.png)" in text
    assert "numpy 1.2.3" in text
    assert "came-along" not in text


def test_plot_leaves_out_who_failed(results, tmp_path):
    heights = []
    for index in (None, 8, 7, 2, 1):
        if index is not None:
            results["contestants"][index] = failed(results["contestants"][index], "broke")
        plot.draw(results, tmp_path / "drawn.png")
        with Image.open(tmp_path / "drawn.png") as picture:
            heights.append(picture.height)
    assert heights == sorted(set(heights), reverse=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--checkpoint=/home/me/a.pth", "--checkpoint=a.pth"),
        ("--work_dir=build/benchmark", "--work_dir=build/benchmark"),
        ("FileNotFoundError: '/tmp/x/y.tflite' is missing", "FileNotFoundError: 'y.tflite' is missing"),
        ("~/secret/model.pt: no such file", "model.pt: no such file"),
        ("cannot fetch https://host.example/simple/torch/ now", "cannot fetch (address) now"),
        ("ours / this", "ours / this"),
    ],
)
def test_without_folders(text, expected):
    assert machine.without_folders(text) == expected


# Timing.


def parsed(runner, photo):
    return runner.labels(runner.run(runner.prepare(photo))).copy()


def agreements(runner, inputs):
    """The agreement on the photo that agrees least. Two, so that what one leaves behind shows in the other."""
    pairs = zip(inputs.photos, inputs.labels, strict=True)
    return min(agreement.agreement(runner, photo, labels) for photo, labels in pairs)


def test_ours_is_timed_and_returns_the_argmax(model, inputs, tmp_path):
    photo = inputs.photos[0]
    content = convert.to_tflite(model, SIZE)
    (tmp_path / "ours.tflite").write_bytes(content)
    runner = litert_labels.Runner(str(tmp_path / "ours.tflite"), 2, inputs)
    milliseconds = measure.measure(runner, photo, warmups=1, runs=3)
    assert milliseconds.shape == (3, len(measure.STAGES))
    assert (milliseconds > 0).all()
    labels = parsed(runner, photo)
    unpacked = flatbuffer.unpack(content)
    inner = {"logits": flatbuffer.find_scores(unpacked, unpacked.subgraphs[0].outputs[0])}
    logits = TFLiteRunner(content, inner=inner)(photo[np.newaxis])["logits"][0]
    np.testing.assert_array_equal(labels, logits.argmax(-1))
    assert len(np.unique(labels)) > 3

    # PyTorch is made to differ at 24 pixels of the first photo, and nowhere in the second.
    expected = np.stack([labels, parsed(runner, inputs.photos[1])]).astype(np.int16)
    expected[0, 5, :24] += 1
    dataclasses.replace(inputs, labels=expected).save(tmp_path / "inputs")
    job = {"runner": "litert_labels", "model": str(tmp_path / "ours.tflite"), "threads": 2, "options": {}}
    job |= {"inputs": str(tmp_path / "inputs"), "output": str(tmp_path / "said.json")}
    processes.run_job(sys.executable, "runtimes.agreement", job, tmp_path / "log")
    assert json.loads((tmp_path / "said.json").read_text()) == [1 - 24 / (64 * 96), 1.0]
    processes.run_job(sys.executable, "runtimes.measure", {**job, "warmups": 0, "runs": 2}, tmp_path / "log")
    turn = json.loads((tmp_path / "said.json").read_text())
    assert turn["total"] == pytest.approx(np.sum([turn[stage] for stage in measure.STAGES], axis=0))
    assert len(turn["total"]) == 2


def test_a_peer_gets_numpy_around_its_network(model, inputs, tmp_path):
    content = convert.to_tflite(model, SIZE, input_type="float32", output="logits")
    (tmp_path / "peer.tflite").write_bytes(content)
    runner = litert_logits.Runner(str(tmp_path / "peer.tflite"), 2, inputs, "nhwc")
    assert agreements(runner, inputs) > 0.999


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")
@pytest.mark.parametrize(
    ("converter", "options", "least"),
    [
        (tflite_converter, {"precision": "float32"}, 0.999),
        (tflite_converter, {"precision": "dynamic"}, 0.97),
        (tflite_converter, {"precision": "int8"}, 0.9),
        (keras_export, {}, 0.999),
    ],
)
def test_what_a_keras_user_would_take(monkeypatch, inputs, tmp_path, converter, options, least):
    keras.utils.set_random_seed(0)
    photo = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(32, 7, padding="same", activation="relu")(photo)
    network = keras.Model(photo, {"logits": keras.layers.Conv2D(7, 1)(x), "logits16": x})
    monkeypatch.setattr(keras_network, "network", lambda *_arguments: network)
    path = tmp_path / "peer.tflite"
    converter.convert(None, None, inputs, str(path), **options)
    normalized = ((inputs.photos / 255 - MEAN) / STD).astype(np.float32)
    expected = keras.ops.convert_to_numpy(network(normalized)["logits"]).argmax(-1)
    runner = litert_logits.Runner(str(path), 2, inputs, "nhwc")
    assert agreements(runner, dataclasses.replace(inputs, labels=expected)) > least


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")
def test_a_peer_with_an_int8_image_gets_it_quantised(inputs, tmp_path):
    # Three classes: each pixel belongs to its strongest colour.
    network = keras.Sequential([keras.Input((*SIZE, 3), 1), keras.layers.Conv2D(3, 1, use_bias=False)])
    network.layers[0].set_weights([np.eye(3, dtype=np.float32)[None, None]])
    normalized = ((inputs.photos / 255 - MEAN) / STD).astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in normalized)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (tmp_path / "peer.tflite").write_bytes(converter.convert())
    runner = litert_logits.Runner(str(tmp_path / "peer.tflite"), 2, inputs, "nhwc")
    assert agreements(runner, dataclasses.replace(inputs, labels=normalized.argmax(-1))) > 0.97


def test_onnxruntime_in_float32_and_int8(state, inputs, tmp_path):
    architecture, sizes, found = weight_port.recognise(state), {}, {}
    for precision in ("float32", "int8"):
        path = tmp_path / f"{precision}.onnx"
        onnxruntime_converter.convert(state, architecture, inputs, str(path), precision)
        found[precision] = agreements(onnxruntime_runner.Runner(str(path), 2, inputs), inputs)
        sizes[precision] = path.stat().st_size
    assert found["float32"] > 0.999
    assert 0.7 < found["int8"] < found["float32"]
    assert sizes["int8"] < 0.27 * sizes["float32"]


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pytorch_runs_the_checkpoint_in_both_layouts(state, inputs, tmp_path, layout):
    weight_port.save(tmp_path / "a.pth", state)
    runner = pytorch_runner.Runner(str(tmp_path / "a.pth"), 2, inputs, layout, compiled=False)
    assert agreements(runner, inputs) > 0.999


@pytest.mark.parametrize(("layout", "order"), [("nhwc", (0, 1, 2)), ("nchw", (2, 0, 1))])
def test_numpy_processing(photo, layout, order):
    processing = NumpyProcessing(MEAN, STD, SIZE, layout)
    expected = ((photo / 255 - MEAN) / STD).transpose(order)[np.newaxis]
    np.testing.assert_allclose(processing.image(photo), expected, atol=1e-6)
    assert processing.image(photo).dtype == np.float32
    quantized = np.zeros(expected.shape, np.int8)
    NumpyProcessing(MEAN, STD, SIZE, layout, (0.015, 3)).normalize(photo, quantized)
    np.testing.assert_allclose(quantized, (expected / 0.015 + 3).clip(-128, 127), atol=0.501)
    assert len(np.unique(quantized)) > 250

    logits = np.random.default_rng(1).normal(size=(*SIZE, 19)).round(1).astype(np.float32)
    labels = processing.labels(np.ascontiguousarray(logits.transpose(order))[np.newaxis])
    np.testing.assert_array_equal(labels, logits.argmax(-1))


@pytest.mark.parametrize("labels", [np.zeros((96, 64), np.uint8), np.zeros((64, 96), np.float32)])
def test_what_is_no_label_map_is_refused(photo, labels):
    runner = types.SimpleNamespace(prepare=lambda photo: photo, run=lambda photo: photo, labels=lambda _: labels)
    with pytest.raises(ValueError, match=r"expected whole numbers \(64, 96\), found"):
        agreement.agreement(runner, photo, np.zeros(SIZE, np.int16))


# The photos.


def test_the_reference_gives_all_the_same_photos_and_labels(state, inputs, tmp_path):
    weight_port.save(tmp_path / "a.pth", state)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in zip("ab", inputs.photos, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    reference.write(tmp_path / "a.pth", SIZE, str(folder), str(folder), 5, tmp_path / "inputs")
    written = Inputs.load(tmp_path / "inputs")
    np.testing.assert_array_equal(written.photos, inputs.photos)
    np.testing.assert_array_equal(written.labels, inputs.labels)
    np.testing.assert_array_equal(written.mean, MEAN)
    np.testing.assert_array_equal(written.std, STD)
    assert written.image_size == SIZE
    # The folder holds two, in whatever order.
    assert sorted(image.tobytes() for image in written.calibration) == sorted(
        image.tobytes() for image in inputs.photos
    )


def test_without_photos_the_bundled_one_is_taken(state, tmp_path):
    weight_port.save(tmp_path / "a.pth", state)
    for name in ("one", "two"):
        reference.write(tmp_path / "a.pth", SIZE, None, None, 4, tmp_path / name)
    one, two = Inputs.load(tmp_path / "one"), Inputs.load(tmp_path / "two")
    np.testing.assert_array_equal(one.photos, images.read(images.BUNDLED, SIZE)[np.newaxis])
    assert one.calibration.shape == (4, *SIZE, 3)
    assert len({image.tobytes() for image in one.calibration}) == 4
    np.testing.assert_array_equal(one.calibration, two.calibration)


# Processes and environments.


def python(code, log, **options):
    return processes.run([sys.executable, "-c", code], log, **options)


def test_memory_and_time_of_a_process_and_of_its_children(tmp_path):
    hold = "import time; held = b'x' * 300_000_000; time.sleep(0.3)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    # In a small process of its own: a system counts what this one holds, which is large, towards its children.
    measure_both = (
        "import pathlib, sys; from benchmarks import processes\n"
        f"for code in ({hold!r}, {child!r}):\n"
        "    finished = processes.run([sys.executable, '-c', code], pathlib.Path(sys.argv[1]))\n"
        "    print(finished.peak_bytes, finished.seconds)"
    )
    command = [sys.executable, "-c", measure_both, str(tmp_path / "log")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    for line in answer.stdout.splitlines():
        peak_bytes, seconds = map(float, line.split())
        assert 300e6 < peak_bytes < 400e6
        assert 0.3 < seconds < 10
    assert len(answer.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('before'); import sys; sys.exit('what went wrong\\n\\n')", "what went wrong"),
        ("import sys; sys.exit(3)", "failed without a word"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import time; time.sleep(60)", "took longer than 1.5 s"),
    ],
)
def test_a_failed_process_says_why(monkeypatch, tmp_path, code, reason):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with pytest.raises(processes.ProcessError, match=f"^{re.escape(reason)}$"):
        python(code, tmp_path / "log", timeout=1.5 if "sleep" in code else 60)


def test_a_failed_job_says_the_first_line_of_its_error(tmp_path):
    with pytest.raises(processes.ProcessError, match=r"^CheckpointError: nowhere\.pth: no such file$"):
        job = {"converter": "ours", "checkpoint": "nowhere.pth", "inputs": "x", "output": "x", "options": {}}
        processes.run_job(sys.executable, "runtimes.convert", job, tmp_path / "log")


@pytest.fixture
def installations(monkeypatch):
    """Records what would be run; one of the two environments cannot be made."""
    commands = []

    def run(command, _log):
        commands.append([str(part) for part in command])
        if "venv" in commands[-1]:
            pathlib.Path(commands[-1][-1]).mkdir()
        if "fail==1.0" in commands[-1]:
            raise processes.ProcessError("ERROR: No matching distribution found for fail==1.0")

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(environments, "PINS", {"good": ("good==1.0",), "bad": ("fail==1.0",)})
    return commands


def test_an_environment_is_made_once_for_the_same_pins(tmp_path, installations):
    for _ in range(2):
        assert environments.Environments(tmp_path, tmp_path).python("good") == tmp_path / "good" / "bin" / "python"
    assert [command[1:3] for command in installations] == [["-m", "venv"], ["-m", "pip"]]
    assert installations[1][-1] == "good==1.0"
    environments.PINS["good"] = ("good==2.0",)
    environments.Environments(tmp_path, tmp_path, ["--no-deps"]).python("good")
    assert installations[3][-2:] == ["--no-deps", "good==2.0"]


def test_a_failed_installation_is_not_tried_again(tmp_path, installations):
    made = environments.Environments(tmp_path, tmp_path)
    for _ in range(2):
        with pytest.raises(processes.ProcessError, match="No matching distribution"):
            made.python("bad")
    assert len(installations) == 2


# The order of events.


SETTINGS = comparison.Settings(SIZE, None, None, 3, threads=2, conversions=1, rounds=2, warmups=0, runs=1)
MILLISECONDS = {"ours": 10.0, "b": 20.0, "c": 40.0, "unconverted": 80.0}


def compared(monkeypatch, tmp_path, fail):
    """Runs the comparison of four contestants with children that only pretend; returns (events, what it returns)."""
    events = []

    def run_job(_python, module, job, _log):
        module, output = module.removeprefix("runtimes."), pathlib.Path(job["output"])
        name = output.parent.name if module == "convert" else output.stem.partition("_")[2]
        events.append(f"{module} {name}".strip())
        if events[-1] in fail:
            raise processes.ProcessError("RuntimeError: /home/me/x.py broke")
        if module == "reference":
            photos = np.zeros((2, *SIZE, 3), np.uint8)
            Inputs(photos, photos[..., 0], photos[:1], MEAN, STD).save(output)
        elif module == "convert":
            output.write_text("file")
            output.with_suffix(".bin").write_text("beside it")
        elif module == "agreement":
            assert (job["model"] == str(tmp_path / "a.pth")) == (name == "unconverted")
            output.write_text("[1.0, 0.5, 0.9]")
        else:
            times = [MILLISECONDS[name] * len(events)]
            output.write_text(json.dumps({"total": times, **dict.fromkeys(measure.STAGES, times)}))
        return processes.Finished(2.0, 1000)

    monkeypatch.setattr(processes, "run_job", run_job)
    step = contestants.Step(contestants.PROJECT, "any")
    chosen = [
        contestants.Contestant(name, name, "float32", "LiteRT", None if name == "unconverted" else step, step)
        for name in MILLISECONDS
    ]
    made = comparison.Comparison(chosen, tmp_path / "a.pth", SETTINGS, tmp_path)
    return events, made.run()


def test_contestants_take_turns(monkeypatch, tmp_path):
    events, results = compared(monkeypatch, tmp_path, fail=())
    labels, turns = ([f"{module} {name}" for name in MILLISECONDS] for module in ("agreement", "measure"))
    assert events == ["reference", "convert ours", "convert b", "convert c", *labels, *turns, *turns]
    assert (results["photos"], results["calibration_photos"]) == (2, 1)
    entries = results["contestants"]
    assert [entry["name"] for entry in entries] == list(MILLISECONDS)
    assert entries[0]["round_ms"] == [90.0, 130.0]
    assert entries[2]["file_bytes"] == len("file" + "beside it")
    assert entries[2]["label_agreement"] == {"mean": pytest.approx(0.8), "worst": 0.5}
    assert entries[2]["run_peak_bytes"] == [1000, 1000]
    assert entries[3]["file_bytes"] is None
    assert entries[3]["conversion_seconds"] == []


def test_a_peer_that_fails_is_a_row_and_the_others_go_on(monkeypatch, tmp_path):
    (tmp_path / "files" / "b").mkdir(parents=True)
    (tmp_path / "files" / "b" / "model.tflite").write_text("of an earlier time")
    events, results = compared(monkeypatch, tmp_path, fail=("convert b", "agreement c"))
    assert events[-2:] == ["measure ours", "measure unconverted"]
    assert not {"agreement b", "measure b", "measure c"} & set(events)
    assert not (tmp_path / "files" / "b" / "model.tflite").exists()
    failures = [entry["failure"] for entry in results["contestants"]]
    assert failures == [None, "RuntimeError: x.py broke", "RuntimeError: x.py broke", None]


@pytest.mark.parametrize("event", ["reference", "convert ours", "agreement ours", "measure ours"])
def test_without_ours_there_is_nothing_to_compare(monkeypatch, tmp_path, event):
    with pytest.raises(comparison.BenchmarkError, match="failed: RuntimeError"):
        compared(monkeypatch, tmp_path, fail=(event,))


# The command.


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--peers=nobody"], "expected a comma-separated list of tflite_converter"),
        (["--image_size=16"], "16 is not integer >= 32"),
        (["--checkpoint=nowhere.pth"], "error: nowhere.pth: no such file"),
        (["--work_dir=README.md", "--peers="], "error: cannot write: "),
        (["--calibration_count=0"], "0 is not a positive integer"),
        (["--photos=nowhere", "--peers="], "nowhere: no such file or folder"),
        (["stray"], "unexpected arguments: stray"),
    ],
)
def test_a_mistake_of_the_user_is_one_clear_line(tmp_path, arguments, reason):
    command = [sys.executable, "benchmarks/runtimes/run.py", f"--work_dir={tmp_path}", *arguments]
    process = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert process.returncode != 0
    assert reason in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
