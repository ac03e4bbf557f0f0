"""Training on several devices in real processes, against the same training on one."""

import contextlib
import itertools
import json
import os
import shutil
import socket

import numpy as np
import pytest
import tensorflow as tf
from support import labeled, script_runner
from support.distributed_worker import CASES
from support.files import names
from support.paths import ROOT
from support.refusals import refused
from support.running import wait_for

from keras_bisenet.training import devices
from keras_bisenet.utils.errors import TrainingError

pytestmark = pytest.mark.slow

TIMEOUT = 600
TOLERANCES = {"float32": 5e-5, "float16": 1e-2}
STEPS = 4


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Six training and two validation pairs; the labels follow from the colors, some are unknown."""
    random, pairs = np.random.default_rng(0), {}
    for number in range(8):
        photo = random.integers(256, size=(9, 10 + number % 2, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        label = (photo[..., 0] > 100).astype(np.uint8) + (photo[..., 1] > 150)
        label[: 8 * number] = 255
        pairs[number] = (photo, label)
    return labeled.write(tmp_path_factory.mktemp("data"), pairs, train=range(6), val=(6, 7))


def cluster():
    """`TF_CONFIG` of two workers on this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}) for index in range(2)
    ]


def start(log, *arguments, tf_config="{}"):
    """Starts a script with few threads; what it says goes to the end of `log`."""
    environment = os.environ | {
        "TF_CONFIG": tf_config,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "2",
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("a") as file:
        return script_runner.start(*arguments, env=environment, stdout=file, stderr=file)


def finish(processes):
    """Waits for processes, a dict with their logs as keys, and ends them all if one fails."""
    try:
        for log, process in processes.items():
            assert process.wait(TIMEOUT) == 0, log.read_text()[-5000:]
    finally:
        for process in processes.values():
            process.kill()


@pytest.fixture(scope="module")
def outcomes(data_dir, tmp_path_factory):
    """A function (strategy, case) -> dict of arrays, see distributed_worker.py."""
    path = tmp_path_factory.mktemp("outcomes")
    script = ROOT / "tests" / "support" / "distributed_worker.py"
    processes = {}
    for index, tf_config in enumerate(cluster()):
        log = path / f"{index}.log"
        processes[log] = start(log, script, data_dir, path / f"{index}_", "workers", tf_config=tf_config)
    processes[path / "local.log"] = start(path / "local.log", script, data_dir, f"{path}/", "one", "mirrored")
    finish(processes)
    return lambda strategy, case: dict(np.load(path / f"{strategy}_{case}.npz"))


def assert_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(
            found[name], array, rtol=0, atol=tolerance * max(np.abs(array).max(), 1e-3), err_msg=name
        )


@pytest.mark.parametrize("case", CASES)
def test_two_workers_end_with_the_same_bits(outcomes, case):
    first, second = outcomes("0_workers", case), outcomes("1_workers", case)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strategy", ["0_workers", "mirrored"])
def test_two_devices_learn_what_one_learns(outcomes, strategy, case):
    """Weights, batch-norm statistics, velocities, averages and losses."""
    found, expected = outcomes(strategy, case), outcomes("one", case)
    assert found["difference"] == 0
    assert_close(found, expected, TOLERANCES.get(case, 1e-10))


def test_the_cases_differ(outcomes):
    """Otherwise they would not show what they are for."""
    losses = [outcomes("one", case)["losses"][0] for case in ("threshold", "share", "float32")]
    for one, other in itertools.combinations(losses, 2):
        assert np.abs(one - other).min() > 1e-3


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """Folder of an undisturbed run on one device, and of one on two workers of which one was killed; their logs."""
    path = tmp_path_factory.mktemp("runs")
    changes = {"num_classes": 3, "crop_size": 64, "batch_size": 4, "steps": STEPS, "warmup_steps": 2}
    changes |= {"precision": "float64", "evaluate_every": STEPS, "checkpoint_every": 2}
    script = ROOT / "scripts" / "train.py"

    def run(name, workdir, tf_config="{}"):
        flags = ["--data_dir", data_dir, "--workdir", path / workdir, "--config=original"]
        flags += [f"--set={field}={value}" for field, value in changes.items()]
        return start(path / name, script, *flags, tf_config=tf_config)

    tf_configs = cluster()
    processes = {path / "one.log": run("one.log", "one")}
    for index, tf_config in enumerate(tf_configs):
        processes[path / f"{index}.log"] = run(f"{index}.log", "two", tf_config)

    def written():
        for log, process in processes.items():
            assert process.poll() in (None, 0), log.read_text()[-5000:]
        return (path / "two" / "state.npz").exists()

    try:
        wait_for(written, seconds=TIMEOUT)
        processes[path / "1.log"].kill()
        processes[path / "1.log"].wait()
        processes[path / "1.log"] = run("1.log", "two", tf_configs[1])
    finally:
        finish(processes)
    yield path
    # A quarter of a gigabyte each.
    shutil.rmtree(path)


def test_a_killed_worker_comes_back_and_nothing_is_lost(runs):
    """The other worker notices, starts over from the last checkpoint and waits for it."""
    assert "lost another worker" in (runs / "0.log").read_text()
    assert "going on after step" in (runs / "0.log").read_text()
    with np.load(runs / "one" / "state.npz") as one, np.load(runs / "two" / "state.npz") as two:
        assert one["completed"] == two["completed"] == STEPS
        assert_close(dict(two), dict(one), 1e-8)


def test_workers_share_the_evaluation_and_only_the_chief_writes(runs):
    """Every line of the logs is there once."""
    one, two = runs / "one", runs / "two"
    evaluations = (one / "evaluations.csv").read_text()
    assert len(evaluations.splitlines()) == 2
    assert (two / "evaluations.csv").read_text() == evaluations
    steps = [[line.split(",")[0] for line in (run / "steps.csv").read_text().splitlines()] for run in (one, two)]
    assert steps[0] == steps[1]
    assert names(one) == names(two)


def test_one_machine_without_gpus_needs_no_strategy(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert devices.strategy() is tf.distribute.get_strategy()
    assert devices.place(tf.distribute.get_strategy()) == (0, 1)


@pytest.mark.parametrize(
    "tf_config",
    [
        "",
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:2"]}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_tf_config_that_names_no_worker(monkeypatch, tf_config):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(TrainingError, match=r"^TF_CONFIG is .*; expected .* with the index of this worker$"):
        devices.strategy()


def test_a_worker_that_lost_others_too_often_gives_up(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", cluster()[0])
    monkeypatch.setenv("KERAS_BISENET_RESTARTS", str(devices.RESTARTS))
    monkeypatch.setattr(devices, "strategy", tf.distribute.get_strategy)
    with refused(TrainingError, "lost another worker 11 times in a row", "gone"), devices.together():
        raise tf.errors.UnavailableError(None, None, "Collective ops is aborted by: gone\nmore")


def test_the_same_error_on_one_machine_is_nothing_to_start_over_for(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(tf.errors.UnavailableError), devices.together():
        raise tf.errors.UnavailableError(None, None, "gone")
