"""Writes RESULTS.md from the results alone."""

from benchmarks import figures
from benchmarks.contestants import PINS, PROJECT, PROJECT_PACKAGES
from benchmarks.measure import STAGES

_HEAD = (
    "contestant",
    "photo to labels, ms",
    "ours / this",
    "before + network + after, ms",
    "labels as PyTorch",
    "file, bytes",
    "conversion, s",
    "conversion memory, MB",
)

_READING = """\
Each number is a median, with the smallest and the largest in brackets. A contestant gets a uint8 RGB photo and returns
a label for each pixel. *Before* and *after* are what its user does in numpy around the file (normalisation, argmax;
written for speed, without copies), each a median of its own. *Ours / this* divides the latencies round by round: below
1 ours is faster. Absolute times drift with whatever else the machine does, ratios hardly; compare those. *Labels as
PyTorch* is the part of the bundled photo's pixels that get the label that the PyTorch network gives. A conversion is
one whole process, from starting Python and reading the checkpoint to the written file; its memory is the peak of its
largest process."""


def verdicts(results):
    """Compares every contestant that has a limit with it.

    Returns:
        list of (sentence, whether it holds).
    """
    said = []
    for entry in results["contestants"]:
        if entry["failure"] is not None:
            said.append((f"{entry['name']} failed: {entry['failure']}", False))
        elif entry["limit"] is not None:
            ratio = figures.spread(entry["ours_over_this"]).median
            holds = ratio <= entry["limit"]
            sentence = f"ours / {entry['name']} is {ratio:.4f}, required is at most {entry['limit']:.2f}"
            said.append((f"{sentence}: {'holds' if holds else 'DOES NOT HOLD'}", holds))
    return said


def _row(entry):
    if entry["failure"] is not None:
        reason = entry["failure"].replace("|", "\\|")
        return (entry["title"], f"failed: {reason}", *["-"] * (len(_HEAD) - 2))
    stages = " + ".join(f"{entry['stage_ms'][stage]:.1f}" for stage in STAGES)
    megabytes = [peak / 1e6 for peak in entry["conversion_peak_bytes"]]
    return (
        entry["title"],
        figures.spread(entry["round_ms"]).text(1),
        figures.spread(entry["ours_over_this"]).text(3),
        stages,
        f"{entry['label_agreement']:.4%}",
        f"{entry['file_bytes']:,}",
        figures.spread(entry["conversion_seconds"]).text(1),
        figures.spread(megabytes).text(0),
    )


def _table(rows):
    lines = [_HEAD, ["---", *["---:"] * (len(_HEAD) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _packages(environment, versions):
    """Those that were chosen, not those that came along."""
    chosen = PROJECT_PACKAGES if environment == PROJECT else [pin.partition("==")[0] for pin in PINS[environment]]
    return ", ".join(f"{name} {versions[name]}" for name in chosen)


def markdown(results, picture):
    """The text of RESULTS.md.

    Args:
        results: dict: `command`, `date`, `machine` (`machine.describe`), `settings` (`comparison.Settings` as a dict),
            `packages` and `contestants` (`comparison.Comparison.run`).
        picture: name of the plot beside it.
    """
    settings, computer = results["settings"], results["machine"]
    height, width = settings["image_size"]
    packages = [f"- packages, {name}: {_packages(name, held)}" for name, held in results["packages"].items()]
    return "\n".join(
        [
            "# Our export beside other converters",
            "",
            "Written by the command below; not edited by hand.",
            "",
            *[f"- {sentence}" for sentence, _ in verdicts(results)],
            "",
            _table([_row(entry) for entry in results["contestants"]]),
            "",
            f"![Latency of each contestant]({picture})",
            "",
            "## How to read it",
            "",
            _READING,
            "",
            "## How it was measured",
            "",
            f"- command: `{results['command']}`",
            f"- date: {results['date']}",
            f"- CPU: {computer['cpu']}, {computer['cores']} cores; {settings['threads']} threads",
            f"- load before the start: {computer['load']:.2f}; far above 0, other programs had a part in these times",
            f"- system: {computer['system']}, Python {computer['python']}",
            f"- photo: {height} x {width} (height x width)",
            f"- {settings['rounds']} rounds in which the contestants take turns, each turn a fresh process: "
            f"{settings['warmups']} runs to warm up, then the median of {settings['runs']}",
            f"- conversions of each: {settings['conversions']}",
            *packages,
            "",
        ]
    )
