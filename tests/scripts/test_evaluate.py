"""Evaluating models of every kind, as functions and as the command that a user runs."""

import hashlib
import io
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image
from sklearn.metrics import confusion_matrix
from support import labeled, script_runner
from support.files import names
from support.networks import random_state
from support.paths import DEFAULT_CHECKPOINT, ROOT
from support.ported import default_model, default_reference, normalized
from support.refusals import check_refused, refused

import weight_port
from keras_bisenet import LABELS, BiSeNet, FaceParser, load_model
from keras_bisenet.data import folder
from keras_bisenet.export import convert, deployment
from keras_bisenet.inference import predictors
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.training import chart, evaluation
from keras_bisenet.training.metrics import Scores
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ModelError

pytestmark = pytest.mark.slow

SIZE = (192, 256)
HALF = (96, 128)

SCRIPT = ROOT / "scripts" / "evaluate.py"


def command(*arguments, **options):
    return script_runner.run(SCRIPT, *arguments, **options)


def pixels(path):
    return np.asarray(Image.open(path))


def link(folder, source, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).symlink_to(source / name)


@pytest.fixture(scope="module")
def reference():
    """Labels by PyTorch: called with `[H, W, 3]` uint8 RGB."""
    return lambda photo: default_reference()(normalized(photo))[0][0].argmax(-1)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "bisenet.keras"
    default_model().save(path)
    return path


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, reference):
    """Two photos whose labels are PyTorch's own, but for a part that is something else and one that is unknown."""
    bundled, examples = images.read(images.BUNDLED, SIZE), {}
    for name, photo in (("b", bundled), ("a", np.ascontiguousarray(bundled[:, ::-1]))):
        labels = reference(photo).astype(np.uint8)
        labels[10:40, 50:90] = LABELS.index("hat")
        labels[60:70, 60:100] = 255
        examples[name] = photo, labels
    return labeled.write(tmp_path_factory.mktemp("data"), examples, val=["b", "a"])


@pytest.fixture(scope="module")
def expected(data_dir, reference):
    """The confusion matrix of the whole split, by scikit-learn."""
    examples = folder.read_split(data_dir, "val")
    truth = np.stack([pixels(example.label) for example in examples])
    said = np.stack([reference(pixels(example.image)) for example in examples])
    known = truth != 255
    matrix = confusion_matrix(truth[known], said[known], labels=np.arange(19))
    assert known.sum() == 2 * (SIZE[0] * SIZE[1] - 400)
    # The network is wrong where the labels were changed, and nowhere else.
    assert matrix.sum() - np.trace(matrix) == 2 * 30 * 40
    return matrix


def check_confusion(matrix, expected, tolerance=4):
    """Equal but for a pixel or two whose two best classes are as good as equal."""
    assert np.abs(np.asarray(matrix) - expected).sum() <= tolerance


@pytest.fixture(scope="module")
def tflite_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "face_parsing_float32.tflite"
    path.write_bytes(convert.to_tflite(default_model(), SIZE))
    return path


@pytest.mark.parametrize("kind", ["pytorch", "keras", "tflite"])
def test_every_kind_of_model_gives_the_same_scores(kind, data_dir, keras_file, tflite_file, expected, tmp_path):
    path = {"pytorch": DEFAULT_CHECKPOINT, "keras": keras_file, "tflite": tflite_file}[kind]
    # The first as a user starts it.
    named, run = ("default", script_runner.run_alone) if kind == "pytorch" else (path, script_runner.run)
    out = tmp_path / "new" / "out"
    process = run(SCRIPT, "--model", named, "--data_dir", data_dir, "--output_dir", out)
    assert process.returncode == 0, process.stderr
    assert names(out) == ["evaluation.json", "evaluation.png"]
    report = json.loads((out / "evaluation.json").read_text())
    check_confusion(report["confusion"], expected)
    assert report["model"] == {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "kind": kind,
        "classes": 19,
        "image_size": [*SIZE] if kind == "tflite" else None,
    }
    assert report["data"] == {"path": str(data_dir), "split": "val", "photos": 2}
    assert report["options"] == {"limit": None, "image_size": None}
    scores = Scores(report["confusion"])
    assert report["mean_iou"] == scores.mean_iou
    assert list(report["classes"]) == list(LABELS)
    assert report["classes"]["hair"]["iou"] == scores.iou[LABELS.index("hair")]
    assert process.stdout.splitlines()[0] == f"{path.name} on 2 photos of val"
    assert scores.table(LABELS) in process.stdout
    for name in ("mean_iou", "mean_f1", "mean_boundary_f1"):
        low, high = report["intervals"][name]
        assert low <= report[name] <= high
    with Image.open(out / "evaluation.png") as picture:
        assert picture.width > 1000


