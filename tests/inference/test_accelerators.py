"""FaceParser on GPUs and NPUs: only where they say what the CPU says. WebGPU runs on Chromium's SwiftShader here."""

import json
import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from support import script_runner
from support.networks import narrow
from support.paths import ROOT
from support.refusals import check_line, refused

from keras_bisenet import BiSeNet, FaceParser
from keras_bisenet.export.convert import to_tflite
from keras_bisenet.inference.face_parser import NAMES
from keras_bisenet.tflite import accelerators, flatbuffer
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ModelError

# Which drivers the loader of Vulkan takes.
DRIVERS = "VK_ICD_FILENAMES"
SWIFTSHADER = pathlib.Path("/usr/lib/chromium/vk_swiftshader_icd.json")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A small network of random weights, in float32."""
    path = tmp_path_factory.mktemp("model") / "small.tflite"
    path.write_bytes(to_tflite(narrow((16,) * 8, 19), (64, 96)))
    return path


@pytest.fixture(scope="module")
def photo():
    return images.read(images.BUNDLED, (70, 90))


@pytest.fixture(scope="module")
def expected(path, photo):
    return FaceParser(path)(photo)


def count(path):
    return len(flatbuffer.load(path)[1].subgraphs[0].operators)


class Stub(TFLiteRunner):
    """An accelerator that is the CPU, with faults by the number of the run."""

    ops, is_software = {"gpu": 7}, False
    wrong, failing = (), ()

    def __init__(self, content, model, accelerator, num_threads):
        if accelerator == "npu":
            raise accelerators.UnavailableError("there is none")
        super().__init__(content, num_threads, model=model)
        self._runs = 0

    def __call__(self, image):
        self._runs += 1
        if self._runs in self.failing:
            raise accelerators.UnavailableError("it was lost")
        results = super().__call__(image)
        return {name: 18 - result for name, result in results.items()} if self._runs in self.wrong else results


@pytest.fixture
def stub(monkeypatch):
    """Puts a `Stub` with some attributes in place of all accelerators."""

    def replace(**attributes):
        monkeypatch.setattr(accelerators, "AcceleratedRunner", type("Stub", (Stub,), attributes))

    return replace


def warned(caught, *names):
    """One warning of one line must have been given, which names all of `names`."""
    (warning,) = caught
    check_line(str(warning.message), names)


def test_an_accelerator_that_says_what_the_cpu_says(path, photo, expected, stub, recwarn):
    stub()
    parser = FaceParser(path, accelerator="gpu")
    assert (parser.ops, recwarn.list) == ({"gpu": 7}, [])
    assert "7 ops on the GPU" in repr(parser)
    np.testing.assert_array_equal(parser(photo), expected)
    # Scores behind labels are inner tensors.
    np.testing.assert_array_equal(parser.probabilities(photo), FaceParser(path).probabilities(photo))


@pytest.mark.parametrize("run", [1, 2])
def test_wrong_labels_leave_the_file_to_the_cpu(path, photo, expected, stub, recwarn, run):
    stub(wrong=(run,))
    parser = FaceParser(path, accelerator="gpu")
    warned(recwarn, path, "GPU", "CPU", "0.0%")
    assert parser.ops == {"cpu": count(path)}
    np.testing.assert_array_equal(parser(photo), expected)


def test_an_accelerator_that_fails_later(path, photo, expected, stub, recwarn):
    stub(failing=(4,))
    parser = FaceParser(path, accelerator="gpu")
    for _ in range(3):
        np.testing.assert_array_equal(parser(photo), expected)
    warned(recwarn, path, "GPU", "it was lost", "CPU")
    assert parser.ops == {"cpu": 7}


def test_a_part_of_the_ops(path, stub, recwarn):
    stub(ops={"gpu": 5, "cpu": 2})
    assert FaceParser(path, accelerator="gpu").ops == {"gpu": 5, "cpu": 2}
    warned(recwarn, path, "GPU runs 5", "CPU the other 2")


@pytest.mark.parametrize(
    ("attributes", "is_slow", "chosen"),
    [({}, False, "gpu"), ({}, True, "cpu"), ({"is_software": True}, False, "cpu"), ({"wrong": (2,)}, False, "cpu")],
    ids=["fast", "slow", "software", "wrong"],
)
def test_auto_takes_the_fastest_that_is_right(path, stub, recwarn, monkeypatch, attributes, is_slow, chosen):
    clock = iter([0, 2, 0, 3 if is_slow else 1])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    stub(**attributes)
    assert [*FaceParser(path, accelerator="auto").ops] == [chosen]
    assert recwarn.list == []


@pytest.mark.parametrize(("accelerator", "isolated"), [("gpu", False), ("npu", False), ("auto", False), ("npu", True)])
def test_an_accelerator_that_is_missing(path, photo, expected, monkeypatch, recwarn, accelerator, isolated):
    monkeypatch.setenv(DRIVERS, "/nowhere")
    with FaceParser(path, accelerator=accelerator, isolated=isolated) as parser:
        if accelerator == "auto":
            assert recwarn.list == []
        else:
            warned(recwarn, path, accelerator.upper(), "CPU")
        assert parser.ops == {"cpu": count(path)}
        np.testing.assert_array_equal(parser(photo), expected)


def test_an_older_litert(path, monkeypatch, recwarn):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.compiled_model", None)
    assert FaceParser(path, accelerator="gpu").ops == {"cpu": count(path)}
    warned(recwarn, path, "GPU", "ai-edge-litert")


def test_what_is_no_accelerator(path):
    with refused(ModelError, "'tpu'", "cpu, gpu, npu, auto"):
        FaceParser(path, accelerator="tpu")
    with refused(ModelError, "accelerator", ".tflite"):
        FaceParser(BiSeNet(2), accelerator="gpu")


@pytest.fixture
def swiftshader():
    """What the environment says, so that WebGPU finds SwiftShader."""
    if not SWIFTSHADER.exists():
        pytest.skip("needs Debian's package chromium")
    return {DRIVERS: str(SWIFTSHADER)}


@pytest.fixture
def on_swiftshader(swiftshader):
    """A function: opens a file with WebGPU in a fresh process.

    It gives `parser.ops`, the share of labels that are the CPU's, and the warnings.
    """

    def run(path, action="labels = parser(photo)"):
        code = f"""
