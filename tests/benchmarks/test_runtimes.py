"""The comparison of runtimes: its candidates, thresholds, order of events, converters and runners.

No environment is made and nothing is downloaded.
"""

import dataclasses
import inspect
import pathlib
import re
import types

import keras
import numpy as np
import pytest
from PIL import Image
from support.networks import random_state

import weight_port
from benchmarks.common import networks, processes
from benchmarks.runtimes import candidates, comparison, converters, report, runners, worker
from benchmarks.runtimes import inputs as photos_and_labels
from benchmarks.runtimes.inputs import Inputs
from benchmarks.runtimes.runners import NumpyProcessing
from keras_bisenet import preprocessing
from keras_bisenet.export import convert
from keras_bisenet.utils import images
from weight_port.reference.torch_network import Reference

pytestmark = pytest.mark.slow

ENTRIES = list(candidates.CANDIDATES.values())
# Height and width differ, and neither is the number of channels or classes.
SIZE = (64, 96)
MEAN, STD = np.array(preprocessing.MEAN), np.array(preprocessing.STD)


@pytest.fixture(scope="module")
def state():
    return random_state(width=0.5)


@pytest.fixture(scope="module")
def inputs(state):
    """Two photos, the second the first upside down, with the labels of PyTorch; they are calibrated on as well."""
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    photos = np.stack([photo, photo[::-1]])
    normalized = ((photos / 255 - MEAN) / STD).astype(np.float32)
    logits, _, _ = Reference(state, weight_port.recognize(state))(normalized)
    return Inputs(photos, logits.argmax(-1).astype(np.int16), photos, MEAN, STD)


# The tables of candidates.


def test_every_environment_is_used_and_pins_each_package_to_one_version():
    used = {step.environment for entry in ENTRIES for step in (entry.convert, entry.run) if step}
    assert used == {candidates.PROJECT, *candidates.PINS}
    for name, pins in candidates.PINS.items():
        assert name != candidates.PROJECT
        packages = [re.fullmatch(r"([A-Za-z0-9._-]+)==\d+(\.\d+)+", pin)[1] for pin in pins]
        assert packages == sorted(set(packages)), name


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_gives_its_code_the_options_it_takes(entry):
    for module, step, given in ((converters, entry.convert, 4), (runners, entry.run, 3)):
        if step is not None:
            parameters = inspect.signature(getattr(module, step.function)).parameters
            options = list(parameters.values())[given:]
            needed = {option.name for option in options if option.default is option.empty}
            assert needed <= set(step.options) <= {option.name for option in options}


# Thresholds and the report.


def entry(name, milliseconds, precision="float32", same=0.998, conversion=9.0, **changes):
    found = {"name": name, "title": name, "precision": precision, "runtime": "LiteRT", "ours": name.startswith("ours")}
    found |= {"failure": None, "round_ms": [milliseconds], "label_agreement": {"mean": same, "worst": 0.9}}
    found |= {"conversion_seconds": [conversion], "conversion_peak_bytes": [2.5e9]}
    return found | {"run_peak_bytes": [2e8], "file_bytes": 13_400_000} | changes


# In each group the second is the easier one to beat.
PEERS = [
    *(entry("litert_torch_nhwc", 100.0, conversion=10.0), entry("litert_torch_nchw", 110.0, conversion=60.0)),
    *(entry("some_int8", 30.0, "int8"), entry("other_int8", 40.0, "int8", same=0.996)),
]
AT_THE_LIMIT = [entry("ours", 93.0), entry("ours_dynamic", 45.0, "dynamic"), entry("ours_int8", 30.0, "int8")]
BEYOND_IT = [
    entry("ours", 93.1, conversion=9.1, conversion_peak_bytes=[2.6e9]),
    entry("ours_dynamic", 45.1, "dynamic"),
    entry("ours_int8", 33.1, "int8", same=0.9979, file_bytes=13_400_001),
]


def holds(entries, dot_product=True):
    """Text of each check -> whether its threshold holds; a comparison without a threshold is None."""
    results = {"machine": {"int8_dot_product": dot_product}, "candidates": entries}
    return {check.text: check.holds for check in report.checks(results)}


