"""The tables and the picture of RESULTS.md."""

import dataclasses

from benchmarks.common import reporting, statistics
from benchmarks.common.reporting import Check
from benchmarks.runtimes.candidates import REPORTED

# The tables: title, the precisions in it, and our file whose latency is divided by that of each row.
GROUPS = (("float32", ("float32",), "ours"), ("8-bit", ("int8", "dynamic"), "ours_int8"))

_READING = """\
Each number is a median, with the smallest and the largest in brackets. A candidate turns a uint8 RGB photo into a label
for each pixel. Our files do all of it; around the others stand normalization and argmax in numpy, written for speed,
without copies. *Ours / this* divides latencies round by round, below 1 ours is faster: in the float32 table our float32
file over the row, in the 8-bit table our int8 file. Absolute times drift with whatever else the machine does, ratios
hardly; compare those. *Labels as PyTorch* is the part of the pixels that get the label of the PyTorch network in
float32. A *file* counts with all that belongs to it. *Memory* is the peak of the process that runs one photo after the
other, with its Python. A conversion is one whole process, from starting Python and reading the checkpoint to the
written file; its memory is the peak of its largest process. PyTorch runs the checkpoint itself."""
# What has a threshold -> its values in an entry of `results["candidates"]`, one a round or conversion.
VALUES = {
    "latency": lambda entry: entry["round_ms"],
    "file": lambda entry: [entry["file_bytes"] / 1e6],
    "conversion time": lambda entry: entry["conversion_seconds"],
    "conversion memory": lambda entry: [peak / 1e9 for peak in entry["conversion_peak_bytes"]],
    "part of pixels unlike PyTorch's": lambda entry: [1 - entry["label_agreement"]["mean"]],
}
# Name of a group of peers -> whether an entry belongs to it.
PEERS = {
    "float32 TFLite peer": lambda entry: entry["precision"] == "float32" and entry["runtime"] == "LiteRT",
    "float32 peer": lambda entry: entry["precision"] == "float32",
    "int8 peer": lambda entry: entry["precision"] == "int8",
    "litert-torch file": lambda entry: entry["precision"] == "float32" and entry["name"].startswith("litert_torch_"),
    "PyTorch eager": lambda entry: entry["name"] == "pytorch",
}


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The largest accepted `ours / peer` of a key of `VALUES`, or value itself if it is not against any of `PEERS`."""

    ours: str
    value: str
    # None for a comparison without a threshold: which runtime computes float32 fastest depends on the CPU.
    at_most: float | None
    # Key of `PEERS`, all of which are compared; or the unit of the value itself.
    against: str
    # Whether there is no threshold on CPUs without dot products of 8-bit numbers.
    needs_dot_product: bool = False


THRESHOLDS = (
    Threshold("ours", "latency", 0.93, "float32 TFLite peer"),
    Threshold("ours", "latency", None, "PyTorch eager"),
    Threshold("ours_dynamic", "latency", 0.45, "float32 peer", needs_dot_product=True),
    Threshold("ours_int8", "latency", 0.33, "float32 TFLite peer", needs_dot_product=True),
    Threshold("ours_int8", "latency", None, "float32 peer"),
    # On such CPUs ONNX Runtime adds products of 8-bit numbers in 16 bits, and cuts off what does not fit.
    Threshold("ours_int8", "latency", 1.00, "int8 peer", needs_dot_product=True),
    Threshold("ours_int8", "part of pixels unlike PyTorch's", 1.00, "int8 peer"),
    Threshold("ours_int8", "file", 13.4, "MB"),
    Threshold("ours", "conversion time", 0.90, "litert-torch file"),
    Threshold("ours", "conversion memory", 2.50, "GB"),
)


def checks(results):
    """Checks every threshold whose peers were asked for, and that every candidate ran."""
    entries = {entry["name"]: entry for entry in results["candidates"]}
    found = [_check(threshold, entries, results["machine"]["int8_dot_product"]) for threshold in THRESHOLDS]
    failed = [Check(f"{name} failed: {entry['failure']}", False) for name, entry in entries.items() if entry["failure"]]
    return [*filter(None, found), *failed]


def _check(threshold, entries, dot_product):
    ours, is_peer = entries[threshold.ours], PEERS.get(threshold.against)
    peers = [entry for entry in entries.values() if is_peer and is_peer(entry) and not entry["ours"]]
    ran = [entry for entry in peers if entry["failure"] is None]
    if is_peer and not peers:
        return None
    at_most = None if threshold.needs_dot_product and not dot_product else threshold.at_most
    limit = "" if at_most is None else f", required is at most {at_most:.2f}"
    begin = f"{threshold.ours}: {threshold.value}"
    if ours["failure"] is not None or (is_peer and not ran):
        return Check(f"{begin}{limit}, there is nothing to compare", False)
    value = VALUES[threshold.value](ours)
    if is_peer is None:
        found = statistics.spread(value)
        text = f"{begin} is {found.median:.2f} {threshold.against}{limit}"
    else:
        # The peer that is hardest to beat; if the threshold holds for it, so it does for the others.
        spreads = {entry["name"]: statistics.ratio(value, VALUES[threshold.value](entry)) for entry in ran}
        name, found = max(spreads.items(), key=lambda item: item[1].median)
        best = f"the best {threshold.against}, " if len(peers) > 1 else ""
        text = f"{begin} is {found.text(3)} of that of {best}{name}{limit}"
    return Check(text, None if at_most is None else found.median <= at_most)


def groups(results):
    """Yields the title of each group, and pairs: an entry, and its ours / this in each round, [] if either failed."""
    latencies = {entry["name"]: entry["round_ms"] for entry in results["candidates"] if entry["failure"] is None}
    for title, precisions, base in GROUPS:
        pairs = []
        for entry in results["candidates"]:
            if entry["precision"] in precisions:
                both = base in latencies and entry["name"] in latencies
                pairs.append((entry, statistics.ratios(latencies[base], entry["round_ms"]) if both else []))
        yield title, pairs


def _text(numbers, digits):
    return statistics.spread(numbers).text(digits) if numbers else "-"


def _megabytes(sizes, digits):
    return _text([size / 1e6 for size in sizes if size is not None], digits)


# Column -> its text for an entry and the ratios of that entry.
_COLUMNS = {
    "photo to labels, ms": lambda entry, _: _text(entry["round_ms"], 1),
    "ours / this": lambda _, ratios: _text(ratios, 3),
    "labels as PyTorch: mean": lambda entry, _: f"{entry['label_agreement']['mean']:.4%}",
    "worst photo": lambda entry, _: f"{entry['label_agreement']['worst']:.4%}",
    "file, MB": lambda entry, _: _megabytes([entry["file_bytes"]], 2),
    "memory, MB": lambda entry, _: _megabytes(entry["run_peak_bytes"], 0),
    "conversion, s": lambda entry, _: _text(entry["conversion_seconds"], 1),
    "conversion memory, MB": lambda entry, _: _megabytes(entry["conversion_peak_bytes"], 0),
}


def _row(entry, ratios):
    if entry["failure"] is not None:
        return (entry["title"], f"failed: {entry['failure']}", *["-"] * (len(_COLUMNS) - 1))
    title = f"**{entry['title']}**" if entry["ours"] else entry["title"]
    return (title, *(text(entry, ratios) for text in _COLUMNS.values()))


def _body(results):
    for title, pairs in groups(results):
        yield reporting.table((title, *_COLUMNS), (_row(entry, ratios) for entry, ratios in pairs))


def _conditions(results):
    settings = results["settings"]
    height, width = settings["image_size"]
    yield (
        f"photos: {height} x {width} (height x width); {results['photos']} to compare labels on, the first one timed; "
        f"{results['calibration_photos']} to calibrate on, the same for all"
    )
    yield (
        f"{settings['rounds']} rounds, {settings['threads']} threads; in a round each candidate is timed in a fresh "
        f"process: {settings['warmups']} runs to warm up, then the median of {settings['runs']}"
    )
    yield f"conversions of each: {settings['conversions']}"
    for environment, versions in results["packages"].items():
        packages = ", ".join(f"{name} {versions[name]}" for name in REPORTED[environment])
        yield f"packages, {environment}: {packages}"


def draw(results):
    """Draws the median of the rounds of each candidate that ran as a bar, and their spread as a whisker."""
    # Imported here: the memory of this process while it measures is a lower bound of what its children seem to use.
    from benchmarks.common import plots

    drawn = {}
    for title, pairs in groups(results):
        ran = [(statistics.spread(entry["round_ms"]), entry, ratios) for entry, ratios in pairs if not entry["failure"]]
        drawn[title] = sorted(ran, key=lambda row: row[0].median)
    heights = [len(ran) + 1 for ran in drawn.values()]
    figure = plots.figure(1 + 0.42 * sum(heights))
    panels = figure.subplots(len(drawn), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, ran) in zip(panels, drawn.items(), strict=True):
        for row, (spread, entry, ratios) in enumerate(ran):
            whisker = [[spread.median - spread.low], [spread.high - spread.median]]
            color = plots.OURS if entry["ours"] else plots.OTHER
            axes.barh(row, spread.median, xerr=whisker, color=color, capsize=3, ecolor="#404850")
            text = f"{spread.median:.1f}" + (f"   ours / this {statistics.spread(ratios).median:.2f}" if ratios else "")
            axes.annotate(text, (spread.high, row), (6, 0), va="center", textcoords="offset points", fontsize=9)
        axes.set_yticks(range(len(ran)), [entry["title"] for _, entry, _ in ran])
        axes.invert_yaxis()
        plots.tidy(axes, title)
    panels[-1].set_xlim(0, 1.25 * max(spread.high for ran in drawn.values() for spread, *_ in ran))
    panels[-1].set_xlabel("photo to labels, ms: median round, fastest and slowest")
    return figure


TITLE = "Our export beside other converters and runtimes"
REPORT = reporting.Report(TITLE, _body, checks, _READING, _conditions, draw=draw)
