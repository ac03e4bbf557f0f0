"""The main command as its user runs it: what it writes, what it says, what it leaves behind."""

import hashlib
import json
import os

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from support import script_runner
from support.networks import random_state
from support.paths import DEFAULT_CHECKPOINT, ROOT

from keras_bisenet import LABELS
from keras_bisenet.utils import images

SCRIPT = ROOT / "scripts" / "port_and_export.py"


def command(*arguments, **options):
    return script_runner.run(SCRIPT, *arguments, **options)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The default command at a small size, as a user starts it: (process, folder)."""
    folder = tmp_path_factory.mktemp("job") / "new" / "out"
    return script_runner.run_alone(SCRIPT, "--output_dir", folder, "--image_size", "96x160"), folder


def test_writes_exactly_what_it_promises(job):
    process, folder = job
    assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        "bisenet.keras",
        "face_parsing_float16.tflite",
        "face_parsing_float32.tflite",
        "preview.png",
        "report.html",
        "report.json",
    ]


@pytest.mark.slow
def test_a_trained_keras_file_gives_the_same_files(job, tmp_path):
    _, folder = job
    flags = ("--output_dir", tmp_path, "--image_size", "96x160", "--precisions", "float32")
    process = command("--checkpoint", folder / "bisenet.keras", *flags)
    assert process.returncode == 0, process.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["holds"] is True
    assert report["checkpoint"]["sha256"] == hashlib.sha256((folder / "bisenet.keras").read_bytes()).hexdigest()
    photo = images.read(images.BUNDLED, (96, 160))[np.newaxis]
    files = [where / "face_parsing_float32.tflite" for where in (folder, tmp_path)]
    labels = [Interpreter(str(file)).get_signature_runner()(image=photo)["labels"] for file in files]
    np.testing.assert_array_equal(*labels)


def test_report(job):
    _, folder = job
    report = json.loads((folder / "report.json").read_text())
    assert report["holds"] is True
    assert report["checkpoint"] == {
        "path": str(DEFAULT_CHECKPOINT),
        "sha256": hashlib.sha256(DEFAULT_CHECKPOINT.read_bytes()).hexdigest(),
        "layout": "zllrunning",
        "backbone": "resnet18",
        "classes": 19,
        "parameters": 13_300_416,
        "license": "non-commercial research only (CelebAMask-HQ agreement)",
    }
    assert report["options"] == {
        "target": "litert",
        "image_size": [96, 160],
        "input_type": "uint8",
        "output": "labels",
        "precisions": ["float32", "float16"],
    }
    assert report["calibration"] is None
    compared = {(check["name"], check["head"]) for check in report["comparisons"]}
    heads = ("logits", "logits16", "logits32")
    assert compared == {(name, head) for name in ("keras_float64", "keras") for head in heads} | {
        ("float32", "logits"),
        ("float16", "logits"),
    }
    for check in report["comparisons"]:
        assert check["image"] == "astronaut_face.png"
        assert check["holds"] is True
        assert 0 <= check["mean_abs_error"] <= check["max_abs_error"]
    for name, entry in report["files"].items():
        content = (folder / name).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    tflite = report["files"]["face_parsing_float32.tflite"]
    assert tflite["outputs"] == [{"name": "labels", "shape": [1, 96, 160], "dtype": "uint8"}]
    assert tflite["ops"]["CONV_2D"] == 38
    assert tflite["kind"] == "float32 weights, float32 activations"
    assert tflite["metadata"]["labels"] == list(LABELS)
    assert tflite["metadata"]["checkpoint_sha256"] == report["checkpoint"]["sha256"]
    assert tflite["metadata"]["license"] == "non-commercial research only (CelebAMask-HQ agreement)"
    assert sum(report["seconds"].values()) > 1
    assert 0.3e9 < report["peak_memory_bytes"] < 3 * 2**30


def test_table(job):
    process, _ = job
    lines = process.stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("float16 "))
    assert line.split()[1:3] == ["astronaut_face.png", "logits"]
    assert line.endswith("ok")


def test_preview_shows_the_photo(job):
    _, folder = job
    with Image.open(folder / "preview.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 3 * pixels.shape[0]
    hair, cloth = (108, 60, 160), (90, 200, 190)
    assert all((pixels == color).all(-1).sum() > 5000 for color in (hair, cloth))


def test_keras_file_gives_the_labels_of_the_tflite_file(job):
    import keras

    from keras_bisenet import load_model, normalize
    from keras_bisenet.tflite.interpreter import TFLiteRunner

    _, folder = job
    photo = images.read(images.BUNDLED, (96, 160))[np.newaxis]
    model = load_model(folder / "bisenet.keras")
    labels = keras.ops.convert_to_numpy(keras.ops.argmax(model(normalize(photo))["logits"], -1))
    tflite = TFLiteRunner((folder / "face_parsing_float32.tflite").read_bytes())(photo)["labels"]
    assert (labels == tflite).mean() >= 0.9998


def test_a_failed_comparison_rejects_its_files(tmp_path):
    """An impossible tolerance: exit 1, the failed file has no final name, the one that holds has."""
    for name in ("face_parsing_float32.tflite", "face_parsing_float16.tflite.failed"):
        (tmp_path / name).write_bytes(b"of an earlier run")
    process = command("--output_dir", tmp_path, "--image_size", "64", "--tolerance", "1e-12")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "error: a comparison with PyTorch failed: keras, float32; see the table above and report.json"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bisenet.keras",
        "face_parsing_float16.tflite",
        "face_parsing_float32.tflite.failed",
        "preview.png",
        "report.html",
        "report.json",
    ]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["holds"] is False
    assert report["files"]["face_parsing_float32.tflite.failed"]["ops"]["CONV_2D"] == 38


@pytest.mark.slow
def test_int8_says_what_it_is_and_what_it_was_made_with(tmp_path):
    """Some of the photos of a folder, one of which is no photo."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.jpg", "c.png"):
        Image.open(images.BUNDLED).save(photos / name)
    (photos / "d.jpg").write_bytes(b"no photo")
    out = tmp_path / "out"
    flags = [
        "--precisions",
        "int8,dynamic",
        "--calibration_images",
        photos,
        "--author",
        "A. Nother",
        "--license",
        "MIT",
    ]
    process = command("--output_dir", out, "--image_size", "96x160", *flags)
    assert process.returncode == 0, process.stderr
    assert f"int8 was calibrated on 3 photos: {photos}, 1 more cannot be read: d.jpg" in process.stdout
    report = json.loads((out / "report.json").read_text())
    assert report["calibration"] == {"source": str(photos), "photos": 3, "skipped": ["d.jpg"]}
    int8, dynamic = (report["files"][f"face_parsing_{precision}.tflite"] for precision in ("int8", "dynamic"))
    assert int8["kind"] == ("int8 weights, int8 activations; float32 in CONV_2D 1, DEQUANTIZE 1, RESIZE_BILINEAR 1")
    assert int8["float_ops"] == {"DEQUANTIZE": 1, "CONV_2D": 1, "RESIZE_BILINEAR": 1}
    assert dynamic["kind"] == "int8 weights, float32 activations (dynamic range, not full int8)"
    assert (int8["metadata"]["author"], int8["metadata"]["license"]) == ("A. Nother", "MIT")