import json, os, sys, warnings
from keras_bisenet import FaceParser
from keras_bisenet.utils import images
photo = images.read(images.BUNDLED)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    parser = FaceParser(sys.argv[1], accelerator="gpu")
    {action}
same = (labels == FaceParser(sys.argv[1])(photo)).mean()
print(json.dumps([parser.ops, same, [str(warning.message) for warning in caught]]))
"""
        environment = os.environ | swiftshader
        process = script_runner.run_alone("-c", code, path, cwd=ROOT, env=environment, check=True, timeout=120)
        # LiteRT's own lines come before.
        return json.loads(process.stdout.splitlines()[-1])

    return run


@pytest.mark.slow
def test_webgpu_runs_a_float_file(on_swiftshader, path):
    ops, same, messages = on_swiftshader(path)
    assert (ops, messages) == ({"gpu": count(path)}, [])
    assert same > 0.99


@pytest.mark.slow
def test_after_a_fork_the_cpu_runs_it(on_swiftshader, path):
    fork = "labels = parser(photo) if not os.fork() else os._exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    ops, same, messages = on_swiftshader(path, fork)
    assert (ops, same, len(messages)) == ({"cpu": count(path)}, 1, 1)
    check_line(messages[0], [path, "GPU", "forked"])


@pytest.mark.slow
def test_webgpu_computes_nothing_of_an_int8_file(on_swiftshader):
    """LiteRT 2.3 writes a shader that does not compile, calls the file fully accelerated, and returns zeros."""
    ops, same, messages = on_swiftshader(NAMES["fast"])
    assert (ops, same, len(messages)) == ({"cpu": count(NAMES["fast"])}, 1, 1)
    check_line(messages[0], [NAMES["fast"], "GPU", "CPU"])


@pytest.mark.slow
def test_webgpu_leaves_an_op_to_the_cpu(on_swiftshader, tmp_path):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, 64, 64, 3), tf.uint8)])
    def network(image):
        scores = tf.nn.conv2d(tf.cast(image, tf.float32), kernel, 1, "SAME")
        return scores * tf.cast(tf.bitwise.bitwise_xor(tf.cast(image, tf.int32), 1)[..., :1] > 0, tf.float32)

    path = tmp_path / "a.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()]).convert())
    ops, same, messages = on_swiftshader(path)
    assert min(ops["gpu"], ops["cpu"]) > 0
    assert sum(ops.values()) == count(path)
    assert same > 0.99
    check_line(messages[0], [path, f"GPU runs {ops['gpu']}", f"other {ops['cpu']}"])


def parse_faces(path, output_dir, *flags, **environment):
    """parse_faces.py on the bundled portrait, and the labels that it writes."""
    flags = [images.BUNDLED, "--model", path, "--output_dir", output_dir, "--workers", "1", *flags]
    process = script_runner.run_alone("scripts/parse_faces.py", *flags, cwd=ROOT, env=os.environ | environment)
    return process, images.read(output_dir / "labels" / f"{images.BUNDLED.name}.png")[..., 0]


def test_a_script_without_the_accelerator(path, tmp_path):
    process, labels = parse_faces(path, tmp_path, "--accelerator", "npu")
    assert process.returncode == 0
    (warning,) = [line for line in process.stderr.splitlines() if line.startswith("warning: ")]
    check_line(warning, [path, "NPU", "CPU"])
    assert "ops" not in process.stdout
    np.testing.assert_array_equal(labels, FaceParser(path)(images.BUNDLED))


@pytest.mark.slow
def test_a_script_with_webgpu(swiftshader, path, tmp_path):
    process, labels = parse_faces(path, tmp_path, "--accelerator", "gpu", **swiftshader)
    assert process.returncode == 0
    assert f"the GPU runs {count(path)} of the {count(path)} ops of {path}" in process.stdout
    assert "warning" not in process.stderr
    assert (labels == FaceParser(path)(images.BUNDLED)).mean() > 0.99
