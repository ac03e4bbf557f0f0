"""What the experiments share: statistics, texts without folders, processes, reports and `main`."""

import json
import pathlib
import re
import subprocess
import sys
import types

import pytest

from benchmarks.common import experiment, machine, process_memory, processes, reporting, statistics
from benchmarks.common.processes import ROOT

pytestmark = pytest.mark.slow


def test_spread_by_hand():
    assert statistics.spread([5.0, 1.0, 9.0]) == statistics.Spread(5.0, 1.0, 9.0)
    assert statistics.spread([4, 1, 3, 100]) == statistics.Spread(3.5, 1, 100)
    assert statistics.spread([1.26, 2.0, 1.3]).text(1) == "1.3 (1.3-2.0)"
    assert statistics.spread([7.0, 7.001]).text(2) == "7.00"


def test_ratios_are_taken_round_by_round():
    # The machine is ten times slower in the second round, for both; a ratio of medians would be 40 / 50.
    assert statistics.ratios([6.0, 80.0, 40.0], [10.0, 100.0, 50.0]) == [0.6, 0.8, 0.8]
    assert statistics.ratios([0.0, 1.0], [0.0, 0.0]) == [1.0, float("inf")]
    with pytest.raises(ValueError, match="shorter"):
        statistics.ratios([1.0, 2.0], [1.0])


def test_candidates_alternate():
    events = []
    assert processes.alternate("ab", 2, lambda name: events.append(name) or len(events)) == {"a": [1, 3], "b": [2, 4]}
    assert events == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--checkpoint=/home/me/a.pth", "--checkpoint=a.pth"),
        ("--work_dir=build/benchmark", "--work_dir=build/benchmark"),
        ("FileNotFoundError: '/tmp/x/y.tflite' is missing", "FileNotFoundError: 'y.tflite' is missing"),
        ("~/secret/model.pt: no such file", "model.pt: no such file"),
        ("cannot fetch https://host.example/simple/torch/ now", "cannot fetch (address) now"),
        ("ours / this", "ours / this"),
    ],
)
def test_without_folders(text, expected):
    assert machine.without_folders(text) == expected


# Processes.


def test_a_function_is_called_in_a_process_of_its_own(tmp_path):
    arguments = {"text": "cannot open /home/me/a.pth"}
    result, finished = processes.call("benchmarks.common.machine:without_folders", arguments, tmp_path / "log")
    assert result == "cannot open a.pth"
    assert finished.seconds > 0


def test_the_error_of_a_function_is_one_line(tmp_path):
    arguments = {"inputs": "nowhere", "runner": "x", "model": "x", "options": {}}
    arguments |= dict.fromkeys(("threads", "warmups", "runs"), 1)
    with pytest.raises(processes.ProcessError, match=r"^FileNotFoundError: .*'nowhere/photos\.npy'$"):
        processes.call("benchmarks.runtimes.worker:measure", arguments, tmp_path / "log")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('before'); import sys; sys.exit('what went wrong\\n\\n')", "what went wrong"),
        ("import sys; sys.exit(3)", "failed without a word"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import time; time.sleep(60)", "took longer than 1.5 s"),
    ],
)
def test_a_failed_process_has_a_reason(monkeypatch, tmp_path, code, reason):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with pytest.raises(processes.ProcessError, match=f"^{re.escape(reason)}$"):
        processes.run([sys.executable, "-c", code], tmp_path / "log", timeout=1.5 if "sleep" in code else 60)


def test_memory_and_time_of_a_process_and_of_its_children(tmp_path):
    hold = "import time; held = b'x' * 300_000_000; time.sleep(0.3)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    # In a small process of its own: a system counts the memory of this one, which is large, towards its children.
    measure_both = (
        "import pathlib, sys; from benchmarks.common import processes\n"
        f"for code in ({hold!r}, {child!r}):\n"
        "    finished = processes.run([sys.executable, '-c', code], pathlib.Path(sys.argv[1]))\n"
        "    print(finished.peak_bytes, finished.seconds)"
    )
    command = [sys.executable, "-c", measure_both, str(tmp_path / "log")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    lines = answer.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        peak_bytes, seconds = map(float, line.split())
        assert 300e6 < peak_bytes < 400e6
        assert 0.3 < seconds < 10


@pytest.mark.skipif(not pathlib.Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")
def test_the_memory_of_all_processes_of_a_session_counts():
    code = "import subprocess, sys; a = b'x' * 60_000_000; print('there', flush=True); sys.stdin.read()"
    child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {code!r}]); p.wait()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", child], start_new_session=True, **pipes) as process:
        assert process.stdout.readline() == "there\n"
        assert 60_000_000 < process_memory.of_session(process.pid) < 120_000_000
        process.stdin.close()


# Reports and main.


def run(tmp_path, measured=None, **changes):
    checks = [reporting.Check("a is 1", True), reporting.Check("b is 2", None), reporting.Check("c is 3", False)]
    report = reporting.Report(
        title="Title",
        body=lambda _: ["| a | table |", "second | block"],
        checks=lambda _: checks,
        reading="As it stands.",
        conditions=lambda results: [f"{results['photos']} photos"],
        packages=("pytest",),
    )
    options = types.SimpleNamespace(output=str(tmp_path / "new" / "REPORT.md"), from_results=None)
    vars(options).update(changes)
    arguments = ["--photos=/home/me/photos", "--pip_flags="]
    script = pathlib.Path("benchmarks", "runtimes", "run.py")
    return experiment.run(script, lambda _options: measured, report, options, arguments)


def test_an_experiment_writes_its_report_and_returns_what_does_not_hold(tmp_path):
    assert run(tmp_path, {"photos": 7}) == ["c is 3: DOES NOT HOLD"]
    results = json.loads((tmp_path / "new" / "report.json").read_text())
    assert results["command"] == "python -m benchmarks.runtimes.run --photos=photos"
    assert results["versions"] == {"pytest": pytest.__version__}
    text = (tmp_path / "new" / "REPORT.md").read_text()
    for line in ("- a is 1: holds", "- b is 2: for comparison", "- 7 photos", f"- date: {results['date']}"):
        assert line in text.splitlines()
    assert "report.png" not in text
    # The report of earlier results is the same.
    run(tmp_path, output=str(tmp_path / "AGAIN.md"), from_results=str(tmp_path / "new" / "report.json"))
    assert (tmp_path / "AGAIN.md").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["runtimes.run", "--peers=nobody"], "expected a comma-separated list of tflite_converter"),
        (["runtimes.run", "--checkpoint=nowhere.pth"], "error: nowhere.pth: no such file"),
        (["runtimes.run", "--work_dir=README.md", "--peers="], "error: cannot read or write: "),
        (["runtimes.run", "stray"], "unexpected arguments: stray"),
        (["web.run", "--from_results=nowhere.json"], "error: cannot read or write: nowhere.json: No such file"),
    ],
)
def test_a_mistake_of_the_user_is_one_clear_line(tmp_path, arguments, reason):
    module, *flags = arguments
    command = [sys.executable, "-m", f"benchmarks.{module}", f"--output={tmp_path}/REPORT.md", *flags]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode != 0
    assert reason in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