def test_saved_model(tmp_path):
    """The folder takes the place of an older one, and of one that failed."""
    for stale in ("saved_model", "saved_model.failed"):
        (tmp_path / stale / "1").mkdir(parents=True)
        (tmp_path / stale / "1" / "stale").write_text("")
    process = command("--target", "saved_model", "--output_dir", tmp_path, "--image_size", "96x160")
    assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bisenet.keras",
        "preview.png",
        "report.html",
        "report.json",
        "saved_model",
    ]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["comparisons"][-1]["name"] == "saved_model"
    files = report["files"]["saved_model"]["files"]
    assert set(files) >= {"1/saved_model.pb", "1/assets/labels.txt"}
    assert "1/stale" not in files
    assert report["files"]["saved_model"]["bytes"] == sum(file["bytes"] for file in files.values())


def test_mediapipe_gets_scores_and_says_how_to_read_them(tmp_path):
    flags = ["--target", "mediapipe", "--precisions", "float16", "--image_size", "96x160"]
    process = command("--output_dir", tmp_path, *flags)
    assert process.returncode == 0, process.stderr
    file = json.loads((tmp_path / "report.json").read_text())["files"]["face_parsing_float16.tflite"]
    assert file["inputs"] == [{"name": "image", "shape": [1, 96, 160, 3], "dtype": "uint8"}]
    assert file["outputs"] == [{"name": "logits", "shape": [1, 96, 160, 19], "dtype": "float32"}]
    assert file["metadata"]["activation"] == "SOFTMAX"


