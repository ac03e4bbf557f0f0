"""Every float `.tflite` file runs wholly on a GPU: in LiteRT.js on WebGPU, in Chromium with its software adapter."""

import base64
import dataclasses
import json
import shutil
import subprocess
from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf
from support.networks import random_state
from support.paths import ROOT
from support.ported import default_model, normalized, port

from keras_bisenet.export import convert
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import images
from weight_port import parity

BROWSER = ROOT / "tests" / "browser"
CHROMIUM, NODE = shutil.which("chromium"), shutil.which("node")
INSTALLED = CHROMIUM and NODE and (BROWSER / "node_modules" / "playwright-core").is_dir()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(
        not INSTALLED,
        reason="needs Chromium, Node >= 20 and two packages: apt-get install chromium; npm ci --prefix tests/browser",
    ),
]

# The software adapter computes in float32 (it has no half precision, which LiteRT takes where there is one).
# The CPU rounds the activations of a dynamic-range file, the GPU does not.
TOLERANCE = parity.Tolerance(parity.FLOAT32_ERROR, 0.9999)
TOLERANCES = {"dynamic": parity.TOLERANCES["dynamic"], "dynamic, odd size": parity.Tolerance(0.03, 0.99)}

# Name -> network, size, precision, input, output. The software adapter takes 25 s for a photo of 512x512, so that the
# others are small.
CASES = {
    "default": ("trained", (512, 512), "float32", "uint8", "labels"),
    "float16": ("trained", (96, 160), "float16", "uint8", "labels"),
    "dynamic": ("trained", (96, 160), "dynamic", "uint8", "logits"),
    "dynamic, odd size": ("random", (133, 97), "dynamic", "uint8", "logits"),
    "probabilities": ("trained", (96, 160), "float16", "float32", "probabilities"),
    "all heads": ("trained", (96, 160), "float32", "uint8", "all_heads"),
    "resnet34, odd size": ("random", (133, 97), "float32", "float32", "all_heads"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One file: `results` in the browser and `expected` on the CPU, output name -> array."""

    wholly: bool
    problems: list[str]
    results: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]


def repeated_in_five_dimensions():
    """The rows of a photo twice, as Keras' `UpSampling2D` is converted: by TILE and RESHAPE in five dimensions."""

    @tf.function(input_signature=[tf.TensorSpec((1, 32, 48, 3), tf.uint8, "image")])
    def repeat(image):
        x = tf.reshape(tf.cast(image, tf.float32), (1, 32, 1, 48, 3))
        return tf.reshape(tf.tile(x, (1, 1, 2, 1, 1)), (1, 64, 48, 3))

    content = tf.lite.TFLiteConverter.from_concrete_functions([repeat.get_concrete_function()]).convert()
    model = flatbuffer.unpack(content)
    flatbuffer.set_signature(model, ["image"], ["joined"])
    return flatbuffer.pack(model)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Name -> `Run` of each case and of the refused graph, from one start of the browser."""
    folder = tmp_path_factory.mktemp("webgpu")
    models = {"trained": default_model(), "random": port(random_state("resnet34", "yakhyo", num_classes=7))}
    photos, files = {}, {}
    for name, (model, size, precision, input_type, output) in CASES.items():
        photo = images.read(images.BUNDLED, size)[np.newaxis]
        photos[name] = photo if input_type == "uint8" else normalized(photo)
        files[name] = convert.to_tflite(models[model], size, precision, input_type, output)
    photos["refused"] = images.read(images.BUNDLED, (32, 48))[np.newaxis]
    files["refused"] = repeated_in_five_dimensions()
    for name, content in files.items():
        (folder / f"{name}.tflite").write_bytes(content)
        (folder / f"{name}.bin").write_bytes(photos[name].tobytes())
    process = subprocess.run(
        [NODE, BROWSER / "run_tflite.mjs", CHROMIUM, folder],
        input=json.dumps([{"model": f"{name}.tflite", "input": f"{name}.bin"} for name in files]),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    answers = zip(files.items(), json.loads(process.stdout), strict=True)
    return {name: compare(content, photos[name], answer) for (name, content), answer in answers}


def compare(content, photo, answer):
    results = {}
    for entry in flatbuffer.describe(content)["outputs"]:
        if encoded := answer.get("outputs", {}).get(entry["name"]):
            array = np.frombuffer(base64.b64decode(encoded), entry["dtype"])
            results[entry["name"]] = array.reshape(entry["shape"])
    return Run(answer.get("wholly"), answer["problems"], results, TFLiteRunner(content)(photo))


@pytest.mark.parametrize("name", CASES)
def test_runs_wholly_on_the_gpu_and_gives_what_the_cpu_gives(runs, name):
    run = runs[name]
    assert run.problems == []
    assert run.wholly is True
    tolerance = TOLERANCES.get(name, TOLERANCE)
    assert list(run.results) == list(run.expected)
    for output, expected in run.expected.items():
        if output == "labels":
            assert (run.results[output] == expected).mean() >= tolerance.agreement
        else:
            difference = parity.compare(expected, run.results[output])
            assert tolerance.holds(difference), (output, difference)


def test_ops_that_stay_on_the_cpu_are_named(runs):
    run = runs["refused"]
    assert run.wholly is False
    assert any(problem.startswith("TILE: ") for problem in run.problems)
    assert any("the remaining 3 operations will run on the CPU" in problem for problem in run.problems)
    np.testing.assert_array_equal(run.expected["joined"], run.results["joined"])
