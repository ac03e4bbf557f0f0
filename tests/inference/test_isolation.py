"""FaceParser with its file in a process of its own: the same labels, and whatever happens there is one error here.

Hostile files are in robustness/test_untrusted_files.py, `parse_faces.py --isolated` in scripts/test_parse_faces.py.
"""

import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from unittest import mock

import numpy as np
import pytest
from support import fragile_worker
from support.converted_models import CLASSES, Network
from support.paths import ROOT
from support.refusals import refused
from support.running import processes, wait_for, wait_until_gone

from keras_bisenet import BiSeNet, FaceParser
from keras_bisenet.inference import isolation
from keras_bisenet.inference.face_parser import NAMES
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import CrashError, ModelError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")

FAST = NAMES["fast"]


@pytest.fixture(scope="module")
def plain():
    """What is compared with: the same file in this process."""
    return FaceParser(FAST, num_threads=1)


@pytest.fixture(scope="module")
def expected(plain, portrait):
    return plain(portrait)


@pytest.fixture(autouse=True)
def marker(monkeypatch, tmp_path):
    """A text in the environment of all processes that a test starts, which must have ended when it has."""
    marker = f"ISOLATION_TEST={tmp_path}"
    monkeypatch.setenv(*marker.split("="))
    yield marker
    wait_until_gone(marker)


def open_isolated(path=FAST, **limits):
    return FaceParser(path, num_threads=1, isolated=isolation.Limits(**limits))


def test_it_says_the_same_and_loads_little(plain, portrait, marker):
    with FaceParser(FAST, num_threads=1, isolated=True) as parser:
        for name in ("image_size", "num_classes", "class_names", "palette"):
            assert getattr(parser, name) == getattr(plain, name)
        for one in (portrait, np.resize(portrait, (512, 512, 3))[:, ::-1]):
            labels = parser(one)
            np.testing.assert_array_equal(labels, plain(one))
            for method in ("probabilities", "logits"):
                np.testing.assert_array_equal(getattr(parser, method)(one), getattr(plain, method)(one))
        before = labels.copy()
        parser(255 - portrait)
        np.testing.assert_array_equal(labels, before)
        ((process, parent),) = processes(marker).items()
        assert parent == os.getpid()
        libraries = pathlib.Path(f"/proc/{process}/maps").read_text()
    assert "ai_edge_litert" in libraries
    assert "tensorflow/" not in libraries


def test_third_party_files(tmp_path, recwarn):
    """A file says there what it says here, warnings and refusals included."""
    path = tmp_path / "a.tflite"
    path.write_bytes(Network().convert({"a": "logits", "b": "features"}))
    with refused(ModelError, path, "'c'"):
        FaceParser(path, output="c", isolated=True)
    photo = images.read(images.BUNDLED, (90, 80))
    recwarn.clear()
    plain = FaceParser(path, output="a")
    expected = [str(warning.message) for warning in recwarn]
    recwarn.clear()
    with FaceParser(path, output="a", isolated=True) as parser:
        assert [str(warning.message) for warning in recwarn] == expected
        assert parser.num_classes == CLASSES
        np.testing.assert_array_equal(parser(photo), plain(photo))


@pytest.mark.parametrize(
    ("value", "limits", "found"),
    [
        (fragile_worker.CRASHES, {}, "SIGABRT"),
        (fragile_worker.HANGS, {"seconds": 1.5}, "1.5 seconds"),
        (fragile_worker.FILLS_THE_MEMORY, {}, "4096 MiB"),
        # Else this process would be killed when it reads the result.
        (fragile_worker.CUTS_THE_MEMORY, {}, "crashed its process"),
    ],
    ids=["crash", "hang", "memory", "cut"],
)
def test_after_harm_the_next_photo_works(portrait, expected, value, limits, found, monkeypatch):
    monkeypatch.setattr(isolation, "WORKER", "support.fragile_worker")
    with open_isolated(**limits) as parser:
        with refused(CrashError, FAST, found):
            parser(np.full((512, 512, 3), value, np.uint8))
        np.testing.assert_array_equal(parser(portrait), expected)


def test_results_stay_as_they_are(plain, portrait):
    """They lie in memory that is used again, once they, and all views of them, are gone."""
    photos = [images.resize(np.roll(portrait, 40 * number, axis=1), plain.image_size) for number in range(6)]
    expected = [plain.probabilities(one) for one in photos]
    with open_isolated() as parser:
        held = [parser.probabilities(one) for one in photos]
        views = [parser.probabilities(one)[:, ::2] for one in photos]
        for results, step in ((held, 1), (views, 2)):
            for result, other in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, other[:, ::step])
        del results, result, held, views
        # One at a time, as a loop has them.
        addresses = set()
        for _ in range(3):
            for one, other in zip(photos, expected, strict=True):
                result = parser.probabilities(one)
                addresses.add(result.ctypes.data)
                np.testing.assert_array_equal(result, other)
        assert len(addresses) == 2
    np.testing.assert_array_equal(result, expected[-1])


