"""The benchmark's arithmetic, tables, processes and timing; no environment is made and nothing is downloaded."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import ROOT, random_state

sys.path.insert(0, str(ROOT))

import weight_port
from benchmarks import comparison, contestants, environments, figures, machine, measure, plot, processes, report
from benchmarks.numpy_processing import NumpyProcessing
from benchmarks.runners import litert_labels, litert_logits
from keras_bisenet import BiSeNet, preprocessing
from keras_bisenet.export import flatbuffer, tflite
from keras_bisenet.inference.runner import TFLiteRunner

ENTRIES = [contestants.OURS, *contestants.PEERS]
# Height and width differ, and neither is the number of channels or classes.
SIZE = (64, 96)
MEAN, STD = np.array(preprocessing.MEAN), np.array(preprocessing.STD)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    state = random_state()
    model = BiSeNet(19, "resnet18")
    weight_port.apply(state, model.variables, weight_port.recognise(state))
    return model


# The tables of contestants.


def test_every_package_is_pinned_to_one_version():
    for name, pins in contestants.PINS.items():
        assert name != contestants.PROJECT
        for pin in pins:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==\d+(\.\d+)+", pin), pin
        packages = [pin.partition("==")[0] for pin in pins]
        assert packages == sorted(set(packages)), name


def test_every_environment_is_used_and_every_used_one_exists():
    used = {step.environment for entry in ENTRIES for step in (entry.convert, entry.run)}
    assert used == {contestants.PROJECT, *contestants.PINS}
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def arguments(path, function):
    """What a function of a module takes, without importing it: its libraries may live in another environment."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
    return [argument.arg for argument in found.args.args]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_gives_its_code_the_options_it_takes(entry):
    converter = ROOT / "benchmarks" / "converters" / f"{entry.convert.module}.py"
    taken = arguments(converter, "convert")
    assert taken == ["state", "architecture", "image_size", "output", *entry.convert.options]
    runner = ROOT / "benchmarks" / "runners" / f"{entry.run.module}.py"
    assert arguments(runner, "__init__")[4:] == list(entry.run.options)


# Figures.


def test_spread_by_hand():
    assert figures.spread([5.0, 1.0, 9.0]) == figures.Spread(5.0, 1.0, 9.0)
    assert figures.spread([4, 1, 3, 100]) == figures.Spread(3.5, 1, 100)
    assert figures.spread([1.26, 2.0, 1.3]).text(1) == "1.3 (1.3-2.0)"
    assert figures.spread([7.0, 7.001]).text(2) == "7.00"


def test_ratios_are_taken_round_by_round():
    # The machine is ten times slower in the second round, for both; ratios of medians would say 40 / 50.
    assert figures.ratios([6.0, 80.0, 40.0], [10.0, 100.0, 50.0]) == [0.6, 0.8, 0.8]
    with pytest.raises(ValueError, match="shorter"):
        figures.ratios([1.0, 2.0], [1.0])


def test_round_medians_by_hand():
    turns = [{"total": [3.0, 1.0, 2.0], "run": [0.0]}, {"total": [10.0, 20.0], "run": [1.0]}]
    assert figures.round_medians(turns, "total") == [2.0, 15.0]
    assert figures.round_medians(turns, "run") == [0.0, 1.0]


# The report.


def entry(name, ratio, limit, **changes):
    return {
        "name": name,
        "title": f"title of {name}",
        "limit": limit,
        "failure": None,
        "round_ms": [50.0, 52.0, 49.5],
        "ours_over_this": [ratio, ratio - 0.01, ratio + 0.02],
        "stage_ms": {"prepare": 1.04, "run": 40.0, "labels": 8.96},
        "label_agreement": 0.99985,
        "file_bytes": 52603708,
        "conversion_seconds": [12.0, 13.5, 11.0],
        "conversion_peak_bytes": [1_500_000_000],
        **changes,
    }


