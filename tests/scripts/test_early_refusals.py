"""What can be known from flags and files is refused before TensorFlow is started, which takes seconds."""

import subprocess
import sys

import pytest
from support.paths import ROOT
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


def refuses(script, flags, name):
    command = [sys.executable, "-c", FORBIDDEN, script, *map(str, flags)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert process.stderr.startswith("error: ") and name in process.stderr


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("--image_size", "16"), "16"),
        (("--image_size", "wide"), "wide"),
        (("--image_size", "99999"), "99999"),
        (("--precisions", "int4"), "int4"),
        (("--target", "mediapipe", "--output", "labels"), "labels"),
        (("--target", "npu", "--precisions", "float32"), "float32"),
        (("--calibration_count", "3"), "int8"),
        (("--checkpoint", "missing.pth"), "missing.pth"),
        (("--checkpoint", "missing.keras"), "missing.keras"),
        (("--labels", "missing.json"), "missing.json"),
        (("--verify_images", "missing.jpg"), "missing.jpg"),
        (("--precisions", "int8", "--calibration_images", "missing"), "missing"),
    ],
)
def test_port_and_export(tmp_path, flags, name):
    refuses("scripts/port_and_export.py", ("--output_dir", tmp_path / "out", *flags), name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("--config", "none"), "none"),
        (("--set", "num_classes=3", "--set", "width=9"), "width"),
        (("--set", "num_classes=3", "--init", "missing.keras"), "missing.keras"),
        (("--set", "num_classes=3", "--init", "missing.pth"), "missing.pth"),
        (("--set", "num_classes=3", "--teacher", "missing.pth"), "missing.pth"),
        (("--set", "num_classes=3", "--set", "holdout=9"), "holdout"),
    ],
)
def test_train(tmp_path, flags, name):
    data = write_data(tmp_path / "data")
    refuses("scripts/train.py", ("--data_dir", data, "--workdir", tmp_path / "run", *flags), name)
    assert not (tmp_path / "run").exists()


def test_train_on_a_folder_that_is_not_there(tmp_path):
    refuses(
        "scripts/train.py", ("--data_dir", tmp_path / "data", "--workdir", tmp_path / "run"), str(tmp_path / "data")
    )
