"""Runs that learn from a teacher, on photos with and without labels, and what is refused."""

import json

import keras
import numpy as np
import pytest
from PIL import Image
from support.tiny_run import CONFIG, changed, write_data

from keras_bisenet import BiSeNet, normalize
from keras_bisenet.data import folder
from keras_bisenet.training import loop, losses, splits
from keras_bisenet.training.configs import Augmentation
from keras_bisenet.training.loop import Start, train_and_evaluate
from keras_bisenet.training.teacher import Teacher
from keras_bisenet.utils.errors import DataError, TrainingError

NARROW = CONFIG.width
DISTILLING = changed(label_weight=0.0, pixel_weight=1.0, channel_weight=1.0, loss_stride=2)
STILL = Augmentation(scale=(1.0, 1.0), flip=False, brightness=0.0, contrast=0.0, saturation=0.0)


@pytest.fixture
def data_dir(tmp_path):
    return write_data(tmp_path / "data")


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(1)
    return Teacher("a teacher", BiSeNet(3, width=0.125))


def test_photos_without_labels_are_read_after_the_others(data_dir, teacher, monkeypatch):
    seen = []
    monkeypatch.setattr(loop.pipeline, "Examples", lambda examples, _fix: seen.append(examples) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_and_evaluate(DISTILLING, data_dir / "run", data_dir, teacher=teacher)
    assert [(example.name, example.label is None) for example in seen[0]] == [
        *((str(number), False) for number in range(4)),
        *((str(number), True) for number in (5, 6)),
    ]


def test_a_student_comes_to_predict_what_its_teacher_predicts(data_dir, teacher, tmp_path):
    photos = np.stack([np.asarray(Image.open(data_dir / "images" / f"{number}.png")) for number in range(7)])
    expected = teacher.model(normalize(photos))["logits"]

    def distance(model):
        logits = model(normalize(photos))["logits"]
        return [float(loss(logits, expected)) for loss in (losses.pixel_distillation, losses.channel_distillation)]

    keras.utils.set_random_seed(0)
    model = BiSeNet(3, width=NARROW)
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


def test_labels_of_photos_without_labels_do_not_count(data_dir, teacher, tmp_path):
    """With nothing but such photos in a batch the labels' loss is 0."""
    (data_dir / "train.txt").write_text("0\n")
    config = changed(DISTILLING, label_weight=1.0, steps=2, evaluate_every=2)
    train_and_evaluate(config, tmp_path / "run", data_dir, teacher=teacher)
    with np.load(tmp_path / "run" / "state.npz") as state:
        # The start, random weights, has no score.
        assert [name for name in state if not np.isfinite(state[name]).all()] == ["start/mean_iou"]


def test_holding_out_leaves_val_alone(data_dir, tmp_path):
    (data_dir / "val.txt").unlink()
    train_and_evaluate(changed(holdout=2), tmp_path / "run", data_dir)
    examples = folder.read_split(data_dir, "train")
    train, held = splits.hold_out(examples, 2)
    assert sorted((*train, *held), key=lambda example: example.name) == list(examples)
    assert (train, held) == splits.hold_out(examples, 2)
    with pytest.raises(TrainingError, match="holdout is 4 of 4 photos"):
        splits.hold_out(examples, 4)


@pytest.mark.parametrize(
    ("config", "model", "named"),
    [
        (CONFIG, BiSeNet(3, width=NARROW), "pixel_weight"),
        (DISTILLING, BiSeNet(4, width=NARROW), "4 classes"),
        (DISTILLING, BiSeNet(3, width=NARROW, input_shape=(64, 64, 3)), "64x64"),
    ],
    ids=["no distillation", "other classes", "other size"],
)
def test_teachers_that_do_not_fit(data_dir, tmp_path, config, model, named):
    with pytest.raises(TrainingError, match=named) as error:
        train_and_evaluate(config, tmp_path / "run", data_dir, teacher=Teacher("this teacher", model))
    assert "this teacher" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_who_teaches_itself_must_know_something(data_dir, tmp_path):
    """A replaced head would have to learn what random numbers predict."""
    model = BiSeNet(3, width=NARROW)
    weights = {variable.path: variable.numpy() for variable in model.variables if "logits" not in variable.path}
    with pytest.raises(TrainingError, match=r"conv_out(16)?_logits/kernel") as error:
        train_and_evaluate(DISTILLING, tmp_path / "run", data_dir, Start("a part", weights))
    assert "--teacher" in str(error.value)


def test_a_list_that_names_a_missing_photo(data_dir):
    (data_dir / "unlabelled.txt").write_text("5\nnothing\n")
    with pytest.raises(DataError, match=r"unlabelled\.txt: names nothing, which is not in images/"):
        folder.read_unlabeled(data_dir)


def test_a_labeled_photo_listed_as_one_without(data_dir):
    (data_dir / "unlabelled.txt").write_text("5\n3\n")
    for read in (folder.read_unlabeled, lambda path: folder.read_split(path, "train")):
        with pytest.raises(DataError, match=r"unlabelled\.txt: names 3, which has a label: .*3\.png"):
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
    with pytest.raises(DataError, match=r"6\.png"):
        folder.check(folder.read_unlabeled(data_dir), 3)