def test_thresholds_count_for_the_peer_that_is_hardest_to_beat():
    assert set(holds(AT_THE_LIMIT + PEERS).values()) == {True, None}
    assert set(holds(BEYOND_IT + PEERS).values()) == {False, None}
    # Without 8-bit dot products the speed of 8 bits is a comparison.
    found = holds(BEYOND_IT + PEERS, dot_product=False)
    of_8_bits = [holds for text, holds in found.items() if text.startswith(("ours_int8: lat", "ours_dynamic: lat"))]
    assert of_8_bits == [None] * 4


def test_what_failed_does_not_hold_and_is_a_row():
    kept = ("name", "title", "precision", "runtime", "ours")
    ours, peer = ({key: found[key] for key in kept} | {"failure": "no | wheel"} for found in (BEYOND_IT[2], PEERS[2]))
    assert holds([*AT_THE_LIMIT, peer])["some_int8 failed: no | wheel"] is False
    assert "failed: no \\| wheel" in "".join(report.REPORT.body({"candidates": [*AT_THE_LIMIT, peer]}))
    found = holds([*AT_THE_LIMIT[:2], ours, *PEERS])
    assert {held for text, held in found.items() if text.startswith("ours_int8")} == {False}


def test_the_entries_that_thresholds_name_exist():
    peers = [vars(entry) for entry in ENTRIES if entry.name not in candidates.OURS]
    for threshold in report.THRESHOLDS:
        assert threshold.ours in candidates.OURS
        is_peer = report.PEERS.get(threshold.against)
        assert is_peer is None or any(map(is_peer, peers))


# Converters and runners.


def agreements(run, inputs):
    """The agreement on the photo that agrees least. Two, so that what one leaves behind shows in the other."""
    pairs = zip(inputs.photos, inputs.labels, strict=True)
    return min(worker.agreement(run, photo, labels) for photo, labels in pairs)


def test_ours_is_compared_and_timed_in_child_processes(state, inputs, tmp_path):
    model = networks.in_keras(state, weight_port.recognize(state))
    (tmp_path / "ours.tflite").write_bytes(convert.to_tflite(model, SIZE))
    run = runners.litert_labels(str(tmp_path / "ours.tflite"), 2, inputs)
    assert agreements(run, inputs) > 0.999
    # PyTorch is made to differ at 24 pixels of the first photo, and nowhere in the second.
    expected = np.stack([run(photo) for photo in inputs.photos]).astype(np.int16)
    expected[0, 5, :24] += 1
    dataclasses.replace(inputs, labels=expected).save(tmp_path / "inputs")
    arguments = {"runner": "litert_labels", "model": str(tmp_path / "ours.tflite"), "threads": 2, "options": {}}
    arguments |= {"inputs": str(tmp_path / "inputs")}
    found, _ = processes.call("benchmarks.runtimes.worker:compare", arguments, tmp_path / "log")
    assert found == [1 - 24 / (64 * 96), 1.0]
    arguments |= {"warmups": 1, "runs": 2}
    found, _ = processes.call("benchmarks.runtimes.worker:measure", arguments, tmp_path / "log")
    assert len(found) == 2
    assert min(found) > 0


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")
@pytest.mark.parametrize(
    ("converter", "options", "least"),
    [
        (converters.tflite_converter, {"precision": "float32"}, 0.999),
        (converters.tflite_converter, {"precision": "dynamic"}, 0.97),
        (converters.tflite_converter, {"precision": "int8"}, 0.9),
        (converters.keras_export, {}, 0.999),
    ],
)
def test_keras_users_own_exporters(monkeypatch, inputs, tmp_path, converter, options, least):
    keras.utils.set_random_seed(0)
    photo = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(32, 7, padding="same", activation="relu")(photo)
    network = keras.Model(photo, {"logits": keras.layers.Conv2D(7, 1)(x), "logits16": x})
    monkeypatch.setattr(networks, "in_keras", lambda *_arguments: network)
    path = tmp_path / "peer.tflite"
    converter(None, None, inputs, str(path), **options)
    normalized = ((inputs.photos / 255 - MEAN) / STD).astype(np.float32)
    expected = keras.ops.convert_to_numpy(network(normalized)["logits"]).argmax(-1)
    run = runners.litert_logits(str(path), 2, inputs, "nhwc")
    assert agreements(run, dataclasses.replace(inputs, labels=expected)) > least


