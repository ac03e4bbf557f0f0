"""What our files must reach, and whether they do."""

import dataclasses
from collections.abc import Callable

from benchmarks.common import statistics as figures

# What a limit may be put on -> the numbers of an entry of `results["contestants"]`, one a round or conversion.
FIGURES = {
    "latency": lambda entry: entry["round_ms"],
    "file": lambda entry: [entry["file_bytes"] / 1e6],
    "conversion time": lambda entry: entry["conversion_seconds"],
    "conversion memory": lambda entry: [peak / 1e9 for peak in entry["conversion_peak_bytes"]],
    "part of pixels unlike PyTorch's": lambda entry: [1 - entry["label_agreement"]["mean"]],
}


@dataclasses.dataclass(frozen=True)
class Limit:
    """The largest value that we accept.

    Attributes:
        ours: name of an entry of ours.
        figure: key of `FIGURES`.
        at_most: the limit: on `ours / peer`, for every peer; or on the figure itself if there are no peers to it. None
            for a comparison alone: which runtime computes float32 fastest is a matter of the CPU.
        peers: says which entries are meant.
        called: these peers in words, or the unit of the figure itself.
        needs_dot_product: on a CPU without dot products of 8-bit numbers it is a comparison alone.
    """

    ours: str
    figure: str
    at_most: float | None
    peers: Callable[[dict], bool] | None
    called: str
    needs_dot_product: bool = False


def _float32(entry):
    return entry["precision"] == "float32"


def _float32_tflite(entry):
    return _float32(entry) and entry["runtime"] == "LiteRT"


def _int8(entry):
    return entry["precision"] == "int8"


def _eager(entry):
    return entry["name"] == "pytorch"


def _litert_torch(entry):
    return _float32(entry) and entry["name"].startswith("litert_torch_")


LIMITS = (
    Limit("ours", "latency", 0.93, _float32_tflite, "float32 TFLite peer"),
    Limit("ours", "latency", None, _eager, "PyTorch eager"),
    Limit("ours_dynamic", "latency", 0.45, _float32, "float32 peer", needs_dot_product=True),
    Limit("ours_int8", "latency", 0.33, _float32_tflite, "float32 TFLite peer", needs_dot_product=True),
    Limit("ours_int8", "latency", None, _float32, "float32 peer of any runtime"),
    Limit("ours_int8", "latency", 1.00, _int8, "int8 peer"),
    Limit("ours_int8", "part of pixels unlike PyTorch's", 1.00, _int8, "int8 peer"),
    Limit("ours_int8", "file", 13.4, None, "MB"),
    Limit("ours", "conversion time", 0.90, _litert_torch, "litert-torch file"),
    Limit("ours", "conversion memory", 2.50, None, "GB"),
)


def verdicts(results):
    """Says of every limit whether it holds, and of every contestant that failed why.

    A limit on peers that were not asked to take part is left out.

    Args:
        results: see `report.markdown`.

    Returns:
        list of (sentence, whether it holds).
    """
    entries = {entry["name"]: entry for entry in results["contestants"]}
    failed = [(f"{name} failed: {entry['failure']}", False) for name, entry in entries.items() if entry["failure"]]
    limits = LIMITS
    if not results["machine"]["int8_dot_product"]:
        limits = [dataclasses.replace(each, at_most=None) if each.needs_dot_product else each for each in LIMITS]
    return [*filter(None, (_verdict(limit, entries) for limit in limits)), *failed]


def _verdict(limit, entries):
    ours = entries.get(limit.ours)
    peers = [entry for entry in entries.values() if not entry["ours"] and limit.peers and limit.peers(entry)]
    ran = [entry for entry in peers if entry["failure"] is None]
    if ours is None or (limit.peers and not peers):
        return None
    if ours["failure"] is not None or (limit.peers and not ran):
        return f"{limit.ours}: {limit.figure}, {_required(limit)}: DOES NOT HOLD, there is nothing to compare", False
    value = FIGURES[limit.figure](ours)
    if limit.peers is None:
        found = figures.spread(value)
        said = f"{limit.ours}: {limit.figure} is {found.median:.2f} {limit.called}, {_required(limit)}"
    else:
        # The peer that is hardest to beat; if its limit holds, so do those of the others.
        ratios = {entry["name"]: figures.spread(figures.ratios(value, FIGURES[limit.figure](entry))) for entry in ran}
        name, found = max(ratios.items(), key=lambda item: item[1].median)
        best = f"the best {limit.called}, " if len(peers) > 1 else ""
        said = f"{limit.ours}: {limit.figure} is {found.text(3)} of that of {best}{name}, {_required(limit)}"
    if limit.at_most is None:
        return f"{said}: for comparison", True
    holds = found.median <= limit.at_most
    return f"{said}: {'holds' if holds else 'DOES NOT HOLD'}", holds


def _required(limit):
    return "without a limit" if limit.at_most is None else f"required is at most {limit.at_most:.2f}"