def enlarged(labels):
    """At twice the height and width, by nearest neighbors."""
    return labels.repeat(2, 0).repeat(2, 1)


def test_the_first_photos_of_a_split_at_half_the_size(tmp_path, data_dir, keras_file, reference):
    link(tmp_path / "data", data_dir, "images", "labels")
    (tmp_path / "data" / "test.txt").write_text("a\nb\n")
    flags = ["--model", keras_file, "--split", "test", "--limit", "1", "--image_size", "96x128"]
    process = command(*flags, "--data_dir", tmp_path / "data", "--output_dir", tmp_path)
    assert process.returncode == 0, process.stderr
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["data"]["photos"] == 1
    assert report["model"]["image_size"] == [*HALF]
    assert report["options"] == {"limit": 1, "image_size": "96x128"}
    photo = Image.open(data_dir / "images" / "a.png").resize(HALF[::-1], Image.Resampling.BILINEAR)
    truth = pixels(data_dir / "labels" / "a.png")
    known = truth != 255
    labels = enlarged(reference(np.asarray(photo)))
    matrix = confusion_matrix(truth[known], labels[known], labels=np.arange(19))
    # Each of its pixels counts four times.
    check_confusion(report["confusion"], matrix, tolerance=16)


@pytest.mark.parametrize("output", deployment.OUTPUTS)
@pytest.mark.parametrize("input_type", deployment.INPUTS)
def test_every_tflite_file_is_read_right(tmp_path, reference, input_type, output):
    """On a larger photo, which is resized to the size that the file is fixed to."""
    path = tmp_path / "model.tflite"
    path.write_bytes(convert.to_tflite(default_model(), HALF, "float32", input_type, output))
    predict = FaceParser(path)
    assert (predict.num_classes, predict.image_size) == (19, HALF)
    photo = images.read(images.BUNDLED, SIZE)
    result = predict(photo)
    assert result.shape == SIZE
    assert (result == enlarged(reference(images.resize(photo, HALF)))).mean() > 0.9998


def test_a_model_of_a_fixed_size_gets_its_size(tmp_path, reference):
    fixed = BiSeNet(input_shape=(64, 80, 3), dtype="mixed_bfloat16")
    fixed.set_weights(default_model().get_weights())
    fixed.save(tmp_path / "fixed.keras")
    predict = FaceParser(tmp_path / "fixed.keras", image_size=(64, 80))
    photo = images.read(images.BUNDLED, (64, 80))
    assert (predict(photo) == reference(photo)).mean() > 0.95
    assert FaceParser(tmp_path / "fixed.keras")(images.read(images.BUNDLED, SIZE)).shape == SIZE
    with refused(ModelError, tmp_path / "fixed.keras", "64x80", "192x256"):
        predictors.KerasNetwork(tmp_path / "fixed.keras", SIZE)


def test_evaluate_takes_any_predictor(data_dir):
    """One that always says hair: its column holds the pixels of each class."""
    examples = folder.read_split(data_dir, "val")
    evaluated = evaluation.evaluate(lambda photo: np.full(photo.shape[:2], 17), iter(examples), 19)
    matrix = evaluated.scores.matrix
    truth = np.concatenate([pixels(example.label).ravel() for example in examples])
    np.testing.assert_array_equal(matrix[:, 17], np.bincount(truth, minlength=256)[:19])
    assert matrix.sum() == matrix[:, 17].sum()
    # There is no border in it.
    assert not evaluated.borders[..., 2:].any()
    known = [(pixels(example.label) != 255).sum() for example in examples]
    np.testing.assert_array_equal(evaluated.matrices.sum(axis=(1, 2)), known)


