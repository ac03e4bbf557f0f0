"""Writes THROUGHPUT.md from the results alone."""

from benchmarks.common import machine
from benchmarks.common.statistics import ratios, spread

SIZE = (512, 512)
NAMES = {"torch": "PyTorch, one by one", "float32": "parse_faces.py, float32", "int8": "parse_faces.py, int8"}
# Times PyTorch's photos a second, at least; that of int8 on a CPU with dot products of 8-bit numbers.
LIMITS = {"int8": 3.0, "float32": 1.4}
# How far the memory of the workers may go from what it is at the 20th photo.
MEMORY_LIMIT = 50e6


def verdicts(results):
    """A sentence for each limit, and whether it holds."""
    comparisons, sentences = [], []
    for name, limit in LIMITS.items():
        ratio = spread(ratios(results["seconds"]["torch"], results["seconds"][name]))
        said = f"{NAMES[name]}: {ratio.text(2)} times the photos a second of {NAMES['torch']}"
        if name == "int8" and not results["machine"]["int8_dot_product"]:
            comparisons.append((f"{said}: for comparison", True))
        else:
            sentences.append((f"{said}, at least {limit:.1f}", ratio.median >= limit))
    (start, first), *others = results["memory"]
    change = max((held - first for _, held in others), key=abs, default=0)
    said = f"memory from photo {start} to {results['memory'][-1][0]}: {change / 1e6:+.0f} MB at most"
    sentences.append((f"{said}, allowed {MEMORY_LIMIT / 1e6:.0f} MB either way", abs(change) <= MEMORY_LIMIT))
    return [*comparisons, *((f"{said}: {'holds' if holds else 'does not hold'}", holds) for said, holds in sentences)]


def report(results, sentences):
    """The text of THROUGHPUT.md."""
    rows = [
        (name, spread([results["photos"] / turn for turn in results["seconds"][contestant]]).text(2))
        for contestant, name in NAMES.items()
    ]
    return "\n".join(
        [
            "# A folder of photos",
            "",
            "Written by the command below; not edited by hand.",
            "",
            f"| {results['photos']} photos of {SIZE[0]}x{SIZE[1]}, from JPEG to label PNG | photos a second |",
            "|---|---:|",
            *(f"| {name} | {figure} |" for name, figure in rows),
            "",
            *(f"- {sentence}" for sentence, _ in sentences),
            "",
            "Whole processes, start included; the median of the rounds, and the smallest and largest of them; a ratio "
            "is taken round by round. Memory is that of all processes together (PSS).",
            "",
            *machine.lines(results),
            "",
        ]
    )
