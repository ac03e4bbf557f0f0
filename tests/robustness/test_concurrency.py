"""Several threads on one network, several processes on one folder; two downloads: weight_port/test_download.py."""

import concurrent.futures
import functools
import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from support import labeled, script_runner
from support.files import names
from support.networks import narrow
from support.paths import ROOT
from support.refusals import check_line, check_refused, refused
from support.running import wait_for

from keras_bisenet import FaceParser
from keras_bisenet.export import convert
from keras_bisenet.inference.batch import results
from keras_bisenet.utils import images, locks
from keras_bisenet.utils.atomic import staged
from keras_bisenet.utils.errors import OutputError

pytestmark = pytest.mark.slow

BUSY = "another process is writing into it"


def parse_faces(*arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, ROOT / "scripts" / "parse_faces.py", *arguments]
    return subprocess.Popen([str(part) for part in command], **pipes)


# One network.


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network of random weights, which is fast."""
    path = tmp_path_factory.mktemp("model") / "small.tflite"
    path.write_bytes(convert.to_tflite(narrow((16,) * 8, 19), (64, 96), output="logits"))
    return path


@pytest.fixture(scope="module")
def photos():
    """32 photos, each of another size and content."""
    photo = images.read(images.BUNDLED, (160, 160))
    return [np.roll(photo, 5 * number, axis=1)[: 160 - 3 * number, : 90 + 2 * number] for number in range(32)]


@pytest.mark.parametrize("shared", [True, False], ids=["one parser", "a parser each"])
def test_32_threads_at_once(model, photos, shared):
    """They get what one thread gets alone, to the bit, and while a shared parser is made by whoever comes first."""
    alone = FaceParser(model, num_threads=1)
    expected = [(alone(photo), alone.probabilities(photo)) for photo in photos]
    assert len({labels.tobytes() for labels, _ in expected}) == 32
    lock, barrier = threading.Lock(), threading.Barrier(32)

    @functools.cache
    def made(_owner):
        return FaceParser(model, num_threads=2 if shared else 1)

    def parser(number):
        if not shared:
            return made(number)
        with lock:
            return made(None)

    def work(number):
        barrier.wait()
        each = [photos[at % 32] for at in range(number, number + 4)]
        return [(parser(number)(photo), parser(number).probabilities(photo)) for photo in each]

    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        for number, results in enumerate(threads.map(work, range(32))):
            for at, (labels, probabilities) in enumerate(results, number):
                np.testing.assert_array_equal(labels, expected[at % 32][0])
                np.testing.assert_array_equal(probabilities, expected[at % 32][1])


# One folder of an export.


def test_files_of_several_runs_are_never_mixed(tmp_path):
    """Whoever has the folder for a moment finds files of one run alone."""
    files = [f"{number}" for number in range(12)]
    (tmp_path / "done").mkdir()
    barrier, ended, mixed = threading.Barrier(6), threading.Event(), []

    def write(run):
        barrier.wait()
        for turn in range(8):
            with staged(tmp_path / "out") as folder:
                for name in files:
                    (folder / name).write_text(f"{run}-{turn}")
                (folder / "folder").mkdir()
                (folder / "folder" / "file").write_text(f"{run}-{turn}")

    def watch():
        while not ended.is_set():
            with locks.held(tmp_path / "out"):
                found = {path.read_text() for path in (tmp_path / "out").glob("[0-9]*")}
                found |= {path.read_text() for path in (tmp_path / "out").glob("folder/*")}
            mixed.extend([found] if len(found) > 1 else [])

    watcher = threading.Thread(target=watch)
    watcher.start()
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    ended.set()
    watcher.join()
    assert mixed == []
    assert names(tmp_path / "out") == sorted([*files, "folder"])
    assert len({path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()}) == 1


# One folder of a training, or of results.


def test_a_lock_ends_with_its_process(tmp_path):
    code = """
import sys, time
from keras_bisenet.utils import locks
with locks.held(sys.argv[1]) as locked:
    print(locked, flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    with refused(OutputError, f"{tmp_path}: {BUSY}"), locks.held(tmp_path, OutputError):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert names(tmp_path) == [locks.NAME]
    with locks.held(tmp_path, OutputError) as locked:
        assert locked
    assert names(tmp_path) == []


def test_a_second_training_in_one_folder_is_refused(tmp_path):
    """And the first one is not disturbed."""
    data, workdir = tmp_path / "data", tmp_path / "run"
    photo, labels = np.zeros((32, 32, 3), np.uint8), np.eye(32, dtype=np.uint8)
    labeled.write(data, {"a": (photo, labels)}, train="a", val="a")
    command = [ROOT / "scripts" / "train.py", "--data_dir", data, "--workdir", workdir, "--config", "original"]
    command += ["--set=num_classes=2", "--set=crop_size=32", "--set=batch_size=1", "--set=steps=1"]
    with (tmp_path / "log").open("w") as log:
        first = script_runner.start(*command, stdout=log, stderr=log)
    wait_for((workdir / "config.json").exists, first)
    os.kill(first.pid, signal.SIGSTOP)
    second = script_runner.run(*command)
    os.kill(first.pid, signal.SIGCONT)
    assert second.stdout == ""
    check_refused(second, f"{workdir}: {BUSY}")
    assert first.wait() == 0, (tmp_path / "log").read_text()
    assert [row.partition(",")[0] for row in (workdir / "steps.csv").read_text().splitlines()] == ["step", "1"]
    assert not (workdir / locks.NAME).exists()
    # Now it may have the folder, and there is nothing left to do.
    assert script_runner.run(*command).returncode == 0


def test_a_second_run_over_one_folder_of_results_is_refused(model, photos, tmp_path):
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / "photos" / f"{number}.png")
    out = tmp_path / "out"
    flags = (tmp_path / "photos", "--output_dir", out, "--model", model, "--workers", "1")
    first = parse_faces(*flags)
    wait_for((out / results.RECORD).exists, first)
    first.send_signal(signal.SIGSTOP)
    second = parse_faces(*flags)
    check_line(second.communicate()[1].splitlines()[-1], [f"error: {out}: {BUSY}"])
    assert second.returncode == 1
    first.send_signal(signal.SIGCONT)
    assert first.communicate()[0] == f"photos: 32 parsed; everything is in {out}\n"
    assert len(list(pathlib.Path(out, "labels").iterdir())) == 32
    assert names(out) == ["labels", results.RECORD]
