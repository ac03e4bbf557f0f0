"""The report of the web page's speed."""

import copy
import json
import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks.web import report

RESULTS = ROOT / "benchmarks" / "web" / "web.json"
MACHINE = {"cpu": "A CPU", "cores": 4, "system": "A system", "python": "3.12.1", "load": 0.1}
SMALL = {
    "command": "c",
    "date": "2026-01-02",
    "machine": MACHINE,
    "browser": "Chromium 1",
    "litert": "2",
    "runs_on": "WebAssembly, 4 threads",
    # Medians 40 and 50, and 100 and 80.
    "milliseconds": {"int8": [[40, 39, 90], [50, 50, 51]], "float32": [[100, 100, 300], [70, 80, 90]]},
}


def test_the_recorded_report_is_that_of_the_recorded_results_and_holds():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert report.markdown(results) == RESULTS.with_name("WEB.md").read_text(encoding="utf-8")
    assert report.verdict(results)[1]
    assert "threads" in results["runs_on"]


def test_figures_against_hand_computed_ones():
    # The ratios are 0.4 and 0.625.
    assert report.verdict(SMALL) == ("int8 takes 0.51 of the time of float32, allowed is 0.5: DOES NOT HOLD", False)
    text = report.markdown(SMALL)
    assert "| int8 | 45.0 (40.0-50.0) | 22.2 |" in text
    assert "| float32 | 90.0 (80.0-100.0) | 11.1 |" in text
    assert "int8 takes 0.51 (0.40-0.62) of the time" in text
    assert "2 turns of 3 frames each" in text


def test_a_limit_that_holds_is_said():
    results = copy.deepcopy(SMALL)
    results["milliseconds"]["int8"][1] = [48, 48, 48]
    assert report.verdict(results) == ("int8 takes 0.50 of the time of float32, allowed is 0.5: holds", True)