def test_a_fork_keeps_results(portrait):
    portrait = images.resize(portrait, (512, 512))
    with open_isolated() as parser:
        result = parser.probabilities(portrait)
        before = result.copy()
        begin, end = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.read(begin, 1)
                os._exit(0 if (result == before).all() else 1)
            finally:
                os._exit(2)
        del result
        for _ in range(4):
            other = parser.probabilities(255 - portrait)
        assert not np.array_equal(other, before)
        os.write(end, b".")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def kill_idle(marker):
    (process,) = processes(marker)
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)


def test_a_process_that_is_killed_is_replaced(portrait, expected, marker):
    with open_isolated() as parser:
        kill_idle(marker)
        np.testing.assert_array_equal(parser(portrait), expected)


@pytest.mark.slow
def test_a_process_that_is_killed_at_work(portrait, expected, marker, monkeypatch):
    monkeypatch.setattr(isolation, "WORKER", "support.fragile_worker")
    with open_isolated() as parser:
        threading.Timer(0.5, os.kill, [*processes(marker), signal.SIGKILL]).start()
        with refused(CrashError, FAST, "SIGKILL"):
            parser(np.full((512, 512, 3), fragile_worker.HANGS, np.uint8))
        np.testing.assert_array_equal(parser(portrait), expected)


@pytest.mark.slow
def test_a_file_that_was_replaced(portrait, tmp_path, marker):
    path = tmp_path / "a.tflite"
    shutil.copy(FAST, path)
    with open_isolated(path) as parser:
        path.write_bytes(Network().convert(["logits"]))
        assert parser(portrait).shape == portrait.shape[:2]
        kill_idle(marker)
        for _ in range(2):
            with refused(ModelError, path, "another file"):
                parser(portrait)


def test_an_interrupted_photo_leaves_no_reply_behind(portrait, expected, monkeypatch):
    with open_isolated() as parser:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(isolation, "receive", mock.Mock(side_effect=KeyboardInterrupt))
            parser(255 - portrait)
        np.testing.assert_array_equal(parser(portrait), expected)


def test_threads_share_one(plain, portrait, marker):
    photos = [np.roll(portrait, 9 * number, axis=1) for number in range(8)]
    with open_isolated() as parser, concurrent.futures.ThreadPoolExecutor(8) as threads:
        for labels, one in zip(threads.map(parser, photos), photos, strict=True):
            np.testing.assert_array_equal(labels, plain(one))
        assert len(processes(marker)) == 1


def test_a_fork_starts_a_process_of_its_own(portrait, expected, marker, run_forked):
    with open_isolated() as parser:
        (before,) = processes(marker)

        def work():
            with parser:
                return np.array_equal(parser(portrait), expected), {*processes(marker)} > {before}

        assert run_forked(work) == "(True, True)"
        assert [*processes(marker)] == [before]
        np.testing.assert_array_equal(parser(portrait), expected)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_end_of_the_parent_ends_the_process(end, marker):
    code = f"""
import os, signal
from keras_bisenet import FaceParser
parser = FaceParser("fast", isolated=True)
print(parser("keras_bisenet/assets/astronaut_face.png").shape, flush=True)
{end}
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (process.stdout, process.stderr) == ("(240, 240)\n", "")
    wait_until_gone(marker)


@pytest.mark.slow
def test_a_fork_does_not_hold_the_process_of_a_parent_that_was_killed(marker):
    code = """
import os, signal, time
from keras_bisenet import FaceParser
parser = FaceParser("fast", isolated=True)
if fork := os.fork():
    print(fork, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        fork = int(parent.stdout.readline())
        try:
            wait_for(lambda: [*processes(marker)] == [fork], seconds=30)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_closed(portrait, marker):
    for isolated in (False, True):
        with FaceParser(FAST, isolated=isolated) as parser:
            pass
        assert not processes(marker)
        parser.close()
        with refused(ModelError, FAST.name, "closed"):
            parser(portrait)


def test_a_parser_that_is_let_go_ends_its_process(marker):
    parser = open_isolated()
    assert processes(marker)
    del parser
    wait_until_gone(marker)


@pytest.mark.parametrize("model", ["a.keras", BiSeNet(2)], ids=["keras", "network"])
def test_only_tflite_files(model):
    with refused(ModelError, "isolated", ".tflite"):
        FaceParser(model, isolated=True)


def test_a_process_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with refused(ModelError, FAST, "No such file"):
        open_isolated()
