"""The verdicts of the folder benchmark, by hand, and what it measures memory with."""

import pathlib
import subprocess
import sys

import pytest

from benchmarks.throughput import memory
from benchmarks.throughput import report as folder_report


def results(int8=10.0, float32=20.0, memory=((21, 500_000_000), (900, 540_000_000), (1990, 520_000_000))):
    return {
        "command": "python benchmarks/throughput/run.py",
        "date": "2026-01-02",
        "machine": {"cpu": "a CPU", "int8_dot_product": True, "cores": 2, "system": "Linux", "python": "3.11"},
        "versions": {"torch": "2"},
        "photos": 200,
        "seconds": {"torch": [30.0, 33.0, 36.0], "int8": [int8] * 3, "float32": [float32] * 3},
        "memory": [list(pair) for pair in memory],
    }


def test_what_holds():
    sentences = folder_report.verdicts(results())
    assert [holds for _, holds in sentences] == [True, True, True]
    assert sentences[0][0].startswith("parse_faces.py, int8: 3.30 (3.00-3.60) times the photos a second of PyTorch")
    assert sentences[2][0] == "memory from photo 21 to 1990: +40 MB at most, allowed 50 MB either way: holds"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"int8": 11.1}, 0),
        ({"float32": 23.7}, 1),
        ({"memory": ((21, 500_000_000), (900, 551_000_000), (1990, 500_000_000))}, 2),
        ({"memory": ((21, 500_000_000), (1990, 449_000_000))}, 2),
    ],
)
def test_what_does_not(changes, wrong):
    sentences = folder_report.verdicts(results(**changes))
    assert [holds for _, holds in sentences] == [number != wrong for number in range(3)]
    assert sentences[wrong][0].endswith(": does not hold")
    assert sentences[wrong][0] in folder_report.report(results(**changes), sentences)


def test_without_8_bit_dot_products_the_speed_of_int8_is_a_comparison():
    found = results(int8=30.0)
    found["machine"]["int8_dot_product"] = False
    sentences = folder_report.verdicts(found)
    assert all(holds for _, holds in sentences)
    assert sentences[0][0].startswith("parse_faces.py, int8: 1.10 (1.00-1.20) times the photos a second of PyTorch")
    assert sentences[0][0].endswith(": for comparison")


def test_photos_a_second_in_the_table():
    text = folder_report.report(results(), folder_report.verdicts(results()))
    assert "| PyTorch, one by one | 6.06 (5.56-6.67) |" in text
    assert "| parse_faces.py, int8 | 20.00 |" in text


@pytest.mark.skipif(not pathlib.Path("/proc/self/smaps_rollup").exists(), reason="reads memory from /proc")
def test_the_memory_of_all_processes_of_a_session_counts():
    code = "import subprocess, sys; a = b'x' * 60_000_000; print('there', flush=True); sys.stdin.read()"
    child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {code!r}]); p.wait()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", child], start_new_session=True, **pipes) as process:
        assert process.stdout.readline() == "there\n"
        assert 60_000_000 < memory.of_session(process.pid) < 120_000_000
        process.stdin.close()