def test_onnxruntime_in_float32_and_int8(state, inputs, tmp_path):
    architecture, sizes, found = weight_port.recognize(state), {}, {}
    for precision in ("float32", "int8"):
        path = tmp_path / f"{precision}.onnx"
        converters.onnxruntime(state, architecture, inputs, str(path), precision)
        found[precision] = agreements(runners.onnxruntime(str(path), 2, inputs), inputs)
        sizes[precision] = path.stat().st_size
    assert found["float32"] > 0.999
    assert 0.7 < found["int8"] < found["float32"]
    assert sizes["int8"] < 0.27 * sizes["float32"]


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pytorch_runs_the_checkpoint_in_both_layouts(state, inputs, tmp_path, layout):
    weight_port.save(tmp_path / "a.pth", state)
    assert agreements(runners.pytorch(str(tmp_path / "a.pth"), 2, inputs, layout, compiled=False), inputs) > 0.999


@pytest.mark.parametrize(("layout", "order"), [("nhwc", (0, 1, 2)), ("nchw", (2, 0, 1))])
def test_numpy_processing(inputs, layout, order):
    processing, photo = NumpyProcessing(inputs, layout), inputs.photos[0]
    expected = ((photo / 255 - MEAN) / STD).transpose(order)[np.newaxis]
    np.testing.assert_allclose(processing.image(photo), expected, atol=1e-6)
    assert processing.image(photo).dtype == np.float32
    quantized = np.zeros(expected.shape, np.int8)
    NumpyProcessing(inputs, layout, (0.015, 3)).normalize(photo, quantized)
    np.testing.assert_allclose(quantized, (expected / 0.015 + 3).clip(-128, 127), atol=0.501)
    logits = np.random.default_rng(1).normal(size=(*SIZE, 19)).round(1).astype(np.float32)
    labels = processing.labels(np.ascontiguousarray(logits.transpose(order))[np.newaxis])
    np.testing.assert_array_equal(labels, logits.argmax(-1))


@pytest.mark.parametrize("labels", [np.zeros((96, 64), np.uint8), np.zeros((64, 96), np.float32)])
def test_what_is_no_label_map_is_refused(labels):
    with pytest.raises(ValueError, match=r"expected whole numbers \(64, 96\), found"):
        worker.agreement(lambda _photo: labels, None, np.zeros(SIZE, np.int16))


# Photos, environments and the order of events.