@pytest.mark.slow
def test_other_layout_backbone_classes_photos_and_output(tmp_path):
    checkpoint, photos = tmp_path / "c.pt", tmp_path / "photos"
    state = {f"module.{key}": torch.tensor(array) for key, array in random_state("resnet34", "yakhyo", 5).items()}
    torch.save({"model": state, "epoch": 1}, checkpoint)
    photos.mkdir()
    for name in ("b.jpg", "a.png"):
        Image.open(images.BUNDLED).save(photos / name)
    flags = {"checkpoint": checkpoint, "verify_images": photos, "image_size": "128", "precisions": "float32"}
    flags |= {"input": "float32", "output": "all_heads", "output_dir": tmp_path / "out"}
    process = command(*(f"--{name}={value}" for name, value in flags.items()))
    assert process.returncode == 0, process.stdout + process.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["checkpoint"]["layout"] == "yakhyo"
    assert report["checkpoint"]["backbone"] == "resnet34"
    assert report["checkpoint"]["classes"] == 5
    compared = [(check["name"], check["image"], check["head"]) for check in report["comparisons"]]
    heads = ("logits", "logits16", "logits32")
    assert sorted(compared) == sorted(
        [("keras_float64", "a.png", head) for head in heads]
        + [(name, image, head) for name in ("keras", "float32") for image in ("a.png", "b.jpg") for head in heads]
    )


def check_refused(process, message, folder):
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == message
    assert "Traceback" not in process.stderr
    assert not folder.exists(), "a refused job left something behind"


def test_refused_checkpoint(tmp_path):
    (tmp_path / "c.pth").write_bytes(b"<html>")
    process = command("--checkpoint", tmp_path / "c.pth", "--output_dir", tmp_path / "out")
    message = "is a web page, not a checkpoint; the link led to a download page: fetch it with a browser"
    check_refused(process, f"error: {tmp_path}/c.pth: {message}", tmp_path / "out")


def test_refused_keys_are_listed(tmp_path):
    state = random_state()
    del state["ffm.conv1.weight"]
    torch.save({key: torch.tensor(array) for key, array in state.items()}, tmp_path / "c.pth")
    process = command("--checkpoint", tmp_path / "c.pth", "--output_dir", tmp_path / "out")
    check_refused(process, "  - ffm.conv1.weight", tmp_path / "out")
    assert process.stderr.splitlines()[-2].startswith("error: the checkpoint does not fit BiSeNet resnet18 with 19")


def test_refused_photos(tmp_path):
    process = command("--verify_images", tmp_path / "none", "--output_dir", tmp_path / "out")
    suffixes = ".bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp"
    message = f"error: {tmp_path}/none: no such file or folder; expected photos ({suffixes})"
    check_refused(process, message, tmp_path / "out")


def test_refused_calibration_photos(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no photo")
    flags = ["--precisions", "int8", "--calibration_images", tmp_path / "photos"]
    process = command(*flags, "--output_dir", tmp_path / "out")
    message = f"error: {tmp_path}/photos: none of its 1 photos can be read; expected photos of faces"
    check_refused(process, message, tmp_path / "out")


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    process = command("--output_dir", tmp_path / "file" / "out")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        f"error: cannot write to {tmp_path}/file/out: Not a directory; free it or choose another folder"
    )


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [10, 60])
def test_no_space_left(tmp_path, megabytes):
    """A limit on the size of any file fails as a full disk does: 10 MB is less than each model, 60 MB more."""
    flags = ["--output_dir", tmp_path / "out", "--image_size", "64", "--precisions", "float32"]
    process = command(*flags, largest_file=megabytes << 20, env={**os.environ, "TMPDIR": str(tmp_path)})
    if megabytes == 60:
        assert process.returncode == 0, process.stderr
        return
    check_refused(
        process,
        f"error: cannot write to {tmp_path}/out: File too large; free it or choose another folder",
        tmp_path / "out",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--image_size", "31"],
            "error: image size is '31'; expected SIDE or HEIGHTxWIDTH in pixels, each at least 32, for example 512 or "
            "480x640",
        ),
        (
            ["--precisions", "float32,float8"],
            "error: precision is 'float8'; expected one of float32, float16, dynamic, int8",
        ),
        (["--precisions", ""], "error: no precision is asked for; expected some of float32, float16, dynamic, int8"),
        (["--output", "mask"], "flag --output=mask: value should be one of <labels|logits|probabilities|all_heads>"),
        (["--input", "int8"], "flag --input=int8: value should be one of <uint8|float32>"),
        (["--target", "tfjs"], "flag --target=tfjs: value should be one of <litert|mediapipe|saved_model>"),
        (["--calibration_count", "0"], "flag --calibration_count=0: 0 is not a positive integer"),
        (
            ["--target", "mediapipe", "--input", "float32"],
            "error: the target mediapipe has no input 'float32'; expected uint8",
        ),
        (["stray", "more"], "unexpected arguments: stray more; every option is a flag, see --help"),
    ],
)
def test_bad_flags(tmp_path, arguments, message):
    process = command(*arguments, cwd=tmp_path)
    assert process.returncode == 1
    assert message in process.stderr + process.stdout
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []
