"""Writes WEB.md from the results alone."""

import statistics

from benchmarks.common import machine
from benchmarks.common import statistics as figures

# Time of the int8 file, over that of the float32 file.
LIMIT = 0.5


def verdict(results):
    """A sentence about the limit, and whether it holds. `results`: see `markdown`."""
    ratio = _ratios(results).median
    holds = ratio <= LIMIT
    said = "holds" if holds else "DOES NOT HOLD"
    return f"int8 takes {ratio:.2f} of the time of float32, allowed is {LIMIT:g}: {said}", holds


def markdown(results):
    """The text of WEB.md.

    Args:
        results: dict: `command`, `date`, `machine` (`machine.describe`), `browser`, `litert` (version of LiteRT.js),
            `runs_on` (what the page says), `milliseconds`: file -> list of turns, each the times of its frames.
    """
    times = results["milliseconds"]
    computer = results["machine"]
    rows = []
    for name, turns in times.items():
        turn = figures.spread([statistics.median(frames) for frames in turns])
        rows.append(f"| {name} | {turn.text(1)} | {1000 / turn.median:.1f} |")
    return "\n".join(
        [
            "# The network in the browser",
            "",
            "Written by the command below; not edited by hand.",
            "",
            f"- {verdict(results)[0]}",
            "",
            "| file | ms a frame | frames a second |",
            "| --- | ---: | ---: |",
            *rows,
            "",
            "## How to read it",
            "",
            "A frame is one photo of 512x512 pixels, from its pixels to its labels. The files take turns. The median "
            "of each turn counts; the table shows the median of these, with the smallest and the largest. Round by "
            f"round, int8 takes {_ratios(results).text(2)} of the time of float32.",
            "",
            "## How it was measured",
            "",
            f"- command: `{results['command']}`",
            f"- date: {results['date']}",
            f"- {len(times['int8'])} turns of {len(times['int8'][0])} frames each",
            f"- {results['browser']}, LiteRT.js {results['litert']}; {results['runs_on']}",
            f"- CPU: {machine.cpu(computer)}, load {computer['load']} before; system: {computer['system']}",
            "",
        ]
    )


def _ratios(results):
    ours, others = (
        [statistics.median(frames) for frames in results["milliseconds"][name]] for name in ("int8", "float32")
    )
    return figures.spread(figures.ratios(ours, others))
