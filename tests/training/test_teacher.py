"""Runs that learn from a teacher, on photos with and without labels, and what is refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.refusals import refused
from support.tiny_run import CONFIG, changed, write_data

from keras_bisenet import BiSeNet, normalize
from keras_bisenet.data import folder
from keras_bisenet.training import loop, losses, splits
from keras_bisenet.training.configs import Augmentation
from keras_bisenet.training.loop import Start, train_and_evaluate
from keras_bisenet.training.teacher import Teacher
from keras_bisenet.utils.errors import DataError, TrainingError

DISTILLING = changed(label_weight=0.0, pixel_weight=1.0, channel_weight=1.0, loss_stride=2)
STILL = Augmentation(scale=(1.0, 1.0), flip=False, brightness=0.0, contrast=0.0, saturation=0.0)


@pytest.fixture
def data_dir(tmp_path):
    return write_data(tmp_path / "data")


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(1)
    return Teacher("a teacher", BiSeNet(3, width=0.125))


@pytest.fixture
def eagerly():
    """For a step or two that is faster than building the graph of one."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_photos_without_labels_are_read_after_the_others(data_dir, teacher, monkeypatch):
    seen = []
    monkeypatch.setattr(loop.pipeline, "Examples", lambda examples, _fix: seen.append(examples) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_and_evaluate(DISTILLING, data_dir / "run", data_dir, teacher=teacher)
    labeled = [(example.name, example.label is not None) for example in seen[0]]
    assert labeled == [("0", True), ("1", True), ("2", True), ("3", True), ("5", False), ("6", False)]


def test_a_student_comes_to_predict_what_its_teacher_predicts(data_dir, teacher, tmp_path):
    photos = np.stack([np.asarray(Image.open(path)) for path in sorted((data_dir / "images").iterdir())])
    expected = teacher.model(normalize(photos))["logits"]

    def distance(model):
        logits = model(normalize(photos))["logits"]
        return [float(loss(logits, expected)) for loss in (losses.pixel_distillation, losses.channel_distillation)]

    keras.utils.set_random_seed(0)
    model = BiSeNet(3, width=CONFIG.width)
    start = Start("a start", {variable.path: variable.numpy() for variable in model.variables})
    before = distance(model)
    changes = {"steps": 60, "evaluate_every": 60, "batch_size": 7, "learning_rate": 0.003, "augmentation": STILL}
    config = changed(DISTILLING, **changes)
    train_and_evaluate(config, tmp_path / "run", data_dir, start, teacher=teacher)
    after = distance(keras.saving.load_model(tmp_path / "run" / "last.keras"))
    assert after[0] < 0.5 * before[0] and after[1] < 0.7 * before[1], (before, after)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["teacher"] == "a teacher"
    # A teacher of its own is no part of the state.
    with np.load(tmp_path / "run" / "state.npz") as state:
        assert not [name for name in state if name.startswith("teacher/")]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Even though the `tf.config")
def test_photos_without_labels_and_photos_held_out(data_dir, teacher, tmp_path):
    """A batch of nothing but photos without labels has a labels' loss of 0; who holds out needs no `val.txt`."""
    (data_dir / "train.txt").write_text("0\n1\n")
    (data_dir / "val.txt").unlink()
    config = changed(DISTILLING, label_weight=1.0, holdout=1, steps=2, evaluate_every=2)
    train_and_evaluate(config, tmp_path / "run", data_dir, teacher=teacher)
    with np.load(tmp_path / "run" / "state.npz") as state:
        # The start, random weights, has no score.
        assert [name for name in state if not np.isfinite(state[name]).all()] == ["start/mean_iou"]


def test_holding_out_divides_the_training_photos(data_dir):
    examples = folder.read_split(data_dir, "train")
    train, held = splits.hold_out(examples, 2)
    assert sorted((*train, *held), key=lambda example: example.name) == list(examples)
    assert (train, held) == splits.hold_out(examples, 2)
    with refused(TrainingError, "holdout is 4 of 4 photos"):
        splits.hold_out(examples, 4)


@pytest.mark.parametrize(
    ("config", "model", "named"),
    [
        (CONFIG, BiSeNet(3, width=CONFIG.width), "pixel_weight"),
        (DISTILLING, BiSeNet(4, width=CONFIG.width), "4 classes"),
        (DISTILLING, BiSeNet(3, width=CONFIG.width, input_shape=(64, 64, 3)), "64x64"),
    ],
    ids=["no distillation", "other classes", "other size"],
)
def test_teachers_that_do_not_fit(data_dir, tmp_path, config, model, named):
    with refused(TrainingError, named, "this teacher"):
        train_and_evaluate(config, tmp_path / "run", data_dir, teacher=Teacher("this teacher", model))
    assert not (tmp_path / "run").exists()


def test_who_teaches_itself_must_know_something(data_dir, tmp_path):
    """A replaced head would have to learn what random numbers predict."""
    model = BiSeNet(3, width=CONFIG.width)
    weights = {variable.path: variable.numpy() for variable in model.variables if "logits" not in variable.path}
    with refused(TrainingError, "_logits/kernel", "--teacher"):
        train_and_evaluate(DISTILLING, tmp_path / "run", data_dir, Start("a part", weights))


@pytest.mark.parametrize(
    ("name", "found"), [("nothing", "names nothing, which is not in images/"), ("3", "names 3, which has a label: ")]
)
def test_what_is_no_photo_without_labels(data_dir, name, found):
    (data_dir / "unlabelled.txt").write_text(f"5\n{name}\n")
    for read in (folder.read_unlabeled, lambda path: folder.read_split(path, "train")):
        with refused(DataError, data_dir / "unlabelled.txt", found):
            read(data_dir)


def test_a_folder_without_a_list(data_dir):
    for number in (5, 6):
        (data_dir / "images" / f"{number}.png").unlink()
    (data_dir / "unlabelled.txt").unlink()
    assert folder.read_unlabeled(data_dir) == ()
    assert len(folder.read_split(data_dir, "train")) == 4


def test_a_broken_photo_without_a_label_is_found(data_dir):
    photo = data_dir / "images" / "6.png"
    photo.write_bytes(photo.read_bytes()[:-40])
    with refused(DataError, photo):
        folder.check(folder.read_unlabeled(data_dir), 3)
