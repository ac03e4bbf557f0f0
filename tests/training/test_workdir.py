"""The folder of a run: one run in each, every file whole."""

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.refusals import refused

from keras_bisenet.training import configs, workdir
from keras_bisenet.training.workdir import Workdir
from keras_bisenet.utils.errors import TrainingError


def test_another_configuration_is_told_apart(tmp_path):
    Workdir(tmp_path, workdir.describe(configs.ORIGINAL, data="photos")).begin()
    other = configs.resolve("original", ["steps=5", "augmentation.rotation=3"])
    with refused(TrainingError, tmp_path, "augmentation.rotation 0.0 there, 3.0 now; steps 80000 there, 5 now; ask"):
        Workdir(tmp_path, workdir.describe(other, data="photos"))


def test_a_run_that_does_not_begin_leaves_nothing_and_the_same_run_opens_its_folder_again(tmp_path):
    Workdir(tmp_path, workdir.describe(configs.ORIGINAL, data="a typo"))
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        Workdir(tmp_path, workdir.describe(configs.ORIGINAL, data="photos")).begin()


def test_a_state_without_its_configuration_is_refused(tmp_path):
    (tmp_path / "state.npz").touch()
    with refused(TrainingError, "holds state.npz without config.json", "--workdir"):
        Workdir(tmp_path, {})


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "run").touch()
    with refused(TrainingError, tmp_path / "run", "File exists"):
        Workdir(tmp_path / "run", {})


def test_state_comes_back(tmp_path):
    files = Workdir(tmp_path, {})
    state = {"weights/a/kernel": np.arange(6.0).reshape(2, 3), "completed": np.array(7)}
    assert files.load_state(state) is None
    files.save_state(state)
    found = files.load_state({"weights/a/kernel": np.zeros((2, 3)), "completed": 0})
    assert found.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("like", [{"weights": np.zeros(3)}, {"weights": np.zeros((2, 2)), "completed": 0}])
def test_the_state_of_another_network(tmp_path, like):
    files = Workdir(tmp_path, {})
    files.save_state({"weights": np.zeros(3), "completed": 7})
    with refused(TrainingError, f"{tmp_path / 'state.npz'}: is damaged", "--workdir"):
        files.load_state(like)


def test_a_full_disk_leaves_the_last_checkpoint(disk):
    folder = disk(64)
    files = Workdir(folder, {})
    files.begin()
    files.save_state({"completed": np.array(1)})
    with refused(TrainingError, folder, "No space left on device"):
        files.save_state({"completed": np.array(2), "weights": np.zeros(100_000)})
    assert files.load_state({"completed": 0})["completed"] == 1
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "state.npz"]


@pytest.mark.slow
def test_a_kill_while_writing_leaves_a_whole_checkpoint(tmp_path):
    code = """
import sys
import numpy as np
from keras_bisenet.training.workdir import Workdir
files = Workdir(sys.argv[1], {})
files.begin()
for step in range(1, 10_000):
    files.save_state({"completed": np.array(step), "weights": np.full(3_000_000, step, np.float64)})
    print(step, flush=True)
"""
    for pause in (0.0, 0.03, 0.08):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(2):
            assert re.fullmatch(r"\d+\n", process.stdout.readline())
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = Workdir(tmp_path, {}).load_state({"completed": 0, "weights": np.zeros(3_000_000)})
        np.testing.assert_array_equal(state["weights"], np.full(3_000_000, state["completed"], np.float64))


def test_logs_begin_with_what_came_before_the_checkpoint(tmp_path):
    files = Workdir(tmp_path, {})
    log = files.log("steps.csv", 0)
    for step in (10, 20, 30):
        log.add({"step": step, "loss": 1 / step})
    files.log("steps.csv", 20).add({"step": 30, "loss": 5})
    assert (tmp_path / "steps.csv").read_text().split() == ["step,loss", "10,0.1", "20,0.05", "30,5"]


HEADER, LINE = "step,loss,rate\n", "10,0.1,1.0\n"


@pytest.mark.parametrize(
    ("whole", "cut"),
    [("", ""), ("", "step,lo"), *((HEADER + LINE, cut) for cut in ("2", "20", "20,0.0", "20,0.05,", ""))],
)
def test_a_line_that_a_full_disk_cut_off_is_left_out(tmp_path, whole, cut):
    (tmp_path / "steps.csv").write_text(whole + cut)
    Workdir(tmp_path, {}).log("steps.csv", 30).add({"step": 30, "loss": 5, "rate": 1.0})
    assert (tmp_path / "steps.csv").read_text() == (whole or HEADER) + "30,5,1.0\n"


def test_a_log_is_never_half_cut_back(disk):
    folder = disk(64)
    files = Workdir(folder, {})
    log = "step,loss\n" + "10,0.1\n" * 6000
    (folder / "steps.csv").write_text(log)
    with refused(TrainingError, folder, "No space left on device"):
        files.log("steps.csv", 10)
    assert (folder / "steps.csv").read_text() == log
