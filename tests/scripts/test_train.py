"""scripts/train.py as its user runs it: what it writes, how it goes on, what it refuses."""

import csv
import json
import os
import pathlib
import re

import keras
import numpy as np
import pytest
from support import labeled, script_runner
from support.files import names
from support.paths import ROOT
from support.ported import default_model
from support.refusals import check_refused
from support.running import wait_for

import keras_bisenet
from keras_bisenet.utils import images

pytestmark = pytest.mark.slow

SMALL = ("crop_size=32", "batch_size=2", "warmup_steps=2", "num_classes=3", "checkpoint_every=2", "evaluate_every=4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six crops of the bundled photo with three classes by brightness; four to train on."""
    photo = images.read(images.BUNDLED, (120, 120))
    crops = {str(n): photo[10 * n : 10 * n + 48, 8 * n : 8 * n + 56] for n in range(6)}
    examples = {name: (crop, (crop.mean(-1) // 86).astype(np.uint8)) for name, crop in crops.items()}
    return labeled.write(tmp_path_factory.mktemp("data"), examples, train="0123", val="45")


def command(data, workdir, *flags, settings=()):
    changes = [f"--set={setting}" for setting in (*SMALL, *settings)]
    return [ROOT / "scripts" / "train.py", "--data_dir", data, "--workdir", workdir, *changes, *flags]


def run(*arguments, **options):
    return script_runner.run(*command(*arguments, **options))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Eight steps without interruption: (process, folder)."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return script_runner.run_alone(*command(data, folder, settings=["steps=8"])), folder


def weights(folder):
    with np.load(folder / "state.npz") as state:
        return dict(state)


def test_writes_what_it_promises(trained):
    process, folder = trained
    assert process.returncode == 0, process.stderr
    written = ["best.keras", "config.json", "curve.png", "evaluations.csv", "labels.json", "last.keras", "predictions"]
    assert names(folder) == [*written, "state.npz", "steps.csv", "tensorboard"]
    assert names(folder / "predictions") == ["step_000004.png", "step_000008.png"]
    with (folder / "evaluations.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["4", "8"]
    assert json.loads((folder / "config.json").read_text())["start"] == "random weights"
    assert "mean IoU" in process.stdout


def test_the_best_network_is_a_keras_file(trained):
    _, folder = trained
    model = keras.saving.load_model(folder / "best.keras", compile=False)
    assert isinstance(model, keras_bisenet.BiSeNet)
    assert (model.num_classes, model.backbone) == (3, "resnet18")


def test_a_killed_run_goes_on_to_the_same_weights(trained, data, tmp_path):
    _, expected = trained
    arguments = command(data, tmp_path, settings=["steps=8"])
    with pathlib.Path(os.devnull).open("w") as nothing:
        process = script_runner.start(*arguments, stdout=nothing, stderr=nothing)
    wait_for((tmp_path / "state.npz").exists, process)
    process.kill()
    process.wait()
    reached = int(weights(tmp_path)["completed"])
    assert reached in range(2, 8)
    process = script_runner.run(*arguments)
    assert process.returncode == 0, process.stderr
    assert f"going on after step {reached}" in process.stdout + process.stderr
    before, after = weights(expected), weights(tmp_path)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, rtol=0, atol=1e-6, err_msg=name)
    for file in ("steps.csv", "evaluations.csv"):
        steps = [[row.split(",")[0] for row in (run / file).read_text().split()] for run in (expected, tmp_path)]
        assert steps[0] == steps[1]


def test_another_number_of_classes_replaces_the_last_layers(data, tmp_path):
    flags = ("--init", "default", "--freeze", "backbone")
    process = run(data, tmp_path, *flags, settings=["steps=1", "learning_rate=0.01"])
    assert process.returncode == 0, process.stderr
    heads = "conv_out16_logits/kernel, conv_out32_logits/kernel, conv_out_logits/kernel"
    assert f"replaced for 3 classes, from random weights: {heads}\n" in process.stdout
    model = keras.saving.load_model(tmp_path / "last.keras", compile=False)
    for variable, start in zip(model.variables, default_model().variables, strict=True):
        if variable.path.startswith("backbone_"):
            np.testing.assert_array_equal(variable.numpy(), start.numpy())


def test_a_loss_that_is_no_number_stops_it(data, tmp_path):
    process = run(data, tmp_path, settings=["steps=8", "learning_rate=1e30", "warmup_steps=4", "warmup_start=1e-4"])
    check_refused(process, tmp_path, "learning_rate")
    assert re.match(r"error: the loss is (nan|inf) at step \d", process.stderr.strip().splitlines()[-1])
    # The start, random weights, has no score.
    wrong = [name for name, array in weights(tmp_path).items() if not np.isfinite(array).all()]
    assert wrong == ["start/mean_iou"]


def test_what_does_not_fit_is_one_line(trained, data, tmp_path):
    check_refused(run(data, tmp_path, "--freeze", "body", settings=["steps=8"]), "'body'")
    check_refused(run(data, trained[1], settings=["steps=9"]), "steps 8 there, 9 now")


def test_bad_data_is_named_and_can_be_left_out(data, tmp_path):
    for name in ("images", "labels", "train.txt", "val.txt"):
        (tmp_path / name).symlink_to(data / name) if name != "images" else (tmp_path / name).mkdir()
    for photo in (data / "images").iterdir():
        (tmp_path / "images" / photo.name).write_bytes(photo.read_bytes()[: 100 if photo.stem == "1" else None])
    bad = tmp_path / "images" / "1.png"
    process = run(tmp_path, tmp_path / "run", settings=["steps=1"])
    check_refused(process, bad)
    assert not (tmp_path / "run" / "state.npz").exists()
    process = run(tmp_path, tmp_path / "run", "--skip_bad", settings=["steps=1"])
    assert process.returncode == 0, process.stderr
    assert f"1 examples of train left out; the first: {bad}: " in process.stdout + process.stderr
