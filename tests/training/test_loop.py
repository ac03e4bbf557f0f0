"""Whole runs of a network that is right at first: only the last layer learns, and that too fast."""

import csv
import dataclasses
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from support import labeled
from support.refusals import refused

from keras_bisenet import BiSeNet, FaceParser, classes, normalize
from keras_bisenet.data import folder, pipeline
from keras_bisenet.training.configs import TrainConfig
from keras_bisenet.training.loop import Start, train_and_evaluate
from keras_bisenet.utils.errors import DataError, TrainingError

pytestmark = pytest.mark.slow

FROZEN = ("backbone", "arm", "conv_avg", "conv_head", "ffm", "conv_out_conv", "conv_out_bn", "conv_out16", "conv_out32")
# The first step changes next to nothing, those behind it too much.
CONFIG = TrainConfig(
    num_classes=3,
    crop_size=32,
    batch_size=2,
    steps=20,
    learning_rate=100.0,
    warmup_steps=1,
    warmup_start=1e-9,
    power=0.0,
    freeze=FROZEN,
    evaluate_every=1,
    checkpoint_every=1,
    patience=2,
)


@pytest.fixture(scope="module")
def start():
    keras.utils.set_random_seed(0)
    return Start("a network", {variable.path: variable.numpy() for variable in BiSeNet(3).variables})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, start):
    """Six photos of colored noise, labeled by the network itself."""
    model = BiSeNet(3)
    for variable in model.variables:
        variable.assign(start.weights[variable.path])
    random, pairs = np.random.default_rng(0), {}
    for number in range(6):
        photo = random.integers(256, size=(5, 6, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        label = keras.ops.convert_to_numpy(model(normalize(photo[np.newaxis]))["logits"])[0].argmax(-1)
        assert len(np.unique(label)) == 3
        pairs[number] = (photo, label.astype(np.uint8))
    return labeled.write(tmp_path_factory.mktemp("data"), pairs, train=range(4), val=(4, 5))


@pytest.fixture
def workdir(tmp_path):
    yield tmp_path / "run"
    # A network and its state take 100 MB.
    shutil.rmtree(tmp_path / "run")


def evaluations(workdir):
    with (workdir / "evaluations.csv").open() as file:
        return [(int(row["step"]), float(row["mean_iou"])) for row in csv.DictReader(file)]


def weights(path):
    return [variable.numpy() for variable in keras.saving.load_model(path).variables]


def test_stops_early_and_keeps_the_best(data_dir, workdir, start, capsys):
    scores = train_and_evaluate(CONFIG, workdir, data_dir, start)
    output = capsys.readouterr().out
    assert "stopped at step 3: no better mean IoU since step 1\n" in output
    steps, means = zip(*evaluations(workdir), strict=True)
    assert steps == (0, 1, 2, 3) and means[0] == 1
    assert "mean IoU of the start: 1.0000\n" in output
    assert scores.mean_iou > 0.99 > 0.9 > max(means[2:])
    # The step of the best one was too small to be seen.
    for best, last, first in zip(
        weights(workdir / "best.keras"), weights(workdir / "last.keras"), start.weights.values(), strict=True
    ):
        np.testing.assert_allclose(best, first, rtol=0, atol=1e-5)
        assert np.array_equal(last, first) == (first.shape != (1, 1, 256, 3))
    # Once more: there is nothing to do, and the best one is told again, not the last one.
    before = (workdir / "state.npz").stat().st_mtime_ns
    again = train_and_evaluate(CONFIG, workdir, data_dir, start)
    assert (workdir / "state.npz").stat().st_mtime_ns == before
    assert evaluations(workdir) == list(zip(steps, means, strict=True))
    np.testing.assert_array_equal(again.matrix, scores.matrix)


def test_a_run_that_made_the_network_worse_says_so(data_dir, workdir, start, capsys):
    config = dataclasses.replace(CONFIG, warmup_steps=0, steps=2)
    scores = train_and_evaluate(config, workdir, data_dir, start)
    assert scores.mean_iou < 0.9
    assert f"{scores.mean_iou:.4f} at step" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("rate", [1e36, 1e39])
def test_what_is_kept_when_the_loss_is_no_number_is_good(data_dir, workdir, start, rate):
    """At 1e36 the first weights behind the last good ones are numbers still, but their logits are not."""
    config = dataclasses.replace(CONFIG, learning_rate=rate, warmup_start=1e-4, evaluate_every=20)
    with refused(TrainingError, f"the last good checkpoint is in {workdir}; lower learning_rate"):
        train_and_evaluate(config, workdir, data_dir, start)
    model = BiSeNet(3)
    with np.load(workdir / "state.npz") as state:
        assert all(np.isfinite(state[name]).all() for name in state)
        for variable in model.variables:
            variable.assign(state[f"weights/{variable.path}"])
    photo = np.asarray(Image.open(data_dir / "images" / "0.png"))[np.newaxis]
    assert np.isfinite(keras.ops.convert_to_numpy(model(normalize(photo))["logits"])).all()


def test_nothing_is_said_to_be_kept_before_the_first_checkpoint(data_dir, workdir, start):
    config = dataclasses.replace(CONFIG, learning_rate=1e39, warmup_steps=0, evaluate_every=20, checkpoint_every=20)
    with refused(TrainingError, "the loss is ", " at step 2;", "none was written"):
        train_and_evaluate(config, workdir, data_dir, start)
    assert not (workdir / "state.npz").exists()


def test_own_classes_keep_their_names_and_their_sides(data_dir, tmp_path, start):
    """Hands may lie on either side: `fix_left_right` leaves them, and a mirrored photo exchanges them."""
    own = tmp_path / "own"
    shutil.copytree(data_dir, own)
    stated = classes.named(["background", "l_hand", "r_hand"], palette={"l_hand": "#102030"})
    (own / "labels.json").write_text(stated.as_json(size=40))
    config = dataclasses.replace(CONFIG, steps=1, fix_left_right=True)
    run = tmp_path / "run"
    train_and_evaluate(config, run, own, start)
    assert classes.read(run / "labels.json") == stated
    assert "iou_background,iou_l_hand,iou_r_hand" in (run / "evaluations.csv").read_text().splitlines()[0]
    parser = FaceParser(run / "best.keras", image_size=(40, 48))
    assert (parser.class_names, parser.palette) == (stated.names, stated.palette)
    examples = pipeline.Examples(folder.read_split(own, "train"), stated)
    np.testing.assert_array_equal(examples[0][1], folder.read_label(own / "labels" / "0.png"))

    (own / "labels.json").write_text(classes.named(["background", "hand", "foot"]).as_json())
    with refused(TrainingError, run, "another configuration", "l_hand"):
        train_and_evaluate(config, run, own, start)
    with refused(DataError, own / "labels.json", "3 classes", "expected 4"):
        train_and_evaluate(dataclasses.replace(config, num_classes=4), tmp_path / "other", own)


@pytest.mark.parametrize(("megabytes", "kept"), [(30, []), (90, ["best.keras"])])
def test_goes_on_after_a_full_disk(data_dir, start, disk, megabytes, kept):
    """A network or a state takes 53 MB."""
    workdir, config = disk(megabytes << 10) / "run", dataclasses.replace(CONFIG, steps=1)
    with refused(TrainingError, workdir, "No space left on device", "last checkpoint"):
        train_and_evaluate(config, workdir, data_dir, start)
    names = {path.name for path in workdir.iterdir() if path.suffix in (".keras", ".npz") or "partial" in path.name}
    assert names == set(kept)
    disk(300 << 10)
    train_and_evaluate(config, workdir, data_dir, start)
    assert [step for step, _ in evaluations(workdir)] == [0, 1]


def test_starts_on_a_full_disk(data_dir, start, disk):
    workdir = disk(1 << 10) / "run"
    workdir.mkdir()
    (workdir.parent / "others").write_bytes(bytes(2**20 - 2**12))
    with refused(TrainingError, workdir, "No space left on device"):
        train_and_evaluate(CONFIG, workdir, data_dir, start)