@pytest.fixture
def results():
    return {
        "command": "python benchmarks/run.py --threads 2",
        "date": "2030-01-02",
        "machine": {"cpu": "Some CPU", "cores": 2, "system": "Some OS", "python": "3.11.7", "load": 0.5},
        "settings": {"image_size": (480, 640), "threads": 2, "conversions": 3, "rounds": 3, "warmups": 5, "runs": 30},
        "packages": {"project": dict.fromkeys([*contestants.PROJECT_PACKAGES, "came-along"], "1.2.3")},
        "contestants": [
            entry("ours", 1.0, None),
            entry("slower", 0.9, 1.0),
            entry("equal", 1.0, 1.0),
            entry("faster", 1.0004, 1.0),
            entry("unlimited", 1.5, None),
            {"name": "absent", "title": "title of absent", "limit": 1.0, "failure": "no wheel | at all"},
        ],
    }


def test_verdicts_hold_only_within_the_limit(results):
    assert report.verdicts(results) == [
        ("ours / slower is 0.9000, required is at most 1.00: holds", True),
        ("ours / equal is 1.0000, required is at most 1.00: holds", True),
        ("ours / faster is 1.0004, required is at most 1.00: DOES NOT HOLD", False),
        ("absent failed: no wheel | at all", False),
    ]


def test_markdown(results):
    text = report.markdown(results, "picture.png")
    rows = [line for line in text.splitlines() if line.startswith("| title of")]
    assert rows[1] == (
        "| title of slower | 50.0 (49.5-52.0) | 0.900 (0.890-0.920) | 1.0 + 40.0 + 9.0 | 99.9850% | 52,603,708 "
        "| 12.0 (11.0-13.5) | 1500 |"
    )
    assert rows[5] == "| title of absent | failed: no wheel \\| at all | - | - | - | - | - | - |"
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert columns == {9}
    assert "- ours / faster is 1.0004, required is at most 1.00: DOES NOT HOLD" in text
    assert "`python benchmarks/run.py --threads 2`" in text
    assert "480 x 640" in text
    assert "load before the start: 0.50" in text
    assert "(picture.png)" in text
    assert "numpy 1.2.3" in text
    assert "came-along" not in text


def test_plot_leaves_out_who_failed(results, tmp_path):
    plot.draw(results, tmp_path / "all.png")
    results["contestants"] = results["contestants"][:1]
    plot.draw(results, tmp_path / "one.png")
    sizes = {name: (tmp_path / name).stat().st_size for name in ("all.png", "one.png")}
    assert sizes["all.png"] > sizes["one.png"] > 5000


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


# Timing.


def test_ours_is_timed_and_returns_the_argmax(model, photo, tmp_path):
    content = tflite.convert(model, SIZE)
    (tmp_path / "ours.tflite").write_bytes(content)
    runner = litert_labels.Runner(str(tmp_path / "ours.tflite"), 2, {})
    milliseconds, labels = measure.measure(runner, photo, warmups=1, runs=3)
    logits = TFLiteRunner(flatbuffer.expose(content, "logits"))(photo[np.newaxis])["logits"][0]
    np.testing.assert_array_equal(labels, logits.argmax(-1))
    assert len(np.unique(labels)) > 3
    assert milliseconds.shape == (3, len(measure.STAGES))
    assert (milliseconds > 0).all()

    expected = labels.copy()
    expected[5, :24] += 1
    np.savez(tmp_path / "inputs.npz", photo=photo, labels=expected)
    job = {"runner": "litert_labels", "model": str(tmp_path / "ours.tflite"), "threads": 2, "warmups": 0, "runs": 2}
    job |= {"inputs": str(tmp_path / "inputs.npz"), "output": str(tmp_path / "turn.json"), "options": {}}
    processes.run_job(sys.executable, "measure", job, tmp_path / "log")
    turn = json.loads((tmp_path / "turn.json").read_text())
    assert turn["agreement"] == 1 - 24 / (64 * 96)
    assert turn["total"] == pytest.approx(np.sum([turn[stage] for stage in measure.STAGES], axis=0))
    assert len(turn["total"]) == 2