def test_bars_are_as_long_as_the_scores(tmp_path):
    """The green of the bars, of which a full score has twice as much as a half."""

    def green(matrix):
        chart.save_chart(tmp_path / "a.png", Scores(matrix), ("a", "b", "c"), "title")
        return (np.asarray(Image.open(tmp_path / "a.png").convert("RGB")) == (0x1B, 0x7F, 0x5C)).all(-1).sum()

    half = green([[1, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert half > 1000
    assert green([[2, 0, 0], [0, 0, 0], [0, 0, 0]]) == pytest.approx(2 * half, rel=0.02)


def without_weights(keras_file):
    """The bytes of a `.keras` file that lacks its weights."""
    content = io.BytesIO()
    with zipfile.ZipFile(keras_file) as source, zipfile.ZipFile(content, "w") as target:
        for name in source.namelist():
            if name != "model.weights.h5":
                target.writestr(name, source.read(name))
    return content.getvalue()


def test_what_is_no_keras_file_of_a_bisenet(tmp_path, keras_file):
    path = tmp_path / "a.keras"
    with refused(ModelError, path, "no such file"):
        load_model(path)
    for content in (b"", b"<!DOCTYPE html>", keras_file.read_bytes()[:1_000_000], without_weights(keras_file)):
        path.write_bytes(content)
        with refused(ModelError, path, "damaged"):
            load_model(path)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    with refused(ModelError, path, "Sequential", "BiSeNet"):
        load_model(path)


def test_a_tflite_file_keeps_its_size(tflite_file):
    with refused(ModelError, tflite_file, "192x256", "96x128"):
        FaceParser(tflite_file, image_size=HALF)
    assert FaceParser(tflite_file, image_size=SIZE).image_size == SIZE


def test_labels_of_an_unknown_number_of_classes(tmp_path, tflite_file, data_dir):
    """They come from ARG_MIN, which takes the same inputs as ARG_MAX."""
    model = flatbuffer.unpack(tflite_file.read_bytes())
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.ARG_MAX:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ARG_MIN
    path = tmp_path / "a.tflite"
    path.write_bytes(flatbuffer.pack(model))
    process = command("--model", path, "--data_dir", data_dir, "--output_dir", tmp_path / "out")
    check_refused(process, path, left=tmp_path / "out")


def test_labels_in_another_order(tmp_path, data_dir):
    link(tmp_path, data_dir, "images", "labels", "val.txt")
    (tmp_path / "labels.json").write_text(json.dumps({"classes": [*LABELS[1:], LABELS[0]]}))
    process = command("--data_dir", tmp_path, "--output_dir", tmp_path / "out")
    check_refused(process, tmp_path / "labels.json")


def test_a_model_of_other_classes(tmp_path, data_dir):
    path = tmp_path / "five.safetensors"
    weight_port.save(path, random_state(num_classes=5, width=0.0625))
    process = command("--model", path, "--data_dir", data_dir, "--output_dir", tmp_path / "out")
    check_refused(process, data_dir / "labels" / "b.png", "none of 2", "classes 0 to 4", left=tmp_path / "out")


def test_one_bad_photo_is_named(tmp_path, data_dir):
    link(tmp_path, data_dir, "images", "val.txt")
    shutil.copytree(data_dir / "labels", tmp_path / "labels")
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(tmp_path / "labels" / "a.png")
    process = command("--data_dir", tmp_path, "--output_dir", tmp_path / "out")
    check_refused(process, tmp_path / "labels" / "a.png", "10x20", "192x256", "1 of 2", left=tmp_path / "out")


def test_no_such_checkpoint_and_no_such_folder(tmp_path, data_dir):
    out, published = tmp_path / "out", "default, fast, tiny, zllrunning, yakhyo_resnet18, yakhyo_resnet34"
    process = command("--model", "none.pth", "--data_dir", data_dir, "--output_dir", out)
    check_refused(process, "none.pth", published, left=out)
    process = command("--data_dir", tmp_path / "none", "--output_dir", out)
    check_refused(process, f"{tmp_path}/none: no such folder", left=out)
