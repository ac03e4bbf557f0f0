"""Writes RESULTS.md from the results alone."""

from benchmarks.common import machine
from benchmarks.common import statistics as figures
from benchmarks.runtimes import thresholds as limits
from benchmarks.runtimes.candidates import PINS, PROJECT, PROJECT_PACKAGES

# The tables: title, the precisions in it, and our file whose latency is divided by that of each row.
GROUPS = (
    ("float32", ("float32",), "ours"),
    ("8-bit", ("int8", "dynamic"), "ours_int8"),
)

_HEAD = (
    "photo to labels, ms",
    "ours / this",
    "labels as PyTorch: mean",
    "worst photo",
    "file, MB",
    "memory, MB",
    "conversion, s",
    "conversion memory, MB",
)

_READING = """\
Each number is a median, with the smallest and the largest in brackets. A contestant gets a uint8 RGB photo and returns
a label for each pixel. Ours do so inside the file; around the others stands what their user does in numpy
(normalisation, argmax; written for speed, without copies). *Ours / this* divides latencies round by round, below 1 ours
is faster: in the float32 table our float32 file over the row, in the 8-bit table our int8 file. Absolute times drift
with whatever else the machine does, ratios hardly; compare those. *Labels as PyTorch* is the part of the pixels that
get the label that the PyTorch network gives in float32. A *file* counts with all that belongs to it. *Memory* is the
peak of the process that runs one photo after the other, with its Python. A conversion is one whole process, from
starting Python and reading the checkpoint, through every step between, to the written file; its memory is the peak of
its largest process. PyTorch runs the checkpoint itself."""


def groups(results):
    """Sorts the contestants into `GROUPS`.

    Returns:
        list of (title, entries, ratios): entries in the order of `results`; ratios: name -> ours / this in each round,
        empty where either failed or ours did not take part. Groups without entries are left out.
    """
    by_name = {entry["name"]: entry for entry in results["contestants"]}
    sorted_out = []
    for title, precisions, base in GROUPS:
        entries = [entry for entry in results["contestants"] if entry["precision"] in precisions]
        ours = by_name.get(base, {}).get("round_ms")
        ratios = {
            entry["name"]: figures.ratios(ours, entry["round_ms"]) if ours and entry["failure"] is None else []
            for entry in entries
        }
        if entries:
            sorted_out.append((title, entries, ratios))
    return sorted_out


def _row(entry, ratios):
    if entry["failure"] is not None:
        reason = entry["failure"].replace("|", "\\|")
        return (entry["title"], f"failed: {reason}", *["-"] * (len(_HEAD) - 1))
    name = f"**{entry['title']}**" if entry["ours"] else entry["title"]
    return (
        name,
        _text(entry["round_ms"], 1),
        _text(ratios, 3),
        f"{entry['label_agreement']['mean']:.4%}",
        f"{entry['label_agreement']['worst']:.4%}",
        _text([] if entry["file_bytes"] is None else [entry["file_bytes"] / 1e6], 2),
        _text([peak / 1e6 for peak in entry["run_peak_bytes"]], 0),
        _text(entry["conversion_seconds"], 1),
        _text([peak / 1e6 for peak in entry["conversion_peak_bytes"]], 0),
    )


def _text(numbers, digits):
    return figures.spread(numbers).text(digits) if numbers else "-"


def _table(title, entries, ratios):
    head = (title, *_HEAD)
    lines = [head, ["---", *["---:"] * len(_HEAD)], *[_row(entry, ratios[entry["name"]]) for entry in entries]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _packages(environment, versions):
    """Those that were chosen, not those that came along."""
    chosen = PROJECT_PACKAGES if environment == PROJECT else [pin.partition("==")[0] for pin in PINS[environment]]
    return ", ".join(f"{name} {versions[name]}" for name in chosen)


def markdown(results, picture):
    """The text of RESULTS.md.

    Args:
        results: dict: `command`, `date`, `machine` (`machine.describe`), `settings` (`comparison.Settings` as a dict),
            and what `comparison.Comparison.run` returns.
        picture: name of the plot beside it.
    """
    settings, computer = results["settings"], results["machine"]
    height, width = settings["image_size"]
    tables = [part for group in groups(results) for part in (_table(*group), "")]
    packages = [f"- packages, {name}: {_packages(name, held)}" for name, held in results["packages"].items()]
    return "\n".join(
        [
            "# Our export beside other converters and runtimes",
            "",
            "Written by the command below; not edited by hand.",
            "",
            *tables,
            f"![Latency of each contestant]({picture})",
            "",
            "## What was required",
            "",
            *[f"- {sentence}" for sentence, _ in limits.verdicts(results)],
            "",
            "## How to read it",
            "",
            _READING,
            "",
            "## How it was measured",
            "",
            f"- command: `{results['command']}`",
            f"- date: {results['date']}",
            f"- CPU: {machine.cpu(computer)}; {settings['threads']} threads",
            f"- load before the start: {computer['load']:.2f}; far above 0, other programs had a part in these times",
            f"- system: {computer['system']}, Python {computer['python']}",
            f"- photos: {height} x {width} (height x width); {results['photos']} to compare labels on, the first one "
            f"timed; {results['calibration_photos']} to calibrate on, the same for all",
            f"- rounds in which the contestants take turns: {settings['rounds']}, each turn a fresh process: "
            f"{settings['warmups']} runs to warm up, then the median of {settings['runs']}",
            f"- conversions of each: {settings['conversions']}",
            *packages,
            "",
        ]
    )