def test_a_peer_gets_numpy_around_its_network(model, photo, tmp_path):
    content = tflite.convert(model, SIZE, input_type="float32", output="logits")
    (tmp_path / "peer.tflite").write_bytes(content)
    inputs = {"photo": photo, "mean": MEAN, "std": STD}
    runner = litert_logits.Runner(str(tmp_path / "peer.tflite"), 2, inputs, "nhwc")
    _, labels = measure.measure(runner, photo, warmups=0, runs=2)
    image = ((photo[np.newaxis] / 255 - MEAN) / STD).astype(np.float32)
    logits = TFLiteRunner(content)(image)["logits"][0]
    assert (labels == logits.argmax(-1)).mean() > 0.999
    assert len(np.unique(labels)) > 3


@pytest.mark.parametrize(("layout", "order"), [("nhwc", (0, 1, 2)), ("nchw", (2, 0, 1))])
def test_numpy_processing(photo, layout, order):
    processing = NumpyProcessing(MEAN, STD, SIZE, layout)
    expected = ((photo / 255 - MEAN) / STD).transpose(order)[np.newaxis]
    out = np.full(expected.shape, np.nan, np.float32)
    processing.normalize(photo, out)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    logits = np.random.default_rng(1).normal(size=(*SIZE, 19)).astype(np.float32)
    labels = processing.labels(np.ascontiguousarray(logits.transpose(order))[np.newaxis])
    np.testing.assert_array_equal(labels, logits.argmax(-1))


@pytest.mark.parametrize("labels", [np.zeros((96, 64), np.uint8), np.zeros((64, 96), np.float32)])
def test_what_is_no_label_map_is_refused(photo, labels):
    runner = types.SimpleNamespace(prepare=lambda photo: photo, run=lambda photo: photo, labels=lambda _: labels)
    with pytest.raises(ValueError, match=r"expected whole numbers \(64, 96\), found"):
        measure.measure(runner, photo, 0, 1)


# Processes and environments.


def python(code, log, **options):
    return processes.run([sys.executable, "-c", code], log, **options)


