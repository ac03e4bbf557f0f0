"""Writes ENDURANCE.md and draws its curves from the results alone."""

import statistics

from matplotlib.figure import Figure

from benchmarks.common import machine

RUNS = {"inference": "calls of FaceParser", "training": "training steps"}
# What comes before is the warm-up: caches fill, and libraries start their threads.
WARM_UP = 0.1
# How much more memory the last third may hold than the first. Labels of one photo are 0.2 MB, a batch and what the
# network makes of it 10 MB and more: who kept one of a hundred of them would hold more at the end.
MEMORY_LIMITS = {"inference": 10e6, "training": 50e6}

_READING = """\
Each run is a process of its own. Memory is what it holds (RSS) after Python's garbage collection. The first tenth is
the warm-up. Of what follows, the median of the last third is compared with that of the first third. Photos of four
sizes take turns; every twentieth call asks for probabilities instead of labels. The training is `train_and_evaluate`,
with its evaluations, checkpoints, logs and pictures."""


def behind_warm_up(samples):
    """Those of the samples that count."""
    return [sample for sample in samples if sample[0] > WARM_UP * samples[-1][0]]


def growth(samples):
    """Bytes that the last third of the samples holds more than the first third, by their medians."""
    kept = behind_warm_up(samples)
    third = max(len(kept) // 3, 1)
    first, last = (statistics.median(sample[1] for sample in part) for part in (kept[:third], kept[-third:]))
    return last - first


def handles(samples):
    """The most open files, and the most threads, that came after the warm-up: at least 0."""
    kept = behind_warm_up(samples)
    return tuple(max(sample[place] for sample in kept) - kept[0][place] for place in (2, 3))


def verdicts(results):
    """Says of every limit whether it holds.

    Args:
        results: see `markdown`.

    Returns:
        list of (sentence, whether it holds).
    """
    said = []
    for run, name in RUNS.items():
        samples, limit = results[run]["samples"], MEMORY_LIMITS[run]
        more, (files, threads), done = growth(samples), handles(samples), f"{samples[-1][0]:,} {name}"
        said.append((f"{done}: memory {more / 1e6:+.1f} MB, at most {limit / 1e6:+.0f} MB", more <= limit))
        said.append((f"{done}: {files} more open files, {threads} more threads", files + threads == 0))
    changed = results["inference"]["changed"]
    said.append((f"{changed} results differ from the first of the same photo, bit by bit", not changed))
    first, last = results["training"]["losses"]
    said.append((f"the loss went from {first:.3f} to {last:.3f}, which is to be less", last < first))
    return [(f"{sentence}: {'holds' if holds else 'DOES NOT HOLD'}", holds) for sentence, holds in said]


def markdown(results, picture):
    """The text of ENDURANCE.md.

    Args:
        results: dict: `command`, `date`, `machine` and `versions`, see `machine.lines`; `inference` and `training`:
            what `endurance_turn.infer` and `endurance_turn.train` return.
        picture: name of the file that `draw` has made.
    """
    rows = [
        f"| {done:,} {name} | {memory / 1e6:.1f} | {files} | {threads} |"
        for run, name in RUNS.items()
        for samples in [results[run]["samples"]]
        for done, memory, files, threads in (behind_warm_up(samples)[0], samples[-1])
    ]
    return "\n".join(
        [
            "# Long runs",
            "",
            "Written by the command below; not edited by hand.",
            "",
            f"![Memory over the calls and the steps]({picture})",
            "",
            "| after | memory, MB | open files | threads |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            *(f"- {sentence}" for sentence, _ in verdicts(results)),
            "",
            _READING.replace("\n", " "),
            "",
            *machine.lines(results),
            "",
        ]
    )


def draw(results, path):
    """Draws the memory over the calls and the steps, and how far it may rise.

    Args:
        results: see `markdown`.
        path: `.png` to write.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (run, name) in zip(figure.subplots(1, len(RUNS)), RUNS.items(), strict=True):
        samples = results[run]["samples"]
        kept = behind_warm_up(samples)
        base = statistics.median(sample[1] for sample in kept[: max(len(kept) // 3, 1)]) / 1e6
        axes.plot([sample[0] for sample in samples], [sample[1] / 1e6 for sample in samples], color="#1b7f5c")
        limit = base + MEMORY_LIMITS[run] / 1e6
        axes.axhline(limit, color="#c2571a", linewidth=0.8)
        place = {"textcoords": "offset points", "xytext": (0, 3), "ha": "right", "fontsize": 8}
        axes.annotate("limit", (samples[-1][0], limit), **place)
        axes.set_ylim(0, 1.25 * max(limit, max(sample[1] for sample in samples) / 1e6))
        axes.set_title(name, loc="left", fontweight="bold")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("memory, MB")
    figure.savefig(path, dpi=120, format="png")
