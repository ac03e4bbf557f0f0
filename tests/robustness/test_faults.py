"""A full disk, a folder that cannot be written to, and `kill -9`, for every script as its user runs it.

What is not here is where the step has its own tests: downloads in weight_port/test_download.py, folders of photos in
scripts/test_parse_faces.py, a training in training/test_loop.py and scripts/test_train.py, full disks of the exports in
the tests of their scripts, a killed CelebAMask-HQ preparation in data/test_celebamask.py.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from support import labeled, script_runner
from support.files import content, names
from support.paths import ROOT
from support.refusals import check_refused
from support.running import wait_for

from keras_bisenet import BiSeNet
from keras_bisenet.export import convert
from keras_bisenet.utils import images, locks

pytestmark = pytest.mark.slow

CHOOSE, AGAIN, GO_ON = "choose another folder", "run it again to resume", "the run resumes from its last checkpoint"
TINY_RUN = "--set=num_classes=3 --set=crop_size=32 --set=batch_size=1 --set=steps=1"
# Step -> its command and what it advises. {given} is the folder of what it reads.
STEPS = {
    "export": ("port_and_export.py --output_dir {out} --image_size 64 --precisions float32", CHOOSE),
    "saved_model": ("port_and_export.py --output_dir {out} --image_size 64 --target saved_model", CHOOSE),
    "export_pytorch": ("export_pytorch.py --model {given}/net.keras --output {out}/net.pth", CHOOSE),
    "evaluate": ("evaluate.py --data_dir {given}/data --model {given}/net.tflite --output_dir {out}", CHOOSE),
    "makeup": (
        "makeup.py --image {given}/photo.png --labels {given}/labels.png --hair red --output {out}/look.png",
        CHOOSE,
    ),
    "prepare_celebamask": (
        "prepare_celebamask.py --source {given}/download --output_dir {out} --size 32 --val_count 1 --test_count 0 "
        "--workers 1",
        AGAIN,
    ),
    "train": (f"train.py --data_dir {{given}}/data --workdir {{out}} {TINY_RUN}", GO_ON),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A photo with labels, the same as a folder to train on, a download, and a network of three classes."""
    folder = tmp_path_factory.mktemp("given")
    photo = images.read(images.BUNDLED, (48, 48))
    labels = (photo.mean(-1) // 86).astype(np.uint8)
    labeled.write(folder / "data", {"a": (photo, labels)}, train="a", val="a")
    (folder / "download" / "CelebA-HQ-img").mkdir(parents=True)
    for path in ("photo.png", "download/CelebA-HQ-img/0.jpg", "download/CelebA-HQ-img/1.jpg"):
        Image.fromarray(photo).save(folder / path)
    # Label 17 is hair.
    Image.fromarray(np.where(labels == 1, 17, labels).astype(np.uint8)).save(folder / "labels.png")
    masks = folder / "download" / "CelebAMask-HQ-mask-anno" / "0"
    masks.mkdir(parents=True)
    for number in range(2):
        Image.fromarray(np.uint8(255) * (labels == 1)).save(masks / f"{number:05}_skin.png")
    keras.utils.set_random_seed(0)
    model = BiSeNet(3)
    model.save(folder / "net.keras")
    (folder / "net.tflite").write_bytes(convert.to_tflite(model, (32, 32), output="logits"))
    return folder


def command(step, given, out):
    script, *arguments = STEPS[step][0].split()
    return [ROOT / "scripts" / script, *(one.format(given=given, out=out) for one in arguments)]


def run(step, given, out):
    return script_runner.run(*command(step, given, out))


def check_done(process):
    assert process.returncode == 0, process.stderr


# What the steps that take a moment leave behind when all goes well.
WRITTEN = {
    "evaluate": {"evaluation.json", "evaluation.png"},
    "makeup": {"look.png"},
    "prepare_celebamask": {"images/0.jpg", "images/1.jpg", "labels/0.png", "labels/1.png", "labels.json", "train.txt"}
    | {"val.txt"},
}


@pytest.mark.parametrize("step", STEPS)
def test_a_read_only_folder(given, disk, step):
    out = disk(1 << 20) / "out"
    out.mkdir()
    (out / "older").write_bytes(b"mine")
    disk(1 << 20, "ro")
    check_refused(run(step, given, out), out, "Read-only file system", STEPS[step][1])
    assert content(out) == {"older": b"mine"}
    if step in WRITTEN:
        disk(1 << 20, "rw")
        check_done(run(step, given, out))
        assert content(out).keys() == WRITTEN[step] | {"older"}


@pytest.mark.parametrize(
    ("step", "kilobytes", "older"),
    [
        ("evaluate", 64, "evaluation.json"),
        ("makeup", 64, "look.png"),
        # The Keras file of 53 MB finds room, the SavedModel of as much does not.
        ("saved_model", 80 << 10, "saved_model/1/saved_model.pb"),
    ],
)
def test_a_full_disk_leaves_the_older_files(given, disk, step, kilobytes, older):
    out = disk(kilobytes) / "out"
    (out / older).parent.mkdir(parents=True)
    (out / older).write_bytes(b"of an earlier run")
    if kilobytes == 64:
        (out.parent / "others").write_bytes(bytes((kilobytes - 4) << 10))
    check_refused(run(step, given, out), out, "No space left on device", STEPS[step][1])
    assert content(out) == {older: b"of an earlier run"}
    if step in WRITTEN:
        disk(1 << 20)
        check_done(run(step, given, out))
        after = content(out)
        assert after.keys() == WRITTEN[step]
        assert after[older] != b"of an earlier run"


def test_a_killed_export_leaves_the_older_files_and_the_next_finishes(given, tmp_path):
    """Killed while the new files are there, and not yet in their place."""
    older = dict.fromkeys(("bisenet.keras", "report.json", "face_parsing_float32.tflite"), b"of an earlier run")
    for name, data in older.items():
        (tmp_path / name).write_bytes(data)
    arguments = [sys.executable, *command("export", given, tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for(lambda: list(tmp_path.glob(".partial-*/*/face_parsing_float32.tflite")), process)
        process.kill()
    (left,) = tmp_path.glob(".partial-*")
    assert {name: data for name, data in content(tmp_path).items() if left.name not in name} == older
    check_done(run("export", given, tmp_path))
    assert names(tmp_path) == sorted([*older, "labels.json", "preview.png", "report.html"])
    assert b"of an earlier run" not in content(tmp_path).values()


def test_what_is_rejected_goes_only_when_the_new_files_come(tmp_path):
    """A killed run has not removed what an earlier one left under the name that a file would have."""
    code = """
import os, pathlib, signal, sys
from keras_bisenet.utils.atomic import staged
with staged(sys.argv[1], ["a.failed"]) as folder:
    (folder / "a").write_text("new")
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "a.failed").write_text("old")
    for end, expected in (("die", {"a.failed": b"old"}), ("live", {"a": b"new"})):
        subprocess.run([sys.executable, "-c", code, tmp_path, end])
        assert {name: data for name, data in content(tmp_path).items() if ".partial" not in name} == expected
    assert names(tmp_path) == ["a"]
    assert locks.NAME not in content(tmp_path)
