"""The thresholds and tables of the smaller experiments, by hand, and the records in the repository."""

import json

import pytest

from benchmarks.common.processes import ROOT
from benchmarks.passes import run as passes
from benchmarks.quantization import run as quantization
from benchmarks.quantization import run_aware
from benchmarks.runtimes import report as runtimes
from benchmarks.soak import run as soak
from benchmarks.throughput import run as throughput
from benchmarks.training import run as training
from benchmarks.training import run_parity
from benchmarks.web import run as web

pytestmark = pytest.mark.slow

RECORDS = {
    "passes/passes.json": passes,
    "quantization/quantization.json": quantization,
    "quantization/quantize_aware.json": run_aware,
    "runtimes/results.json": runtimes,
    "soak/endurance.json": soak,
    "throughput/throughput.json": throughput,
    "training/training.json": training,
    "training/training_parity.json": run_parity,
    "web/web.json": web,
}
MACHINE = {"cpu": "a CPU", "int8_dot_product": True, "cores": 2, "system": "Linux", "python": "3.11", "load": 0.5}


@pytest.mark.parametrize("name", RECORDS)
def test_records_are_the_reports_of_their_results(name):
    """Of the records that were made since the reports have this form."""
    path = ROOT / "benchmarks" / name
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"command": ""}
    if "python -m benchmarks." not in results["command"]:
        pytest.skip("recorded before")
    text = path.with_name(f"{path.stem.upper()}.md").read_text(encoding="utf-8")
    assert RECORDS[name].REPORT.markdown(results, f"{path.stem}.png") == text


def holds(module, results):
    return [check.holds for check in module.REPORT.checks({"machine": MACHINE, **results})]


def rows(module, results):
    return [line for block in module.REPORT.body(results) for line in block.splitlines()]


# Throughput.

STEADY = [[21, 500_000_000], [900, 540_000_000], [1990, 520_000_000]]


def folder(int8=10.0, float32=20.0, memory=STEADY):
    seconds = {"torch": [30.0, 33.0, 36.0], "int8": [int8] * 3, "float32": [float32] * 3}
    return {"photos": 200, "seconds": seconds, "memory": memory}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [True, True, True]),
        ({"int8": 11.1}, [False, True, True]),
        ({"float32": 23.7}, [True, False, True]),
        ({"memory": [[21, 500_000_000], [900, 551_000_000], [1990, 500_000_000]]}, [True, True, False]),
        ({"memory": [[21, 500_000_000], [1990, 449_000_000]]}, [True, True, False]),
    ],
)
def test_throughput(changes, expected):
    assert holds(throughput, folder(**changes)) == expected


def test_without_8_bit_dot_products_the_throughput_of_int8_is_a_comparison():
    assert holds(throughput, {**folder(30.0), "machine": {"int8_dot_product": False}}) == [None, True, True]


def test_photos_a_second():
    assert "| PyTorch, one by one | 6.06 (5.56-6.67) |" in rows(throughput, folder())


# Long runs.


