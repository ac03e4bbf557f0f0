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
from support.exports import SCRIPT
from support.files import names
from support.networks import random_state
from support.paths import DEFAULT_CHECKPOINT
from support.ported import normalized
from support.refusals import check_refused

import weight_port
from keras_bisenet import HEADS, LABELS, FaceParser, classes, load_model
from keras_bisenet.utils import images

ALWAYS = {"bisenet.keras", "labels.json", "preview.png", "report.html", "report.json"}


def command(*arguments, **options):
    return script_runner.run(SCRIPT, *arguments, **options)


def export(out, *flags):
    """(what is printed, report) of an export that must hold."""
    process = command("--output_dir", out, *flags)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout, json.loads((out / "report.json").read_text())


def copies_of_the_photo(folder, names):
    folder.mkdir()
    for name in names:
        Image.open(images.BUNDLED).save(folder / name)
    return folder


def test_writes_exactly_what_it_promises(default_export):
    files = {"face_parsing_float16.tflite", "face_parsing_float32.tflite"}
    assert set(names(default_export.out)) == ALWAYS | files


@pytest.mark.slow
def test_a_trained_keras_file_gives_the_same_files(default_export, tmp_path):
    trained = default_export.out / "bisenet.keras"
    _, report = export(tmp_path, "--checkpoint", trained, "--precisions", "float32")
    assert report["holds"] is True
    assert report["checkpoint"]["sha256"] == hashlib.sha256(trained.read_bytes()).hexdigest()
    photo = images.read(images.BUNDLED, (512, 512))[np.newaxis]
    files = [where / "face_parsing_float32.tflite" for where in (default_export.out, tmp_path)]
    labels = [Interpreter(str(file)).get_signature_runner()(image=photo)["labels"] for file in files]
    np.testing.assert_array_equal(*labels)


def test_report(default_export):
    report = default_export.report
    assert report["holds"] is True
    assert report["checkpoint"] == {
        "path": str(DEFAULT_CHECKPOINT),
        "sha256": hashlib.sha256(DEFAULT_CHECKPOINT.read_bytes()).hexdigest(),
        "layout": "zllrunning",
        "backbone": "resnet18",
        "width": 1.0,
        "classes": 19,
        "parameters": 13_300_416,
        "license": "non-commercial research only (CelebAMask-HQ agreement)",
    }
    assert report["options"] == {
        "target": "litert",
        "image_size": [512, 512],
        "input_type": "uint8",
        "output": "labels",
        "precisions": ["float32", "float16"],
    }
    assert report["calibration"] is None
    expected = {(name, head) for name in ("keras_float64", "keras") for head in HEADS}
    expected |= {("float32", "logits"), ("float16", "logits")}
    assert {(check["name"], check["head"]) for check in report["comparisons"]} == expected
    for check in report["comparisons"]:
        assert check["image"] == "astronaut_face.png"
        assert check["holds"] is True
        assert 0 <= check["mean_abs_error"] <= check["max_abs_error"]
    for name, entry in report["files"].items():
        content = (default_export.out / name).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    tflite = report["files"]["face_parsing_float32.tflite"]
    assert tflite["outputs"] == [{"name": "labels", "shape": [1, 512, 512], "dtype": "uint8"}]
    assert tflite["ops"]["CONV_2D"] == 38
    assert tflite["kind"] == "float32 weights, float32 activations"
    assert tflite["metadata"]["labels"] == list(LABELS)
    assert tflite["metadata"]["checkpoint_sha256"] == report["checkpoint"]["sha256"]
    assert tflite["metadata"]["license"] == "non-commercial research only (CelebAMask-HQ agreement)"
    assert sum(report["seconds"].values()) > 1
    assert report["peak_memory_bytes"] > 0.3e9


def test_table(default_export):
    (line,) = (line for line in default_export.stdout.splitlines() if line.startswith("float16 "))
    assert line.split()[1:3] == ["astronaut_face.png", "logits"]
    assert line.endswith("ok")