def test_all_get_the_same_photos_and_labels(state, inputs, tmp_path):
    weight_port.save(tmp_path / "a.pth", state)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in zip("ab", inputs.photos, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    photos_and_labels.write(tmp_path / "a.pth", SIZE, str(folder), str(folder), 5, tmp_path / "inputs")
    written = Inputs.load(tmp_path / "inputs")
    for name in ("photos", "labels", "mean", "std"):
        np.testing.assert_array_equal(getattr(written, name), getattr(inputs, name))
    assert sorted(map(bytes, written.calibration)) == sorted(map(bytes, inputs.photos))
    photos_and_labels.write(tmp_path / "a.pth", SIZE, None, None, 4, tmp_path / "bundled")
    bundled = Inputs.load(tmp_path / "bundled")
    np.testing.assert_array_equal(bundled.photos, images.read(images.BUNDLED, SIZE)[np.newaxis])
    assert len({bytes(image) for image in bundled.calibration}) == 4


def test_an_environment_is_made_once_for_the_same_pins(tmp_path, monkeypatch):
    """One of the two cannot be made, and is not tried again either."""
    commands = []

    def run(command, _log):
        commands.append([str(part) for part in command])
        if "venv" in commands[-1]:
            pathlib.Path(commands[-1][-1]).mkdir()
        if "fail==1.0" in commands[-1]:
            raise processes.ProcessError("ERROR: No matching distribution found for fail==1.0")

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(comparison, "PINS", {"good": ["good==1.0"], "bad": ["fail==1.0"]})
    for _ in range(2):
        assert comparison.Environments(tmp_path, tmp_path).python("good") == tmp_path / "good" / "bin" / "python"
    assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"]]
    comparison.PINS["good"] = ["good==2.0"]
    made = comparison.Environments(tmp_path, tmp_path, ["--no-deps"])
    made.python("good")
    assert commands[3][-2:] == ["--no-deps", "good==2.0"]
    for _ in range(2):
        with pytest.raises(processes.ProcessError, match="No matching distribution"):
            made.python("bad")
    assert len(commands) == 6


MILLISECONDS = {"ours": 10.0, "b": 20.0, "c": 40.0, "unconverted": 80.0}


def compared(monkeypatch, tmp_path, fail):
    """Runs the comparison of four candidates with children that only pretend; returns (events, what it returns)."""
    events = []

    def call(function, arguments, log, _python):
        function, name = function.partition(":")[2], log.stem.partition("_")[2]
        events.append(f"{function} {name}".strip())
        if events[-1] in fail:
            raise processes.ProcessError("RuntimeError: /home/me/x.py broke")
        result = [1.0, 0.5, 0.9] if function == "compare" else [MILLISECONDS.get(name, 0) * len(events)]
        if function == "write":
            photos = np.zeros((2, *SIZE, 3), np.uint8)
            Inputs(photos, photos[..., 0], photos[:1], MEAN, STD).save(arguments["output"])
        elif function == "convert":
            output = pathlib.Path(arguments["output"])
            output.write_text("file")
            output.with_suffix(".bin").write_text("beside it")
        else:
            assert (arguments["model"] == str(tmp_path / "a.pth")) == (name == "unconverted")
        return result, processes.Finished(2.0, 1000)

    monkeypatch.setattr(processes, "call", call)
    monkeypatch.setattr(networks, "locate", lambda path: path)
    step = candidates.Step(candidates.PROJECT, "any")
    chosen = [candidates.Candidate(name, name, step, None if name == "unconverted" else step) for name in MILLISECONDS]
    options = {"checkpoint": tmp_path / "a.pth", "work_dir": tmp_path, "pip_flags": "", "image_size": 64, "threads": 2}
    options |= {"photos": None, "calibration_images": "/home/me/train", "calibration_count": 3}
    options |= {"conversions": 1, "rounds": 2, "warmups": 0, "runs": 1}
    return events, comparison.Comparison(chosen, types.SimpleNamespace(**options)).run()


def test_candidates_are_measured_in_interleaved_rounds(monkeypatch, tmp_path):
    events, results = compared(monkeypatch, tmp_path, fail=())
    labels, round_ = ([f"{function} {name}" for name in MILLISECONDS] for function in ("compare", "measure"))
    assert events == ["write", "convert ours", "convert b", "convert c", *labels, *round_, *round_]
    assert (results["photos"], results["calibration_photos"]) == (2, 1)
    assert results["settings"]["calibration_images"] == "train"
    entries = results["candidates"]
    assert [entry["name"] for entry in entries] == list(MILLISECONDS)
    assert entries[0]["round_ms"] == [90.0, 130.0]
    assert entries[2]["file_bytes"] == len("file" + "beside it")
    assert entries[2]["label_agreement"] == {"mean": pytest.approx(0.8), "worst": 0.5}
    assert entries[2]["run_peak_bytes"] == [1000, 1000]
    assert (entries[3]["file_bytes"], entries[3]["conversion_seconds"]) == (None, [])


def test_a_peer_that_fails_is_a_row_and_the_others_go_on(monkeypatch, tmp_path):
    (tmp_path / "files" / "b").mkdir(parents=True)
    (tmp_path / "files" / "b" / "model.tflite").write_text("of an earlier time")
    events, results = compared(monkeypatch, tmp_path, fail=("convert b", "compare c"))
    assert events[-2:] == ["measure ours", "measure unconverted"]
    assert not {"compare b", "measure b", "measure c"} & set(events)
    assert not (tmp_path / "files" / "b" / "model.tflite").exists()
    failures = [entry["failure"] for entry in results["candidates"]]
    assert failures == [None, "RuntimeError: x.py broke", "RuntimeError: x.py broke", None]


@pytest.mark.parametrize("event", ["write", "convert ours", "compare ours", "measure ours"])
def test_without_ours_there_is_nothing_to_compare(monkeypatch, tmp_path, event):
    with pytest.raises(processes.BenchmarkError, match="failed: RuntimeError"):
        compared(monkeypatch, tmp_path, fail=(event,))
