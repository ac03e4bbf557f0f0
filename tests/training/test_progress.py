"""What a run remembers and what it goes on with: narrow networks, in seconds."""

import csv
import sys

import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image
from support.paths import ROOT
from support.refusals import refused
from support.tiny_run import changed, write_data

from keras_bisenet.training import loop, reports
from keras_bisenet.training.loop import train_and_evaluate
from keras_bisenet.utils.errors import ModelError, TrainingError


@pytest.fixture
def data_dir(tmp_path):
    return write_data(tmp_path / "data")


def steps(workdir):
    with (workdir / "steps.csv").open() as file:
        return list(csv.DictReader(file))


def stop_at(number, monkeypatch):
    """Interrupts the run before the step behind this many."""
    step = loop.Trainer.step

    def interrupted(trainer, batches):
        if trainer.completed == number:
            raise KeyboardInterrupt
        return step(trainer, batches)

    monkeypatch.setattr(loop.Trainer, "step", interrupted)


@pytest.mark.slow
def test_a_run_resumed_between_two_lines_writes_the_same(data_dir, tmp_path, monkeypatch):
    config = changed(steps=46, checkpoint_every=7, evaluate_every=23)
    train_and_evaluate(config, tmp_path / "whole", data_dir)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(30, patch)
        train_and_evaluate(config, tmp_path / "resumed", data_dir)
    train_and_evaluate(config, tmp_path / "resumed", data_dir)
    whole, resumed = (
        [row | {"seconds_per_step": None} for row in steps(tmp_path / name)] for name in ("whole", "resumed")
    )
    assert [row["step"] for row in whole] == ["20", "23", "40", "46"]
    assert resumed == whole


@pytest.mark.slow
def test_time_is_that_of_the_steps_alone(data_dir, tmp_path, monkeypatch):
    """Each step takes 1 s of a clock that also runs, for 100 s each, while a checkpoint is written."""
    clock = [0.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])

    def tick(function, seconds):
        def ticking(*arguments):
            clock[0] += seconds
            return function(*arguments)

        return ticking

    monkeypatch.setattr(loop.Trainer, "step", tick(loop.Trainer.step, 1))
    monkeypatch.setattr(loop.Workdir, "save_state", tick(loop.Workdir.save_state, 100))
    train_and_evaluate(changed(steps=40, checkpoint_every=7, evaluate_every=40), tmp_path / "run", data_dir)
    assert [float(row["seconds_per_step"]) for row in steps(tmp_path / "run")] == [1, 1]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Folder of a run that was interrupted before its first step, `run`, and of its photos, `data`."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(0, patch)
        train_and_evaluate(changed(), folder / "run", write_data(folder / "data"))
    return folder


@pytest.mark.parametrize(("split", "names"), [("train", "0\n1\n2\n"), ("val", "3\n")], ids=["train", "val"])
def test_other_photos_in_a_list_are_another_run(begun, tmp_path, split, names):
    """A copy would be other data, so the list that is there is changed."""
    listed = begun / "data" / f"{split}.txt"
    listed.rename(tmp_path / "kept")
    listed.write_text(names)
    try:
        with refused(TrainingError, "another configuration", f"photos.{split} "):
            train_and_evaluate(changed(), begun / "run", begun / "data")
    finally:
        (tmp_path / "kept").rename(listed)


def test_one_folder_may_be_called_by_two_paths(begun, monkeypatch):
    monkeypatch.chdir(begun)
    stop_at(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(changed(), "run", "data")


def test_a_mistyped_folder_leaves_nothing_behind(begun, tmp_path):
    with refused(ValueError, begun / "dta"):
        train_and_evaluate(changed(), tmp_path / "run", begun / "dta")
    assert not list((tmp_path / "run").iterdir())


def test_photos_to_evaluate_on_without_any_label(data_dir, tmp_path):
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(data_dir / "labels" / "4.png")
    with refused(TrainingError, f"{data_dir}: all pixels", "255"):
        train_and_evaluate(changed(), tmp_path / "run", data_dir)


def test_a_rate_that_is_never_reached_is_told(data_dir, tmp_path, monkeypatch, capsys):
    stop_at(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(changed(warmup_steps=4), tmp_path / "run", data_dir)
    assert "never reaches 0.01" in capsys.readouterr().out


def test_a_missing_tensorboard_is_told_before_the_first_step(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(reports.importlib.util, "find_spec", lambda _name: None)
    with refused(TrainingError, "pip install tensorboard"):
        train_and_evaluate(changed(), tmp_path / "run", data_dir)


def test_a_file_that_predicts_a_class_it_does_not_have(data_dir, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import evaluate

    class Parser:
        num_classes, image_size = 3, None

        def __call__(self, photo):
            return np.full(photo.shape[:2], 7)

    monkeypatch.setattr(evaluate.networks, "open_parser", lambda *_: ("strange.tflite", "tflite", Parser()))
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    with flagsaver.flagsaver():
        flags = evaluate.FLAGS
        flags(["evaluate.py", f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'out'}"])
        with refused(ModelError, "strange.tflite: ", "7", "3 classes"):
            evaluate.run(flags)
    assert not (tmp_path / "out").exists()