def test_preview_shows_the_photo(default_export):
    with Image.open(default_export.out / "preview.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 3 * pixels.shape[0]
    hair, cloth = (108, 60, 160), (90, 200, 190)
    assert all((pixels == color).all(-1).sum() > 5000 for color in (hair, cloth))


def test_keras_file_gives_the_labels_of_the_tflite_file(default_export):
    photo = images.read(images.BUNDLED, (512, 512))
    logits = load_model(default_export.out / "bisenet.keras")(normalized(photo))["logits"]
    labels = Interpreter(str(default_export.out / "face_parsing_float32.tflite")).get_signature_runner()(
        image=photo[np.newaxis]
    )["labels"]
    assert (logits.numpy().argmax(-1) == labels).mean() >= 0.9998


def test_a_failed_comparison_rejects_its_files(failed_export):
    """An impossible tolerance: exit 1, the failed file has no final name, the one that holds has."""
    assert failed_export.status == 1
    line = failed_export.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert "keras, float32" in line
    files = {"face_parsing_dynamic.tflite", "face_parsing_float32.tflite.failed"}
    assert set(names(failed_export.out)) == ALWAYS | files
    assert failed_export.report["holds"] is False
    assert failed_export.report["files"]["face_parsing_float32.tflite.failed"]["ops"]["CONV_2D"] == 35


@pytest.mark.slow
def test_int8_says_what_it_is_and_what_it_was_made_with(tmp_path):
    """Some of the photos of a folder, one of which is no photo."""
    photos = copies_of_the_photo(tmp_path / "photos", ("a.png", "b.jpg", "c.png"))
    (photos / "d.jpg").write_bytes(b"no photo")
    flags = ["--precisions", "int8,dynamic", "--calibration_images", photos, "--author", "A. Nother"]
    printed, report = export(tmp_path / "out", "--image_size", "96x160", *flags, "--license", "MIT")
    assert f"int8 was calibrated on 3 photos: {photos}, 1 more cannot be read: d.jpg" in printed
    assert report["calibration"] == {"source": str(photos), "photos": 3, "skipped": ["d.jpg"]}
    int8, dynamic = (report["files"][f"face_parsing_{precision}.tflite"] for precision in ("int8", "dynamic"))
    assert int8["kind"] == "int8 weights, int8 activations; float32 in CONV_2D 1, DEQUANTIZE 1, RESIZE_BILINEAR 1"
    assert int8["float_ops"] == {"DEQUANTIZE": 1, "CONV_2D": 1, "RESIZE_BILINEAR": 1}
    assert dynamic["kind"] == "int8 weights, float32 activations (dynamic range, not full int8)"
    assert (int8["metadata"]["author"], int8["metadata"]["license"]) == ("A. Nother", "MIT")


def test_own_classes_are_named_by_the_file_beside_the_checkpoint(tmp_path):
    checkpoint, out = tmp_path / "own.safetensors", tmp_path / "out"
    weight_port.save(checkpoint, random_state("resnet18", num_classes=3, width=0.25))
    stated = classes.named(["sky", "left tree", "right tree"], palette={"sky": "#102030"})
    (tmp_path / "labels.json").write_text(stated.as_json())
    flags = ("--checkpoint", checkpoint, "--image_size", "64", "--precisions", "dynamic")
    export(out, *flags)
    for name in ("bisenet.keras", "face_parsing_dynamic.tflite"):
        parser = FaceParser(out / name)
        assert (parser.class_names, parser.palette) == (stated.names, stated.palette)
    assert classes.read(out / "labels.json") == stated
    assert "#102030" in (out / "report.html").read_text()

    other = tmp_path / "other.json"
    other.write_text(classes.of_count(4).as_json())
    check_refused(command(*flags, "--output_dir", out, "--labels", other), other, "4", "3")


def test_saved_model(tmp_path):
    """The folder takes the place of an older one, and of one that failed."""
    for stale in ("saved_model", "saved_model.failed"):
        (tmp_path / stale / "1").mkdir(parents=True)
        (tmp_path / stale / "1" / "stale").write_text("")
    _, report = export(tmp_path, "--checkpoint", "tiny", "--target", "saved_model", "--image_size", "64")
    assert set(names(tmp_path)) == ALWAYS | {"saved_model"}
    assert report["comparisons"][-1]["name"] == "saved_model"
    files = report["files"]["saved_model"]["files"]
    assert set(files) >= {"1/saved_model.pb", "1/assets/labels.txt"}
    assert "1/stale" not in files
    assert report["files"]["saved_model"]["bytes"] == sum(file["bytes"] for file in files.values())


@pytest.mark.slow
def test_mediapipe_gets_scores_and_says_how_to_read_them(tmp_path):
    _, report = export(tmp_path, "--target", "mediapipe", "--precisions", "float16", "--image_size", "96x160")
    file = report["files"]["face_parsing_mediapipe_float16.tflite"]
    assert file["inputs"] == [{"name": "image", "shape": [1, 96, 160, 3], "dtype": "uint8"}]
    assert file["outputs"] == [{"name": "logits", "shape": [1, 96, 160, 19], "dtype": "float32"}]
    assert file["metadata"]["activation"] == "SOFTMAX"


@pytest.mark.slow
def test_npu_gets_whole_numbers_and_says_what_is_left_to_do(tmp_path):
    _, report = export(tmp_path, "--target", "npu", "--checkpoint", "fast", "--image_size", "96x160")
    assert [check["name"] for check in report["comparisons"]][-1] == "int8"
    file = report["files"]["face_parsing_npu_int8.tflite"]
    assert file["outputs"] == [{"name": "scores", "shape": [1, 12, 20, 19], "dtype": "int8"}]
    assert (file["kind"], file["float_ops"]) == ("int8 weights, int8 activations", {})
    assert file["metadata"]["post_processing"]["size"] == [96, 160]
    assert file["refused"]["Coral Edge TPU"] == {}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "post_processing: scale" in page and "Coral Edge TPU" in page


@pytest.mark.slow
def test_other_layout_backbone_classes_photos_and_output(tmp_path):
    checkpoint = tmp_path / "c.pt"
    state = {f"module.{key}": torch.tensor(array) for key, array in random_state("resnet34", "yakhyo", 5).items()}
    torch.save({"model": state, "epoch": 1}, checkpoint)
    photos = copies_of_the_photo(tmp_path / "photos", ("b.jpg", "a.png"))
    flags = {"checkpoint": checkpoint, "verify_images": photos, "image_size": "128", "precisions": "float32"}
    flags |= {"input": "float32", "output": "all_heads"}
    _, report = export(tmp_path / "out", *(f"--{name}={value}" for name, value in flags.items()))
    origin = report["checkpoint"]
    assert (origin["layout"], origin["backbone"], origin["classes"]) == ("yakhyo", "resnet34", 5)
    compared = [(check["name"], check["image"], check["head"]) for check in report["comparisons"]]
    assert sorted(compared) == sorted(
        [("keras_float64", "a.png", head) for head in HEADS]
        + [(name, image, head) for name in ("keras", "float32") for image in ("a.png", "b.jpg") for head in HEADS]
    )


def test_photos_of_names_that_are_no_text(tmp_path):
    """The summary came after the files were in place, and ended in a UnicodeEncodeError."""
    checkpoint = tmp_path / "c.pth"
    weight_port.save(checkpoint, random_state(num_classes=3, width=0.0625))
    of_bytes = (os.fsdecode(b"\xff.png"), "two\nlines.png")
    verified = copies_of_the_photo(tmp_path / "verified", of_bytes)
    photos = copies_of_the_photo(tmp_path / os.fsdecode(b"photos\xff"), of_bytes)
    (photos / os.fsdecode(b"bad\xfe.png")).write_bytes(b"")
    flags = ["--checkpoint", checkpoint, "--image_size", "64", "--precisions", "int8", "--verify_images", verified]
    printed, _ = export(tmp_path / "out", *flags, "--calibration_images", photos)
    rows = {line.split()[1] for line in printed.splitlines() if line.startswith("keras ")}
    assert rows == {r"'\udcff.png'", r"'two\nlines.png'"}
    assert r"photos\udcff, 1 more cannot be read: 'bad\udcfe.png'" in printed


def test_refused_checkpoint(tmp_path):
    (tmp_path / "c.pth").write_bytes(b"<html>")
    process = command("--checkpoint", tmp_path / "c.pth", "--output_dir", tmp_path / "out")
    check_refused(process, tmp_path / "c.pth", "web page", left=tmp_path / "out")


def test_refused_keys_are_listed(tmp_path):
    state = random_state()
    del state["ffm.conv1.weight"]
    weight_port.save(tmp_path / "c.pth", state)
    process = command("--checkpoint", tmp_path / "c.pth", "--output_dir", tmp_path / "out")
    assert process.returncode == 1
    *_, error, key = process.stderr.splitlines()
    assert error.startswith("error: the checkpoint does not fit BiSeNet resnet18 with 19")
    assert key == "  - ffm.conv1.weight"
    assert not (tmp_path / "out").exists()


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    check_refused(command("--output_dir", tmp_path / "file" / "out"), tmp_path / "file" / "out", "Not a directory")


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [10, 60])
def test_no_space_left(tmp_path, megabytes):
    """A limit on the size of any file fails as a full disk does: 10 MB is less than each model, 60 MB more."""
    flags = ["--output_dir", tmp_path / "out", "--image_size", "64", "--precisions", "float32"]
    process = command(*flags, largest_file=megabytes << 20, env={**os.environ, "TMPDIR": str(tmp_path)})
    if megabytes == 60:
        assert process.returncode == 0, process.stderr
    else:
        check_refused(process, tmp_path / "out", "File too large", left=tmp_path / "out")