def samples(end=1000, memory=300e6, more=0.0, files=5, threads=4):
    """Ten samples; the first is in the warm-up. `more`: bytes from one of the others to the next."""
    first = [end // 10, memory - 100e6, files - 3, threads - 2]
    return [first, *([end * at // 10, memory + more * (at - 2), files, threads] for at in range(2, 11))]


def long_runs(changed=0, losses=(3.0, 2.0), training=None, **inference):
    return {
        "inference": {"samples": samples(**inference), "changed": changed},
        "training": {"samples": training or samples(500, 2e9), "losses": list(losses)},
    }


def one_more(place):
    """A training that once has one more open file, or thread, than at the end of the warm-up."""
    changed = samples(500, 2e9)
    changed[5][place] += 1
    return changed


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        # Six times 1.5 MB from the first three of nine samples to the last three.
        ({"more": 1.5e6}, None),
        ({"more": 1.7e6}, 0),
        ({"training": samples(500, 2e9, 8.4e6)}, 2),
        ({"training": one_more(2)}, 3),
        ({"training": one_more(3)}, 3),
        ({"changed": 1}, 4),
        ({"losses": (2.0, 2.0)}, 5),
    ],
)
def test_long_runs(changes, wrong):
    assert holds(soak, long_runs(**changes)) == [number != wrong for number in range(6)]


def test_process_memory_after_the_warm_up_and_at_the_end():
    assert "| 200 calls of FaceParser | 300.0 | 5 | 4 |" in rows(soak, long_runs())
    assert "| 500 training steps | 2000.0 | 5 | 4 |" in rows(soak, long_runs())


# Training.


def test_training_speed():
    seconds = {"keras": [0.9, 9.0], "torch": [1.0, 10.0], "pipeline": [0.3, 3.0], "pipeline_uncached": [0.4, 4.0]}
    results = {"size": 256, "batch_size": 10, "seconds": seconds}
    assert holds(training, results) == [True, True, False]
    assert "| this project, a training step | 0.4950 (0.0900-0.9000) |" in rows(training, results)


def test_in_float64_every_step_counts_and_in_float32_the_last():
    small = dict.fromkeys((*run_parity.VALUES, "path"), 1e-9)
    large = {**small, "statistics": 0.02}
    steps = [{"float64": large, "float32": large}, {"float64": small, "float32": small}]
    assert holds(run_parity, {"steps": steps}) == [False, True]
    assert holds(run_parity, {"steps": steps[::-1]}) == [False, False]


# Quantization.


def file_row(name, precision, mean, mean_iou, size):
    same = {"mean": mean, "worst": mean - 0.01}
    return {"name": name, "precision": precision, "same_labels": same, "mean_iou": mean_iou, "bytes": size}


def test_quantization():
    files = [
        file_row("float32", "float32", 1.0, 0.75, 52_000_000),
        file_row("float16", "float16", 0.9, 0.5, 26_000_000),
        file_row("dynamic", "dynamic", 0.998, 0.5, 99_000_000),
        file_row("int8, good", "int8", 0.997, 0.74901, 13_400_000),
        file_row("int8, bad", "int8", 0.9969, 0.7512, 13_410_000),
    ]

    def compared(mean, change):
        return {"same_labels": {"mean": mean, "worst": 0.9}, "change": {"mean": change, "error": 0.00004}}

    choices = [{"name": "as it is", "same_labels": {"mean": 0.99857, "worst": 0.997}}]
    choices.append({"name": "other", **compared(0.99757, -0.001)})
    parts = [
        {"name": "harmless", "only": compared(0.9999, 0.0), "all_but": compared(0.9986, 0.00003)},
        {"name": "worst of all", "only": compared(0.9991, 0.0), "all_but": compared(0.9987, 0.00013)},
    ]
    results = {"files": files, "choices": choices, "parts": parts}
    assert holds(quantization, results) == [True, True, True, True, False, False, False]
    found = rows(quantization, results)
    assert "| int8, good | 99.700% | 98.700% | 74.901 | 13.40 |" in found
    assert "| other | 99.757% | 90.000% | -0.100 ± 0.004 |" in found
    assert found[-2:] == [
        "| worst of all | 99.910% | 90.000% | 99.870% | +0.013 ± 0.004 |",
        "| harmless | 99.990% | 90.000% | 99.860% | +0.003 ± 0.004 |",
    ]


@pytest.mark.parametrize(("after", "expected"), [(0.7021, True), (0.70, False)])
def test_quantization_aware_training_must_gain(after, expected):
    networks = {"before": {"float32": 0.7, "int8": 0.702}, "after": {"float32": 0.7, "int8": after}}
    assert holds(run_aware, {"networks": networks}) == [expected]


# Passes and the web page.


def test_each_variant_is_compared_with_the_file_of_its_precision():
    milliseconds = {"int8, as it ships": [10.0, 20.0], "int8, without": [11.0, 24.0]}
    sizes = dict.fromkeys(milliseconds, 13_370_000)
    found = rows(passes, {"milliseconds": milliseconds, "bytes": sizes})
    assert found[-1] == "| int8, without | 17.5 (11.0-24.0) | 1.150 (1.100-1.200) | 13.37 |"


@pytest.mark.parametrize(("second", "ratio", "expected"), [(50, "0.51 (0.40-0.62)", False), (48, "0.50", True)])
def test_web(second, ratio, expected):
    # Medians 40 and 50, and 100 and 80: the ratios are 0.4 and 0.625.
    times = {"int8": [[40, 39, 90], [second, second, 51]], "float32": [[100, 100, 300], [70, 80, 90]]}
    for dot_product, holds in ((True, expected), (False, None)):
        (check,) = web.REPORT.checks({"milliseconds": times, "machine": {"int8_dot_product": dot_product}})
        assert (check.holds, f"takes {ratio}" in check.text) == (holds, True)
    assert "| float32 | 90.0 (80.0-100.0) | 11.1 |" in rows(web, {"milliseconds": times})
