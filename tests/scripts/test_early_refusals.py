"""What flags and files alone tell is refused, and before TensorFlow is started, which takes seconds."""

import subprocess
import sys

import pytest
from support import script_runner
from support.paths import ROOT
from support.refusals import check_bad_flags, check_refused
from support.tiny_run import write_data

# Runs a script in which the import of TensorFlow, Keras or PyTorch ends the process.
FORBIDDEN = """
import runpy, sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "keras", "torch"):
            sys.exit("imports " + name)
sys.meta_path.insert(0, Forbidden())
sys.path.insert(0, "scripts")
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "flags", "names"),
    [
        ("port_and_export.py", ("--output", "mask"), ("--output=mask", "labels|logits|probabilities|scores|all_heads")),
        ("port_and_export.py", ("--input", "int8"), ("--input=int8", "uint8|float32")),
        ("port_and_export.py", ("--target", "tfjs"), ("--target=tfjs", "litert|mediapipe|npu|saved_model")),
        ("port_and_export.py", ("--calibration_count", "0"), ("--calibration_count=0",)),
        ("port_and_export.py", ("stray", "more"), ("unexpected arguments: stray more",)),
        ("export_pytorch.py", ("--layout", "coincheung"), ("--layout=coincheung", "<zllrunning|yakhyo>")),
        ("export_pytorch.py", ("--output", "model.onnx"), ("--output=model.onnx",)),
        ("export_pytorch.py", ("--output", "model"), ("--output=model",)),
        ("export_pytorch.py", ("stray", "more"), ("unexpected arguments: stray more",)),
        ("evaluate.py", ("--limit", "0"), ("--limit=0",)),
        ("evaluate.py", ("stray",), ("unexpected arguments: stray",)),
        ("check_onnx.py", ("model.onnx",), ("unexpected arguments: model.onnx",)),
        ("serve_web.py", ("8001",), ("unexpected arguments: 8001",)),
    ],
)
def test_bad_flags(tmp_path, script, flags, names):
    needed = {"export_pytorch.py": ("--model", "a.keras", "--output", "a.pth"), "evaluate.py": ("--data_dir", "d")}
    process = script_runner.run(ROOT / "scripts" / script, *needed.get(script, ()), *flags, cwd=tmp_path)
    check_bad_flags(process, tmp_path, *names)


@pytest.mark.parametrize(("script", "name"), [("evaluate.py", "--data_dir"), ("parse_faces.py", "expected photos")])
def test_what_a_script_needs_is_missing(tmp_path, script, name):
    check_bad_flags(script_runner.run(ROOT / "scripts" / script, cwd=tmp_path), tmp_path, name)


def refuses(script, flags, names):
    command = [sys.executable, "-c", FORBIDDEN, script, *map(str, flags)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert len(process.stderr.splitlines()) == 1, process.stderr
    check_refused(process, *names)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("--image_size", "31"), ("'31'", "HEIGHTxWIDTH", "32")),
        (("--image_size", "wide"), ("wide",)),
        (("--image_size", "99999"), ("99999",)),
        (("--precisions", "float32,float8"), ("'float8'", "float32, float16, dynamic, int8")),
        (("--precisions", ""), ("float32, float16, dynamic, int8",)),
        (("--target", "mediapipe", "--output", "labels"), ("labels",)),
        (("--target", "mediapipe", "--input", "float32"), ("mediapipe", "'float32'", "uint8")),
        (("--target", "npu", "--precisions", "float16"), ("npu", "'float16'", "int8")),
        (("--calibration_count", "3"), ("int8",)),
        (("--checkpoint", "missing.pth"), ("missing.pth",)),
        (("--checkpoint", "missing.keras"), ("missing.keras",)),
        (("--labels", "missing.json"), ("missing.json",)),
        (("--verify_images", "missing.jpg"), ("missing.jpg: no such file",)),
        (("--precisions", "int8", "--calibration_images", "missing"), ("missing: no such file",)),
    ],
)
def test_port_and_export(tmp_path, flags, names):
    refuses("scripts/port_and_export.py", ("--output_dir", tmp_path / "out", *flags), names)
    assert not (tmp_path / "out").exists()


def test_evaluate(tmp_path):
    refuses("scripts/evaluate.py", ("--data_dir", tmp_path, "--image_size", "31"), ("'31'", "HEIGHTxWIDTH"))


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("--data_dir", "missing"), ("missing",)),
        (("--config", "mine"), ("'mine'", "original")),
        (("--set", "num_classes=3", "--set", "width=9"), ("width",)),
        (("--set", "num_classes=3", "--init", "missing.keras"), ("missing.keras: no such file",)),
        (("--set", "num_classes=3", "--init", "missing.pth"), ("missing.pth",)),
        (("--set", "num_classes=3", "--teacher", "missing.pth"), ("missing.pth",)),
        (("--set", "num_classes=3", "--set", "holdout=9"), ("holdout",)),
    ],
)
def test_train(tmp_path, flags, names):
    data = write_data(tmp_path / "data")
    refuses("scripts/train.py", ("--data_dir", data, "--workdir", tmp_path / "run", *flags), names)
    assert not (tmp_path / "run").exists()