def test_memory_and_time_of_a_process_and_of_its_children(tmp_path):
    hold = "import time; held = b'x' * 300_000_000; time.sleep(0.3)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    # In a small process of its own: a system counts what this one holds, which is large, towards its children.
    measure_both = (
        "import pathlib, sys; from benchmarks import processes\n"
        f"for code in ({hold!r}, {child!r}):\n"
        "    finished = processes.run([sys.executable, '-c', code], pathlib.Path(sys.argv[1]))\n"
        "    print(finished.peak_bytes, finished.seconds)"
    )
    command = [sys.executable, "-c", measure_both, str(tmp_path / "log")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    for line in answer.stdout.splitlines():
        peak_bytes, seconds = map(float, line.split())
        assert 300e6 < peak_bytes < 400e6
        assert 0.3 < seconds < 10
    assert len(answer.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('before'); import sys; sys.exit('what went wrong\\n\\n')", "what went wrong"),
        ("import sys; sys.exit(3)", "failed without a word"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import time; time.sleep(60)", "took longer than 1.5 s"),
    ],
)
def test_a_failed_process_says_why(monkeypatch, tmp_path, code, reason):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with pytest.raises(processes.ProcessError, match=f"^{re.escape(reason)}$"):
        python(code, tmp_path / "log", timeout=1.5 if "sleep" in code else 60)


def test_a_failed_job_says_the_first_line_of_its_error(tmp_path):
    with pytest.raises(processes.ProcessError, match=r"^CheckpointError: nowhere\.pth: no such file$"):
        job = {"converter": "ours", "checkpoint": "nowhere.pth", "image_size": SIZE, "output": "x", "options": {}}
        processes.run_job(sys.executable, "convert", job, tmp_path / "log")


@pytest.fixture
def installations(monkeypatch):
    """Records what would be run; one of the two environments cannot be made."""
    commands = []

    def run(command, _log):
        commands.append([str(part) for part in command])
        if "venv" in commands[-1]:
            pathlib.Path(commands[-1][-1]).mkdir()
        if "fail==1.0" in commands[-1]:
            raise processes.ProcessError("ERROR: No matching distribution found for fail==1.0")

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(environments, "PINS", {"good": ("good==1.0",), "bad": ("fail==1.0",)})
    return commands


def test_an_environment_is_made_once_for_the_same_pins(tmp_path, installations):
    for _ in range(2):
        assert environments.Environments(tmp_path, tmp_path).python("good") == tmp_path / "good" / "bin" / "python"
    assert [command[1:3] for command in installations] == [["-m", "venv"], ["-m", "pip"]]
    assert installations[1][-1] == "good==1.0"
    environments.PINS["good"] = ("good==2.0",)
    environments.Environments(tmp_path, tmp_path, ["--no-deps"]).python("good")
    assert installations[3][-2:] == ["--no-deps", "good==2.0"]


def test_a_failed_installation_is_not_tried_again(tmp_path, installations):
    made = environments.Environments(tmp_path, tmp_path)
    for _ in range(2):
        with pytest.raises(processes.ProcessError, match="No matching distribution"):
            made.python("bad")
    assert len(installations) == 2


# The order of events.


SETTINGS = comparison.Settings(SIZE, threads=2, conversions=1, rounds=2, warmups=0, runs=1)


def compared(monkeypatch, tmp_path, fail):
    """Runs the comparison of three contestants with children that only pretend; returns (events, results)."""
    events = []
    milliseconds = {"ours": 10.0, "b": 20.0, "c": 40.0}

    def run_job(_python, module, job, _log):
        name = job["output"].rsplit("/", 1)[-1].partition(".")[0]
        events.append(f"{module} {name}")
        if events[-1] in fail:
            raise processes.ProcessError("RuntimeError: /home/me/x.py broke")
        text = "file"
        if module == "measure":
            times = [milliseconds[name] * len(events)]
            text = json.dumps({"total": times, "agreement": 1.0, **dict.fromkeys(measure.STAGES, times)})
        pathlib.Path(job["output"]).write_text(text, encoding="utf-8")
        return processes.Finished(2.0, 1000)

    monkeypatch.setattr(processes, "run_job", run_job)
    step = contestants.Step(contestants.PROJECT, "any")
    chosen = [contestants.Contestant(name, name, step, step) for name in milliseconds]
    made = comparison.Comparison(chosen, "a.pth", SETTINGS, tmp_path)
    return events, made.run()[0]


def test_contestants_take_turns(monkeypatch, tmp_path):
    events, results = compared(monkeypatch, tmp_path, fail=())
    turns = ["measure ours", "measure b", "measure c"]
    assert events == ["reference inputs", "convert ours", "convert b", "convert c", *turns, *turns]
    assert [result["name"] for result in results] == ["ours", "b", "c"]
    assert results[0]["round_ms"] == [50.0, 80.0]
    assert results[1]["ours_over_this"] == pytest.approx([50 / 120, 80 / 180])
    assert results[2]["file_bytes"] == 4


def test_a_peer_that_fails_is_a_row_and_the_others_go_on(monkeypatch, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "b.tflite").write_text("of an earlier time")
    events, results = compared(monkeypatch, tmp_path, fail=("convert b",))
    assert events[-2:] == ["measure ours", "measure c"]
    assert "measure b" not in events
    assert not (tmp_path / "files" / "b.tflite").exists()
    assert results[1]["failure"] == "RuntimeError: x.py broke"
    assert results[2]["failure"] is None


@pytest.mark.parametrize("event", ["reference inputs", "convert ours", "measure ours"])
def test_without_ours_there_is_nothing_to_compare(monkeypatch, tmp_path, event):
    with pytest.raises(comparison.BenchmarkError, match="failed: RuntimeError"):
        compared(monkeypatch, tmp_path, fail=(event,))


# The command.


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--peers=nobody"], "expected a comma-separated list of litert_torch_nhwc"),
        (["--image_size=16"], "16 is not integer >= 32"),
        (["--checkpoint=nowhere.pth"], "error: nowhere.pth: no such file"),
        (["--work_dir=README.md", "--peers="], "error: cannot write: "),
        (["stray"], "unexpected arguments: stray"),
    ],
)
def test_a_mistake_of_the_user_is_one_clear_line(arguments, reason):
    command = [sys.executable, "benchmarks/run.py", *arguments]
    process = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert process.returncode != 0
    assert reason in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
